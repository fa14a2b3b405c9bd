"""A whole pipeline whose training is in other processes: those of this machine, and those of a Ray cluster on it."""

import json
import shutil
from importlib.util import find_spec

import mlflow
import pytest

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_a_detector_is_trained_by_two_processes(
    make_project, kedro, sample, tmp_path, monkeypatch, surroundings, engine
):
    if engine == "ray" and find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    if engine == "ray":
        (tmp_path / "token").write_text("0123456789abcdef" * 4)
        monkeypatch.setitem(surroundings, "RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    project = make_project()
    shutil.copytree(sample.parents[1], project / "data", dirs_exist_ok=True)
    asked = f"compute.engine={engine},compute.devices=2,compute.accelerator=cpu,compute.precision=32-true"
    done = kedro(project, "run", "--pipeline", "anomaly", "--params", asked)
    assert done.returncode == 0, done.stdout[-4000:]
    who = "training in 2 processes" if engine == "local" else "training with 2 workers of 1 cores and 0 GPUs"
    assert done.stdout.count(who) == 1
    assert done.stdout.count("epoch 1 of ") == 1
    assert done.stdout.count("registered anomaly, version 1") == 1
    client = mlflow.MlflowClient(f"sqlite:///{project}/mlflow.db")
    (run,) = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    assert run.data.params["plan.devices"] == "2"
    losses = client.get_metric_history(run.info.run_id, "train_loss")
    assert [loss.step for loss in losses] == list(range(len(losses)))
    assert f"epoch {len(losses)} of {len(losses)}: " in done.stdout
    (metrics,) = (project / "data/08_reporting/anomaly/metrics.json").glob("*/metrics.json")
    assert json.loads(metrics.read_text())["sets"]
    assert not list((project / "data/06_models").rglob("*.ckpt"))
