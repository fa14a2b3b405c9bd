"""Parameters of the anomaly detector."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel, model_validator

from crack_pipeline.evaluation.scores import BASELINE, Score
from crack_pipeline.imaging.simulation import Simulation
from crack_pipeline.pipelines.segmentation.parameters import Network, Training


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class VAE(_Strict):
    """The network and its training."""

    channels: tuple[int, ...] = Field((32, 64, 128, 256), min_length=1, description="of the halving convolutions")
    latent: int = Field(128, ge=1, description="dimensions of the latent space")
    kernel: Literal[3, 4] = Field(3, description="side of the convolution kernels, in px")
    kl_weight: float = Field(
        0.1,
        ge=0,
        description="factor of the Kullback-Leibler divergence (summed over the latent dimensions) beside the squared "
        "error (summed over the pixels in [0, 1])",
    )
    learning_rate: float = Field(1e-3, gt=0, description="of Adam; the highest where the schedule is one_cycle")
    schedule: Literal["constant", "one_cycle"] = Field("constant", description="of the learning rate")
    epochs: int = Field(10, ge=1)
    least_steps: int = Field(
        0,
        ge=0,
        description="a small data set is gone through more often, until this many batches are learned from",
    )
    batch_size: int = Field(32, ge=1, description="images per training step")
    seed: int = Field(0, ge=0, description="of the initial weights, the order of the images and the noise")


class Detector(RootModel[Literal["vae", "simulated"]]):
    """What a photograph is compared with: what an autoencoder expects of sound concrete, or simulated cracks."""

    root: Literal["vae", "simulated"] = "vae"

    def __str__(self) -> str:
        return self.root


class Simulated(_Strict):
    """The segmenter that learns from cracks simulated on the sound images, and its training.

    Widths are those in the images as they are learned from, after scaling to ``anomaly.image.size``.
    """

    simulation: Simulation = Field(default_factory=lambda: Simulation.model_validate({}))
    network: Network = Field(default_factory=lambda: Network.model_validate({"name": "unet"}))
    training: Training = Field(
        default_factory=lambda: Training.model_validate({}),
        description="its crop is that of the images",
    )


class Scoring(_Strict):
    """Which scores are tried, and which one decides."""

    candidates: tuple[Score, ...] = Field(
        min_length=1,
        description="scores; the earlier, the more it is preferred. Those of another detector are passed over",
    )
    use: str = Field(
        "auto",
        description="name of a candidate; auto: the earliest that is about as good as the best on validation data",
    )

    @model_validator(mode="after")
    def _known(self) -> Scoring:
        names = [candidate.name for candidate in self.candidates]
        if len(set(names)) < len(names) or BASELINE in names:
            raise ValueError(f"the names of the candidates must differ: {names}")
        if self.use not in ("auto", *names):
            raise ValueError(f"use is {self.use!r}; it takes auto or one of {names}")
        return self

    def of(self, detector: Detector) -> tuple[Score, ...]:
        """Give the candidates that a detector can be scored with.

        Raises
        ------
        ValueError
            If there is none, or the one to be used is that of another detector.
        """
        found = tuple(candidate for candidate in self.candidates if candidate.detector == detector.root)
        names = [candidate.name for candidate in found]
        if not names:
            raise ValueError(f"none of anomaly.scoring.candidates is a score of the detector {detector.root}")
        if self.use not in ("auto", *names):
            raise ValueError(
                f"anomaly.scoring.use is {self.use}, a score of another detector: with the detector {detector.root} it "
                f"takes auto or one of {names}"
            )
        return found

    def named(self, name: str) -> Score:
        """Give the candidate of that name; StopIteration if there is none."""
        return next(candidate for candidate in self.candidates if candidate.name == name)


class Threshold(_Strict):
    """How the score is chosen above which a photograph is called cracked."""

    rule: Literal["percentile", "conformal"] = "percentile"
    level: float = Field(95.0, gt=0, lt=100, description="percentile of the scores of sound validation images")


class Report(_Strict):
    """How much is measured and shown."""

    resamples: int = Field(1000, ge=0, description="of the bootstrap over near-duplicate groups; 0: no intervals")
    examples: int = Field(8, ge=1, le=64, description="photographs in each figure")
    error_maps: int = Field(
        200,
        ge=0,
        description="photographs, those with the highest scores first, whose error map is written by a prediction",
    )
    seed: int = Field(0, ge=0, description="of the bootstrap")
