"""Which photographs are cracked: a variational autoencoder that has only ever seen sound concrete."""

from crack_pipeline.pipelines.anomaly.pipeline import (
    create_evaluate_pipeline,
    create_pipeline,
    create_predict_pipeline,
)

__all__ = ["create_evaluate_pipeline", "create_pipeline", "create_predict_pipeline"]
