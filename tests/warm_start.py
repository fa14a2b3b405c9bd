"""Processes that begin where Python has imported what takes long, for tests that start many.

A process is forked from one that has imported the packages below, and nothing of Kedro or of this project: what it runs
it reads itself, from the project that it runs in.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired
from tempfile import NamedTemporaryFile

_IMPORTED = (
    "cv2",
    "lightning.pytorch",
    "matplotlib.pyplot",
    "mlflow.pyfunc",
    "mlflow.store.tracking.sqlalchemy_store",
    "pandas",
    "pydantic",
    "scipy.stats",
    "sklearn.metrics",
    "torch",
)
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(list(_IMPORTED))


def run_module(
    name: str, *arguments: str, folder: Path, surroundings: dict[str, str], seconds: float
) -> CompletedProcess[str]:
    """Do what ``python -m name arguments`` does in a folder; all that is printed is in ``stdout``.

    What imports read of the surroundings must stand in ``os.environ`` when this is called first.
    """
    with NamedTemporaryFile("r", errors="replace") as printed:
        process = _processes.Process(target=_run, args=(name, arguments, str(folder), surroundings, printed.name))
        process.start()
        process.join(seconds)
        if process.is_alive():
            process.kill()
            process.join()
            raise TimeoutExpired([name, *arguments], seconds, printed.read())
        return CompletedProcess([name, *arguments], process.exitcode or 0, printed.read())


def _run(name: str, arguments: tuple[str, ...], folder: str, surroundings: dict[str, str], printed: str) -> None:
    os.environ.clear()
    os.environ.update(surroundings)
    os.chdir(folder)
    output = os.open(printed, os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(output, stream)
    sys.path.insert(0, folder)
    sys.argv = [name, *arguments]
    try:
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    except Exception:
        # As the interpreter itself would: what multiprocessing prints in its place passes over the hook.
        sys.excepthook(*sys.exc_info())
        sys.exit(1)
