import numpy as np
import pytest
import torch

from crack_pipeline.engines.compute import Compute, resolve
from crack_pipeline.imaging.photograph_stack import CRACK
from crack_pipeline.imaging.simulation import Simulation
from crack_pipeline.models.picture_vae import PictureVAE
from crack_pipeline.models.weights import Weights
from crack_pipeline.pipelines.ingestion.parameters import Image
from crack_pipeline.pipelines.label_free import nodes
from crack_pipeline.pipelines.segmentation import evaluating, training
from crack_pipeline.pipelines.segmentation.parameters import EncoderWeights, Network, Report, Training
from crack_pipeline.pipelines.simulating import NOTHING, Synthetic, share_beside
from crack_pipeline.training.learned_squares import normal_prior
from crack_pipeline.training.segmenting import Tiles
from stacks import prepare

IMAGE = Image(size=None, mode="rgb", masks=True)
TILES = Tiles(size=128, halo=8, blend=2)
SIMULATION = Simulation(width=(3, 6), density=1.0, difficulty=(0, 0.2), nuisances=0.0)
TRAINING = Training.model_validate(
    {
        "steps": 80,
        "steps_per_epoch": 40,
        "batch_size": 8,
        "crop": 32,
        "average": 0.9,
        "learning_rate": 0.02,
        "validation_crops": 16,
    }
)


class Nothing:
    """No pretrained weights anywhere."""

    def fetch(self, encoder, weights):
        raise AssertionError("nothing is to be fetched")


def photograph(seed, mark=None, size=(96, 112)):
    """Sound concrete in its right half, in its left one a real crack: white in the photograph where asked for."""
    rng = np.random.default_rng(seed)
    image = rng.normal(150, 5, (*size, 3)).clip(0, 255).astype(np.uint8)
    mask = np.zeros(size, np.uint8)
    mask[:, 20:24] = CRACK
    image[mask == CRACK] = 40 if mark is None else mark
    return image, mask


@pytest.fixture(scope="module")
def plan():
    return resolve(Compute(accelerator="cpu", precision="32-true", batch_size=8, workers=0))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    photographs = [photograph(seed) for seed in range(6)]
    return prepare(tmp_path_factory.mktemp("stack"), photographs, ["train"] * 3 + ["validation"] + ["test"] * 2)


def learn(prepared, plan, checkpoints):
    squares = nodes.find_sound_concrete(*prepared, SIMULATION, TRAINING)
    network = Network.model_validate({"name": "unet", "levels": 3, "base_channels": 8})
    initial = training.create_network(IMAGE, network, EncoderWeights("none"), TRAINING, Nothing())
    fingerprint = {"fingerprint": "the same"}
    weights, history = nodes.train_segmenter(*squares, prepared[1], fingerprint, initial, TRAINING, plan, checkpoints)
    threshold = nodes.choose_simulated_threshold(weights, squares[1], TRAINING, TILES, plan)
    return training.pack_segmenter(weights, threshold, TILES, TRAINING, plan), history


@pytest.fixture(scope="module")
def learned(prepared, plan, tmp_path_factory):
    return learn(prepared, plan, tmp_path_factory.mktemp("checkpoints"))


def test_real_cracks_are_found_by_a_network_that_has_never_seen_one(learned, prepared, plan):
    segmenter, history = learned
    assert len(history) == 2
    counts = evaluating.count_test(segmenter, *prepared, TILES, plan)
    metrics = evaluating.measure(counts, segmenter, Report(resamples=5))
    assert metrics["sets"]["test"]["dice"] > 0.6
    assert segmenter.facts["learned_from"] == ["00", "01", "02", "03"]
    assert segmenter.facts["masks_used"]


def test_nothing_is_learned_from_real_cracks(learned, plan, tmp_path):
    """Photographs with other pixels where their masks say crack give the same network, bit by bit."""
    changed = [photograph(seed, mark=255) for seed in range(6)]
    other = prepare(tmp_path, changed, ["train"] * 3 + ["validation"] + ["test"] * 2)
    segmenter, _ = learn(other, plan, tmp_path)
    assert segmenter.facts["threshold"] == learned[0].facts["threshold"]
    assert all((tensor == segmenter.tensors[name]).all() for name, tensor in learned[0].tensors.items())


def test_squares_of_training_and_validation_come_from_their_own_photographs(prepared):
    train, validation = nodes.find_sound_concrete(*prepared, SIMULATION, TRAINING)
    assert set(train.places.rows.tolist()) == {0, 1, 2}
    assert set(validation.places.rows.tolist()) == {3}


@pytest.mark.parametrize(
    ("roles", "crop", "widest", "says"),
    [
        (["train"] * 6, 32, 6, "no photograph has the role validation"),
        (["train"] * 3 + ["validation"] * 3, 104, 6, "smaller than a square of 104 px: lower the crop to 96 px"),
        (["train"] * 3 + ["validation"] * 3, 96, 6, "no square of 96 px without a crack in the 3 photographs"),
        (["train"] * 3 + ["validation"] * 3, 32, 20, "up to 20 px wide, more than half of a square of 32 px"),
    ],
)
def test_where_there_is_nothing_to_draw_on_the_message_says_what_to_do(prepared, roles, crop, widest, says):
    images, manifest, partition = prepared
    how = TRAINING.model_copy(update={"crop": crop})
    simulation = SIMULATION.model_copy(update={"width": (2, widest)})
    with pytest.raises(ValueError, match=says):
        nodes.find_sound_concrete(images, manifest, partition.assign(role=roles), simulation, how)


def test_simulated_cracks_can_be_mixed_into_a_training_with_masks(prepared, plan, tmp_path):
    network = Network.model_validate({"name": "unet", "levels": 2, "base_channels": 4})
    initial = training.create_network(IMAGE, network, EncoderWeights("none"), TRAINING, Nothing())
    synthetic = Synthetic(share=0.5, simulation=SIMULATION)
    images, manifest, partition = prepared
    manifest = manifest.assign(crack_pixels=100)
    admixture = training.prepare_admixture(images, manifest, partition, initial, synthetic, TRAINING, None)
    how = TRAINING.model_copy(update={"steps": 2, "steps_per_epoch": 1})
    results = [
        training.train_segmenter(
            images, manifest, partition, {"fingerprint": ""}, initial, how, plan, tmp_path / name, mixed
        )[0]
        for name, mixed in (("plain", NOTHING), ("mixed", admixture))
    ]
    assert any((one != results[1].tensors[name]).any() for name, one in results[0].tensors.items())
    nothing = training.prepare_admixture(images, manifest, partition, initial, Synthetic(), TRAINING, None)
    assert nothing == NOTHING
    assert admixture.share == 0.5
    automatic = Synthetic(share="auto", simulation=SIMULATION)
    few = training.prepare_admixture(images, manifest, partition, initial, automatic, TRAINING, None)
    assert few.share == 10 / (10 + (partition["role"] == "train").sum())


def test_the_more_real_photographs_there_are_the_fewer_squares_are_synthetic():
    shares = [share_beside("auto", number) for number in (0, 10, 30, 300)]
    assert shares[:2] == [1.0, 0.5]
    assert shares == sorted(shares, reverse=True) and shares[-1] < 0.05
    assert share_beside(0.3, 300) == 0.3


def generator(size=32, learned_from=(), **options):
    """A packed generator, as the pipeline synthesis makes it."""
    facts = {"size": size, "image_channels": 3, "masks": True, "base_channels": 4, "latent": 16} | options
    torch.manual_seed(0)
    tensors = {f"network.{name}": tensor for name, tensor in PictureVAE(**facts).state_dict().items()}
    prior = vars(normal_prior(16))
    tensors |= {f"prior.{name}": torch.from_numpy(values) for name, values in prior.items()}
    return Weights(tensors, {"network": facts, "learned_from": list(learned_from)})


@pytest.fixture
def mix(prepared):
    images, manifest, partition = prepared
    network = Network.model_validate({"name": "unet", "levels": 2, "base_channels": 4})
    initial = training.create_network(IMAGE, network, EncoderWeights("none"), TRAINING)

    def mixed(weights):
        synthetic = Synthetic(share=0.5, generator="learned")
        return training.prepare_admixture(images, manifest, partition, initial, synthetic, TRAINING, lambda: weights)

    return mixed


def test_learned_pictures_can_be_mixed_into_a_training_with_masks(mix, prepared, plan, tmp_path):
    images, manifest, partition = prepared
    admixture = mix(generator(learned_from=partition.loc[partition["role"] == "train", "image_id"]))
    network = Network.model_validate({"name": "unet", "levels": 2, "base_channels": 4})
    initial = training.create_network(IMAGE, network, EncoderWeights("none"), TRAINING)
    how = TRAINING.model_copy(update={"steps": 2, "steps_per_epoch": 1})
    manifest = manifest.assign(crack_pixels=100)
    plain, mixed = (
        training.train_segmenter(
            images, manifest, partition, {"fingerprint": ""}, initial, how, plan, tmp_path / name, what
        )[0]
        for name, what in (("plain", NOTHING), ("mixed", admixture))
    )
    assert any((one != mixed.tensors[name]).any() for name, one in plain.tensors.items())
    other = generator()
    other.tensors["prior.means"] += 1
    # A training that was interrupted must not go on with the pictures of another generator.
    assert mix(generator()).identity == admixture.identity != mix(other).identity


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"size": 64}, "pictures of 64 px, and the crops have 32 px: set segmentation.training.crop to 64, or train"),
        ({"image_channels": 1}, "does not draw in rgb: train another one with synthesis.image.mode=rgb"),
        ({"masks": False}, "knows no masks: train another one with synthesis.image.masks=true"),
    ],
)
def test_a_generator_of_other_pictures_is_refused(mix, options, says):
    with pytest.raises(ValueError, match=says):
        mix(generator(**options))


@pytest.mark.parametrize("role", ["validation", "test"])
def test_a_generator_that_has_seen_what_is_to_judge_is_refused(mix, prepared, role):
    _, _, partition = prepared
    seen = partition.loc[partition["role"] == role, "image_id"]
    with pytest.raises(ValueError, match=rf"that are here to judge what is learned \({len(seen)} {role}\)"):
        mix(generator(learned_from=seen))
