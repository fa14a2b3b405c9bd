"""Probabilities of cracks in photographs of any size: overlapping tiles, blended so that no seam shows.

Tiles begin at multiples of the network's stride, so that its pooling grids lie as they would over the whole
photograph. Of each tile the pixels near an inner edge, which lack context, are not used; where two tiles meet, one
fades into the other. The result is then that of the network on the whole photograph, as far as the network looks no
further than the halo. What looks at the whole image at once (group and instance normalisation, squeeze and excitation,
pooling over the whole) sees a tile instead.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from crack_pipeline.engines.compute import Plan
from crack_pipeline.imaging.overlapping import (
    OF_HALF,
    TURNS,
    Between,
    Cut,
    Tiles,
    aligned,
    axis_of,
    cut_for,
    fade_in,
    runs,
)
from crack_pipeline.training.batches import normalise
from crack_pipeline.training.memory import kept_memory

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_REPORTS = 10.0
_PIXELS_PER_IMAGE = 128**2
"""A plan counts its batch in images of this size."""


def check_tiles(tiles: Tiles, network: nn.Module) -> None:
    """Raise ValueError if tiles are too small for their halo and blend and the stride of a network."""
    cut_of(tiles, network).check()


def cut_of(tiles: Tiles, network: nn.Module) -> Cut:
    """Decide how photographs are cut for a network; ValueError if it does not say on which grid its pooling lies."""
    return cut_for(tiles, _stride(network), getattr(network, "reach", None), getattr(network, "patch", 1))


def probabilities(network: nn.Module, photograph: NDArray[np.uint8], plan: Plan, tiles: Tiles) -> NDArray[np.float32]:
    """Give the probability of a crack in every pixel of a photograph.

    Parameters
    ----------
    network, photograph, plan, tiles
        As for `bands`.

    Returns
    -------
    ndarray of float32
        (H, W), in [0, 1].

    Raises
    ------
    ValueError
        As `bands` does.
    """
    whole = np.empty(photograph.shape[:2], np.float32)
    for top, band in bands(network, photograph, plan, tiles):
        whole[top : top + len(band)] = band
    return whole


def bands(
    network: nn.Module, photograph: NDArray[np.uint8], plan: Plan, tiles: Tiles
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Give the probability of a crack in every pixel, one row of tiles after another.

    Beside the photograph, which may be memory-mapped, only one row of tiles is in memory (two on CUDA), and, where it
    is looked at in half its size, too, that picture and its probabilities.

    Parameters
    ----------
    network
        From float images (N, C, H, W) in [0, 1], of any size, to logits (N, 1, H, W); its ``stride`` is the side, in
        px, of the grid that its pooling lies on, its ``reach``, if it has one, how far it looks, and its ``patch`` what
        it takes for one pixel. Moved to the plan's device.
    photograph
        (H, W) or (H, W, C) uint8, of any size from 1 × 1 px.
    plan
        Device, precision and batch size: as many tiles go through at once as have the pixels of ``batch_size`` images
        of 128 × 128 px, at least one.
    tiles
        How to cut.

    Yields
    ------
    tuple of int and ndarray of float32
        Top row and probabilities (h, W), from top to bottom, each row of the photograph once.

    Raises
    ------
    ValueError
        If the photograph does not suit the network, the tiles are too small for halo and stride or too large for the
        memory of the device, or the network gives what is not a number.
    """
    if not tiles.half_size:
        yield from _bands(network, photograph, plan, tiles)
        return
    height, width = _checked(network, photograph).shape[:2]
    half = cv2.resize(photograph, (-(-width // 2), -(-height // 2)), interpolation=cv2.INTER_AREA)
    coarse = np.empty(half.shape[:2], np.float16)
    for top, band in _bands(network, half, plan, tiles):
        coarse[top : top + len(band)] = band
    del half
    across, down = Between(coarse.shape[1], width), Between(coarse.shape[0], height)
    for top, band in _bands(network, photograph, plan, tiles):
        lines = down.rows(coarse, top, len(band))
        yield top, (1 - OF_HALF) * band + OF_HALF * across.rows(lines.T, 0, width).T


@torch.inference_mode()
def _bands(
    network: nn.Module, photograph: NDArray[np.uint8], plan: Plan, tiles: Tiles
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    plan = plan.here()
    looking = _Looking(network, photograph, plan, tiles)
    rows, waiting = looking.rows, None
    above: Tensor | None = None
    for row in range(len(rows.windows)):
        # Kept for one row of tiles only: what comes between is not ours, and may need the memory.
        with kept_memory():
            strip = looking.strip(row)
        if above is not None:
            strip[: tiles.blend].lerp_(above, 1 - looking.fade[:, None])
        top = rows.used(row)[0]
        finished = rows.fades[row][0] - top if row < len(rows.fades) else len(strip)
        above = strip[finished:].clone()
        band: _Band | None = _Band(top, strip[:finished])
        if plan.device.type == "cuda":
            # The device goes on with the next row while this one is copied and used.
            band, waiting = waiting, band
        if band is not None:
            yield band.read()
    if waiting is not None:
        yield waiting.read()


class _Band:
    """Finished rows on their way from the device."""

    def __init__(self, top: int, values: Tensor) -> None:
        self._top = top
        self._broken = values.isnan().any()
        self._values = values.to("cpu", non_blocking=values.is_cuda)
        self._copied = torch.cuda.Event() if values.is_cuda else None  # type: ignore[no-untyped-call]
        if self._copied is not None:
            self._copied.record()

    def read(self) -> tuple[int, NDArray[np.float32]]:
        """Wait for the rows and give them; ValueError if there is NaN in them."""
        if self._copied is not None:
            self._copied.synchronize()
        if self._broken:
            raise ValueError(
                "the network gives NaN, not probabilities: its weights are damaged, or overflow at this precision; "
                "train it again, or set compute.precision to 32-true"
            )
        return self._top, self._values.numpy()


class _Looking:
    """One photograph, one network, and how the one is cut for the other."""

    def __init__(self, network: nn.Module, photograph: NDArray[np.uint8], plan: Plan, tiles: Tiles) -> None:
        self._image = _checked(network, photograph)
        self._network = network.to(plan.device).to(memory_format=torch.channels_last).eval()
        self._plan, self._tiles = plan, tiles
        cut = cut_of(tiles, network)
        cut.check()
        self._stride = cut.stride
        self.rows, self._columns = (axis_of(length, cut) for length in self._image.shape[:2])
        self._views = TURNS[: tiles.augmentations]
        self._progress = _Progress(
            self._image.shape[0] * self._image.shape[1],
            len(self.rows.windows) * len(self._columns.windows) * len(self._views),
        )
        self.fade = torch.from_numpy(fade_in(tiles.blend)).to(plan.device)
        """(blend,): weights that rise from 0 to 1 like a raised cosine."""

    def strip(self, row: int) -> Tensor:
        """Probabilities (h, W) of one row of tiles, where it is used; neighbours in the row are blended."""
        begin, end = self.rows.used(row)
        mean = torch.zeros(end - begin, self._columns.length, device=self._plan.device)
        strip = mean if len(self._views) == 1 else torch.empty_like(mean)
        for turn in self._views:
            self._fill(strip, row, turn)
            if strip is not mean:
                mean += strip
        return mean.div_(len(self._views))

    def _fill(self, strip: Tensor, row: int, turn: tuple[bool, ...]) -> None:
        _, vertical, horizontal = turn
        begin, end = self.rows.used(row)
        top, bottom = aligned(self.rows.windows[row], self.rows.length, self._stride, mirrored=vertical)
        pixels = torch.from_numpy(np.array(self._image[top:bottom]))
        if self._plan.device.type == "cuda":
            pixels = pixels.pin_memory().to(self._plan.device, non_blocking=True)
        length, blend = self._columns.length, self._tiles.blend
        windows = [aligned(window, length, self._stride, mirrored=horizontal) for window in self._columns.windows]
        for column, seen in enumerate(self._look(pixels, windows, turn)):
            left, right = self._columns.used(column)
            start = windows[column][0]
            part = seen[begin - top : end - top, left - start : right - start]
            inside = left
            if column:
                inside += blend
                strip[:, left:inside].lerp_(part[:, :blend], self.fade)
            strip[:, inside:right] = part[:, inside - left :]
            self._progress.step()

    def _look(self, pixels: Tensor, windows: list[tuple[int, int]], turn: tuple[bool, ...]) -> Iterator[Tensor]:
        """Probabilities (h, w) of each window of a row of pixels (h, W, C), seen flipped and turned."""
        transposed, vertical, horizontal = turn
        flipped = [axis for axis, flip in ((1, vertical), (2, horizontal)) if flip]
        tile = pixels.shape[0] * (windows[0][1] - windows[0][0])
        for run in runs(windows, max(1, self._plan.batch_size * _PIXELS_PER_IMAGE // tile)):
            # Channels stay last in memory all the way, so that nothing is sorted anew.
            batch = torch.stack([pixels[:, start:stop] for start, stop in run])
            batch = batch.flip(flipped) if flipped else batch
            batch = batch.transpose(1, 2) if transposed else batch
            seen = _forward(self._network, batch.permute(0, 3, 1, 2), self._plan)
            seen = seen.transpose(1, 2) if transposed else seen
            yield from seen.flip(flipped) if flipped else seen


def _forward(network: nn.Module, batch: Tensor, plan: Plan) -> Tensor:
    """Probabilities (n, h, w), float32, of images (n, C, h, w) uint8; in halves where they do not fit in memory."""
    try:
        with plan.autocast():
            logits = network(normalise(batch, plan.device))
    except torch.OutOfMemoryError:
        if len(batch) == 1:
            height, width = batch.shape[-2:]
            raise ValueError(
                f"a tile of {width} × {height} px does not fit in the memory of the device ({plan.device_name}): "
                "give a smaller tiles.size"
            ) from None
    else:
        if logits.shape != (len(batch), 1, *batch.shape[-2:]):
            raise ValueError(
                f"the network gives {tuple(logits.shape)} for images {tuple(batch.shape)}; "
                "a segmenter gives one logit per pixel"
            )
        return logits[:, 0].float().sigmoid()
    # Outside the except block, which would keep what did not fit alive.
    half = len(batch) // 2
    return torch.cat([_forward(network, part, plan) for part in (batch[:half], batch[half:])])


def _stride(network: nn.Module) -> int:
    stride = getattr(network, "stride", None)
    if not isinstance(stride, int) or stride < 1:
        raise ValueError(f"the network has the stride {stride!r}; a segmenter says on which grid its pooling lies")
    return stride


def _checked(network: nn.Module, photograph: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Give the photograph as (H, W, C), or say why the network cannot look at it."""
    if photograph.dtype != np.uint8 or photograph.ndim not in (2, 3) or 0 in photograph.shape:
        raise ValueError(
            f"a photograph is uint8 (H, W) or (H, W, C) of at least 1 px, not {photograph.dtype} {photograph.shape}"
        )
    image = photograph if photograph.ndim == 3 else photograph[..., None]
    channels = getattr(network, "in_channels", image.shape[-1])
    if channels != image.shape[-1]:
        raise ValueError(
            f"the photograph has {image.shape[-1]} channels, the network takes {channels}: "
            f"{'give it in grey' if channels == 1 else 'give it in RGB'}"
        )
    return image


class _Progress:
    """Logs how far a large photograph is, every few seconds."""

    def __init__(self, pixels: int, steps: int) -> None:
        self._megapixels = pixels / 1e6
        self._steps, self._done = steps, 0
        self._start = self._reported = time.monotonic()

    def step(self) -> None:
        self._done += 1
        now = time.monotonic()
        if now - self._reported >= _SECONDS_BETWEEN_REPORTS:
            self._reported = now
            done = self._megapixels * self._done / self._steps
            logger.info("segmented %.1f of %.1f megapixels, %.2f/s", done, self._megapixels, done / (now - self._start))
