"""How a trained variational autoencoder reconstructs images; needs no Lightning, so predictions start fast."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crack_pipeline.models.vae import ConvVAE
from crack_pipeline.training.batches import Images, loader, normalise
from crack_pipeline.training.compute import Plan


def reconstruct(
    network: ConvVAE, images: Images, rows: NDArray[np.int64], plan: Plan
) -> Iterator[tuple[Tensor, Tensor]]:
    """Reconstruct images from the mean of their latent distribution, a batch at a time.

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
        Images and reconstructions, each (n, C, H, W), float32 in [0, 1] on the plan's device, in the order of
        ``rows``.
    """
    network = network.to(plan.device).to(memory_format=torch.channels_last).eval()
    for batch in loader(images, rows, plan.batch_size):
        with torch.inference_mode(), plan.autocast():
            original = normalise(batch, plan.device)
            reconstruction = network(original).reconstruction.float()
        yield original, reconstruction
