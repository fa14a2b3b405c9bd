"""Two machines that share nothing but an MLflow server with PostgreSQL behind it and an object store."""

from __future__ import annotations

import os
import shutil
import sys
import time
from contextlib import ExitStack
from types import SimpleNamespace

import fsspec
import mlflow
import pandas as pd
import pytest
import yaml

from crack_pipeline import surroundings as checks
from crack_pipeline.datasets import RawRootDataset
from crack_pipeline.datasets.model_registry import ModelRegistry, read
from crack_pipeline.evaluation.promotion import Decision, Evidence
from crack_pipeline.imaging.decoding import StorageLostError
from crack_pipeline.pipelines.ingestion.developing import develop_all
from crack_pipeline.pipelines.ingestion.parameters import Image, Preset, Reading
from leasing import HAS_IT, waiting
from registry import ROW, promote_at_once
from served_pictures import files, text
from servers import Way, database, free_port, postgresql, served
from warm_start import run_module

BUCKET, SHARED = "cracks", "s3://cracks/project"
SECONDS = 400


@pytest.fixture(scope="module")
def servers(tmp_path_factory, surroundings):
    """An object store, PostgreSQL and MLflow; the variables by which their clients find them."""
    programs = postgresql()
    if programs is None:
        pytest.skip("the programs of PostgreSQL are not installed (apt-get install postgresql)")
    pytest.importorskip("moto", reason="the object store of the tests is not installed (pip install 'moto[s3]')")
    logs, store, tracking = tmp_path_factory.mktemp("servers"), free_port(), free_port()
    variables = {
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{store}",
        "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{tracking}",
        "CRACK_PIPELINE_STORAGE": SHARED,
    }
    clean = {name: value for name, value in surroundings.items() if not name.startswith("AWS_")}
    path = f"{os.path.dirname(sys.executable)}{os.pathsep}{clean['PATH']}"  # noqa: PTH120
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name, value in variables.items():
            patch.setenv(name, value)
        moto = ["moto.server", "-H", "127.0.0.1", "-p", str(store)]
        stack.enter_context(served(moto, store, clean, logs / "moto"))
        fsspec.filesystem("s3").mkdir(BUCKET)
        backend = ["--backend-store-uri", stack.enter_context(database(programs))]
        backend += ["--artifacts-destination", f"s3://{BUCKET}/mlflow"]
        command = ["mlflow", "server", *backend, "--host", "127.0.0.1", "--port", str(tracking), "--workers", "1"]
        stack.enter_context(
            served(
                command,
                tracking,
                clean | variables | {"PATH": path, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                logs / "mlflow",
            )
        )
        before = mlflow.get_tracking_uri()
        mlflow.set_tracking_uri(variables["MLFLOW_TRACKING_URI"])
        yield SimpleNamespace(variables=variables, port=tracking, store=store)
        mlflow.set_tracking_uri(before)


@pytest.fixture(scope="module")
def story(servers, make_project, surroundings, sample):
    """What a user does on two machines, one after the other."""
    store = fsspec.filesystem("s3")
    store.put(f"{sample}/", f"{SHARED}/01_raw/sample/", recursive=True)
    first, second = make_project(), make_project()
    for project in (first, second):
        # The sizes of the tests in the environment of a server.
        shutil.copytree(project / "conf/test/parameters", project / "conf/server/parameters")
    (first / "conf/local/credentials.yml").write_text(yaml.safe_dump({"environment": servers.variables}))

    def run(project, *arguments, **variables):
        known = {} if project == first else servers.variables
        clean = {name: value for name, value in surroundings.items() if not name.startswith("AWS_")} | known | variables
        command = ("run", "--env", "server", "--pipeline", *arguments)
        return run_module("kedro", *command, folder=project, surroundings=clean, seconds=SECONDS)

    trained = run(first, "anomaly")
    predicted = run(second, "anomaly_predict")
    promoted = run(second, "promotion", "--params", "promotion.model=anomaly")
    refused = run(second, "rollback", "--params", "promotion.model=anomaly")
    way = Way(servers.port, until=b"plan.accelerator")
    broken = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{way.port}", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    lost = run(first, "anomaly", **broken)
    assert way.ended.is_set()
    before = [int(found.version) for found in mlflow.MlflowClient().search_model_versions("name='anomaly'")]
    registered = run(first, "anomaly", "--from-nodes", "anomaly.describe_model")
    return SimpleNamespace(
        first=first,
        second=second,
        store=store,
        trained=trained,
        predicted=predicted,
        promoted=promoted,
        refused=refused,
        lost=lost,
        before=before,
        registered=registered,
    )


def tracked(name, status="FINISHED"):
    client = mlflow.MlflowClient()
    found = client.search_runs(
        [client.get_experiment_by_name("crack_pipeline").experiment_id],
        f"attributes.run_name = '{name}' and attributes.status = '{status}'",
        order_by=["attributes.start_time ASC"],
    )
    return found[0]


def test_a_training_reads_from_the_store_writes_to_it_and_is_tracked_on_the_server(story):
    assert story.trained.returncode == 0, story.trained.stdout[-4000:]
    assert f"photographs are read from {SHARED}/01_raw/sample" in story.trained.stdout
    assert f"{SHARED}/06_models/anomaly/detector.safetensors/" in story.trained.stdout
    run = tracked("anomaly")
    assert run.data.params["anomaly.vae.epochs"] == "12" and run.data.params["plan.accelerator"] == "cpu"
    assert run.data.metrics["internal.roc_auc"] > 0.5 and "train_loss" in run.data.metrics
    assert run.info.artifact_uri.startswith("mlflow-artifacts:/")
    names = {file.path for file in mlflow.MlflowClient().list_artifacts(run.info.run_id, "anomaly")}
    assert {"anomaly/detector.safetensors", "anomaly/metrics.json", "anomaly/roc.png"} <= names
    shared = story.store.ls(f"{SHARED}/02_intermediate/anomaly", detail=False)
    assert {path.rpartition("/")[2] for path in shared} == {"manifest.parquet", "quarantine.csv"}


def test_only_what_one_machine_needs_lies_on_its_disk(story):
    left = {
        path.relative_to(story.first / "data").parts[0]
        for path in (story.first / "data").rglob("*")
        if path.is_file() and path.name != ".gitkeep"
    }
    assert left == {"mirrored"}


def test_another_machine_predicts_with_the_model_and_promotes_it(story):
    assert story.predicted.returncode == 0, story.predicted.stdout[-4000:]
    assert f"{SHARED}/07_model_output/anomaly_predict/error_maps" in story.predicted.stdout
    assert len(story.store.ls(f"{SHARED}/07_model_output/anomaly_predict/error_maps", detail=False)) == 3
    assert story.promoted.returncode == 0, story.promoted.stdout[-4000:]
    assert "version 1 of anomaly is promoted: there is no champion yet" in story.promoted.stdout
    run = tracked("promotion")
    names = {file.path for file in mlflow.MlflowClient().list_artifacts(run.info.run_id, "promotion")}
    assert {"promotion/decision.json", "promotion/comparison.png", "promotion/summary.txt"} <= names


def test_nobody_goes_back_from_the_first_champion(story):
    assert story.refused.returncode == 1
    assert "version 1 is the first champion of anomaly" in story.refused.stdout


def test_a_server_that_is_lost_in_the_middle_costs_no_result(story):
    """Neither waits the run for the server at every step, nor does it end before its end."""
    assert story.lost.returncode == 1
    last = story.lost.stdout[-2500:]
    assert "TrackingLostError: the pipeline ran to its end and its results are stored" in last
    assert "kedro run --pipeline anomaly --from-nodes anomaly.describe_model" in last
    assert story.before == [1]
    versions = story.store.ls(f"{SHARED}/06_models/anomaly/detector.safetensors", detail=False)
    summaries = story.store.ls(f"{SHARED}/08_reporting/anomaly/summary.txt", detail=False)
    assert len(versions) == len(summaries) == 2
    assert story.registered.returncode == 0, story.registered.stdout[-4000:]
    assert "registered anomaly, version 2" in story.registered.stdout


def test_of_two_machines_that_promote_at_once_never_both_win(story, servers, tmp_path):
    client = mlflow.MlflowClient()
    for _ in range(3):
        client.copy_model_version("models:/anomaly/2", "anomaly")
    fingerprint = read("anomaly", 2).whole_fingerprint()
    registry = ModelRegistry(tmp_path / "locks")

    def decision(version, champion):
        evidence = Evidence(promoted=True, reason="it is better", rows=(ROW,), photographs=9, groups=7)
        about = {"model": "anomaly", "challenger": version, "champion": champion, "fingerprint": fingerprint}
        return Decision(**about, role="test", photographs="abc", evidence=evidence)

    rivals = [[decision(2, 1), decision(4, 1)], [decision(3, 1), decision(5, 1)]]
    told = promote_at_once(tmp_path, rivals, server=servers.variables["MLFLOW_TRACKING_URI"])
    won = [version for version, against in told if not against]
    champion = registry.standing("anomaly").champion
    assert (len(told), [champion]) == (4, won or [1]), told
    next_one = 3 if champion == 2 else 2
    registry.decide(decision(next_one, champion))
    assert registry.standing("anomaly").champion == next_one
    assert [entry.version for entry in registry._champions("anomaly").history()] == [1, *won, next_one]


def test_the_champion_is_loaded_through_the_server(story, monkeypatch):
    mlflow.MlflowClient().set_registered_model_alias("anomaly", "champion", "1")
    monkeypatch.setattr(sys, "path", sys.path[:])  # MLflow adds the code of the model to it
    model = mlflow.pyfunc.load_model("models:/anomaly@champion")
    (answer,) = model.predict(pd.DataFrame({"image": [text(files()["png"])]}))
    assert (answer["model"], answer["version"]) == ("anomaly", "1")


@pytest.mark.parametrize(
    ("storage", "variables", "complaint"),
    [
        ("s3://nobodys-bucket/project", {}, "bucket does not exist"),
        # Clients would try again for ten seconds.
        (SHARED, {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_MAX_ATTEMPTS": "1"}, "connection refused"),
    ],
)
def test_a_store_that_cannot_be_used_is_one_message(servers, monkeypatch, storage, variables, complaint):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    with pytest.raises(checks.UnreachableError, match=rf"{storage} \(CRACK_PIPELINE_STORAGE\).*{complaint}"):
        checks.check_storage(storage)
    fsspec.get_filesystem_class("s3").clear_instance_cache()


@pytest.fixture
def photographs(servers):
    """Open a folder of photographs in the store, at an address."""
    store = fsspec.filesystem("s3")
    for number in range(12):
        store.pipe_file(f"{BUCKET}/photographs/Negative/{number:02d}.png", files()["png"])

    def opened(port):
        client = {"endpoint_url": f"http://127.0.0.1:{port}"}
        options = {
            "client_kwargs": client,
            "config_kwargs": {"retries": {"max_attempts": 0}},
            "skip_instance_cache": True,
        }
        return RawRootDataset(filepath=f"s3://{BUCKET}/photographs", fs_args=options).load()

    return opened


def developed(root):
    rows = pd.DataFrame(
        [{"path": entry.path, "label": "normal", "mask_path": None, "source": ""} for entry in root.list()]
    )
    image, reading = Image(size=32), Reading(threads=2, chunk=4)
    return list(develop_all(root, rows, preset=Preset(label_from="sound"), image=image, reading=reading))


def test_a_photograph_that_is_gone_is_rejected_and_a_store_that_is_gone_ends_the_run(servers, photographs, monkeypatch):
    monkeypatch.setattr(fsspec.get_filesystem_class("s3"), "retries", 1)
    root = photographs(servers.store)
    whole = developed(root)
    assert sum(len(chunk.photos) for chunk in whole) == 12
    store, last = fsspec.filesystem("s3"), f"{BUCKET}/photographs/Negative/11.png"
    listing = list(root.list())
    monkeypatch.setattr(root, "_listed", lambda: listing)
    store.rm_file(last)
    rejected = pd.concat([chunk.rejected for chunk in developed(root)])
    assert rejected["path"].tolist() == ["Negative/11.png"] and rejected["kind"].tolist() == ["unreadable"]
    way = Way(servers.store, until=b"GET /cracks/photographs/Negative/06.png")
    with pytest.raises(
        StorageLostError, match=rf"s3://{BUCKET}/photographs cannot be read any more, neither Negative/"
    ):
        developed(photographs(way.port))
    assert way.ended.is_set()


def test_of_processes_that_want_to_write_at_once_one_does(servers):
    with waiting(f"{SHARED}/at_once/images", 3, dead=3.0) as processes:
        for process in processes:
            process.tell()
        said = [process.hear() for process in processes]
        assert said.count(HAS_IT) == 1, said
        holder = processes[said.index(HAS_IT)]
        told = [text for text in said if text != HAS_IT]
        assert all(f"{SHARED}/at_once/images" in text and f"(process {holder.pid} on " in text for text in told), said
        holder.kill()
    time.sleep(2.5)  # the store tells the time in whole seconds
    with waiting(f"{SHARED}/at_once/images", 2, dead=1.0) as (late, next_one):
        late.tell()
        assert late.hear() == HAS_IT  # the one before was killed
        late.tell()
        late.hear()
        next_one.tell()
        assert next_one.hear() == HAS_IT


def test_wrong_credentials_are_one_message(servers):
    import urllib.request

    def strict(count):
        address = f"{servers.variables['AWS_ENDPOINT_URL']}/moto-api/reset-auth"
        request = urllib.request.Request(address, str(count).encode(), {"Content-Type": "text/plain"}, method="POST")
        urllib.request.urlopen(request).read()

    strict(0)
    try:
        with pytest.raises(checks.UnreachableError, match=r"cannot be used: .*(Access Key|Forbidden|not exist)"):
            checks.check_storage(SHARED)
    finally:
        strict(10**9)
    checks.check_storage(SHARED)


def test_the_server_answers(servers):
    checks.check_tracking(servers.variables["MLFLOW_TRACKING_URI"])
