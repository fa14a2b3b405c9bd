"""Ask an exported model about photographs: with onnxruntime, Pillow, OpenCV and numpy, and without torch.

python -m crack_pipeline.serving.onnx model.onnx wall.jpg pier.png > answers.jsonl

The file says itself how photographs are prepared for it, see :class:`Facts`; docs/export.md tells what is computed in
the graph and what here.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from crack_pipeline.imaging.decoding import Mode, Undecodable, prepare
from crack_pipeline.imaging.overlapping import Cut, Tiles
from crack_pipeline.serving.photographs import Limits, read_photograph
from crack_pipeline.serving.replies import Answer, about_levels, about_score, checked, heatmap, limit_of
from crack_pipeline.serving.stitching import levels, probabilities

KEY = "crack_pipeline"
"""Under which the facts lie in the metadata of an ONNX model."""
INSTALL = "ONNX needs further packages: pip install 'crack-pipeline[onnx]'"
PRECISION = "32-true"

_INPUT = "images"


class Facts(BaseModel):
    """What an exported model says about itself; in its metadata, and in ``model.json`` beside it."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    format: Literal[1] = Field(1, description="of these facts")
    kind: Literal["detector", "segmenter"]
    model: str = Field(description="the pipeline that trained it, or the name that it is registered under")
    version: str | None = Field(None, description="registered version; null: the newest training was exported")
    fingerprint: str = Field(description="hash of the weights that it was made of")
    package: str = Field(description="version of crack-pipeline that exported it")
    opset: int
    threshold: float = Field(description="detector: of the score; segmenter: of a pixel's probability")
    score: str = Field(description="what the score is called in the tables of the pipelines")
    log_odds: bool = Field(False, description="detector: whether the score is a logarithm of odds")
    least_pixels: int | None = Field(None, description="segmenter: crack pixels from which a photograph is cracked")
    classes: dict[str, str] = Field(description="what each label means")
    inputs: dict[str, str]
    outputs: dict[str, str]
    mode: Mode = Field(description="whether photographs are turned to grey, or to red, green, blue")
    size: int | None = Field(None, description="side of the square that photographs are scaled to; null: not scaled")
    resize: bool = Field(True, description="whether they may be; otherwise only those of this size are taken")
    tiles: Tiles | None = Field(None, description="segmenter: how photographs are cut and how often they are looked at")
    cut: dict[str, int] | None = Field(None, description="segmenter: size, halo, blend and stride of the tiles, px")
    limits: Limits = Field(description="of the photographs that it answers to")


class OnnxModel:
    """Answers to photographs as the served model does.

    Parameters
    ----------
    model
        File, or its bytes.
    threads
        Of the network; None: a core each.

    Raises
    ------
    ValueError
        If it is no ONNX model, or was not exported by this project.
    ImportError
        Without onnxruntime; the message says what to install.
    """

    def __init__(self, model: Path | bytes, threads: int | None = None) -> None:
        try:
            import onnxruntime  # type: ignore[import-untyped]
        except ImportError:
            raise ImportError(INSTALL) from None
        name = "the model" if isinstance(model, bytes) else str(model)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        try:
            self._session = onnxruntime.InferenceSession(
                model if isinstance(model, bytes) else str(model), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # it has exceptions of its own, of no common kind
            raise ValueError(f"{name} is no ONNX model that can be read: {' '.join(str(error).split())}") from None
        told = self._session.get_modelmeta().custom_metadata_map.get(KEY)
        if told is None:
            raise ValueError(f"{name} does not say how photographs are prepared: it was not exported by this project")
        try:
            self.facts = Facts.model_validate_json(told)
        except ValidationError as error:
            raise ValueError(f"{name} is of another version of this project: {error}") from None

    def answer(self, photograph: Any, threshold: float | None = None, **wishes: bool) -> Answer:
        """Answer to one photograph.

        Parameters
        ----------
        photograph
            What :func:`crack_pipeline.serving.photographs.read_photograph` takes.
        threshold
            Another one than the model's own.
        wishes
            ``mask`` (of a segmenter, True unless told) and ``heatmap`` (of a detector, False unless told).

        Returns
        -------
        dict
            As a served model gives it: see docs/serving.md.

        Raises
        ------
        Undecodable
            If it is no photograph, or one beyond the limits.
        ValueError
            If the threshold makes no sense.
        """
        facts = self.facts
        limit = facts.threshold if threshold is None else threshold
        pixels = read_photograph(photograph, facts.mode, facts.limits)
        said = self._where(pixels, limit, wishes) if facts.kind == "segmenter" else self._whether(pixels, limit, wishes)
        return said | {"model": facts.model, "version": facts.version, "preprocessing": self._preprocessing()}

    def ask(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Ask the graph of a segmenter: from pictures (n, h, w, C) to the probability of each pixel, (n, h, w)."""
        found: NDArray[np.float32] = self._session.run(["probability"], {_INPUT: pictures})[0]
        return found

    def levels(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Give the probability of a crack in every pixel of a photograph, in 256 levels: (H, W)."""
        assert self.facts.tiles is not None
        assert self.facts.cut is not None
        return levels(self.ask, pixels, self.facts.tiles, Cut(**self.facts.cut))

    def probabilities(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Give the probability of a crack in every pixel of a photograph: (H, W)."""
        assert self.facts.tiles is not None
        assert self.facts.cut is not None
        return probabilities(self.ask, pixels, self.facts.tiles, Cut(**self.facts.cut))

    def scores(self, pictures: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Ask the graph of a detector: from pictures (n, size, size, C) to scores (n,) and their maps (n, h, w)."""
        found, maps = self._session.run(["score", "map"], {_INPUT: pictures})
        return found, maps

    def prepare(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Bring a photograph to the form of the graph, (1, h, w, C); Undecodable if it may not be scaled to it."""
        size, (height, width) = self.facts.size, pixels.shape[:2]
        if size is not None and not self.facts.resize and (height, width) != (size, size):
            raise Undecodable("size", f"{width} × {height} px; this model takes {size} × {size} px alone")
        prepared = prepare(pixels, size, self.facts.mode)
        return prepared.reshape(1, *prepared.shape[:2], -1)

    def _where(self, pixels: NDArray[np.uint8], threshold: float, wishes: dict[str, bool]) -> Answer:
        limit = limit_of(threshold)
        least = self.facts.least_pixels or 1
        return about_levels(self.levels(pixels), limit, least, mask=wishes.get("mask", True))

    def _whether(self, pixels: NDArray[np.uint8], threshold: float, wishes: dict[str, bool]) -> Answer:
        limit, (height, width) = checked(threshold), pixels.shape[:2]
        found, maps = self.scores(self.prepare(pixels))
        said = about_score(float(found[0]), limit, log_odds=self.facts.log_odds)
        shown = heatmap(maps[0], self.facts.size or width) if wishes.get("heatmap", False) else {}
        return said | shown | {"width": width, "height": height}

    def _preprocessing(self) -> Answer:
        facts = self.facts
        computed = {"accelerator": "cpu", "precision": PRECISION}
        if facts.tiles is None:
            return {"mode": facts.mode, "size": facts.size, "resize": facts.resize, "score": facts.score, **computed}
        tiles = facts.tiles.model_dump(mode="json")
        return {"mode": facts.mode, "size": None, "tiles": tiles, "least_pixels": facts.least_pixels, **computed}


def main(arguments: list[str] | None = None) -> int:
    """Print an answer a line; gives 1 if a photograph got none."""
    parser = argparse.ArgumentParser(prog="python -m crack_pipeline.serving.onnx", description=__doc__)
    parser.add_argument("model", type=Path, help="such as model.onnx")
    parser.add_argument("photographs", type=Path, nargs="+")
    parser.add_argument("--threshold", type=float, help="instead of the model's own")
    parser.add_argument("--no-mask", action="store_true", help="of a segmenter: leave the masks out")
    parser.add_argument("--heatmap", action="store_true", help="of a detector: show where its score looks")
    parser.add_argument("--threads", type=int, help="of the network; a core each unless told")
    given = parser.parse_args(arguments)
    try:
        model = OnnxModel(given.model, given.threads)
    except (ValueError, ImportError) as error:
        parser.error(str(error))
    failed = False
    for path in given.photographs:
        said: Answer = {"path": path.as_posix()}
        try:
            said |= model.answer(path.read_bytes(), given.threshold, mask=not given.no_mask, heatmap=given.heatmap)
        except (OSError, ValueError) as error:
            said |= {"error": f"cannot be read: {error}" if isinstance(error, OSError) else str(error)}
            failed = True
        print(json.dumps(said), flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
