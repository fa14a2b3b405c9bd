"""A project of scripts alone, with something in Kedro's place that writes down how it was called."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KEDRO = """#!/bin/sh
echo "$PWD|$*|${KEDRO_ENV:-}|${PYTHONPATH:-}|${EXTRA:-}" >> "$CALLS"
[ -z "${HOLD:-}" ] || exec sleep "$HOLD"
exit "${STATUS:-0}"
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with the scripts in ``project``, settings in ``settings``, and logs in ``logs``."""
    for name in ("settings", "logs", "project/.venv/bin"):
        (tmp_path / name).mkdir(parents=True)
    shutil.copytree(ROOT / "deploy", tmp_path / "project/deploy")
    kedro = tmp_path / "project/.venv/bin/kedro"
    kedro.write_text(KEDRO)
    kedro.chmod(0o755)
    (tmp_path / "settings/common.env").write_text(f"NOTIFY='cat >> {tmp_path}/told'\n")
    return tmp_path


@pytest.fixture
def surroundings(place: Path) -> dict[str, str]:
    """Environment variables of a scheduler."""
    return {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": "/of/the/scheduler",
        "CRACK_PIPELINE_SETTINGS": str(place / "settings"),
        "CALLS": str(place / "calls"),
    }


@pytest.fixture
def retrain(place: Path, surroundings: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Call ``retrain.sh``; keyword arguments are environment variables."""

    def call(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        command = [str(place / "project/deploy/retrain.sh"), *arguments]
        return subprocess.run(command, env=surroundings | more, capture_output=True, text=True, timeout=60, check=False)

    return call
