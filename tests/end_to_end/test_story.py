"""The life of a model, from the first training to the way back, with the commands that a user types."""

from __future__ import annotations

import base64
import json
import shutil
import urllib.error
import urllib.request
from types import SimpleNamespace

import cv2
import mlflow
import pandas as pd
import pytest

from crack_pipeline.datasets.model_registry import read
from crack_pipeline.pipelines.sample.nodes import render_photographs
from crack_pipeline.pipelines.sample.parameters import Sample
from registry import use_registry
from servers import champion_served

MODEL, SECONDS = "anomaly", 120
POOR = "anomaly.scoring.use=mse"  # the published score, which is poor on these photographs
QUICK = "anomaly.report.examples=1,anomaly.vae.epochs=6"


@pytest.fixture(scope="module")
def story(make_project, kedro, sample, surroundings):
    """Let all of it happen once; gives what was seen on the way."""
    project, before = make_project(), mlflow.get_tracking_uri()
    shutil.copytree(sample, project / "data/01_raw/sample")
    use_registry(project)
    client = mlflow.MlflowClient()

    def run(pipeline, *params):
        done = kedro(project, "run", "--pipeline", pipeline, "--params", ",".join([QUICK, *params]))
        assert done.returncode == 0, done.stdout[-4000:]
        found = client.get_registered_model(MODEL)
        aliases = {name: int(version) for name, version in found.aliases.items()}
        decisions = {int(v.version): v.tags.get("promotion.decision") for v in client.search_model_versions()}
        return SimpleNamespace(said=done.stdout, aliases=aliases, decisions=decisions, roles=roles_in(project))

    happened = SimpleNamespace(project=project, client=client)
    happened.trained = run(MODEL, POOR)
    happened.first = run("retraining", "promotion.detector.metrics.roc_auc.least=0.2")
    arrive(project, seed=1)
    happened.better = run("retraining")
    arrive(project, seed=2)
    happened.worse = run("retraining", POOR)
    happened.again = run("retraining")
    happened.answer = ask_champion(project, surroundings, (sample / "Positive/00001.jpg").read_bytes())
    happened.back = run("rollback", f"promotion.model={MODEL}")
    yield happened
    mlflow.set_tracking_uri(before)


def arrive(project, seed):
    """Let new photographs come, as a camera of the same kind takes them."""
    for name, content in render_photographs(Sample(normal=15, crack=10, size=64, difficulty="easy", seed=seed)):
        file = project / "data/01_raw/sample" / name
        file.with_name(f"{seed}_{file.name}").write_bytes(content)


def roles_in(project):
    table = pd.read_parquet(project / "data/03_primary/anomaly/partition.parquet")
    return table.set_index("image_id")["role"]


def ask_champion(project, surroundings, photograph):
    """Serve the champion, and ask it over HTTP about a photograph."""
    registry = f"sqlite:///{project}/mlflow.db"
    with champion_served(MODEL, registry, surroundings, project / "server.log") as address:
        body = {"dataframe_records": [{"image": base64.b64encode(photograph).decode()}]}
        request = urllib.request.Request(address, json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=SECONDS) as response:
            return json.load(response)["predictions"][0]


def test_a_training_registers_and_the_first_one_is_promoted_without_being_trained_again(story):
    assert story.trained.decisions == {1: None}
    assert story.first.decisions == {1: "promoted"}
    assert story.first.aliases == {"champion": 1}
    assert "version 1 of anomaly has been trained and not decided about" in story.first.said
    assert "version 1, made with these 100 photographs, is promoted: there is no champion yet" in story.first.said
    assert story.first.said.rstrip().endswith("nothing else is new")


def test_a_better_challenger_takes_the_place_of_the_champion(story):
    assert story.better.decisions == {1: "promoted", 2: "promoted"}
    assert story.better.aliases == {"champion": 2, "previous": 1}
    assert "version 2 of anomaly is promoted: it is better" in story.better.said


def test_a_worse_challenger_does_not(story):
    assert story.worse.decisions == {1: "promoted", 2: "promoted", 3: "kept"}
    assert story.worse.aliases == {"champion": 2, "previous": 1}
    tags = story.client.get_model_version(MODEL, "3").tags
    assert "worse on roc_auc" in tags["promotion.reason"]


def test_without_news_nothing_is_trained_and_the_run_ends_well(story):
    assert story.again.decisions == story.worse.decisions
    assert "nothing is new, version 3 was made with these 150 photographs; nothing is trained" in story.again.said
    assert "rror" not in story.again.said
    runs = story.client.search_runs([experiment.experiment_id for experiment in story.client.search_experiments()])
    assert {run.info.status for run in runs} == {"FINISHED"}
    ended = [run.data.tags["ended"] for run in runs if "ended" in run.data.tags]
    assert len(ended) == 2 and sum("nothing is trained" in one for one in ended) == 1


def test_old_photographs_keep_their_roles_and_nothing_external_is_learned_from(story):
    first, better, worse = story.first.roles, story.better.roles, story.worse.roles
    assert (len(first), len(better), len(worse)) == (100, 125, 150)
    assert better[first.index].equals(first)
    assert worse[better.index].equals(better)
    assert set(worse[~worse.index.isin(better.index)]) > {"external"}  # new ones judge, too
    external = set(worse.index[worse == "external"])
    for version in (1, 2, 3):
        learned = set(read(MODEL, version).facts["learned_from"])
        assert len(learned) > 30 and not learned & external


def test_drift_of_the_new_photographs_is_told(story):
    folder = story.project / "data/08_reporting/retraining_anomaly"
    table = pd.read_csv(next(iter(sorted(folder.glob("drift.csv/*/drift.csv")))))
    assert table["quantity"].tolist() == ["score", "brightness", "sharpness", "resolution"]
    assert table["verdict"].isin(["stable", "uncertain"]).all()
    assert table["new_photographs"].tolist()[1:] == [25, 25, 25]
    assert "drift: " in story.better.said
    assert cv2.imread(str(next(folder.glob("drift.png/*/drift.png")))).std() > 0
    run = story.client.get_run(story.client.get_model_version(MODEL, "2").run_id)
    assert run.data.metrics["drift.drifted"] == 0 and 0 < run.data.metrics["drift.brightness"] < 0.5
    names = {
        file.path.rpartition("/")[2] for file in story.client.list_artifacts(run.info.run_id, "retraining_anomaly")
    }
    assert {"drift.csv", "drift.png", "drift.json"} <= names
    assert run.data.tags["retraining.news"] == "of 125 photographs 25 new"


def test_the_champion_answers_over_http(story):
    assert story.answer["version"] == "2"
    assert (story.answer["label"], story.answer["model"]) == ("crack", MODEL)
    assert story.answer["score"] > story.answer["threshold"]


def test_one_command_goes_back(story):
    assert story.back.aliases == {"champion": 1}
    assert story.back.decisions == {1: "promoted", 2: "rolled back", 3: "kept"}
