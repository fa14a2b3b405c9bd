import pytest
from kedro.config import OmegaConfigLoader
from pydantic import ValidationError

from crack_pipeline.pipelines.weak_segmentation.parameters import Settings


def configured(root, env):
    loader = OmegaConfigLoader(
        str(root / "conf"),
        env=env,
        base_env="base",
        merge_strategy={"parameters": "soft"},
        config_patterns={"parameters": ["parameters*", "parameters*/**"]},
    )
    return loader["parameters"]["weak_segmentation"]


def settings(found):
    return Settings.model_validate({name: found[name] for name in Settings.model_fields})


@pytest.mark.parametrize("env", ["base", "test", "paper"])
def test_every_environment_is_valid(pytestconfig, env):
    assert settings(configured(pytestconfig.rootpath, env)).image.size is None


def test_the_published_settings(pytestconfig):
    found = settings(configured(pytestconfig.rootpath, "paper"))
    assert str(found.way) == "published"
    network = found.network.root
    assert (network.name, network.encoder, network.decoder) == ("encoder", "resnet50", "unet")
    assert (str(found.encoder_weights), found.labels.pooling, found.labels.optimiser) == ("none", "highest", "adam")


def test_an_unknown_parameter_is_refused(pytestconfig):
    found = configured(pytestconfig.rootpath, "base")
    with pytest.raises(ValidationError, match="wrng"):
        settings({**found, "squares": {**found["squares"], "wrng": 0.1}})
