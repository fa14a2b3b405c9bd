import pytest
from kedro.config import OmegaConfigLoader
from pydantic import ValidationError

from crack_pipeline.pipelines.ingestion.parameters import Image
from crack_pipeline.pipelines.ingestion.partition import Partition
from crack_pipeline.pipelines.segmentation.parameters import EncoderWeights, Network, Output, Report, Training
from crack_pipeline.pipelines.simulating import Synthetic
from crack_pipeline.training.segmenting import Tiles

MODELS = {
    "image": Image,
    "partition": Partition,
    "network": Network,
    "encoder_weights": EncoderWeights,
    "synthetic": Synthetic,
    "training": Training,
    "tiles": Tiles,
    "report": Report,
    "output": Output,
}


def configured(root, env, **params):
    loader = OmegaConfigLoader(
        str(root / "conf"),
        env=env,
        base_env="base",
        runtime_params=params,
        merge_strategy={"parameters": "soft"},
        config_patterns={"parameters": ["parameters*", "parameters*/**"]},
    )
    found = loader["parameters"]["segmentation"]
    assert set(found) == set(MODELS)
    return {name: model.model_validate(found[name]) for name, model in MODELS.items()}


@pytest.mark.parametrize("env", ["base", "test"])
def test_every_environment_is_valid(pytestconfig, env):
    assert configured(pytestconfig.rootpath, env)["image"].masks


def test_the_published_systems_are_what_is_published(pytestconfig):
    tuned = configured(pytestconfig.rootpath, "paper")
    assert (tuned["network"].root.levels, tuned["network"].root.kernel, tuned["network"].root.patch) == (6, 3, 1)
    assert (tuned["network"].root.activation, tuned["network"].root.slope) == ("leaky_relu", 0.375)
    assert tuned["network"].root.initialisation == "he_normal"
    assert tuned["synthetic"].share == 0
    how = tuned["training"]
    assert (how.optimiser, how.learning_rate, how.batch_size) == ("adam", 1e-4, 20)
    assert [(term.kind, term.background, term.crack) for term in how.loss] == [("cross_entropy", 0.9, 1.1)]

    classic = configured(pytestconfig.rootpath, "paper", published="classic")
    assert (classic["network"].root.activation, classic["network"].root.patch) == ("relu", 1)
    assert (classic["training"].optimiser, classic["training"].crop) == ("adam", 256)
    assert [(term.kind, term.crack) for term in classic["training"].loss] == [("cross_entropy", 1.0)]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": 10, "steps_per_epoch": 20}, "steps is 10, fewer than the 20"),
        ({"loss": []}, "at least 1 item"),
        ({"loss": [{"kind": "hinge"}]}, "'cross_entropy', 'dice', 'focal', 'cldice'"),
        ({"average": 1.0}, "less than 1"),
        ({"augmentation": {"contrast": 1.0}}, "less than 1"),
        ({"optimiser": "lion"}, "'adam', 'adamw'"),
        ({"epochs": 3}, "Extra inputs"),
    ],
)
def test_wrong_values_are_named(wrong, message):
    with pytest.raises(ValidationError, match=message):
        Training.model_validate(wrong)


def test_the_last_epoch_is_a_whole_one():
    assert Training.model_validate({"steps": 61, "steps_per_epoch": 20}).epochs == 4


def test_an_encoder_that_is_not_used_is_mentioned(caplog):
    for _ in range(2):
        assert Network.model_validate({"name": "unet", "encoder": "resnet152"}).root.name == "unet"
    assert caplog.text.count("network.encoder is resnet152, and not used: that takes network.name: encoder") == 1


def test_another_network_passes_over_the_options_that_base_gives_this_one(pytestconfig):
    chosen = {"name": "encoder", "encoder": "resnet18", "decoder": "linknet"}
    network = configured(pytestconfig.rootpath, "test", segmentation={"network": chosen})["network"].root
    assert (network.name, network.encoder, network.decoder) == ("encoder", "resnet18", "linknet")
    for wrong in ({**chosen, "level": 3}, {"name": "unet", "level": 3}):
        with pytest.raises(ValidationError, match="Extra inputs"):
            Network.model_validate(wrong)
