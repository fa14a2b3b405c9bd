"""Whole projects to run Kedro in, far from the user's data; shared by the tests that need them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest

ROOT = Path(__file__).parents[1]
_COPIED = ("conf", "src/crack_pipeline", "notebooks", "pyproject.toml", ".telemetry")
_SECONDS = 240


class RunKedro(Protocol):
    """What the fixture `kedro` gives."""

    def __call__(self, project: Path, *args: str, env: str | None = "test") -> subprocess.CompletedProcess[str]: ...


@pytest.fixture(scope="session")
def surroundings() -> dict[str, str]:
    """Environment variables of a process that runs in a project of its own and calls nobody."""
    strange = ("KEDRO_", "MLFLOW_", "CRACK_PIPELINE_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(strange)}
    return kept | {"MPLBACKEND": "Agg", "DO_NOT_TRACK": "true"}


@pytest.fixture(scope="session")
def kedro(surroundings) -> RunKedro:
    """Run Kedro's command line in a project: ``kedro(project, "run", "--pipeline", "anomaly")``.

    ``env`` is the configuration environment (None for the default one). What is printed, log and traceback
    included, is in ``stdout``; nothing is raised when the command fails.
    """

    def run(project: Path, *args: str, env: str | None = "test") -> subprocess.CompletedProcess[str]:
        chosen = {"KEDRO_ENV": env} if env else {}
        return subprocess.run(
            [sys.executable, "-m", "kedro", *args],
            cwd=project,
            env=surroundings | chosen,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_SECONDS,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def make_project(tmp_path_factory) -> Callable[[], Path]:
    """Make one more copy of the project with an empty data tree, for a test that changes what it runs in."""

    def make() -> Path:
        project = tmp_path_factory.mktemp("project")
        for name in _COPIED:
            source, target = ROOT / name, project / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("local", ".ipynb_checkpoints"))
            elif source.exists():
                shutil.copy2(source, target)
        (project / "conf/local").mkdir()
        for layer in (ROOT / "data").iterdir():
            (project / "data" / layer.name).mkdir(parents=True)
        return project

    return make


@pytest.fixture(scope="session")
def project(make_project) -> Path:
    """A copy of the project in which nothing has been run; tests that share it leave each other alone."""
    return make_project()


@pytest.fixture(scope="session")
def finished_project(make_project, kedro) -> Path:
    """A copy of the project, to read only, in which `sample` and `anomaly` have been run in tiny sizes."""
    project = make_project()
    for pipeline in ("sample", "anomaly"):
        done = kedro(project, "run", "--pipeline", pipeline)
        assert done.returncode == 0, f"kedro run --pipeline {pipeline}:\n{done.stdout[-4000:]}"
    return project
