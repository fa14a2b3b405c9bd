import json
import shutil
import threading
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import mlflow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kedro.io import DatasetError

from crack_pipeline.datasets import CarriedOutDataset, ModelRegistryDataset, RegisteredModelDataset
from crack_pipeline.datasets.champions import Champions, OutdatedError, Succession, stand
from crack_pipeline.datasets.model_registry import read
from crack_pipeline.evaluation.promotion import Evidence, Rollback
from crack_pipeline.models.registered import Newest
from registry import MODEL, decision, promote_at_once, register, registry_in, some_weights


@pytest.fixture
def client(tmp_path, database):
    with registry_in(tmp_path, database) as found:
        yield found


@pytest.fixture
def dataset(tmp_path, client):
    return ModelRegistryDataset(filepath=str(tmp_path / "locks"))


def versions(folder, number):
    return [register(folder, MODEL, some_weights(n + 1)) for n in range(number)]


def aliases(client):
    return {name: int(version) for name, version in client.get_registered_model(MODEL).aliases.items()}


def tags(client, version):
    return client.get_model_version(MODEL, str(version)).tags


def test_promotions_and_ways_back(client, dataset, tmp_path):
    versions(tmp_path, 3)
    dataset.save(decision(1))
    assert aliases(client) == {"champion": 1}
    dataset.save(decision(2, 1))
    dataset.save(decision(3, 2))
    assert aliases(client) == {"champion": 3, "previous": 2}
    assert dataset.load().standing(MODEL) == (3, (2, 1), frozenset())
    dataset.save(Rollback(model=MODEL, champion=3, version=2))
    assert aliases(client) == {"champion": 2, "previous": 1}
    assert tags(client, 3)["promotion.decision"] == "rolled back"
    found = dataset.load().contenders(MODEL)
    assert found.challenger.version == 3 and found.rolled_back and found.champion.version == 2
    dataset.save(Rollback(model=MODEL, champion=2, version=1))
    assert aliases(client) == {"champion": 1}
    dataset.save(decision(3, 1))
    assert aliases(client) == {"champion": 3, "previous": 1}
    assert not dataset.load().contenders(MODEL).rolled_back


def test_the_newest_version_challenges_unless_another_is_named(client, dataset, tmp_path):
    versions(tmp_path, 11)
    dataset.save(decision(2))
    found = dataset.load().contenders(MODEL)
    assert (found.challenger.version, found.champion.version, found.asked_for) == (11, 2, False)
    assert found.challenger.weights.facts == {"number": 11}
    assert found.champion.weights.fingerprint() == some_weights(2).fingerprint()
    named = dataset.load().contenders(MODEL, 2)
    assert named.challenger == named.champion and named.asked_for


def test_a_decision_is_told_by_tags_of_the_version(client, dataset, tmp_path):
    versions(tmp_path, 2)
    dataset.save(decision(1))
    mlflow.create_experiment("promotion", artifact_location=str(tmp_path / "artifacts"))
    with mlflow.start_run(experiment_id=mlflow.get_experiment_by_name("promotion").experiment_id) as run:
        dataset.save(decision(2, 1, promoted=False))
    assert aliases(client) == {"champion": 1}
    found = tags(client, 2)
    assert found["promotion.decision"] == "kept" and found["promotion.run"] == run.info.run_id
    assert found["promotion.reason"] == "it is better" and found["promotion.dice.low"] == "0.125"
    assert found["promotion.photographs"] == "9 test abc" and found["promotion.champion"] == "1"


def test_tags_stay_where_nothing_was_measured(client, dataset, tmp_path):
    versions(tmp_path, 1)
    dataset.save(decision(1))
    before = tags(client, 1)
    nothing = Evidence(promoted=False, reason="it is the champion already")
    dataset.save(decision(1, 1).model_copy(update={"evidence": nothing}))
    assert tags(client, 1) == before and before["promotion.decision"] == "promoted"


def test_who_compared_with_another_champion_loses(client, dataset, tmp_path):
    versions(tmp_path, 3)
    dataset.save(decision(1))
    dataset.save(decision(2, 1))
    with pytest.raises(DatasetError, match="version 1 was the champion, and version 2 has become it since"):
        dataset.save(decision(3, 1))
    assert aliases(client) == {"champion": 2, "previous": 1}
    assert tags(client, 3)["promotion.decision"] == "outdated"
    with pytest.raises(DatasetError, match="there was no champion, and version 2"):
        dataset.save(decision(3))
    with pytest.raises(DatasetError, match="version 1 was the champion"):
        dataset.save(Rollback(model=MODEL, champion=1, version=3))


def test_only_what_was_measured_is_promoted(client, dataset, tmp_path):
    versions(tmp_path, 3)
    dataset.save(decision(1))
    for other in (some_weights(7), some_weights(2)._replace(facts={"number": 2, "threshold": 0.1})):
        changed = decision(2, 1).model_copy(update={"fingerprint": other.whole_fingerprint()})
        with pytest.raises(DatasetError, match="holds other weights than those that were measured"):
            dataset.save(changed)
    shutil.rmtree(tmp_path / "registered" / MODEL / some_weights(3).fingerprint())
    with pytest.raises(DatasetError, match="version 3 of segmentation holds no artifacts"):
        dataset.save(decision(3, 1))
    assert aliases(client) == {"champion": 1}
    assert tags(client, 2)["promotion.decision"] == "begun"


def test_what_is_not_there_is_said(client, dataset, tmp_path):
    with pytest.raises(DatasetError, match="no model named segmentation is registered: train one first"):
        dataset.load().contenders(MODEL)
    client.create_registered_model(MODEL)
    with pytest.raises(DatasetError, match="no version of segmentation is registered"):
        dataset.load().contenders(MODEL)
    with pytest.raises(DatasetError, match="version 9 of segmentation"):
        dataset.load().contenders(MODEL, 9)


def test_versions_that_were_deleted_by_hand_are_passed_over(client, dataset, tmp_path):
    versions(tmp_path, 6)
    for version in range(1, 5):
        dataset.save(decision(version, version - 1 or None))
    client.delete_model_version(MODEL, "2")
    dataset.save(Rollback(model=MODEL, champion=4, version=3))
    assert aliases(client) == {"champion": 3, "previous": 1}
    assert dataset.load().standing(MODEL).earlier == (1,)
    with pytest.raises(DatasetError, match="there is no version 2 of segmentation: there are 6, 5, 4, 3, 1"):
        dataset.save(Rollback(model=MODEL, champion=3, version=2))
    dataset.save(decision(5, 3))
    client.delete_model_version(MODEL, "5")  # the champion itself, and with it its alias
    assert dataset.load().standing(MODEL)[:2] == (None, (3, 1))
    dataset.save(decision(6))
    assert aliases(client) == {"champion": 6, "previous": 3}
    assert tags(client, 6)["promotion.decision"] == "promoted"


def test_a_champion_that_cannot_be_read_is_said_with_the_ways_on(client, dataset, tmp_path):
    versions(tmp_path, 3)
    dataset.save(decision(1))
    dataset.save(decision(2, 1))
    shutil.rmtree(tmp_path / "registered" / MODEL / some_weights(2).fingerprint())
    with pytest.raises(DatasetError, match=r"champion cannot be read: version 2 .*kedro run --pipeline rollback"):
        dataset.load().contenders(MODEL)
    dataset.save(Rollback(model=MODEL, champion=2, version=1))
    assert dataset.load().contenders(MODEL).champion.version == 1


def test_who_loses_against_the_same_version_leaves_it_promoted(client, dataset, tmp_path):
    versions(tmp_path, 2)
    dataset.save(decision(1))
    mlflow.create_experiment("promotion", artifact_location=str(tmp_path / "artifacts"))
    runs = []
    for lost in (False, True):
        with mlflow.start_run(experiment_id=mlflow.get_experiment_by_name("promotion").experiment_id) as run:
            runs.append(run.info.run_id)
            if lost:
                with pytest.raises(OutdatedError):
                    dataset.save(decision(2, 1))
            else:
                dataset.save(decision(2, 1))
    found = tags(client, 2)
    assert found["promotion.decision"] == "promoted" and found["promotion.reason"] == "it is better"
    assert found["promotion.run"] == runs[0]
    assert [client.get_run(run).data.tags["promotion.decision"] for run in runs] == ["promoted", "outdated"]


def test_a_lock_that_cannot_be_made_leaves_everything_as_it_is(client, dataset, tmp_path):
    versions(tmp_path, 1)
    (tmp_path / f"mlflow.db.{MODEL}.lock").mkdir()
    with pytest.raises(DatasetError, match=r"stays: the lock file .*\.lock cannot be made \(Is a directory\)"):
        dataset.save(decision(1))
    assert aliases(client) == {}


def test_a_registry_that_fails_is_one_line(client, dataset, tmp_path, monkeypatch):
    versions(tmp_path, 1)

    def fail(*_):
        raise ConnectionError("no route to host\nin a traceback")

    monkeypatch.setattr(mlflow.MlflowClient, "set_registered_model_alias", fail)
    with pytest.raises(DatasetError, match=r"told about segmentation: no route to host\. The champion is whole"):
        dataset.save(decision(1))
    monkeypatch.undo()
    dataset.save(decision(1))
    assert aliases(client) == {"champion": 1}


class Stored:
    """A registry in memory, whose callers, threads, go on only when it is their turn."""

    def __init__(self):
        self.aliases, self.tags = {}, {}
        self.turns = {name: threading.Semaphore(0) for name in ("2", "3")}
        self.waits = threading.Semaphore(0)

    def _turn(self):
        turn = self.turns.get(threading.current_thread().name)
        if turn:
            self.waits.release()
            turn.acquire()

    def get_registered_model(self, _):
        self._turn()
        return SimpleNamespace(aliases=dict(self.aliases), tags=dict(self.tags))

    def get_model_version(self, _, version):
        self._turn()
        return SimpleNamespace(version=version)

    def set_registered_model_tag(self, _, name, value):
        self._turn()
        self.tags[name] = value

    def delete_registered_model_tag(self, _, name):
        self._turn()
        del self.tags[name]

    def set_registered_model_alias(self, _, name, version):
        self._turn()
        self.aliases[name] = version

    def delete_registered_model_alias(self, _, name):
        self._turn()
        self.aliases.pop(name, None)


class Breaking:
    """A client that breaks off before, or right after, one of its calls that change something."""

    def __init__(self, client, at, after):
        self.client, self.left, self.after = client, at, after

    def __getattr__(self, name):
        real = getattr(self.client, name)
        if not name.startswith(("set_", "delete_")):
            return real

        def call(*args):
            self.left -= 1
            if self.left == 0 and not self.after:
                raise ConnectionError
            real(*args)
            if self.left == 0:
                raise ConnectionError

        return call


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", range(1, 5))
def test_a_run_that_breaks_off_leaves_a_champion_and_a_way_on(tmp_path, at, after):
    stored = Stored()
    champions = Champions(stored, MODEL, tmp_path / "lock", alone=True)
    champions.move(1, instead_of=None, kind="promotion")
    with pytest.raises(ConnectionError):
        Champions(Breaking(stored, at, after), MODEL, tmp_path / "lock", alone=True).move(
            2, instead_of=1, kind="promotion"
        )
    moved = (at, after) >= (2, True)
    standing = champions.standing()
    assert standing == ((2, (1,), frozenset()) if moved else (1, (), frozenset()))
    champions.move(3, instead_of=standing.champion, kind="promotion")
    assert champions.standing().earlier == ((2, 1) if moved else (1,))
    assert stored.aliases == {"champion": "3", "previous": str(standing.champion)}
    assert all(entry.done for entry in champions.history())


class Meddling:
    """A client beside which another process does something after some number of its calls."""

    def __init__(self, client, at, meddle):
        self.client, self.left, self.meddle = client, at, meddle

    def __getattr__(self, name):
        real = getattr(self.client, name)

        def call(*args):
            found = real(*args)
            self.left -= 1
            if self.left == 0:
                self.meddle()
            return found

        return call


@pytest.mark.parametrize("at", range(1, 9))
def test_of_two_machines_at_most_one_wins(tmp_path, at):
    """Two processes that do not share a lock; the second does all it can between two calls of the first."""
    stored, won = Stored(), []

    def promote(client, version, lock):
        try:
            Champions(client, MODEL, tmp_path / lock, alone=False).move(version, instead_of=None, kind="promotion")
            won.append(version)
        except OutdatedError:
            pass

    promote(Meddling(stored, at, lambda: promote(stored, 3, "there")), 2, "here")
    assert len(won) <= 1
    standing = Champions(stored, MODEL, tmp_path / "lock", alone=False).standing()
    assert [standing.champion] == won == ([3] if at <= 2 else [2])  # until the first writes down what it wants


@given(turns=st.lists(st.sampled_from("23"), max_size=30))
@settings(max_examples=60)
def test_in_whatever_order_two_machines_take_their_turns_they_do_not_both_win(tmp_path_factory, turns):
    folder, stored, won = tmp_path_factory.mktemp("locks"), Stored(), []

    def promote(version):
        try:
            Champions(stored, MODEL, folder / str(version), alone=False).move(
                version, instead_of=None, kind="promotion"
            )
            won.append(version)
        except OutdatedError:
            pass
        stored.waits.release()

    threads = {name: threading.Thread(target=promote, args=(int(name),), name=name) for name in stored.turns}
    for thread in threads.values():
        thread.start()
        stored.waits.acquire()
    for name in [*turns, *"2" * 20, *"3" * 20]:
        if threads[name].is_alive():
            stored.turns[name].release()
            stored.waits.acquire()
            threads[name].join(0.001)
    assert len(won) <= 1
    standing = Champions(stored, MODEL, folder / "lock", alone=False).standing()
    assert [standing.champion] == (won or [None])


def test_what_another_machine_has_begun_is_waited_for_and_at_last_taken_for_dead(tmp_path):
    stored = Stored()
    champions = Champions(stored, MODEL, tmp_path / "lock", alone=False)
    begun = Succession(number=1, version=2, instead_of=None, kind="promotion", at=datetime.now(UTC), claim="other")
    stored.set_registered_model_tag(MODEL, begun.tag, begun.model_dump_json())
    with pytest.raises(OutdatedError, match="another process is about to make version 2 the champion"):
        champions.move(3, instead_of=None, kind="promotion")
    old = begun.model_copy(update={"at": begun.at - timedelta(hours=1)})
    stored.set_registered_model_tag(MODEL, old.tag, old.model_dump_json())
    champions.move(3, instead_of=None, kind="promotion")
    assert champions.standing() == (3, (), frozenset())


def test_an_alias_that_was_moved_by_hand_is_a_step_like_others(client, dataset, tmp_path):
    versions(tmp_path, 3)
    dataset.save(decision(1))
    client.set_registered_model_alias(MODEL, "champion", "2")
    assert dataset.load().standing(MODEL) == (2, (1,), frozenset())
    dataset.save(decision(3, 2))
    assert dataset.load().standing(MODEL) == (3, (2, 1), frozenset())


def test_a_foreign_entry_is_named(client, dataset, tmp_path):
    versions(tmp_path, 1)
    client.set_registered_model_tag(MODEL, "succession.000001.x", json.dumps({"version": "?"}))
    with pytest.raises(DatasetError, match=r"succession\.000001\.x"):
        dataset.load().standing(MODEL)


@given(steps=st.lists(st.tuples(st.booleans(), st.integers(1, 6)), max_size=20))
def test_the_way_back_never_leads_to_the_champion_itself(steps):
    history, champion, stack = [], None, []
    for number, (back, version) in enumerate(steps, start=1):
        if back and stack:
            target, kind = stack.pop(), "rollback"
        elif not back and version != champion:
            target, kind = version, "promotion"
            stack += [] if champion is None else [champion]
        else:
            continue
        history.append(
            Succession(
                number=number,
                version=target,
                instead_of=champion,
                kind=kind,
                at=datetime.now(UTC),
                done=True,
                claim="x",
            )
        )
        champion = target
    found = stand(history, champion)
    assert found.champion == champion and list(found.earlier) == stack[::-1]
    assert found.champion not in found.earlier[:1] and champion not in found.rolled_back


def test_of_eight_processes_one_wins(client, dataset, tmp_path):
    versions(tmp_path, 9)
    dataset.save(decision(1))
    told = promote_at_once(tmp_path, [[decision(version, 1)] for version in range(2, 10)])
    (winner,) = [version for version, lost in told if not lost]
    assert all("version 1 was the champion" in lost for version, lost in told if version != winner)
    assert aliases(client) == {"champion": winner, "previous": 1}
    assert read(MODEL, winner).facts == {"number": winner}
    assert [entry.version for entry in dataset.load()._champions(MODEL).history()] == [1, winner]
    decisions = [tags(client, version)["promotion.decision"] for version in range(2, 10)]
    assert sorted(decisions) == ["outdated"] * 7 + ["promoted"]


def test_the_newest_version_and_whether_it_was_decided_about(client, dataset, tmp_path):
    registry = dataset.load()
    assert registry.newest(MODEL) is None
    versions(tmp_path, 2)
    assert registry.newest(MODEL) == Newest(2, decided=False, photographs=None, unused=True)
    dataset.save(decision(2))
    assert registry.newest(MODEL).decided
    register(tmp_path, MODEL, some_weights(3))
    dataset.save(decision(3, 2, promoted=False))
    assert registry.newest(MODEL) == Newest(3, decided=True, photographs=None)


@pytest.mark.parametrize(("tag", "decided"), [("begun", False), ("outdated", False), ("rolled back", True)])
def test_a_decision_that_was_not_carried_out_is_none(client, dataset, tmp_path, tag, decided):
    versions(tmp_path, 1)
    client.set_model_version_tag(MODEL, "1", "promotion.decision", tag)
    assert dataset.load().newest(MODEL).decided == decided


def test_what_is_in_use_was_decided_about_whatever_its_tags_say(client, dataset, tmp_path):
    versions(tmp_path, 2)
    dataset.save(decision(1))
    dataset.save(decision(2, 1))
    client.delete_model_version_tag(MODEL, "2", "promotion.decision")  # killed before it was written
    assert dataset.load().newest(MODEL).decided
    dataset.save(Rollback(model=MODEL, champion=2, version=1))
    client.delete_model_version_tag(MODEL, "2", "promotion.decision")
    assert dataset.load().newest(MODEL).decided


def test_a_version_says_what_its_training_began_with(client, dataset, tmp_path):
    mlflow.create_experiment("e", artifact_location=str(tmp_path / "artifacts"))
    mlflow.set_experiment("e")
    with mlflow.start_run() as run:
        mlflow.set_tag("retraining.photographs", "abc")
    versions(tmp_path, 1)
    client.create_model_version(MODEL, str(tmp_path), run_id=run.info.run_id)
    assert dataset.load().newest(MODEL) == Newest(2, decided=False, photographs="abc", unused=True)
    client.create_model_version(MODEL, str(tmp_path), run_id="0" * 32)  # of a run that was deleted for good
    assert dataset.load().newest(MODEL).photographs is None


def test_the_number_of_the_newest_version_is_loaded(client, tmp_path):
    with pytest.raises(DatasetError, match="no version of segmentation is registered"):
        RegisteredModelDataset(name=MODEL).load()
    versions(tmp_path, 11)
    assert RegisteredModelDataset(name=MODEL).load() == 11
    with pytest.raises(DatasetError, match="register_models is false"):
        RegisteredModelDataset(name=MODEL, register=False).load()


def test_a_lost_race_is_run_again_with_the_champion_of_then(client, dataset, tmp_path):
    versions(tmp_path, 3)
    dataset.save(decision(1))
    asked = []

    def decisions():
        for _ in range(5):
            champion = aliases(client)["champion"]
            asked.append(champion)
            if champion == 1:
                dataset.save(decision(2, 1))  # somebody else is quicker
            yield decision(3, champion)

    carried = CarriedOutDataset(filepath=str(tmp_path / "locks"))
    carried.save(decisions())
    assert asked == [1, 2]
    assert aliases(client) == {"champion": 3, "previous": 2}
    assert (carried.load().champion, carried.load().outcome) == (2, "promoted")


def test_who_loses_as_often_as_may_be_leaves_the_champion_and_says_so(client, dataset, tmp_path):
    versions(tmp_path, 3)
    dataset.save(decision(1))
    carried = CarriedOutDataset(filepath=str(tmp_path / "locks"))
    carried.save(decision(3, 2) for _ in range(3))
    assert aliases(client) == {"champion": 1}
    assert not dataset.load().newest(MODEL).decided
    found = carried.load()
    assert (found.outcome, found.evidence.promoted) == ("outdated", False)
    assert found.evidence.reason.startswith("when versions of segmentation were compared version 2 was the champion")
    assert found.evidence.reason.endswith("What was found against the one of before: it is better")


def test_where_nothing_is_to_be_decided_nothing_happens(client, tmp_path):
    versions(tmp_path, 1)
    carried = CarriedOutDataset(filepath=str(tmp_path / "locks"))
    carried.save(())
    assert aliases(client) == {} and carried.load() is None


def test_what_comes_of_a_decision_is_told(client, tmp_path):
    versions(tmp_path, 2)
    carried = CarriedOutDataset(filepath=str(tmp_path / "locks"))
    outcomes = []
    for one in (decision(1), decision(2, 1, promoted=False), decision(2)):
        carried.save(one)
        outcomes.append((carried.load().outcome, carried.load().evidence.promoted))
    assert outcomes == [("promoted", True), ("kept", False), ("outdated", False)]
    with pytest.raises(DatasetError, match="holds other weights"):
        carried.save(decision(2, 1, number=7))
    assert carried.load() is None

    def undecidable():
        raise ValueError("it has learned from them")
        yield

    with pytest.raises(DatasetError, match=r"^it has learned from them$"):
        carried.save(undecidable())
