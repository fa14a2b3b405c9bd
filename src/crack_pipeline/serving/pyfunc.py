"""The models that MLflow serves."""

from __future__ import annotations

import logging
from abc import abstractmethod
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any

import numpy as np
import pandas as pd
import yaml
from mlflow.exceptions import MlflowException
from mlflow.models.model import MLMODEL_FILE_NAME
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel, PythonModelContext
from mlflow.store.artifact.models_artifact_repo import REGISTERED_MODEL_META_FILE_NAME
from numpy.typing import NDArray

from crack_pipeline.engines.compute import Compute, Plan
from crack_pipeline.imaging.decoding import Undecodable
from crack_pipeline.models.weights import Weights, read_weights
from crack_pipeline.serving.answering import DetectorAnswers, SegmenterAnswers, plan_for
from crack_pipeline.serving.photographs import Limits, read_photograph
from crack_pipeline.serving.replies import Answer, checked, limit_of

logger = logging.getLogger(__name__)

_NAMED_ROWS = 10


class _Served(PythonModel):
    """What detector and segmenter share: loading, reading photographs, and saying who answered.

    Its configuration takes what :class:`~crack_pipeline.serving.photographs.Limits` does, and ``compute``, the fields
    of :class:`~crack_pipeline.engines.compute.Compute`.
    """

    def load_context(self, context: PythonModelContext) -> None:
        """Rebuild the network on the device of this machine."""
        path = Path(context.artifacts["weights"])
        config = dict(context.model_config or {})
        weights = read_weights(path)
        self._limits = Limits.model_validate(config)
        self._about = _identity(path.parents[1])
        # What goes through the network takes all cores; more at a time would only take more memory.
        self._turn = BoundedSemaphore(self._limits.at_once)
        plan = plan_for(weights, Compute.model_validate(config.get("compute") or {}))
        self._about["preprocessing"] = self._load(weights, plan, config)

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> list[Answer]:
        """Answer to a table of photographs.

        Parameters
        ----------
        context
            Not used: what it gives was read when the model was loaded.
        model_input
            ``image``: what :func:`~crack_pipeline.serving.photographs.read_photograph` takes.
        params
            ``threshold`` (float), and ``heatmap`` of a detector or ``mask`` of a segmenter (bool).

        Returns
        -------
        list of dict
            One a photograph: what :mod:`crack_pipeline.serving.answering` gives, and ``width``, ``height``, ``model``,
            ``version``, ``preprocessing``.

        Raises
        ------
        MlflowException
            INVALID_PARAMETER_VALUE (400 over HTTP) if a photograph cannot be used; the message names its row.
            INTERNAL_ERROR (500) if something else goes wrong, which the log tells.
        """
        try:
            return [answer | self._about for answer in self._answer(self._photographs(model_input), params or {})]
        except MlflowException:
            raise
        except Exception as error:  # to which MLflow's server would add the traceback
            logger.exception("photographs could not be answered")
            raise MlflowException("the model could not answer: the log says why", INTERNAL_ERROR) from error

    @abstractmethod
    def _load(self, weights: Weights, plan: Plan, config: dict[str, Any]) -> Answer:
        """Keep what answers, and say how photographs are prepared for it."""

    @abstractmethod
    def _answer(self, photographs: list[Any], wishes: dict[str, Any]) -> list[Answer]:
        """Answer to each, or refuse them all."""

    def _photographs(self, table: Any) -> list[Any]:
        if not isinstance(table, pd.DataFrame) or "image" not in table:
            raise _refused("a table with the column image is needed: a photograph a row, as base64 or pixels")
        values: list[Any] = []
        for value in table["image"]:
            # {"inputs": {"image": [one, another]}} arrives as one row.
            several = isinstance(value, list) and value and all(isinstance(one, str) for one in value)
            values += value if several else [value]
        if len(values) > self._limits.max_images:
            raise _refused(f"{len(values):,} images are more than the {self._limits.max_images:,} allowed in a request")
        return values


class Detector(_Served):
    """Says of each photograph whether it is cracked; see docs/serving.md."""

    def _load(self, weights: Weights, plan: Plan, config: dict[str, Any]) -> Answer:
        self._answers = DetectorAnswers(weights, plan)
        return self._answers.preprocessing

    def _answer(self, photographs: list[Any], wishes: dict[str, Any]) -> list[Answer]:
        model, rows, threshold = self._answers, _Rows(), wishes.get("threshold")
        with _refusing():
            checked(model.threshold if threshold is None else threshold)
        prepared, sizes = [], []
        for value in photographs:
            with rows.next():
                pixels = read_photograph(value, model.mode, self._limits)
                prepared.append(model.prepare(pixels))
                sizes.append({"width": pixels.shape[1], "height": pixels.shape[0]})
        rows.check()
        with self._turn:
            found = model.answer(prepared, threshold, show=bool(wishes.get("heatmap", False)))
        return [answer | size for answer, size in zip(found, sizes, strict=True)]


class Segmenter(_Served):
    """Says of each photograph where it is cracked; see docs/serving.md."""

    def _load(self, weights: Weights, plan: Plan, config: dict[str, Any]) -> Answer:
        self._answers = SegmenterAnswers(weights, plan, int(config.get("least_pixels", 20)))
        return self._answers.preprocessing

    def _answer(self, photographs: list[Any], wishes: dict[str, Any]) -> list[Answer]:
        model, rows, threshold = self._answers, _Rows(), wishes.get("threshold")
        with _refusing():
            limit_of(model.threshold if threshold is None else threshold)
        found: list[Answer] = []
        for value in photographs:
            pixels: NDArray[np.uint8] | None = None
            with rows.next():
                pixels = read_photograph(value, model.mode, self._limits)
            if pixels is not None and not rows.bad:
                with self._turn:
                    found.append(model.answer(pixels, threshold, mask=bool(wishes.get("mask", True))))
        rows.check()
        return found


class _Rows:
    """Counts rows and remembers those that cannot be used."""

    def __init__(self) -> None:
        self.bad: list[str] = []
        self._number = -1

    def next(self) -> _Rows:
        self._number += 1
        return self

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool:
        if isinstance(error, Undecodable):
            self.bad.append(f"row {self._number}: {error.reason}")
            return True
        return False

    def check(self) -> None:
        """Refuse the request if there was one."""
        if self.bad:
            more = len(self.bad) - _NAMED_ROWS
            raise _refused("; ".join(self.bad[:_NAMED_ROWS]) + (f"; and {more:,} more" if more > 0 else ""))


class _refusing:  # noqa: N801 - used like a function
    """What is wrong with a request is said to who sent it."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, ValueError):
            raise _refused(str(error)) from None


def _refused(message: str) -> MlflowException:
    return MlflowException(message, error_code=INVALID_PARAMETER_VALUE)


def _identity(folder: Path) -> dict[str, Any]:
    """Say which registered version a folder holds: MLflow writes it there when it is fetched from the registry."""
    registered = _read_yaml(folder / REGISTERED_MODEL_META_FILE_NAME)
    if "model_name" in registered:
        return {"model": str(registered["model_name"]), "version": str(registered.get("model_version"))}
    return {"model": (_read_yaml(folder / MLMODEL_FILE_NAME).get("metadata") or {}).get("pipeline"), "version": None}


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}
