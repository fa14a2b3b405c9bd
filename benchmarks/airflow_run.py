"""Let a real Airflow retrain: in an environment of its own, with its scheduler, on tiny rendered photographs.

    python benchmarks/airflow_run.py [--model segmentation] [--params dataset=folders] [--airflow FOLDER]

Makes a virtual environment for Airflow (kept and used again where a folder is named), writes the DAG anew with
kedro-airflow for a copy of this project, and runs it through API server, DAG processor, scheduler and executor: once by
its schedule, and by a trigger meanwhile; then in one process (`airflow dags test`). Then what must fail: what is tried
again, who is told, and what is left of an attempt that takes too long or that somebody stops. Prints what happened and
the logs; ends with 1 if anything went another way. Needs uv, a package index, and some minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import yaml

ROOT = Path(__file__).parents[1]
PACKAGES = ["apache-airflow>=3.3,<4"]
PLUGIN = ["kedro-airflow>=0.11", "python-slugify", "text-unidecode", "semver"]
COPIED = ("conf", "src", "deploy", "pyproject.toml", ".telemetry")
WAIT = 900
ENDS = ("success", "failed")


def main() -> None:
    """Run everything, and say what happened."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="segmentation")
    parser.add_argument("--params", default="dataset=folders", help="more parameters of the run")
    parser.add_argument("--pipeline", help="another pipeline of Kedro than the retraining of the model")
    parser.add_argument("--airflow", type=Path, help="Airflow's virtual environment; made where there is none")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        airflow = Airflow(asked.airflow or folder / "airflow_venv", folder / "airflow")
        project = Project(folder, asked.model, asked.pipeline)
        project.kedro("run", "--env", "test", "--pipeline", "sample")
        project.set_parameters(f"raw_root=data/01_raw/sample,{asked.params}")
        project.write_dag(airflow.dags)
        print(f"airflow {airflow('version').strip()}, {airflow.python_packages()} packages of its own")
        mistakes = airflow.rows("dags", "list-import-errors")
        check("the DAG is read without an error", not mistakes, mistakes)
        with airflow.running():
            airflow.wait_for_dag(project.dag)
            airflow("dags", "unpause", project.dag)
            show_success(airflow, project)
            began = time.monotonic()
            airflow("dags", "test", project.dag)
            print(f"yes  airflow dags test runs it in one process, in {time.monotonic() - began:.0f} s")
            show_failure(airflow, project)
            show_ends(airflow, project)


def show_success(airflow: Airflow, project: Project) -> None:
    """Let the schedule start a run, and trigger another one meanwhile."""
    until(lambda: bool(airflow.rows("dags", "list-runs", project.dag)), "a run of the schedule")
    airflow("dags", "trigger", project.dag, "--run-id", "triggered")
    names = tuple(row["run_id"] for row in airflow.rows("dags", "list-runs", project.dag))
    check("the schedule has started one itself", len(names) == 2, names)
    most, ended = airflow.wait_for(project.dag, names)
    check("it and the triggered one end well", set(ended.values()) == {"success"}, ended)
    check("never two at once", most == 1, most)
    for name in sorted(names):
        states = airflow.rows("tasks", "states-for-dag-run", project.dag, name)
        check(f"its task ran through the executor: {name}", {row["state"] for row in states} == {"success"}, states)
        print(f"\n{airflow.log(project.dag, name, project.task)}\n")


def show_failure(airflow: Airflow, project: Project) -> None:
    """Take the photographs away."""
    project.set_parameters("raw_root=data/01_raw/nowhere")
    project.write_dag(airflow.dags, retries=1, retry_minutes=0.05)
    airflow("dags", "reserialize")
    airflow("dags", "trigger", project.dag, "--run-id", "failing")
    _, ended = airflow.wait_for(project.dag, ("failing",))
    check("a run without photographs fails", ended == {"failing": "failed"}, ended)
    attempts = len(airflow.logs(project.dag, "failing", project.task))
    check("it was tried twice", attempts == 2, attempts)
    message = project.told.read_text() if project.told.exists() else ""
    check("somebody is told, once", message.count("failed in Airflow") == 1, message)
    print(f"\nwhat somebody is told:\n\n{message}")


def show_ends(airflow: Airflow, project: Project) -> None:
    """Let a run take too long, and stop another one by hand."""
    pid = project.stand_in()
    project.write_dag(airflow.dags, retries=0, timeout_hours=10 / 3600)
    airflow("dags", "reserialize")
    airflow("dags", "trigger", project.dag, "--run-id", "slow")
    _, ended = airflow.wait_for(project.dag, ("slow",))
    check("a run that takes too long fails", ended == {"slow": "failed"}, ended)
    check("nothing of it is left running", not is_alive(int(pid.read_text())), pid.read_text())

    pid.unlink()
    project.write_dag(airflow.dags, retries=0)
    airflow("dags", "reserialize")
    airflow("dags", "trigger", project.dag, "--run-id", "stopped")
    until(pid.exists, "a run that goes on")
    airflow.mark_failed(project.dag, "stopped", project.task)
    until(lambda: not is_alive(int(pid.read_text())), "the end of a run whose task was marked as failed")
    check("nothing is left of a run whose task is marked as failed", True, None)


class Project:
    """A copy of this project with settings of its own, for one model."""

    def __init__(self, folder: Path, model: str, pipeline: str | None) -> None:
        self.folder, self.settings, self.told = folder / "project", folder / "settings", folder / "told"
        self._plugin, self._model, self._pipeline = folder / "kedro_airflow", model, pipeline or "retraining"
        self.dag, self.task = f"crack_pipeline_{self._pipeline}", f"retrain_{model}"
        self._copy()
        self.settings.mkdir()
        common = f"NOTIFY='cat >> {self.told}'\nOMP_NUM_THREADS=1\n"
        common += f"RETRAINING_PIPELINE={pipeline}\n" if pipeline else ""
        (self.settings / "common.env").write_text(common)

    def kedro(self, *arguments: str, **more: str) -> None:
        """Run Kedro; keyword arguments are environment variables."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("KEDRO_", "MLFLOW_"))}
        done = subprocess.run(
            [str(self.folder / ".venv/bin/kedro"), *arguments],
            cwd=self.folder,
            env=kept | {"PYTHONPATH": "", "DO_NOT_TRACK": "true"} | more,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode:
            raise SystemExit(f"kedro {' '.join(arguments)}:\n{done.stdout[-4000:]}")

    def set_parameters(self, params: str) -> None:
        """Write the settings of the model."""
        (self.settings / f"{self._model}.env").write_text(f"RETRAINING_PARAMS={params}\n")

    def write_dag(self, target: Path, **more: Any) -> None:
        """Write the DAG with kedro-airflow, which lies beside this environment and not in it."""
        if not self._plugin.exists():
            uv("pip", "install", "--target", str(self._plugin), "--no-deps", *PLUGIN)
        settings = yaml.safe_load((ROOT / "conf/base/airflow.yml").read_text())["retraining"]
        settings |= {"project": str(self.folder), "settings": str(self.settings), "models": [self._model], **more}
        (self.folder / "conf/test/airflow.yml").write_text(yaml.safe_dump({self._pipeline: settings}))
        place = ["--jinja-file", "deploy/airflow/dag.py.j2", "--target-dir", str(target)]
        create = ["airflow", "create", "--pipelines", self._pipeline, "--env", "test"]
        self.kedro(*create, *place, PYTHONPATH=str(self._plugin))

    def stand_in(self) -> Path:
        """Put something into Kedro's place that takes long; gives the file that its number will be in."""
        pid, beside = self.folder / "pid", self.folder / "slow/bin"
        beside.mkdir(parents=True)
        (beside / "kedro").write_text(f"#!/bin/sh\necho $$ > {pid}.new; mv {pid}.new {pid}\nexec sleep 600\n")
        (beside / "kedro").chmod(0o755)
        with (self.settings / "common.env").open("a") as file:
            file.write(f"CRACK_PIPELINE_VENV={beside.parent}\n")
        return pid

    def _copy(self) -> None:
        self.folder.mkdir()
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                ignored = shutil.ignore_patterns("local", "__pycache__", "*.egg-info")
                shutil.copytree(source, self.folder / name, ignore=ignored)
            else:
                shutil.copy2(source, self.folder / name)
        (self.folder / "conf/local").mkdir()
        for layer in (ROOT / "data").iterdir():
            (self.folder / "data" / layer.name).mkdir(parents=True)
        (self.folder / ".venv").symlink_to(sys.prefix, target_is_directory=True)


class Airflow:
    """An Airflow with an environment, a database and a folder of DAGs of its own."""

    def __init__(self, environment: Path, home: Path) -> None:
        self.home, self.dags = home, home / "dags"
        self.dags.mkdir(parents=True)
        self.bin = environment.resolve() / "bin"
        if not (self.bin / "airflow").exists():
            uv("venv", str(environment))
            uv("pip", "install", "--python", str(self.bin / "python"), *PACKAGES)
        port = free_port()
        self.address = f"http://127.0.0.1:{port}"
        settings = {
            "CORE__DAGS_FOLDER": self.dags,
            "CORE__LOAD_EXAMPLES": False,
            "CORE__EXECUTOR": "LocalExecutor",
            "CORE__PARALLELISM": 2,
            "CORE__EXECUTION_API_SERVER_URL": f"{self.address}/execution/",
            "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": True,
            "API__BASE_URL": self.address,
            "API__HOST": "127.0.0.1",
            "API__PORT": port,
            "API__WORKERS": 1,
            "API_AUTH__JWT_SECRET": "of this run alone, and thrown away with it afterwards",
            "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
            "DAG_PROCESSOR__REFRESH_INTERVAL": 5,
            "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": 60,
            "USAGE_DATA_COLLECTION__ENABLED": False,
        }
        # Only what a process needs: an environment of another Python must not be seen.
        kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
        kept["PATH"] = f"{self.bin}{os.pathsep}{os.defpath}"
        self.surroundings = {
            **kept,
            "AIRFLOW_HOME": str(home),
            **{f"AIRFLOW__{name}": str(value) for name, value in settings.items()},
        }
        self("db", "migrate")

    def __call__(self, *arguments: str) -> str:
        """Run a command of Airflow; gives what it prints."""
        command = [str(self.bin / "airflow"), *arguments]
        done = subprocess.run(command, env=self.surroundings, cwd=self.home, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"airflow {' '.join(arguments)}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
        return done.stdout

    def rows(self, *arguments: str) -> list[dict[str, Any]]:
        """Run a command that gives a table."""
        # Warnings may stand before it, and "No data found" in its place.
        tables = [line for line in self(*arguments, "--output", "json").splitlines() if line.startswith(("[{", "[]"))]
        return json.loads(tables[-1]) if tables else []

    def python_packages(self) -> int:
        """Count the packages of its environment."""
        return len(list(self.bin.parent.glob("lib/python*/site-packages/*.dist-info")))

    @contextmanager
    def running(self) -> Iterator[None]:
        """Keep its servers running."""
        processes = []
        try:
            for name in ("api-server", "dag-processor", "scheduler"):
                with (self.home / f"{name}.log").open("wb") as log:
                    processes.append(
                        subprocess.Popen(
                            [str(self.bin / "airflow"), name],
                            env=self.surroundings,
                            cwd=self.home,
                            stdout=log,
                            stderr=log,
                            start_new_session=True,
                        )
                    )
            yield
        finally:
            for sign in (signal.SIGINT, signal.SIGKILL):
                for process in processes:
                    with_group(process.pid, sign)
                time.sleep(3)
            for process in processes:
                process.wait()

    def wait_for_dag(self, dag: str) -> None:
        """Wait until the DAG processor has read a DAG."""
        until(lambda: any(row["dag_id"] == dag for row in self.rows("dags", "list")), f"DAG {dag}")

    def wait_for(self, dag: str, names: tuple[str, ...]) -> tuple[int, dict[str, str]]:
        """Wait until runs have ended; gives how many ran at once at most, and how each ended."""
        most = 0
        found: dict[str, str] = {}

        def have_ended() -> bool:
            nonlocal most
            rows = self.rows("dags", "list-runs", dag)
            found.update({row["run_id"]: row["state"] for row in rows if row["run_id"] in names})
            most = max(most, sum(row["state"] == "running" for row in rows))
            return set(found) == set(names) and all(state in ENDS for state in found.values())

        until(have_ended, f"runs {', '.join(names)}")
        return most, found

    def logs(self, dag: str, name: str, task: str) -> list[Path]:
        """Find the logs of all attempts of a task."""
        folder = self.home / "logs" / f"dag_id={dag}" / f"run_id={name}" / f"task_id={task}"
        return sorted(folder.glob("attempt=*.log"))

    def mark_failed(self, dag: str, name: str, task: str) -> None:
        """Do what somebody does in the browser who marks a task as failed."""
        with urlopen(Request(f"{self.address}/auth/token")) as answer:
            token = json.load(answer)["access_token"]
        asked = Request(
            f"{self.address}/api/v2/dags/{dag}/dagRuns/{name}/taskInstances/{task}",
            data=json.dumps({"new_state": "failed"}).encode(),
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
            method="PATCH",
        )
        urlopen(asked).close()

    def log(self, dag: str, name: str, task: str) -> str:
        """Give the log of the last attempt, a line an event."""
        lines = []
        for line in self.logs(dag, name, task)[-1].read_text().splitlines():
            event = json.loads(line)
            lines.append(f"{str(event.get('timestamp', ''))[:19]:<19} {event.get('event', '')}".rstrip())
        return "\n".join(lines)


def uv(*arguments: str) -> None:
    """Run uv, of this environment or from the path."""
    beside = Path(sys.executable).parent / "uv"
    subprocess.run([str(beside) if beside.exists() else "uv", *arguments, "--quiet"], check=True)


def until(holds: Callable[[], bool], what: str) -> None:
    """Wait until something holds."""
    ends = time.monotonic() + WAIT
    while not holds():
        if time.monotonic() > ends:
            raise SystemExit(f"{what}: nothing after {WAIT} s")
        time.sleep(5)  # a command of Airflow costs seconds of computing itself


def check(what: str, holds: bool, found: object) -> None:
    """Print what was found, and end where it is not as it must be."""
    print(f"{'yes' if holds else 'NO '}  {what}", flush=True)
    if not holds:
        raise SystemExit(f"found: {found}")


def is_alive(process: int) -> bool:
    """Tell whether a process runs."""
    return Path(f"/proc/{process}").exists()


def with_group(process: int, sign: signal.Signals) -> None:
    """Send a signal to a process and its children."""
    try:
        os.killpg(process, sign)
    except ProcessLookupError:
        return


def free_port() -> int:
    """Find a port that nobody listens to."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


if __name__ == "__main__":
    main()
