"""Whole projects to run Kedro in, far from the user's data; shared by the tests that need them."""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest
from filelock import FileLock
from hypothesis import settings

from warm_start import commit_at_once, run_module

ROOT = Path(__file__).parents[1]
_COPIED = ("conf", "src/crack_pipeline", "notebooks", "pyproject.toml", ".telemetry")
_SECONDS = 400
_FIRST = ("end_to_end/test_anomaly.py", "end_to_end/test_promotion.py", "end_to_end/")
_FIRST += ("engines/test_on_ray.py", "training/test_telling_apart.py", "pipelines/weak_segmentation", "test_startup.py")
"""Files and folders whose tests begin: the first makes what others wait for, the second needs nothing of it; the last
ones take long."""

settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")

# Read where they are imported, in the process that others are forked from.
os.environ |= {"MPLBACKEND": "Agg", "DO_NOT_TRACK": "true", "RAY_AUTH_MODE": "token"}
# Processes with a thread per core would wait for each other most of the time, and for whatever else runs here.
os.environ.setdefault("OMP_NUM_THREADS", "1")


class RunKedro(Protocol):
    """What the fixture `kedro` gives."""

    def __call__(
        self, project: Path, *args: str, env: str | None = "test", own_code: bool = False
    ) -> subprocess.CompletedProcess[str]: ...


# What is imported stays. Collections of garbage would look through it again and again.
gc.disable()


def pytest_collection_finish() -> None:
    """Let collections of garbage look at what tests make, and no more at what was imported for them."""
    gc.freeze()
    gc.enable()
    atexit.register(gc.unfreeze)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that no process is still at it when the others are done."""
    items.sort(key=lambda item: next((at for at, name in enumerate(_FIRST) if name in item.nodeid), len(_FIRST)))


@pytest.fixture(scope="session", autouse=True)
def quick_databases() -> None:
    """Let no test wait for the disk."""
    commit_at_once()


@pytest.fixture(autouse=True)
def own_code_alone() -> None:
    """Let processes that a test starts import this code, not that of a model which an earlier test has loaded."""
    sys.path[:] = [folder for folder in sys.path if not folder.endswith("/artifacts/code")]


@pytest.fixture(scope="session")
def surroundings() -> dict[str, str]:
    """Environment variables of a process that runs in a project of its own and calls nobody."""
    strange = ("KEDRO_", "MLFLOW_", "CRACK_PIPELINE_", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(strange)}
    # Two processes at a time, each with a thread per core, would wait for each other most of the time.
    return kept | {"MPLBACKEND": "Agg", "DO_NOT_TRACK": "true", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def kedro(surroundings: dict[str, str]) -> RunKedro:
    """Run Kedro in a project, in a process of its own: ``kedro(project, "run", "--pipeline", "anomaly")``.

    ``env`` is the configuration environment (None for the default one); ``own_code`` is for a project to whose code
    something was added. What is printed, log and traceback included, is in ``stdout``; nothing is raised when the
    command fails.
    """

    def run(
        project: Path, *args: str, env: str | None = "test", own_code: bool = False
    ) -> subprocess.CompletedProcess[str]:
        chosen = surroundings | ({"KEDRO_ENV": env} if env else {})
        return run_module("kedro", *args, folder=project, surroundings=chosen, seconds=_SECONDS, own_code=own_code)

    return run


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory, surroundings: dict[str, str]) -> Path:
    """An empty tracking database, to copy: MLflow takes seconds to make its tables."""

    def make(folder: Path) -> None:
        folder.mkdir()
        chosen = surroundings | {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
        done = run_module("mlflow", "experiments", "search", folder=folder, surroundings=chosen, seconds=_SECONDS)
        assert done.returncode == 0, f"mlflow:\n{done.stdout[-4000:]}"

    return _once(tmp_path_factory, "database", make) / "mlflow.db"


@pytest.fixture(scope="session")
def make_project(tmp_path_factory: pytest.TempPathFactory, database: Path) -> Callable[[], Path]:
    """Make one more copy of the project with an empty data tree, for a test that changes what it runs in."""

    def make() -> Path:
        project = _copy_project(tmp_path_factory.mktemp("project"))
        shutil.copy(database, project / "mlflow.db")
        return project

    return make


@pytest.fixture(scope="session")
def project(make_project: Callable[[], Path]) -> Path:
    """A copy of the project in which nothing has been run; tests that share it leave each other alone."""
    return make_project()


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory, kedro: RunKedro) -> Path:
    """The rendered sample in a tiny size, to read only."""

    def render(folder: Path) -> None:
        done = kedro(_copy_project(folder), "run", "--pipeline", "sample")
        assert done.returncode == 0, f"sample:\n{done.stdout[-4000:]}"

    return _once(tmp_path_factory, "sample", render) / "data/01_raw/sample"


@pytest.fixture(scope="session")
def finished_project(tmp_path_factory: pytest.TempPathFactory, kedro: RunKedro, sample: Path) -> Path:
    """A copy of the project, to read only, in which `sample` and `anomaly` have been run in tiny sizes."""

    return _once(tmp_path_factory, "finished", lambda folder: _finish(folder, "anomaly", kedro, sample))


@pytest.fixture(scope="session")
def segmented_project(tmp_path_factory: pytest.TempPathFactory, kedro: RunKedro, sample: Path) -> Path:
    """A copy of the project, to read only, in which `sample` and `segmentation` have been run in tiny sizes."""

    return _once(tmp_path_factory, "segmented", lambda folder: _finish(folder, "segmentation", kedro, sample))


def _finish(folder: Path, pipeline: str, kedro: RunKedro, sample: Path) -> None:
    _copy_project(folder)
    shutil.copytree(sample.parents[1], folder / "data", dirs_exist_ok=True)
    done = kedro(folder, "run", "--pipeline", pipeline)
    assert done.returncode == 0, f"{pipeline}:\n{done.stdout[-4000:]}"
    (folder / "said.txt").write_text(done.stdout)


def _copy_project(project: Path) -> Path:
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


def _once(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """Make a folder that all processes of this test run share, in the one that needs it first."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, done = base / name, base / f"{name}.done"
    with FileLock(base / f"{name}.lock"):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            make(folder)
            done.touch()
    return folder
