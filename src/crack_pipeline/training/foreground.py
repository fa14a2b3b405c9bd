"""The structure of photographs by Segment Anything, on the device of the plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from crack_pipeline.engines.compute import Plan
from crack_pipeline.imaging.concrete_rule import enlarge, structure_from_masks
from crack_pipeline.imaging.foreground import Foreground
from crack_pipeline.imaging.prompts import Prompts, check_inside
from crack_pipeline.models.embedding import Embedding

if TYPE_CHECKING:
    from segment_anything.modeling import Sam


def load_network(tensors: Mapping[str, Tensor], how: Foreground, plan: Plan) -> Sam:
    """Build Segment Anything on the device of the plan.

    Parameters
    ----------
    tensors
        Its weights, in the official format.
    how
        Names the model that is wanted.
    plan
        Names the device.

    Returns
    -------
    segment_anything.modeling.Sam

    Raises
    ------
    ValueError
        If these are other weights.
    """
    # Here and below, since it imports torchvision, which takes seconds, and few ask for it.
    from crack_pipeline.models import segment_anything

    return segment_anything.build(tensors, how.model).to(plan.here().device)


def encode(network: Sam, photograph: NDArray[np.uint8], plan: Plan) -> Embedding:
    """Encode a photograph (H, W, 3), RGB, once for all masks, at the precision of the plan."""
    from crack_pipeline.models import segment_anything

    with plan.here().autocast():
        return segment_anything.embed(network, photograph)


def find_structure(
    network: Sam,
    embedding: Embedding,
    photograph: NDArray[np.uint8],
    how: Foreground,
    prompts: Prompts | None = None,
) -> NDArray[np.bool_]:
    """Tell the structure from its background by masks of Segment Anything.

    Parameters
    ----------
    network
        From `load_network`.
    embedding
        Of this photograph, from `encode`; it may come from a cache.
    photograph
        (H, W, 3), RGB.
    how
        Which automatic masks are asked for, and which of them are concrete.
    prompts
        What people say of this photograph; None: automatic masks, of which ``how.rule`` picks the concrete ones.

    Returns
    -------
    ndarray of bool
        (H, W).

    Raises
    ------
    ValueError
        If a prompt lies outside the photograph, or the embedding is that of another one.
    """
    from crack_pipeline.models import segment_anything

    size = photograph.shape[:2]
    if embedding.photograph_size != size:
        raise ValueError(f"the embedding is of {embedding.photograph_size} px, the photograph has {size}")
    if prompts is not None:
        check_inside(prompts, size)
        return enlarge(segment_anything.prompted_mask(network, embedding, prompts.points, prompts.boxes), size)
    masks = segment_anything.automatic_masks(
        network,
        embedding,
        points_per_side=how.automatic.points_per_side,
        points_per_batch=how.automatic.points_at_once,
        pred_iou_thresh=how.automatic.predicted_iou,
        stability_score_thresh=how.automatic.stability,
        box_nms_thresh=how.automatic.overlap,
    )
    return structure_from_masks(photograph, masks, how.rule, how.side)
