import logging
import multiprocessing
import os
import signal
from itertools import pairwise

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crack_pipeline.datasets import StudiesDataset
from crack_pipeline.pipelines.segmentation_tuning.parameters import Pruning, Search
from crack_pipeline.pipelines.segmentation_tuning.search import TrialFailedError, importance, search
from crack_pipeline.pipelines.segmentation_tuning.space import ImpossibleError

DIMENSIONS = {
    "network.levels": {"choices": [1, 2, 3]},
    "network.slope": {"low": 0.0, "high": 0.5},
    "training.learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
}
NO_PRUNING = Pruning(rule="none")
EPOCHS = 4


class KilledError(Exception):
    """Stands for the end of the process."""


@pytest.fixture(scope="module")
def space(make_space):
    return make_space(DIMENSIONS)


@pytest.fixture
def storage():
    return optuna.storages.InMemoryStorage()


def open_study(storage):
    return optuna.create_study(storage=storage, study_name="s", direction="maximize", load_if_exists=True)


def course(values, epochs=EPOCHS):
    """What a training with these values would give: the best is a slope of 0.25 with three levels."""
    best = 0.9 - (values["network.slope"] - 0.25) ** 2 - 0.1 * (3 - values["network.levels"])
    return [best * (epoch + 1) / epochs for epoch in range(epochs)]


def learn(trial):
    for epoch, value in enumerate(course(trial.values)):
        trial.report(epoch, value, epoch + 1 < EPOCHS)
    return course(trial.values)


def killed_at(number, epoch):
    """Train, but die in an epoch of one trial."""

    def learn_or_die(trial):
        for at, value in enumerate(course(trial.values)):
            if (trial.number, at) == (number, epoch):
                raise KilledError
            trial.report(at, value, at + 1 < EPOCHS)
        return course(trial.values)

    return learn_or_die


def run(storage, space, attempt=learn, pruning=NO_PRUNING, **how):
    return list(search(open_study(storage), space, Search(**{"trials": 8, "startup": 3, **how}), pruning, attempt))


def counted(results):
    return [result for result in results if result.state != "interrupted"]


def test_there_are_as_many_trials_as_were_asked_for(storage, space):
    results = run(storage, space)
    assert [result.number for result in results] == list(range(8))
    assert {result.state for result in results} == {"complete"}
    for result in results:
        assert result.values == pytest.approx(course(result.parameters))
        assert result.value == max(result.values)
        assert result.seconds >= 0 and not result.earlier and not result.reason


def test_the_sampler_finds_what_is_better_than_chance(storage, space):
    results = run(storage, space, trials=30)
    halves = [[result.value for result in part] for part in (results[:10], results[-10:])]
    assert sum(halves[1]) > sum(halves[0])
    assert max(results, key=lambda result: result.value).parameters["network.levels"] == 3


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_the_seed_decides_everything(space, sampler):
    def parameters(seed):
        study = optuna.storages.InMemoryStorage()
        return [result.parameters for result in run(study, space, sampler=sampler, seed=seed, first=())]

    assert parameters(0) == parameters(0)
    assert all(one != other for one, other in zip(parameters(0), parameters(1), strict=True))
    assert all(one != other for one, other in pairwise(parameters(0)))


@settings(max_examples=15)
@given(kills=st.lists(st.tuples(st.integers(0, 12), st.integers(0, EPOCHS - 1)), max_size=4), pruned=st.booleans())
def test_an_interrupted_search_ends_as_an_uninterrupted_one(make_space, kills, pruned):
    space = make_space(DIMENSIONS)
    pruning = Pruning(startup=2, epochs=1) if pruned else NO_PRUNING
    expected = run(optuna.storages.InMemoryStorage(), space, pruning=pruning)
    storage, results = optuna.storages.InMemoryStorage(), []
    for kill in [*kills, (None, None)]:
        try:
            results = run(storage, space, killed_at(*kill), pruning, retries=len(kills))
        except KilledError:
            continue
    assert [(r.state, r.parameters, r.values) for r in counted(results)] == [
        (r.state, r.parameters, r.values) for r in expected
    ]


def test_a_killed_trial_is_marked_and_begun_again(storage, space, caplog):
    with pytest.raises(KilledError):
        run(storage, space, killed_at(2, 1))
    with caplog.at_level(logging.INFO):
        results = run(storage, space)
    assert "trial 2 was interrupted; it is begun again with the same parameters" in caplog.text
    states = {result.number: result.state for result in results}
    assert states == {0: "complete", 1: "complete", 2: "interrupted"} | dict.fromkeys(range(3, 9), "complete")
    killed, again = results[2], results[3]
    assert killed.reason == "its process ended; trial 3 has its parameters"
    assert killed.seconds is None and len(killed.values) == 1
    assert again.parameters == killed.parameters
    assert [result.earlier for result in results] == [True] * 3 + [False] * 6
    assert [t.state.name for t in open_study(storage).trials] == ["COMPLETE"] * 2 + ["FAIL"] + ["COMPLETE"] * 6


def test_a_trial_that_always_kills_its_process_is_given_up(storage, space):
    deadly = []

    def die(trial):
        deadly.append(trial.values)
        if trial.values == deadly[0]:
            raise KilledError
        return learn(trial)

    for _ in range(3):
        with pytest.raises(KilledError):
            run(storage, space, die, retries=2)
    results = run(storage, space, die, retries=2)
    assert len(counted(results)) == 8
    assert [result.state for result in results[:4]] == ["interrupted", "interrupted", "failed", "complete"]
    assert results[2].reason == "its process ended in every one of 3 attempts"


def test_a_study_that_is_killed_while_it_is_repaired_loses_nothing(storage, space, monkeypatch):
    with pytest.raises(KilledError):
        run(storage, space, killed_at(2, 1))

    def die(*_, **__):
        raise KilledError

    with monkeypatch.context() as patched, pytest.raises(KilledError):
        patched.setattr(optuna.Study, "tell", die)
        run(storage, space)
    results = run(storage, space)
    assert [result.state for result in results].count("interrupted") == 1
    assert len(counted(results)) == 8


def test_more_trials_can_be_added_and_none_is_repeated(storage, space):
    first = run(storage, space, trials=3)
    again = run(storage, space, trials=3, attempt=None)
    assert [result.model_copy(update={"earlier": False}) for result in again] == first
    assert all(result.earlier for result in again)
    more = run(storage, space, trials=5)
    assert [result.earlier for result in more] == [True] * 3 + [False] * 2
    assert len({str(result.parameters) for result in more}) == 5


def test_bad_trials_are_pruned_but_never_after_their_last_epoch(storage, space):
    results = run(storage, space, trials=20, pruning=Pruning(startup=3, epochs=2))
    pruned = [result for result in results if result.state == "pruned"]
    assert pruned
    for result in pruned:
        assert 2 <= len(result.values) < EPOCHS
        assert result.reason == f"stopped after epoch {len(result.values)}: below the median of the other trials"
    assert all(result.state == "complete" for result in results[:3])
    best = max(results, key=lambda result: course(result.parameters)[-1])
    assert best.state == "complete"


@pytest.mark.parametrize("error", [TrialFailedError, ImpossibleError])
def test_a_trial_that_fails_does_not_end_the_search(storage, space, error):
    def fail(trial):
        if trial.number % 2:
            trial.report(0, 0.1, True)
            raise error("out of memory: 3 GiB")
        return learn(trial)

    results = run(storage, space, fail)
    assert [result.state for result in results] == ["complete", "failed"] * 4
    assert results[1].reason == "out of memory: 3 GiB" and results[1].values == (0.1,)
    # And neither does one that failed in an earlier run.
    assert [r.reason for r in run(storage, space, trials=9)] == [r.reason for r in results] + [""]


def test_other_errors_end_the_search(storage, space):
    def fail(_):
        raise ValueError("no photograph has the role train")

    with pytest.raises(ValueError, match="no photograph"):
        run(storage, space, fail)


def test_epochs_of_an_interrupted_training_are_reported_once(storage, space):
    def resumed(trial):
        trial.report(2, 0.6, True)
        return [0.1, 0.3, 0.6, 0.5]

    (result,) = run(storage, space, resumed, trials=1)
    assert result.values == (0.1, 0.3, 0.6, 0.5) and result.value == 0.6


def test_first_points_are_tried_first(storage, space, caplog):
    first = ({}, {"network.levels": 3, "network.slope": 0.375}, {"network.levels": 9}, {"network.level": 3}, {})
    results = run(storage, space, trials=4, first=first)
    # What they do not name is as it is without the search; a learning rate of 2e-3 and a slope of 0.01.
    assert results[0].parameters == {"network.levels": 1, "network.slope": 0.01, "training.learning_rate": 0.002}
    assert results[1].parameters == {"network.levels": 3, "network.slope": 0.375, "training.learning_rate": 0.002}
    assert results[2].parameters == results[0].parameters
    assert results[3].parameters not in [result.parameters for result in results[:3]]
    assert "first.2 is left out: network.levels is 9, which the space does not hold" in caplog.text
    assert "first.3 is left out: network.level is not varied" in caplog.text


def test_every_trial_says_where_the_search_stands(storage, space, caplog):
    with caplog.at_level(logging.INFO):
        results = run(storage, space, trials=2, first=({}, {"network.levels": 3}))
    lines = [record.getMessage() for record in caplog.records if "trial" in record.getMessage()]
    assert lines[0] == "trial 0 (1 of 2): network.levels 1, network.slope 0.01, training.learning_rate 0.002"
    assert lines[1].startswith(f"trial 0 (1 of 2): Dice {results[0].value:.4f}; the best is")
    assert lines[1].endswith("about 0.0 min left")
    assert f"the best is {results[1].value:.4f}, of trial 1" in lines[3] and lines[3].endswith("that was the last")


def test_importance_finds_the_field_that_matters(storage, space):
    results = run(storage, space, trials=25, sampler="random")
    shares = importance(results, space, seed=0)
    assert set(shares) == set(DIMENSIONS)
    assert next(iter(shares)) == "network.levels" and shares["network.levels"] > 0.6
    assert sum(shares.values()) == pytest.approx(1)
    assert importance(results, space, seed=0) == shares


def test_importance_needs_two_different_trials(storage, space, make_space):
    results = run(storage, space, trials=2)
    assert importance(results[:1], space, seed=0) == {}
    assert importance([results[0]] * 3, space, seed=0) == {}
    assert importance([], space, seed=0) == {}
    assert importance(results, make_space({"network.levels": {"choices": [3]}}), seed=0) == {}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system that can fork")
def test_a_process_that_is_killed_leaves_a_study_to_go_on_with(tmp_path, space):
    studies = StudiesDataset(filepath=str(tmp_path / "study.db")).load()

    def die(trial):
        trial.report(0, 0.5, True)
        if trial.number == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return [0.5]

    def until_killed():
        list(search(studies.open("killed"), space, Search(trials=5), NO_PRUNING, die))

    # Forked, since to import everything anew takes seconds.
    process = multiprocessing.get_context("fork").Process(target=until_killed)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    results = list(search(studies.open("killed"), space, Search(trials=5), NO_PRUNING, learn))
    assert [result.state for result in results] == ["complete", "complete", "interrupted"] + ["complete"] * 3
    assert results[3].parameters == results[2].parameters and results[2].values == (0.5,)
