import json
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import mlflow
import pytest
from kedro.io import DataCatalog, DatasetError, MemoryDataset
from kedro.pipeline import Node, Pipeline
from kedro_datasets.json import JSONDataset

from crack_pipeline.datasets import BlockFolderDataset, FolderDataset, ImageStackDataset, RawRootDataset
from crack_pipeline.endings import Ending
from crack_pipeline.engines import cluster
from crack_pipeline.engines.compute import Compute, resolve
from crack_pipeline.hooks import ProjectHooks
from crack_pipeline.models.weights import Weights
from crack_pipeline.parameter_names import UnknownParameterError
from crack_pipeline.pipelines.anomaly.parameters import VAE
from crack_pipeline.training import listening


@pytest.fixture
def hooks(tmp_path):
    hooks = ProjectHooks()
    hooks._project = hooks._configuration = tmp_path
    return hooks


@pytest.fixture(scope="module")
def tracking(tmp_path_factory):
    """A place to track runs in; to make one takes seconds."""
    folder, before = tmp_path_factory.mktemp("tracking"), mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    mlflow.create_experiment("hooks", artifact_location=str(folder / "artifacts"))
    mlflow.set_experiment("hooks")
    yield
    mlflow.set_tracking_uri(before)


@pytest.fixture
def run(tracking):
    """An active MLflow run; ``run()`` reads what is in it."""
    with mlflow.start_run() as active:
        yield lambda: mlflow.get_run(active.info.run_id)


ROOT = Path(__file__).parents[1]
NODE = Node(lambda x: x, "x", "y", name="node")


def test_parameters_plan_and_fingerprint_are_tracked(hooks, run):
    hooks.before_node_run(NODE, {"params:anomaly.vae": VAE(epochs=3), "images": VAE(epochs=9)})
    hooks.after_node_run(
        NODE,
        {
            "anomaly.plan": resolve(Compute(accelerator="cpu", precision="32-true", batch_size=4)),
            "anomaly.data_fingerprint": {"fingerprint": "abc", "images": 1},
        },
    )
    data = run().data
    assert data.params["anomaly.vae.epochs"] == "3"
    assert data.params["anomaly.vae.channels"] == "[32, 64, 128, 256]"
    assert (data.params["plan.accelerator"], data.params["plan.batch_size"]) == ("cpu", "4")
    assert not any(name.startswith(("images", "plan.reasons")) for name in data.params)
    assert data.tags["data_fingerprint"] == "abc"


def test_only_datasets_marked_so_become_artifacts(hooks, run, tmp_path):
    catalog = DataCatalog(
        {
            "anomaly.metrics": JSONDataset(filepath=str(tmp_path / "metrics.json"), metadata={"mlflow": "artifact"}),
            "anomaly.other": JSONDataset(filepath=str(tmp_path / "other.json")),
        }
    )
    hooks.after_catalog_created(catalog)
    for name in ("anomaly.metrics", "anomaly.other"):
        catalog[name].save({"name": name})
        hooks.after_dataset_saved(name)
    found = [file.path for file in mlflow.MlflowClient().list_artifacts(run().info.run_id, "anomaly")]
    assert found == ["anomaly/metrics.json"]
    assert logged(run, found[0]) == {"name": "anomaly.metrics"}


def test_artifacts_may_lie_in_an_object_store(hooks, run):
    place = "memory:///hooks/metrics.json"
    catalog = DataCatalog({"stored.metrics": JSONDataset(filepath=place, metadata={"mlflow": "artifact"})})
    hooks.after_catalog_created(catalog)
    catalog["stored.metrics"].save({"f1": 1})
    hooks.after_dataset_saved("stored.metrics")
    assert logged(run, "stored/metrics.json") == {"f1": 1}
    assert hooks._places(Pipeline([Node(lambda: {}, None, "stored.metrics", name="measure")]), catalog) == {
        "metrics": place
    }


def logged(run, path):
    kept = mlflow.artifacts.download_artifacts(run_id=run().info.run_id, artifact_path=path)
    return json.loads(Path(kept).read_text())


def test_the_registered_version_that_answers_is_tracked(hooks, run):
    for version in (None, 3):
        hooks.after_dataset_loaded(Weights({}, {"in_use": {"model": "segmentation", "version": version}}))
    hooks.after_dataset_loaded({"in_use": {"model": "another", "version": 1}})
    tags = {name: value for name, value in run().data.tags.items() if name.startswith("used.")}
    assert tags == {"used.segmentation": "3"}


def test_without_a_run_nothing_is_tracked(hooks, tmp_path):
    assert mlflow.active_run() is None
    hooks.before_node_run(NODE, {"params:anomaly.vae": VAE()})
    hooks.after_node_run(NODE, {"anomaly.data_fingerprint": {"fingerprint": "abc"}})
    hooks.after_catalog_created(DataCatalog({"m": MemoryDataset(metadata={"mlflow": "artifact"})}))
    hooks.after_dataset_saved("m")
    hooks.after_dataset_loaded(Weights({}, {"in_use": {"model": "anomaly", "version": 1}}))
    assert mlflow.active_run() is None


def test_the_end_clears_checkpoints_and_says_what_lies_where(hooks, tmp_path, capsys):
    checkpoints = FolderDataset(filepath=str(tmp_path / "checkpoints"))
    (checkpoints.load() / "epoch.ckpt").write_text("")
    catalog = DataCatalog(
        {
            "anomaly.checkpoints": checkpoints,
            "anomaly.metrics": JSONDataset(filepath=str(tmp_path / "reporting/metrics.json")),
            "anomaly.never_saved": JSONDataset(filepath=str(tmp_path / "reporting/nothing.json")),
            "anomaly.summary": MemoryDataset("9 of 10 found"),
        }
    )
    catalog["anomaly.metrics"].save({})
    pipeline = Pipeline(
        [
            Node(
                lambda _: ({}, {}, ""),
                "anomaly.checkpoints",
                ["anomaly.metrics", "anomaly.never_saved", "anomaly.summary"],
                name="train",
            )
        ]
    )
    hooks.after_pipeline_run({}, pipeline, catalog)
    said = capsys.readouterr().out
    assert "9 of 10 found" in said
    assert "reporting/metrics.json" in said
    assert str(tmp_path) not in said
    assert "never_saved" not in said
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize(("trained", "kept"), [(False, True), (True, False)])
def test_a_run_that_trains_nothing_leaves_the_checkpoints_of_others(hooks, tracking, tmp_path, trained, kept):
    checkpoints = FolderDataset(filepath=str(tmp_path / "checkpoints"))
    (checkpoints.load() / "epoch.ckpt").write_text("")
    catalog = DataCatalog({"anomaly.checkpoints": checkpoints})
    hooks.after_catalog_created(catalog)
    hooks.before_pipeline_run({}, Pipeline([Node(lambda x: x, "anomaly.checkpoints", "y", name="train")]), catalog)
    with pytest.raises(SystemExit):
        hooks.after_node_run(NODE, {"root": Ending("nothing else is new", trained)})
    assert (tmp_path / "checkpoints/epoch.ckpt").exists() == kept


def test_a_parameter_that_there_is_not_is_refused_with_the_nearest_one(hooks):
    hooks._configuration = ROOT / "conf"

    def give(**params):
        hooks.before_pipeline_run({"runtime_params": params}, Pipeline([]), DataCatalog({}))

    for wrong, near in (
        ({"anomly": {"vae": {"epochs": 3}}}, "there is no parameter anomly.vae.epochs: is it anomaly.vae.epochs?"),
        ({"anomaly": {"vea": {"epochs": 3}}}, "there is no parameter anomaly.vea.epochs: is it anomaly.vae.epochs?"),
        ({"raw_rot": "/folder"}, "there is no parameter raw_rot: is it raw_root?"),
        ({"q": 1}, "there is no parameter q: they begin with anomaly, "),
    ):
        with pytest.raises(UnknownParameterError) as refused:
            give(**wrong)
        assert str(refused.value).startswith(near)
    give(raw_root="/folder", dataset="pairs", model_version=3, register_models=False, structure="pier", published="a")
    give(anomaly={"vae": {"epochs": 3}, "threshold": {"level": 9}}, presets={"mine": {"label_from": "mask"}})
    hooks._configuration = ROOT / "conf.zip"
    give(anomly=1)  # of what cannot be looked through nothing is said


@pytest.mark.parametrize(("tags", "told"), [("training", True), (None, False)])
def test_lightning_logs_to_mlflow_where_a_node_trains(hooks, monkeypatch, tags, told):
    asked = []
    monkeypatch.setattr(mlflow, "pytorch", SimpleNamespace(autolog=lambda **options: asked.append(options)))
    hooks.before_node_run(Node(lambda x: x, "x", "y", name="node", tags=tags), {})
    assert [options["log_models"] for options in asked] == [False] * told


def test_a_node_that_says_so_ends_the_run_well(hooks, tracking, capsys):
    hooks.after_catalog_created(DataCatalog({}))
    hooks.before_pipeline_run({}, Pipeline([]), DataCatalog({}))
    with mlflow.start_run() as active:
        with pytest.raises(SystemExit) as ended:
            hooks.after_node_run(NODE, {"retraining_anomaly.root": Ending("nothing is new")})
        assert mlflow.active_run() is None
    assert (ended.value.code, ended.value.reason) == (0, "nothing is new")
    assert not isinstance(ended.value, Exception)  # which a runner would report
    assert capsys.readouterr().out == "nothing is new\n"
    run = mlflow.get_run(active.info.run_id)
    assert (run.info.status, run.data.tags["ended"]) == ("FINISHED", "nothing is new")


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_ended_from_outside_gives_back_what_it_holds(hooks, tracking, tmp_path, sign):
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    catalog = DataCatalog({"anomaly.images": ImageStackDataset(filepath=str(tmp_path / "images"))})
    writing = Pipeline([Node(lambda: 0, None, "anomaly.images", name="make")])
    try:
        hooks.before_pipeline_run({}, writing, catalog)
        with mlflow.start_run() as active, mlflow.start_run(nested=True) as node:
            with pytest.raises((SystemExit, KeyboardInterrupt)) as ended:
                os.kill(os.getpid(), sign)
            assert getattr(ended.value, "code", 0) == (143 if sign == signal.SIGTERM else 0)
            hooks._give_up()  # as at the end of the process
            assert mlflow.active_run() is None
        assert [mlflow.get_run(run.info.run_id).info.status for run in (active, node)] == ["KILLED"] * 2
        other = ProjectHooks()
        other.before_pipeline_run({}, writing, catalog)
        other.on_pipeline_error()
    finally:
        signal.signal(signal.SIGTERM, before)


def test_who_waits_for_sigterm_already_goes_on_to_do_so(hooks):
    before = signal.signal(signal.SIGTERM, waiting := lambda number, frame: None)
    try:
        hooks.before_pipeline_run({}, Pipeline([]), DataCatalog({}))
        assert signal.getsignal(signal.SIGTERM) is waiting
        hooks.on_pipeline_error()
    finally:
        signal.signal(signal.SIGTERM, before)


def test_what_is_new_is_told_by_tags_of_the_run(hooks, run):
    hooks.after_node_run(NODE, {"retraining_anomaly.news": SimpleNamespace(tags={"retraining.photographs": "abc"})})
    assert run().data.tags["retraining.photographs"] == "abc"


@pytest.mark.parametrize(("elsewhere", "logged"), [({"devices": 2}, True), ({"engine": "ray"}, True), ({}, False)])
def test_epochs_of_other_processes_are_tracked_here(hooks, run, monkeypatch, elsewhere, logged):
    asked = []
    autolog = SimpleNamespace(autolog=lambda **options: asked.append(options["disable"]))
    monkeypatch.setattr(mlflow, "pytorch", autolog)
    plan = resolve(Compute(accelerator="cpu", precision="32-true", batch_size=4)).model_copy(update=elsewhere)
    hooks.before_node_run(Node(lambda x: x, "x", "y", name="node", tags="training"), {"anomaly.plan": plan})
    listening.tell(0, {"train_loss": 0.5})
    listening.tell(1, {"train_loss": 0.25})
    assert asked == [logged]
    history = mlflow.MlflowClient().get_metric_history(run().info.run_id, "train_loss")
    assert [(metric.step, metric.value) for metric in history] == ([(0, 0.5), (1, 0.25)] if logged else [])
    listening.listen(None)


@pytest.mark.parametrize(("engine", "looked"), [("local", False), ("ray", True)])
def test_a_cluster_is_looked_at_before_anything_is_done(hooks, monkeypatch, tmp_path, engine, looked):
    joined, tried = [], []
    monkeypatch.setattr(cluster, "join", joined.append)
    monkeypatch.setattr(cluster, "check_everywhere", lambda tickets, patience: tried.extend(tickets))
    compute = Compute(engine=engine)
    catalog = DataCatalog(
        {
            "params:compute": MemoryDataset(compute),
            "raw": RawRootDataset(filepath=str(tmp_path)),
            "blocks": BlockFolderDataset(filepath=str(tmp_path / "blocks")),
        }
    )
    pipeline = Pipeline([Node(lambda compute, raw, blocks: 1, ["params:compute", "raw", "blocks"], "found", name="n")])
    hooks.before_pipeline_run(run_params={}, pipeline=pipeline, catalog=catalog)
    assert joined == ([compute] if looked else [])
    assert [ticket.name for ticket in tried] == ([str(tmp_path / "blocks"), f"raw_root {tmp_path}"] if looked else [])


def test_two_runs_do_not_write_to_one_folder(hooks, tmp_path, capsys):
    def catalog():
        images = ImageStackDataset(filepath=str(tmp_path / "images"))
        return DataCatalog({"anomaly.images": images, "anomaly.scores": MemoryDataset()})

    def writing(name):
        return Pipeline([Node(lambda: 0, None, name, name="make")])

    other = ProjectHooks()
    hooks.before_pipeline_run({}, writing("anomaly.images"), catalog())
    with pytest.raises(DatasetError, match=f"another run is writing to {tmp_path}/images"):
        other.before_pipeline_run({}, writing("anomaly.images"), catalog())
    reading = Pipeline([Node(lambda x: x, "anomaly.images", "anomaly.scores", name="score")])
    other.before_pipeline_run({}, reading, catalog())

    def end_early():
        with pytest.raises(SystemExit):
            hooks.after_node_run(NODE, {"x": Ending("nothing is new")})

    for end in (hooks.on_pipeline_error, lambda: hooks.after_pipeline_run({}, Pipeline([]), DataCatalog()), end_early):
        hooks.after_catalog_created(catalog())
        end()
        other.before_pipeline_run({}, writing("anomaly.images"), catalog())
        other.on_pipeline_error()
        hooks.before_pipeline_run({}, writing("anomaly.images"), catalog())
    hooks.on_pipeline_error()
