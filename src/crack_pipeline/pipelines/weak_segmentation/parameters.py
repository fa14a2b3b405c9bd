"""Parameters of the segmenter that learns from labels of photographs, or of squares of them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel, model_validator

from crack_pipeline.imaging.pseudo_masks import Confidence
from crack_pipeline.imaging.simulation import Simulation
from crack_pipeline.pipelines.ingestion.parameters import Image, Tiling
from crack_pipeline.pipelines.segmentation.parameters import EncoderWeights, Network, Report, Training, check_steps
from crack_pipeline.training.augmentation import Augmentation
from crack_pipeline.training.optimisers import Optimiser
from crack_pipeline.training.pooling import Pooling
from crack_pipeline.training.segmenting import Tiles

Start = Literal["simulated", "label_free", "maps", "published"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Way(RootModel[Literal["published", "maps", "self_training"]]):
    """How labels of squares become a segmenter.

    published: the logits of all pixels, pooled, are the logit of the square. maps: where a classifier looks, and is
    dark, is learned as crack. self_training: a first segmenter is taught by what it is sure of, in rounds.
    """

    def __str__(self) -> str:
        return self.root


class Squares(_Strict):
    """What has a label.

    Where masks give the labels, photographs are cut into squares, and the mask says of each whether it shows a crack:
    no more than that is taken from it. Where folders give them, a label is that of a whole photograph.
    """

    tiling: Tiling = Field(
        default_factory=lambda: Tiling.model_validate({}),
        description="how photographs are cut whose labels come from masks; a preset that cuts tiles says so itself",
    )
    most: int = Field(
        4000, ge=1, description="photographs to learn from, at most, half of either label as far as there are so many"
    )
    least: int = Field(
        20, ge=1, description="photographs, and squares of either label, without which nothing is trained"
    )
    wrong: float = Field(
        0.0, ge=0, lt=0.5, description="share of the labels that is turned into its contrary, to see what errors cost"
    )
    seed: int = Field(0, ge=0, description="of what is drawn")


class Labels(_Strict):
    """How a network learns from labels of squares alone (published, maps)."""

    pooling: Pooling | None = Field(
        None,
        description="of the logits of pixels, or of the places of the grid of maps; null: highest for published, since "
        "a crack covers little of a square, and mean for maps, as for class-activation maps",
    )
    size: int | None = Field(
        None,
        ge=16,
        description="side of the images, px: larger squares are shrunk; null: that of the squares, at most 256 px",
    )
    steps: int = Field(1200, ge=1, description="batches in all")
    steps_per_epoch: int = Field(120, ge=1)
    batch_size: int = Field(16, ge=2, description="squares in a batch, half of either label")
    optimiser: Optimiser = "adamw"
    learning_rate: float = Field(1e-3, gt=0, description="the highest of the schedule")
    weight_decay: float = Field(1e-2, ge=0)
    schedule: Literal["one_cycle", "constant"] = "one_cycle"
    average: float = Field(0.99, ge=0, lt=1, description="decay per step of the moving average of the weights; 0: none")
    validation_squares: int = Field(512, ge=2, description="at most so many")
    augmentation: Augmentation = Field(default_factory=lambda: Augmentation.model_validate({}))
    widths: tuple[int, ...] = Field((32, 64, 128, 128), min_length=1, description="channels of the classifier of maps")
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _whole_epochs(self) -> Labels:
        check_steps(self.steps, self.steps_per_epoch)
        return self


class Maps(_Strict):
    """How the activation of a classifier and local darkness become pseudo-masks (König et al., arXiv:2109.00456)."""

    scales: tuple[Annotated[float, Field(gt=0, le=4)], ...] = Field(
        (0.5, 1.0, 1.5), min_length=1, description="at which it looks at a photograph"
    )
    windows: tuple[Annotated[int, Field(ge=3)], ...] = Field(
        (31, 63, 127), min_length=1, description="surroundings, px; see local_darkness"
    )
    activation: float = Field(
        0.3, gt=0, lt=1, description="share of the highest activation of a square from which on a place may be a crack"
    )


class SelfTraining(_Strict):
    """Rounds in which a segmenter labels the photographs that the next one learns from."""

    start: Start = Field(
        "simulated",
        description="simulated: trained here on cracks simulated on the squares without one; label_free: the newest "
        "segmenter of the pipeline label_free; maps, published: as the ways of these names",
    )
    rounds: int = Field(2, ge=1, le=10)
    false_alarms: float = Field(
        0.25,
        ge=0,
        le=1,
        description="share of the crops that are made to hold what the last segmenter took for a crack in a square "
        "labelled as sound",
    )
    simulated: float = Field(
        0.25,
        ge=0,
        le=1,
        description="share of the crops on which cracks are simulated in addition, whose masks are exact",
    )
    confidence: Confidence = Field(default_factory=lambda: Confidence.model_validate({}))


class Threshold(_Strict):
    """How the probability is chosen from which on a pixel is a crack. No mask takes part in it."""

    rule: Literal["simulated", "fixed"] = Field(
        "simulated", description="simulated: the highest Dice on simulated cracks; fixed: the value"
    )
    value: float = Field(0.5, gt=0, lt=1, description="of the rule fixed")


class Settings(_Strict):
    """All parameters of the pipeline that decide what comes out of a training, for studies of many trainings."""

    image: Image
    way: Way
    squares: Squares
    self_training: SelfTraining
    maps: Maps
    labels: Labels
    simulation: Simulation
    network: Network
    encoder_weights: EncoderWeights
    start: Training
    training: Training
    threshold: Threshold
    tiles: Tiles
    report: Report

    def seeded(self, seed: int) -> Settings:
        """Give the same settings with other first weights, and other draws of whatever is drawn."""
        parts = {name: getattr(self, name) for name in ("squares", "labels", "start", "training")}
        seeded = {name: part.model_copy(update={"seed": part.seed + seed}) for name, part in parts.items()}
        return self.model_copy(update=seeded)
