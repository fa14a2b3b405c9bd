"""Promotions and the way back as a user runs them: commands, files, screen, MLflow and its registry."""

from __future__ import annotations

import json
from types import SimpleNamespace

import cv2
import mlflow
import pandas as pd
import pytest

from contending import photographs, segmenter
from crack_pipeline.datasets import ModelRegistryDataset
from crack_pipeline.datasets.model_registry import read
from crack_pipeline.evaluation.promotion import Decision, Evidence
from registry import MODEL, register, use_registry

METRICS = ["dice", "f1_tolerant", "average_precision"]


@pytest.fixture(scope="module")
def use(make_project, kedro):
    project, before = make_project(), mlflow.get_tracking_uri()
    _, manifest, partition = photographs(project / "data/03_primary/segmentation")
    (project / "data/02_intermediate/segmentation").mkdir()
    manifest.to_parquet(project / "data/02_intermediate/segmentation/manifest.parquet")
    partition.to_parquet(project / "data/03_primary/segmentation/partition.parquet")
    use_registry(project)
    first, second, third = segmenter(12), segmenter(60), segmenter(8)
    register(project, MODEL, first)
    about = {"model": MODEL, "challenger": 1, "champion": None, "fingerprint": first.whole_fingerprint()}
    evidence = Evidence(promoted=True, reason="the first")
    ModelRegistryDataset(filepath=str(project)).save(Decision.model_validate({**about, "evidence": evidence}))
    register(project, MODEL, second)
    client = mlflow.MlflowClient()

    def aliases():
        return {name: int(version) for name, version in client.get_registered_model(MODEL).aliases.items()}

    def run(name, *params):
        done = kedro(project, "run", "--pipeline", name, "--params", ",".join((f"promotion.model={MODEL}", *params)))
        return SimpleNamespace(returncode=done.returncode, stdout=done.stdout, aliases=aliases())

    promoted = run("promotion")
    register(project, MODEL, third)
    kept = run("promotion", "promotion.version=3")
    back = run("rollback")
    yield SimpleNamespace(project=project, client=client, promoted=promoted, kept=kept, back=back, second=second)
    mlflow.set_tracking_uri(before)


def saved(project, name):
    return sorted((project / "data/08_reporting/promotion").glob(f"{name}/*/{name}"))


def test_the_better_one_is_promoted(use):
    assert use.promoted.returncode == 0, use.promoted.stdout[-4000:]
    assert use.promoted.aliases == {"champion": 2, "previous": 1}
    assert "version 2 of segmentation is promoted: it is better (dice" in use.promoted.stdout
    assert read(MODEL, 2).fingerprint() == use.second.fingerprint()


def test_the_poorer_one_is_not(use):
    assert use.kept.returncode == 0, use.kept.stdout[-4000:]
    assert use.kept.aliases == {"champion": 2, "previous": 1}
    assert "version 2 stays the champion" in use.kept.stdout


def test_one_command_goes_back(use):
    assert use.back.returncode == 0, use.back.stdout[-4000:]
    assert use.back.aliases == {"champion": 1}
    assert "version 1 of segmentation is the champion again, instead of version 2" in use.back.stdout


def test_files_say_why(use):
    decisions = [json.loads(path.read_text()) for path in saved(use.project, "decision.json")]
    assert [found["evidence"]["promoted"] for found in decisions] == [True, False]
    assert [found["outcome"] for found in decisions] == ["promoted", "kept"]
    assert [(found["challenger"], found["champion"]) for found in decisions] == [(2, 1), (3, 2)]
    table = pd.read_csv(saved(use.project, "comparison.csv")[0])
    assert table["metric"].tolist() == METRICS
    assert (table["low"] <= table["difference"]).all() and table["verdict"][0] == "better"
    assert cv2.imread(str(saved(use.project, "comparison.png")[0])).std() > 0


def test_mlflow_keeps_decision_table_figure_and_numbers(use):
    told = tags_of(use, 3)[0]
    assert told["promotion.decision"] == "kept" and "worse on dice" in told["promotion.reason"]
    run = use.client.get_run(told["promotion.run"])
    names = {file.path.rpartition("/")[2] for file in use.client.list_artifacts(run.info.run_id, "promotion")}
    assert {"decision.json", "comparison.csv", "comparison.png", "summary.txt"} <= names
    assert run.data.tags["promotion.decision"] == "kept"
    assert run.data.metrics["promoted"] == 0 and run.data.metrics["dice.high"] < 0
    assert run.data.params["promotion.segmenter.chosen"] == "dice"
    assert float(told["promotion.dice.high"]) == pytest.approx(run.data.metrics["dice.high"], rel=1e-4)


def test_the_version_that_was_gone_back_from_says_so(use):
    assert tags_of(use, 2)[0]["promotion.decision"] == "rolled back"
    found = ModelRegistryDataset(filepath=str(use.project)).load().standing(MODEL)
    assert (found.champion, found.earlier, found.rolled_back) == (1, (), frozenset({2}))


def tags_of(use, *versions):
    return [use.client.get_model_version(MODEL, str(version)).tags for version in versions]
