"""Twenty photographs of 12 megapixels through ``kedro run --pipeline inspection``, killed in the middle and run again.

    python benchmarks/inspection.py [--model data/06_models/…/segmenter.safetensors] [--data <folder>] [--number 20]

Prints seconds per photograph by stage, peak memory of the whole process, and what the second run found finished. The
work is done in a copy of the project in a temporary folder. Without --data photographs of concrete are rendered, half
of them cracked; without --model the newest segmenter of the project is taken.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from crack_pipeline.imaging.camera import encode_jpeg
from crack_pipeline.imaging.scenes import render_scene

ROOT = Path(__file__).parents[1]
SIZE = (3000, 4000)
RECORDS = "data/07_model_output/inspection/photographs"
SCENES = 4


def render(folder: Path, number: int) -> None:
    """Write photographs of concrete: a few scenes, mirrored and with other noise, so that no two are the same."""
    folder.mkdir()
    scenes = []
    for seed in range(min(number, SCENES)):
        scene = render_scene(SIZE, np.random.default_rng([7, seed]), 0.5, seed % 2 == 0).image
        scenes.append(scene if scene.dtype == np.uint8 else (scene * 255).astype(np.uint8))
    for n in range(number):
        scene = scenes[n % len(scenes)][:: 1 - 2 * (n // 4 % 2), :: 1 - 2 * (n // 8 % 2)]
        noise = np.random.default_rng(n).integers(-2, 3, scene.shape, np.int8)
        (folder / f"{n:03}.jpg").write_bytes(
            encode_jpeg(np.clip(scene + noise.astype(np.int16), 0, 255).astype(np.uint8))
        )
        print(f"rendered {n + 1} of {number}", end="\r", flush=True)
    print()


def copy_project(folder: Path, model: Path) -> None:
    """Copy what a run needs, and the segmenter."""
    for name in ("conf", "src", "pyproject.toml", ".telemetry"):
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
    for layer in (ROOT / "data").iterdir():
        (folder / "data" / layer.name).mkdir(parents=True)
    place = folder / "data/06_models/segmentation/segmenter.safetensors/2000-01-01T00.00.00.000Z"
    place.mkdir(parents=True)
    shutil.copy(model, place / "segmenter.safetensors")


def start(folder: Path, photographs: Path, extra: str) -> subprocess.Popen[bytes]:
    """Type the command."""
    kedro = Path(sys.executable).with_name("kedro")
    params = f"raw_root={photographs}{extra}"
    environment = os.environ | {"PYTHONPATH": str(folder / "src")}
    return subprocess.Popen([kedro, "run", "--pipeline", "inspection", "--params", params], cwd=folder, env=environment)


def finished(folder: Path) -> int:
    """Count the photographs that are done."""
    return len(list((folder / RECORDS).rglob("record.json")))


def main() -> None:
    """Render, inspect, kill, inspect again, tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="segmenter.safetensors")
    parser.add_argument("--data", type=Path, help="folder of photographs, instead of rendered ones")
    parser.add_argument("--number", type=int, default=20, help="of rendered photographs")
    parser.add_argument("--params", default="", help="more parameters, as kedro takes them")
    chosen = parser.parse_args()
    models = sorted((ROOT / "data/06_models").glob("*/segmenter.safetensors/*/segmenter.safetensors"))
    model = chosen.model or (models[-1] if models else None)
    if model is None or not model.is_file():
        parser.error("train a segmenter first, or name one with --model")
    with tempfile.TemporaryDirectory() as place:
        folder, photographs = Path(place) / "project", chosen.data or Path(place) / "photographs"
        folder.mkdir()
        copy_project(folder, model)
        if chosen.data is None:
            render(photographs, chosen.number)
        total = sum(path.is_file() for path in photographs.rglob("*"))
        extra = f",{chosen.params}" if chosen.params else ""
        first = start(folder, photographs.resolve(), extra)
        while first.poll() is None and finished(folder) < total / 2:
            time.sleep(0.2)
        first.send_signal(signal.SIGKILL)
        first.wait()
        before = {path: path.stat().st_mtime_ns for path in (folder / RECORDS).rglob("record.json")}
        print(f"\nkilled with {len(before)} of {total} photographs finished\n", flush=True)
        began = time.monotonic()
        if start(folder, photographs.resolve(), extra).wait():
            sys.exit("the second run ended with an error")
        seconds = time.monotonic() - began
        kept = sum(path.stat().st_mtime_ns == at for path, at in before.items())
        facts = [json.loads(path.read_text())["facts"] for path in (folder / RECORDS).rglob("record.json")]
        table = pd.DataFrame([one["seconds"] for one in facts])
        pixels = sum(one["width"] * one["height"] for one in facts) / 1e6
        print(f"\n{len(facts)} photographs, {pixels / max(len(facts), 1):.1f} megapixels each, seconds by stage:")
        print(table.assign(all=table.sum(axis=1)).agg(["mean", "max"]).round(2).to_string())
        print(f"the second run kept {kept} of {len(before)} and took {seconds:.0f} s")
        report = next((folder / "data/08_reporting/inspection/report.html").glob("*/report.html"))
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        print(f"report {report.stat().st_size / 1e6:.1f} MB; peak memory {peak:.2f} GiB")


if __name__ == "__main__":
    main()
