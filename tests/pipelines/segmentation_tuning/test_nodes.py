import json
import logging
from datetime import datetime

import numpy as np
import optuna
import pandas as pd
import pytest
import torch
import yaml

from crack_pipeline.datasets import StudiesDataset
from crack_pipeline.engines.compute import Compute
from crack_pipeline.evaluation.trials import TrialResult
from crack_pipeline.imaging.photograph_stack import CRACK
from crack_pipeline.pipelines.ingestion.parameters import Image
from crack_pipeline.pipelines.segmentation import training as segmentation_training
from crack_pipeline.pipelines.segmentation.parameters import EncoderWeights, Network, Training
from crack_pipeline.pipelines.segmentation_tuning import nodes, pictures
from crack_pipeline.pipelines.segmentation_tuning.parameters import Pruning, Search, Space
from crack_pipeline.training import fit as fit_module

IMAGE = Image(size=None, mode="grey", masks=True)
DIMENSIONS = {
    "network.base_channels": {"choices": [1, 2, 4]},
    "training.learning_rate": {"low": 1e-3, "high": 1e-1, "log": True},
    "training.loss.0.crack": {"low": 0.5, "high": 2.0},
}
NO_WEIGHTS = EncoderWeights("none")
SEARCH = Search(trials=5, startup=2, steps=4, steps_per_epoch=2)


class KilledError(Exception):
    """Stands for the end of the process."""


class StudiesInMemory:
    """Studies that live as long as the test: to write them takes a second a trial."""

    def __init__(self):
        self.storage = optuna.storages.InMemoryStorage()

    def open(self, name):
        return optuna.create_study(storage=self.storage, study_name=name, direction="maximize", load_if_exists=True)


@pytest.fixture
def search(images, manifest, partition, plan, checkpoints, make_space):
    """Search with tiny networks; gives the results."""
    data = {"images": images, "manifest": manifest, "partition": partition, "studies": StudiesInMemory()}

    def search(dimensions=DIMENSIONS, how=SEARCH, pruning=None, image=IMAGE, pretrained=None, weights="none"):
        used = nodes.leave_out_test(data["manifest"], data["partition"])
        return list(
            nodes.search_parameters(
                data["studies"],
                data["images"],
                *used,
                segmentation_training.fingerprint_data(data["images"], *used, image),
                image,
                EncoderWeights(weights),
                make_space(dimensions, how.steps, how.steps_per_epoch),
                how,
                pruning or Pruning(rule="none"),
                plan,
                checkpoints,
                pretrained,
            )
        )

    search.data = data
    return search


@pytest.fixture
def quickly(monkeypatch):
    """Let every training end at once, with a Dice that the parameters decide."""

    def train(images, manifest, partition, data_fingerprint, initial, training, plan, folder, callbacks):
        values = [training.loss[0].crack * (epoch + 1) / training.epochs / 2 for epoch in range(training.epochs)]
        return None, pd.DataFrame({nodes.METRIC: values})

    monkeypatch.setattr(nodes, "train_segmenter", train)


def result(number, state="complete", values=(0.5,), **parameters):
    began = datetime(2024, 1, 1)
    return TrialResult(number=number, state=state, values=values, parameters=parameters, began=began, seconds=2.0)


@pytest.fixture
def space(make_space):
    return make_space(DIMENSIONS)


RESULTS = [
    result(0, **{"network.base_channels": 1, "training.learning_rate": 0.01, "training.loss.0.crack": 1.0}),
    result(
        1,
        "pruned",
        (0.9,),
        **{"network.base_channels": 2, "training.learning_rate": 0.02, "training.loss.0.crack": 0.7},
    ),
    result(
        2,
        values=(0.3, 0.75, 0.7),
        **{"network.base_channels": 4, "training.learning_rate": 0.05, "training.loss.0.crack": 1.5},
    ),
    result(3, "failed", ()).model_copy(update={"reason": "out of memory: 3 GiB"}),
]


def test_a_search_trains_what_it_says(search, checkpoints):
    results = search(how=SEARCH.model_copy(update={"trials": 3}))
    assert [found.state for found in results] == ["complete"] * 3
    assert all(len(found.values) == 2 and 0 < found.value <= 1 for found in results)
    assert len({str(found.parameters) for found in results}) == 3
    # Nothing is left of the checkpoints of trials that have ended.
    assert list(checkpoints.rglob("*.ckpt")) == []


def test_an_interrupted_search_ends_as_an_uninterrupted_one(search, monkeypatch, tmp_path, caplog):
    files = StudiesDataset(filepath=str(tmp_path / "study.db")).load()
    how = SEARCH.model_copy(update={"trials": 3, "steps": 6})
    expected = search(how=how)
    search.data["studies"] = files

    trained = []
    real = fit_module.Progress.on_train_epoch_end

    def die(self, trainer, module):
        real(self, trainer, module)
        trained.append(trainer.current_epoch)
        if len(trained) == 5:  # the second epoch of the second trial
            raise KilledError

    with monkeypatch.context() as patched, pytest.raises(KilledError):
        patched.setattr(fit_module.Progress, "on_train_epoch_end", die)
        search(how=how)
    with caplog.at_level(logging.INFO):
        results = search(how=how)
    assert "going on after epoch 1 of an interrupted training" in caplog.text
    assert [found.state for found in results] == ["complete", "interrupted", "complete", "complete"]
    kept = [found for found in results if found.state != "interrupted"]
    assert [(found.parameters, found.values) for found in kept] == [(f.parameters, f.values) for f in expected]


def test_the_test_photographs_are_never_looked_at(search, quickly, images, manifest):
    expected = search()
    test = slice(9, 12)
    images.pixels[test], images.masks[test] = 255, CRACK

    def refuse(row):
        assert row < 9, f"the mask of the test photograph {row} is looked at"
        return images.masks[row]

    images.mask = refuse
    search.data["manifest"] = manifest.assign(crack_pixels=np.where(manifest["row"] < 9, 128, 1024))
    again = search()
    assert all(found.earlier for found in again)
    assert [found.parameters for found in again] == [found.parameters for found in expected]


@pytest.mark.parametrize("change", ["mask", "space", "seed", "steps", "weights"])
def test_a_study_of_something_else_is_not_continued(search, quickly, monkeypatch, images, change):
    search(how=SEARCH.model_copy(update={"trials": 1}))
    more = SEARCH.model_copy(update={"trials": 2})
    options = {}
    match change:
        case "mask":
            images.masks[0, 0, 0] = CRACK
        case "space":
            options["dimensions"] = {**DIMENSIONS, "network.base_channels": {"choices": [1, 2]}}
        case "seed" | "steps":
            more = more.model_copy(update={change: 6})
        case "weights":
            options["weights"] = "imagenet"
            monkeypatch.setattr(nodes, "create_network", lambda *_: None)
    assert [found.earlier for found in search(how=more, **options)] == [False, False]


def test_pruning_stops_a_training(search):
    first = ({"training.learning_rate": 0.1}, {"training.learning_rate": 0.001, "network.base_channels": 1})
    how = SEARCH.model_copy(update={"trials": 2, "steps": 8, "first": first})
    results = search(how=how, pruning=Pruning(startup=1, epochs=2))
    assert [found.state for found in results] == ["complete", "pruned"]
    assert 2 <= len(results[1].values) < 4


def test_failures_of_trials_are_recorded_and_the_search_goes_on(search, monkeypatch):
    real, number = nodes.train_segmenter, iter(range(10))
    errors = {0: torch.OutOfMemoryError("CUDA out of memory.\nTried"), 1: MemoryError()}

    def fail(*arguments, **options):
        at = next(number)
        if at in errors:
            raise errors[at]
        return real(*arguments, **options)

    monkeypatch.setattr(nodes, "train_segmenter", fail)
    dimensions = {**DIMENSIONS, "training.learning_rate": {"choices": [1e-2, 1e30]}}
    first = [{"training.learning_rate": rate} for rate in (1e-2, 1e-2, 1e30, 1e-2)]
    results = search(dimensions, SEARCH.model_copy(update={"trials": 4, "first": tuple(first)}))
    assert [found.state for found in results] == ["failed", "failed", "failed", "complete"]
    assert results[0].reason == "out of memory: CUDA out of memory."
    assert results[1].reason == "out of memory: MemoryError"
    assert results[2].reason.startswith("the training diverged: ")


class Files:
    """Holds no weights."""

    def fetch(self, encoder, weights):
        return {}


def test_a_network_that_cannot_be_made_is_a_failed_trial(search, quickly, monkeypatch):
    real = nodes.create_network

    def create(image, network, *others):
        if network.root.base_channels == 4:
            raise ValueError("four channels are out of stock")
        return real(image, network, *others)

    monkeypatch.setattr(nodes, "create_network", create)
    first = tuple({"network.base_channels": channels} for channels in (4, 1))
    results = search(how=SEARCH.model_copy(update={"trials": 2, "first": first}))
    assert [found.state for found in results] == ["failed", "complete"]
    assert results[0].reason == "four channels are out of stock"


def test_weights_that_no_trial_could_begin_with_end_the_search_before_the_first(search):
    # The project's own U-Net has no encoder for them.
    with pytest.raises(ValueError, match=r"file\.pt cannot be used"):
        search(weights="file.pt", pretrained=Files())
    assert search(how=SEARCH.model_copy(update={"trials": 1}))[0].state == "complete"


def test_a_file_of_weights_that_was_replaced_begins_another_search(search, quickly, monkeypatch, tmp_path):
    monkeypatch.setattr(nodes, "create_network", lambda *_: None)
    file, one = tmp_path / "weights.pt", SEARCH.model_copy(update={"trials": 1})
    for content, earlier in ((b"first", False), (b"first", True), (b"second", False)):
        file.write_bytes(content)
        assert [found.earlier for found in search(how=one, weights=str(file))] == [earlier]


def test_errors_that_no_trial_is_to_blame_for_end_the_search(search, manifest):
    search.data["manifest"] = manifest.assign(crack_pixels=0)
    with pytest.raises(ValueError, match="none of the 6 photographs of the role train shows a crack"):
        search()


def test_a_wrong_space_is_refused_before_anything_is_read():
    space = Space({"training.learning_rat": {"low": 1e-4, "high": 1e-2}})
    with pytest.raises(
        ValueError, match=r"training\.learning_rat names no field of segmentation\.training; it has .*rate"
    ):
        nodes.check_space(space, Search(), Network(), Training())


def test_an_epoch_is_never_longer_than_a_trial():
    space = nodes.check_space(
        Space({"network.levels": {"choices": [3]}}), Search(steps=7, steps_per_epoch=60), Network(), Training()
    )
    assert space.build({})[1].epochs == 1


def test_trials_are_not_compiled_unless_that_is_asked_for(monkeypatch):
    real = nodes.resolve_plan(Compute(accelerator="cpu", precision="32-true", batch_size=1))
    monkeypatch.setattr(nodes, "resolve_plan", lambda compute: real.model_copy(update={"compile": True}))
    plan = nodes.plan_trials(Compute())
    assert plan.compile is False and "too short" in plan.reasons["compile"]
    assert nodes.plan_trials(Compute(compile=True)).compile is True


def test_only_training_and_validation_photographs_are_left(manifest, partition):
    used, roles = nodes.leave_out_test(manifest, partition)
    assert used["row"].tolist() == list(range(9))
    assert sorted(roles["image_id"]) == used["image_id"].tolist()
    assert set(roles["role"]) == {"train", "validation"}


def test_the_table_has_a_column_per_field():
    table = nodes.tabulate_trials([RESULTS[2], RESULTS[0], RESULTS[3]])
    assert table["number"].tolist() == [0, 2, 3]
    assert list(table.columns) == [
        *("number", "state", "value", "epochs", "seconds"),
        *("network.base_channels", "training.learning_rate", "training.loss.0.crack"),
        *("earlier", "reason"),
    ]
    assert table["value"].tolist()[:2] == [0.5, 0.75] and pd.isna(table["value"][2])
    assert nodes.tabulate_trials([RESULTS[3]])["reason"].tolist() == ["out of memory: 3 GiB"]


def test_the_best_is_a_complete_trial_with_the_steps_of_a_training(space, network, training):
    best = nodes.choose_best(RESULTS, {"training.learning_rate": 1.0}, space, network, training, NO_WEIGHTS)
    assert (best["trial"], best["validation_dice"]) == (2, 0.75)
    assert best["trials"] == {"complete": 2, "pruned": 1, "failed": 1, "interrupted": 0}
    assert best["network"]["base_channels"] == 4 and best["network"]["levels"] == network.root.levels
    assert best["training"]["learning_rate"] == 0.05 and best["training"]["loss"][0]["crack"] == 1.5
    assert best["training"]["steps"] == training.steps > space.at_base("training.steps")
    assert json.loads(json.dumps(best)) == best


def test_the_best_parameters_are_configuration(space, network, training):
    best = nodes.choose_best(RESULTS, {}, space, network, training, EncoderWeights("a/file.pt"))
    text = nodes.write_parameters(best)
    found = yaml.safe_load(text)["segmentation"]
    assert "Trial 2: Dice 0.7500" in text
    assert Network.model_validate(found["network"]).root.base_channels == 4
    assert Training.model_validate(found["training"]).learning_rate == 0.05
    assert found["encoder_weights"] == "a/file.pt"


def test_without_a_complete_trial_there_is_no_best(space, network, training):
    best = nodes.choose_best(RESULTS[3:], {}, space, network, training, NO_WEIGHTS)
    assert best["trial"] is None and best["network"] is None
    assert yaml.safe_load(nodes.write_parameters(best)) is None
    assert "best.trial" not in nodes.track_metrics(best)
    text = pictures.summarise(RESULTS[3:], best, SEARCH)
    assert "1 failed" in text and "trial 3 failed: out of memory: 3 GiB" in text and "no trial is complete" in text


def test_the_summary_says_what_was_found(space, network, training):
    best = nodes.choose_best(RESULTS, {"training.learning_rate": 0.75}, space, network, training, NO_WEIGHTS)
    text = pictures.summarise(RESULTS, best, SEARCH)
    assert "2 complete, 1 pruned, 1 failed\n" in text and "begun again" not in text
    assert "the best is trial 2: Dice on validation crops 0.7500" in text
    assert "training.learning_rate  0.05  (explains 75%)" in text
    assert "hardly more than chance with 2 complete trials" in text
    again = {**best, "trials": {**best["trials"], "interrupted": 2}}
    assert "interrupted and begun again: 2" in pictures.summarise(RESULTS, again, SEARCH)
    assert "too few trials" in pictures.summarise(RESULTS, {**best, "importance": {}}, SEARCH)


def test_what_was_found_is_tracked(space, network, training):
    best = nodes.choose_best(RESULTS, {"training.learning_rate": 0.75}, space, network, training, NO_WEIGHTS)
    assert nodes.track_metrics(best) == {
        name: {"value": value, "step": 0}
        for name, value in {
            "trials.complete": 2.0,
            "trials.pruned": 1.0,
            "trials.failed": 1.0,
            "trials.interrupted": 0.0,
            "importance.training.learning_rate": 0.75,
            "best.validation_dice": 0.75,
            "best.trial": 2.0,
        }.items()
    }


def test_figures_come_of_any_results(space):
    shares = nodes.measure_importance(RESULTS, space, SEARCH)
    assert sum(shares.values()) == pytest.approx(1)
    for results in (RESULTS, RESULTS[:1], RESULTS[3:]):
        assert pictures.draw_history(results).axes
        pictures.draw_slices(results, space)
        pictures.draw_importance(shares, results)
