import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from crack_pipeline.imaging.severity import Severity

CLASSES = [("narrow", 0.0), ("medium", 0.3), ("wide", 1.0)]


def severity(classes=CLASSES):
    rows = [{"name": name, "from_mm": start, "colour": "#112233"} for name, start in classes]
    return Severity.model_validate({"source": "a standard", "classes": rows})


@pytest.mark.parametrize(("width", "name"), [(0.0, "narrow"), (0.299, "narrow"), (0.3, "medium"), (7.0, "wide")])
def test_a_width_belongs_to_the_class_that_begins_below_it(width, name):
    assert severity().classify(width) == name


def test_without_a_scale_the_class_is_unknown():
    assert severity().classify(None) == "unknown"


def test_the_worst_class_counts():
    assert severity().worst(["narrow", "wide", "unknown"]) == "wide"
    assert severity().worst(["unknown"]) == "unknown"
    assert severity().worst([]) == "none"


@given(st.floats(0, 50), st.floats(0, 50))
def test_a_wider_crack_is_never_milder(one, other):
    order = [name for name, _ in CLASSES]
    first, second = (order.index(severity().classify(width)) for width in sorted((one, other)))
    assert first <= second


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ([("narrow", 0.1)], "must begin at 0"),
        ([("narrow", 0), ("wide", 0)], "wide begins at 0 mm and must begin above narrow"),
        ([("same", 0), ("same", 1)], "names of classes must differ"),
        ([("unknown", 0)], "names of classes must differ"),
        ([], "at least 1"),
    ],
)
def test_classes_that_make_no_sense_are_refused(classes, message):
    with pytest.raises(ValidationError, match=message):
        severity(classes)
