"""Where exactly cracks are: networks that learn from masks, for photographs of any size."""

from crack_pipeline.pipelines.segmentation.pipeline import (
    create_evaluate_pipeline,
    create_pipeline,
    create_predict_pipeline,
)

__all__ = ["create_evaluate_pipeline", "create_pipeline", "create_predict_pipeline"]
