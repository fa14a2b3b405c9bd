"""Filled cracks: the median beside the published nested loops in one run, and a table of all methods.

    python benchmarks/inpainting.py [--data <metu/Negative>] [--squares 60] [--window 31] [--margin 2]

Cracks are simulated on photographs of sound concrete, whose surface below them is therefore known: those of METU
(``Negative``), or rendered ones without --data. The median and the loops fill the same mask of a wall that is put
together of some of them: the loops once, the median ten times, of which the middle one counts. Seconds are those of
the processor, on one thread. Both take the median of
the sound pixels in the same window. PSNR and SSIM are those inside of what was filled; the grain is the contrast of the
fine structure relative to that of the true surface. ``texture, smooth part`` is ``texture`` with ``grain: 0``.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from crack_pipeline.evaluation.filling import fill_quality
from crack_pipeline.imaging.decoding import decode
from crack_pipeline.imaging.inpainting import METHODS, Inpainting, inpaint, widen
from crack_pipeline.imaging.scenes import render_scene
from crack_pipeline.imaging.simulation import Simulation
from crack_pipeline.pipelines.inpainting.judging import SimulatedCrack, simulate_cracks

SIMULATION = Simulation(cracked=1.0, width=(2.0, 16.0), nuisances=0.0)
WALL, REPEATS = (2, 3), 10


def published(photograph: NDArray[np.uint8], crack: NDArray[np.bool_], window: int) -> NDArray[np.uint8]:
    """Replace every crack pixel by the median of the sound pixels around it, as published: loop by loop."""
    filled = photograph.copy()
    height, width = crack.shape
    reach = window // 2
    for y in range(height):
        for x in range(width):
            if crack[y, x]:
                for colour in range(3):
                    sound = []
                    for row in range(max(0, y - reach), min(height, y + reach + 1)):
                        for column in range(max(0, x - reach), min(width, x + reach + 1)):
                            if not crack[row, column]:
                                sound.append(photograph[row, column, colour])
                    if sound:
                        filled[y, x, colour] = np.median(sound)
    return filled


def read(folder: Path | None, number: int) -> list[NDArray[np.uint8]]:
    """Read photographs of sound concrete, or render some."""
    if folder is None:
        return [render_scene((227, 227), np.random.default_rng([0, n]), 0.5, False).image for n in range(number)]
    paths = sorted(folder.glob("*.jpg"))
    if not paths:
        raise SystemExit(f"there are no photographs in {folder}")
    return [decode(path.read_bytes()) for path in paths[:: max(1, len(paths) // number)][:number]]


def compare_median(cracks: list[SimulatedCrack], window: int, margin: int) -> None:
    """Print how much faster the median is than the loops, and how good both are."""
    rows, columns = WALL
    grid = [cracks[row * columns : (row + 1) * columns] for row in range(rows)]
    sound, cracked, mask = (
        np.concatenate([np.concatenate([getattr(one, name) for one in line], axis=1) for line in grid])
        for name in ("sound", "cracked", "crack")
    )
    unknown = widen(mask, margin)
    how = Inpainting(method="median", window=window, margin=0)
    began = time.process_time()
    looped = published(cracked, unknown, window)
    loops = time.process_time() - began
    seconds = []
    for _ in range(REPEATS):
        began = time.process_time()
        filled = inpaint(cracked, unknown, how)
        seconds.append(time.process_time() - began)
    ours = float(np.median(seconds))
    print(f"median of {window} × {window} px on {unknown.sum():,} px of {mask.shape[1]} × {mask.shape[0]} px:")
    for name, took, picture in (("nested loops", loops, looped), ("median", ours, filled)):
        print(f"  {name:<13} {took:9.4f} s  PSNR {fill_quality(sound, picture, unknown).psnr:.3f} dB")
    print(f"  {loops / ours:.0f} times faster (best of {REPEATS}: {loops / min(seconds):.0f})")


def main() -> None:
    """Measure and print."""
    root = os.environ.get("CRACK_PIPELINE_DATA")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(root, "metu", "Negative") if root else None)
    parser.add_argument("--squares", type=int, default=60, help="photographs that get a crack, at least 6")
    parser.add_argument("--window", type=int, default=31, help="of the median, px")
    parser.add_argument("--margin", type=int, default=2, help="px by which cracks are widened")
    options = parser.parse_args()
    cv2.setNumThreads(1)

    cracks = list(simulate_cracks(read(options.data, options.squares), SIMULATION, 0))
    compare_median(cracks, options.window, options.margin)

    ways = {method: Inpainting(method=method, window=options.window, margin=options.margin) for method in METHODS}
    ways["texture, smooth part"] = ways["texture"].model_copy(update={"grain": 0.0})
    pixels = sum(one.crack.size for one in cracks)
    print(f"\n{len(cracks)} simulated cracks, seconds of one thread:")
    print(f"  {'method':<22}{'PSNR, dB':>9}{'SSIM':>8}{'grain':>8}{'s/megapixel':>13}")
    for name, how in ways.items():
        found, seconds = [], 0.0
        for one in cracks:
            began = time.process_time()
            filled = inpaint(one.cracked, one.crack, how)
            seconds += time.process_time() - began
            found.append(fill_quality(one.sound, filled, widen(one.crack, options.margin)))
        psnr, ssim, grain = np.array(found).T
        print(
            f"  {name:<22}{psnr.mean():9.2f}{ssim.mean():8.3f}{np.nanmedian(grain):8.2f}{1e6 * seconds / pixels:13.2f}"
        )


if __name__ == "__main__":
    main()
