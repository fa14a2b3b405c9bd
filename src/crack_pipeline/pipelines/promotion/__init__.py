"""Which trained model is used: a new one takes the place of the old one where evidence says so."""

from crack_pipeline.pipelines.promotion.pipeline import create_pipeline, create_rollback_pipeline

__all__ = ["create_pipeline", "create_rollback_pipeline"]
