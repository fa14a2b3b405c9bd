"""Parameters of promotions and of the way back."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator

from crack_pipeline.evaluation import segmentation_metrics
from crack_pipeline.evaluation.promotion import Criteria, Sampling

Model = Literal["anomaly", "segmentation", "label_free", "weak_segmentation"]
MODELS: tuple[Model, ...] = get_args(Model)
DETECTOR = "anomaly"

_DETECTION = ("roc_auc", "average_precision", "precision", "recall", "f1")


class Promotion(BaseModel):
    """Which model is looked at, and what is asked of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Model = Field(description="registered model: it has the name of the pipeline that trains it")
    version: int | None = Field(
        None,
        ge=1,
        description="of the challenger, null for the newest one; in a way back: which to go back to, null for the last",
    )
    detector: Criteria = Field(description="of the model anomaly")
    segmenter: Criteria = Field(description="of the other models")
    sampling: Sampling
    learned_elsewhere: bool = Field(
        False,
        description="let a challenger take part that has learned from photographs that are not in the data set (any "
        "longer): whether near-duplicates of these judge it cannot be known",
    )

    @field_validator("detector")
    @classmethod
    def _of_detectors(cls, criteria: Criteria) -> Criteria:
        return _known(criteria, _DETECTION)

    @field_validator("segmenter")
    @classmethod
    def _of_segmenters(cls, criteria: Criteria) -> Criteria:
        return _known(criteria, segmentation_metrics.WITH_INTERVAL)

    @property
    def criteria(self) -> Criteria:
        """What is asked of the model."""
        return self.detector if self.model == DETECTOR else self.segmenter


def _known(criteria: Criteria, names: tuple[str, ...]) -> Criteria:
    unknown = [name for name in criteria.metrics if name not in names]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is not one of the metrics {', '.join(names)}")
    return criteria
