"""Normalisation by batches whose images are in several processes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.autograd.function import once_differentiable


def share_normalisation(network: nn.Module, device: torch.device) -> None:
    """Let layers of batch normalisation normalise by the images of all processes, in place.

    A process has a part of every batch, equally many images as any other. By their own parts they would learn from
    noisier statistics the more of them there are, and from none at all where each has one image.

    Parameters
    ----------
    network
        Its parameters, statistics and their names stay what they are.
    device
        On which it will be trained. On a GPU torch's own layer does it (`torch.nn.SyncBatchNorm`), of which there is
        none for a CPU.
    """
    shared = _OnGPUs if device.type == "cuda" else _OnCPUs
    for layer in network.modules():
        if type(layer) is nn.BatchNorm2d:
            layer.__class__ = shared  # type: ignore[assignment]


class _OnGPUs(nn.SyncBatchNorm):
    process_group = None

    @torch.compiler.disable
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input)


class _OnCPUs(nn.BatchNorm2d):
    @torch.compiler.disable
    def forward(self, input: Tensor) -> Tensor:
        if not self.training or not distributed.is_initialized():
            return super().forward(input)
        normal, mean, variance, number = _Normalise.apply(input, self.weight, self.bias, self.eps)
        if self.track_running_stats and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            with torch.no_grad():
                self.running_mean.lerp_(mean, momentum)  # type: ignore[union-attr]
                self.running_var.lerp_(variance * (number / (number - 1)), momentum)  # type: ignore[union-attr]
        return normal


class _Normalise(torch.autograd.Function):
    """Normalise images (n, C, H, W), of which all processes have equally many (Ioffe and Szegedy, arXiv:1502.03167).

    Gives them, and mean, variance, (C,), and number of the values of all processes. As the gradients of parameters are
    averaged over the processes afterwards, so is what depends on all here.
    """

    @staticmethod
    def forward(
        ctx: Any, images: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, int]:
        axes, of = (0, 2, 3), distributed.get_world_size()
        own_variance, own_mean = torch.var_mean(images.float(), axes, correction=0)
        mean = _mean(own_mean)
        variance = _mean(own_variance + (own_mean - mean).square())
        deviation = (variance + eps).sqrt()
        scale = (1 if weight is None else weight) / deviation
        shift = (0 if bias is None else bias) - mean * scale
        normal = torch.addcmul(_wide(shift), images.float(), _wide(scale)).to(images.dtype)
        ctx.save_for_backward(images, weight, mean, deviation)
        ctx.mark_non_differentiable(mean, variance)
        return normal, mean, variance, of * images[:, 0].numel()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        images, weight, mean, deviation = ctx.saved_tensors
        axes = (0, 2, 3)
        gradient, values = gradient.float(), images.float()
        standard = (values - _wide(mean)) / _wide(deviation)
        of_bias, of_weight = gradient.sum(axes), (gradient * standard).sum(axes)
        means = _mean(torch.stack([of_bias, of_weight]) / images[:, 0].numel())
        rest = gradient - _wide(means[0]) - standard * _wide(means[1])
        scale = (1 if weight is None else weight) / deviation
        of_images = (rest * _wide(scale)).to(images.dtype)
        return of_images, None if weight is None else of_weight, None if weight is None else of_bias, None


def _mean(values: Tensor) -> Tensor:
    """Mean of what all processes have."""
    total = values.clone()
    distributed.all_reduce(total)
    return total / distributed.get_world_size()


def _wide(values: Tensor) -> Tensor:
    return values[:, None, None]
