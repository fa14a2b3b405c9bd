"""Run the ingestion pipeline, with the project's own catalog and parameters, in a folder of one's choice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from kedro.config import OmegaConfigLoader
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline
from kedro.runner import SequentialRunner
from kedro.validation import ParameterValidator

from crack_pipeline.imaging.photograph_stack import PhotographStack
from crack_pipeline.imaging.stack import ImageStack
from crack_pipeline.pipelines.ingestion import create_pipeline

CONF = Path(__file__).parents[1] / "conf"


@dataclass(frozen=True)
class Workspace:
    """Where an ingestion writes, and what lies there."""

    folder: Path

    def catalog(self, root: str | Path) -> DataCatalog:
        config = _loader({"raw_root": str(root)})["catalog"]
        kept = {name: about for name, about in config.items() if "{pipeline}" in str(name)}
        for about in kept.values():
            if about.get("filepath", "").startswith("data/"):
                about["filepath"] = f"{self.folder}/{about['filepath']}"
        return DataCatalog.from_config(kept)

    @property
    def manifest(self) -> pd.DataFrame:
        return pd.read_parquet(self.folder / "data/02_intermediate/ingestion/manifest.parquet")

    @property
    def partition(self) -> pd.DataFrame:
        return pd.read_parquet(self.folder / "data/03_primary/ingestion/partition.parquet")

    @property
    def quarantine(self) -> pd.DataFrame:
        return pd.read_csv(self.folder / "data/02_intermediate/ingestion/quarantine.csv", keep_default_na=False)

    @property
    def images(self) -> ImageStack:
        return ImageStack(self.folder / "data/03_primary/ingestion/images")

    @property
    def photographs(self) -> PhotographStack:
        return PhotographStack(self.folder / "data/03_primary/ingestion/images")

    def ingest(
        self,
        root: str | Path,
        dataset: str = "folders",
        parameters: Mapping[str, Mapping[str, Any]] | None = None,
        **options: Any,
    ) -> Workspace:
        """Run it; ``parameters`` overrides values of the blocks, ``options`` go to `create_pipeline`."""
        pipeline = create_pipeline("ingestion", **{"partitioned": False, **options})
        SequentialRunner().run(pipeline, self.prepared(pipeline, root, dataset, parameters or {}))
        return self

    def prepared(
        self, pipeline: Pipeline, root: str | Path, dataset: str, parameters: Mapping[str, Mapping[str, Any]]
    ) -> DataCatalog:
        """Catalog with the validated parameters in it."""
        catalog = self.catalog(root)
        values = _loader({"dataset": dataset})["parameters"]
        for block, changed in parameters.items():
            holder = values["ingestion"] if block in values["ingestion"] else values
            holder[block] = {**holder.get(block, {}), **changed}
        values = ParameterValidator({"ingestion": pipeline}).validate_raw_params(values)
        for name in pipeline.inputs():
            if name.startswith("params:"):
                value = values
                for key in name.removeprefix("params:").split("."):
                    value = value[key]
                catalog[name] = MemoryDataset(value, copy_mode="assign")
        return catalog


def _loader(runtime: dict[str, Any]) -> OmegaConfigLoader:
    return OmegaConfigLoader(
        str(CONF),
        base_env="base",
        default_run_env="base",
        config_patterns={
            "catalog": ["catalog/ingestion.yml"],
            "parameters": ["parameters/ingestion.yml", "parameters/compute.yml"],
        },
        runtime_params=runtime,
    )
