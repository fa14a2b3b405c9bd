"""Processes that begin where Python has imported what takes long, for tests that start many.

A process is forked from one that has imported what warm_imports.py names, this package among it: its code is that of
every copy of the project, but for those that a test adds something to, which say so (``own_code``).
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired
from tempfile import NamedTemporaryFile
from typing import Any

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["warm_imports"])
_starting = threading.Lock()


def run_module(
    name: str,
    *arguments: str,
    folder: Path,
    surroundings: dict[str, str],
    seconds: float,
    own_code: bool = False,
) -> CompletedProcess[str]:
    """Do what ``python -m name arguments`` does in a folder; all that is printed is in ``stdout``.

    What imports read of the surroundings must stand in ``os.environ`` when this is called first. With ``own_code`` the
    process imports this package again, from the folder that it runs in.
    """
    with NamedTemporaryFile("r", errors="replace") as printed:
        process = begin_module(
            name, *arguments, folder=folder, surroundings=surroundings, printed=printed.name, own_code=own_code
        )
        process.join(seconds)
        if process.is_alive():
            process.kill()
            process.join()
            raise TimeoutExpired([name, *arguments], seconds, printed.read())
        return CompletedProcess([name, *arguments], process.exitcode or 0, printed.read())


def begin_module(
    name: str,
    *arguments: str,
    folder: Path,
    surroundings: dict[str, str],
    printed: str = os.devnull,
    own_code: bool = False,
) -> BaseProcess:
    """Begin what `run_module` does to its end; ``printed`` is the file for all that is printed."""
    with _starting, _tests_on_the_path():
        forkserver.ensure_running()
    process = _processes.Process(target=_run, args=(name, arguments, str(folder), surroundings, printed, own_code))
    process.start()
    return process


@contextmanager
def _tests_on_the_path() -> Iterator[None]:
    """Let an interpreter that is started find the modules of this folder."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(Path(__file__).parent), before)))
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def commit_at_once() -> None:
    """Let databases of this process not wait for the disk: a test ends with the machine if that loses power."""
    from sqlalchemy import Engine, event

    def connected(connection: Any, _: Any) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.execute("PRAGMA synchronous=OFF")

    event.listen(Engine, "connect", connected)


def _run(
    name: str, arguments: tuple[str, ...], folder: str, surroundings: dict[str, str], printed: str, own_code: bool
) -> None:
    os.environ.clear()
    os.environ.update(surroundings)
    os.chdir(folder)
    output = os.open(printed, os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(output, stream)
    sys.path.insert(0, folder)
    sys.argv = [name, *arguments]
    if own_code:
        for module in [module for module in sys.modules if module.partition(".")[0] == "crack_pipeline"]:
            del sys.modules[module]
    commit_at_once()
    from kedro.framework.project import LOGGING

    LOGGING.__init__()  # type: ignore[misc]  # as this folder says: Kedro reads it when it is imported
    try:
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    except Exception:
        # As the interpreter itself would: what multiprocessing prints in its place passes over the hook.
        sys.excepthook(*sys.exc_info())
        sys.exit(1)
