import dataclasses
from datetime import datetime

import numpy as np
import pytest

from crack_pipeline.reporting.summary import collect
from inspected import CLASSES, crack, inspection, page


def test_counts_and_sums():
    facts = collect(
        inspection(
            page("a", crack("c1", 2.0), crack("c2", 12.0)),
            page("b"),
            others=[page("c", crack("c1", 5.0), pictures={})],
        )
    )
    assert (len(facts.photographs), facts.pages, facts.cracked, len(facts.cracks)) == (3, 2, 2, 3)
    assert facts.crack_counts == {"narrow": 1, "moderate": 1, "wide": 1}
    assert facts.photograph_counts == {"wide": 1, "none": 1, "moderate": 1}
    assert facts.length_mm == pytest.approx(60) and facts.length_px == 0


def test_millimetres_and_pixels_are_neither_added_nor_compared():
    facts = collect(
        inspection(page("a", crack("c1", 3.0)), page("b", crack("c1", 90.0, scale=None), millimetres_per_pixel=None))
    )
    assert (facts.length_mm, facts.length_px, facts.without_scale) == (pytest.approx(20), 200, 1)
    assert facts.widest.unit == "mm" and facts.widest.width == pytest.approx(0.3)
    assert [row["unit"] for row in facts.photographs] == ["mm", "px"]


def test_the_widest_is_in_pixels_where_no_scale_is_known():
    facts = collect(inspection(page("a", crack("c1", 3.0, None)), page("b", crack("c2", 9.0, None))))
    assert (facts.widest.photograph, facts.widest.crack_id, facts.widest.width) == (2, "c2", 9.0)
    assert facts.widest.unit == "px" and facts.widest.has_page


def test_nothing_is_nothing():
    facts = collect(inspection())
    assert (facts.widest, facts.cracked, facts.photographs, facts.length_mm) == (None, 0, [], 0)


def test_cracks_of_a_photograph_follow_each_other():
    facts = collect(inspection(page("a", crack("c1")), page("b"), page("c", crack("c1"), crack("c2"))))
    for place, row in enumerate(facts.photographs):
        mine = facts.cracks[row["firstCrack"] : row["firstCrack"] + row["cracks"]]
        assert [one[0] for one in mine] == [place] * row["cracks"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            lambda: inspection(page("a", crack("c1"), severity="bad")),
            "a: the severity 'bad' is none of none, unknown, nar",
        ),
        (
            lambda: inspection(page("a", crack("c1", severity="none"), severity="wide")),
            "the severity 'none' is none of unk",
        ),
        (lambda: inspection(page("a", crack("c1"), severity="none")), "a has 1 cracks and the severity 'none'"),
        (lambda: inspection(page("a", pictures={})), "a has no picture to show"),
    ],
)
def test_facts_that_contradict_each_other_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        collect(wrong())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: inspection(made=datetime(2026, 1, 1)), "no time zone"),
        (lambda: inspection(severities=CLASSES[::-1]), "go from mild to severe: moderate begins at 0.3 mm and must"),
        (lambda: inspection(severities=(dataclasses.replace(CLASSES[0], name="none"),)), "must differ, also from none"),
        (
            lambda: inspection(severities=(dataclasses.replace(CLASSES[0], colour="red;}"),)),
            "colour of narrow is 'red;}'",
        ),
        (lambda: page("a", pictures={"x-ray": ("image/png", b"")}), "a has a view 'x-ray', known are: photograph"),
        (lambda: page("a", pictures={"mask": ("image/svg+xml", b"")}), "mask is of type 'image/svg"),
        (lambda: page("a", crack("c1"), crack("c1")), "a: two of its cracks"),
        (lambda: page("a", width=0), "0 x 160 px"),
        (lambda: crack("c1", max_width=float("nan")), "crack c1 has a measure"),
        (lambda: crack("c1", length_mm=None), "crack c1 has some of its measures in mm"),
        (lambda: crack("c1", paths=(np.zeros((0, 2)),)), r"must be \(n, 2\) with a point at least, got \(0, 2\)"),
    ],
)
def test_what_is_wrong_is_said_where_it_is_told(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()
