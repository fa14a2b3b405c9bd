"""The trials of a search, as lines of a file and as runs within the active MLflow run."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from kedro.io import DatasetError, Version
from pydantic import ValidationError

from crack_pipeline.datasets.places import FileDataset
from crack_pipeline.evaluation.trials import TrialResult

_STATUS = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED", "interrupted": "FAILED"}
_METRICS_AT_ONCE = 1000
_LONGEST = 500


class TrialRunsDataset(FileDataset[TrialResult, list[TrialResult]]):
    """JSON lines, a trial a line, each written when it is saved.

    Where an MLflow run is active, every trial becomes a run within it: its parameters, the metric after every epoch
    and the best of it, and tags for its state, its reason, and whether an earlier run made it.

    Parameters
    ----------
    filepath
        Of the file, a path or a URL; the first save of a run begins it anew.
    metric
        Name of the trials' values in MLflow.
    version
        Set by Kedro for versioned datasets.
    metadata
        For other tools; not used.
    """

    def __init__(
        self,
        *,
        filepath: str,
        metric: str = "validation_dice",
        version: Version | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._metric = metric
        self._begun: PurePosixPath | None = None
        self._lines: list[str] = []
        super().__init__(filepath, version, metadata)

    def load(self) -> list[TrialResult]:
        """Read the trials in the order in which they were saved; DatasetError if a line is not one."""
        path = self._get_load_path()
        with self._reading(path) as file:
            lines = file.read_text(encoding="utf-8").splitlines()
        try:
            return [TrialResult.model_validate_json(line) for line in lines]
        except ValidationError as error:
            raise DatasetError(f"{self._url(path)} holds something else than trials: {error}") from error

    def save(self, data: TrialResult) -> None:
        """Append a trial, and track it."""
        if self._begun is None:
            self._begun = self._get_save_path()
        # Anew each time: no object store appends.
        self._lines.append(data.model_dump_json() + "\n")
        with self._writing(self._begun) as file:
            file.write_text("".join(self._lines), encoding="utf-8")
        _track(data, self._metric)

    def _describe(self) -> dict[str, Any]:
        return {**super()._describe(), "metric": self._metric}


def _track(trial: TrialResult, metric: str) -> None:
    import mlflow
    from mlflow.entities import Metric, Param
    from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

    parent = mlflow.active_run()
    if parent is None:
        return
    began = int(trial.began.timestamp() * 1000)
    ended = began + int(1000 * (trial.seconds or 0))
    tags = {
        MLFLOW_PARENT_RUN_ID: parent.info.run_id,
        "state": trial.state,
        "earlier": str(trial.earlier).lower(),
        "reason": trial.reason[:_LONGEST],
    }
    metrics = [Metric(metric, value, ended, epoch) for epoch, value in enumerate(trial.values)]
    if trial.value is not None:
        metrics.append(Metric(f"best_{metric}", trial.value, ended, 0))
    # By the client, since a run that is opened as the active one would begin now, and not when the trial did.
    client = mlflow.MlflowClient()
    run = client.create_run(parent.info.experiment_id, began, tags, run_name=f"trial {trial.number}")
    params = [Param(name, str(value)[:_LONGEST]) for name, value in trial.parameters.items()]
    client.log_batch(run.info.run_id, params=params)
    for start in range(0, len(metrics), _METRICS_AT_ONCE):
        client.log_batch(run.info.run_id, metrics[start : start + _METRICS_AT_ONCE])
    client.set_terminated(run.info.run_id, _STATUS[trial.state], ended)
