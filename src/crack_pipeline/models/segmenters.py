"""Segmenters by name: networks that give the log-odds of a crack for every pixel of images of any size.

Another one is its module and, here, a class of options with a `build`, named in the union `SegmenterOptions`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, JsonValue, PositiveInt, TypeAdapter, ValidationError, field_validator
from torch import Tensor, nn

from crack_pipeline.models import weight_matching
from crack_pipeline.models.activation_maps import ActivationMaps
from crack_pipeline.models.any_size import AnySize
from crack_pipeline.models.encoder_segmenter import Decoder, EncoderSegmenter, check_encoder, timm
from crack_pipeline.models.unet import Activation, Initialisation, Normalisation, UNet, Upsampling
from crack_pipeline.models.weights import Weights


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    in_channels: Literal[1, 3] = Field(default=3, description="1 for grey photographs, 3 for colour")
    prior: float = Field(
        default=0.05,
        gt=0,
        lt=1,
        description="share of crack pixels that the untrained network expects, set by its last bias",
    )


class UNetOptions(_Options):
    """The project's own U-Net."""

    name: Literal["unet"] = "unet"
    levels: int = Field(default=5, ge=1, le=8, description="resolutions, the first one included")
    base_channels: int = Field(
        default=24, ge=1, le=512, description="at the first resolution; they double with every level"
    )
    max_channels: int = Field(default=512, ge=1, le=4096, description="the most that the channels double to")
    convolutions: int = Field(default=2, ge=1, le=4, description="per level, on the way down and again on the way up")
    kernel: Literal[3, 5, 7, 9, 11] = Field(default=3, description="side of the convolution kernels, in px")
    activation: Activation = Field(default="relu", description="after every convolution")
    slope: float = Field(default=0.01, ge=0, lt=1, description="of leaky_relu below zero; nothing else uses it")
    normalisation: Normalisation = Field(default="batch", description="between convolution and activation")
    initialisation: Initialisation = Field(default="default", description="of the kernels; default: torch's own")
    upsampling: Upsampling = Field(default="transposed", description="learned (transposed convolution) or interpolated")
    dropout: float = Field(
        default=0.0, ge=0, lt=1, description="share of the channels of the lowest level, in training"
    )

    patch: Literal[1, 2, 4] = Field(
        default=1, description="side in px of the squares that the first level takes for one pixel each"
    )

    def build(self) -> UNet:
        """Create the network with random weights."""
        return UNet(**self.model_dump(exclude={"name"}))


class EncoderOptions(_Options):
    """An encoder and a decoder of segmentation_models_pytorch."""

    name: Literal["encoder"] = "encoder"
    encoder: str = Field(
        default="resnet50", description="such as resnet50 or densenet169, or tu-<name> for one of timm"
    )
    decoder: Decoder = "unet"
    depth: int | None = Field(
        default=None, ge=3, le=5, description="halvings of the encoder that the decoder sees; null: 5, or 3 for pspnet"
    )
    decoder_channels: PositiveInt | tuple[PositiveInt, ...] | None = Field(
        default=None,
        description="null: the decoder's own; unet, unetplusplus, manet: one number a halving, from the lowest "
        "resolution up; deeplabv3, deeplabv3plus, pan, upernet: a number",
    )
    decoder_options: dict[str, JsonValue] = Field(
        default={}, description="further options of the decoder, by their names in segmentation_models_pytorch"
    )

    @field_validator("encoder")
    @classmethod
    def _known(cls, encoder: str) -> str:
        check_encoder(encoder)
        return encoder

    def build(self) -> EncoderSegmenter:
        """Create the network with random weights; ValueError if encoder, decoder and options do not go together."""
        channels = {} if self.decoder_channels is None else {"decoder_channels": self.decoder_channels}
        return EncoderSegmenter(
            self.encoder,
            self.decoder,
            in_channels=self.in_channels,
            depth=self.depth,
            decoder_options=self.decoder_options | channels,
            prior=self.prior,
        )


class ClassifierOptions(_Options):
    """A classifier whose logit is the mean of those of places: where it looks is a coarse map."""

    name: Literal["classifier"] = "classifier"
    widths: tuple[PositiveInt, ...] = Field(
        default=(32, 64, 128, 128), min_length=1, description="channels of its levels, each half as large as the last"
    )

    def build(self) -> ActivationMaps:
        """Create the network with random weights."""
        return ActivationMaps(self.in_channels, self.widths)


SegmenterOptions = Annotated[UNetOptions | EncoderOptions | ClassifierOptions, Field(discriminator="name")]
_ADAPTER: TypeAdapter[UNetOptions | EncoderOptions | ClassifierOptions] = TypeAdapter(SegmenterOptions)


def create_segmenter(options: Mapping[str, Any] | UNetOptions | EncoderOptions | ClassifierOptions) -> AnySize:
    """Create a segmenter with random weights. Nothing is downloaded.

    Parameters
    ----------
    options
        ``name`` and what that network takes, JSON-like; the same options give a network of the same shape.

    Returns
    -------
    AnySize
        Takes images (N, C, H, W) in [0, 1] of any size, gives logits (N, 1, H, W).

    Raises
    ------
    ValueError
        If an option is unknown or out of range, or they do not go together.

    Examples
    --------
    >>> create_segmenter({"name": "unet", "levels": 4}).stride
    8
    """
    try:
        return _ADAPTER.validate_python(options).build()
    except ValidationError as error:
        problems = []
        for problem in error.errors():
            where = ".".join(map(str, problem["loc"][1:]))
            message = problem["msg"].removeprefix("Value error, ")
            problems.append(f"{where} is {problem['input']!r}: {message}" if where else message)
        raise ValueError(f"the options of the segmenter are wrong: {'; '.join(problems)}") from error


def rebuild(weights: Weights) -> Any:
    """Rebuild the network that some weights belong to."""
    network = create_segmenter(weights.facts["network"])
    network.load_state_dict(weights.tensors)
    return network


def load_encoder(segmenter: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Put pretrained weights into the encoder of a segmenter.

    What a file holds beside the encoder, such as a classifier, is left out; how the names may differ says
    `weight_matching.match`.

    Parameters
    ----------
    segmenter
        From `create_segmenter`, with the name ``encoder``; changed in place.
    tensors
        By name.
    source
        Where they come from, for the message.

    Raises
    ------
    ValueError
        If the segmenter has no such encoder, or these are not the weights of this one; nothing is changed then.
    """
    if not isinstance(segmenter, EncoderSegmenter):
        raise ValueError(
            f"{source} cannot be used: the network has no encoder that there are pretrained weights for; set the "
            "weights to none, or the network's name to encoder"
        )
    name, own = segmenter.encoder_name, segmenter.encoder.state_dict()
    matched = weight_matching.match(own, tensors)
    if matched.missing or matched.misshapen:
        number = len(matched.found)
        wanted = number + len(matched.missing) + len(matched.misshapen)
        message = f"{source} does not hold the encoder {name}: {number:,} of its {wanted:,} tensors were found"
        if matched.missing:
            message += f"; the first that is missing is {matched.missing[0]}"
        if matched.misshapen:
            key, shape = matched.misshapen[0]
            message += f"; the first of another shape is {key}, {shape} there and {tuple(own[key].shape)} here"
        raise ValueError(message)
    # Such an encoder is made without the stages that its decoder does not see.
    whole = _names_in_timm(name.removeprefix("tu-")) if name.startswith("tu-") else []
    if further := weight_matching.surplus(tensors, matched, whole):
        raise ValueError(
            f"{source} holds a larger network than the encoder {name}: it has {len(further):,} tensors more, such as "
            f"{further[0]}"
        )
    # The method itself is overridden by some encoders, which change the dictionary that they are handed.
    nn.Module.load_state_dict(segmenter.encoder, {**own, **matched.found})


def _names_in_timm(name: str) -> list[str]:
    try:
        with torch.device("meta"):
            return list(timm().create_model(name).state_dict())
    except RuntimeError:  # some compute with their weights while they are made
        return list(timm().create_model(name).state_dict())
