import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from crack_pipeline.datasets import ImageStackDataset
from crack_pipeline.engines.compute import Compute, resolve
from crack_pipeline.evaluation.segmentation_counts import LEVELS
from crack_pipeline.imaging.camera import decode, encode_png
from crack_pipeline.imaging.segmented import Segmentation
from crack_pipeline.models.weights import Weights
from crack_pipeline.pipelines.ingestion.listing import REJECTED
from crack_pipeline.pipelines.ingestion.nodes import build_manifest, decode_photographs, keep_apart
from crack_pipeline.pipelines.ingestion.parameters import Dataset, Image, Presets, Reading
from crack_pipeline.pipelines.segmentation import evaluating, pictures, predicting, training
from crack_pipeline.pipelines.segmentation.parameters import EncoderWeights, Network, Output, Report, Training
from crack_pipeline.training.segmenting import Tiles

IMAGE = Image(size=None, mode="rgb", masks=True)
TILES = Tiles(size=64, halo=4, blend=2)
SMALL = Network.model_validate({"name": "unet", "levels": 2, "base_channels": 2})
PRESETS = Presets.model_validate(
    {
        "pairs": {
            "about": "",
            "label_from": "mask",
            "parts": [{"images": "images", "masks": "masks"}],
            "empty_masks": "sound",
        }
    }
)


class Files:
    """A root in memory."""

    name = "memory"

    def __init__(self, files):
        self.files = files

    def list(self):
        return [(path, len(data), "", "") for path, data in sorted(self.files.items())]

    def read(self, path):
        return self.files[path]


class Nothing:
    """No pretrained weights anywhere."""

    def fetch(self, encoder, weights):
        raise AssertionError("nothing is to be fetched")


def photograph(seed, size=(40, 56), cracked=True):
    rng = np.random.default_rng(seed)
    image = rng.normal(160, 8, (*size, 3)).clip(0, 255).astype(np.uint8)
    mask = np.zeros(size, np.bool_)
    if cracked:
        top = int(rng.integers(5, size[0] - 8))
        mask[top : top + 3] = True
        image[mask] = 30
    return image, mask


@pytest.fixture(scope="module")
def plan():
    return resolve(Compute(accelerator="cpu", precision="32-true", batch_size=4, workers=0))


@pytest.fixture(scope="module")
def source():
    files = {}
    for number in range(8):
        image, mask = photograph(number, cracked=number < 6)
        files[f"images/{number}.png"], files[f"masks/{number}.png"] = encode_png(image), encode_png(mask)
    return Files(files)


@pytest.fixture(scope="module")
def prepared(source, tmp_path_factory):
    """Stack, manifest and partition of eight photographs."""
    paths = [path for path in source.files if path.startswith("images")]
    table = pd.DataFrame(
        {
            "path": paths,
            "label": None,
            "mask_path": [p.replace("images", "masks") for p in paths],
            "source": "",
            "size": 1,
        }
    )
    dataset = ImageStackDataset(filepath=str(tmp_path_factory.mktemp("stack") / "images"))
    for chunk in decode_photographs(source, table, Dataset("pairs"), PRESETS, IMAGE, Reading()):
        dataset.save(chunk)
    images = dataset.load()
    manifest, quarantine = build_manifest(images, keep_apart(images), pd.DataFrame(columns=list(REJECTED)))
    assert quarantine.empty
    partition = manifest[["image_id", "group"]].assign(role=["train"] * 4 + ["validation"] * 2 + ["test"] * 2)
    # a sound photograph in each of two roles, cracks in all
    partition["role"] = ["train", "train", "train", "validation", "test", "validation", "train", "test"]
    return images, manifest, partition


@pytest.fixture(scope="module")
def segmenter(prepared, plan, tmp_path_factory):
    """Trained for a few steps, which is enough for dark bars."""
    how = Training.model_validate(
        {
            "steps": 90,
            "steps_per_epoch": 30,
            "batch_size": 4,
            "crop": 32,
            "average": 0.8,
            "learning_rate": 0.02,
            "validation_crops": 8,
            "augmentation": {"rotation": 0},
        }
    )
    network = Network.model_validate({"name": "unet", "levels": 2, "base_channels": 8})
    initial = training.create_network(IMAGE, network, EncoderWeights("none"), how, Nothing())
    images, manifest, partition = prepared
    fingerprint = training.fingerprint_data(images, manifest, partition, IMAGE)
    weights, history = training.train_segmenter(
        images, manifest, partition, fingerprint, initial, how, plan, tmp_path_factory.mktemp("checkpoints")
    )
    assert len(history) == 3
    counts = evaluating.count_validation(weights, images, manifest, partition, TILES, plan)
    return training.pack_segmenter(weights, evaluating.choose_threshold(counts), TILES, how, plan)


def test_dark_bars_are_found_in_photographs_that_were_not_learned_from(segmenter, prepared, plan):
    counts = evaluating.count_test(segmenter, *prepared, TILES, plan)
    assert len(counts) == 2
    metrics = evaluating.measure(counts, segmenter, Report(resamples=20))
    assert metrics["sets"]["test"]["dice"] > 0.8
    listed = evaluating.list_measured(counts, segmenter, Report(resamples=20, least_pixels=1))
    assert set(listed["image_id"]) == set(counts["image_id"])
    assert (listed["crack_share"] - listed["true_crack_share"]).abs().max() < 0.1
    tracked = evaluating.track_metrics(metrics)
    assert tracked["test.dice"] == {"value": metrics["sets"]["test"]["dice"], "step": 0}


def test_an_evaluation_says_which_photographs_the_segmenter_knows(segmenter, prepared, plan):
    images, manifest, partition = prepared
    counts = evaluating.count_new(segmenter, images, manifest, TILES, plan)
    known = set(partition.loc[partition["role"] != "test", "image_id"])
    report = Report(resamples=20)
    for table, learned in ((counts, 6), (counts[~counts["image_id"].isin(known)], 0)):
        found = evaluating.measure_evaluation(table, segmenter, report)
        assert found["learned_from"] == learned
        text = pictures.summarise_evaluation(found, evaluating.tabulate_widths(table, report), table.head(0))
        assert ("has learned from 6 of the photographs" in text) == bool(learned)


def test_wrong_tiles_are_refused_before_the_first_photograph(segmenter, source, plan):
    table = pd.DataFrame({"path": ["images/0.png"]})
    wrong = TILES.model_copy(update={"size": 16})
    with pytest.raises(ValueError, match=r"tiles\.size is 16 px"):
        list(predicting.segment_photographs(source, table, segmenter, Reading(), wrong, Output(), plan))


def test_a_prediction_is_that_of_the_evaluation_and_goes_on_after_a_broken_file(segmenter, prepared, source, plan):
    images, manifest, _ = prepared
    files = {path: data for path, data in source.files.items() if path.startswith("images")}
    files |= {"images/0_again.png": files["images/0.png"], "images/broken.png": files["images/1.png"][:99]}
    table = pd.DataFrame({"path": sorted(files)})
    chunks = list(
        predicting.segment_photographs(
            Files(files), table, segmenter, Reading(), TILES, Output(overlays=False, probabilities=True), plan
        )
    )
    assert [chunk.number for chunk in chunks] == list(range(10))
    assert [chunk.last for chunk in chunks] == [False] * 9 + [True]
    rejected = {path: kind for chunk in chunks for path, kind, _ in chunk.rejected}
    assert rejected == {"images/0_again.png": "copy", "images/broken.png": "damaged"}
    found = {one.path: one for chunk in chunks for one in chunk.photographs}
    counts = evaluating.count_new(segmenter, images, manifest, TILES, plan).set_index("path")
    for path, one in found.items():
        levels = counts.loc[path, "background_levels"] + counts.loc[path, "crack_levels"]
        assert set(one.files) == {"mask", "probability"}
        mask, probability = (decode(one.files[name], colour=False) for name in ("mask", "probability"))
        assert (np.bincount(probability.ravel(), minlength=LEVELS) == levels).all()
        assert one.facts["crack_pixels"] == (mask == 255).sum()


def test_a_folder_without_photographs_gives_one_empty_chunk(segmenter, plan):
    empty = pd.DataFrame({"path": []})
    (chunk,) = predicting.segment_photographs(Files({}), empty, segmenter, Reading(), TILES, Output(), plan)
    assert chunk.last and not chunk.photographs
    listed = predicting.list_predictions(Segmentation(pd.DataFrame(columns=["path"]), pd.DataFrame()), Report())
    assert listed.empty
    assert "no photograph" in predicting.summarise_predictions(listed, pd.DataFrame(), segmenter)


def test_other_masks_give_another_fingerprint(prepared):
    images, manifest, partition = prepared

    class Changed:
        index = images.index

        def mask(self, row):
            mask = np.array(images.mask(row))
            mask[0, 0] ^= row == 3
            return mask

    same = training.fingerprint_data(images, manifest, partition, IMAGE)
    assert same == training.fingerprint_data(images, manifest, partition, IMAGE)
    assert training.fingerprint_data(Changed(), manifest, partition, IMAGE) != same


@pytest.mark.parametrize("role", ["train", "validation", "test"])
def test_a_role_without_photographs_is_refused_before_the_training(prepared, role):
    images, manifest, partition = prepared
    with pytest.raises(ValueError, match=f"no photograph has the role {role}"):
        training.fingerprint_tested_data(images, manifest, partition[partition["role"] != role], IMAGE)


@pytest.mark.parametrize(
    ("role", "message"),
    [("validation", "no photograph has the role validation"), ("train", "the role train shows a crack")],
)
def test_roles_that_cannot_be_learned_from_are_refused(prepared, plan, tmp_path, role, message):
    images, manifest, partition = prepared
    if role == "validation":
        partition = partition[partition["role"] != role]
    else:
        manifest = manifest.assign(crack_pixels=0)
    how = Training.model_validate({"steps": 1, "steps_per_epoch": 1})
    initial = training.create_network(IMAGE, SMALL, EncoderWeights("none"), how, Nothing())
    with pytest.raises(ValueError, match=message):
        training.train_segmenter(images, manifest, partition, {"fingerprint": ""}, initial, how, plan, tmp_path)


def test_a_network_takes_the_channels_of_the_photographs():
    grey = training.create_network(
        Image(size=None, mode="grey", masks=True), SMALL, EncoderWeights("none"), Training(), Nothing()
    )
    assert grey.facts["network"]["in_channels"] == 1
    assert training.rebuild(grey)(torch.zeros(1, 1, 5, 7)).shape == (1, 1, 5, 7)


def test_the_seed_decides_the_first_weights():
    def weights(seed):
        return training.create_network(
            IMAGE, SMALL, EncoderWeights("none"), Training.model_validate({"seed": seed}), Nothing()
        ).tensors

    assert all(torch.equal(one, other) for one, other in zip(weights(3).values(), weights(3).values(), strict=True))
    assert any(not torch.equal(one, other) for one, other in zip(weights(3).values(), weights(4).values(), strict=True))


def test_tiles_that_are_too_small_for_the_network_are_refused_before_anything_is_trained():
    with pytest.raises(ValueError, match=r"tiles\.size is 24 px; .* of stride 2 it must be at least 56 px"):
        training.create_network(
            IMAGE, SMALL, EncoderWeights("none"), Training(), Nothing(), Tiles(size=24, halo=20, blend=4)
        )


def test_weights_for_a_network_without_an_encoder_are_refused():
    with pytest.raises(ValueError, match="imagenet cannot be used: the network has no encoder"):
        training.create_network(IMAGE, SMALL, EncoderWeights("imagenet"), Training(), Nothing())


def test_an_encoder_begins_with_the_weights_that_are_named():
    network = Network.model_validate({"name": "encoder", "encoder": "resnet18", "decoder_channels": [8, 8, 8, 8, 8]})
    plain = training.create_network(IMAGE, network, EncoderWeights("none"), Training(), Nothing())
    first = next(name for name in plain.tensors if name.endswith("conv1.weight"))
    prefix = first.removesuffix("conv1.weight")
    there = {
        name.removeprefix(prefix): torch.full_like(tensor, 0.5)
        for name, tensor in plain.tensors.items()
        if name.startswith(prefix)
    }

    class Kept:
        def fetch(self, encoder, weights):
            assert (encoder, weights) == ("resnet18", "some.pth")
            return there

    loaded = training.create_network(IMAGE, network, EncoderWeights("some.pth"), Training(), Kept())
    assert (loaded.tensors[first] == 0.5).all()


@given(arrays(np.int64, LEVELS, elements=st.integers(0, 60)))
def test_a_photograph_is_scored_by_its_likeliest_pixels(counts):
    values = np.repeat((np.arange(LEVELS) + 0.5) / LEVELS, counts)
    expected = np.sort(values)[-100:].mean() if len(values) else 0.0
    assert predicting.likeliest(counts) == pytest.approx(expected)


def test_crops_are_no_larger_than_most_photographs(prepared):
    images, manifest, _ = prepared
    rows = manifest["row"].to_numpy()
    assert training.crop_side(images, rows, 256, 16) == 48
    assert training.crop_side(images, rows, 32, 16) == 32
    assert training.crop_side(images, rows, 39, 16) == 48
    assert training.crop_side(images, rows, 39, 16, inside=True) == 32


def test_predictions_are_listed_with_the_most_cracked_first():
    table = pd.DataFrame(
        {
            "path": ["a", "b", "c"],
            "image_id": ["1", "2", "3"],
            "width": 10,
            "height": 10,
            "crack_pixels": [5, 40, 20],
            "score": [0.2, 0.9, 0.5],
            "mask": ["a.png", "b.png", "c.png"],
        }
    )
    listed = predicting.list_predictions(Segmentation(table, pd.DataFrame()), Report(least_pixels=20))
    assert listed["path"].tolist() == ["b", "c", "a"]
    assert listed["predicted"].tolist() == ["crack", "crack", "normal"]
    assert listed["crack_share"].tolist() == [0.4, 0.2, 0.05]
    text = predicting.summarise_predictions(listed, pd.DataFrame(), Weights({}, {"threshold": 0.5}))
    assert "2 of 3 photographs show cracks" in text
