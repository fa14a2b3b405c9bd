import pytest
from pydantic import ValidationError

from crack_pipeline.models.registered import Registered
from crack_pipeline.models.weights import Weights
from crack_pipeline.pipelines.inpainting.parameters import Cracks
from crack_pipeline.pipelines.inspection.parameters import Model
from crack_pipeline.pipelines.trained import choose

SEGMENTER = Weights({}, {"tiles": {}})


class Registry:
    """Holds one version of everything, and remembers what it was asked for."""

    def __init__(self, weights=SEGMENTER):
        self.weights, self.asked = weights, []

    def find(self, address):
        self.asked.append(address)
        return Registered(7, self.weights)


def not_asked_for():
    raise AssertionError("not asked for")


LOADERS = dict.fromkeys(("segmentation", "weak_segmentation", "label_free"), not_asked_for)


def test_a_registered_segmenter_is_asked_for_by_its_address():
    registry = Registry()
    assert choose("models:/walls@champion", LOADERS, registry) == ("walls, version 7", SEGMENTER)
    assert registry.asked == ["models:/walls@champion"]


def test_the_registry_is_asked_for_nothing_else():
    registry = Registry()
    loaders = LOADERS | {"label_free": lambda: SEGMENTER}
    assert choose("label_free", loaders, registry) == ("label_free", SEGMENTER)
    assert registry.asked == []


def test_a_detector_is_no_segmenter():
    with pytest.raises(ValueError, match="models:/anomaly/3 does not say where cracks are"):
        choose("models:/anomaly/3", LOADERS, Registry(Weights({}, {"thresholds": {}})))


@pytest.mark.parametrize("named", ["auto", "weak_segmentation", "models:/segmentation/12", "models:/own_name@previous"])
def test_parameters_take_pipelines_and_addresses(named):
    assert Model(named).root == Cracks(segmenter=named).segmenter == named


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("segmentatoin", "one of auto, segmentation, weak_segmentation, label_free, or a registered segmenter"),
        ("models:/segmentation", "names no registered model: write models:/segmentation@champion"),
        ("models:/segmentation/latest", "names no registered model"),
        ("models:/segmentation/0", "names no registered model"),
        ("models:/segmentation/1/weights", "names no registered model"),
        ("models:/@champion", "names no registered model"),
    ],
)
def test_what_names_nothing_is_one_message(named, said):
    for parameters in (lambda: Model(named), lambda: Cracks(segmenter=named)):
        with pytest.raises(ValidationError, match=said) as caught:
            parameters()
        assert caught.value.error_count() == 1
