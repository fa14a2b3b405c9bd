"""New pictures, whichever generator makes them."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crack_pipeline.imaging.camera import encode_png
from crack_pipeline.imaging.photograph_stack import CRACK
from crack_pipeline.imaging.simulated_squares import SimulatedSquares
from crack_pipeline.models.weights import Weights
from crack_pipeline.pipelines.synthesis.parameters import Sampling, SimulatedPictures
from crack_pipeline.training.learned_squares import unpack

if TYPE_CHECKING:
    from crack_pipeline.training.synthetic import Generator

logger = logging.getLogger(__name__)

_AT_ONCE = 16
_SECONDS_BETWEEN_LINES = 10.0


@dataclass(frozen=True)
class Drawing:
    """A generator, and what it makes.

    Attributes
    ----------
    generator
        Makes pictures out of a seed each.
    size
        Their side, px.
    masks
        Whether it knows where their cracks are.
    sources
        Rows of the photographs that they may be copies of; None: those that it has learned from.
    """

    generator: Generator
    size: int
    masks: bool
    sources: NDArray[np.int64] | None = None

    def rows(self, seeds: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """Say on which photograph the picture of every seed is drawn, (n,); None if on none."""
        return self.generator.rows(seeds) if isinstance(self.generator, SimulatedSquares) else None

    def draw(self, seeds: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Draw a picture for every seed, (n, S, S) or (n, S, S, 3), and its mask, (n, S, S), where it is known."""
        if not len(seeds):
            return np.zeros((0, self.size, self.size), np.uint8), np.zeros((0, self.size, self.size), np.uint8)
        return self.generator.squares(seeds, self.size)


def draw_from(generator: Weights) -> Drawing:
    """Get a trained generator ready to draw."""
    squares = unpack(generator)
    return Drawing(squares, squares.size, squares.network.masks)


@dataclass(frozen=True)
class DrawnFiles:
    """The files of a data set of drawn pictures, each made when it is asked for.

    Iterating gives (name, content): ``images/00001.png`` … and, where masks are known, ``masks/00001.png`` (white on
    the crack) after each; at the end ``manifest.csv``: ``path``, ``mask_path``, ``label``, ``seed``, ``crack_pixels``.
    """

    drawing: Drawing
    number: int
    seed: int

    def __len__(self) -> int:
        return self.number * (1 + int(self.drawing.masks)) + 1

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        rows = []
        said = time.monotonic()
        for start in range(0, self.number, _AT_ONCE):
            numbers = range(start, min(start + _AT_ONCE, self.number))
            seeds = np.array([picture_seed(self.seed, number) for number in numbers], np.int64)
            images, masks = self.drawing.draw(seeds)
            for number, seed, image, mask in zip(numbers, seeds.tolist(), images, masks, strict=True):
                name = f"{number + 1:05d}.png"
                row: dict[str, Any] = {"path": f"images/{name}", "mask_path": "", "label": "crack", "seed": seed}
                yield f"images/{name}", encode_png(image)
                if self.drawing.masks:
                    crack = mask == CRACK
                    yield f"masks/{name}", encode_png(crack)
                    row |= {"mask_path": f"masks/{name}", "label": "crack" if crack.any() else "normal"}
                    row["crack_pixels"] = int(crack.sum())
                rows.append(row)
            if time.monotonic() - said > _SECONDS_BETWEEN_LINES:
                said = time.monotonic()
                logger.info("drew %s of %s pictures", f"{numbers.stop:,}", f"{self.number:,}")
        yield "manifest.csv", pd.DataFrame(rows).to_csv(index=False).encode()


def picture_seed(seed: int, number: int) -> int:
    """Give the seed of one picture of a data set."""
    return int(np.random.SeedSequence([seed, number]).generate_state(2, np.uint32).view(np.uint64)[0] >> 2)


def draw_data_set(drawing: Drawing, sampling: Sampling | SimulatedPictures) -> DrawnFiles:
    """Draw new pictures, as many as asked for, file by file."""
    return DrawnFiles(drawing, sampling.number, sampling.seed)
