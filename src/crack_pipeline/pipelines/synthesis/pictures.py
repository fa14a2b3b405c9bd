"""Nodes that show what a generator makes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from crack_pipeline.engines.compute import Plan
from crack_pipeline.evaluation.figures import Sample, image_grid, training_curves
from crack_pipeline.evaluation.segmentation_figures import outline
from crack_pipeline.imaging.photograph_stack import CRACK
from crack_pipeline.models.picture_vae import PictureVAE
from crack_pipeline.models.weights import Weights
from crack_pipeline.pipelines.synthesis.drawing import Drawing, picture_seed
from crack_pipeline.pipelines.synthesis.nodes import Pictures, encode
from crack_pipeline.training.learned_squares import as_pictures, rebuild_generator, unpack

_REBUILT, _SAMPLES, _WALKS, _STEPS, _COPIES = 18, 48, 6, 9, 12
_CELL = 1.15


def draw_training_curves(training_history: pd.DataFrame) -> Figure:
    """Draw the losses of every epoch."""
    return training_curves(training_history)


def draw_reconstructions(network_weights: Weights, validation_pictures: Pictures, plan: Plan) -> Figure:
    """Show pictures that were not learned from beside what is left of them in the latent vector."""
    network = rebuild_generator(network_weights).to(plan.here().device)
    images, masks, _ = validation_pictures.take(_REBUILT, 0)
    means, _ = encode(network, images, masks, plan)
    rebuilt, found = _decode(network.cpu(), means)
    samples = []
    for original, mask, image, mask_found in zip(images, masks, rebuilt, found, strict=True):
        shown = [original, image]
        if network.masks:
            shown = [outline(original, mask == CRACK), image, outline(image, mask_found == CRACK)]
        samples.append(Sample(shown))
    columns = ["original", "rebuilt", "with its mask"] if network.masks else ["original", "rebuilt"]
    return image_grid(samples, columns, across=3, cell=_CELL, title="Pictures that were not learned from, and rebuilt")


def draw_samples(drawing: Drawing) -> Figure:
    """Show new pictures."""
    seeds = np.array([picture_seed(1, number) for number in range(_SAMPLES)], np.int64)
    images, masks = drawing.draw(seeds)
    if drawing.masks:
        samples = [Sample([image, outline(image, mask == CRACK)]) for image, mask in zip(images, masks, strict=True)]
        return image_grid(samples, ["drawn", "its mask"], across=6, cell=_CELL, title="Drawn from the generator")
    return image_grid(
        [Sample([image]) for image in images], [""], across=8, cell=_CELL, title="Drawn from the generator"
    )


def draw_walks(generator: Weights) -> Figure:
    """Show what lies between two latent vectors, with the same noise all the way."""
    squares = unpack(generator)
    rows = []
    for number in range(_WALKS):
        rng = np.random.default_rng([2, number])
        first, last = squares.prior.draw(rng), squares.prior.draw(rng)
        way = np.stack([_between(first, last, at) for at in np.linspace(0, 1, _STEPS)])
        images, _ = _decode(squares.network, way, seed=number)
        rows.append(Sample(list(images)))
    columns = ["one", *[""] * (_STEPS - 2), "another"]
    return image_grid(rows, columns, cell=_CELL, title="From one picture to another, through the latent space")


def draw_nearest(drawing: Drawing, drawn: pd.DataFrame, train_pictures: Pictures) -> Figure:
    """Show the drawn pictures that come closest to a place in a training photograph, beside it."""
    closest = drawn[drawn["side"] > 0].head(_COPIES)
    images, _ = drawing.draw(closest["seed"].to_numpy(np.int64))
    samples = []
    for image, found in zip(images, closest.to_dict("records"), strict=True):
        photograph = np.asarray(train_pictures.images.photograph(int(found["row"])))
        top, left, side = (int(found[name]) for name in ("top", "left", "side"))
        place = photograph[top : top + side, left : left + side]
        samples.append(Sample([image, place], f"{found['nearest']}: {found['correlation']:.2f}"))
    title, none = "Closest to training photographs", "nothing was compared"
    return image_grid(samples, ["drawn", "nearest place"], across=3, cell=1.9, title=title, none=none)


def _between(first: NDArray[np.float32], last: NDArray[np.float32], at: float) -> NDArray[np.float32]:
    """Go from one vector to another without leaving the shell in which a Gaussian's vectors lie."""
    mixed = (1 - at) * first + at * last
    length = (1 - at) * np.linalg.norm(first) + at * np.linalg.norm(last)
    return np.asarray(mixed * length / max(float(np.linalg.norm(mixed)), 1e-9), np.float32)


@torch.inference_mode()
def _decode(
    network: PictureVAE, latent: NDArray[np.float32], seed: int = 0
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    noise = torch.randn(1, network.noise_values, generator=torch.Generator().manual_seed(seed))
    return as_pictures(network.decode(torch.from_numpy(latent), noise.expand(len(latent), -1)))
