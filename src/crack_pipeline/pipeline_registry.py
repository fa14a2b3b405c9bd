"""The pipelines by the name after ``kedro run --pipeline``."""

from kedro.pipeline import Pipeline

from crack_pipeline.pipelines import (
    anomaly,
    export,
    ingestion,
    inpainting,
    inspection,
    label_free,
    label_noise,
    promotion,
    retraining,
    sample,
    segmentation,
    segmentation_tuning,
    synthesis,
    synthesis_gain,
    synthesis_simulated,
    weak_segmentation,
)
from crack_pipeline.pipelines.promotion.parameters import MODELS


def register_pipelines() -> dict[str, Pipeline]:
    """Give every pipeline; without a name, ``kedro run`` runs ``anomaly``."""
    detect = anomaly.create_pipeline()
    return {
        "__default__": detect,
        "sample": sample.create_pipeline(),
        "ingestion": ingestion.create_pipeline(),
        "inpainting": inpainting.create_pipeline(),
        "anomaly": detect,
        "anomaly_predict": anomaly.create_predict_pipeline(),
        "anomaly_evaluate": anomaly.create_evaluate_pipeline(),
        "segmentation": segmentation.create_pipeline(),
        "segmentation_predict": segmentation.create_predict_pipeline(),
        "segmentation_evaluate": segmentation.create_evaluate_pipeline(),
        "segmentation_tuning": segmentation_tuning.create_pipeline(),
        "synthesis": synthesis.create_pipeline(),
        "synthesis_simulated": synthesis_simulated.create_pipeline(),
        "synthesis_gain": synthesis_gain.create_pipeline(),
        "label_free": label_free.create_pipeline(),
        "label_free_predict": label_free.create_predict_pipeline(),
        "label_free_evaluate": label_free.create_evaluate_pipeline(),
        "weak_segmentation": weak_segmentation.create_pipeline(),
        "weak_segmentation_predict": weak_segmentation.create_predict_pipeline(),
        "weak_segmentation_evaluate": weak_segmentation.create_evaluate_pipeline(),
        "inspection": inspection.create_pipeline(),
        "label_noise": label_noise.create_pipeline(),
        "promotion": promotion.create_pipeline(),
        "rollback": promotion.create_rollback_pipeline(),
        **{f"{model}_export": export.create_pipeline(model) for model in MODELS},
        **retraining.create_pipelines(),
    }
