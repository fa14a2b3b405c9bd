"""Retrains the models of this project on a schedule, one after the other.

Written by kedro-airflow from deploy/airflow/dag.py.j2 and conf/base/airflow.yml; docs/scheduling.md says how to write
it anew.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from datetime import timedelta
from typing import Any

import pendulum
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

PROJECT = "/opt/crack-pipeline"
SETTINGS = "/etc/crack-pipeline"
MODELS = ["segmentation"]
OPTIONS = []

# Nothing of Airflow's own environment, its secrets among it, is passed on: what a training needs is in SETTINGS.
ENVIRONMENT = {
    "PATH": os.environ.get("PATH", os.defpath),
    "HOME": os.environ.get("HOME", "/tmp"),
    "LANG": "C.UTF-8",
    "CRACK_PIPELINE_SETTINGS": SETTINGS,
}


def tell(context: Any) -> None:
    """Tell somebody that all attempts of a task have failed."""
    task = context["ti"]
    title = f"{task.task_id} failed in Airflow"
    attempt = f"attempt {task.try_number} of {task.max_tries + 1}, {task.run_id}"
    text = f"{context.get('exception')}\n{attempt}\n{task.log_url}\n"
    command = [f"{PROJECT}/deploy/notify.sh", title]
    subprocess.run(command, input=text, text=True, check=False, env=ENVIRONMENT, timeout=300)


with DAG(
    dag_id="crack_pipeline_retraining",
    description="Takes new photographs, trains again, and promotes what is better.",
    schedule="0 3 1 * *",
    start_date=pendulum.datetime(2025, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    max_active_tasks=1,
    default_args={
        "owner": "crack-pipeline",
        "retries": 2,
        "retry_delay": timedelta(minutes=15),
        "execution_timeout": timedelta(hours=24),
        "on_failure_callback": tell,
    },
    tags=["crack-pipeline"],
):
    # One run of Kedro is one task: what its nodes hand on in memory would not reach the process of another task.
    for model in MODELS:
        BashOperator(
            task_id=f"retrain_{model}",
            bash_command=shlex.join([f"{PROJECT}/deploy/retrain.sh", model, *OPTIONS]),
            env=ENVIRONMENT,
            skip_on_exit_code=None,
            do_xcom_push=False,
        )
