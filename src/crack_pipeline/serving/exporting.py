"""Trained models as ONNX graphs that carry their preparation.

In the graph: from bytes to [0, 1], what the network expects to be subtracted and divided by, padding to its grid and
cutting back, the network, and from its answer to probabilities, or to the score and where it looks. Beside it, in
:mod:`crack_pipeline.serving.onnx`: decoding, grey, scaling by area, and cutting into tiles, which ONNX has no
operators for that give the same numbers.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

import crack_pipeline
from crack_pipeline.evaluation.scores import Likeliest, Score, score_named
from crack_pipeline.imaging.overlapping import Tiles
from crack_pipeline.models.any_size import AnySize
from crack_pipeline.models.detectors import build_network
from crack_pipeline.models.segmenters import rebuild
from crack_pipeline.models.vae import VAEOutput
from crack_pipeline.models.weights import Weights
from crack_pipeline.serving.onnx import INSTALL, KEY, Facts, OnnxModel
from crack_pipeline.serving.photographs import Limits
from crack_pipeline.training.segmenting import cut_of

OPSET = 18
"""The first with everything that these graphs need; onnxruntime reads it from 1.14 on, of February 2023."""

_MOST_PIXELS = 1 << 15
_TRIED = 1e-3
_SEGMENTER_CLASSES = {
    "crack": "at least least_pixels pixels whose probability is at least the threshold",
    "normal": "fewer of them",
}
_DETECTOR_CLASSES = {"crack": "the score is above the threshold", "normal": "it is not"}
_CHANNELS = {"grey": 1, "rgb": 3}


class Exported(NamedTuple):
    """An ONNX model, and what it says of itself."""

    model: bytes
    facts: Facts


def export(
    weights: Weights,
    kind: Literal["detector", "segmenter"],
    limits: Limits,
    *,
    model: str,
    version: str | None = None,
    least_pixels: int = 1,
) -> Exported:
    """Make an ONNX model of a trained one, in single precision.

    Parameters
    ----------
    weights
        As a pipeline packs them.
    kind
        What they answer.
    limits
        Of the photographs that are answered.
    model, version
        What answers are to name.
    least_pixels
        Of a segmenter: crack pixels from which on a photograph is called cracked.

    Returns
    -------
    Exported
        The graph takes ``images``, uint8 (n, h, w, C). That of a segmenter, for any n, h and w, gives ``probability``,
        (n, h, w); that of a detector, for any n and its own h and w, ``score``, (n,), and ``map``, (n, h', w').

    Raises
    ------
    ValueError
        If the network has operations that the graph cannot hold for photographs of every size.
    ImportError
        Without onnx and onnxscript; the message says what to install.
    """
    _require()
    image = weights.facts["image"]
    shared: dict[str, Any] = {
        "kind": kind,
        "model": model,
        "version": version,
        "fingerprint": weights.fingerprint(),
        "package": crack_pipeline.__version__,
        "opset": OPSET,
        "mode": image["mode"],
        "size": image["size"],
        "resize": image.get("resize", True),
        "limits": limits,
        "inputs": {"images": f"uint8 (n, h, w, {_CHANNELS[image['mode']]}): {image['mode']}, from 0 to 255, prepared"},
    }
    if kind == "segmenter":
        network: AnySize = rebuild(weights).eval()
        tiles = Tiles.model_validate(weights.facts["tiles"])
        facts = Facts(
            **shared,
            threshold=float(weights.facts["threshold"]),
            score="mean probability of the 100 likeliest pixels",
            least_pixels=least_pixels,
            classes=_SEGMENTER_CLASSES,
            outputs={"probability": "float32 (n, h, w): of a crack, for every pixel of images of any size"},
            tiles=tiles,
            cut=cut_of(tiles, network)._asdict(),
        )
        graph = _segmenter_graph(network)
    else:
        score, size = score_named(weights.facts["score"]), image["size"]
        facts = Facts(
            **shared,
            threshold=float(weights.facts["thresholds"][weights.facts["name"]]),
            score=weights.facts["name"],
            log_odds=isinstance(score, Likeliest),
            classes=_DETECTOR_CLASSES,
            outputs={
                "score": "float32 (n,): higher where a crack is more likely",
                "map": "float32 (n, h', w'): where the score looks, of this size or of half of it",
            },
        )
        graph = _detector_graph(build_network(weights).eval(), score, size, _CHANNELS[image["mode"]])
    entry = graph.metadata_props.add()
    entry.key, entry.value = KEY, facts.model_dump_json()
    graph.producer_name, graph.producer_version = "crack-pipeline", crack_pipeline.__version__
    exported = Exported(graph.SerializeToString(), facts)
    if kind == "segmenter":
        _try_out(exported, network)
    return exported


class _Anywhere(nn.Module):
    """A segmenter of images of any size."""

    def __init__(self, network: AnySize) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Give probabilities (n, h, w)."""
        return self.network(_scaled(images))[:, 0].sigmoid()


class _OnItsGrid(nn.Module):
    """A segmenter of images whose sides are multiples of its stride: what around it depends on them, ONNX adds."""

    def __init__(self, network: AnySize) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Give probabilities (n, h, w)."""
        return self.network.logits(self.network.standardise(_scaled(images)))[:, 0].sigmoid()


class _Scored(nn.Module):
    """A detector's network and its score."""

    def __init__(self, network: nn.Module, score: Score) -> None:
        super().__init__()
        self.network, self.score = network, score

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Give scores (n,), and where they look (n, h', w')."""
        seen = _scaled(images)
        answer = self.network(seen)
        answer = answer.reconstruction if isinstance(answer, VAEOutput) else answer
        return self.score(seen, answer), self.score.map(seen, answer)[:, 0]


def _scaled(images: Tensor) -> Tensor:
    return images.permute(0, 3, 1, 2).to(torch.float32) / 255


def _segmenter_graph(network: AnySize) -> Any:
    step, several = network.stride, torch.export.Dim("n", min=1, max=1 << 16)
    most = max(2, _MOST_PIXELS // step)
    height, width = (torch.export.Dim(name, min=1, max=most) for name in ("rows", "columns"))
    example = torch.zeros(2, 2 * step, 3 * step, network.in_channels, dtype=torch.uint8)
    shapes = ({0: several, 1: step * height, 2: step * width},)
    graph = _traced(_OnItsGrid(network), example, ["probability"], shapes)
    return _padded(graph, step)


def _detector_graph(network: nn.Module, score: Score, size: int, channels: int) -> Any:
    module, example = _Scored(network, score), torch.zeros(2, size, size, channels, dtype=torch.uint8)
    with torch.inference_mode():
        module(example)  # so that what the score keeps for later was not made while it was traced
    return _traced(module, example, ["score", "map"], ({0: torch.export.Dim("n", min=1, max=1 << 16)},))


def _traced(module: nn.Module, example: Tensor, outputs: list[str], shapes: Any) -> Any:
    try:
        with torch.no_grad(), _quiet():
            program = torch.onnx.export(
                module.eval(),
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=["images"],
                output_names=outputs,
                dynamic_shapes=shapes,
                verbose=False,
                custom_translation_table={torch.ops.aten.median.dim: _median},
            )
    except torch.onnx.OnnxExporterError as error:
        raise ValueError(f"this network cannot be exported: {_cause(error)}") from error
    assert program is not None
    return program.model_proto


def _median(values: Any, dim: int, keepdim: bool = False) -> tuple[Any, Any]:
    """Translate torch's median, the lower one of an even number: the largest of the smaller half."""
    import onnxscript

    op: Any = onnxscript.opset18
    number = values.shape[dim]
    middle = op.Constant(value_ints=[(number - 1) // 2])
    ranked, places = op.TopK(values, op.Constant(value_ints=[(number - 1) // 2 + 1]), axis=dim, largest=0, sorted=1)
    found = (op.Gather(ranked, middle, axis=dim), op.Gather(places, middle, axis=dim))
    if keepdim:
        return found
    axes = op.Constant(value_ints=[dim])
    return op.Squeeze(found[0], axes), op.Squeeze(found[1], axes)


def _padded(graph: Any, stride: int) -> Any:
    """Let a graph for multiples of a stride take images of any size: repeat their last row and column, cut them off."""
    import onnx
    from onnx import helper as make

    inner = graph.graph
    for node in inner.node:
        _rename(node.input, {"images": "padded"})
        _rename(node.output, {"probability": "of_padded"})

    def constant(name: str, values: list[int]) -> Any:
        return make.make_tensor(name, onnx.TensorProto.INT64, [len(values)], values)

    inner.initializer.extend(
        [
            constant("the_stride", [stride]),
            constant("no_pads", [0, 0, 0, 0, 0]),
            constant("no_pad", [0]),
            constant("from_the_first", [0, 0]),
            constant("rows_and_columns", [1, 2]),
        ]
    )
    before = [
        make.make_node("Shape", ["images"], ["size"], start=1, end=3),
        make.make_node("Neg", ["size"], ["minus_size"]),
        make.make_node("Mod", ["minus_size", "the_stride"], ["missing"]),
        make.make_node("Concat", ["no_pads", "missing", "no_pad"], ["pads"], axis=0),
        make.make_node("Pad", ["images", "pads"], ["padded"], mode="edge"),
    ]
    after = make.make_node("Slice", ["of_padded", "from_the_first", "size", "rows_and_columns"], ["probability"])
    nodes = [*before, *inner.node, after]
    del inner.node[:]
    inner.node.extend(nodes)
    del inner.value_info[:]
    for value, names in ((inner.input[0], ("n", "h", "w")), (inner.output[0], ("n", "h", "w"))):
        for axis, name in enumerate(names):
            value.type.tensor_type.shape.dim[axis].dim_param = name
    onnx.checker.check_model(graph)
    return graph


def _rename(names: Any, others: dict[str, str]) -> None:
    for place, name in enumerate(names):
        names[place] = others.get(name, name)


@torch.inference_mode()
def _try_out(exported: Exported, network: AnySize) -> None:
    """Raise ValueError if the graph does not compute what the network does for images of other sizes than traced."""
    model, step = OnnxModel(exported.model, threads=1), network.stride
    noise, anywhere = torch.Generator().manual_seed(0), _Anywhere(network)
    for height, width in ((step, step), (5 * step // 2 + 1, step + 1)):
        images = torch.randint(0, 256, (1, height, width, network.in_channels), generator=noise, dtype=torch.uint8)
        try:
            found = torch.from_numpy(model.ask(images.numpy()))
        except Exception as error:  # onnxruntime has exceptions of its own, of no common kind
            raise ValueError(
                "this network cannot be exported for photographs of every size: its graph fails at "
                f"{width} × {height} px ({_cause(error)}). It pools to a fixed number of places, as the decoders "
                "pspnet and upernet do, or fixes sizes in another way"
            ) from None
        wanted = anywhere(images)
        if found.shape != wanted.shape or not torch.allclose(found, wanted, atol=_TRIED):
            raise ValueError(
                f"this network cannot be exported: at {width} × {height} px its graph gives other probabilities than "
                "torch does"
            )


def _cause(error: BaseException) -> str:
    """Give the last cause in one line: the exporter wraps it into advice for the authors of torch."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split())[:300]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what the exporter tells about itself."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)


def _require() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # type: ignore[import-untyped]  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError:
        raise ImportError(INSTALL) from None
