"""What a trained detector answers to images; needs no Lightning, so predictions start fast."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from crack_pipeline.engines.compute import Plan
from crack_pipeline.models.vae import VAEOutput
from crack_pipeline.training.batches import Images, loader, normalise


def answers(network: nn.Module, images: Images, rows: NDArray[np.int64], plan: Plan) -> Iterator[tuple[Tensor, Tensor]]:
    """Show images to a network, a batch at a time.

    Parameters
    ----------
    network
        Trained; moved to the plan's device.
    images, rows
        Image stack and which of its rows.
    plan
        Device, precision and batch size.

    Yields
    ------
    tuple of Tensor
        Images (n, C, H, W), float32 in [0, 1] on the plan's device, in the order of ``rows``; and, float32, what
        the network answers: an autoencoder its reconstruction from the mean of the latent distribution, of the same
        shape, a segmenter log-odds (n, 1, H, W).
    """
    plan = plan.here()
    network = network.to(plan.device).to(memory_format=torch.channels_last).eval()
    for batch in loader(images, rows, plan.batch_size):
        with torch.inference_mode(), plan.autocast():
            original = normalise(batch, plan.device)
            answer = network(original)
            answer = (answer.reconstruction if isinstance(answer, VAEOutput) else answer).float()
        yield original, answer
