import numpy as np
import pytest

from crack_pipeline.engines.compute import Compute, resolve
from crack_pipeline.imaging.photograph_stack import CRACK
from crack_pipeline.imaging.simulation import Simulation
from crack_pipeline.models.segmenters import create_segmenter
from crack_pipeline.models.weights import Weights
from crack_pipeline.pipelines import label_noise
from crack_pipeline.pipelines.ingestion.parameters import Dataset, Image, Preset, Presets
from crack_pipeline.pipelines.segmentation import evaluating
from crack_pipeline.pipelines.segmentation.parameters import EncoderWeights, Network, Report, Training
from crack_pipeline.pipelines.segmentation.training import pack_segmenter
from crack_pipeline.pipelines.weak_segmentation import (
    comparing,
    create_pipeline,
    labelling,
    measuring,
    starting,
    teaching,
)
from crack_pipeline.pipelines.weak_segmentation.parameters import (
    Labels,
    Maps,
    SelfTraining,
    Squares,
    Threshold,
    Way,
)
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


def train(
    prepared,
    plan,
    checkpoints,
    way="self_training",
    start="simulated",
    dataset="masks",
    squares=SQUARES,
    rule=None,
    label_free=nothing_to_load,
):
    """Run the nodes of a training one after the other."""
    network = Network.model_validate({"name": "unet", "levels": 3, "base_channels": 8})
    how = SelfTraining.model_validate({"start": start, "rounds": 1, "confidence": {"least_pixels": 8}})
    networks = starting.create_networks(IMAGE, network, EncoderWeights("none"), TRAINING, LABELS, Nothing(), TILES)
    labelled = labelling.label_squares(*prepared, squares, Dataset(dataset), PRESETS)
    fingerprint = labelling.fingerprint_labels(*labelled)
    sound = starting.find_sound_concrete(*labelled, networks[0], SIMULATION, START, TRAINING, how)
    first = starting.learn_start(
        *(*labelled, *sound, fingerprint, *networks, label_free),
        *(Way(way), how, LABELS, START, squares, Dataset(dataset), plan, checkpoints),
    )
    weights, history, marked = teaching.learn_in_rounds(
        *(*first, labelled[0], sound[1], fingerprint, networks[0], Way(way), how, Maps(windows=(15, 31))),
        *(SIMULATION, TRAINING, START, TILES, plan, checkpoints),
    )
    threshold = teaching.choose_threshold(weights, sound[1], rule or Threshold(), START, TILES, plan)
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
    kept = comparing.keep_ways(*(segmenter, segmenter, None, Way(way), SelfTraining(), Threshold(), START, TILES, plan))
    assert kept.keys() == {f"{way}-masks"}


def test_a_label_free_segmenter_can_begin_and_what_it_knows_is_said(trained, prepared, plan, tmp_path):
    first = Weights(trained[0].tensors, {**trained[0].facts, "learned_from": ["13"], "masks_used": True})
    segmenter, history, _ = train(
        prepared,
        plan,
        tmp_path,
        start="label_free",
        rule=Threshold(rule="fixed", value=0.9999),
        label_free=lambda: first,
    )
    assert dice(segmenter, prepared, plan) > 0
    assert len(history) == 2
    assert segmenter.facts["learned_from"] == sorted({f"{number:02d}" for number in range(12)} | {"13"})
    assert segmenter.facts["threshold"] == 255 / 256
    table = compared(prepared, plan, {"mine": lambda: segmenter})
    assert table["learned_from"].tolist() == [
        "labels of squares and simulated cracks, on concrete that masks call sound"
    ]
    assert table["seen"].tolist() == [1]
    grey = Weights(first.tensors, {**first.facts, "image": IMAGE.model_copy(update={"mode": "grey"}).model_dump()})
    with pytest.raises(ValueError, match="takes photographs in grey"):
        train(prepared, plan, tmp_path, start="label_free", label_free=lambda: grey)


def test_labels_that_were_changed_are_another_training(prepared):
    def fingerprint(**changed):
        squares = SQUARES.model_copy(update=changed)
        labelled = labelling.label_squares(*prepared, squares, Dataset("masks"), PRESETS)
        return labelling.fingerprint_labels(*labelled)["fingerprint"]

    assert fingerprint() == fingerprint() != fingerprint(wrong=0.1)
    images, manifest, partition = prepared
    swapped = manifest.assign(photo_id=manifest["photo_id"].replace({"00": "02", "02": "00"}))
    labelled = labelling.label_squares(images, swapped, partition, SQUARES, Dataset("masks"), PRESETS)
    assert labelling.fingerprint_labels(*labelled)["fingerprint"] != fingerprint()


def test_labels_of_folders_are_those_of_whole_photographs(prepared):
    squares, validation = labelling.label_squares(*prepared, SQUARES, Dataset("folders"), PRESETS)
    assert squares.whole_photographs and validation.whole_photographs
    assert squares.cracked.tolist() == [bool(row % 2) for row in squares.rows.tolist()]
    assert not labelling.label_squares(*prepared, SQUARES, Dataset("masks"), PRESETS)[0].whole_photographs


LEARNING = {"create_networks", "find_sound_concrete", "learn_start", "learn_in_rounds"}
CHOOSING = {"choose_threshold", "pack_segmenter", "keep_ways"}


@pytest.mark.parametrize(
    ("pipeline", "given", "chosen"),
    [
        (create_pipeline(), {"train_squares", "validation_squares"}, LEARNING | CHOOSING),
        (label_noise.create_pipeline(), {"labelled"}, {"create_networks", "train_segmenters"}),
    ],
)
def test_no_node_that_trains_or_chooses_can_reach_a_mask(pipeline, given, chosen):
    """Whatever comes from the photographs with their masks is followed through the graph, labels of squares aside."""
    (freed,) = (node for node in pipeline.nodes if node.short_name == "label_squares")
    name = freed.namespace
    tainted = {f"{name}.{known}" for known in ("raw", "supervised_segmenter", "ways")}
    for node in pipeline.nodes:
        if node is not freed and tainted & set(node.inputs):
            tainted |= set(node.outputs)
    assert set(freed.outputs) == {f"{name}.{output}" for output in given}
    assert {f"{name}.images", f"{name}.manifest"} <= tainted
    assert {f"{name}.metrics", f"{name}.trainings"} & tainted
    found = {node.short_name: set(node.inputs) & tainted for node in pipeline.nodes if node.short_name in chosen}
    assert found == {name: set() for name in chosen}
    assert {node.short_name for node in pipeline.nodes if "training" in node.tags} <= chosen


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
        (None, "masks", 9, "8 photographs of the role train, too few"),
    ],
)
def test_too_few_of_a_kind_teach_nothing(only, dataset, least, says, tmp_path):
    kinds = [photograph(seed, (0, 96) if (seed % 2 if only is None else only) else (0, 0)) for seed in range(16)]
    squares = SQUARES.model_copy(update={"least": least})
    with pytest.raises(ValueError, match=says):
        labelling.label_squares(*prepare(tmp_path, kinds, ROLES), squares, Dataset(dataset), PRESETS)


def test_cracked_photographs_alone_are_what_is_said_to_be_wrong(tmp_path):
    images, manifest, partition = prepare(tmp_path, [photograph(seed) for seed in range(16)], ROLES)
    unknown = manifest.assign(crack_pixels=manifest["crack_pixels"].mask(manifest["label"] == "crack"))
    with pytest.raises(ValueError, match="0 photographs without a crack"):
        labelling.label_squares(images, unknown, partition, SQUARES, Dataset("folders"), PRESETS)


def test_the_labels_know_nothing_else_of_masks(prepared):
    squares, _ = labelling.label_squares(*prepared, SQUARES, Dataset("masks"), PRESETS)
    for table in (squares.photographs.index, squares.photographs.photos):
        assert not {"crack_pixels", "mask_path"} & set(table)
    assert {"crack_pixels"} <= set(prepared[0].index)


def test_photographs_that_the_rounds_cannot_cut_are_refused_before_anything_is_trained(tmp_path):
    small = [(image[:24, :24], mask[:24, :24]) for image, mask in photographs()]
    images, manifest, partition = prepare(tmp_path, small, ROLES)
    network = Network.model_validate({"name": "unet", "levels": 6, "base_channels": 4})
    segmenter, _ = starting.create_networks(
        IMAGE, network, EncoderWeights("none"), TRAINING, LABELS, Nothing(), Tiles()
    )
    squares = labelling.label_squares(images, manifest, partition, SQUARES, Dataset("folders"), PRESETS)
    how = START.model_copy(update={"crop": 24})
    with pytest.raises(
        ValueError, match="all 8 photographs are smaller than the 32 px that the network takes at least"
    ):
        starting.find_sound_concrete(*squares, segmenter, SIMULATION, how, TRAINING, SelfTraining())


@pytest.mark.parametrize(
    ("part", "values", "says"),
    [
        (Labels, {"steps": 10}, "steps is 10, fewer than the 120"),
        (Maps, {"windows": [0]}, "greater than or equal to 3"),
        (SelfTraining, {"confidence": {"crack": 1.0}}, "less than 1"),
    ],
)
def test_parameters_that_would_do_nothing_are_refused(part, values, says):
    with pytest.raises(ValueError, match=says):
        part.model_validate(values)


def test_what_is_in_both_tables_counts_as_known(trained, prepared, plan):
    images, manifest, _ = prepared
    unknown = manifest.assign(crack_pixels=manifest["crack_pixels"].mask(manifest["label"] == "crack"))
    counts, unmarked = measuring.count_new(trained[0], images, unknown, TILES, plan)
    found = measuring.measure_evaluation(counts, unmarked, trained[0], Report(resamples=2))
    assert found["learned_from"] == 12
    assert "confusion" not in found["photographs"]


@pytest.mark.parametrize(
    ("roles", "tiling", "says"),
    [
        (["train"] * 12 + ["validation"] * 4, 32, "no photograph has the role test"),
        (ROLES, 128, "smaller than a square of 128 px: lower weak_segmentation.squares.tiling.size .* to 96 px"),
    ],
)
def test_what_cannot_end_well_ends_before_anything_is_trained(prepared, roles, tiling, says):
    images, manifest, partition = prepared
    squares = Squares.model_validate({"tiling": {"size": tiling}, "least": 2})
    with pytest.raises(ValueError, match=says):
        labelling.label_squares(images, manifest, partition.assign(role=roles), squares, Dataset("masks"), PRESETS)


def test_photographs_without_masks_are_predicted_and_told_apart_but_have_no_dice(trained, prepared, plan):
    images, manifest, partition = prepared
    unknown = manifest.assign(crack_pixels=manifest["crack_pixels"].mask(manifest["label"] == "crack"))
    counts, unmarked = measuring.count_test(trained[0], images, unknown, partition, TILES, plan)
    report = Report(resamples=5)
    metrics = measuring.measure(counts, unmarked, trained[0], report)
    assert metrics["sets"] == {}
    assert metrics["photographs"]["roc_auc"] == 1
    assert metrics["photographs"]["n"] == {"normal": 2, "crack": 2}
    table = measuring.list_predictions(counts, unmarked, trained[0], report).set_index("image_id")
    assert table["predicted"].to_dict() == {"12": "normal", "13": "crack", "14": "normal", "15": "crack"}
    assert table.loc[["13", "15"], ["dice", "true_crack_share"]].isna().all(axis=None)
    assert (table.loc[["13", "15"], "crack_share"] > 0.01).all()
    with pytest.raises(ValueError, match="none of the photographs is sound or has a mask"):
        measuring.count_new(trained[0], images, unknown[unknown["label"] == "crack"], TILES, plan)


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


def compared(prepared, plan, ways, supervised=nothing_to_load):
    return comparing.compare(ways, nothing_to_load, supervised, *prepared, TILES, Report(resamples=5), plan)


def test_a_segmenter_of_other_photographs_does_not_keep_the_others_from_being_compared(trained, prepared, plan):
    options = {**trained[0].facts["network"], "in_channels": 1}
    grey = Weights(create_segmenter(options).state_dict(), {**trained[0].facts, "network": options})
    table = compared(prepared, plan, {"grey": lambda: grey, "mine": lambda: trained[0]})
    assert table["segmenter"].tolist() == ["mine"]


def test_segmenters_that_there_are_are_compared_and_those_that_know_the_photographs_are_named(trained, prepared, plan):
    segmenter = trained[0]
    cheat = Weights(segmenter.tensors, {**segmenter.facts, "learned_from": ["12", "13"]})
    table = compared(prepared, plan, {"self_training_from_simulated": lambda: segmenter}, lambda: cheat)
    assert table.set_index("segmenter")["seen"].to_dict() == {"self_training_from_simulated": 0, "segmentation": 2}
    assert table["dice"].tolist() == [pytest.approx(dice(segmenter, prepared, plan))] * 2
    assert (table["minutes"] > 0).all()
    assert {text.get_text() for text in comparing.draw_comparison(table).axes[0].get_yticklabels()} == {
        "self training from simulated",
        "segmentation",
    }
    line = "segmentation has learned from 2 of these 4 photographs"
    assert any(line in said for said in comparing._lines(table))


def test_without_masks_nothing_is_compared(prepared, plan, trained):
    images, manifest, partition = prepared
    unknown = manifest.assign(crack_pixels=manifest["crack_pixels"].mask(manifest["label"] == "crack"))
    table = compared((images, unknown, partition), plan, {"a": lambda: trained[0]})
    assert table.empty
    assert "cannot be compared" in comparing._lines(table)[-1]
    assert "no mask of a crack is known" in " ".join(text.get_text() for text in comparing.draw_comparison(table).texts)
