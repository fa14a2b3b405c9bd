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
# One process for both, since half of the time of a small run is importing
_RUN = """
import sys
from pathlib import Path
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

bootstrap_project(Path.cwd())
for name in sys.argv[1:]:
    with KedroSession.create(env="test") as session:
        session.run(pipeline_names=[name])
"""


class RunKedro(Protocol):
    """What the fixture `kedro` gives."""

    def __call__(self, project: Path, *args: str, env: str | None = "test") -> subprocess.CompletedProcess[str]: ...


@pytest.fixture(scope="session")
def surroundings() -> dict[str, str]:
    """Environment variables of a process that runs in a project of its own and calls nobody."""
    # Half of the time of a small run is importing, and most of that compiling where nothing is kept.
    strange = ("KEDRO_", "MLFLOW_", "CRACK_PIPELINE_", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(strange)}
    # Two processes at a time, each with a thread per core, would wait for each other most of the time.
    return kept | {"MPLBACKEND": "Agg", "DO_NOT_TRACK": "true", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def kedro(surroundings: dict[str, str]) -> RunKedro:
    """Run Kedro's command line in a project: ``kedro(project, "run", "--pipeline", "anomaly")``.

    ``env`` is the configuration environment (None for the default one). What is printed, log and traceback
    included, is in ``stdout``; nothing is raised when the command fails.
    """

    def run(project: Path, *args: str, env: str | None = "test") -> subprocess.CompletedProcess[str]:
        return _python(project, surroundings | ({"KEDRO_ENV": env} if env else {}), "-m", "kedro", *args)

    return run


@pytest.fixture(scope="session")
def make_project(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
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
def project(make_project: Callable[[], Path]) -> Path:
    """A copy of the project in which nothing has been run; tests that share it leave each other alone."""
    return make_project()


@pytest.fixture(scope="session")
def finished_project(make_project: Callable[[], Path], surroundings: dict[str, str]) -> Path:
    """A copy of the project, to read only, in which `sample` and `anomaly` have been run in tiny sizes."""
    project = make_project()
    done = _python(project, surroundings, "-c", _RUN, "sample", "anomaly")
    assert done.returncode == 0, f"sample and anomaly:\n{done.stdout[-4000:]}"
    return project


def _python(project: Path, surroundings: dict[str, str], *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *args],
        cwd=project,
        env=surroundings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
