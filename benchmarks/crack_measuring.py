"""Errors of length, width and direction on rendered cracks, and seconds and memory on large masks.

    python benchmarks/crack_measuring.py [--cracks 200] [--accuracy-only | --speed-only] [--panorama]

The cracks are polygons of known width around lines of known length, anywhere between the pixels and in all directions.
They are drawn at eight times the resolution; a pixel is in the mask if at least half of it is covered. Nothing of what
measures is used for drawing. ``camera`` is the same through a lens (Gaussian blur of 1 px) with noise, cut off at half
of the depth; at 1.5 px it makes a crack hardly deeper than that. The hostile masks have 12 megapixels, with
``--panorama`` 200. ``CRACK_PIPELINE_DATA`` names the folder with ``deepcrack/test_lab``, whose masks then make one
more photograph.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crack_pipeline.imaging.crack_objects import Crack, find_cracks

FINE = 8
SIZE = 384
WIDTHS = (1.5, 3.0, 6.0, 12.0, 30.0)


class Drawn(NamedTuple):
    """A rendered crack and what is true of it."""

    coverage: NDArray[np.float32]
    length: float
    mean_width: float
    max_width: float
    direction: float
    """Degrees; nan if it has none."""


def along(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the distance from the begin of a line at each of its points (n, 2)."""
    return np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])


def outline(points: NDArray[np.float64], widths: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Give the quadrilaterals, (4, 2) of x and y, between the points of a line."""
    tangent = np.gradient(points, axis=0)
    normal = tangent[:, ::-1] * (-1, 1) / np.hypot(*tangent.T)[:, None]
    left, right = points + normal * widths[:, None] / 2, points - normal * widths[:, None] / 2
    return [np.stack([left[i], left[i + 1], right[i + 1], right[i]]) for i in range(len(points) - 1)]


def covered(lines: list[tuple[NDArray[np.float64], NDArray[np.float64]]]) -> NDArray[np.float32]:
    """Say how much of each pixel lines (points of x and y, widths) cover."""
    fine = np.zeros((SIZE * FINE, SIZE * FINE), np.uint8)
    for points, widths in lines:
        # A polygon is drawn with its edge, half a fine pixel on each side.
        for corners in outline(points, widths - 1 / FINE):
            places = np.round(((corners + 0.5) * FINE - 0.5) * 256).astype(np.int32)
            cv2.fillConvexPoly(fine, places, 1, shift=8)
    return cv2.resize(fine.astype(np.float32), (SIZE, SIZE), interpolation=cv2.INTER_AREA)


def turned(points: NDArray[np.float64], degrees: float, centre: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn a line about the origin and put that at a place."""
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return points @ np.array([[cosine, sine], [-sine, cosine]]) + centre


def draw(kind: str, width: float, degrees: float, rng: np.random.Generator) -> Drawn:
    """Render a crack: straight, curved, branched, or of varying width."""
    centre = SIZE / 2 + rng.uniform(-0.5, 0.5, 2)
    place = np.arange(-1, 1.0001, 0.02)
    half = rng.uniform(100, 150)
    points = np.stack([place * half, 0 * place], axis=1)
    widths = np.full(len(place), width)
    if kind == "curved":
        bend = rng.uniform(0.2, 0.6) * rng.choice([-1, 1])
        waves = rng.uniform(0.5, 1.5)
        points[:, 1] = half * bend * np.sin(place * np.pi * waves) / waves
    if kind == "varying":
        widths = width * (1 + 0.4 * np.sin(place * np.pi * rng.uniform(0.5, 1.5) + rng.uniform(0, 6)))
    lines = [(turned(points, degrees, centre), widths)]
    length = along(points)[-1]
    if kind == "branched":
        begin = rng.uniform(-0.4, 0.4) * half
        angle = np.deg2rad(rng.uniform(35, 90)) * rng.choice([-1, 1])
        reach = np.linspace(0, rng.uniform(0.6, 0.9) * half, 60)
        branch = np.stack([begin + reach * np.cos(angle), reach * np.sin(angle)], axis=1)
        lines.append((turned(branch, degrees, centre), np.full(60, width)))
        length += reach[-1]
    coverage = covered(lines)
    direction = degrees % 180 if kind in {"straight", "varying"} else np.nan
    distance = along(points)
    mean = np.trapezoid(widths, distance) / distance[-1] if kind == "varying" else width
    return Drawn(coverage, length, float(mean), float(widths.max()), direction)


def camera(coverage: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.bool_]:
    """See a crack through a lens and with noise, and cut off at half of the depth."""
    seen = cv2.GaussianBlur(coverage, (0, 0), 1.0)
    seen += cv2.GaussianBlur(rng.normal(0, 0.06, seen.shape).astype(np.float32), (0, 0), 0.6)
    return seen >= 0.5


def error(kind: str, drawn: Drawn, found: list[Crack]) -> dict[str, float]:
    """Compare what has been measured with what is true; a crack that is broken into pieces is all of them."""
    if not found:
        return {"length": -1.0, "width": np.nan, "widest": np.nan, "direction": np.nan, "pieces": 0}
    first = found[0]
    turn = (first.orientation - drawn.direction + 90) % 180 - 90
    return {
        "length": sum(crack.length for crack in found) / drawn.length - 1,
        "width": first.mean_width - drawn.mean_width,
        "widest": first.max_width - drawn.max_width,
        "direction": turn,
        "pieces": len(found),
    }


def direction_class(degrees: float) -> str:
    """Say how a crack lies to the rows and columns."""
    off = abs((degrees + 45) % 90 - 45)
    return (
        "along (< 4°)"
        if off < 4
        else "diagonal (> 41°)"
        if off > 41
        else "nearly along (4 to 15°)"
        if off < 15
        else "between"
    )


def accuracy(number: int) -> pd.DataFrame:
    """Measure cracks of all kinds, widths and directions."""
    rows = []
    for seen in ("mask", "camera"):
        for kind in ("straight", "curved", "branched", "varying"):
            rng = np.random.default_rng(0)
            for index in range(number):
                low, high = WIDTHS[index % 4], WIDTHS[index % 4 + 1]
                width = float(np.exp(rng.uniform(np.log(low), np.log(high))))
                # All multiples of 7.5 degrees, and between them
                degrees = 7.5 * (index // 4 % 24) + (0 if index // 96 % 2 == 0 else rng.uniform(0, 7.5))
                drawn = draw(kind, width, degrees, rng)
                mask = drawn.coverage >= 0.5 if seen == "mask" else camera(drawn.coverage, rng)
                row = error(kind, drawn, find_cracks(mask, least_pixels=5))
                rows.append(
                    {
                        "seen": seen,
                        "kind": kind,
                        "class": f"{low:g} to {high:g} px",
                        "lies": direction_class(degrees),
                        **row,
                    }
                )
    return pd.DataFrame(rows)


def summary(errors: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Give the median and the 90th percentile of the size of errors, and the median of the width with its sign."""
    groups = errors.groupby(by, sort=False)
    size = errors.assign(**{name: errors[name].abs() for name in ("length", "width", "widest", "direction")})
    sizes = size.groupby(by, sort=False)
    return pd.DataFrame(
        {
            "cracks": groups.size(),
            "length %": 100 * sizes["length"].median(),
            "length % (90th)": 100 * sizes["length"].quantile(0.9),
            "width px": sizes["width"].median(),
            "width px (90th)": sizes["width"].quantile(0.9),
            "bias px": groups["width"].median(),
            "widest px": sizes["widest"].median(),
            "widest px (90th)": sizes["widest"].quantile(0.9),
            "degrees": sizes["direction"].median(),
            "in pieces %": 100 * groups["pieces"].agg(lambda pieces: (pieces != 1).mean()),
        }
    )


def print_accuracy(number: int) -> None:
    """Print the tables of errors."""
    errors = accuracy(number)
    pd.set_option("display.width", 200, "display.max_columns", 20, "display.float_format", "{:.2f}".format)
    for by in (["seen"], ["seen", "kind"], ["seen", "class"], ["seen", "lies"]):
        print(summary(errors, by), end="\n\n", flush=True)


Mask = Callable[[int, int], NDArray[np.bool_]]


def some_cracks(height: int, width: int) -> NDArray[np.bool_]:
    """Draw as many cracks as a photograph of a damaged wall has."""
    rng, mask = np.random.default_rng(0), np.zeros((height, width), np.uint8)
    for _ in range(height * width // 300_000):
        steps = rng.normal(0, 0.25, 200).cumsum() * 0.3 + rng.uniform(0, 7)
        path = np.stack([np.cos(steps), np.sin(steps)], axis=1).cumsum(axis=0) * 5 + rng.uniform(0, (width, height))
        cv2.polylines(mask, [np.round(path).astype(np.int32)], False, 1, int(rng.integers(1, 12)))
    return mask.astype(np.bool_)


def labelled(height: int, width: int) -> NDArray[np.bool_]:
    """Put the masks of DeepCrack side by side."""
    masks = sorted((Path(os.environ["CRACK_PIPELINE_DATA"]) / "deepcrack" / "test_lab").glob("*.png"))
    every = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)[:384, :384] > 127 for path in masks]
    every = [mask for mask in every if mask.shape == (384, 384)]
    whole = np.zeros((height, width), np.bool_)
    for index, (y, x) in enumerate(np.ndindex(height // 390, width // 390)):
        whole[y * 390 : y * 390 + 384, x * 390 : x * 390 + 384] = every[index % len(every)]
    return whole


def alligator(height: int, width: int) -> NDArray[np.bool_]:
    """Draw the cells of a net."""
    rng, mask = np.random.default_rng(0), np.zeros((height, width), np.uint8)
    plane = cv2.Subdiv2D((0, 0, width, height))
    for x, y in rng.uniform(1, (width - 2, height - 2), (height * width // 4000, 2)).tolist():
        plane.insert((x, y))
    cells = [np.round(cell).astype(np.int32) for cell in plane.getVoronoiFacetList([])[0]]
    cv2.polylines(mask, cells, True, 1, 5)
    return mask.astype(np.bool_)


def noise(height: int, width: int) -> NDArray[np.bool_]:
    """Give one pixel of a hundred."""
    rng = np.random.default_rng(0)
    return np.concatenate([rng.random((min(500, height - top), width)) < 0.01 for top in range(0, height, 500)])


def spots(height: int, width: int) -> NDArray[np.bool_]:
    """Give half of the picture, in shapes of a few pixels."""
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (height, width), np.uint8)
    return cv2.GaussianBlur(grey, (0, 0), 2.0) >= 128


def snake(height: int, width: int) -> NDArray[np.bool_]:
    """Draw one crack of 10,000 px and more."""
    place = np.linspace(0, 1, 8000)
    path = np.stack([50 + place * (width - 100), height / 2 + (height / 2 - 60) * np.sin(place * 6 * np.pi)], axis=1)
    mask = np.zeros((height, width), np.uint8)
    cv2.polylines(mask, [np.round(path).astype(np.int32)], False, 1, 6)
    return mask.astype(np.bool_)


def stripes(height: int, width: int) -> NDArray[np.bool_]:
    """Draw long parallels in a direction in which the box of each is the whole picture."""
    y, x = np.arange(height)[:, None], np.arange(width)
    return (x + y) % 24 < 5


def everything(height: int, width: int) -> NDArray[np.bool_]:
    """Give all pixels."""
    return np.ones((height, width), np.bool_)


MASKS: dict[str, Mask] = {
    made.__name__: made for made in (some_cracks, labelled, snake, alligator, noise, spots, stripes, everything)
}


def print_speed(panorama: bool) -> None:
    """Print seconds and memory, each mask in a process of its own."""
    sizes = [(3000, 4000), *([(12_500, 16_000)] if panorama else [])]
    print("mask         megapixels   cracks  branches  seconds  of it mask, MB  peak, MB")
    for height, width in sizes:
        for name in MASKS:
            if name != "labelled" or "CRACK_PIPELINE_DATA" in os.environ:
                subprocess.run([sys.executable, __file__, "--one", name, str(height), str(width)], check=False)


def print_one(name: str, height: int, width: int) -> None:
    """Print what one mask takes."""
    find_cracks(np.eye(50, dtype=np.bool_))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    mask = MASKS[name](height, width)
    started = time.process_time()
    found = find_cracks(mask)
    seconds = time.process_time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    branches = sum(len(crack.branches) for crack in found)
    print(
        f"{name:12s} {height * width / 1e6:10.0f} {len(found):8d} {branches:9d} {seconds:8.1f} "
        f"{mask.nbytes / 2**20:15.0f} {peak / 2**10:9.0f}",
        flush=True,
    )


def main() -> None:
    """Print all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cracks", type=int, default=400, help="of each kind")
    parser.add_argument("--accuracy-only", action="store_true")
    parser.add_argument("--speed-only", action="store_true")
    parser.add_argument("--panorama", action="store_true", help="200 megapixels, too")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        print_one(chosen.one[0], int(chosen.one[1]), int(chosen.one[2]))
        return
    if not chosen.speed_only:
        print_accuracy(chosen.cracks)
    if not chosen.accuracy_only:
        print_speed(chosen.panorama)


if __name__ == "__main__":
    main()
