import mlflow
import pytest

from crack_pipeline.tracking import Tracking, TrackingLostError
from registry import registry_in


@pytest.fixture
def run(tmp_path, database):
    """A run that has begun."""
    with registry_in(tmp_path, database):
        mlflow.set_experiment("tracking")
        yield mlflow.start_run().info.run_id
        while mlflow.active_run():
            mlflow.end_run()


@pytest.fixture
def lost(run, monkeypatch):
    """The tracking of a run whose server has gone."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    mlflow.start_run(run_id=run, nested=True)  # as kedro-mlflow does for every node
    mlflow.set_tracking_uri("http://127.0.0.1:1")
    tracking = Tracking()
    tracking.probe()
    return tracking


def test_a_run_goes_on_without_a_server_that_is_gone(lost, run):
    assert lost.lost == "connection refused: is it running?"
    assert mlflow.active_run() is None
    lost.probe()
    with lost.guarded():
        raise ConnectionError("nobody asks any more, and if somebody does, nothing happens")
    with pytest.raises(TrackingLostError, match=rf"the MLflow run {run} is incomplete$"):
        lost.finish()


def test_the_end_says_how_to_register(lost):
    command = "kedro run --pipeline anomaly --from-nodes anomaly.describe_model"
    with pytest.raises(TrackingLostError, match=f"the model is not registered.*{command}$"):
        lost.finish("anomaly.describe_model")
    lost._env = "server"
    with pytest.raises(TrackingLostError, match=f"{command} --env server$"):
        lost.finish("anomaly.describe_model")


def test_beside_a_database_errors_are_errors(run):
    tracking = Tracking()
    with pytest.raises(ValueError, match="wrong"), tracking.guarded():
        raise ValueError("wrong")
    tracking.probe()
    tracking.finish()
    assert not tracking.lost and mlflow.active_run().info.run_id == run
    assert tracking.browser == "make mlflow"


def test_without_a_run_nobody_is_asked(monkeypatch):
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: "http://somebody:secret@127.0.0.1:1")
    tracking = Tracking()
    tracking.probe()
    tracking.finish()
    assert tracking.browser == "http://127.0.0.1:1"
