"""Segment Anything (A. Kirillov and others, ICCV 2023): the official network, read from its weights, encoded once.

The sizes of the network are those of the tensors, so that any file in the official format is read, whatever it is
called. What costs is the encoding of a photograph; from it, points and boxes ask for masks at little cost, so it can be
kept (`Embedding`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from segment_anything import SamAutomaticMaskGenerator, SamPredictor
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from segment_anything.utils.transforms import ResizeLongestSide
from torch import Tensor, nn

from crack_pipeline.models.embedding import Embedding

PUBLISHED = {"vit_b": (768, 12), "vit_l": (1024, 24), "vit_h": (1280, 32)}
"""Channels and blocks of the image encoders that are published."""

_MEAN, _DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
_DECODER_HEADS = 8
_IN_ENCODER = "image_encoder.blocks."
_IN_DECODER = "mask_decoder.transformer.layers."


def build(tensors: Mapping[str, Tensor], model: str) -> Sam:
    """Build the network that weights are of.

    Parameters
    ----------
    tensors
        A state dictionary in the official format.
    model
        ``vit_b``, ``vit_l`` or ``vit_h``: the published one that is wanted. A network of none of these sizes, such as
        one that is trained by the user, is built as it is.

    Returns
    -------
    segment_anything.modeling.Sam
        On the CPU, ready to predict. It shares memory with the tensors.

    Raises
    ------
    ValueError
        If these are not the weights of Segment Anything, or those of another published size.
    """
    try:
        network, size = _blank(tensors)
    except (KeyError, IndexError, ValueError, ZeroDivisionError, RuntimeError, AssertionError) as error:
        raise ValueError(f"the weights are not those of Segment Anything: {_said(error)}") from error
    actual = next((name for name, published in PUBLISHED.items() if published == size), model)
    if actual != model:
        raise ValueError(f"the weights are those of {actual}, and the model is {model}; set it to {actual}")
    own = network.state_dict()
    missing = [name for name in own if name not in tensors]
    surplus = [name for name in tensors if name not in own]
    odd = [name for name in own if name in tensors and own[name].shape != tensors[name].shape]
    if missing or surplus or odd:
        problem = (
            f"{missing[0]} is missing"
            if missing
            else f"{odd[0]} is {tuple(tensors[odd[0]].shape)} instead of {tuple(own[odd[0]].shape)}"
            if odd
            else f"it has no {surplus[0]}"
        )
        raise ValueError(f"the weights are not those of Segment Anything: {problem}")
    network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, assign=True)
    network.pixel_mean = torch.tensor(_MEAN).view(-1, 1, 1)
    network.pixel_std = torch.tensor(_DEVIATION).view(-1, 1, 1)
    return network.requires_grad_(False).eval()


def embed(network: Sam, photograph: NDArray[np.uint8]) -> Embedding:
    """Encode a photograph, on the device of the network.

    Parameters
    ----------
    network
        From `build`.
    photograph
        (H, W, 3), RGB, of any size: it is shrunk, or enlarged, to the size that the network sees.

    Returns
    -------
    Embedding

    Raises
    ------
    ValueError
        If the network gives what is not a number: its weights are damaged.
    """
    height, width = photograph.shape[:2]
    side = network.image_encoder.img_size
    input_size = _Resize.get_preprocess_shape(height, width, side)
    input_size = (max(1, input_size[0]), max(1, input_size[1]))
    how = cv2.INTER_AREA if max(height, width) > side else cv2.INTER_LINEAR
    shrunk = cv2.resize(photograph, input_size[::-1], interpolation=how)
    image = torch.from_numpy(np.ascontiguousarray(shrunk)).permute(2, 0, 1)[None].to(network.device)
    with torch.no_grad():
        features = network.image_encoder(network.preprocess(image))
    if not torch.isfinite(features).all():
        raise ValueError("the weights of Segment Anything give what is not a number: fetch them again")
    return Embedding(features.float().cpu(), input_size, (height, width))


def prompted_mask(
    network: Sam,
    embedding: Embedding,
    points: Sequence[tuple[float, float, bool]],
    boxes: Sequence[tuple[float, float, float, float]],
) -> NDArray[np.bool_]:
    """Give what points and boxes ask for.

    Each box asks for one thing, together with the points in it; points in no box ask together for one more. Points on
    the background that lie in no box are told to each.

    Parameters
    ----------
    network
        From `build`.
    embedding
        Of the photograph, from `embed`.
    points
        x, y in px of the photograph, and whether it is foreground.
    boxes
        Left, top, right, bottom in px of the photograph.

    Returns
    -------
    ndarray of bool
        Of the size ``embedding.input_size``: the things, joined.
    """
    predictor = _Embedded(network, embedding)
    scale = np.array(embedding.input_size[::-1]) / embedding.photograph_size[::-1]
    within = [[left <= x <= right and top <= y <= bottom for left, top, right, bottom in boxes] for x, y, _ in points]
    lonely = [point for point, inside in zip(points, within, strict=True) if not any(inside)]
    background = [point for point in lonely if not point[2]]
    asked: list[tuple[list[tuple[float, float, bool]], tuple[float, float, float, float] | None]] = [
        ([point for point, inside in zip(points, within, strict=True) if inside[number]] + background, box)
        for number, box in enumerate(boxes)
    ]
    if len(lonely) > len(background):
        asked.append((lonely, None))
    found = np.zeros(embedding.input_size, np.bool_)
    for some, box in asked:
        # A single point may mean a part or the whole: of three answers the one that is trusted most is taken.
        ambiguous = box is None and len(some) == 1
        masks, trust, _ = predictor.predict(
            point_coords=np.array([point[:2] for point in some]) * scale if some else None,
            point_labels=np.array([int(point[2]) for point in some]) if some else None,
            box=None if box is None else np.array(box) * np.tile(scale, 2),
            multimask_output=ambiguous,
        )
        found |= np.asarray(masks[int(np.argmax(trust))], np.bool_)
    return found


def automatic_masks(network: Sam, embedding: Embedding, **options: Any) -> list[dict[str, Any]]:
    """Give masks of everything in a photograph.

    Parameters
    ----------
    network
        From `build`.
    embedding
        Of the photograph, from `embed`.
    **options
        Of ``SamAutomaticMaskGenerator``, such as ``points_per_side``; no further crops are encoded.

    Returns
    -------
    list of dict
        As that class gives them: ``segmentation`` (of bool and the size ``embedding.input_size``), ``area``,
        ``predicted_iou``, ``stability_score`` and more.
    """
    generator = SamAutomaticMaskGenerator(network, **options, crop_n_layers=0, output_mode="binary_mask")
    generator.predictor = _Embedded(network, embedding)
    blank = np.broadcast_to(np.uint8(0), (*embedding.input_size, 3))  # only its size is asked for
    return [{**mask, "segmentation": np.asarray(mask["segmentation"], np.bool_)} for mask in generator.generate(blank)]


class _Resize(ResizeLongestSide):
    """Coordinates in single precision: Apple GPUs know no other."""

    def apply_coords(self, coords: NDArray[Any], original_size: tuple[int, ...]) -> NDArray[np.float32]:
        return np.asarray(super().apply_coords(coords, original_size), np.float32)


class _Embedded(SamPredictor):
    """A predictor whose photograph has been encoded already."""

    def __init__(self, network: Sam, embedding: Embedding) -> None:
        super().__init__(network)
        self.transform = _Resize(network.image_encoder.img_size)
        self.features = embedding.features.to(network.device)
        self.original_size = self.input_size = embedding.input_size
        self.is_image_set = True

    def set_image(self, image: NDArray[np.uint8], image_format: str = "RGB") -> None:
        """Keep the one that is there."""

    def reset_image(self) -> None:
        """Keep the one that is there."""


def _said(error: Exception) -> str:
    return f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)


def _blank(tensors: Mapping[str, Tensor]) -> tuple[Sam, tuple[int, int]]:
    """Make a network of the sizes of the tensors, without memory, and say its channels and blocks."""
    channels, _, patch, _ = tensors["image_encoder.patch_embed.proj.weight"].shape
    grid = tensors["image_encoder.pos_embed"].shape[1]
    depth = _number(tensors, _IN_ENCODER)
    # Of a window of n patches, 2 n - 1 relative places are learned, each with the channels of one head.
    places = [tensors[f"{_IN_ENCODER}{block}.attn.rel_pos_h"].shape for block in range(depth)]
    across = [block for block, (number, _) in enumerate(places) if number == 2 * grid - 1]
    windows = {(number + 1) // 2 for block, (number, _) in enumerate(places) if block not in across}
    if len(windows) > 1:
        raise ValueError(f"its windows have {len(windows)} sizes")
    out = len(tensors["image_encoder.neck.0.weight"])
    side, transformer = grid * patch, _number(tensors, _IN_DECODER)
    hidden = tensors[f"{_IN_ENCODER}0.mlp.lin1.weight"].shape[0]
    with torch.device("meta"):
        network = Sam(
            ImageEncoderViT(
                img_size=side,
                patch_size=patch,
                embed_dim=channels,
                depth=depth,
                num_heads=channels // places[0][1],
                mlp_ratio=hidden / channels,
                out_chans=out,
                norm_layer=partial(nn.LayerNorm, eps=1e-6),
                use_rel_pos=True,
                window_size=min(windows, default=0),
                global_attn_indexes=tuple(across),
            ),
            PromptEncoder(
                embed_dim=out,
                image_embedding_size=(grid, grid),
                input_image_size=(side, side),
                mask_in_chans=len(tensors["prompt_encoder.mask_downscaling.3.weight"]),
            ),
            MaskDecoder(
                num_multimask_outputs=len(tensors["mask_decoder.mask_tokens.weight"]) - 1,
                transformer=TwoWayTransformer(
                    depth=transformer,
                    embedding_dim=out,
                    mlp_dim=len(tensors[f"{_IN_DECODER}0.mlp.lin1.weight"]),
                    num_heads=_DECODER_HEADS,
                ),
                transformer_dim=out,
                iou_head_depth=_number(tensors, "mask_decoder.iou_prediction_head.layers."),
                iou_head_hidden_dim=len(tensors["mask_decoder.iou_prediction_head.layers.0.weight"]),
            ),
            list(_MEAN),
            list(_DEVIATION),
        )
    return network, (channels, depth)


def _number(tensors: Mapping[str, Tensor], prefix: str) -> int:
    """Count the modules of a list."""
    numbers = {name.removeprefix(prefix).partition(".")[0] for name in tensors if name.startswith(prefix)}
    if not numbers:
        raise KeyError(f"{prefix}0")
    return len(numbers)
