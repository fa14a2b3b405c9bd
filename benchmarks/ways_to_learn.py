"""Every way to learn where cracks are, trained in turn with the same share of its steps, in one table.

    python benchmarks/ways_to_learn.py --data <data>/deepcrack [--share 0.25] [--only maps,self_training]

Full masks (``segmentation``), simulated cracks alone (``label_free``) and every way of ``weak_segmentation``, the
published one included, are trained on the training photographs of DeepCrack by the commands that a user types, and
measured on its test photographs. What is trained lies in the project's ``data``, as always, and the table is that of
the last run, ``data/08_reporting/weak_segmentation/comparison.csv``. With ``--share 1`` every training has its default
length, which is hours on two cores.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

ROOT = Path(__file__).parents[1]
LENGTHS = {
    "segmentation": ("segmentation.training",),
    "label_free": ("label_free.training",),
    "published": ("weak_segmentation.labels",),
    "maps": ("weak_segmentation.labels", "weak_segmentation.training"),
    "self_training": ("weak_segmentation.start", "weak_segmentation.training"),
}
"""What is trained, and the blocks of parameters that say how long."""


def command(name: str, data: Path, share: float) -> list[str]:
    """Give what a user types for one training."""
    weak = name not in ("segmentation", "label_free")
    params = [f"raw_root={data}", f"dataset={'deepcrack_tiles' if weak else 'deepcrack'}"]
    params += [f"{block}.steps={steps(block, share)}" for block in LENGTHS[name]]
    if weak:
        params.append(f"weak_segmentation.way={name}")
    pipeline = "weak_segmentation" if weak else name
    environment = ["--env", "paper"] if name == "published" else []
    kedro = Path(sys.executable).with_name("kedro")
    return [str(kedro), "run", *environment, "--pipeline", pipeline, "--params", ",".join(params)]


def steps(block: str, share: float) -> int:
    """Shorten a training to whole epochs, one at least."""
    pipeline, _, part = block.partition(".")
    settings: Any = yaml.safe_load((ROOT / f"conf/base/parameters/{pipeline}.yml").read_text())[pipeline][part]
    epoch = int(settings["steps_per_epoch"])
    return max(1, round(share * settings["steps"] / epoch)) * epoch


def main() -> None:
    """Train each in turn, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of DeepCrack")
    parser.add_argument("--share", type=float, default=0.25, help="of the default steps of each training")
    parser.add_argument("--only", default=",".join(LENGTHS), help="which, in this order")
    chosen = parser.parse_args()
    for name in chosen.only.split(","):
        if name not in LENGTHS:
            parser.error(f"--only takes {', '.join(LENGTHS)}, not {name}")
        typed = command(name, chosen.data.resolve(), chosen.share)
        print(f"\n{name}: {' '.join(typed[1:])}", flush=True)
        if subprocess.run(typed, cwd=ROOT).returncode:
            sys.exit(f"{name} ended with an error; what was trained before it is kept")
    tables = sorted((ROOT / "data/08_reporting/weak_segmentation/comparison.csv").glob("*/comparison.csv"))
    if tables:
        print(pd.read_csv(tables[-1]).to_string(index=False, float_format=lambda value: f"{value:.3f}"))


if __name__ == "__main__":
    main()
