import logging
import math

import numpy as np
import pandas as pd
import pytest

from crack_pipeline.engines.compute import Compute, resolve
from crack_pipeline.imaging import simulation
from crack_pipeline.imaging.photograph_stack import CRACK
from crack_pipeline.models.weights import Weights
from crack_pipeline.pipelines.ingestion.parameters import Dataset, Preset, Presets
from crack_pipeline.pipelines.label_noise import nodes
from crack_pipeline.pipelines.label_noise.parameters import LabelNoise
from crack_pipeline.pipelines.weak_segmentation import labelling
from crack_pipeline.pipelines.weak_segmentation.parameters import Settings
from stacks import prepare

ROLES = ["train"] * 8 + ["validation"] * 4 + ["test"] * 4
PRESETS = Presets({"folders": Preset.model_validate({"classes": {"crack": ["c"], "normal": ["n"]}})})
TILING = {"size": 32, "min_crack_pixels": 20, "margin": 2}
SHORT = {"steps": 2, "steps_per_epoch": 2, "batch_size": 4, "crop": 32, "average": 0, "validation_crops": 4}
SETTINGS = Settings.model_validate(
    {
        "image": {"size": None, "mode": "rgb", "masks": "where_given"},
        "way": "self_training",
        "squares": {"least": 4},
        "self_training": {"rounds": 1},
        "maps": {},
        "labels": {"steps": 2, "steps_per_epoch": 2, "batch_size": 4, "widths": [4]},
        "simulation": {"width": [2, 5]},
        "network": {"name": "unet", "levels": 2, "base_channels": 2},
        "encoder_weights": "none",
        "start": SHORT,
        "training": SHORT,
        "threshold": {},
        "tiles": {"size": 64, "halo": 4, "blend": 2},
        "report": {"resamples": 20},
    }
)


class Nothing:
    def fetch(self, encoder, weights):
        raise AssertionError("nothing is to be fetched")


def nothing_to_load():
    raise FileNotFoundError("there is none")


def photograph(seed, cracked):
    image = np.random.default_rng(seed).normal(150, 5, (64, 64, 3)).clip(0, 255).astype(np.uint8)
    mask = np.zeros((64, 64), np.uint8)
    if cracked:
        mask[:, 20:24] = CRACK
    image[mask == CRACK] = 40
    return image, mask


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("stack"), [photograph(seed, seed % 2) for seed in range(16)], ROLES)


def study(prepared, folder, noise, settings=SETTINGS, presets=PRESETS, dataset="folders", precision="32-true"):
    plan = resolve(Compute(accelerator="cpu", precision=precision, batch_size=4, workers=0))
    networks = nodes.create_networks(settings, Nothing(), noise)
    labelled = nodes.label_squares(*prepared, networks, settings, Dataset(dataset), presets, noise)
    segmenters = nodes.train_segmenters(labelled, networks, nothing_to_load, settings, Dataset(dataset), plan, folder)
    return nodes.measure_segmenters(segmenters, labelled, *prepared, settings, plan)


def test_every_share_is_trained_and_measured_and_an_interrupted_study_repeats_nothing(prepared, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    first = study(prepared, tmp_path, LabelNoise(wrong=(0.25, 0.0)))
    assert first["wrong"].tolist() == [0, 0.25]
    assert (first["labels"] == 8).all()
    assert (first["cracked"] == 4).all()
    assert first["cracked_right"].tolist() == [1, 0.75]
    assert (first["photographs"] == 4).all()
    assert first["dice"].between(0, 1).all()
    assert [path.suffix for path in tmp_path.rglob("*")] == 2 * [".pt"]
    assert any("2 of 8 labels are turned" in record.getMessage() for record in caplog.records)
    caplog.clear()
    whole = study(prepared, tmp_path, LabelNoise(wrong=(0.0, 0.25), seeds=2))
    begun = [line for line in caplog.messages if line.startswith("training ") and "wrong" in line]
    assert [line.split(":")[0] for line in begun] == ["training 3 of 4", "training 4 of 4"]
    pd.testing.assert_frame_equal(whole.head(2), first)


def test_what_decides_a_result_makes_another_training(prepared, tmp_path, monkeypatch):
    begun = []
    monkeypatch.setattr(nodes.starting, "learn_start", lambda *_: begun.append(1) or (SETTINGS, None))
    monkeypatch.setattr(nodes.teaching, "learn_in_rounds", lambda *_: (SETTINGS, None, None))
    monkeypatch.setattr(nodes.teaching, "choose_threshold", lambda *_: {})
    monkeypatch.setattr(nodes, "pack_segmenter", lambda *_: Weights({}, {}))
    monkeypatch.setattr(nodes, "measure_segmenter", lambda *_: {"dice": 0.5, "dice_low": None, "photographs": 4})

    def trainings(settings=None, tiling=None, **changed):
        begun.clear()
        known = SETTINGS if settings is None else Settings.model_validate({**SETTINGS.model_dump(), **settings})
        cut = {"label_from": "mask", "parts": [{"images": "i", "masks": "m"}], "tiling": {**TILING, **(tiling or {})}}
        presets = Presets({"squares": Preset.model_validate(cut)})
        found = study(prepared, tmp_path, LabelNoise(wrong=(0.1,)), known, presets, "squares", **changed)
        assert found["dice_low"].dtype == np.float64
        return len(begun)

    assert trainings() == 1
    assert trainings() == trainings(settings={"report": {"resamples": 20, "examples": 9}}) == 0
    assert trainings(tiling={"size": 16}) == 1
    assert trainings(precision="bf16-mixed") == 1
    assert trainings(settings={"training": {**SHORT, "steps": 3}}) == 1
    monkeypatch.setattr(simulation, "_SOFT", 1.0)
    assert trainings() == 1


def test_labels_that_leave_no_sound_square_are_said_before_anything_is_trained(tmp_path):
    kinds = [photograph(seed, cracked=seed % 2 or seed > 8) for seed in range(16)]
    # Photographs 8 to 11 validate, and the only sound one of them is turned with the seed of which that is so.
    seeds = [seed for seed in range(40) if np.random.default_rng([seed, 2]).permutation(4)[0] == 0]
    settings = SETTINGS.model_copy(update={"squares": SETTINGS.squares.model_copy(update={"seed": seeds[0]})})
    with pytest.raises(ValueError, match=r"with 25 % of the labels wrong: there is no square of 32 px without a crack"):
        study(prepare(tmp_path, kinds, ROLES), tmp_path / "kept", LabelNoise(wrong=(0.0, 0.25)), settings)
    assert not (tmp_path / "kept").exists()


def test_wrong_labels_of_a_smaller_share_are_among_those_of_a_larger_one(prepared):
    turned = [
        labelling.label_squares(
            *prepared, SETTINGS.squares.model_copy(update={"wrong": wrong}), Dataset("folders"), PRESETS
        )[0].cracked
        for wrong in (0.0, 0.25, 0.4)
    ]
    fewer, more = (set(np.flatnonzero(cracked != turned[0])) for cracked in turned[1:])
    assert len(fewer) == 2 < len(more) == 3
    assert fewer < more


def test_without_masks_of_cracks_nothing_is_trained(prepared, tmp_path):
    images, manifest, partition = prepared
    unknown = manifest.assign(crack_pixels=manifest["crack_pixels"].mask(manifest["label"] == "crack"))
    with pytest.raises(ValueError, match="add masks of some"):
        study((images, unknown, partition), tmp_path, LabelNoise(wrong=(0.0,)))
    assert not list(tmp_path.iterdir())


def table(**more):
    rows = [(0.0, 0, 0.8), (0.1, 0, 0.7), *more.get("rows", ())]
    found = pd.DataFrame(rows, columns=["wrong", "seed", "dice"]).assign(labels=100, photographs=5, cracked_right=0.5)
    for name in ("f1_tolerant", "recall", "precision"):
        found[name] = found["dice"]
    for name in ("dice", "f1_tolerant"):
        found[f"{name}_low"], found[f"{name}_high"] = found[name] - 0.125, found[name] + 0.125
    return found


def test_the_summary_says_how_sure_it_is():
    said = nodes.summarise(table())
    assert "95 % intervals over the photographs" in said
    assert "10 % of 100 wrong, 50.0 % of the labels that say cracked are right: Dice 0.7000 (0.5750 to 0.8250)" in said
    assert "Dice 0.7000, F1" in nodes.summarise(table().assign(dice_low=math.nan))
    said = nodes.summarise(table(rows=[(0.0, 1, 0.9), (0.1, 1, 0.5)]))
    assert "of several trainings" in said
    assert "Dice 0.6000 (0.5000 to 0.7000)" in said


def test_the_figure_shows_every_training_and_a_line_through_the_means():
    (axes,) = nodes.draw_label_noise(table(rows=[(0.0, 1, 0.9), (0.1, 1, 0.5)])).axes
    line, dots = axes.get_lines()[:2]
    assert line.get_ydata().tolist() == pytest.approx([0.85, 0.6])
    assert sorted(dots.get_ydata().tolist()) == [0.5, 0.7, 0.8, 0.9]
    assert not axes.collections
    (band,) = nodes.draw_label_noise(table()).axes[0].collections
    assert band.get_label() == "95 % over photographs"


@pytest.mark.parametrize("wrong", [(0.5,), (-0.1,), (0.1, 0.1), ()])
def test_wrong_shares_are_named(wrong):
    with pytest.raises(ValueError, match="wrong"):
        LabelNoise(wrong=wrong)


def test_another_seed_draws_everything_anew():
    seeded = SETTINGS.seeded(3)
    assert [part.seed for part in (seeded.squares, seeded.labels, seeded.start, seeded.training)] == [3] * 4
    (one, _), (other, _) = nodes.create_networks(SETTINGS, Nothing(), LabelNoise(seeds=2))
    assert one.fingerprint() != other.fingerprint()
