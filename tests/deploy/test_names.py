"""What files in deploy/ and its page name is there: paths, pipelines, parameters, models."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from crack_pipeline.pipeline_registry import register_pipelines
from crack_pipeline.pipelines.promotion.parameters import MODELS

ROOT = Path(__file__).parents[2]
# What a run makes or the set-up brings, below the project
MADE = ("data", "tracking", "mlflow.db", "mlartifacts", ".venv", ".viz")
FOLDERS = ("airflow", "container", "cron", "systemd")
FILES = sorted(
    [path for folder in FOLDERS for path in (ROOT / "deploy" / folder).rglob("*") if path.is_file()]
    + [*(ROOT / "deploy").glob("*.*"), ROOT / "docs/scheduling.md"]
)


@pytest.fixture(scope="module")
def text():
    return "\n".join(path.read_text() for path in FILES)


def test_files_are_read():
    assert len(FILES) >= 13


def test_paths_exist(text):
    named = set(re.findall(r"/opt/crack-pipeline/([\w@./*-]+)", text))
    named |= set(re.findall(r"(?<![\w/])((?:deploy|conf|docs|benchmarks)/[\w@./*-]+)", text))
    named = {path.rstrip("./*") for path in named if not path.startswith(MADE)} - {"deploy/container/.env"}
    assert {"deploy/retrain.sh", "deploy/notify.sh", "conf/base/airflow.yml"} <= named
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_pipelines_exist(text):
    known = register_pipelines()
    named = set(re.findall(r"--pipelines? ([a-z_]+)", text))
    assert named
    if "retraining" not in known:
        pytest.skip("there is no retraining yet")
    assert named <= set(known)


def test_parameters_exist(text):
    known = set()
    for file in (ROOT / "conf/base/parameters").glob("*.yml"):
        known |= set(yaml.safe_load(file.read_text()))
    shown = re.findall(r"RETRAINING_PARAMS(?:=|: \$\{RETRAINING_PARAMS:-)\"?([\w=/.,]+)", text)
    named = {pair.partition("=")[0].partition(".")[0] for pairs in shown for pair in pairs.split(",")}
    assert named == {"raw_root", "dataset"}
    assert "dataset" in known
    catalog = "".join(file.read_text() for file in (ROOT / "conf/base/catalog").glob("*.yml"))
    assert "runtime_params:raw_root" in catalog
    presets = yaml.safe_load((ROOT / "conf/base/parameters/ingestion.yml").read_text())["presets"]
    assert set(re.findall(r"dataset=(\w+)", text)) <= set(presets)


def test_models_exist(text):
    units = re.findall(r"crack-pipeline-retraining@(\w+)\.", text)
    assert set(units) - {"service"} <= set(MODELS)
    scripts = re.findall(r"retrain\.sh ([a-z_]+)(?=[\s\"`])", text)
    assert scripts
    assert set(scripts) <= set(MODELS)


def test_no_path_of_a_machine(text):
    assert not re.search(r"/(?:home|root|Users|work)/", text.replace("in `/home`", ""))
