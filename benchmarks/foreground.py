"""Which pixels are concrete: each method without a checkpoint beside "the whole photograph is".

    python benchmarks/foreground.py --data <data>/bridge [--cracks <data>] [--overlays <folder>]

Intersection over union with class 6 (substructure) of the annotated bridge photographs, class 3 (deck) left out, over
all pixels and as the mean over photographs; recall is the share of concrete that is kept. Numbers were chosen
on every other photograph in sorted order (`chosen`), and none on the rest (`held out`). Of the rule,
`annotated parts` shows it each connected part of each class as a perfect mask, SLIC and Felzenszwalb regions of colour
as imperfect ones. With --cracks, it is counted how many crack pixels of photographs that are (nearly) all concrete stay
structure. No real photograph is written anywhere but to --overlays.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.segmentation import felzenszwalb, slic

from crack_pipeline.imaging.concrete_rule import ConcreteRule, structure_from_masks
from crack_pipeline.imaging.foreground import Foreground, find_foreground
from crack_pipeline.imaging.segmented import draw_overlay, shrink_to

CONCRETE, IGNORED = 6, 3
REGIONS_AT = 512
CRACKS = {
    "DeepCrack, train": ("deepcrack/train_img", "deepcrack/train_lab"),
    "DeepCrack, test": ("deepcrack/test_img", "deepcrack/test_lab"),
    "UAV75": ("uav75/train_img", "uav75/train_lab"),
}
METU_EVERY = 20

Photograph = NDArray[np.uint8]
Method = Callable[[Photograph, NDArray[np.uint8]], NDArray[np.bool_]]


def classical(**options: Any) -> Method:
    """Make the method of `find_foreground`."""
    how = Foreground.model_validate(options)
    return lambda photograph, _: find_foreground(photograph, how)


def by_rule(regions: Callable[[Photograph, NDArray[np.uint8]], NDArray[np.int64]], **options: Any) -> Method:
    """Make the method of the rule, on masks that are the parts of a map of labels."""
    rule = ConcreteRule.model_validate(options)

    def find(photograph: Photograph, classes: NDArray[np.uint8]) -> NDArray[np.bool_]:
        labels = regions(photograph, classes)
        masks = [{"segmentation": labels == label} for label in np.unique(labels)]
        return structure_from_masks(photograph, masks, rule)

    return find


def annotated_parts(_: Photograph, classes: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Label the connected parts of each class, as a perfect network would."""
    small = cv2.resize(classes, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_NEAREST)
    labels, first = np.zeros(small.shape, np.int64), 0
    for value in np.unique(small):
        number, parts = cv2.connectedComponents((small == value).astype(np.uint8), connectivity=4)
        labels[parts > 0] = first + parts[parts > 0]
        first += number
    return labels


def superpixels(photograph: Photograph, _: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Label 60 regions of colour (SLIC)."""
    return np.asarray(slic(shrink_to(photograph, REGIONS_AT), n_segments=60, compactness=10, start_label=0), np.int64)


def graph_regions(photograph: Photograph, _: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Label regions that graphs join by colour (Felzenszwalb)."""
    small = shrink_to(photograph, REGIONS_AT)
    return np.asarray(felzenszwalb(small, scale=300, sigma=1.0, min_size=small[..., 0].size // 100), np.int64)


METHODS: dict[str, Method] = {
    "the whole photograph (none)": classical(method="none"),
    "classical": classical(),
    "classical, `least_evidence` -1": classical(rule={"least_evidence": -1.0}),
    "classical without position": classical(rule={"below": 0}),
    "classical without graph cuts": classical(rounds=0),
    "classical, no photograph kept whole": classical(rule={"other_share": 0}),
    "rule, annotated parts": by_rule(annotated_parts),
    "rule, annotated parts, without position": by_rule(annotated_parts, below=0),
    "rule, SLIC regions": by_rule(superpixels),
    "rule, Felzenszwalb regions": by_rule(graph_regions),
}


def bridges(folder: Path) -> Iterator[tuple[str, Photograph, NDArray[np.uint8]]]:
    """Read photographs and their classes, in sorted order."""
    for path in sorted((folder / "images").iterdir()):
        classes = np.asarray(Image.open(folder / "masks" / f"{path.stem}.png"))
        yield path.stem, np.asarray(Image.open(path).convert("RGB")), classes


def compare(folder: Path, overlays: Path | None, every: int) -> None:
    """Print a row per method."""
    counts: dict[str, list[tuple[float, float, float]]] = {name: [] for name in METHODS}
    seconds, megapixels = dict.fromkeys(METHODS, 0.0), 0.0
    for number, (name, photograph, classes) in enumerate(bridges(folder)):
        if number % every:
            continue
        megapixels += classes.size / 1e6
        known, true = classes != IGNORED, classes == CONCRETE
        for method, find in METHODS.items():
            started = time.perf_counter()
            found = find(photograph, classes)
            seconds[method] += time.perf_counter() - started
            counts[method].append(((found & true).sum(), ((found & known) | true).sum(), true.sum()))
            if overlays and method == "classical":
                overlays.mkdir(parents=True, exist_ok=True)
                picture = draw_overlay(photograph, (~found).astype(np.uint8), longest=800, colour=(0, 0, 160))
                Image.fromarray(picture).save(overlays / f"{name}.png")
    print("| method | set | IoU | IoU, mean of photographs | recall | s/megapixel |\n|---|---|---|---|---|---|")
    for method, rows in counts.items():
        table = np.array(rows, float)
        for part, some in {"chosen": table[::2], "held out": table[1::2], "all": table}.items():
            same, union, true = some.sum(axis=0)
            mean = np.mean(some[:, 0] / some[:, 1])
            speed = f"{seconds[method] / megapixels:.3f}" if part == "all" else ""
            print(f"| {method} | {part} | {same / union:.3f} | {mean:.3f} | {same / true:.3f} | {speed} |")


def count_cracks(folder: Path) -> None:
    """Print how many crack pixels stay structure."""
    how = Foreground()
    print("\n| photographs of nothing but concrete | number | crack pixels kept | photographs cut | area kept |")
    print("|---|---|---|---|---|")
    for name, (images, labels) in CRACKS.items():
        masks = {path.stem: path for path in (folder / labels).iterdir()}
        kept = cracks = cut = 0
        area = []
        for path in sorted((folder / images).iterdir()):
            crack = np.asarray(Image.open(masks[path.stem]).convert("L")) == 255
            found = find_foreground(np.asarray(Image.open(path).convert("RGB")), how)
            kept, cracks, cut = kept + (found & crack).sum(), cracks + crack.sum(), cut + (not found.all())
            area.append(found.mean())
        print(f"| {name} | {len(area)} | {kept / cracks:.4f} | {cut} | {np.mean(area):.4f} |")
    paths = sorted((folder / "metu").glob("*/*"))[::METU_EVERY]
    area = [find_foreground(np.asarray(Image.open(path).convert("RGB")), how).mean() for path in paths]
    print(f"| METU, every {METU_EVERY}th | {len(area)} | | {sum(share < 1 for share in area)} | {np.mean(area):.4f} |")


def time_sizes() -> None:
    """Print what large photographs cost."""
    print("\n| size, megapixels | s |\n|---|---|")
    rng = np.random.default_rng(0)
    for width, height in ((4000, 3000), (12000, 8000), (20000, 10000)):
        row = rng.integers(90, 190, (1, width, 1), np.uint8)
        photograph = np.repeat(np.repeat(row, height, axis=0), 3, axis=2)
        photograph[: height // 2] //= np.array([3, 1, 3], np.uint8)
        started = time.perf_counter()
        find_foreground(photograph, Foreground())
        print(f"| {width * height / 1e6:.0f} | {time.perf_counter() - started:.2f} |")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = os.environ.get("CRACK_PIPELINE_DATA")
    parser.add_argument("--data", type=Path, default=Path(root, "bridge") if root else None, help="images and masks")
    parser.add_argument("--cracks", type=Path, default=Path(root) if root else None, help="deepcrack, uav75, metu")
    parser.add_argument("--overlays", type=Path, help="folder for pictures of the method classical")
    parser.add_argument("--every", type=int, default=1, help="only every so many-th bridge photograph")
    options = parser.parse_args()
    if options.data is None:
        parser.error("--data or CRACK_PIPELINE_DATA must name the photographs")
    compare(options.data, options.overlays, options.every)
    if options.cracks:
        count_cracks(options.cracks)
    time_sizes()


if __name__ == "__main__":
    main()
