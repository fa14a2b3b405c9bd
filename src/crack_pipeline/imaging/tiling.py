"""Cut pictures into square tiles, and count what lies in each."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def grid(height: int, width: int, size: int, stride: int | None = None, *, cover: bool = False) -> NDArray[np.int64]:
    """Place square tiles on a picture.

    Parameters
    ----------
    height, width
        Of the picture, in px.
    size
        Side of a tile, in px.
    stride
        Distance from one tile to the next, in px; None for ``size``, so that they touch.
    cover
        Whether a last tile, moved back inside, covers what the stride leaves over at the right and at the
        bottom. Otherwise the rest is left out.

    Returns
    -------
    ndarray of int64
        (n, 2): y and x of each tile's upper left corner, row by row. Empty if the picture is smaller than a
        tile.

    Raises
    ------
    ValueError
        If a size is not positive.

    Examples
    --------
    >>> grid(4, 10, 4).tolist()
    [[0, 0], [0, 4]]
    >>> grid(4, 10, 4, cover=True).tolist()
    [[0, 0], [0, 4], [0, 6]]
    """
    stride = size if stride is None else stride
    for name, value in {"height": height, "width": width, "size": size, "stride": stride}.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1 px, not {value}")
    axes = []
    for length in (height, width):
        starts = list(range(0, length - size + 1, stride))
        if cover and starts and starts[-1] + size < length:
            starts.append(length - size)
        axes.append(np.array(starts, np.int64))
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)


def cut(image: NDArray[np.uint8], corners: NDArray[np.int64], size: int) -> NDArray[np.uint8]:
    """Cut tiles out of a picture.

    Parameters
    ----------
    image
        (H, W) or (H, W, C).
    corners
        (n, 2): y and x of the upper left corners, as `grid` gives them.
    size
        Side of a tile, in px.

    Returns
    -------
    ndarray of uint8
        (n, size, size) or (n, size, size, C), a copy.

    Raises
    ------
    ValueError
        If a tile does not lie wholly inside the picture.
    """
    height, width = image.shape[:2]
    if len(corners) and (corners.min() < 0 or (corners + size > (height, width)).any()):
        raise ValueError(f"a tile of {size} px does not lie inside the picture of {height} × {width} px")
    tiles = np.empty((len(corners), size, size, *image.shape[2:]), image.dtype)
    for tile, (y, x) in zip(tiles, corners, strict=True):
        tile[...] = image[y : y + size, x : x + size]
    return tiles


def count(marked: NDArray[np.bool_], corners: NDArray[np.int64], size: int, margin: int = 0) -> NDArray[np.int64]:
    """Count the marked pixels in each tile.

    Parameters
    ----------
    marked
        (H, W) bool.
    corners
        (n, 2): y and x of the upper left corners.
    size
        Side of a tile, in px.
    margin
        Pixels by which the counted square reaches beyond the tile on every side, as far as the picture goes.

    Returns
    -------
    ndarray of int64
        (n,): number of marked pixels, 0 to (size + 2 margin)².
    """
    height, width = marked.shape
    sums = np.zeros((height + 1, width + 1), np.int32)
    np.cumsum(marked, axis=0, dtype=np.int32, out=sums[1:, 1:])
    np.cumsum(sums[1:, 1:], axis=1, out=sums[1:, 1:])
    top, left = np.clip(corners - margin, 0, (height, width)).T
    bottom, right = np.clip(corners + size + margin, 0, (height, width)).T
    counts = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
    return counts.astype(np.int64)
