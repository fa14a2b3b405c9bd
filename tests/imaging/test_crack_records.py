import contextlib
import io
import json

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from crack_pipeline.imaging import crack_records
from crack_pipeline.imaging.crack_objects import find_cracks
from crack_pipeline.imaging.crack_records import (
    coco_annotation,
    coco_document,
    coco_image,
    crack_rle,
    geojson_document,
    geojson_feature,
)


def a_mask(seed, height=60, width=80):
    rng = np.random.default_rng(seed)
    mask = np.zeros((height, width), np.uint8)
    for start, end in rng.integers(0, (width, height), (4, 2, 2)).tolist():
        cv2.line(mask, start, end, 1, int(rng.integers(1, 5)))
    # Holes, and what touches the corners
    return (mask.astype(bool) & (rng.random(mask.shape) > 0.05)) | (rng.random(mask.shape) > 0.97)


def decoded(rle):
    flat = np.repeat(np.arange(len(rle["counts"])) % 2, rle["counts"])
    height, width = rle["size"]
    return flat.reshape(width, height).T.astype(bool)


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.integers(1, 90), st.integers(1, 90))
def test_cracks_together_are_the_mask_exactly(seed, height, width):
    mask = a_mask(seed, height, width)
    together = np.zeros(mask.shape, int)
    for crack in find_cracks(mask, least_pixels=1):
        rle = crack_rle(crack, mask.shape)
        mine = decoded(rle)
        y, x, tall, wide = crack.box
        assert mine.sum() == crack.area
        assert (mine[y : y + tall, x : x + wide] == crack.pixels()).all()
        assert min(rle["counts"][1:]) > 0
        together += mine
    assert (together == mask).all()


def test_large_cracks_are_encoded_in_strips(monkeypatch):
    mask = a_mask(3)
    mask[10:30, 20:70] = True
    whole = [crack_rle(crack, mask.shape) for crack in find_cracks(mask)]
    monkeypatch.setattr(crack_records, "_AT_ONCE", 100)
    assert [crack_rle(crack, mask.shape) for crack in find_cracks(mask)] == whole


def test_a_photograph_of_another_size_is_refused():
    (crack,) = find_cracks(np.ones((9, 9), bool))
    with pytest.raises(ValueError, match=r"outside of 8 × 9 px"):
        crack_rle(crack, (8, 9))


def test_pycocotools_reads_it(tmp_path):
    masks = [a_mask(1), a_mask(2, 40, 50)]
    images, annotations = [], []
    for image_id, mask in enumerate(masks, start=1):
        images.append(coco_image(image_id, f"wall/{image_id}.jpg", mask.shape))
        annotations += [
            coco_annotation(len(annotations) + 1 + index, image_id, crack, mask.shape, {"severity": "fine"})
            for index, crack in enumerate(find_cracks(mask, least_pixels=1))
        ]
    path = tmp_path / "cracks.json"
    path.write_text(json.dumps(coco_document(images, annotations)))
    with contextlib.redirect_stdout(io.StringIO()):
        read = COCO(path)
    assert read.loadCats(read.getCatIds()) == [{"id": 1, "name": "crack", "supercategory": "defect"}]
    for image_id, mask in enumerate(masks, start=1):
        found = read.loadAnns(read.getAnnIds(imgIds=[image_id], catIds=[1], iscrowd=False))
        together = np.zeros(mask.shape, int)
        for annotation in found:
            mine = read.annToMask(annotation)
            together += mine
            rle = read.annToRLE(annotation)
            assert coco_mask.area(rle) == annotation["area"]
            assert coco_mask.toBbox(rle).tolist() == annotation["bbox"]
            assert annotation["attributes"] == {"severity": "fine"}
        assert (together == mask).all()


def test_a_document_hangs_together():
    image, annotation = coco_image(1, "a.jpg", (5, 5)), {"id": 1, "image_id": 1}
    assert coco_document([], [])["images"] == []
    with pytest.raises(ValueError, match=r"images of the same id: \[1\]"):
        coco_document([image, image], [])
    with pytest.raises(ValueError, match=r"annotations of the same id: \[1\]"):
        coco_document([image], [annotation, annotation])
    with pytest.raises(ValueError, match=r"photographs that are not there: \[1\]"):
        coco_document([], [annotation])


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_lines_are_valid_and_as_long_with_fewer_points(seed):
    rng = np.random.default_rng(seed)
    mask = np.zeros((200, 300), np.uint8)
    place = np.linspace(0, 1, 60)
    path = np.stack([20 + 260 * place, 100 + 60 * np.sin(place * rng.uniform(1, 9)) + rng.uniform(-20, 20)], axis=1)
    cv2.polylines(mask, [np.round(path).astype(np.int32)], False, 1, int(rng.integers(2, 9)))
    (crack,) = find_cracks(mask.astype(bool))
    document = json.loads(json.dumps(geojson_document([geojson_feature("a.jpg", 7, crack, {"severity": "fine"})])))
    assert document["type"] == "FeatureCollection"
    assert "crs" not in document and not {"coordinates", "geometry", "geometries", "properties"} & document.keys()
    (feature,) = document["features"]
    assert feature["type"] == "Feature"
    assert feature["properties"] == {"photograph": "a.jpg", "crack_id": 7, "severity": "fine"}
    assert feature["geometry"]["type"] == "MultiLineString"
    lines = feature["geometry"]["coordinates"]
    assert len(lines) == len(crack.branches)
    assert all(len(line) >= 2 and all(len(point) == 2 for point in line) for line in lines)
    length = sum(float(np.hypot(*np.diff(line, axis=0).T).sum()) for line in lines)
    assert length == pytest.approx(crack.length, rel=0.01)
    assert sum(map(len, lines)) < sum(len(branch.path) for branch in crack.branches) / 3
    x, y = np.array(lines[0]).T
    assert x.max() > 200 and y.min() > 10 and y.max() < 190


def test_every_point_stays_if_asked_and_rings_and_spots_are_lines():
    ring = np.zeros((80, 80), np.uint8)
    cv2.circle(ring, (40, 40), 25, 1, 3)
    ring[70:74, 70:75] = 1
    for crack in find_cracks(ring.astype(bool)):
        for tolerance in (0, 0.5, 100):
            (line,) = geojson_feature("a.jpg", 1, crack, tolerance=tolerance)["geometry"]["coordinates"]
            assert len(line) >= 2
        every = geojson_feature("a.jpg", 1, crack, tolerance=0)["geometry"]["coordinates"]
        assert np.abs(np.array(every[0])[:, ::-1] - crack.branches[0].path).max() < 0.01
    with pytest.raises(ValueError, match="tolerance is -1, and must not be negative"):
        geojson_feature("a.jpg", 1, crack, tolerance=-1)
