"""Drift between real photographs: what is called drifted, what is not, and how often chance is.

python benchmarks/drift.py [--data FOLDER] [--photographs 2000]

The score is the trivial one (median minus 1st percentile of grey), so that nothing has to be trained. Photographs are
looked at as the detector stores them: 128 px wide and high, grey.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from crack_pipeline.evaluation.drift import Drift, Limits, measure_drift
from crack_pipeline.evaluation.scores import contrast
from crack_pipeline.imaging.decoding import decode, prepare
from crack_pipeline.imaging.near_duplicates import THUMBNAIL_SIZE, find_groups, fingerprint
from crack_pipeline.imaging.quality import brightness, sharpness

QUANTITIES = ["score", "brightness", "sharpness", "resolution"]
SIZE, ROUNDS = 128, 200
Image = NDArray[np.uint8]

CHANGES: dict[str, Callable[[Image], Image]] = {
    "5 % darker": lambda image: (image * 0.95).round().astype(np.uint8),
    "10 % darker": lambda image: (image * 0.9).round().astype(np.uint8),
    "20 % darker": lambda image: (image * 0.8).round().astype(np.uint8),
    "blurred by 1 px": lambda image: cv2.GaussianBlur(image, (0, 0), 1.0),
    "half the resolution": lambda image: cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "JPEG of quality 30": lambda image: cv2.imdecode(
        cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 30])[1], cv2.IMREAD_GRAYSCALE
    ),
}


def main() -> None:
    """Print a row per comparison, and the rates of false alarms."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=os.environ.get("CRACK_PIPELINE_DATA"))
    parser.add_argument("--photographs", type=int, default=2000)
    asked = parser.parse_args()
    if asked.data is None:
        parser.error("--data or CRACK_PIPELINE_DATA must name the photographs")
    data, rng = Path(asked.data), np.random.default_rng(0)
    metu = [
        _read(path, label)
        for folder, label in (("Negative", "normal"), ("Positive", "crack"))
        for path in _some(data / "metu" / folder, asked.photographs // 2, rng)
    ]
    groups = np.asarray(find_groups(fingerprint(np.stack([prepare(i, THUMBNAIL_SIZE, "grey") for i, _ in metu]))))
    table = _measure(metu, groups)
    held_out = _groups_of(groups, rng, 0.2)
    earlier, later = table[~held_out], table[held_out]
    print(
        f"METU: {len(earlier):,} photographs against others, in {len(np.unique(groups)):,} groups of near-duplicates\n"
    )
    print(f"{'against':<35} {'verdict':<10} " + " ".join(f"{name:>18}" for name in QUANTITIES))
    _row("METU, held out", measure_drift(earlier, later, QUANTITIES, Limits()))
    for name, change in CHANGES.items():
        changed = [(change(image), label) for (image, label), out in zip(metu, held_out, strict=True) if out]
        _row(
            f"METU, held out, {name}", measure_drift(earlier, _measure(changed, groups[held_out]), QUANTITIES, Limits())
        )
    for name, folder in (("DeepCrack", "deepcrack/train_img"), ("UAV75", "uav75/train_img")):
        other = [_read(path, "crack") for path in _some(data / folder, 300, rng)]
        _row(name, measure_drift(earlier, _measure(other, np.arange(len(other))), QUANTITIES, Limits()))
    _row("METU, only the cracked ones", measure_drift(earlier, later[later["label"] == "crack"], QUANTITIES, Limits()))
    _row("METU, 3 photographs", measure_drift(earlier, later.sample(3, random_state=0), QUANTITIES, Limits()))
    print(f"\n{ROUNDS} random splits of METU by group; share in which anything is called drifted:\n")
    darker = _measure([(CHANGES["10 % darker"](image), label) for image, label in metu], groups)
    print(
        f"{'new photographs':>15} {'by size alone':>14} {'by test alone':>14} {'by both':>8} {'10 % darker: found':>19}"
    )
    for number in (30, 100, 300):
        if number < len(table):
            print(f"{number:>15} " + _rates(table, darker, number, rng))


def _rates(table: pd.DataFrame, darker: pd.DataFrame, number: int, rng: np.random.Generator) -> str:
    limits, level = Limits(), Limits().false_alarms / len(QUANTITIES)
    found = np.zeros(4)
    for _ in range(ROUNDS):
        chosen = _groups_of(table["group"].to_numpy(), rng, number / len(table))
        drift = measure_drift(table[~chosen], table[chosen], QUANTITIES, limits)
        shifts = [shift for shift in drift.shifts if shift.distance is not None and shift.p is not None]
        large = any((shift.distance or 0) >= limits.least_distance for shift in shifts)
        unlikely = any((1.0 if shift.p is None else shift.p) < level for shift in shifts)
        real = measure_drift(table[~chosen], darker[chosen], QUANTITIES, limits)
        found += [large, unlikely, drift.verdict == "drifted", real.verdict == "drifted"]
    shares = [f"{100 * share:.1f} %" for share in found / ROUNDS]
    return f"{shares[0]:>14} {shares[1]:>14} {shares[2]:>8} {shares[3]:>19}"


def _row(name: str, drift: Drift) -> None:
    said = []
    for shift in drift.shifts:
        said.append(f"{shift.verdict} {shift.distance:.2f}" if shift.distance is not None else shift.verdict)
    print(f"{name:<35} {drift.verdict:<10} " + " ".join(f"{one:>18}" for one in said), flush=True)


def _measure(photographs: list[tuple[Image, str]], groups: NDArray[np.int64]) -> pd.DataFrame:
    seen = [prepare(image, SIZE, "grey") for image, _ in photographs]
    return pd.DataFrame(
        {
            "label": [label for _, label in photographs],
            "group": groups,
            "score": contrast(torch.from_numpy(np.stack(seen))[:, None].float() / 255).numpy().astype(float),
            "brightness": [brightness(image) for image in seen],
            "sharpness": [sharpness(image) for image in seen],
            "resolution": [np.sqrt(image.size) for image, _ in photographs],
        }
    )


def _groups_of(groups: NDArray[np.int64], rng: np.random.Generator, share: float) -> NDArray[np.bool_]:
    """Draw whole groups."""
    names = np.unique(groups)
    return np.isin(groups, rng.choice(names, max(1, round(share * len(names))), replace=False))


def _some(folder: Path, number: int, rng: np.random.Generator) -> list[Path]:
    paths = sorted(path for path in folder.iterdir() if path.is_file())
    return [paths[place] for place in rng.permutation(len(paths))[:number]]


def _read(path: Path, label: str) -> tuple[Image, str]:
    return decode(path.read_bytes(), mode="grey"), label


if __name__ == "__main__":
    main()
