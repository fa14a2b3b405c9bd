"""How the generator of pictures of cracks is trained."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from crack_pipeline.imaging.photograph_stack import CRACK, IGNORED
from crack_pipeline.models.picture_vae import Decoded, PictureVAE, details
from crack_pipeline.training.batches import normalise
from crack_pipeline.training.fit import epoch_seed
from crack_pipeline.training.sharing import log_means
from crack_pipeline.training.vae import kl_divergence

_LARGEST_GRADIENT = 1.0
_LARGEST_FACTOR = 5.0
"""By which any frequency of the grain is changed."""


class PictureVAETraining(pl.LightningModule):
    """Negative evidence lower bound, pictures having a Laplace distribution in every band of detail.

    Squared or absolute error of single pixels makes a decoder blur whatever it cannot know, which is the grain of the
    concrete, and calls the blur the most likely picture. Here errors count in every band of detail, coarse ones as much
    as fine ones, and how large they are is learned, too: that is the grain. A likelihood with learned scales cares for
    nothing but where it is already right; so the expected picture learns from the errors alone, and the scales from
    their likelihood (beta-NLL with beta = 1; Seitzer et al., arXiv:2203.09168).

    Parameters
    ----------
    network
        The generator. Of one without grain, squared error of single pixels and Kullback-Leibler divergence are all that
        counts (arXiv:1312.6114).
    learning_rate
        Of Adam, at its highest: it rises over the first tenth of the steps, and falls to nothing.
    kl_weight
        Factor of the Kullback-Leibler term, in nats, per value of a picture.
    grain_weight
        Of the likelihood that the scales learn from.
    steps
        Of the whole training.
    seed
        Decides the latent noise of every epoch.
    """

    def __init__(
        self,
        network: PictureVAE,
        *,
        learning_rate: float,
        kl_weight: float,
        grain_weight: float,
        steps: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.network, self.learning_rate, self.steps, self.seed = network, learning_rate, steps, seed
        self.kl_weight, self.grain_weight = kl_weight, grain_weight

    def configure_optimizers(self) -> Any:
        """Give optimiser and schedule."""
        optimiser = torch.optim.Adam(self.network.parameters(), self.learning_rate)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, self.learning_rate, total_steps=self.steps, pct_start=0.1
        )
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_epoch_start(self) -> None:
        """Make the epoch's noise depend on nothing but seed and epoch."""
        torch.manual_seed(epoch_seed(self.seed, self.current_epoch, self.global_rank))

    def configure_gradient_clipping(self, optimizer: torch.optim.Optimizer, *_: Any, **__: Any) -> None:
        """Keep single batches from throwing everything over."""
        self.clip_gradients(optimizer, _LARGEST_GRADIENT, "norm")

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Learn from one batch: uint8 images (n, C, S, S) and masks (n, S, S)."""
        real = join(*batch, self.network.masks, self.device)
        mean, log_variance = self.network.encode(real)
        latent = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)
        losses = self._losses(self.network.decode(latent), real, batch[1])
        losses["kl"] = kl_divergence(mean.float(), log_variance.float())
        loss = self._sum(losses) + self.kl_weight * losses["kl"] / real[0].numel()
        self._note("train", losses | {"loss": loss}, len(real))
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        """Log how well pictures that were not learned from are rebuilt."""
        real = join(*batch, self.network.masks, self.device)
        mean, log_variance = self.network.encode(real)
        losses = self._losses(self.network.decode(mean), real, batch[1])
        losses["kl"] = kl_divergence(mean.float(), log_variance.float())
        losses["loss"] = self._sum(losses)
        self._note("validation", losses, len(real))

    def _sum(self, losses: dict[str, Tensor]) -> Tensor:
        known = losses["pixels"] + losses.get("mask", 0)
        return torch.as_tensor(known + self.grain_weight * losses.get("grain", 0))

    def _losses(self, rebuilt: Decoded, real: Tensor, masks: Tensor) -> dict[str, Tensor]:
        images, expected = real[:, : self.network.image_channels].float(), rebuilt.expected.float()
        if rebuilt.log_scales:
            missed = [(one - other).abs() for one, other in zip(details(images), details(expected), strict=True)]
            likelihoods = [
                (error.detach() * (-scale.float()).exp() + scale.float()).mean()
                for error, scale in zip(missed, rebuilt.log_scales, strict=False)
            ]
            losses = {
                "pixels": torch.stack([error.mean() for error in missed]).sum(),
                "grain": torch.stack(likelihoods).mean(),
            }
        else:
            losses = {"pixels": (expected - images).square().mean()}
        if rebuilt.mask_logits is not None:
            known = (masks.to(self.device) != IGNORED).unsqueeze(1).float()
            losses["mask"] = binary_cross_entropy_with_logits(rebuilt.mask_logits.float(), real[:, -1:], known)
        return losses

    def _note(self, stage: str, losses: dict[str, Tensor], number: int) -> None:
        log_means(self, {f"{stage}_{name}": value.detach() for name, value in losses.items()}, number)


@torch.no_grad()
def shape_grain(network: PictureVAE, pictures: Iterable[Tensor]) -> None:
    """Give the grain the mean spectrum of what photographs have beyond the expected picture.

    Noise of a band has all of its frequencies alike; a lens lets through few of the finest, and where a picture is
    rougher than was expected of it, the mean over many still has to be right.

    Parameters
    ----------
    network
        A trained generator; its ``grain_filter`` is changed, if it has one.
    pictures
        Batches (n, C, S, S) or, with masks, (n, C + 1, S, S), in [0, 1], on the network's device.
    """
    if network.grain_filter is None:
        return
    network.grain_filter.fill_(1)
    radius = _radii(network.size).to(network.grain_filter.device)
    wanted, drawn = (torch.zeros(int(radius.max()) + 1, device=radius.device) for _ in range(2))
    for real in pictures:
        decoded = network.decode(network.encode(real)[0])
        noise = torch.randn(len(real), network.noise_values, device=real.device)
        wanted += _spectrum(real[:, : network.image_channels] - decoded.expected, radius)
        drawn += _spectrum(network.grain(noise, decoded.log_scales), radius)
    factors = (wanted / drawn.clamp_min(1e-12)).sqrt().clamp(1 / _LARGEST_FACTOR, _LARGEST_FACTOR)
    network.grain_filter.copy_(factors[radius])


def _radii(size: int) -> Tensor:
    """Give the distance from 0 of each frequency of `torch.fft.rfft2`, rounded, (S, S // 2 + 1)."""
    down, across = torch.fft.fftfreq(size, 1 / size), torch.fft.rfftfreq(size, 1 / size)
    return torch.hypot(down[:, None], across).round().long()


def _spectrum(pictures: Tensor, radius: Tensor) -> Tensor:
    """Add up the power of pictures (n, C, S, S) in rings of equal frequency, their borders faded out."""
    size = pictures.shape[-1]
    window = torch.hann_window(size, device=pictures.device)
    power = torch.fft.rfft2(pictures.float() * window * window[:, None]).abs().square().sum(dim=(0, 1))
    return torch.zeros(int(radius.max()) + 1, device=power.device).index_add(0, radius.flatten(), power.flatten())


def join(images: Tensor, masks: Tensor, with_masks: bool, device: torch.device) -> Tensor:
    """Join images and masks to what a generator learns from.

    Parameters
    ----------
    images, masks
        (n, C, S, S) and (n, S, S), uint8.
    with_masks
        Whether masks become the last channel.
    device
        Where to.

    Returns
    -------
    Tensor
        (n, C or C + 1, S, S), float in [0, 1].
    """
    pictures = normalise(images, device)
    if not with_masks:
        return pictures
    return torch.cat([pictures, (masks.to(device) == CRACK).unsqueeze(1).to(pictures.dtype)], dim=1)
