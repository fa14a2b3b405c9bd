"""Keep a model up to date: look for new photographs, train on all, decide which version is used."""

from crack_pipeline.pipelines.retraining.pipeline import create_pipeline, create_pipelines

__all__ = ["create_pipeline", "create_pipelines"]
