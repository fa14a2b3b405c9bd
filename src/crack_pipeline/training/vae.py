"""How the variational autoencoder is trained."""

from __future__ import annotations

from typing import Any, Literal

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from crack_pipeline.models.vae import ConvVAE
from crack_pipeline.training.batches import normalise
from crack_pipeline.training.fit import epoch_seed
from crack_pipeline.training.sharing import log_means


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Kullback-Leibler divergence of N(mean, variance) from N(0, 1).

    Parameters
    ----------
    mean, log_variance
        (N, latent).

    Returns
    -------
    Tensor
        Scalar, in nats: summed over the latent dimensions, averaged over the images (arXiv:1312.6114, appendix B).
    """
    return -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(dim=1).mean()


class VAETraining(pl.LightningModule):
    """Evidence lower bound with squared error, Adam.

    Parameters
    ----------
    network
        What is trained.
    learning_rate
        Of Adam.
    kl_weight
        Factor of the Kullback-Leibler term where the squared error is summed over the pixels of an image.
    one_cycle_steps
        Steps of the whole training, over which the learning rate rises to its height and falls to nothing
        (Smith and Topin, arXiv:1708.07120); ``None`` keeps it constant.
    seed
        Decides the noise of every epoch.
    """

    def __init__(
        self,
        network: ConvVAE,
        *,
        learning_rate: float,
        kl_weight: float,
        one_cycle_steps: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.network = network
        self.learning_rate, self.kl_weight, self.seed = learning_rate, kl_weight, seed
        self.one_cycle_steps = one_cycle_steps

    def configure_optimizers(self) -> Any:
        """Give Adam, and the schedule of its learning rate where there is one."""
        optimiser = torch.optim.Adam(self.network.parameters(), lr=self.learning_rate)
        if self.one_cycle_steps is None:
            return optimiser
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, self.learning_rate, total_steps=self.one_cycle_steps)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_epoch_start(self) -> None:
        """Make the epoch's noise depend on nothing but seed and epoch."""
        torch.manual_seed(epoch_seed(self.seed, self.current_epoch, self.global_rank))

    def training_step(self, batch: Tensor, _: int) -> Tensor:
        """Give the loss of one batch of uint8 images (n, C, H, W)."""
        return self._step(batch, "train")

    def validation_step(self, batch: Tensor, _: int) -> None:
        """Log the loss of one batch."""
        self._step(batch, "validation")

    def loss(self, images: Tensor) -> dict[str, Tensor]:
        """Give ``loss``, ``reconstruction`` (mean squared error) and ``kl`` (nats) of images (n, C, H, W) in [0, 1]."""
        output = self.network(images)
        reconstruction = mse_loss(output.reconstruction.float(), images)
        kl = kl_divergence(output.mean.float(), output.log_variance.float())
        # Divided by the number of values in an image, so that the loss reads as a mean squared error.
        return {
            "loss": reconstruction + self.kl_weight * kl / images[0].numel(),
            "reconstruction": reconstruction,
            "kl": kl,
        }

    def _step(self, batch: Tensor, stage: Literal["train", "validation"]) -> Tensor:
        images = normalise(batch, self.device)
        losses = self.loss(images)
        metrics = {f"{stage}_{name}": value.detach() for name, value in losses.items()}
        log_means(self, metrics, len(images))
        return losses["loss"]
