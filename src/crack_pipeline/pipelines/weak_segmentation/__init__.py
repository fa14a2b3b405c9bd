"""Where exactly cracks are, learned from labels alone: which photographs, or which squares of them, show one."""

from crack_pipeline.pipelines.weak_segmentation.pipeline import (
    create_evaluate_pipeline,
    create_pipeline,
    create_predict_pipeline,
)

__all__ = ["create_evaluate_pipeline", "create_pipeline", "create_predict_pipeline"]
