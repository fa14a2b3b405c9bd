"""What happens around every run: tracking, tidying up, and the last lines on the screen."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click
import mlflow
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from pydantic import BaseModel

from crack_pipeline.datasets.folder import FolderDataset
from crack_pipeline.models.registered import IN_USE
from crack_pipeline.models.weights import Weights

logger = logging.getLogger(__name__)
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
    ".data_fingerprint",
    ".summary",
)


class ProjectHooks:
    """Tracking of typed parameters and live training metrics; checkpoints cleared after success; a summary."""

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Keep the project's place."""
        self._project = Path(context.project_path)

    @hook_impl
    def before_node_run(self, node: Node, inputs: dict[str, Any]) -> None:
        """Log every field of typed parameters; let Lightning log every epoch of a node tagged ``training``."""
        if "training" in node.tags:
            mlflow.pytorch.autolog(log_models=False, log_datasets=False, checkpoint=False, silent=True)
        leaves: dict[str, str] = {}
        for name, value in inputs.items():
            if isinstance(value, BaseModel) and name.startswith("params:") and name not in _UNTRACKED:
                fields = value.model_dump(mode="json")
                if isinstance(fields, dict):
                    leaves |= _leaves(name.removeprefix("params:"), fields)
        _log_params(leaves)

    @hook_impl
    def after_node_run(self, node: Node, outputs: dict[str, Any]) -> None:
        """Log the compute plan and the fingerprint of the data."""
        for name, value in outputs.items():
            if name.endswith(".plan"):
                _log_params(_leaves("plan", value.model_dump(mode="json", exclude={"reasons"})))
            if name.endswith(".data_fingerprint") and mlflow.active_run():
                mlflow.set_tag("data_fingerprint", value["fingerprint"])

    @hook_impl
    def after_dataset_loaded(self, data: Any) -> None:
        """Tag the run with the registered version of a model that it uses."""
        used = data.facts.get(IN_USE) if isinstance(data, Weights) else None
        if used and used["version"] and mlflow.active_run():
            mlflow.set_tag(f"used.{used['model']}", used["version"])

    @hook_impl
    def after_catalog_created(self, catalog: DataCatalog) -> None:
        """Keep the catalog, to look up what is tracked."""
        self._catalog = catalog

    @hook_impl
    def after_dataset_saved(self, dataset_name: str) -> None:
        """Log datasets whose metadata say ``mlflow: artifact``."""
        dataset = self._catalog.get(dataset_name)
        if (getattr(dataset, "metadata", None) or {}).get("mlflow") == "artifact" and mlflow.active_run():
            folder = dataset_name.rpartition(".")[0]
            mlflow.log_artifact(str(_place(dataset)), artifact_path=folder)

    @hook_impl(trylast=True)
    def after_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Forget checkpoints that are no longer needed; say what was found and where everything lies."""
        for name in pipeline.inputs():
            dataset = catalog.get(name)
            if isinstance(dataset, FolderDataset):
                dataset.clear()
        places = self._places(pipeline, catalog)
        for name in sorted(pipeline.all_outputs()):
            if name.rpartition(".")[2] == "summary":
                click.echo(f"\n{catalog.load(name)}\n")
        if places:
            click.echo("where it lies:")
            for name, place in places.items():
                click.echo(f"  {name:<24} {place}")
        click.echo("\nsee it with: make viz (lineage, pictures), make mlflow (runs, curves, models)")

    def _places(self, pipeline: Pipeline, catalog: DataCatalog) -> dict[str, str]:
        places = {}
        for name in sorted(pipeline.all_outputs()):
            dataset = catalog.get(name)
            shown = dataset is not None and not name.endswith(_UNSHOWN) and dataset.exists()
            place = _place(dataset) if shown else None
            if place is not None:
                near = place.is_relative_to(self._project)
                places[name.rpartition(".")[2]] = str(place.relative_to(self._project) if near else place)
        return places


def _place(dataset: Any) -> Path | None:
    """Find the file or folder of a dataset, of its latest version where it has versions."""
    path = getattr(dataset, "_filepath", None) or getattr(dataset, "_folder", None)
    if path is None:
        return None
    return Path(str(dataset._get_load_path() if getattr(dataset, "_version", None) else path))


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
