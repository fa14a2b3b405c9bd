"""A project with everything that the commands of the documentation need, in tiny sizes."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from crack_pipeline.imaging.camera import encode_jpeg, encode_png
from crack_pipeline.pipelines.sample.nodes import render_photograph
from crack_pipeline.pipelines.sample.parameters import Sample
from documented import ROOT

_COPIED = ("conf", "src", "docs", "benchmarks", "tests", "notebooks", "pyproject.toml", "requirements.txt", "README.md")
_COPIED += ("Makefile", "mkdocs.yml", ".telemetry")
_LARGER = Sample(size=(256, 384), difficulty="easy", seed=5)
_PROGRAMS = ("python", "kedro", "mlflow", "mkdocs", "uvicorn", "gunicorn")


@dataclass(frozen=True)
class World:
    """A copy of the project, and the folders that stand for the reader's own."""

    project: Path
    data: Path
    surroundings: dict[str, str]

    def newest(self, pattern: str) -> Path | None:
        """Give the newest file of the project that fits."""
        return max(self.project.glob(pattern), key=lambda path: path.stat().st_mtime, default=None)


@pytest.fixture(scope="module")
def world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, surroundings: dict[str, str]
) -> World:
    """Make the project and the data.

    With ``CRACK_PIPELINE_WORLD``, a folder, they are made there and stay, so that a later run of a few commands finds
    the models that an earlier one has trained.
    """
    kept = os.environ.get("CRACK_PIPELINE_WORLD")
    folder = Path(kept).resolve() if kept else tmp_path_factory.mktemp("world")
    project, data = folder / "project", folder / "data"
    if not project.exists():
        _copy(project)
        shutil.copy(request.getfixturevalue("database"), project / "mlflow.db")
        _settings(project)
    if not data.exists():
        _photographs(data, request.getfixturevalue("sample"))
        _network(data)
    shutil.copy(data / "sample/Positive/00001.jpg", project / "wall.jpg")
    (project / "pier.png").write_bytes(encode_png(render_photograph(_LARGER, 0, cracked=True).image))
    path = os.pathsep.join((str(project / ".venv/bin"), surroundings["PATH"]))
    source = os.pathsep.join(filter(None, (str(project / "src"), surroundings.get("PYTHONPATH"))))
    return World(project, data, surroundings | {"PATH": path, "KEDRO_ENV": "test", "PYTHONPATH": source})


def _copy(project: Path) -> None:
    """Copy the project, with a virtual environment that is the one of this process and counts as set up."""
    project.mkdir(parents=True)
    for name in _COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, project / name, ignore=shutil.ignore_patterns("local", "__pycache__", "*.egg-info"))
        else:
            shutil.copy2(source, project / name)
    (project / "conf/local").mkdir()
    for layer in (ROOT / "data").iterdir():
        (project / "data" / layer.name).mkdir(parents=True)
    programs = project / ".venv/bin"
    programs.mkdir(parents=True)
    for name in _PROGRAMS:
        there = Path(sys.executable).with_name(name)
        if there.exists():
            # A link would take the site packages from where the link lies
            (programs / name).write_text(f'#!/bin/sh\nexec "{there}" "$@"\n')
            (programs / name).chmod(0o755)
    (project / ".venv/.ready").touch()


def _settings(project: Path) -> None:
    """Let the environment paper be as small as test, and know the presets that the documentation tells how to make."""
    test, paper = project / "conf/test/parameters", project / "conf/paper/parameters"
    for small in test.glob("*.yml"):
        published = paper / small.name
        if published.exists():
            text = yaml.safe_load(published.read_text())
            published.write_text(yaml.safe_dump(_shrunk(text, yaml.safe_load(small.read_text()))))
        else:
            shutil.copy(small, published)
    base = yaml.safe_load((project / "conf/base/parameters/ingestion.yml").read_text())["presets"]["deepcrack"]
    own = {
        "presets": {"deepcrack_test": base | {"parts": [part for part in base["parts"] if part["source"] == "test"]}}
    }
    for environment in (test, paper):
        (environment / "ingestion.yml").write_text(yaml.safe_dump(own))


def _shrunk(published: Any, small: Any) -> Any:
    """Take what is published, but lengths and sizes, and whatever it says nothing of, from the small settings."""
    if not (isinstance(published, dict) and isinstance(small, dict)):
        return published if isinstance(published, str) and "${" in published else small
    return published | {
        name: _shrunk(published[name], value)
        if isinstance(published.get(name), dict)
        else _smaller(published, name, value)
        for name, value in small.items()
    }


def _smaller(published: dict[str, Any], name: str, value: Any) -> Any:
    kept = isinstance(published.get(name), str) and name not in ("levels", "batch_size")
    return published[name] if kept else value


def _photographs(data: Path, sample: Path) -> None:
    shutil.copytree(sample, data / "sample")
    for name in ("Negative", "Positive"):
        shutil.copytree(sample / name, data / "metu" / name)
    shutil.copytree(sample / "Positive", data / "new/north")
    for path in sorted((data / "new/north").iterdir())[6:]:
        path.unlink()
    shutil.make_archive(str(data / "sample"), "zip", data / "sample")
    for name, numbers in (
        ("deepcrack/train_{}", range(20)),
        ("deepcrack/test_{}", range(20, 30)),
        ("uav75/train_{}", range(20)),
        ("uav75/test_{}", range(20, 30)),
        ("pairs/{}", range(24)),
    ):
        images, masks = (
            data / name.format(kind) for kind in (("images", "masks") if "pairs" in name else ("img", "lab"))
        )
        for folder in (images, masks):
            folder.mkdir(parents=True)
        for number in numbers:
            scene = render_photograph(_LARGER, number, cracked=True)
            (images / f"{number}.jpg").write_bytes(encode_jpeg(scene.image, 90))
            (masks / f"{number}.png").write_bytes(encode_png(scene.mask))
    bridge = data / "bridge"
    (bridge / "images").mkdir(parents=True)
    (bridge / "masks").mkdir()
    for number in range(2):
        scene = render_photograph(_LARGER, number, cracked=False)
        (bridge / f"images/{number}.jpg").write_bytes(encode_jpeg(scene.image, 90))
        classes = np.full(scene.mask.shape, 6, np.uint8)
        classes[:80] = 1
        cv2.imwrite(str(bridge / f"masks/{number}.png"), classes)


def _network(data: Path) -> None:
    """Write random weights of the encoder that the documentation names."""
    import segmentation_models_pytorch as smp
    import torch

    torch.manual_seed(0)
    torch.save(smp.encoders.get_encoder("densenet169", weights=None).state_dict(), data / "densenet169.pth")
