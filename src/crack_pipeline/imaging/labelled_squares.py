"""Squares of photographs of which it is known whether they show a crack, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from crack_pipeline.imaging.photograph_stack import BACKGROUND, IGNORED, PhotographStack


@dataclass(frozen=True)
class LabelledSquares:
    """Parts of photographs, or whole ones, with a label each. There is no mask in it, nor what a mask says of pixels.

    Attributes
    ----------
    photographs
        A stack without masks.
    rows
        (n,), ascending: which photograph.
    boxes
        (n, 4): y and x of the upper left corner, height and width, px.
    cracked
        (n,) bool: what the label says.
    photo_ids
        (n,) str: of the photographs that they lie in.

    Raises
    ------
    ValueError
        If the stack holds masks, or the rows do not ascend.
    """

    photographs: PhotographStack
    rows: NDArray[np.int64]
    boxes: NDArray[np.int64]
    cracked: NDArray[np.bool_]
    photo_ids: NDArray[np.str_]

    def __post_init__(self) -> None:
        if self.photographs.has_masks:
            raise ValueError("labelled squares are of a stack without masks")
        if (np.diff(self.rows) < 0).any():
            raise ValueError("the rows of labelled squares ascend")

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def photograph_rows(self) -> NDArray[np.int64]:
        """Which photographs there are, each once, in order."""
        return np.unique(self.rows)

    @property
    def whole_photographs(self) -> bool:
        """Whether every label is that of a whole photograph."""
        return bool((self.boxes[:, 2:] == self.photographs.sizes[self.rows]).all())

    def take(self, which: NDArray[np.int64], size: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Give some of the squares as images of one size.

        Parameters
        ----------
        which
            (m,): 0 to n - 1.
        size
            Side of the images, px. A larger square is shrunk until it fits; around a smaller one, in the middle, lies
            its reflection.

        Returns
        -------
        images : ndarray of uint8
            (m, S, S) or (m, S, S, C).
        masks : ndarray of uint8
            (m, S, S): 2 (ignored) where there is reflection, else 0.
        """
        colours = () if self.photographs.channels == 1 else (self.photographs.channels,)
        images = np.empty((len(which), size, size, *colours), np.uint8)
        masks = np.full((len(which), size, size), IGNORED, np.uint8)
        for image, mask, row, (y, x, height, width) in zip(
            images, masks, self.rows[which].tolist(), self.boxes[which].tolist(), strict=True
        ):
            square = self.photographs.photograph(row)[y : y + height, x : x + width]
            factor = min(1.0, size / max(height, width))
            if factor < 1:
                height, width = (max(1, min(size, round(factor * side))) for side in (height, width))
                square = cv2.resize(square, (width, height), interpolation=cv2.INTER_AREA)
            top, left = (size - height) // 2, (size - width) // 2
            # OpenCV's reflection goes no further than the picture is wide.
            rows, columns = (_reflected(-before, size, side) for before, side in ((top, height), (left, width)))
            image[...] = square[rows[:, None], columns]
            mask[top : top + height, left : left + width] = BACKGROUND
        return images, masks

    def of(self, row: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Give boxes (m, 4) and labels (m,) of one photograph."""
        part = slice(*np.searchsorted(self.rows, [row, row + 1]))
        return self.boxes[part], self.cracked[part]

    def label_mask(self, row: int) -> NDArray[np.uint8]:
        """Say what the labels say of every pixel of a photograph.

        Returns
        -------
        ndarray of uint8
            (H, W): 0 where a square lies that shows no crack, 2 (not known) elsewhere.
        """
        mask = np.full(tuple(self.photographs.sizes[row]), IGNORED, np.uint8)
        boxes, cracked = self.of(row)
        for y, x, height, width in boxes[~cracked].tolist():
            mask[y : y + height, x : x + width] = BACKGROUND
        return mask


def _reflected(start: int, number: int, length: int) -> NDArray[np.int64]:
    """Give where positions from ``start`` on fall in a line that is reflected at its ends."""
    period = max(2 * (length - 1), 1)
    place = np.arange(start, start + number) % period
    return np.minimum(place, period - place) if length > 1 else np.zeros(number, np.int64)
