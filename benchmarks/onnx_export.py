"""Exported models beside torch in the same run: how far their answers lie apart, how fast they are, how large.

    python benchmarks/onnx_export.py [--photographs 12] [--rounds 3] [--threads 1 2] [--side 512]
                              [--detector …/detector.safetensors] [--segmenter …/segmenter.safetensors]

Untrained networks in the sizes of conf/base stand in for trained ones that are not given: their speed and size are the
same, their answers nearly constant, so that differences mean little. Photographs are those of ``$CRACK_PIPELINE_DATA``
(deepcrack/test_img; the detector's: metu), or rendered. Both get decoded pixels and answer one photograph after the
other in single precision, a segmenter with the tiles and views of its training; they take turns within each round.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from crack_pipeline.engines.compute import Compute, resolve
from crack_pipeline.evaluation.probability_levels import to_levels
from crack_pipeline.imaging.decoding import decode
from crack_pipeline.imaging.overlapping import Tiles
from crack_pipeline.models.segmenters import rebuild
from crack_pipeline.models.weights import Weights, read_weights
from crack_pipeline.serving.answering import DetectorAnswers
from crack_pipeline.serving.exporting import export
from crack_pipeline.serving.onnx import OnnxModel
from crack_pipeline.serving.photographs import Limits
from crack_pipeline.serving.registration import Kind
from crack_pipeline.serving.replies import limit_of
from crack_pipeline.training.segmenting import probabilities

sys.path.insert(0, str(Path(__file__).parent))
from serving import photographs, untrained

FOLDERS = {"segmenter": ["deepcrack/test_img"], "detector": ["metu/Positive", "metu/Negative"]}


def files(kind: Kind, number: int, side: int) -> list[bytes]:
    """Read photographs, or render them where there are none."""
    root = os.environ.get("CRACK_PIPELINE_DATA")
    if root is None:
        return photographs(side if kind == "segmenter" else 227, number)
    found: list[bytes] = []
    for folder in FOLDERS[kind]:
        paths = sorted((Path(root) / folder).glob("*.jpg"))
        every = max(1, len(paths) * len(FOLDERS[kind]) // number)
        found += [path.read_bytes() for path in paths[::every]]
    return found


def in_torch(kind: Kind, weights: Weights) -> Callable[[np.ndarray], np.ndarray]:
    """Give what torch answers: probabilities of a photograph's pixels, or its score."""
    plan = resolve(Compute(accelerator="cpu", precision="32-true"))
    if kind == "detector":
        detector = DetectorAnswers(weights, plan)
        return lambda pixels: np.array([detector.answer([detector.prepare(pixels)])[0]["score"]])
    network, tiles = rebuild(weights), Tiles.model_validate(weights.facts["tiles"])
    return lambda pixels: probabilities(network, pixels, plan, tiles)


def exported(kind: Kind, model: bytes, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    """Give what onnxruntime answers: the same."""
    graph = OnnxModel(model, threads)
    if kind == "detector":
        return lambda pixels: graph.scores(graph.prepare(pixels))[0]
    return graph.probabilities


def milliseconds(work: Callable[[np.ndarray], np.ndarray], pictures: list[np.ndarray]) -> float:
    """Give the time of one photograph, the mean over all."""
    began = time.perf_counter()
    for picture in pictures:
        work(picture)
    return 1000 * (time.perf_counter() - began) / len(pictures)


def main() -> None:
    """Export, compare, time, tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--side", type=int, default=512, help="of rendered photographs for the segmenter, px")
    parser.add_argument("--detector", type=Path)
    parser.add_argument("--segmenter", type=Path)
    given = parser.parse_args()
    kinds: dict[Kind, Path | None] = {"detector": given.detector, "segmenter": given.segmenter}
    for kind, path in kinds.items():
        weights = read_weights(path) if path else untrained(kind)
        began = time.perf_counter()
        made = export(weights, kind, Limits(), model=kind)
        seconds = time.perf_counter() - began
        size = sum(tensor.numel() * tensor.element_size() for tensor in weights.tensors.values())
        print(
            f"{kind}: exported in {seconds:.1f} s, {len(made.model) / 1e6:.1f} MB; the weights are {size / 1e6:.1f} MB"
        )
        pictures = [decode(data, mode=made.facts.mode) for data in files(kind, given.photographs, given.side)]
        torch.set_num_threads(1)
        ours, theirs = exported(kind, made.model, 1), in_torch(kind, weights)
        largest, total, differing, pixels = 0.0, 0.0, 0, 0
        for picture in pictures:
            one, other = theirs(picture), ours(picture)
            apart = np.abs(one.astype(np.float64) - other)
            largest, total, pixels = max(largest, float(apart.max())), total + float(apart.sum()), pixels + apart.size
            if kind == "segmenter":
                limit = limit_of(made.facts.threshold)
                differing += int(((to_levels(one) >= limit) != (to_levels(other) >= limit)).sum())
        told = f"{kind}: {len(pictures)} photographs, difference at most {largest:.2g}, mean {total / pixels:.2g}"
        print(told + (f"; {differing:,} of {pixels:,} pixels of the masks differ" if kind == "segmenter" else ""))
        for threads in given.threads:
            torch.set_num_threads(threads)
            ours = exported(kind, made.model, threads)
            times: dict[str, list[float]] = {"torch": [], "onnxruntime": []}
            for _ in range(given.rounds):
                times["torch"].append(milliseconds(theirs, pictures))
                times["onnxruntime"].append(milliseconds(ours, pictures))
            torch_ms, onnx_ms = (float(np.median(found)) for found in times.values())
            print(
                f"{kind}: {threads} thread{'s' * (threads > 1)}  torch {torch_ms:8.1f} ms  "
                f"onnxruntime {onnx_ms:8.1f} ms  {onnx_ms / torch_ms:.2f} of torch's time"
            )


if __name__ == "__main__":
    main()
