"""Where exactly cracks are, learned from simulated ones alone: neither a real crack nor a mask of one is looked at."""

from crack_pipeline.pipelines.label_free.pipeline import (
    create_evaluate_pipeline,
    create_pipeline,
    create_predict_pipeline,
)

__all__ = ["create_evaluate_pipeline", "create_pipeline", "create_predict_pipeline"]
