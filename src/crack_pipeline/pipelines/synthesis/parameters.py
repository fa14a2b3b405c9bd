"""Parameters of the generator that learns what cracks look like."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Generator(_Strict):
    """The generator and how it is trained."""

    kind: Literal["sharp", "published"] = Field(
        "sharp", description="sharp: pictures with grain, of a learned scale; published: squared error + KL"
    )
    size: Literal[64, 128, 256] = Field(128, description="side of the pictures, px")
    base_channels: int = Field(
        32, ge=4, le=128, description="at half the resolution; they double with every halving, up to 256"
    )
    latent: int = Field(256, ge=16, le=4096, multiple_of=16, description="numbers that describe a picture")
    steps: int = Field(3000, ge=1, description="batches in all")
    steps_per_epoch: int = Field(200, ge=1, description="batches after which the network is validated and saved")
    batch_size: int = Field(16, ge=2, description="pictures in a batch")
    learning_rate: float = Field(1e-3, gt=0, description="of Adam, at its highest")
    kl_weight: float = Field(0.02, ge=0, description="factor of the Kullback-Leibler term, per value of a picture")
    grain_weight: float = Field(0.1, gt=0, description="of what the scale of the grain learns from; sharp only")
    validation_pictures: int = Field(256, ge=2, description="pictures that are rebuilt after each epoch")
    seed: int = Field(0, ge=0, description="of weights, pictures and noise")

    @model_validator(mode="after")
    def _whole_epochs(self) -> Generator:
        if self.steps < self.steps_per_epoch:
            raise ValueError(f"steps is {self.steps}, fewer than the {self.steps_per_epoch} of steps_per_epoch")
        return self

    @property
    def epochs(self) -> int:
        """Number of epochs; the last is a whole one."""
        return -(-self.steps // self.steps_per_epoch)


class Sampling(_Strict):
    """What is drawn from the trained generator."""

    number: int = Field(500, ge=0, description="pictures written as a data set")
    prior: Literal["normal", "mixture", "kernel"] = Field(
        "kernel",
        description="from which latent vectors are drawn: the standard normal distribution, a mixture of Gaussians "
        "fitted to those of the training pictures, or a Gaussian around each of them",
    )
    components: int = Field(10, ge=1, le=1000, description="of the mixture")
    bandwidth: float = Field(
        0.3, gt=0, le=1, description="of the kernel: 0 would be the training pictures rebuilt, 1 is one Gaussian"
    )
    seed: int = Field(0, ge=0)


class SimulatedPictures(_Strict):
    """What is drawn on photographs of sound concrete."""

    size: int = Field(128, ge=32, description="side of the pictures, px")
    number: int = Field(500, ge=0, description="pictures written as a data set")
    seed: int = Field(0, ge=0)


class Judging(_Strict):
    """How the generator is judged."""

    pictures: int = Field(500, ge=20, description="real and drawn ones each")
    steps: int = Field(300, ge=1, description="of the training of the classifier that tells them apart")
    folds: int = Field(4, ge=2, le=20, description="of its cross-validation, by near-duplicate groups")
    neighbours: int = Field(5, ge=1, description="of density and coverage")
    copy_correlation: float = Field(
        0.95, gt=0, le=1, description="with a place in a training photograph, from which on a picture is a copy"
    )
    resamples: int = Field(1000, ge=2, le=100_000, description="of the bootstrap")
    seed: int = Field(0, ge=0)
