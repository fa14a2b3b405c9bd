"""Where the overlapping tiles of a photograph lie, and how one fades into the next; needs no torch.

Tiles begin at multiples of the network's stride, so that its pooling grids lie as they would over the whole photograph.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise, product
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

TURNS = tuple(product((False, True), repeat=3))
"""Transposed, flipped vertically, flipped horizontally: the first 1, 2, 4 or 8 of them are a group."""
OF_HALF = 1 / 3
"""Weight of the view in half the size."""

_SIZE, _HALO = 2048, 96


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


class Cut(NamedTuple):
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
        """Raise ValueError if tiles are too small for halo, blend and stride."""
        # Fades of one tile must not meet, also where the grid moves them together.
        smallest = self.overlap + 2 * _up(self.blend + self.stride, self.stride)
        if self.size < smallest:
            raise ValueError(
                f"tiles.size is {self.size} px; with a halo of {self.halo} px, a blend of {self.blend} px and a "
                f"network of stride {self.stride} it must be at least {smallest} px"
            )


def cut_for(tiles: Tiles, stride: int, reach: int | None = None, patch: int = 1) -> Cut:
    """Decide how photographs are cut for one network.

    Parameters
    ----------
    tiles
        What was asked for.
    stride
        Side of the grid that the network's pooling lies on, px.
    reach
        How far the network looks, px; None if it does not say.
    patch
        Side of the squares that it takes for one pixel each, px.
    """
    halo = (_HALO if reach is None else _up(reach, stride)) if tiles.halo is None else tiles.halo
    return Cut(_SIZE * patch if tiles.size is None else tiles.size, halo, tiles.blend, stride)


class Axis(NamedTuple):
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


class Between:
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


def axis_of(length: int, cut: Cut) -> Axis:
    """Cut one side into the fewest tiles, all of one size that is no larger than needed."""
    if length <= cut.size:
        return Axis(length, [(0, length)], [])
    stride, overlap, blend = cut.stride, cut.overlap, cut.blend
    largest, whole = cut.size // stride * stride, _up(length, stride)
    number = math.ceil((whole - overlap) / (largest - overlap))
    side = _up(math.ceil((whole + (number - 1) * overlap) / number), stride)
    starts = [tile * (whole - side) // stride // (number - 1) * stride for tile in range(number)]
    windows = [(start, min(start + side, length)) for start in starts]
    middles = [(before[1] + after[0]) // 2 for before, after in pairwise(windows)]
    fades = [(middle - blend // 2, middle - blend // 2 + blend) for middle in middles]
    return Axis(length, windows, fades)


def aligned(window: tuple[int, int], length: int, stride: int, *, mirrored: bool) -> tuple[int, int]:
    """Widen a window so that it also lies on the pooling grid of the mirrored photograph."""
    if not mirrored:
        return window
    start, stop = window
    return max(0, length - _up(length - start, stride)), length - (length - stop) // stride * stride


def runs(windows: list[tuple[int, int]], at_once: int) -> Iterator[list[tuple[int, int]]]:
    """Group neighbours of one size, at most some at once."""
    run: list[tuple[int, int]] = []
    for window in windows:
        if run and (len(run) == at_once or window[1] - window[0] != run[0][1] - run[0][0]):
            yield run
            run = []
        run.append(window)
    yield run


def fade_in(blend: int) -> NDArray[np.float32]:
    """Give weights (blend,) that rise from 0 to 1 like a raised cosine."""
    middles = (np.arange(blend, dtype=np.float32) + np.float32(0.5)) / np.float32(blend)
    return np.asarray(0.5 - 0.5 * np.cos(np.float32(math.pi) * middles), np.float32)


def _up(pixels: int, stride: int) -> int:
    """Round up to a multiple of the stride."""
    return -(-pixels // stride) * stride
