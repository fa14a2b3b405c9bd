"""Nodes that train a generator of pictures of cracks and draw from it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from crack_pipeline.engines.compute import Plan
from crack_pipeline.imaging.photograph_stack import PhotographStack
from crack_pipeline.models.picture_vae import PictureVAE
from crack_pipeline.models.weights import Weights
from crack_pipeline.pipelines.ingestion.parameters import Image
from crack_pipeline.pipelines.steps import CHANNELS, check_same_run, fingerprint, rows_of, select
from crack_pipeline.pipelines.synthesis.parameters import Generator, Sampling
from crack_pipeline.training.learned_squares import fit_prior, kernel_prior, normal_prior, rebuild_generator

if TYPE_CHECKING:
    from crack_pipeline.training.crops import Source

logger = logging.getLogger(__name__)

_ENCODED, _SHAPING = 4096, 512
_AT_ONCE = 16


@dataclass(frozen=True)
class Pictures:
    """Squares of the photographs of some roles, as a generator is to make them.

    Attributes
    ----------
    images
        The stack.
    rows
        (n,): photographs with a crack.
    size
        Side of a square, px.
    masks
        Whether squares are cut around cracks at their own scale, with masks; otherwise whole photographs are shrunk.
    """

    images: PhotographStack
    rows: NDArray[np.int64]
    size: int
    masks: bool

    def source(self, batch_size: int, steps: int) -> Source:
        """Give a source of batches."""
        from crack_pipeline.training.crops import RandomCrops
        from crack_pipeline.training.pictures import ShrunkPhotographs

        shape: dict[str, Any] = {"size": self.size, "batch_size": batch_size, "steps": steps}
        if self.masks:
            return RandomCrops(self.images, self.rows, **shape, centred=1.0)
        return ShrunkPhotographs(self.images, self.rows, **shape)

    def take(self, number: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.int64]]:
        """Give some squares, their masks and the photographs that they come from."""
        source = self.source(number, 1)
        (batch,) = source.draw(seed)
        return *source.make(batch), batch[0]


def choose_pictures(
    images: PhotographStack,
    manifest: pd.DataFrame,
    partition: pd.DataFrame,
    image: Image,
    generator: Generator,
) -> tuple[Pictures, Pictures, Pictures]:
    """Choose the photographs with cracks of the roles ``train``, ``validation`` and ``test``.

    Raises
    ------
    ValueError
        If a role has none, or they are smaller than the pictures that are to be made.
    """
    check_same_run(images, manifest)
    chosen = []
    for role in ("train", "validation", "test"):
        table = select(manifest, partition, [role])
        table = table[table["crack_pixels"] > 0] if image.masks else table[table["label"] == "crack"]
        if table.empty:
            raise ValueError(f"no photograph of the role {role} shows a crack: add photographs or change the partition")
        rows = rows_of(table)
        if image.masks:
            large = rows[images.sizes[rows].min(axis=1) >= generator.size]
            if not len(large):
                raise ValueError(
                    f"all {len(rows):,} cracked photographs of the role {role} are smaller than the pictures of "
                    f"{generator.size} px that are to be made: lower synthesis.generator.size"
                )
            rows = large
        chosen.append(Pictures(images, rows, generator.size, bool(image.masks)))
    return chosen[0], chosen[1], chosen[2]


def fingerprint_data(
    images: PhotographStack, manifest: pd.DataFrame, partition: pd.DataFrame, image: Image
) -> dict[str, Any]:
    """Identify the data of a training; see :func:`crack_pipeline.pipelines.steps.fingerprint`."""
    masks = (images.mask(int(row)).tobytes() for row in manifest.sort_values("row")["row"]) if image.masks else ()
    return fingerprint(manifest, partition, image, masks)


def train_generator(
    train_pictures: Pictures,
    validation_pictures: Pictures,
    manifest: pd.DataFrame,
    data_fingerprint: Mapping[str, Any],
    image: Image,
    generator: Generator,
    plan: Plan,
    checkpoints: Path,
) -> tuple[Weights, pd.DataFrame]:
    """Train the generator on pictures of cracks.

    Returns
    -------
    Weights
        Of the last epoch; ``facts["network"]`` rebuilds it, ``facts["learned_from"]`` are the photo_ids of what it has
        seen.
    pandas.DataFrame
        One row per epoch: losses of training and validation.
    """
    # Lightning takes seconds to import, and only this node needs it.
    from crack_pipeline.training.crops import Crops
    from crack_pipeline.training.fit import fit
    from crack_pipeline.training.picture_vae import PictureVAETraining

    if plan.precision == "16-mixed":
        raise ValueError(
            "compute.precision is 16-mixed, in which the gradients of a generator are lost: take auto or 32-true"
        )
    torch.manual_seed(generator.seed)
    options: dict[str, Any] = {
        "size": generator.size,
        "image_channels": CHANNELS[image.mode],
        "masks": bool(image.masks),
        "base_channels": generator.base_channels,
        "latent": generator.latent,
        "grainy": generator.kind == "sharp",
        "dense": generator.kind == "published",
    }
    network = PictureVAE(**options)
    epochs, steps = generator.epochs, generator.steps_per_epoch
    module = PictureVAETraining(
        network.to(memory_format=torch.channels_last),
        learning_rate=generator.learning_rate,
        kl_weight=generator.kl_weight,
        grain_weight=generator.grain_weight,
        steps=epochs * steps,
        seed=generator.seed,
    )
    batches = max(1, generator.validation_pictures // generator.batch_size)
    data = Crops(
        train_pictures.source(generator.batch_size, steps),
        validation_pictures.source(generator.batch_size, batches),
        batch_size=generator.batch_size,
        steps=steps,
        seed=generator.seed,
        workers=plan.workers,
    )
    logger.info(
        "training the %s generator on %s photographs for %d epochs of %d batches of %d pictures of %d px",
        generator.kind,
        f"{len(train_pictures.rows):,}",
        epochs,
        steps,
        generator.batch_size,
        generator.size,
    )
    history = fit(
        module,
        data,
        plan,
        epochs=epochs,
        checkpoints=checkpoints,
        identity={
            "data": data_fingerprint["fingerprint"],
            "network": options,
            "generator": generator.model_dump(mode="json"),
            "precision": plan.precision,
        },
    )
    _shape_grain(network, train_pictures, generator, plan)
    learned_from = sorted(set(manifest.loc[manifest["row"].isin(train_pictures.rows), "photo_id"]))
    facts = {
        "network": options,
        "image": image.model_dump(),
        "data": dict(data_fingerprint),
        "learned_from": learned_from,
    }
    return Weights(network.state_dict(), facts), history


def _shape_grain(network: PictureVAE, pictures: Pictures, generator: Generator, plan: Plan) -> None:
    from crack_pipeline.training.batches import as_tensor
    from crack_pipeline.training.picture_vae import join, shape_grain

    # It draws noise, which must not hang on whether the training was interrupted.
    torch.manual_seed(generator.seed)
    source = pictures.source(generator.batch_size, -(-_SHAPING // generator.batch_size))
    batches = (source.make(batch) for batch in source.draw(generator.seed))
    network.to(plan.here().device).eval()
    shape_grain(
        network, (join(as_tensor(x), torch.from_numpy(y), network.masks, plan.here().device) for x, y in batches)
    )
    network.cpu()


def fit_latent_prior(network_weights: Weights, train_pictures: Pictures, sampling: Sampling, plan: Plan) -> Weights:
    """Say where the latent vectors of real pictures lie, and pack generator and prior into one object."""
    network = rebuild_generator(network_weights).to(plan.here().device)
    if sampling.prior == "normal":
        prior = normal_prior(network.latent)
    else:
        images, masks, _ = train_pictures.take(_ENCODED, sampling.seed)
        means, deviations = encode(network, images, masks, plan)
        if sampling.prior == "mixture":
            prior = fit_prior(means, deviations, sampling.components, sampling.seed)
        else:
            prior = kernel_prior(means, deviations, sampling.bandwidth, sampling.seed)
    tensors = {f"network.{name}": tensor for name, tensor in network_weights.tensors.items()}
    tensors |= {f"prior.{name}": torch.from_numpy(getattr(prior, name)) for name in ("weights", "means", "factors")}
    return Weights(tensors, {**network_weights.facts, "sampling": sampling.model_dump()})


@torch.inference_mode()
def encode(
    network: PictureVAE, images: NDArray[np.uint8], masks: NDArray[np.uint8], plan: Plan
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Give means and deviations, each (n, latent), of the approximate posteriors of pictures."""
    from crack_pipeline.training.batches import as_tensor
    from crack_pipeline.training.picture_vae import join

    means, deviations = [], []
    for start in range(0, len(images), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        pictures = join(as_tensor(images[part]), torch.from_numpy(masks[part]), network.masks, plan.here().device)
        mean, log_variance = network.encode(pictures)
        means.append(mean.float().cpu().numpy())
        deviations.append((0.5 * log_variance).exp().float().cpu().numpy())
    return np.concatenate(means), np.concatenate(deviations)
