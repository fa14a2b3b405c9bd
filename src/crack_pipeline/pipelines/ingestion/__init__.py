"""From a root of photographs to image stack, manifest, quarantine and partition."""

from crack_pipeline.pipelines.ingestion.pipeline import create_pipeline

__all__ = ["create_pipeline"]
