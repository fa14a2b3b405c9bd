"""A photograph of 100 megapixels: peak memory, seconds per megapixel, and the ratio to the bare network.

    python benchmarks/large_photograph.py [--megapixels 100] [--data <photographs>] [--segmenter <file>]

The photograph is mapped from a file and made of mirrored photographs, or of rendered ones without --data. The bare
network sees the same pixels in touching tiles of the same size, ready as floats on the device; its rows of tiles and
those of this project take turns, so that a noisy machine is noisy for both (on CUDA whole photographs do). Memory is
measured in a process that does nothing else. Last, a photograph that fits goes through whole and in tiles of
at most three quarters of its side, and the two results are compared. Without --segmenter the network has random
weights, which is fair for time and memory; give a trained one for the differences.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from crack_pipeline.datasets import SafetensorsDataset
from crack_pipeline.engines.compute import Compute, Plan, resolve
from crack_pipeline.imaging.scenes import render_scene
from crack_pipeline.models.segmenters import create_segmenter
from crack_pipeline.training.batches import as_tensor, normalise
from crack_pipeline.training.segmenting import Tiles, bands, probabilities

NETWORK = {"name": "unet", "levels": 5, "base_channels": 24, "patch": 2, "upsampling": "nearest"}
BORDER = 64
RENDERED = 4


def read(folder: Path | None) -> list[NDArray[np.uint8]]:
    """Read some photographs, or render some, all of the size of the first."""
    if folder is None:
        scenes = (render_scene((384, 544), np.random.default_rng([0, i]), 0.5, True) for i in range(RENDERED))
        return [np.asarray(scene.image, np.uint8) for scene in scenes]
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))[:16]
    if not paths:
        raise SystemExit(f"there is no JPEG or PNG file in {folder}")
    size = Image.open(paths[0]).size
    return [np.asarray(Image.open(path).convert("RGB").resize(size)) for path in paths]


def make(pictures: list[NDArray[np.uint8]], side: int, path: Path) -> None:
    """Cover a square with pictures, each mirrored so that it joins its neighbours, row by row into a file."""
    height, width = pictures[0].shape[:2]
    canvas = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(side, side, 3))
    for row in range(-(-side // height)):
        picture = pictures[row % len(pictures)]
        turned = picture[::-1] if row % 2 else picture
        pair = np.concatenate([turned, turned[:, ::-1]], axis=1)
        strip = np.tile(pair, (1, -(-side // (2 * width)), 1))[:, :side]
        canvas[row * height : (row + 1) * height] = strip[: side - row * height]
    canvas.flush()


def network_of(options: argparse.Namespace) -> nn.Module:
    """Read the segmenter, or make one with random weights."""
    if options.segmenter is None:
        torch.manual_seed(0)
        return create_segmenter(NETWORK)
    weights = SafetensorsDataset(filepath=str(options.segmenter)).load()
    network = create_segmenter(weights.facts["network"])
    network.load_state_dict(weights.tensors)
    return network


def tiles_of(options: argparse.Namespace) -> Tiles:
    """Take what is given and the defaults for the rest."""
    given = {name: getattr(options, name) for name in ("size", "halo", "blend")}
    return Tiles(**{name: value for name, value in given.items() if value is not None})


def peak() -> float:
    """Highest resident memory of this process so far, MiB."""
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage says includes the process that started this one
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def measure_memory(photograph: NDArray[np.uint8], plan: Plan, options: argparse.Namespace) -> dict[str, Any]:
    """Segment the photograph and nothing else."""
    network = network_of(options).to(plan.device)
    before = peak()
    for _ in bands(network, photograph, plan, tiles_of(options)):
        pass
    on_device = torch.cuda.max_memory_allocated() / 2**20 if plan.accelerator == "cuda" else 0.0
    return {"peak": peak() - before, "imports": before, "device": on_device}


class Noted(nn.Module):
    """A network that notes what it is given."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.stride = network, network.stride
        self.reach, self.patch = network.reach, network.patch
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, images: Tensor) -> Tensor:
        """Note the shape and pass the images on."""
        self.shapes.append(tuple(images.shape))
        return self.network(images)


def measure_time(photograph: NDArray[np.uint8], plan: Plan, options: argparse.Namespace) -> dict[str, Any]:
    """Let this project and the bare network take turns."""
    noted = Noted(network_of(options)).to(plan.device).to(memory_format=torch.channels_last).eval()
    on_cuda = plan.accelerator == "cuda"
    pixels = photograph.shape[0] * photograph.shape[1]
    seconds = {"ours": 0.0, "bare": 0.0}
    for repeat in range(3 if on_cuda else 1):
        noted.shapes.clear()
        ours = (len(band) for _, band in bands(noted, photograph, plan, tiles_of(options)))
        bare: Iterator[tuple[int, float]] | None = None
        done = {"ours": 0, "bare": 0}
        while min(done.values()) < len(photograph):
            name = "ours" if done["ours"] <= done["bare"] else "bare"
            if name == "ours":
                started = time.perf_counter()
                rows = sum(ours) if on_cuda else next(ours)
                wait(plan)
                spent = time.perf_counter() - started
            else:
                bare = bare or bare_network(noted.network, photograph, plan, noted.shapes[0])
                rows, spent = next(bare)
            done[name] += rows
            if repeat or not on_cuda:  # the first time on CUDA warms up
                seconds[name] += spent
    megapixels = pixels / 1e6 * (2 if on_cuda else 1)
    return {
        **{name: spent / megapixels for name, spent in seconds.items()},
        "tile": noted.shapes[0],
        "computed": sum(n * height * width for n, _, height, width in noted.shapes) / pixels,
    }


def bare_network(
    network: nn.Module, photograph: NDArray[np.uint8], plan: Plan, shape: tuple[int, ...]
) -> Iterator[tuple[int, float]]:
    """Yield rows and seconds of each row of touching tiles; (n, C, H, W) of them at a time."""
    at_once, _, height, width = shape
    for top in range(0, len(photograph), height):
        corners = range(0, photograph.shape[1], width)
        cut = [np.array(photograph[top : top + height, left : left + width]) for left in corners]
        whole, rest = [tile for tile in cut if tile.shape[1] == width], [t for t in cut if t.shape[1] != width]
        groups = [whole[first : first + at_once] for first in range(0, len(whole), at_once)] + [[t] for t in rest]
        seconds = 0.0
        for group in groups:
            with torch.inference_mode(), plan.autocast():
                images = normalise(as_tensor(np.stack(group)), plan.device)
                wait(plan)
                started = time.perf_counter()
                network(images)
                wait(plan)
                seconds += time.perf_counter() - started
        yield len(cut[0]), seconds


def wait(plan: Plan) -> None:
    """Wait for the device."""
    if plan.accelerator == "cuda":
        torch.cuda.synchronize()
    elif plan.accelerator == "mps":
        torch.mps.synchronize()


def measure_difference(photograph: NDArray[np.uint8], plan: Plan, options: argparse.Namespace) -> dict[str, Any]:
    """Compare tiles with the whole, on a part of the photograph that fits into one tile."""
    network, tiles = network_of(options), tiles_of(options)
    part = photograph[: options.whole, : options.whole]
    inside = (slice(BORDER, -BORDER),) * 2
    found: dict[str, Any] = {"side": len(part)}
    for precision in dict.fromkeys(("32-true", plan.precision)):
        exactly = plan.model_copy(update={"precision": precision})
        whole = probabilities(network, part, exactly, tiles.model_copy(update={"size": max(part.shape)}))
        # Four tiles at least, also where the photograph would fit into one.
        cut = tiles.model_copy(update={"size": min(size for size in (tiles.size, max(part.shape) * 3 // 4) if size)})
        difference = np.abs(probabilities(network, part, exactly, cut) - whole)
        found[precision] = {
            "inside": float(difference[inside].max()),
            "anywhere": float(difference.max()),
            "above": float((difference[inside] > 1e-3).mean()),
            "crack": float((whole >= 0.5).mean()),
            "deviation": float(whole.std()),
        }
    return found


MEASURES = {"memory": measure_memory, "time": measure_time, "difference": measure_difference}


def main() -> None:
    """Measure each in a process of its own, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = os.environ.get("CRACK_PIPELINE_DATA")
    parser.add_argument("--megapixels", type=float, default=100.0)
    parser.add_argument("--data", type=Path, default=Path(root, "deepcrack", "test_img") if root else None)
    parser.add_argument("--segmenter", type=Path, help="a trained one, .safetensors")
    parser.add_argument("--size", type=int, help="of a tile, px")
    parser.add_argument("--halo", type=int, help="px")
    parser.add_argument("--blend", type=int, help="px")
    parser.add_argument("--whole", type=int, default=2048, help="side of the photograph that goes through whole, px")
    parser.add_argument("--precision", default="auto", choices=["auto", "32-true", "bf16-mixed", "16-mixed"])
    parser.add_argument("--only", nargs="+", choices=list(MEASURES), default=list(MEASURES))
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--photograph", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    plan = resolve(Compute(precision=options.precision))
    if options.measure:
        photograph = np.load(options.photograph, mmap_mode="r")
        print("RESULT " + json.dumps(MEASURES[options.measure](photograph, plan, options)))
        return
    side = round((options.megapixels * 1e6) ** 0.5)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "photograph.npy")
        make(read(options.data), side, path)
        for name in options.only:
            command = [sys.executable, __file__, *sys.argv[1:], "--measure", name, "--photograph", str(path)]
            # What is fast may differ from one moment to the next, so all get the precision chosen here.
            command += ["--precision", plan.precision]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
            line = next((line for line in done.stdout.splitlines() if line.startswith("RESULT ")), None)
            if line is None:
                sys.exit(f"measuring {name} failed:\n{done.stdout[-3000:]}")
            found[name] = json.loads(line.removeprefix("RESULT "))
    report(found, side, plan, options)


def report(found: dict[str, Any], side: int, plan: Plan, options: argparse.Namespace) -> None:
    """Print what was found."""
    network = options.segmenter or f"{NETWORK}, random weights"
    print(f"{side:,} × {side:,} px ({side**2 / 1e6:.1f} megapixels), {network}")
    print(f"plan: {plan.device_name}, {plan.precision}, {torch.get_num_threads()} threads; {tiles_of(options)!r}")
    if memory := found.get("memory"):
        print(
            f"memory: at most {memory['peak']:,.0f} MiB beyond the {memory['imports']:,.0f} MiB once everything is "
            f"imported; what was mapped of the {3 * side**2 / 2**20:,.0f} MiB of the photograph is in it"
            + (f"; on the device {memory['device']:,.0f} MiB" if memory["device"] else "")
        )
    if spent := found.get("time"):
        number, _, height, width = spent["tile"]
        print(
            f"time: {spent['ours']:.4f} s per megapixel, the bare network {spent['bare']:.4f} on {number} tiles of "
            f"{width} × {height} px at once: ratio {spent['ours'] / spent['bare']:.3f}; "
            f"the network saw {spent['computed']:.3f} times the pixels"
        )
    if difference := found.get("difference"):
        whole = difference.pop("side")
        print(f"in tiles against whole, {whole:,} × {whole:,} px, difference in probability:")
        for precision, entry in difference.items():
            print(
                f"  {precision}: at most {entry['inside']:.2g} beyond {BORDER} px from the border "
                f"({entry['above']:.2%} of the pixels above 0.001), {entry['anywhere']:.2g} anywhere; "
                f"{entry['crack']:.1%} are called crack, the deviation of the probability is {entry['deviation']:.3f}"
            )


if __name__ == "__main__":
    main()
