"""Statistics of batch normalisation that belong to the weights that a training ends with."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def settle(network: nn.Module, passes: Iterable[object]) -> None:
    """Measure the statistics of batch normalisation on some images.

    What training gathers is of weights that have changed since, and of changed images. In short trainings of a
    segmenter on DeepCrack this cost about 0.01 of the validation's Dice, whether the statistics were those of the last
    steps or averaged too.

    Parameters
    ----------
    network
        Ends in evaluation mode where it was changed: its layers of batch normalisation.
    passes
        Passes a batch through the network whenever it is asked for the next item.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]
    if not layers:
        return
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the plain mean of all batches
        layer.train()
    for _ in passes:
        pass
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
        layer.eval()
