import math

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crack_pipeline.pipelines.segmentation.parameters import Network, Training
from crack_pipeline.pipelines.segmentation_tuning.parameters import Space
from crack_pipeline.pipelines.segmentation_tuning.space import ImpossibleError, check

VARIED = {
    "network.levels": {"low": 2, "high": 6},
    "network.slope": {"low": 0, "high": 0.5},
    "network.initialisation": {"choices": ["default", "he_normal"]},
    "training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    "training.loss.0.crack": {"low": 0.5, "high": 2.0},
    "training.loss.1": {"choices": [{"kind": "dice"}, {"kind": "cldice", "iterations": 3}]},
    "training.patience": {"choices": [None, 3]},
    "training.augmentation.flips": {"choices": [True, False]},
}


@pytest.fixture(scope="module")
def space():
    return check(Space(VARIED), Network(), Training(), steps=100, steps_per_epoch=50)


@given(seed=st.integers(0, 2**32 - 1))
def test_every_point_that_is_drawn_is_a_network_and_a_training(space, seed):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed))
    values = space.values(study.ask(space.distributions()).params)
    network, training = space.build(values)
    assert network.root.levels == values["network.levels"]
    assert network.root.slope == values["network.slope"]
    assert training.loss[0].crack == values["training.loss.0.crack"]
    assert training.loss[1].kind == values["training.loss.1"]["kind"]
    assert (training.patience, training.augmentation.flips) == (
        values["training.patience"],
        values["training.augmentation.flips"],
    )
    assert (training.steps, training.steps_per_epoch) == (100, 50)
    assert space.point(values) == space.drawn(values)


def test_whole_numbers_are_drawn_where_the_field_takes_them(space):
    found = space.distributions()
    assert isinstance(found["network.levels"], optuna.distributions.IntDistribution)
    assert isinstance(found["network.slope"], optuna.distributions.FloatDistribution)
    assert found["training.learning_rate"].log


def test_nothing_is_varied_in_the_base_itself(space):
    before = space.at_base("training.loss.0.crack")
    space.build({"training.loss.0.crack": 1.75})
    assert space.at_base("training.loss.0.crack") == before == 1.0


def test_a_point_takes_from_the_base_what_it_does_not_name(space):
    point = space.point({"network.levels": 3})
    assert point["network.levels"] == 3
    assert point["network.initialisation"] == "default"
    assert point["network.slope"] == 0.01
    # The base has options of Dice that the choice leaves at their defaults, so it is another value.
    assert "training.loss.1" not in point
    with pytest.raises(ImpossibleError, match=r"network\.levels is 7, which the space does not hold"):
        space.point({"network.levels": 7})
    with pytest.raises(ImpossibleError, match=r"network\.kernel is not varied"):
        space.point({"network.kernel": 3})


@pytest.mark.parametrize(
    ("dimension", "held", "not_held"),
    [
        ({"low": 1, "high": 8, "step": 3}, [1, 4, 7], [2, 8, 2.5, True, "4"]),
        ({"choices": [2, 4]}, [2, 4], [3, 2.0, "2"]),
    ],
)
def test_a_point_has_values_of_the_dimension_alone(dimension, held, not_held):
    space = check(Space({"network.levels": dimension}), Network(), Training(), steps=60, steps_per_epoch=60)
    for value in held:
        assert space.point({"network.levels": value}) == {"network.levels": value}
    for value in not_held:
        with pytest.raises(ImpossibleError):
            space.point({"network.levels": value})


def test_fixed_dimensions_have_no_axis():
    dimensions = {
        "network.levels": {"choices": [4]},
        "network.slope": {"low": 0.1, "high": 0.1},
        "network.kernel": {"choices": [3, 5]},
        "training.learning_rate": {"low": 1e-3, "high": 1e-2, "log": True},
        "training.weight_decay": {"low": 0, "high": 1},
    }
    space = check(Space(dimensions), Network(), Training(), steps=60, steps_per_epoch=60)
    assert space.axes() == {
        "network.kernel": ["3", "5"],
        "training.learning_rate": "log",
        "training.weight_decay": "linear",
    }


@pytest.mark.parametrize(
    ("dimensions", "message"),
    [
        (
            {"network.level": {"choices": [3]}},
            r"network\.level names no field of segmentation\.network; it has .*levels, base_channels",
        ),
        ({"training.loss.2.crack": {"choices": [1.0]}}, r"names no field of segmentation\.training\.loss; it has 0, 1"),
        ({"training.loss.1.crack": {"choices": [1.0]}}, r"segmentation\.training\.loss\.1; it has .*smoothing"),
        ({"training.steps.few": {"choices": [1]}}, r"segmentation\.training\.steps; it has no fields of its own"),
        ({"segmentation.network.levels": {"choices": [3]}}, r"names begin with network\. or training\."),
        ({"training": {"choices": [{}]}}, "name the fields of training one by one"),
        (
            {"network.levels": {"choices": [3, 9]}},
            r"network\.levels cannot be 9: levels: Input should be less than or equal to 8",
        ),
        ({"network.kernel": {"low": 3, "high": 7}}, r"network\.kernel cannot be 4"),
        ({"network.levels": {"low": 2.5, "high": 4}}, r"network\.levels takes whole numbers, but its low is 2\.5"),
        (
            {"training.learning_rate": {"low": -1, "high": 1}},
            r"training\.learning_rate cannot be -1\.0: .*greater than 0",
        ),
        ({"training.optimiser": {"choices": ["adam", "magic"]}}, r"training\.optimiser cannot be 'magic'"),
        (
            {"training.steps": {"choices": [60, 10]}},
            r"training\.steps cannot be 10: steps is 10, fewer than the 60 of steps_per_epoch",
        ),
        (
            {"network": {"choices": [{"name": "unet"}]}, "network.levels": {"choices": [3]}},
            r"network and its part network\.levels",
        ),
        ({"network": {"choices": [{"name": "unet"}, {"name": "vnet"}]}}, r"network cannot be \{'name': 'vnet'\}"),
    ],
)
def test_wrong_names_and_values_are_one_message(dimensions, message):
    with pytest.raises(ValueError, match=f"^segmentation_tuning.space: .*{message}") as caught:
        check(Space(dimensions), Network(), Training(), steps=60, steps_per_epoch=60)
    assert "\n" not in str(caught.value)


def test_a_whole_network_can_be_a_choice():
    networks = [{"name": "unet", "levels": 3}, {"name": "unet", "kernel": 5}]
    space = check(Space({"network": {"choices": networks}}), Network(), Training(), steps=60, steps_per_epoch=60)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    built = {space.build(space.values(study.ask(space.distributions()).params))[0].root for _ in range(20)}
    assert {(network.levels, network.kernel) for network in built} == {(3, 3), (5, 5)}


def test_values_that_do_not_go_together_are_named(space):
    with pytest.raises(ImpossibleError, match=r"learning_rate: Input should be greater than 0"):
        space.build({"training.learning_rate": -math.inf})
