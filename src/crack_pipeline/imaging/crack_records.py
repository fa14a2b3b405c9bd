"""Cracks as other tools read them: COCO and GeoJSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crack_pipeline.imaging.crack_objects import Crack
from crack_pipeline.imaging.lines import simplify

Record = dict[str, Any]
"""Of what JSON knows."""

_DECIMALS = 2

_AT_ONCE = 2**22
"""Pixels of a crack."""


def crack_rle(crack: Crack, shape: tuple[int, int]) -> Record:
    """Encode which pixels of a photograph belong to a crack.

    A polygon would lose lines of 1 px; this is exact, and made from the runs of the crack alone.

    Parameters
    ----------
    crack
        Of :func:`~crack_pipeline.imaging.crack_objects.find_cracks`.
    shape
        Height and width of the photograph, px.

    Returns
    -------
    dict
        ``size`` [height, width] and ``counts``, COCO's uncompressed run-length encoding: pixels of the background, of
        the crack, of the background and so on, down the columns from the left.

    Raises
    ------
    ValueError
        If the crack does not lie in a photograph of that size.

    Examples
    --------
    >>> from crack_pipeline.imaging.crack_objects import find_cracks
    >>> (found,) = find_cracks(np.array([[0, 1, 1], [0, 1, 1]], bool), least_pixels=1)
    >>> crack_rle(found, (2, 3))
    {'size': [2, 3], 'counts': [2, 4]}
    """
    height, width = shape
    top, left, tall, wide = crack.box
    if top + tall > height or left + wide > width:
        raise ValueError(f"a crack in the box {crack.box} (y, x, height, width) is outside of {height} × {width} px")
    counts: list[NDArray[np.int64]] = []
    end = 0
    # From the left, so many columns at once that they fit into memory
    for first, y, x in _strips(crack):
        places = np.sort((x.astype(np.int64) + first) * height + y)
        begins = np.concatenate([[True], np.diff(places) > 1])
        starts, stops = places[begins], places[np.concatenate([begins[1:], [True]])] + 1
        gaps = starts - np.concatenate([[end], stops[:-1]])
        pairs = np.stack([gaps, stops - starts], axis=1)
        if counts and not gaps[0]:
            # It goes on where the strip before has ended.
            counts[-1][-1] += pairs[0, 1]
            pairs = pairs[1:]
        if len(pairs):
            counts.append(pairs.ravel())
        end = int(stops[-1])
    if end < height * width:
        counts.append(np.array([height * width - end]))
    return {"size": [height, width], "counts": np.concatenate(counts).tolist()}


def _strips(crack: Crack) -> Iterable[tuple[int, NDArray[np.int32], NDArray[np.int32]]]:
    """Give the pixels of a crack in strips of columns: the first column, and y and x from there of each pixel."""
    _, left, tall, wide = crack.box
    columns = max(1, min(wide, _AT_ONCE // tall)) if crack.area > _AT_ONCE else wide
    y, begin, end = crack.runs.T
    for first in range(left, left + wide, columns):
        starts, stops = np.maximum(begin, first), np.minimum(end, first + columns)
        lengths = np.maximum(stops - starts, 0).astype(np.int64)
        total = int(lengths.sum())
        if total:
            before = np.cumsum(lengths) - lengths
            x = np.arange(total, dtype=np.int64) + np.repeat(starts - first - before, lengths)
            yield first, np.repeat(y, lengths), x.astype(np.int32)


def coco_image(image_id: int, path: str, shape: tuple[int, int]) -> Record:
    """Describe a photograph of ``shape`` (height, width) for COCO."""
    return {"id": image_id, "file_name": path, "width": shape[1], "height": shape[0]}


def coco_annotation(
    annotation_id: int,
    image_id: int,
    crack: Crack,
    shape: tuple[int, int],
    attributes: Mapping[str, Any] | None = None,
) -> Record:
    """Describe a crack for COCO (T.-Y. Lin and others, ECCV 2014).

    Parameters
    ----------
    annotation_id, image_id
        From 1: tools for COCO take 0 for none.
    crack
        Of :func:`~crack_pipeline.imaging.crack_objects.find_cracks`.
    shape
        Height and width of the photograph, px.
    attributes
        What else is known of it; under ``attributes``.

    Returns
    -------
    dict
        With the exact pixels (:func:`crack_rle`), although ``iscrowd`` is 0: pycocotools reads both.
    """
    top, left, height, width = crack.box
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": 1,
        "bbox": [left, top, width, height],
        "area": crack.area,
        "iscrowd": 0,
        "segmentation": crack_rle(crack, shape),
        "attributes": dict(attributes or {}),
    }


def coco_document(images: Iterable[Record], annotations: Iterable[Record]) -> Record:
    """Put together photographs (:func:`coco_image`) and cracks (:func:`coco_annotation`).

    Raises
    ------
    ValueError
        If two have the same id, or a crack belongs to no photograph.
    """
    document = {
        "images": list(images),
        "annotations": list(annotations),
        "categories": [{"id": 1, "name": "crack", "supercategory": "defect"}],
    }
    for kind in ("images", "annotations"):
        ids = [record["id"] for record in document[kind]]
        if len(set(ids)) < len(ids):
            raise ValueError(f"{kind} of the same id: {sorted({one for one in ids if ids.count(one) > 1})[:5]}")
    strays = {record["image_id"] for record in document["annotations"]} - {
        record["id"] for record in document["images"]
    }
    if strays:
        raise ValueError(f"annotations of photographs that are not there: {sorted(strays)[:5]}")
    return document


def geojson_feature(
    photograph: str,
    crack_id: int | str,
    crack: Crack,
    properties: Mapping[str, Any] | None = None,
    *,
    tolerance: float = 0.5,
) -> Record:
    """Describe a crack as the lines along its middle.

    Parameters
    ----------
    photograph
        Its path.
    crack_id
        Which of its cracks it is.
    crack
        Of :func:`~crack_pipeline.imaging.crack_objects.find_cracks`.
    properties
        What else is known of it.
    tolerance
        How far lines may be from where they were so that they need fewer points, px (D. H. Douglas and T. K. Peucker,
        Cartographica 10(2), 1973); 0 for all points.

    Returns
    -------
    dict
        A feature of RFC 7946: a ``MultiLineString`` with a line for every branch, x to the right and y down, px; 0, 0
        is the middle of the upper left pixel.

    Raises
    ------
    ValueError
        If the tolerance is negative.
    """
    if tolerance < 0:
        raise ValueError(f"tolerance is {tolerance}, and must not be negative")
    lines = [simplify(branch.path[:, ::-1], tolerance) for branch in crack.branches]
    return {
        "type": "Feature",
        "geometry": {
            "type": "MultiLineString",
            "coordinates": [np.round(line, _DECIMALS).tolist() for line in lines],
        },
        "properties": {"photograph": photograph, "crack_id": crack_id, **(properties or {})},
    }


def geojson_document(features: Iterable[Record]) -> Record:
    """Put together cracks (:func:`geojson_feature`).

    Returns
    -------
    dict
        A feature collection of RFC 7946. Photographs have no place on the earth: ``coordinate_space`` says what the
        numbers are, a foreign member as section 6.1 provides for.
    """
    return {
        "type": "FeatureCollection",
        "coordinate_space": {
            "description": "pixels of the photograph named in each feature, not longitude and latitude",
            "unit": "px",
            "axes": ["x to the right", "y down"],
            "origin": "middle of the upper left pixel",
        },
        "features": list(features),
    }
