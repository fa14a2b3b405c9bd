"""Segmenters of segmentation_models_pytorch: an encoder, made for classifying photographs, and a decoder."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from crack_pipeline.models.any_size import AnySize
from crack_pipeline.models.unet import expect

Decoder = Literal[
    "unet",
    "unetplusplus",
    "manet",
    "linknet",
    "fpn",
    "pspnet",
    "deeplabv3",
    "deeplabv3plus",
    "pan",
    "upernet",
    "segformer",
]

_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_MIDDLE = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
# Encoders whose published weights were trained with another standardisation, by how their names begin.
_STANDARDISATION = {
    "dpn": ((124 / 255, 117 / 255, 104 / 255), (1 / (0.0167 * 255),) * 3),
    "inception": _MIDDLE,
    "xception": _MIDDLE,
    "timm-tf_efficientnet_lite": _MIDDLE,
}
# Some encoders halve five times whatever their depth; pan halves what it gets from them three times more.
_STRIDE, _PAN_STRIDE = 32, 128
_CHANNELS = (256, 128, 64, 32, 16)
_SET_HERE = {"self", "classes", "in_channels", "activation", "upsampling", "aux_params", "kwargs"}


class EncoderSegmenter(AnySize):
    """A network of segmentation_models_pytorch that takes images of any size in [0, 1].

    They are standardised as the encoder's published weights want it. The weights are random; nothing is downloaded.

    Parameters
    ----------
    encoder
        Its name there, or ``tu-`` and a name of timm.
    decoder
        Its name there. With ``deeplabv3`` and ``deeplabv3plus`` a training batch needs at least two images.
    in_channels
        1 (grey) or 3 (colour).
    depth
        Halvings of the encoder that the decoder sees, 3 to 5; ``None`` for 5, or 3 for ``pspnet``.
    decoder_options
        Further options of the decoder, by their names there.
    prior
        Share of crack pixels that the untrained network expects.

    Raises
    ------
    ValueError
        If encoder, decoder and options do not go together.
    """

    def __init__(
        self,
        encoder: str,
        decoder: Decoder = "unet",
        in_channels: int = 3,
        depth: int | None = None,
        decoder_options: Mapping[str, Any] | None = None,
        prior: float = 0.05,
    ) -> None:
        mean, deviation = _standardisation(encoder)
        if in_channels == 1:
            mean, deviation = (sum(mean) / 3,), (sum(deviation) / 3,)
        super().__init__(in_channels, _PAN_STRIDE if decoder == "pan" else _STRIDE, mean, deviation)
        self.encoder_name = encoder
        what = f"the encoder {encoder} does not work with the decoder {decoder}"
        depth = depth or (3 if decoder == "pspnet" else 5)
        options = _decoder_options(decoder, depth, decoder_options or {})
        try:
            self.network = smp().MODEL_ARCHITECTURES_MAPPING[decoder](
                encoder_name=encoder,
                encoder_weights=None,
                encoder_depth=depth,
                in_channels=in_channels,
                classes=1,
                **options,
            )
        except (ValueError, TypeError, KeyError, RuntimeError) as error:
            raise ValueError(f"{what} and these options: {error}") from error
        head = next(layer for layer in self.network.segmentation_head.modules() if isinstance(layer, nn.Conv2d))
        expect(head, prior)
        self._try_out(in_channels, what)

    @property
    def encoder(self) -> nn.Module:
        """The part that pretrained weights are made for."""
        return self.network.encoder

    def logits(self, images: Tensor) -> Tensor:
        """See `AnySize.logits`."""
        return self.network(images)

    @torch.no_grad()
    def _try_out(self, channels: int, what: str) -> None:
        """Raise ValueError if the smallest image does not give logits of its size."""
        try:
            shape = tuple(self.eval()(torch.zeros(1, channels, self.stride, self.stride)).shape)
        except (RuntimeError, AssertionError, ValueError, IndexError) as error:
            raise ValueError(f"{what}: {error}") from error
        if shape != (1, 1, self.stride, self.stride):
            raise ValueError(f"{what}: {self.stride} × {self.stride} px give logits of the shape {shape}")
        self.train()


def check_encoder(name: str) -> None:
    """Raise ValueError, which names the nearest, if there is no encoder of that name."""
    names = list(smp().encoders.encoders)
    if name in names or (name.startswith("tu-") and timm().is_model(name.removeprefix("tu-"))):
        return
    others = [f"tu-{other}" for other in timm().list_models()]
    nearest = difflib.get_close_matches(name, names + others, cutoff=0.4)
    hint = f"the nearest are {', '.join(nearest)}" if nearest else "no name is near it"
    raise ValueError(
        f"there is no encoder of that name; {hint} (there are {len(names)}, and {len(others):,} of timm as tu-<name>)"
    )


# Both take seconds to import, and are asked for by few.
@cache
def smp() -> ModuleType:
    """Import segmentation_models_pytorch."""
    return import_module("segmentation_models_pytorch")


@cache
def timm() -> ModuleType:
    """Import timm."""
    return import_module("timm")


def _decoder_options(decoder: Decoder, depth: int, options: Mapping[str, Any]) -> dict[str, Any]:
    parameters = inspect.signature(smp().MODEL_ARCHITECTURES_MAPPING[decoder].__init__).parameters
    taken = [name for name in parameters if name not in _SET_HERE and not name.startswith("encoder_")]
    if unknown := sorted(set(options) - set(taken)):
        raise ValueError(f"the decoder {decoder} has no option {unknown[0]!r}; it takes {', '.join(taken) or 'none'}")
    chosen = dict(options)
    if decoder in ("unet", "unetplusplus", "manet"):
        chosen.setdefault("decoder_channels", _CHANNELS[-depth:])
    # Their decoders end at a resolution that depends on the depth.
    if decoder == "pspnet":
        chosen["upsampling"] = 2**depth
    elif decoder == "fpn":
        chosen["upsampling"] = 2 ** (depth - 3)
    return chosen


def _standardisation(encoder: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Give mean and deviation of the three colours that an encoder's published weights expect."""
    if encoder.startswith("tu-"):
        settings = timm().get_pretrained_cfg(encoder.removeprefix("tu-"))
        if settings is None or len(settings.mean) != 3:
            return _IMAGENET
        return tuple(settings.mean), tuple(settings.std)
    return next((values for start, values in _STANDARDISATION.items() if encoder.startswith(start)), _IMAGENET)
