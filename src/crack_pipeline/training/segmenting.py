"""Probabilities of cracks in photographs of any size: overlapping tiles, blended so that no seam shows.

Tiles begin at multiples of the network's stride, so that its pooling grids lie as they would over the whole
photograph. Of each tile the pixels near an inner edge, which lack context, are not used; where two tiles meet, one
fades into the other. The result is then that of the network on the whole photograph, as far as the network looks no
further than the halo. What looks at the whole image at once (group and instance normalisation, squeeze and excitation,
pooling over the whole) sees a tile instead.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from itertools import pairwise, product
from typing import Literal, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from crack_pipeline.training.batches import normalise
from crack_pipeline.training.compute import Plan
from crack_pipeline.training.memory import kept_memory

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_REPORTS = 10.0
_SIZE, _HALO = 2048, 96
_OF_HALF = 1 / 3
"""Weight of the view in half the size."""
_PIXELS_PER_IMAGE = 128**2
"""A plan counts its batch in images of this size."""
_TURNS = tuple(product((False, True), repeat=3))
"""Transposed, flipped vertically, flipped horizontally: the first 1, 2, 4 or 8 of them are a group."""


class Tiles(BaseModel):
    """How a photograph is cut into overlapping tiles, and how often each is looked at."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int | None = Field(
        None,
        ge=16,
        description="largest side of a tile, px; memory grows with its square. What fits goes through whole. Null: "
        f"{_SIZE} px, or as many patches of a network that takes patches for pixels",
    )
    halo: int | None = Field(
        None,
        ge=0,
        description="px at inner edges of a tile that are computed and not used; null: as far as the network looks, or "
        f"{_HALO} px where it does not say how far that is",
    )
    blend: int = Field(16, ge=1, description="px beyond the halo over which one tile fades into the next")
    augmentations: Literal[1, 2, 4, 8] = Field(
        1,
        description="views averaged: 2 adds the mirror image, 4 also upside down, 8 also the quarter turns",
    )
    half_size: bool = Field(
        False,
        description="whether the photograph is looked at in half its size, too, which counts for a third: wide cracks, "
        "and what surrounds them, fit into what the network sees there",
    )


def check_tiles(tiles: Tiles, network: nn.Module) -> None:
    """Raise ValueError if tiles are too small for their halo and blend and the stride of a network."""
    _cut(tiles, network).check()


class _Cut(NamedTuple):
    """How photographs are cut for one network."""

    size: int
    halo: int
    blend: int
    stride: int

    @property
    def overlap(self) -> int:
        """Px that neighbouring tiles share."""
        return _up(2 * self.halo + self.blend, self.stride)

    def check(self) -> None:
        """See `check_tiles`."""
        # Fades of one tile must not meet, also where the grid moves them together.
        smallest = self.overlap + 2 * _up(self.blend + self.stride, self.stride)
        if self.size < smallest:
            raise ValueError(
                f"tiles.size is {self.size} px; with a halo of {self.halo} px, a blend of {self.blend} px and a "
                f"network of stride {self.stride} it must be at least {smallest} px"
            )


def _cut(tiles: Tiles, network: nn.Module) -> _Cut:
    stride = _stride(network)
    reach = getattr(network, "reach", None)
    halo = (_HALO if reach is None else _up(reach, stride)) if tiles.halo is None else tiles.halo
    size = _SIZE * getattr(network, "patch", 1) if tiles.size is None else tiles.size
    return _Cut(size, halo, tiles.blend, stride)


class _Axis(NamedTuple):
    """Tiles along one side of a photograph."""

    length: int
    windows: list[tuple[int, int]]
    """First px of each tile, and the one after its last."""
    fades: list[tuple[int, int]]
    """Between each two tiles: where the fade from one to the next begins and ends."""

    def used(self, tile: int) -> tuple[int, int]:
        """First px taken from a tile, and the one after the last."""
        begin = self.fades[tile - 1][0] if tile else 0
        return begin, self.fades[tile][1] if tile < len(self.fades) else self.length


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
    across, down = _Between(coarse.shape[1], width), _Between(coarse.shape[0], height)
    for top, band in _bands(network, photograph, plan, tiles):
        lines = down.rows(coarse, top, len(band))
        yield top, (1 - _OF_HALF) * band + _OF_HALF * across.rows(lines.T, 0, width).T


class _Between:
    """Linear interpolation between the centres of fewer pixels, for more of them."""

    def __init__(self, few: int, many: int) -> None:
        place = np.clip((np.arange(many) + 0.5) * (few / many) - 0.5, 0, few - 1)
        self._below = place.astype(np.int64)
        self._above = np.minimum(self._below + 1, few - 1)
        self._weight = (place - self._below).astype(np.float32)[:, None]

    def rows(self, values: NDArray[np.floating], start: int, number: int) -> NDArray[np.float32]:
        """Give some of the many rows, (number, W), of values, (few, W)."""
        part = slice(start, start + number)
        below, above = (values[which[part]].astype(np.float32) for which in (self._below, self._above))
        return np.asarray(below + self._weight[part] * (above - below), np.float32)


@torch.inference_mode()
def _bands(
    network: nn.Module, photograph: NDArray[np.uint8], plan: Plan, tiles: Tiles
) -> Iterator[tuple[int, NDArray[np.float32]]]:
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
        cut = _cut(tiles, network)
        cut.check()
        self._stride = cut.stride
        self.rows, self._columns = (_axis(length, cut) for length in self._image.shape[:2])
        self._views = _TURNS[: tiles.augmentations]
        self._progress = _Progress(
            self._image.shape[0] * self._image.shape[1],
            len(self.rows.windows) * len(self._columns.windows) * len(self._views),
        )
        middles = (torch.arange(tiles.blend, device=plan.device, dtype=torch.float32) + 0.5) / tiles.blend
        self.fade = 0.5 - 0.5 * torch.cos(math.pi * middles)
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
        top, bottom = _aligned(self.rows.windows[row], self.rows.length, self._stride, mirrored=vertical)
        pixels = torch.from_numpy(np.array(self._image[top:bottom]))
        if self._plan.device.type == "cuda":
            pixels = pixels.pin_memory().to(self._plan.device, non_blocking=True)
        length, blend = self._columns.length, self._tiles.blend
        windows = [_aligned(window, length, self._stride, mirrored=horizontal) for window in self._columns.windows]
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
        for run in _runs(windows, max(1, self._plan.batch_size * _PIXELS_PER_IMAGE // tile)):
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


def _axis(length: int, cut: _Cut) -> _Axis:
    """Cut one side into the fewest tiles, all of one size that is no larger than needed."""
    if length <= cut.size:
        return _Axis(length, [(0, length)], [])
    stride, overlap, blend = cut.stride, cut.overlap, cut.blend
    largest, whole = cut.size // stride * stride, _up(length, stride)
    number = math.ceil((whole - overlap) / (largest - overlap))
    side = _up(math.ceil((whole + (number - 1) * overlap) / number), stride)
    starts = [tile * (whole - side) // stride // (number - 1) * stride for tile in range(number)]
    windows = [(start, min(start + side, length)) for start in starts]
    middles = [(before[1] + after[0]) // 2 for before, after in pairwise(windows)]
    fades = [(middle - blend // 2, middle - blend // 2 + blend) for middle in middles]
    return _Axis(length, windows, fades)


def _aligned(window: tuple[int, int], length: int, stride: int, *, mirrored: bool) -> tuple[int, int]:
    """Widen a window so that it also lies on the pooling grid of the mirrored photograph."""
    if not mirrored:
        return window
    start, stop = window
    return max(0, length - _up(length - start, stride)), length - (length - stop) // stride * stride


def _runs(windows: list[tuple[int, int]], at_once: int) -> Iterator[list[tuple[int, int]]]:
    """Group neighbours of one size, at most some at once."""
    run: list[tuple[int, int]] = []
    for window in windows:
        if run and (len(run) == at_once or window[1] - window[0] != run[0][1] - run[0][0]):
            yield run
            run = []
        run.append(window)
    yield run


def _up(pixels: int, stride: int) -> int:
    """Round up to a multiple of the stride."""
    return -(-pixels // stride) * stride


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
