from pathlib import Path

import pytest
import yaml
from kedro.config import OmegaConfigLoader
from kedro.validation import ParameterValidator
from kedro.validation.exceptions import ParameterValidationError
from pydantic import ValidationError

from crack_pipeline.errors import explain_parameters
from crack_pipeline.pipelines.segmentation_tuning import create_pipeline
from crack_pipeline.pipelines.segmentation_tuning.nodes import check_space
from crack_pipeline.pipelines.segmentation_tuning.parameters import Dimension, Search, Space
from crack_pipeline.settings import CONFIG_LOADER_ARGS

CONF = Path(__file__).parents[3] / "conf"


def parameters(runtime=None, env="base"):
    """Read the project's parameters as Kedro does, with those of the command line."""
    options = {**CONFIG_LOADER_ARGS, "default_run_env": env}
    config = OmegaConfigLoader(str(CONF), runtime_params=runtime or {}, **options)["parameters"]
    return ParameterValidator({"segmentation_tuning": create_pipeline()}).validate_raw_params(config)


@pytest.mark.parametrize("env", ["base", "test", "paper"])
def test_the_space_of_the_configuration_fits_the_segmenter(env):
    found = parameters(env=env)
    tuning, base = found["segmentation_tuning"], found["segmentation"]
    space = check_space(tuning["space"], tuning["search"], base["network"], base["training"])
    for point in tuning["search"].first:
        assert set(point) <= set(space.point(point))
    published = {
        "network.levels",
        "network.kernel",
        "network.slope",
        "network.initialisation",
        "training.optimiser",
        "training.learning_rate",
        "training.loss.0.background",
        "training.loss.0.crack",
    }
    assert published <= set(space.distributions())


def test_the_command_line_narrows_a_range_and_takes_a_dimension_out():
    changed = {"network": {"slope": None}, "training": {"learning_rate": {"high": 0.005}}}
    space = parameters({"segmentation_tuning": {"space": changed}})["segmentation_tuning"]["space"].root
    assert space["training.learning_rate"] == Dimension(low=0.0001, high=0.005, log=True)
    assert "network.slope" not in space and "network.levels" in space


def test_an_environment_turns_choices_into_a_range_and_back(tmp_path):
    spaces = {
        "base": {"a.b": {"choices": [1, 2]}, "a.c": {"low": 1, "high": 2, "log": True}},
        "own": {"a.c": {"choices": [5], "low": None, "high": None}, "a.b": {"choices": None, "low": 3, "high": 4}},
    }
    for name, space in spaces.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "parameters.yml").write_text(yaml.safe_dump({"space": space}))
    options = {**CONFIG_LOADER_ARGS, "default_run_env": "own"}
    merged = OmegaConfigLoader(str(tmp_path), **options)["parameters"]["space"]
    assert Space(merged).model_dump() == {"a.b": {"low": 3, "high": 4}, "a.c": {"choices": [5]}}


def test_a_space_is_written_as_it_is_read():
    given = {
        "network.levels": {"choices": [1, 2]},
        "a": {"low": 0.1, "high": 2.0, "log": True},
        "b": {"low": 1, "high": 9, "step": 2},
    }
    assert Space(given).model_dump(mode="json") == given


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"a": {"low": 2, "high": 1}}, "low is 2, more than high, 1"),
        ({"a": {"low": 0, "high": 1, "log": True}}, "low is 0: with log it must be above 0"),
        ({"a": {"low": 1, "high": 9, "log": True, "step": 2}}, "step and log do not go together"),
        ({"a": {"low": 1, "hihg": 9}}, "hihg"),
        ({"a": {"low": 1}}, "needs choices, or low and high"),
        ({"a": {"low": 1, "high": 2, "choices": [1]}}, "has choices and a range"),
        ({"a": {"choices": []}}, "at least 1 item"),
        ({"a": {"choices": [1, 2, 1]}}, "1 is twice among the choices"),
        ({"network": {"levels": [3]}}, r"network.levels is \[3\]: write {choices"),
        ({}, "at least 1 item"),
        ({"a": None}, "at least 1 item"),
    ],
)
def test_a_wrong_space_is_refused(space, message):
    with pytest.raises(ValidationError, match=message):
        Space(space)


def test_a_wrong_range_is_one_line_with_its_name():
    with pytest.raises(ParameterValidationError) as caught:
        parameters({"segmentation_tuning": {"space": {"network": {"slope": {"low": 0.9}}}}})
    message = explain_parameters(str(caught.value))
    assert len(message.splitlines()) == 1
    assert message == "segmentation_tuning.space.`network.slope`: low is 0.9, more than high, 0.5"


def test_an_unknown_name_is_refused():
    with pytest.raises(ValidationError, match="trails"):
        Search.model_validate({"trails": 3})
