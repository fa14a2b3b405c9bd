"""The DAG as Airflow would see it; a real one runs it in benchmarks/airflow_run.py."""

from __future__ import annotations

import os
import runpy
import shlex
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from types import ModuleType, SimpleNamespace

import jinja2
import pytest
import yaml

from crack_pipeline.pipelines.promotion.parameters import MODELS

ROOT = Path(__file__).parents[2]
DAG = "deploy/airflow/crack_pipeline_retraining_dag.py"
AIRFLOW = os.environ.get("CRACK_PIPELINE_AIRFLOW", "")


@pytest.fixture(scope="module")
def settings():
    return yaml.safe_load((ROOT / "conf/base/airflow.yml").read_text())["retraining"]


@pytest.fixture
def read(monkeypatch):
    """Read a DAG file with stand-ins for Airflow, which notes what it is given."""

    def stand_in(path):
        dags, tasks = [], []

        class Dag:
            def __init__(self, **options):
                dags.append(options)

            def __enter__(self):
                return self

            def __exit__(self, *_):
                return None

        sdk, bash = ModuleType("airflow.sdk"), ModuleType("airflow.providers.standard.operators.bash")
        sdk.DAG, bash.BashOperator = Dag, lambda **options: tasks.append(options)
        names = ["airflow", "airflow.providers", "airflow.providers.standard", "airflow.providers.standard.operators"]
        pendulum = ModuleType("pendulum")
        pendulum.datetime = lambda *given, tz: (*given, tz)
        for module in (*map(ModuleType, names), sdk, bash, pendulum):
            monkeypatch.setitem(sys.modules, module.__name__, module)
        runpy.run_path(str(path))
        [dag] = dags
        return SimpleNamespace(dag=dag, tasks=tasks)

    return stand_in


def written(**more):
    """Write the DAG as kedro-airflow does."""
    loader = jinja2.FileSystemLoader(ROOT / "deploy/airflow")
    template = jinja2.Environment(autoescape=True, loader=loader, lstrip_blocks=True).get_template("dag.py.j2")
    return template.render(**{"env": "local", "pipeline_name": "retraining"} | more)


def test_the_file_is_what_template_and_settings_give(settings):
    assert written(**settings) == (ROOT / DAG).read_text()


def test_one_run_at_a_time_and_none_made_up_for(read, settings):
    dag = read(ROOT / DAG).dag
    assert dag["dag_id"] == "crack_pipeline_retraining"
    assert (dag["max_active_runs"], dag["max_active_tasks"], dag["catchup"]) == (1, 1, False)
    assert dag["schedule"] == settings["schedule"]
    given = dag["default_args"]
    assert given["retries"] == settings["retries"]
    assert given["execution_timeout"] == timedelta(hours=settings["timeout_hours"])


def test_a_task_for_each_model(read, tmp_path, settings):
    assert set(settings["models"]) <= set(MODELS)
    (tmp_path / "dag.py").write_text(written(**settings | {"models": MODELS, "env": "server"}))
    tasks = read(tmp_path / "dag.py").tasks
    assert [task["task_id"] for task in tasks] == [f"retrain_{model}" for model in MODELS]
    script, model, *options = shlex.split(tasks[0]["bash_command"])
    assert script == "/opt/crack-pipeline/deploy/retrain.sh"
    assert (model, options) == (MODELS[0], ["--env", "server"])


def test_a_task_retrains_and_sees_nothing_of_airflow(read, place, settings, monkeypatch):
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "secret")
    dag = place / "dag.py"
    dag.write_text(written(**settings | {"project": place / "project", "settings": place / "settings"}))
    [task] = read(dag).tasks
    assert "secret" not in task["env"].values()
    (place / "settings/segmentation.env").write_text(f"CALLS={place}/calls\n")
    done = subprocess.run(["bash", "-c", task["bash_command"]], env=task["env"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "run --pipeline retraining_segmentation" in (place / "calls").read_text()


def test_a_project_may_lie_anywhere(read, tmp_path, settings):
    odd = """/srv/R&D's "own" <crack> pipeline"""
    (tmp_path / "dag.py").write_text(written(**settings | {"project": odd, "settings": odd}))
    [task] = read(tmp_path / "dag.py").tasks
    assert shlex.split(task["bash_command"])[0] == f"{odd}/deploy/retrain.sh"
    assert task["env"]["CRACK_PIPELINE_SETTINGS"] == odd


def test_somebody_is_told_of_a_failure(read, place, settings):
    dag = place / "dag.py"
    dag.write_text(written(**settings | {"project": place / "project", "settings": place / "settings"}))
    attempt = SimpleNamespace(
        task_id="retrain_segmentation", try_number=3, max_tries=2, run_id="manual", log_url="http://airflow/log"
    )
    read(dag).dag["default_args"]["on_failure_callback"]({"ti": attempt, "exception": ValueError("no photographs")})
    told = (place / "told").read_text()
    assert told.startswith("retrain_segmentation failed in Airflow")
    assert "no photographs\nattempt 3 of 3, manual\nhttp://airflow/log" in told


@pytest.mark.slow
@pytest.mark.skipif(
    "CRACK_PIPELINE_AIRFLOW" not in os.environ, reason="CRACK_PIPELINE_AIRFLOW names no folder for Airflow"
)
def test_a_real_airflow_runs_it():
    command = [sys.executable, "benchmarks/airflow_run.py", "--airflow", os.environ["CRACK_PIPELINE_AIRFLOW"]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=3600, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
