"""What happens around every run: tracking, tidying up, and the last lines on the screen."""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import click
import mlflow
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog, DatasetError
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from pydantic import BaseModel

from crack_pipeline import parameter_names, surroundings
from crack_pipeline.datasets.folder import FolderDataset
from crack_pipeline.datasets.lease import Lease
from crack_pipeline.datasets.places import lease_of, local_copy, place_of
from crack_pipeline.endings import Ending, EndsWell
from crack_pipeline.models.registered import IN_USE
from crack_pipeline.models.weights import Weights
from crack_pipeline.tracking import Tracking
from crack_pipeline.training import listening

logger = logging.getLogger(__name__)
_COMPUTE = "params:compute"
_UNTRACKED = ("params:presets",)
_LIMIT = 500
_UNSHOWN = (
    ".images",
    ".known_roles",
    ".disjointness",
    ".network_weights",
    "_scores",
    "_counts",
    ".threshold",
    ".thresholds",
    ".tracked_metrics",
    ".data_fingerprint",
    ".summary",
    ".known_before",
    ".known_noted",
    ".known_after",
)


class ProjectHooks:
    """Servers and other runs looked at first; parameters and live metrics tracked; checkpoints cleared; a summary."""

    def __init__(self) -> None:
        self._tracking = Tracking()
        self._storage = ""
        self._env: str | None = None
        self._leases: dict[str, Lease] = {}
        self._going = False
        atexit.register(self._give_up)  # for what ends a run beside Kedro's own errors

    # Before kedro-mlflow, which asks the tracking server for minutes
    @hook_impl(tryfirst=True)
    def after_context_created(self, context: KedroContext) -> None:
        """Keep the project's place; see whether the tracking server can be used."""
        self._project, self._env = Path(context.project_path), context.env
        self._configuration = Path(context.config_loader.conf_source)
        servers = surroundings.find(context.config_loader)
        self._storage = servers.storage
        surroundings.check_tracking(servers.tracking)

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Keep what is run; see whether parameters are known, servers answer, and no other run writes the same."""
        self._pipeline = pipeline
        self._check_names(run_params.get("runtime_params") or {})
        surroundings.check_storage(self._storage)
        with _ending_in_order():
            _check_cluster(pipeline, catalog)
        self._take(pipeline, catalog)
        self._tracking = Tracking(catalog, self._env)
        self._going = True

    @hook_impl(tryfirst=True)
    def on_pipeline_error(self) -> None:
        """Let nobody ask a tracking server that is gone: what went wrong is to be the last message."""
        self._going = False
        self._release()
        self._tracking.probe()

    @hook_impl(tryfirst=True)
    def before_node_run(self, node: Node, inputs: dict[str, Any]) -> None:
        """Log every field of typed parameters; let Lightning log every epoch of a node tagged ``training``."""
        self._tracking.probe()
        if "training" in node.tags and not self._tracking.lost:
            together = any(name.endswith("plan") and _trains_elsewhere(value) for name, value in inputs.items())
            options = {"log_models": False, "log_datasets": False, "checkpoint": False, "silent": True}
            mlflow.pytorch.autolog(**options, disable=together)
            # Lightning is in other processes, which cannot be expected to reach the tracking server.
            listening.listen(self._log_epoch if together else None)
        leaves: dict[str, str] = {}
        for name, value in inputs.items():
            if isinstance(value, BaseModel) and name.startswith("params:") and name not in _UNTRACKED:
                fields = value.model_dump(mode="json")
                if isinstance(fields, dict):
                    leaves |= _leaves(name.removeprefix("params:"), fields)
        with self._tracking.guarded():
            _log_params(leaves)

    @hook_impl
    def after_node_run(self, node: Node, outputs: dict[str, Any]) -> None:
        """Log the compute plan, the fingerprint of the data and what is new; end the run where a node says so."""
        for name, value in outputs.items():
            if isinstance(value, Ending):
                self._end(value)
            with self._tracking.guarded():
                if name.endswith(".news") and mlflow.active_run():
                    mlflow.set_tags(value.tags)
                if name.endswith(".plan"):
                    _log_params(_leaves("plan", value.model_dump(mode="json", exclude={"reasons"})))
                if name.endswith(".data_fingerprint") and mlflow.active_run():
                    mlflow.set_tag("data_fingerprint", value["fingerprint"])

    @hook_impl
    def after_dataset_loaded(self, data: Any) -> None:
        """Tag the run with the registered version of a model that it uses."""
        used = data.facts.get(IN_USE) if isinstance(data, Weights) else None
        if used and used["version"] and mlflow.active_run():
            with self._tracking.guarded():
                mlflow.set_tag(f"used.{used['model']}", used["version"])

    @hook_impl
    def after_catalog_created(self, catalog: DataCatalog) -> None:
        """Keep the catalog, to look up what is tracked."""
        self._catalog = catalog

    @hook_impl
    def before_dataset_saved(self, dataset_name: str) -> None:
        """See that nobody has begun to write meanwhile, and that the tracking server is there for kedro-mlflow."""
        for lease in self._leases.values():
            lease.check()
        if type(self._catalog.get(dataset_name)).__name__.startswith("Mlflow"):
            self._tracking.probe()

    @hook_impl
    def after_dataset_saved(self, dataset_name: str) -> None:
        """Log datasets whose metadata say ``mlflow: artifact``."""
        dataset = self._catalog.get(dataset_name)
        if (getattr(dataset, "metadata", None) or {}).get("mlflow") == "artifact" and mlflow.active_run():
            folder = dataset_name.rpartition(".")[0]
            with local_copy(dataset) as file, self._tracking.guarded():
                mlflow.log_artifact(str(file), artifact_path=folder)

    @hook_impl(trylast=True)
    def after_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Forget checkpoints that are no longer needed; say what was found and where everything lies."""
        for lease in self._leases.values():
            lease.check()
        _clear_checkpoints(pipeline, catalog)
        self._going = False
        self._release()
        places = self._places(pipeline, catalog)
        for name in sorted(pipeline.all_outputs()):
            if name.rpartition(".")[2] == "summary":
                click.echo(f"\n{catalog.load(name)}\n")
        if places:
            click.echo("where it lies:")
            for name, place in places.items():
                click.echo(f"  {name:<24} {place}")
        click.echo(f"\nsee it with: make viz (lineage, pictures), {self._tracking.browser} (runs, curves, models)")
        self._tracking.finish(next((node.name for node in pipeline.nodes if _registers(node)), None))

    def _check_names(self, given: Mapping[str, Any]) -> None:
        # A packed configuration cannot be looked through
        if not given or not self._configuration.is_dir():
            return
        from crack_pipeline.pipeline_registry import register_pipelines  # here, since few commands need it

        known = parameter_names.names_of(register_pipelines().values())
        parameter_names.check(given, known | parameter_names.names_in(self._configuration))

    def _log_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        with self._tracking.guarded():
            if mlflow.active_run():
                mlflow.log_metrics(dict(metrics), step=epoch)

    def _end(self, ending: Ending) -> None:
        """End the run as if it had come to its end; raises EndsWell."""
        if ending.trained:
            _clear_checkpoints(self._pipeline, self._catalog)
        self._going = False
        self._release()
        with self._tracking.guarded():
            if mlflow.active_run():
                mlflow.set_tag("ended", ending.reason)
                mlflow.end_run()
        click.echo(ending.reason)
        raise EndsWell(ending.reason)

    def _take(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Let no other run write to the folders that this one writes to: each would take what the other has written."""
        try:
            for name in sorted(pipeline.all_outputs()):
                lease = lease_of(catalog.get(name))
                if lease is not None and lease.place not in self._leases:
                    lease.take()
                    self._leases[lease.place] = lease
        except DatasetError:
            self._release()
            raise

    def _give_up(self) -> None:
        self._release()
        if self._going:
            self._going = False
            self._tracking.give_up()

    def _release(self) -> None:
        while self._leases:
            self._leases.popitem()[1].release()

    def _places(self, pipeline: Pipeline, catalog: DataCatalog) -> dict[str, str]:
        places = {}
        for name in sorted(pipeline.all_outputs()):
            dataset = catalog.get(name)
            shown = dataset is not None and not name.endswith(_UNSHOWN) and _is_there(dataset)
            place = place_of(dataset) if shown else None
            if place is not None:
                places[name.rpartition(".")[2]] = place.removeprefix(f"{self._project}{os.sep}")
        return places


@contextmanager
def _ending_in_order() -> Iterator[None]:
    """Let SIGTERM, by which systemd, Kubernetes and others end a process, end the run as Ctrl-C does, from now on.

    Where something else waits for it, that goes on; Ray, which is joined within, is not asked.
    """
    mine = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) in (
        signal.SIG_DFL,
        _end,
    )
    yield
    if mine:
        signal.signal(signal.SIGTERM, _end)


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


def _is_there(dataset: Any) -> bool:
    try:
        return bool(dataset.exists())
    except DatasetError:  # its store has gone since it was written: no reason to fail after the last node
        return False


def _registers(node: Node) -> bool:
    return any(name.endswith(".registered_model") for name in node.outputs)


def _check_cluster(pipeline: Pipeline, catalog: DataCatalog) -> None:
    if _COMPUTE not in pipeline.inputs():
        return
    from crack_pipeline.engines.compute import Compute

    compute = Compute.model_validate(catalog.load(_COMPUTE))
    if compute.engine == "ray":
        from crack_pipeline.engines import cluster  # here, since it takes a second that other runs need not wait

        cluster.join(compute)
        used = (catalog.get(name) for name in sorted(pipeline.datasets()))
        tickets = [dataset.ticket() for dataset in used if dataset is not None and hasattr(dataset, "ticket")]
        cluster.check_everywhere([ticket for ticket in tickets if ticket is not None], compute.patience)


def _clear_checkpoints(pipeline: Pipeline, catalog: DataCatalog) -> None:
    for name in pipeline.inputs():
        dataset = catalog.get(name)
        if isinstance(dataset, FolderDataset):
            dataset.clear()


def _trains_elsewhere(plan: Any) -> bool:
    return bool(plan.engine == "ray" or plan.devices > 1)


def _leaves(prefix: str, fields: dict[str, Any]) -> dict[str, str]:
    """Name every leaf of nested values by its way there."""
    leaves: dict[str, str] = {}
    for name, value in fields.items():
        path = f"{prefix}.{name}"
        leaves |= _leaves(path, value) if isinstance(value, dict) and value else {path: str(value)[:_LIMIT]}
    return leaves


def _log_params(leaves: dict[str, str]) -> None:
    """Log to the active run in one transaction: one a parameter takes seconds, over a network more."""
    if leaves and mlflow.active_run():
        mlflow.log_params(leaves)
