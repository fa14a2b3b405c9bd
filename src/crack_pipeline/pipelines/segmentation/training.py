"""Nodes that train a segmenter, choose its threshold and pack it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from crack_pipeline.engines.compute import Plan
from crack_pipeline.imaging.photograph_stack import PhotographStack
from crack_pipeline.imaging.simulated_squares import SimulatedSquares
from crack_pipeline.models.segmenters import create_segmenter, load_encoder, rebuild
from crack_pipeline.models.weights import Weights
from crack_pipeline.pipelines.ingestion.parameters import Image
from crack_pipeline.pipelines.segmentation.parameters import EncoderWeights, Network, Training
from crack_pipeline.pipelines.simulating import NOTHING, Admixture, Synthetic, share_beside, simulated_squares
from crack_pipeline.pipelines.steps import CHANNELS, check_same_run, fingerprint, require_roles, rows_of, select
from crack_pipeline.training.learned_squares import unpack
from crack_pipeline.training.segmenting import Tiles, check_tiles

if TYPE_CHECKING:
    from crack_pipeline.training.crops import Source

logger = logging.getLogger(__name__)

_FEW_STEPS = 200


class Sized(Protocol):
    """Photographs whose sizes are known."""

    @property
    def sizes(self) -> np.ndarray:
        """Height and width of each photograph in px, (N, 2)."""


class Pretrained(Protocol):
    """Where the weights of encoders come from."""

    def fetch(self, encoder: str, weights: str) -> dict[str, Tensor] | None:
        """Give the weights of an encoder by name; None for ``none``."""


def create_network(
    image: Image,
    network: Network,
    encoder_weights: EncoderWeights,
    training: Training,
    pretrained: Pretrained | None = None,
    tiles: Tiles | None = None,
) -> Weights:
    """Create the network with the weights that its training begins with, before any photograph is read.

    Parameters
    ----------
    image
        Form of the photographs: the network takes as many channels.
    network
        Which network.
    encoder_weights
        What its encoder begins with.
    training
        Its seed decides the random weights.
    pretrained
        Where weights of encoders come from; needed where there are to be any.
    tiles
        In which photographs will go through the network; None if they will not.

    Returns
    -------
    Weights
        ``facts["network"]`` are the options that rebuild it.

    Raises
    ------
    ValueError
        If the options do not go together, the weights are those of another network, or the tiles are too small for
        the network.
    """
    options = network.root.model_copy(update={"in_channels": CHANNELS[image.mode]})
    weights = str(encoder_weights)
    torch.manual_seed(training.seed)
    segmenter = create_segmenter(options)
    if tiles is not None:
        check_tiles(tiles, segmenter)
    if weights != "none":
        if pretrained is None:
            raise ValueError(f"encoder_weights is {weights}, and there is nowhere to take them from")
        encoder = getattr(options, "encoder", "")
        tensors = pretrained.fetch(encoder, weights) if encoder else {}
        load_encoder(segmenter, tensors or {}, weights)
    size = sum(tensor.numel() for tensor in segmenter.parameters())
    logger.info("network: %s, %.1f million weights, pretrained: %s", options.name, size / 1e6, weights)
    facts = {"network": options.model_dump(mode="json"), "encoder_weights": weights, "image": image.model_dump()}
    return Weights(segmenter.state_dict(), facts)


def fingerprint_data(
    images: PhotographStack, manifest: pd.DataFrame, partition: pd.DataFrame, image: Image
) -> dict[str, Any]:
    """Identify the data of a training, masks included; see :func:`crack_pipeline.pipelines.steps.fingerprint`."""
    return fingerprint(manifest, partition, image, _masks(images, manifest))


def fingerprint_tested_data(
    images: PhotographStack, manifest: pd.DataFrame, partition: pd.DataFrame, image: Image
) -> dict[str, Any]:
    """Identify the data of a training and a test, as :func:`fingerprint_data`.

    Raises
    ------
    ValueError
        If a role has no photographs: no time is to be spent on the others then.
    """
    require_roles(manifest, partition, ("train", "validation", "test"))
    return fingerprint_data(images, manifest, partition, image)


def prepare_admixture(
    images: PhotographStack,
    manifest: pd.DataFrame,
    partition: pd.DataFrame,
    initial_weights: Weights,
    synthetic: Synthetic,
    training: Training,
    learned_generator: Callable[[], Weights],
) -> Admixture:
    """Prepare the synthetic squares that are mixed into a training.

    Parameters
    ----------
    images, manifest, partition, initial_weights, training
        As for :func:`train_segmenter`.
    synthetic
        How many, and where they come from.
    learned_generator
        Loads a generator that the pipeline ``synthesis`` has trained.

    Raises
    ------
    ValueError
        If there is no place for simulated cracks, or the learned pictures are not what the network learns from.
    """
    if not synthetic.share:
        return NOTHING
    require_roles(manifest, partition, ("train",))
    train = select(manifest, partition, ["train"])
    crop = crop_side(images, rows_of(train), training.crop, int(rebuild(initial_weights).stride), inside=True)
    share = share_beside(synthetic.share, int((train["crack_pixels"] > 0).sum()))
    logger.info("%.0f %% of the crops are to be synthetic", 100 * share)
    identity = {"synthetic": synthetic.model_dump(mode="json")}
    if synthetic.generator == "learned":
        weights = learned_generator()
        _check_generator(weights, manifest, partition, crop, initial_weights.facts["image"]["mode"])
        facts = {**identity, "generator": weights.fingerprint()}
        return Admixture(share, unpack(weights), facts)
    return Admixture(
        share,
        simulated_squares(
            images,
            manifest,
            partition,
            synthetic.simulation,
            role="train",
            size=crop,
            seed=training.seed,
            sound=False,
        ),
        identity,
    )


def _check_generator(generator: Weights, manifest: pd.DataFrame, partition: pd.DataFrame, crop: int, mode: str) -> None:
    """Raise ValueError if its pictures do not fit, or it has seen photographs that are to validate or test."""
    facts = generator.facts["network"]
    wrong = None
    if not facts["masks"]:
        wrong = "knows no masks: train another one with synthesis.image.masks=true"
    elif facts["image_channels"] != CHANNELS[mode]:
        wrong = f"does not draw in {mode}: train another one with synthesis.image.mode={mode}"
    elif facts["size"] != crop:
        wrong = (
            f"draws pictures of {facts['size']} px, and the crops have {crop} px: set segmentation.training.crop to "
            f"{facts['size']}, or train another one with synthesis.generator.size={crop}"
        )
    if wrong:
        raise ValueError(f"the newest generator of the pipeline synthesis {wrong}")
    table = manifest[["image_id", "photo_id"]].merge(partition[["image_id", "role", "group"]], on="image_id")
    seen = table["group"].isin(table.loc[table["photo_id"].isin(generator.facts["learned_from"]), "group"])
    kept_apart = table[seen & (table["role"] != "train")]
    if len(kept_apart):
        roles = ", ".join(f"{number:,} {role}" for role, number in kept_apart["role"].value_counts().items())
        raise ValueError(
            "the newest generator of the pipeline synthesis has learned from photographs, or near-duplicates of them, "
            f"that are here to judge what is learned ({roles}): train it on the same data with the same partition"
        )


def train_segmenter(
    images: PhotographStack,
    manifest: pd.DataFrame,
    partition: pd.DataFrame,
    data_fingerprint: Mapping[str, Any],
    initial_weights: Weights,
    training: Training,
    plan: Plan,
    checkpoints: Path,
    admixture: Admixture = NOTHING,
    callbacks: Sequence[Any] = (),
) -> tuple[Weights, pd.DataFrame]:
    """Train the network on crops of the photographs of the role ``train``.

    Parameters
    ----------
    images
        Photographs with masks.
    manifest, partition
        Which of them may be learned from, and which validate.
    data_fingerprint
        Decides, with the parameters, whether an interrupted training may go on.
    initial_weights
        From :func:`create_network`.
    training
        How.
    plan
        Compute plan.
    checkpoints
        Folder for the checkpoints.
    admixture
        Synthetic squares that take the place of some crops.
    callbacks
        Of Lightning, for what else is to happen during the training.

    Returns
    -------
    Weights
        Of the epoch with the highest Dice on validation crops.
    pandas.DataFrame
        One row per epoch: losses, and Dice on validation crops.

    Raises
    ------
    ValueError
        If there are no photographs to train or validate on, or no crack among them.
    """
    # Lightning takes seconds to import, and only training needs it.
    from crack_pipeline.training.crops import GridCrops, RandomCrops
    from crack_pipeline.training.synthetic import Mixed

    check_same_run(images, manifest)
    require_roles(manifest, partition, ("train", "validation"))
    tables = {role: select(manifest, partition, [role]) for role in ("train", "validation")}
    for role, table in tables.items():
        if not (table["crack_pixels"] > 0).any():
            raise ValueError(
                f"none of the {len(table):,} photographs of the role {role} shows a crack: add some with masks, or "
                "change the partition (each_label: true gives every role some of both kinds)"
            )
    stride, mixed = int(rebuild(initial_weights).stride), admixture.generator is not None
    crop = crop_side(images, rows_of(tables["train"]), training.crop, stride, inside=mixed)
    logger.info("training on %s photographs", f"{len(tables['train']):,}")
    train: Source = RandomCrops(
        images,
        rows_of(tables["train"]),
        size=crop,
        batch_size=training.batch_size,
        steps=training.steps_per_epoch,
        centred=training.centred,
    )
    if admixture.generator is not None:
        train = Mixed(train, admixture.generator, share=admixture.share, size=crop)
    weights, history = learn(
        train,
        GridCrops(
            images,
            rows_of(tables["validation"]),
            size=crop,
            batch_size=training.batch_size,
            most=training.validation_crops,
        ),
        data_fingerprint,
        initial_weights,
        training,
        plan,
        checkpoints,
        identity=admixture.identity,
        callbacks=callbacks,
    )
    learned_from = sorted({photo for table in tables.values() for photo in table["photo_id"]})
    return Weights(weights.tensors, {**weights.facts, "learned_from": learned_from}), history


def learn(
    train: Source,
    validation: Source,
    data_fingerprint: Mapping[str, Any],
    initial_weights: Weights,
    training: Training,
    plan: Plan,
    checkpoints: Path,
    *,
    identity: Mapping[str, Any] | None = None,
    best: bool = True,
    callbacks: Sequence[Any] = (),
) -> tuple[Weights, pd.DataFrame]:
    """Train the network on squares, wherever they come from.

    Parameters
    ----------
    train, validation
        Squares to learn from, and to find the best epoch with.
    data_fingerprint, initial_weights, training, plan, checkpoints, callbacks
        As for :func:`train_segmenter`.
    identity
        What else decides whether an interrupted training may go on.
    best
        Whether the epoch with the highest Dice on the squares for validation is taken; otherwise the last one.

    Returns
    -------
    tuple of Weights and pandas.DataFrame
        As of :func:`train_segmenter`; ``facts["minutes"]`` say how long the epochs took.
    """
    # Lightning takes seconds to import, and only training needs it.
    from crack_pipeline.training.crops import Crops
    from crack_pipeline.training.fit import Watch, fit
    from crack_pipeline.training.segmentation import SegmentationTraining

    epochs, steps = training.epochs, training.steps_per_epoch
    if epochs * steps < _FEW_STEPS:
        logger.warning("only %d training steps: expect a weak segmenter", epochs * steps)
    network = rebuild(initial_weights)
    module = SegmentationTraining(
        network.to(memory_format=torch.channels_last),
        terms=training.loss,
        augmentation=training.augmentation,
        optimiser=training.optimiser,
        learning_rate=training.learning_rate,
        weight_decay=training.weight_decay,
        steps=epochs * steps,
        schedule=training.schedule,
        average=training.average,
        seed=training.seed,
    )
    if plan.compile:
        network.compile()
    data = Crops(
        train,
        validation,
        batch_size=training.batch_size,
        steps=steps,
        seed=training.seed,
        workers=plan.workers,
    )
    logger.info("training for %d epochs of %d batches of %d crops", epochs, steps, training.batch_size)
    history = fit(
        module,
        data,
        plan,
        epochs=epochs,
        checkpoints=checkpoints,
        identity={
            "data": data_fingerprint["fingerprint"],
            "network": initial_weights.facts,
            "weights": initial_weights.fingerprint(),
            "training": training.model_dump(mode="json", exclude={"patience"}),
            "patience": training.patience,
            "precision": plan.precision,
            **(identity or {}),
        },
        watch=Watch("validation_dice", "max", training.patience) if best else None,
        callbacks=callbacks,
    )
    facts = {**initial_weights.facts, "data": dict(data_fingerprint), "minutes": history.attrs["minutes"]}
    return Weights(module.result.state_dict(), facts), history


def learn_simulated(
    train_squares: SimulatedSquares,
    validation_squares: SimulatedSquares,
    data_fingerprint: Mapping[str, Any],
    initial_weights: Weights,
    training: Training,
    plan: Plan,
    checkpoints: Path,
) -> tuple[Weights, pd.DataFrame]:
    """Train the network on nothing but simulated cracks, new ones in every step.

    Parameters
    ----------
    train_squares, validation_squares
        To learn from, and to find the best epoch with.
    data_fingerprint, initial_weights, training, plan, checkpoints
        As for :func:`train_segmenter`.

    Returns
    -------
    tuple of Weights and pandas.DataFrame
        As of :func:`train_segmenter`; Dice is that of simulated cracks.
    """
    # Lightning takes seconds to import, and only training needs it.
    from crack_pipeline.training.synthetic import GeneratedSquares

    shape = {"size": training.crop, "batch_size": training.batch_size}
    batches = max(1, training.validation_crops // training.batch_size)
    return learn(
        GeneratedSquares(train_squares, **shape, steps=training.steps_per_epoch),
        GeneratedSquares(validation_squares, **shape, steps=batches),
        data_fingerprint,
        initial_weights,
        training,
        plan,
        checkpoints,
        identity={"simulation": train_squares.simulation.model_dump(mode="json")},
    )


def pack_segmenter(
    network_weights: Weights, threshold: Mapping[str, Any], tiles: Tiles, training: Training, plan: Plan
) -> Weights:
    """Put everything that a prediction needs into one object: weights, preparation, tiles, threshold."""
    facts = {
        **network_weights.facts,
        "threshold": threshold["threshold"],
        "tiles": tiles.model_dump(mode="json"),
        "training": training.model_dump(mode="json"),
        "plan": plan.model_dump(mode="json"),
    }
    return Weights(network_weights.tensors, facts)


def read_preparation(segmenter: Weights) -> Image:
    """Give the form of photographs that a segmenter was trained on; others are prepared the same way."""
    return Image.model_validate(segmenter.facts["image"])


def tiles_for(segmenter: Weights, tiles: Tiles) -> Tiles:
    """Give the tiles that the parameters ask for, with as many views as the threshold was chosen with."""
    views = {name: segmenter.facts["tiles"].get(name, False) for name in ("augmentations", "half_size")}
    for name, chosen in views.items():
        if chosen != getattr(tiles, name):
            logger.info(
                "tiles.%s is %s, as when the threshold was chosen, instead of %s: another one needs a new training",
                name,
                chosen,
                getattr(tiles, name),
            )
    return tiles.model_copy(update=views)


def _masks(images: PhotographStack, manifest: pd.DataFrame) -> Iterator[bytes]:
    for row in np.sort(rows_of(manifest)):
        yield np.ascontiguousarray(images.mask(int(row))).tobytes()


def crop_side(images: Sized, rows: np.ndarray, wanted: int, stride: int, *, inside: bool = False) -> int:
    """Give the side of a crop: as asked for, unless most photographs are smaller; a multiple of the stride.

    Where it is not, it is made so by adding pixels, which are reflected at a border, with ``inside`` by leaving some
    out.
    """
    typical = int(np.median(images.sizes[rows].min(axis=1)))
    side = min(wanted, max(typical, 1))
    return max(stride, (side if inside else side + stride - 1) // stride * stride)
