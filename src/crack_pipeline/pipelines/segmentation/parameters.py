"""Parameters of the segmenter that learns from masks."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel, model_validator

from crack_pipeline.models.segmenters import EncoderOptions, SegmenterOptions, UNetOptions
from crack_pipeline.training.augmentation import Augmentation
from crack_pipeline.training.losses import CrossEntropy, Dice, Terms
from crack_pipeline.training.optimisers import Optimiser

logger = logging.getLogger(__name__)

_NETWORKS: dict[str, type[UNetOptions | EncoderOptions]] = {"unet": UNetOptions, "encoder": EncoderOptions}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Network(RootModel[SegmenterOptions]):
    """Which network, and its options: the project's own U-Net, or an encoder and a decoder by name.

    Options of the other one are passed over: an environment and the command line can only add to what base says.
    """

    root: SegmenterOptions = Field(default_factory=UNetOptions)

    @model_validator(mode="before")
    @classmethod
    def _without_those_of_the_other(cls, value: Any) -> Any:
        if not isinstance(value, Mapping) or value.get("name") not in _NETWORKS:
            return value
        own = set(_NETWORKS[value["name"]].model_fields)
        others = {name for options in _NETWORKS.values() for name in options.model_fields} - own
        if value["name"] == "unet" and "encoder" in value:
            _say_unused(str(value["encoder"]))
        return {name: option for name, option in value.items() if name not in others}


@lru_cache
def _say_unused(encoder: str) -> None:
    logger.warning("network.encoder is %s, and not used: that takes network.name: encoder", encoder)


class EncoderWeights(RootModel[str]):
    """What the encoder begins with: none, imagenet (downloaded once), or the path of a local file."""

    root: str = Field("none", min_length=1)

    def __str__(self) -> str:
        return self.root


def check_steps(steps: int, steps_per_epoch: int) -> None:
    """Raise ValueError if there are fewer batches in all than in an epoch."""
    if steps < steps_per_epoch:
        raise ValueError(f"steps is {steps}, fewer than the {steps_per_epoch} of steps_per_epoch")


class Training(_Strict):
    """How the network is trained."""

    steps: int = Field(2400, ge=1, description="batches in all")
    steps_per_epoch: int = Field(60, ge=1, description="batches after which the network is validated and saved")
    batch_size: int = Field(16, ge=1, description="crops in a batch")
    crop: int = Field(256, ge=16, description="side of a crop, in px; smaller where most photographs are")
    centred: float = Field(0.5, ge=0, le=1, description="share of the crops that are made to hold a crack")
    loss: Terms = Field((CrossEntropy(), Dice()), description="terms of the loss, with a weight each")
    optimiser: Optimiser = "adamw"
    learning_rate: float = Field(2e-3, gt=0, description="the highest of the schedule")
    weight_decay: float = Field(1e-2, ge=0)
    schedule: Literal["one_cycle", "constant"] = Field("one_cycle", description="of the learning rate")
    average: float = Field(
        0.995, ge=0, lt=1, description="decay per step of the moving average of the weights; 0: none"
    )
    patience: int | None = Field(
        None, ge=1, description="epochs without a better Dice on validation data that end the training; null: never"
    )
    validation_crops: int = Field(256, ge=1, description="at most so many, spread over all validation photographs")
    augmentation: Augmentation = Field(default_factory=lambda: Augmentation.model_validate({}))
    seed: int = Field(0, ge=0, description="of the initial weights, the crops and their changes")

    @model_validator(mode="after")
    def _whole_epochs(self) -> Training:
        check_steps(self.steps, self.steps_per_epoch)
        return self

    @property
    def epochs(self) -> int:
        """Number of epochs; the last is a whole one."""
        return -(-self.steps // self.steps_per_epoch)


class Report(_Strict):
    """How much is measured and shown."""

    resamples: int = Field(1000, ge=0, description="of the bootstrap over near-duplicate groups; 0: no intervals")
    examples: int = Field(3, ge=1, le=12, description="photographs each of the best, the median and the worst")
    least_pixels: int = Field(
        20, ge=1, description="crack pixels from which on a photograph is called cracked, in the tables"
    )
    seed: int = Field(0, ge=0, description="of the bootstrap")


class Output(_Strict):
    """What a prediction writes of each photograph, beside its mask."""

    overlays: bool = Field(True, description="a picture of the photograph with its cracks")
    probabilities: bool = Field(False, description="the probability of a crack in every pixel, in 256 levels")
