"""Trained models in the MLflow registry, as a model that can be served."""

from __future__ import annotations

import base64
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from kedro.io import AbstractDataset, DatasetError

import crack_pipeline
from crack_pipeline.datasets.safetensors import SafetensorsDataset
from crack_pipeline.serving.registration import Registration
from crack_pipeline.surroundings import without_password

logger = logging.getLogger(__name__)

UNKNOWN = "unknown"
WEIGHTS = "weights.safetensors"
_PACKAGE = Path(crack_pipeline.__file__).parent
_LAYERS = ("imaging", "models", "training", "engines", "evaluation", "serving")
"""Packages of this project that a served model runs."""
_REQUIRED = (
    "mlflow",
    "numpy",
    "opencv-python-headless",
    "pandas",
    "pillow",
    "psutil",
    "pydantic",
    "pyyaml",
    "safetensors",
    "scikit-image",
    "scipy",
    "torch",
)
_OF_ENCODERS = ("segmentation-models-pytorch", "timm", "torchvision")
_EXAMPLE_SIDE = 64


class RegisteredModelDataset(AbstractDataset[Registration, int]):
    """Logs a trained model to the active MLflow run and registers it as the next version of a model.

    A version is complete when it can be seen: it is made, with its tags, after everything else has been stored. Where
    no run is active, nothing is done.

    Parameters
    ----------
    name
        Of the registered model: the pipeline that trains it.
    register
        False leaves the registry alone.
    metadata
        For other tools; ignored here.
    """

    def __init__(self, *, name: str, register: bool = True, metadata: dict[str, Any] | None = None) -> None:
        self._name, self._register = name, register
        self._saved: int | None = None
        self._left_out = False
        self.metadata = metadata

    def save(self, data: Registration) -> None:
        """Register the next version; DatasetError if the registry refuses or cannot be reached."""
        import mlflow

        if not self._register:
            logger.info("%s is not registered: the catalog says so", self._name)
            return
        if mlflow.active_run() is None:
            logger.info("%s is not registered: no MLflow run is active", self._name)
            self._left_out = True
            return
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # of a few files that are copied
        path = sys.path[:]
        try:
            number = _register(self._name, data)
        except Exception as error:  # a registry behind a network raises anything
            place, said = (without_password(text) for text in (mlflow.get_registry_uri(), " ".join(str(error).split())))
            raise DatasetError(
                f"the model is trained and stored, but could not be registered as {self._name} in "
                f"{place}: {said}. Once that is mended, register it with: "
                f"kedro run --pipeline {self._name} --from-nodes {self._name}.describe_model"
            ) from error
        finally:
            sys.path[:] = path  # to which MLflow has added the copy of the code that it tries the model with
        self._saved = int(number)
        logger.info("registered %s, version %s: models:/%s/%s", self._name, number, self._name, number)

    def load(self) -> int:
        """Give the number of the version that was registered here, or of the newest one.

        Raises
        ------
        DatasetError
            If nothing is registered here, or what was saved was not: another version is not what was trained. A model
            itself is loaded with ``mlflow.pyfunc.load_model``.
        """
        import mlflow

        if self._saved is not None:
            return self._saved
        if not self._register:
            raise DatasetError(f"{self._name} is not registered, since register_models is false: nothing can follow")
        if self._left_out:
            raise DatasetError(
                f"{self._name} is trained and stored, and not registered, since no MLflow run is active (was the "
                "tracking server lost?): nothing can follow. Run it again, it goes on where it was"
            )
        newest = mlflow.MlflowClient().search_model_versions(f"name='{self._name}'", 1, ["version_number DESC"])
        if not newest:
            raise DatasetError(
                f"no version of {self._name} is registered; where there is one it is loaded with "
                f"mlflow.pyfunc.load_model('models:/{self._name}/<version>')"
            )
        return int(newest[0].version)

    def _exists(self) -> bool:
        return False

    def _describe(self) -> dict[str, Any]:
        return {"name": self._name, "register": self._register}


def requirements(facts: Mapping[str, Any]) -> list[str]:
    """Pin the packages that a served model needs, as they are installed here.

    Parameters
    ----------
    facts
        Of its weights: networks of other libraries need these.
    """
    network = facts.get("network", {})
    names = [*_REQUIRED, *(_OF_ENCODERS if "encoder" in network else ())]
    pinned = []
    for name in names:
        try:
            # Without the build, such as +cpu, which an index does not know.
            pinned.append(f"{name}=={version(name).partition('+')[0]}")
        except PackageNotFoundError:
            pinned.append(name)
    return pinned


def git_commit(folder: Path = _PACKAGE) -> str:
    """Give the commit that a folder of code is at, or ``unknown``.

    Where there is no repository, as in a container, the environment variable ``CRACK_PIPELINE_COMMIT`` says it.
    """
    told = os.environ.get("CRACK_PIPELINE_COMMIT")
    if told:
        return told
    try:
        command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return UNKNOWN
    return done.stdout.strip() or UNKNOWN


def _register(name: str, registration: Registration) -> str:
    import mlflow

    weights = registration.weights
    with tempfile.TemporaryDirectory() as scratch:
        SafetensorsDataset(filepath=str(Path(scratch) / WEIGHTS)).save(weights)
        logged = mlflow.pyfunc.log_model(
            name=name,
            python_model=str(_PACKAGE / "serving" / f"served_{registration.kind}.py"),
            artifacts={"weights": str(Path(scratch) / WEIGHTS)},
            code_paths=[str(_copy_code(Path(scratch)))],
            pip_requirements=requirements(weights.facts),
            signature=_signature(registration),
            input_example=_example(weights.facts["image"], registration.settings),
            model_config=dict(registration.settings),
            metadata={"pipeline": name},
        )
    tags = {**registration.tags, "pipeline": name, "git_commit": git_commit()}
    return str(mlflow.register_model(logged.model_uri, name, tags=tags).version)


def _copy_code(folder: Path) -> Path:
    """Copy the packages of this project that a served model runs, and no others."""
    copy = folder / _PACKAGE.name
    copy.mkdir()
    shutil.copy(_PACKAGE / "__init__.py", copy)
    for layer in _LAYERS:
        shutil.copytree(_PACKAGE / layer, copy / layer, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def _signature(registration: Registration) -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import AnyType

    params = [ParamSpec("threshold", DataType.double, registration.threshold)]
    optional = ["probability", "version", "preprocessing"]
    if registration.kind == "segmenter":
        params.append(ParamSpec("mask", DataType.boolean, True))
        optional.append("mask")
    else:
        params.append(ParamSpec("heatmap", DataType.boolean, False))
        optional.append("heatmap")
    outputs = [ColSpec(DataType.string, name) for name in ("label", "model")]
    outputs += [ColSpec(DataType.double, name) for name in ("score", "threshold")]
    outputs += [ColSpec(DataType.long, name) for name in ("width", "height")]
    outputs += [ColSpec(AnyType(), name, required=False) for name in optional]
    return ModelSignature(Schema([ColSpec(AnyType(), "image")]), Schema(outputs), ParamSchema(params))


def _example(image: Mapping[str, Any], settings: Mapping[str, Any]) -> Any:
    """Draw a dark line, and give it as a request holds it."""
    import pandas as pd

    side = image["size"] or _EXAMPLE_SIDE
    if image["size"] is None or image.get("resize", True):
        side = max(side, settings.get("min_side", side))
    picture = np.full((side, side), 170, np.uint8)
    picture[:, side // 2] = 40
    _, png = cv2.imencode(".png", picture)
    return pd.DataFrame({"image": [base64.b64encode(png.tobytes()).decode()]})
