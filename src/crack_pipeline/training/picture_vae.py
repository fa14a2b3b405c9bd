"""How the generator of pictures of cracks is trained: what must be right pixel by pixel, and what must look right."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, binary_cross_entropy_with_logits, l1_loss, relu

from crack_pipeline.imaging.photograph_stack import CRACK, IGNORED
from crack_pipeline.models.picture_vae import Decoded, PatchCritic, PictureVAE
from crack_pipeline.training.batches import normalise
from crack_pipeline.training.fit import epoch_seed
from crack_pipeline.training.vae import kl_divergence

_COARSE = (4, 8, 16)
_LARGEST_GRADIENT = 1.0


class PictureVAETraining(pl.LightningModule):
    """Evidence lower bound on coarse pixels, features of a critic and its opinion (VAE-GAN, arXiv:1512.09300).

    Squared or absolute error of single pixels makes a decoder blur whatever it cannot know, which is the grain of the
    concrete. Here pixels count as means over 4, 8 and 16 px, masks by cross-entropy, and everything finer is left to a
    critic: features that it sees in the reconstruction are to be those of the original, and drawn pictures are to look
    real to it (hinge loss; Lim and Ye, arXiv:1705.02894).

    Parameters
    ----------
    network, critic
        Generator, and who judges it; both are trained. Without a critic, squared error of single pixels and
        Kullback-Leibler divergence are all there is (arXiv:1312.6114).
    learning_rate
        Of both, Adam with betas 0.5 and 0.99.
    kl_weight
        Factor of the Kullback-Leibler term, in nats, per value of a picture.
    feature_weight, critic_weight
        Of the critic's features and of its opinion.
    critic_after
        Steps after which the opinion counts: before, nothing looks real.
    seed
        Decides the noise of every epoch.
    """

    def __init__(
        self,
        network: PictureVAE,
        critic: PatchCritic | None,
        *,
        learning_rate: float,
        kl_weight: float,
        feature_weight: float,
        critic_weight: float,
        critic_after: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.network, self.critic = network, critic
        self.learning_rate, self.kl_weight, self.seed = learning_rate, kl_weight, seed
        self.feature_weight, self.critic_weight, self.critic_after = feature_weight, critic_weight, critic_after

    def configure_optimizers(self) -> Any:
        """Give one optimiser each."""
        trained = [self.network] if self.critic is None else [self.network, self.critic]
        return [torch.optim.Adam(one.parameters(), self.learning_rate, (0.5, 0.99)) for one in trained]

    def on_train_epoch_start(self) -> None:
        """Make the epoch's noise depend on nothing but seed and epoch."""
        torch.manual_seed(epoch_seed(self.seed, self.current_epoch))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Let both learn from one batch: uint8 images (n, C, S, S) and masks (n, S, S)."""
        real = join(*batch, self.network.masks, self.device)
        mean, log_variance = self.network.encode(real)
        latent = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)
        rebuilt = self.network.decode(latent)
        losses = self._pixels(rebuilt, real, batch[1])
        losses["kl"] = kl_divergence(mean.float(), log_variance.float())
        loss = losses["pixels"] + losses.get("mask", 0) + self.kl_weight * losses["kl"] / real[0].numel()
        drawn = None
        if self.critic is not None:
            # What will be drawn from later is where the pictures lie, not the standard normal distribution. Half as
            # many drawn ones as rebuilt ones are enough.
            seen = latent.detach()
            random = torch.randn_like(seen[: -(-len(seen) // 2)])
            drawn = _pictures(self.network.decode(seen.mean(dim=0) + seen.std(dim=0) * random))
            losses |= self._judged(self.critic, real, _pictures(rebuilt), drawn)
            loss = loss + self.feature_weight * losses["features"]
            if self.current_epoch * self.trainer.num_training_batches + batch_idx >= self.critic_after:
                loss = loss + self.critic_weight * losses["opinion"]
        self._step(0, loss)
        if self.critic is not None and drawn is not None:
            false = torch.cat([_pictures(rebuilt), drawn]).detach()
            losses["critic"] = relu(1 - self.critic(real)[0]).mean() + relu(1 + self.critic(false)[0]).mean()
            self._step(1, losses["critic"])
        self._note("train", losses | {"loss": loss}, len(real))
        return {"loss": loss.detach()}

    def _judged(self, critic: PatchCritic, real: Tensor, rebuilt: Tensor, drawn: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            _, wanted = critic(real)
        opinion, seen = critic(rebuilt)
        features = [l1_loss(one, other) for one, other in zip(seen, wanted, strict=True)]
        return {
            "features": torch.stack(features).mean(),
            "opinion": -(opinion.mean() + critic(drawn)[0].mean()) / 2,
        }

    def _step(self, which: int, loss: Tensor) -> None:
        optimisers: Any = self.optimizers()
        optimiser = optimisers[which] if isinstance(optimisers, list) else optimisers
        optimiser.zero_grad()
        self.manual_backward(loss)
        self.clip_gradients(optimiser, _LARGEST_GRADIENT, "norm")
        optimiser.step()

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        """Log how well pictures that were not learned from are rebuilt."""
        real = join(*batch, self.network.masks, self.device)
        mean, log_variance = self.network.encode(real)
        losses = self._pixels(self.network.decode(mean), real, batch[1])
        losses["kl"] = kl_divergence(mean.float(), log_variance.float())
        losses["loss"] = losses["pixels"] + losses.get("mask", 0)
        self._note("validation", losses, len(real))

    def _pixels(self, rebuilt: Decoded, real: Tensor, masks: Tensor) -> dict[str, Tensor]:
        images = real[:, : self.network.image_channels]
        difference = rebuilt.images.float() - images
        coarse = [avg_pool2d(difference, side).abs().mean() for side in _COARSE]
        losses = {"pixels": difference.square().mean() if self.critic is None else torch.stack(coarse).mean()}
        if rebuilt.mask_logits is not None:
            known = (masks.to(self.device) != IGNORED).unsqueeze(1).float()
            losses["mask"] = binary_cross_entropy_with_logits(rebuilt.mask_logits.float(), real[:, -1:], known)
        return losses

    def _note(self, stage: str, losses: dict[str, Tensor], number: int) -> None:
        metrics = {f"{stage}_{name}": value.detach() for name, value in losses.items()}
        self.log_dict(metrics, on_step=False, on_epoch=True, batch_size=number)


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


def _pictures(decoded: Decoded) -> Tensor:
    if decoded.mask_logits is None:
        return decoded.images
    return torch.cat([decoded.images, decoded.mask_logits.sigmoid()], dim=1)
