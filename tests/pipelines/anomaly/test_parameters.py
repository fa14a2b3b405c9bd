from pathlib import Path

import pytest
from kedro.config import OmegaConfigLoader
from kedro.validation import ParameterValidator
from pydantic import ValidationError

from crack_pipeline.pipelines import anomaly
from crack_pipeline.pipelines.anomaly.parameters import VAE, Report, Scoring, Threshold
from crack_pipeline.settings import CONFIG_LOADER_ARGS

CONF = Path(__file__).parents[3] / "conf"


@pytest.mark.parametrize("env", ["base", "paper", "test"])
def test_every_environment_gives_valid_parameters(env):
    options = {**CONFIG_LOADER_ARGS, "default_run_env": "base"}
    loader = OmegaConfigLoader(str(CONF), env=env, **options)
    pipelines = {
        "anomaly": anomaly.create_pipeline(),
        "predict": anomaly.create_predict_pipeline(),
        "evaluate": anomaly.create_evaluate_pipeline(),
    }
    found = ParameterValidator(pipelines).validate_raw_params(loader["parameters"])["anomaly"]
    assert isinstance(found["vae"], VAE)
    assert isinstance(found["scoring"], Scoring)
    assert isinstance(found["threshold"], Threshold)
    assert isinstance(found["report"], Report)
    if env == "paper":
        assert (found["scoring"].use, found["threshold"].level, found["vae"].epochs) == ("mse", 95, 10)
        assert found["image"].size == 128
    if env == "test":
        assert found["image"].size <= 64


@pytest.mark.parametrize(
    ("model", "wrong"),
    [
        (VAE, {"kernel": 5}),
        (VAE, {"epochs": 0}),
        (VAE, {"channels": []}),
        (VAE, {"learning_rate": 0}),
        (VAE, {"kl_weight": -1}),
        (VAE, {"epoch": 3}),
        (Threshold, {"level": 100}),
        (Threshold, {"rule": "guess"}),
        (Report, {"examples": 0}),
        (Report, {"resamples": -1}),
        (Scoring, {"candidates": []}),
        (Scoring, {"candidates": [{"kind": "mse"}, {"kind": "mse"}]}),
    ],
)
def test_wrong_values_are_refused(model, wrong):
    with pytest.raises(ValidationError):
        model.model_validate(wrong)


def test_an_unknown_score_is_answered_with_those_there_are():
    with pytest.raises(ValidationError, match=r"use is 'best'; it takes auto or one of \['mse'\]"):
        Scoring.model_validate({"candidates": [{"kind": "mse"}], "use": "best"})
