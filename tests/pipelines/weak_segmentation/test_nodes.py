import numpy as np
import pytest

from crack_pipeline.imaging.photograph_stack import CRACK
from crack_pipeline.imaging.simulation import Simulation
from crack_pipeline.models.weights import Weights
from crack_pipeline.pipelines.ingestion.parameters import Dataset, Image, Preset, Presets
from crack_pipeline.pipelines.segmentation import evaluating
from crack_pipeline.pipelines.segmentation.parameters import EncoderWeights, Network, Report, Training
from crack_pipeline.pipelines.segmentation.training import pack_segmenter
from crack_pipeline.pipelines.simulating import Synthetic
from crack_pipeline.pipelines.weak_segmentation import comparing, create_pipeline, labelling, starting, teaching
from crack_pipeline.pipelines.weak_segmentation.parameters import (
    Labels,
    Maps,
    SelfTraining,
    Squares,
    Threshold,
    Way,
)
from crack_pipeline.training.compute import Compute, resolve
from crack_pipeline.training.segmenting import Tiles
from stacks import prepare

ROLES = ["train"] * 8 + ["validation"] * 4 + ["test"] * 4
IMAGE = Image(size=None, mode="rgb", masks="where_given")
TILES = Tiles(size=128, halo=8, blend=2)
TILING = {"size": 32, "min_crack_pixels": 20, "margin": 2}
PRESETS = Presets(
    {
        "masks": Preset.model_validate({"label_from": "mask", "parts": [{"images": "i", "masks": "m"}]}),
        "folders": Preset.model_validate({"classes": {"crack": ["c"], "normal": ["n"]}}),
    }
)
SQUARES = Squares.model_validate({"tiling": TILING, "least": 4})
SIMULATION = Simulation(width=(3, 6), density=1.0, difficulty=(0, 0.2), nuisances=0.0)
SHORT = {"steps": 40, "steps_per_epoch": 20, "batch_size": 8, "average": 0.9, "validation_crops": 16}
START = Training.model_validate({**SHORT, "crop": 32, "learning_rate": 0.02})
TRAINING = Training.model_validate({**SHORT, "crop": 64, "learning_rate": 0.01})
LABELS = Labels.model_validate(
    {
        **{"steps": 60, "steps_per_epoch": 30, "batch_size": 8, "learning_rate": 0.01},
        **{"average": 0.9, "widths": (8, 16), "validation_squares": 16},
    }
)


def photograph(seed, rows=(0, 96), where=20):
    """Sound concrete, and a dark crack from top to bottom over some of its rows."""
    rng = np.random.default_rng(seed)
    image = rng.normal(150, 5, (96, 128, 3)).clip(0, 255).astype(np.uint8)
    mask = np.zeros((96, 128), np.uint8)
    mask[rows[0] : rows[1], where : where + 4] = CRACK
    image[mask == CRACK] = 40
    return image, mask


def photographs():
    return [photograph(seed, rows=(0, 96) if seed % 2 else (0, 0)) for seed in range(16)]


@pytest.fixture(scope="module")
def plan():
    return resolve(Compute(accelerator="cpu", precision="32-true", batch_size=8, workers=0))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("stack"), photographs(), ROLES)


class Nothing:
    def fetch(self, encoder, weights):
        raise AssertionError("nothing is to be fetched")


def nothing_to_load():
    raise FileNotFoundError("there is none")


def train(prepared, plan, checkpoints, way="self_training", start="simulated", dataset="masks", squares=SQUARES):
    """Run the nodes of a training one after the other."""
    network = Network.model_validate({"name": "unet", "levels": 3, "base_channels": 8})
    networks = starting.create_networks(IMAGE, network, EncoderWeights("none"), TRAINING, LABELS, Nothing(), TILES)
    labelled = labelling.label_squares(*prepared, squares, Dataset(dataset), PRESETS)
    fingerprint = labelling.fingerprint_labels(*labelled)
    sound = starting.find_sound_concrete(*labelled, SIMULATION, START)
    how = SelfTraining.model_validate({"start": start, "rounds": 1, "confidence": {"least_pixels": 8}})
    first = starting.learn_start(
        *(*labelled, *sound, fingerprint, *networks, nothing_to_load),
        *(Way(way), how, LABELS, START, plan, checkpoints),
    )
    synthetic = Synthetic(share=0.25, simulation=SIMULATION)
    weights, history, marked = teaching.learn_in_rounds(
        *(*first, labelled[0], sound[1], fingerprint, networks[0], Way(way), how, Maps(windows=(15, 31))),
        *(TRAINING, START, synthetic, TILES, plan, checkpoints),
    )
    threshold = teaching.choose_threshold(weights, sound[1], Threshold(), START, TILES, plan)
    return pack_segmenter(weights, threshold, TILES, TRAINING, plan), history, marked


@pytest.fixture(scope="module")
def trained(prepared, plan, tmp_path_factory):
    return train(prepared, plan, tmp_path_factory.mktemp("checkpoints"))


def dice(segmenter, prepared, plan):
    counts = evaluating.count_test(segmenter, *prepared, TILES, plan)
    return evaluating.measure(counts, segmenter, Report(resamples=5))["sets"]["test"]["dice"]


def test_cracks_are_found_by_a_network_that_has_seen_no_mask(trained, prepared, plan):
    segmenter, history, marked = trained
    assert dice(segmenter, prepared, plan) > 0.7
    assert history["epoch"].tolist() == [0, 1, 2, 3]
    # What it taught itself with is close to the truth that it was not shown.
    learned, truth = marked.mask(1) == CRACK, prepared[0].mask(1) == CRACK
    assert 2 * (learned & truth).sum() / (learned.sum() + truth.sum()) > 0.6


@pytest.mark.parametrize("way", ["published", "maps"])
def test_other_ways_learn_from_labels_alone(way, prepared, plan, tmp_path):
    segmenter, _, _ = train(prepared, plan, tmp_path, way)
    assert dice(segmenter, prepared, plan) > {"published": 0.1, "maps": 0.4}[way]
    assert comparing.keep_way(segmenter).keys() == {way}


def test_labels_may_come_from_folders(prepared, plan, tmp_path):
    segmenter, _, _ = train(prepared, plan, tmp_path, dataset="folders")
    assert dice(segmenter, prepared, plan) > 0.6


def test_no_node_that_trains_or_chooses_can_reach_a_mask():
    """Whatever comes from the photographs with their masks is followed through the graph, labels of squares aside."""
    nodes = create_pipeline().nodes
    tainted, freed = {"weak_segmentation.raw"}, "weak_segmentation.label_squares"
    for node in nodes:
        if node.name != freed and tainted & set(node.inputs):
            tainted |= set(node.outputs)
    chosen = {"create_networks", "learn_start", "learn_in_rounds", "choose_threshold", "pack_segmenter", "keep_way"}
    assert {"weak_segmentation.images", "weak_segmentation.manifest", "weak_segmentation.metrics"} <= tainted
    found = {node.short_name: set(node.inputs) & tainted for node in nodes if node.short_name in chosen}
    assert found == {name: set() for name in chosen}
    assert {node.short_name for node in nodes if "training" in node.tags} <= chosen


def test_other_pixels_in_the_same_squares_give_the_same_network(trained, plan, tmp_path):
    """Masks that say something else of pixels, but the same of squares, change nothing, bit by bit."""
    changed = []
    for image, mask in photographs():
        other = np.zeros_like(mask)
        if mask.any():
            other[:, 2:30] = CRACK
        changed.append((image, other))
    segmenter, _, _ = train(prepare(tmp_path, changed, ROLES), plan, tmp_path)
    assert segmenter.facts["threshold"] == trained[0].facts["threshold"]
    assert all((tensor == segmenter.tensors[name]).all() for name, tensor in trained[0].tensors.items())


@pytest.mark.parametrize(
    ("only", "dataset", "least", "says"),
    [
        (0, "masks", 4, "0 squares with a crack; weak_segmentation.squares.least asks for 4"),
        (1, "folders", 4, "0 photographs without a crack"),
        (None, "folders", 5, "4 photographs with a crack; weak_segmentation.squares.least asks for 5"),
    ],
)
def test_too_few_of_a_kind_teach_nothing(only, dataset, least, says, tmp_path):
    kinds = [photograph(seed, (0, 96) if (seed % 2 if only is None else only) else (0, 0)) for seed in range(16)]
    squares = SQUARES.model_copy(update={"least": least})
    with pytest.raises(ValueError, match=says):
        labelling.label_squares(*prepare(tmp_path, kinds, ROLES), squares, Dataset(dataset), PRESETS)


def test_a_share_of_the_labels_can_be_made_wrong(prepared):
    right, wrong = (
        labelling.label_squares(*prepared, SQUARES.model_copy(update={"wrong": share}), Dataset("masks"), PRESETS)[0]
        for share in (0.0, 0.25)
    )
    assert np.array_equal(right.boxes, wrong.boxes)
    assert (right.cracked != wrong.cracked).sum() == round(0.25 * len(right))


def test_so_many_photographs_of_either_label_are_drawn(prepared):
    squares = SQUARES.model_copy(update={"most": 4, "least": 2})
    train_squares, _ = labelling.label_squares(*prepared, squares, Dataset("folders"), PRESETS)
    assert train_squares.cracked.tolist().count(True) == train_squares.cracked.tolist().count(False) == 2


def test_segmenters_that_there_are_are_compared_and_those_that_know_the_photographs_are_named(trained, prepared, plan):
    segmenter = trained[0]
    cheat = Weights(segmenter.tensors, {**segmenter.facts, "learned_from": ["12", "13"]})
    table = comparing.compare(
        {"self_training_from_simulated": lambda: segmenter}, nothing_to_load, lambda: cheat, *prepared, TILES,
        Report(resamples=5), plan,
    )  # fmt: skip
    assert table.set_index("segmenter")["seen"].to_dict() == {"self_training_from_simulated": 0, "segmentation": 2}
    assert table["dice"].tolist() == [pytest.approx(dice(segmenter, prepared, plan))] * 2
    assert (table["minutes"] > 0).all()
    assert comparing.draw_comparison(table).axes
    line = "segmentation has learned from 2 of these 4 photographs"
    assert any(line in said for said in comparing._lines(table))


def test_without_masks_nothing_is_compared(prepared, plan, trained):
    images, manifest, partition = prepared
    unknown = manifest.assign(crack_pixels=manifest["crack_pixels"].mask(manifest["label"] == "crack"))
    table = comparing.compare(
        {"a": lambda: trained[0]}, nothing_to_load, nothing_to_load, images, unknown, partition, TILES, Report(), plan
    )
    assert table.empty
    assert "cannot be compared" in comparing._lines(table)[-1]
    assert comparing.draw_comparison(table) is not None
