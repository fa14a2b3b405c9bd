import json

import numpy as np
import pandas as pd
import pytest
from pycocotools.coco import COCO

from crack_pipeline.imaging.camera import decode
from crack_pipeline.imaging.foreground import Foreground
from crack_pipeline.imaging.severity import Severity
from crack_pipeline.pipelines.inspection import reporting, tabulating
from crack_pipeline.pipelines.inspection.parameters import Cracks, Repair, Report, Scales
from inspecting import Files, photograph

SEVERITY = Severity.model_validate(
    {
        "source": "a standard",
        "classes": [
            {"name": "narrow", "from_mm": 0, "colour": "#2e7d32"},
            {"name": "wide", "from_mm": 1.5, "colour": "#c62828"},
        ],
    }
)


@pytest.fixture
def tables(inspect):
    """Two photographs with a scale, one without, one sound, one broken."""
    files = {
        "narrow.png": photograph(0, width=3),
        "wide.png": photograph(1, width=8),
        "NA": photograph(2),
        "sound.png": photograph(3, width=0),
        "broken.png": b"nothing",
        "scale.csv": b"path,millimetres_per_pixel\nnarrow.png,0.25\nwide.png,0.25\nsound.png,0.25\n",
    }
    inspected, photographs, rejected, *_ = inspect(Files(**files))
    cracks, same = tabulating.tabulate_cracks(inspected, photographs, SEVERITY)
    pd.testing.assert_frame_equal(cracks, same)
    table, _ = tabulating.tabulate_photographs(inspected, photographs, cracks, SEVERITY)
    failures, _ = tabulating.list_failures(rejected, inspected, Scales())
    return inspected, cracks, table, failures


def test_sizes_are_told_in_millimetres_where_the_scale_is_known(tables):
    _, cracks, *_ = tables
    rows = cracks.set_index("path")
    assert rows.loc["wide.png", "length_mm"] == pytest.approx(30, rel=0.05)
    assert rows.loc["wide.png", "mean_width_mm"] == pytest.approx(2, abs=0.125)
    assert rows.loc["wide.png", "area_mm2"] == pytest.approx(8 * 120 / 16)
    assert rows["severity"].to_dict() == {"wide.png": "wide", "narrow.png": "narrow", "NA": "unknown"}
    assert np.isnan(rows.loc["NA", "length_mm"])
    assert rows.loc["NA", "length_px"] == pytest.approx(120, rel=0.05)


def test_the_most_severe_photograph_comes_first(tables):
    *_, table, failures = tables
    assert table["path"].tolist() == ["wide.png", "narrow.png", "NA", "sound.png"]
    assert table["severity"].tolist() == ["wide", "narrow", "unknown", "none"]
    assert table["predicted"].tolist() == ["crack", "crack", "crack", "normal"]
    assert {"image_id", "path", "label", "score", "predicted"} <= set(table.columns)
    assert failures["path"].tolist() == ["broken.png"]


def test_coco_holds_the_exact_pixels_of_every_crack(tables, tmp_path):
    inspected, cracks, *_ = tables
    file = tmp_path / "coco.json"
    file.write_text(json.dumps(tabulating.export_coco(inspected, cracks)))
    coco = COCO(str(file))
    assert len(coco.getImgIds()) == 4
    for image in coco.loadImgs(coco.getImgIds()):
        mask = decode(inspected.read(image["file_name"], "mask.png"), colour=False) > 0
        drawn = np.zeros_like(mask)
        for annotation in coco.loadAnns(coco.getAnnIds(imgIds=image["id"])):
            drawn |= coco.annToMask(annotation).astype(bool)
            assert annotation["attributes"]["severity"] in ("narrow", "wide", "unknown")
        np.testing.assert_array_equal(drawn, mask)


def test_geojson_holds_the_centrelines(tables):
    inspected, cracks, *_ = tables
    document = json.loads(json.dumps(tabulating.export_geojson(inspected, cracks), allow_nan=False))
    assert document["type"] == "FeatureCollection"
    lengths = {}
    for feature in document["features"]:
        lines = [np.array(line) for line in feature["geometry"]["coordinates"]]
        lengths[feature["properties"]["photograph"]] = sum(np.hypot(*np.diff(line, axis=0).T).sum() for line in lines)
    assert lengths == pytest.approx(cracks.set_index("path")["length_px"].to_dict(), rel=0.02)


def test_totals_and_the_last_lines_say_what_was_found(tables):
    _, cracks, table, failures = tables
    totals = tabulating.total(table, cracks, failures)
    assert (totals["photographs"], totals["cracked"], totals["failed"], totals["with_scale"]) == (4, 3, 1, 3)
    assert totals["length_mm"] == pytest.approx(60, rel=0.05)
    assert totals["severity"] == {"wide": 1, "narrow": 1, "unknown": 1}
    said = reporting.summarise(totals, table, failures, SEVERITY)
    assert "3 of 4 photographs show cracks: 3 cracks, 0.06 m long in all, at most 2.0" in said
    assert "; without a scale 120 px long in all, at most 4.0 px wide" in said
    assert "1 wide, 1 narrow, 1 unknown (a standard)" in said
    assert "1 photographs have no scale" in said
    assert "broken.png: " in said
    assert reporting.draw_widths(cracks, SEVERITY).axes[0].patches


def report(tables, inspect, **options):
    inspected, cracks, table, failures = tables
    document = reporting.write_report(
        inspected,
        table,
        cracks,
        failures,
        inspect.segmenter,
        "segmentation",
        Foreground(method="none"),
        Cracks(),
        Scales(),
        Repair(),
        SEVERITY,
        Report(**options),
    )
    return "".join(document)


def test_the_report_shows_the_worst_photographs_and_lists_all(tables, inspect):
    whole = report(tables, inspect, title="Pier 7 & deck")
    assert "Pier 7 &amp; deck" in whole
    for path in ("wide.png", "narrow.png", "sound.png", "broken.png"):
        assert path in whole
    some = report(tables, inspect, pages=1)
    assert len(some) < len(whole)
    assert "sound.png" in some


def test_no_photograph_at_all_is_a_report_too(inspect):
    inspected, photographs, rejected, *_ = inspect(Files(**{"broken.png": b"nothing"}))
    cracks, _ = tabulating.tabulate_cracks(inspected, photographs, SEVERITY)
    table, _ = tabulating.tabulate_photographs(inspected, photographs, cracks, SEVERITY)
    failures, _ = tabulating.list_failures(rejected, inspected, Scales())
    totals = tabulating.total(table, cracks, failures)
    assert "no photograph could be inspected; 1 files left out:" in reporting.summarise(
        totals, table, failures, SEVERITY
    )
    assert "broken.png" in report((inspected, cracks, table, failures), inspect)
    assert reporting.draw_widths(cracks, SEVERITY).axes
