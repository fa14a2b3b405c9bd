"""One node of Ray on this machine, with token authentication, for all tests of this file."""

import os
import threading
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest

import crack_pipeline
from crack_pipeline.engines import Lost, cluster, engine_of, on_ray
from crack_pipeline.engines.compute import Compute, resolve
from ray_node import one_node
from small_prediction import predict, write_photographs

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")

SOURCES = (Path(crack_pipeline.__file__).parents[1], Path(__file__).parents[1])
COMPUTE = Compute(accelerator="cpu", precision="32-true", block=2, workers=0, patience=120)


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    with one_node(tmp_path_factory.mktemp("token")):
        yield COMPUTE.model_copy(update={"engine": "ray"})


class Squares:
    def __init__(self, refuses=None):
        self.refuses = refuses

    def begin(self):
        if self.refuses == "all":
            raise ValueError("tiles.size is 16 px")

        def square(number):
            if number == self.refuses:
                raise ValueError(f"there is no square of {number}")
            return number**2

        return square


def test_the_node_runs_what_we_run_and_predicts_what_we_predict(node, tmp_path):
    assert len(cluster.compare_nodes(COMPUTE.patience)) == 1
    write_photographs(tmp_path / "root", 9, 64)
    expected, left_out = predict(tmp_path / "root", tmp_path / "local", COMPUTE)
    found, rejected = predict(tmp_path / "root", tmp_path / "ray", node)
    assert len(found) == 7
    for name in ("photographs/photographs.jsonl", "photographs/rejected.jsonl", "photographs/masks/0003.png.png"):
        assert (tmp_path / "ray" / name).read_bytes() == (tmp_path / "local" / name).read_bytes()
    assert set(rejected["kind"]) == {"copy", "damaged"}
    pd.testing.assert_frame_equal(rejected, left_out)
    pd.testing.assert_frame_equal(found, expected, rtol=1e-3, atol=1 / 256)


def test_many_pieces_share_tasks_and_come_once_and_in_order(node, monkeypatch):
    import ray

    tasks = []
    made = ray.data.from_items
    monkeypatch.setattr(ray.data, "from_items", lambda rows, **how: (tasks.append(how), made(rows, **how))[1])
    monkeypatch.setattr(on_ray, "_TASKS", 3)
    engine = engine_of(cluster.resolve_there(node))
    assert list(engine.map(Squares(), range(10))) == [(number, number**2) for number in range(10)]
    assert tasks == [{"override_num_blocks": 3}]


def test_what_goes_wrong_is_what_went_wrong_there(node):
    engine = engine_of(cluster.resolve_there(node))
    with pytest.raises(ValueError, match=r"^there is no square of 1$"):
        list(engine.map(Squares(refuses=1), range(5)))


class Fatal:
    """A job, of numbers, that ends its worker at some; the piece is a list of them."""

    def __init__(self, at):
        self.at = at

    def begin(self):
        def work(numbers):
            if self.at in numbers:
                os._exit(137)  # as the kernel does where memory runs out
            return sum(numbers)

        return work


class TakenApart(Fatal):
    def alone(self):
        return self

    def parts(self, piece):
        return [[number] for number in piece]

    def joined(self, piece, results):
        return sum(-1 if isinstance(result, Lost) else result for result in results)


@pytest.mark.slow
def test_what_ends_every_worker_costs_no_more_than_itself(node, monkeypatch, capfd):
    said = []
    monkeypatch.setattr(on_ray.logger, "warning", lambda message, *values: said.append(message % values))
    engine = engine_of(cluster.resolve_there(node))
    pieces = [[1, 2], [3, 4], [5, 6], [7, 8], [9, 10]]
    found = dict(engine.map(TakenApart(4), pieces))
    assert found == {0: 3, 1: 3 - 1, 2: 11, 3: 15, 4: 19}
    assert len(said) == 1 and "ended again and again at 1 pieces of work" in said[0]
    with pytest.raises(RuntimeError, match="every worker that did a certain piece of work ended"):
        list(engine.map(Fatal(4), pieces))
    assert "Traceback" not in capfd.readouterr().err


def test_what_shared_a_task_with_what_ends_workers_is_tried_by_itself(monkeypatch):
    """Ray itself is left out: it takes a minute to give up a task."""
    tried = []

    def run(job, pieces, numbers, heard, *, most, together=1, alone=False):
        work, numbers = job.begin(), list(numbers)
        tasks = [numbers[at : at + together] for at in range(0, len(numbers), together)]
        tried.append((len(tasks), together, alone))
        for task in tasks:
            if not any(job.at in pieces[number] for number in task):
                yield from ((number, work(pieces[number])) for number in task)

    engine = object.__new__(on_ray.RayEngine)
    monkeypatch.setattr(engine, "_run", run)
    monkeypatch.setattr(engine, "_watched", nullcontext)
    monkeypatch.setattr(engine, "workers", lambda: 1)
    monkeypatch.setattr(on_ray, "_TASKS", 2)
    pieces = [[1, 2], [3, 4], [5, 6], [7, 8], [9, 10]]
    assert dict(engine.map(TakenApart(4), pieces)) == {0: 3, 1: 3 - 1, 2: 11, 3: 15, 4: 19}
    assert tried == [(2, 3, False), (3, 1, False), (2, 1, True)]


class UnpicklableError(Exception):
    def __init__(self, code, message):
        super().__init__(f"{code}: {message}")


def test_an_exception_that_cannot_be_sent_is_sent_by_its_message():
    from ray import cloudpickle

    done, why = cloudpickle.loads(on_ray._packed(False, UnpicklableError(403, "forbidden")))
    assert not done
    assert str(why) == "UnpicklableError: 403: forbidden"


def test_whoever_waits_for_a_row_hears_that_the_head_is_lost(monkeypatch):
    monkeypatch.setattr(on_ray, "_SECONDS_BETWEEN_GLANCES", 0.01)
    heard, never = on_ray._Heard(), threading.Event()

    def rows():
        yield from ({"number": at} for at in range(5))
        never.wait()

    taken = on_ray._taken(rows(), heard, lambda: None)
    assert [next(taken)["number"] for _ in range(5)] == list(range(5))
    heard.lost = "the head has not answered"
    with pytest.raises(ConnectionError, match="the head has not answered"):
        next(taken)
    never.set()


def test_rows_end_as_they_end_there_and_nobody_takes_more_than_are_wanted():
    def rows(number):
        for at in range(number):
            asked.append(at)
            yield {"number": at}
        raise ValueError("tiles.size is 16 px")

    asked = []
    taken = on_ray._taken(rows(3), on_ray._Heard(), lambda: None)
    assert [next(taken)["number"] for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="16 px"):
        next(taken)
    assert list(on_ray._taken(iter([]), on_ray._Heard(), lambda: None)) == []
    asked = []
    stopped = []
    taken = on_ray._taken(rows(1000), on_ray._Heard(), lambda: stopped.append(True))
    next(taken)
    taken.close()
    assert stopped
    assert len(asked) <= 4


@pytest.mark.parametrize(("answers", "lost"), [([False] * 4, True), ([False, True, False, True] * 4, False)])
def test_a_head_that_is_silent_for_long_is_lost(monkeypatch, answers, lost):
    left = iter(answers)
    ended, heard = threading.Event(), on_ray._Heard()

    def answer(_):
        found = next(left, None)
        if found is None:
            ended.set()
        return bool(found) or found is None

    monkeypatch.setattr(on_ray, "_SECONDS_BETWEEN_LOOKS", 0.02)
    monkeypatch.setenv(on_ray._RAY_WAITS, "0.1")
    monkeypatch.setattr(cluster, "head_answers", answer)
    monkeypatch.setattr(cluster, "room", lambda cores, gpus: 1)
    engine = object.__new__(on_ray.RayEngine)
    engine._plan = resolve(Compute(accelerator="cpu", precision="32-true", workers=0))
    with engine._watched(heard):
        ended.wait(0.5)
    assert bool(heard.lost) == lost


def test_a_worker_that_cannot_get_ready_says_why():
    from ray import cloudpickle

    answer = on_ray._Worker(Squares(refuses="all"))({"number": [0], "piece": [cloudpickle.dumps(2)]})
    done, why = cloudpickle.loads(answer["result"][0])
    assert not done
    assert str(why) == "tiles.size is 16 px"


def test_a_worker_that_fits_nowhere_is_refused(node):
    with pytest.raises(ValueError, match=r"a worker is to have 64 cores and 0 GPUs .* they have 1 cores and 0 GPUs"):
        cluster.resolve_there(node.model_copy(update={"cores": 64.0}))
    with pytest.raises(ValueError, match="no node of the Ray cluster has that"):
        cluster.resolve_there(node.model_copy(update={"gpus": 1.0}))


def test_no_more_train_together_than_there_is_room_for(node):
    plan = cluster.resolve_there(node)
    assert (cluster.room(1.0, 0.0), cluster.room(0.5, 0.0), cluster.room(0.5, 1.0)) == (1, 2, 0)
    assert plan.devices == 1
    assert plan.reasons["devices"] == "the Ray cluster has room for 1 workers of 1 cores and 0 GPUs"
    with pytest.raises(ValueError, match=r"compute\.devices is 2, and the Ray cluster has room for 1 workers"):
        cluster.resolve_there(node.model_copy(update={"devices": 2}))
