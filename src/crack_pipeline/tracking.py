"""The MLflow run of a pipeline, without which the pipeline goes on when the server stops answering."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import mlflow
from kedro.io import CatalogProtocol

from crack_pipeline import surroundings

logger = logging.getLogger(__name__)


class TrackingLostError(Exception):
    """The pipeline ran to its end, and the tracking did not."""


class Tracking:
    """Stands between a pipeline and a tracking server that may stop answering.

    What is computed counts more than what is tracked: hours into a training the run goes on, its results are stored,
    and its end says what is missing. Where runs are tracked in a file of this machine, errors are errors.

    Parameters
    ----------
    catalog
        Of the pipeline; its datasets of kedro-mlflow are switched off with the tracking.
    env
        Kedro's environment, which names the server, for commands that people are told.

    Attributes
    ----------
    lost
        Why the server is no longer asked; empty as long as it is.
    """

    def __init__(self, catalog: CatalogProtocol[Any, Any] | None = None, env: str | None = None) -> None:
        self._catalog, self._env = catalog, env
        self._run = ""
        self.lost = ""

    @property
    def browser(self) -> str:
        """Say where runs are to be seen."""
        uri = mlflow.get_tracking_uri()
        return surroundings.without_password(uri) if surroundings.is_server(uri) else "make mlflow"

    def probe(self) -> None:
        """Ask the server for the run, as patiently as MLflow is told to be; where it is lost, go on without it."""
        run = mlflow.active_run()
        if run is not None and surroundings.is_server(mlflow.get_tracking_uri()):
            with self.guarded():
                mlflow.MlflowClient().get_run(run.info.run_id)

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Go on without tracking where a server makes what is done within fail."""
        try:
            yield
        except Exception as error:  # MLflow lets errors of its clients through
            if not surroundings.is_server(mlflow.get_tracking_uri()):
                raise
            self._lose(surroundings.reason(error))

    def finish(self, registering: str | None = None) -> None:
        """End the run.

        Parameters
        ----------
        registering
            Name of the node that registers a model, where the pipeline has one.

        Raises
        ------
        TrackingLostError
            If the server was lost meanwhile: what is missing there, and how to register the model.
        """
        if not self.lost:
            return
        with _impatient(), suppress(Exception):
            mlflow.MlflowClient().set_terminated(self._run, "FAILED")
        register = ""
        if registering:
            pipeline = registering.partition(".")[0]
            register = (
                ", and the model is not registered. Once the server answers, register it with: "
                f"kedro run --pipeline {pipeline} --from-nodes {registering}"
                + (f" --env {self._env}" if self._env else "")
            )
        raise TrackingLostError(
            "the pipeline ran to its end and its results are stored, but the tracking server was lost "
            f"({self.lost}): the MLflow run {self._run} is incomplete{register}"
        )

    def give_up(self) -> None:
        """End the run as killed, at the end of the process: MLflow itself would call it finished."""
        with _impatient(), suppress(Exception):
            while mlflow.active_run():
                mlflow.end_run("KILLED")

    def _lose(self, why: str) -> None:
        from kedro_mlflow.framework.hooks.mlflow_hook import mlflow_hook
        from kedro_mlflow.io.catalog.switch_catalog_logging import switch_catalog_logging

        run = mlflow.active_run()
        if self.lost or run is None:
            return
        self.lost, self._run = why, run.info.run_id
        logger.error("the tracking server is lost, the run goes on without it: %s", why)
        mlflow.pytorch.autolog(disable=True)
        with _impatient():
            while mlflow.active_run():  # one for every node that has begun
                with suppress(Exception):
                    mlflow.end_run("FAILED")
        mlflow_hook._is_mlflow_enabled, mlflow_hook.run_id = False, None
        if self._catalog is not None:
            switch_catalog_logging(self._catalog, False)


@contextmanager
def _impatient() -> Iterator[None]:
    """Ask once, and briefly."""
    hurried = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "2"}
    before = {name: os.environ.get(name) for name in hurried}
    os.environ |= hurried
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
