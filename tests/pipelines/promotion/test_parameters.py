import pytest
from kedro.config import OmegaConfigLoader
from pydantic import ValidationError

from crack_pipeline.pipelines.promotion.parameters import MODELS, Promotion


def configured(root, env, **params):
    loader = OmegaConfigLoader(
        str(root / "conf"),
        env=env,
        base_env="base",
        runtime_params={"promotion": params},
        merge_strategy={"parameters": "soft"},
        config_patterns={"parameters": ["parameters*", "parameters*/**"]},
    )
    return Promotion.model_validate(loader["parameters"]["promotion"])


@pytest.mark.parametrize("env", ["base", "paper", "test"])
@pytest.mark.parametrize("model", MODELS)
def test_every_environment_is_valid(pytestconfig, env, model):
    found = configured(pytestconfig.rootpath, env, model=model, version=3)
    assert (found.model, found.version) == (model, 3)
    assert found.criteria.chosen == ("roc_auc" if model == "anomaly" else "dice")
    assert found.criteria.metrics[found.criteria.chosen].least > 0


def test_one_margin_can_be_given_alone(pytestconfig):
    given = {"metrics": {"dice": {"may_lose": 0.2}}}
    found = configured(pytestconfig.rootpath, "base", segmenter=given).segmenter
    assert found.metrics["dice"].may_lose == 0.2 and found.metrics["dice"].least == 0.3 and len(found.metrics) > 1
    with pytest.raises(ValidationError, match="less than or equal to 1"):
        configured(pytestconfig.rootpath, "base", segmenter={"metrics": {"dice": {"may_lose": 2}}})
