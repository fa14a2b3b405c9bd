"""Losses of segmentation by name, and weighted sums of them.

All take the same pixels: logits, and targets in which a pixel may be crack, background or ignored. What the terms
have in common is computed once. torch's own losses have no ignored pixels, and those of segmentation_models_pytorch
copy the pixels that count for every term and leave batches without a crack out of Dice; hence these.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, Literal

import torch
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn.functional import max_pool2d, relu, softplus

from crack_pipeline.imaging.photograph_stack import CRACK, IGNORED


class Pixels:
    """Logits and targets of a batch, and what several losses need of them, in float32.

    Parameters
    ----------
    logits
        (N, 1, H, W), float.
    targets
        (N, H, W), uint8: 0 background, 1 crack, 2 ignored.

    Raises
    ------
    ValueError
        If the shapes do not belong together.
    """

    def __init__(self, logits: Tensor, targets: Tensor) -> None:
        number, *size = targets.shape
        if logits.shape != (number, 1, *size):
            raise ValueError(
                f"logits have the shape {tuple(logits.shape)}; targets of the shape {tuple(targets.shape)} belong to "
                f"{(number, 1, *size)}"
            )
        self.logits = logits.float().squeeze(1)
        self.crack = (targets == CRACK).float()
        self.counted = (targets < IGNORED).float()
        self.background = self.counted - self.crack

    @cached_property
    def number(self) -> Tensor:
        """How many pixels count; at least 1, so that one can divide by it."""
        return self.counted.sum().clamp(min=1)

    @cached_property
    def probabilities(self) -> Tensor:
        """(N, H, W), of a crack."""
        return self.logits.sigmoid()

    @cached_property
    def error(self) -> Tensor:
        """(N, H, W), the logit of the wrong class: below zero where the network is right."""
        return self.logits * (1 - 2 * self.crack)

    @cached_property
    def cross_entropy(self) -> Tensor:
        """(N, H, W), in nats."""
        return softplus(self.error)

    def weighted(self, background: float, crack: float) -> Tensor:
        """Give every pixel (N, H, W) the weight of its class; 0 where it is ignored."""
        return background * self.background + crack * self.crack


class _Term(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    weight: float = Field(default=1.0, gt=0, description="factor in the sum")


class CrossEntropy(_Term):
    """Cross-entropy, averaged over the pixels that count after each was multiplied by the weight of its class."""

    kind: Literal["cross_entropy"] = "cross_entropy"
    background: float = Field(default=1.0, gt=0, description="weight of a background pixel")
    crack: float = Field(default=1.0, gt=0, description="weight of a crack pixel")

    def __call__(self, pixels: Pixels) -> Tensor:
        """Give the loss of a batch."""
        return _sum(pixels.cross_entropy, pixels.weighted(self.background, self.crack)) / pixels.number


class Dice(_Term):
    """1 - Dice, of probabilities, over all pixels of the batch together (Milletari et al., arXiv:1606.04797).

    Pooled, since a photograph without a crack has no Dice of its own; its denominator is not squared.
    """

    kind: Literal["dice"] = "dice"
    smoothing: float = Field(default=1.0, gt=0, description="pixels that are added to both sides of the fraction")

    def __call__(self, pixels: Pixels) -> Tensor:
        """Give the loss of a batch, in [0, 1]."""
        hit = _sum(pixels.probabilities, pixels.crack)
        total = _sum(pixels.probabilities, pixels.counted) + pixels.crack.sum()
        return 1 - (2 * hit + self.smoothing) / (total + self.smoothing)


class Focal(_Term):
    """Cross-entropy that counts less where the network is right (Lin et al., arXiv:1708.02002)."""

    kind: Literal["focal"] = "focal"
    gamma: float = Field(default=2.0, ge=0, le=10, description="power of the probability of the wrong class")
    alpha: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="weight of a crack pixel, 1 - alpha that of a background pixel; null: 1 for both",
    )

    def __call__(self, pixels: Pixels) -> Tensor:
        """Give the loss of a batch, averaged over the pixels that count."""
        # Its power is taken of the logarithm, since that of a probability that is rounded to 0 has no gradient.
        wrong = torch.exp(self.gamma * (pixels.error - pixels.cross_entropy))
        alpha = self.alpha
        weights = pixels.counted if alpha is None else pixels.weighted(1 - alpha, alpha)
        return _sum(wrong * pixels.cross_entropy, weights) / pixels.number


class ClDice(_Term):
    """1 - centreline Dice: how much of each skeleton lies in the other's crack (Shit et al., arXiv:2003.07311).

    A gap in a crack costs as much as it is long, however thin the crack is. It says little about the width: add
    another term.
    """

    kind: Literal["cldice"] = "cldice"
    iterations: int = Field(
        default=5,
        ge=1,
        le=50,
        description="of thinning; half of the width in px of the widest crack, for an exact skeleton",
    )
    smoothing: float = Field(default=1.0, gt=0, description="pixels that are added to both sides of the fractions")

    def __call__(self, pixels: Pixels) -> Tensor:
        """Give the loss of a batch, in [0, 1]; like Dice, over all of its pixels together."""
        predicted = pixels.probabilities * pixels.counted
        with torch.no_grad():
            true_skeleton = soft_skeleton(pixels.crack, self.iterations)
        skeleton = soft_skeleton(predicted, self.iterations)
        precision = (_sum(skeleton, pixels.crack) + self.smoothing) / (skeleton.sum() + self.smoothing)
        sensitivity = (_sum(predicted, true_skeleton) + self.smoothing) / (true_skeleton.sum() + self.smoothing)
        return 1 - 2 * precision * sensitivity / (precision + sensitivity)


Term = Annotated[CrossEntropy | Dice | Focal | ClDice, Field(discriminator="kind")]


def _distinct(terms: tuple[Term, ...]) -> tuple[Term, ...]:
    kinds = [term.kind for term in terms]
    if len(set(kinds)) < len(kinds):
        raise ValueError(f"every kind may be named once, there are {', '.join(kinds)}")
    return terms


Terms = Annotated[tuple[Term, ...], Field(min_length=1), AfterValidator(_distinct)]
"""What a parameter that lists the terms of a loss is annotated with."""


def loss(logits: Tensor, targets: Tensor, terms: Sequence[Term]) -> tuple[Tensor, dict[str, Tensor]]:
    """Give the weighted sum of some losses.

    Parameters
    ----------
    logits
        (N, 1, H, W), float of any precision.
    targets
        (N, H, W), uint8: 0 background, 1 crack, 2 ignored, which has no influence.
    terms
        Of different kinds.

    Returns
    -------
    loss : Tensor
        Scalar, float32; finite, with a finite gradient, also where all is ignored or nothing is crack.
    values : dict of str to Tensor
        Each term by its kind, before its weight, detached.

    Raises
    ------
    ValueError
        If the shapes do not belong together.
    """
    with torch.autocast(logits.device.type, enabled=False):
        pixels = Pixels(logits, targets)
        values = {term.kind: term(pixels) for term in terms}
        total = torch.stack([term.weight * values[term.kind] for term in terms]).sum()
    return total, {kind: value.detach() for kind, value in values.items()}


def soft_skeleton(maps: Tensor, iterations: int) -> Tensor:
    """Thin maps to the centrelines of what is bright in them, differentiably (arXiv:2003.07311, algorithm 1).

    Parameters
    ----------
    maps
        (N, H, W), float in [0, 1].
    iterations
        Erosions, each of 1 px from all sides.

    Returns
    -------
    Tensor
        (N, H, W), in [0, 1].
    """
    # The maps as channels, with these last: torch then compares many at a time, ten times faster on a CPU. And
    # negative, since there is no pooling by the minimum.
    dark = -maps.unsqueeze(0).contiguous(memory_format=torch.channels_last)
    rest = torch.ones_like(dark)
    for left in reversed(range(iterations + 1)):
        eroded = torch.maximum(_highest(dark, 3, 1), _highest(dark, 1, 3))
        lines = relu(-dark - _highest(-eroded, 3, 3))
        rest = rest * (1 - lines)
        if left:
            dark = eroded
    return (1 - rest).squeeze(0).contiguous()


def _highest(maps: Tensor, height: int, width: int) -> Tensor:
    return max_pool2d(maps, (height, width), stride=1, padding=(height // 2, width // 2))


def _sum(values: Tensor, weights: Tensor) -> Tensor:
    return torch.dot(values.reshape(-1), weights.reshape(-1))
