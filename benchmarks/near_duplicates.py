"""Near-duplicate groups on real photographs: recall on planted copies, false joins, groups, time, growth.

Run with ``python benchmarks/near_duplicates.py --data <metu folder>`` (default:
``$CRACK_PIPELINE_DATA/metu``; sub-folders ``Negative`` and ``Positive``). The thresholds were chosen on
copies of one half of the photographs, taken by a hash of their names; here copies are planted of the other
half, unless ``--half development`` is given.
"""

import argparse
import hashlib
import math
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from crack_pipeline.imaging import duplicate_candidates, duplicate_verification
from crack_pipeline.imaging.near_duplicates import THUMBNAIL_SIZE, find_groups, fingerprint

Image = NDArray[np.uint8]
Change = Callable[[Image, np.random.Generator], Image]


def crop(image: Image, part: float, y: float, x: float) -> Image:
    """Window with ``part`` of each side; ``y`` and ``x`` in [0, 1] say where it lies."""
    height, width = (round(side * part) for side in image.shape[:2])
    top, left = round(y * (image.shape[0] - height)), round(x * (image.shape[1] - width))
    return image[top : top + height, left : left + width]


def corner(image: Image, rng: np.random.Generator) -> Image:
    """Window of 95 % of the side, pushed into a corner: cropped and shifted by half of the rest."""
    return crop(image, 0.95, int(rng.integers(2)), int(rng.integers(2)))


def by_area(image: Image, rng: np.random.Generator) -> Image:
    """Window of 90 to 95 % of the area anywhere, brought back to the first size."""
    window = crop(image, math.sqrt(rng.uniform(0.90, 0.95)), rng.random(), rng.random())
    return cv2.resize(window, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)


def jpeg(image: Image, _: np.random.Generator | None = None) -> Image:
    """Compress with JPEG quality 40."""
    encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 40])[1]
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR))


def brighter(image: Image, factor: float) -> Image:
    """Multiply all values, cut off at 255."""
    return np.clip(np.rint(image * np.float32(factor)), 0, 255).astype(np.uint8)


def either(image: Image, rng: np.random.Generator) -> Image:
    """Make 10 % darker or brighter."""
    return brighter(image, rng.choice([0.9, 1.1]))


def turned(image: Image, rng: np.random.Generator) -> Image:
    """Turn by one to three quarters."""
    return np.rot90(image, int(rng.integers(1, 4)))


CHANGES: dict[str, Change] = {
    "horizontal flip": lambda image, _: image[:, ::-1],
    "vertical flip": lambda image, _: image[::-1],
    "quarter turn": lambda image, _: np.rot90(image),
    "half turn": lambda image, _: np.rot90(image, 2),
    "three quarter turns": lambda image, _: np.rot90(image, 3),
    "95 % window in a corner": corner,
    "crop of 90-95 % area, resized": by_area,
    "JPEG quality 40": jpeg,
    "brightness -10 %": lambda image, _: brighter(image, 0.9),
    "brightness +10 %": lambda image, _: brighter(image, 1.1),
}
PAIRED: dict[str, Change] = {
    "turn and corner window": lambda image, rng: corner(turned(image, rng), rng),
    "turn and JPEG": lambda image, rng: jpeg(turned(image, rng)),
    "turn and brightness": lambda image, rng: either(turned(image, rng), rng),
    "corner window and JPEG": lambda image, rng: jpeg(corner(image, rng)),
    "corner window and brightness": lambda image, rng: either(corner(image, rng), rng),
    "brightness and JPEG": lambda image, rng: jpeg(either(image, rng)),
}
BEYOND: dict[str, Change] = {
    "90 % window in a corner": lambda image, rng: crop(image, 0.90, int(rng.integers(2)), int(rng.integers(2))),
    "85 % window in a corner": lambda image, rng: crop(image, 0.85, int(rng.integers(2)), int(rng.integers(2))),
}


def shifted(image: Image, rng: np.random.Generator, shift: float) -> tuple[Image, Image]:
    """Two windows of one size whose places differ by ``shift`` of their side, along one axis or both."""
    part = 1 / (1 + shift)
    y, x = [(0, 1), (1, 0), (1, 1)][rng.integers(3)]
    return crop(image, part, 0, 0), crop(image, part, y, x)


def read(path: Path) -> Image:
    """Decode in colour."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise SystemExit(f"cannot read {path}")
    return image


def thumbnail(image: Image) -> Image:
    """Squash to the square that fingerprints are made of."""
    grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_BGR2GRAY)
    return cv2.resize(grey, (THUMBNAIL_SIZE, THUMBNAIL_SIZE), interpolation=cv2.INTER_AREA)


def prints(images: Sequence[Image]) -> NDArray[np.uint8]:
    """Fingerprints of decoded photographs."""
    return fingerprint(np.stack([thumbnail(image) for image in images]))


def load(paths: Sequence[Path]) -> NDArray[np.uint8]:
    """Fingerprints of files."""
    with ThreadPoolExecutor(os.cpu_count()) as executor:
        thumbnails = np.stack(list(executor.map(lambda path: thumbnail(read(path)), paths)))
    return fingerprint(thumbnails)


def in_half(path: Path, half: str) -> bool:
    """Whether a photograph belongs to this half."""
    digest = hashlib.blake2b(f"{path.parent.name}/{path.name}".encode()).digest()
    return (digest[0] % 2 == 0) == (half == "development")


def recall(data: NDArray[np.uint8], rows: NDArray[np.int64], copies: NDArray[np.uint8]) -> float:
    """Share of copies that are in the group of their original."""
    groups = find_groups(np.concatenate([data, copies]))
    return float(np.mean(groups[rows] == groups[len(data) :]))


def report_recall(paths: list[Path], data: NDArray[np.uint8], half: str, number: int) -> None:
    """Print the recall of each kind of change."""
    rng = np.random.default_rng(0)
    rows = rng.permutation([row for row, path in enumerate(paths) if in_half(path, half)])[:number]
    print(f"\nCopies of {len(rows)} photographs of the {half} half, each kind alone among all {len(paths)}:")
    for title, changes in (
        ("one change", CHANGES),
        ("two changes", PAIRED),
        ("beyond what is asked", BEYOND),
    ):
        values = []
        for name, change in changes.items():
            copies = prints([change(read(paths[row]), rng) for row in rows])
            values.append(recall(data, rows, copies))
            print(f"  {name:<32}{values[-1]:8.1%}", flush=True)
        print(f"  {'mean, ' + title:<32}{np.mean(values):8.1%}")
    for shift in (0.05, 0.10, 0.15):
        pairs = [shifted(read(paths[row]), rng, shift) for row in rows]
        changed = data.copy()
        changed[rows] = prints([first for first, _ in pairs])
        value = recall(changed, rows, prints([second for _, second in pairs]))
        print(f"  {f'window shifted by {shift:.0%}, same size':<32}{value:8.1%}", flush=True)


def report_false_joins(paths: list[Path], data: NDArray[np.uint8], groups: NDArray[np.int64], others: Path) -> None:
    """Print how many pairs of different places were joined."""
    rng = np.random.default_rng(1)
    positive = np.array([path.parent.name == "Positive" for path in paths])
    first, second = (
        rng.choice(np.flatnonzero(positive), 10_000),
        rng.choice(np.flatnonzero(~positive), 10_000),
    )
    print("\nPairs known to be different that were joined:")
    print(f"  Positive with Negative, random          {np.sum(groups[first] == groups[second]):6d} of 10,000")

    side = duplicate_candidates.COARSE_SIZE
    coarse = np.ascontiguousarray(data[:, 8 : 8 + side**2]).view(np.int8).reshape(-1, side, side)
    proposed = duplicate_candidates.find_candidates(coarse, minimum=0.5, shortlist=300, per_image=50, workers=2)
    hard = np.flatnonzero(positive[proposed.first] != positive[proposed.second])
    hard = rng.permutation(hard)[:10_000]
    pairs = duplicate_candidates.Pairs(*(part[hard] for part in proposed))

    def texture(rows: NDArray[np.int64]) -> NDArray[np.int8]:
        maps = np.ascontiguousarray(data[rows, -(THUMBNAIL_SIZE**2) :])
        return maps.view(np.int8).reshape(-1, THUMBNAIL_SIZE, THUMBNAIL_SIZE)

    joined = duplicate_verification.verify(pairs, texture, minimum=0.55, workers=2)
    together = np.sum(groups[pairs.first] == groups[pairs.second])
    print(
        f"  Positive with Negative, most alike      {joined.sum():6d} of {len(hard):,}"
        f" by themselves, {together} through others"
    )
    mixed = set(groups[positive]) & set(groups[~positive])
    print(f"  groups with both Positive and Negative  {len(mixed):6d} of {len(np.unique(groups)):,}")

    sets = {
        name: sorted(path for path in (others / name).rglob("*") if path.suffix.lower() in {".jpg", ".png", ".jpeg"})
        for name in ("deepcrack/train_img", "deepcrack/test_img", "uav75/train_img", "bridge/images")
    }
    sets = {name: found for name, found in sets.items() if found}
    if not sets:
        print("  (no other data sets beside this one)")
        return
    origin = np.repeat(np.arange(1 + len(sets)), [len(paths), *map(len, sets.values())])
    everything = np.concatenate([data, *(load(found) for found in sets.values())])
    joint = find_groups(everything)
    source = {name.split("/")[0]: index for index, name in enumerate(sets, start=1)}
    origin = np.array([source.get(name, 0) for name in ["", *(name.split("/")[0] for name in sets)]])[origin]
    rows = np.flatnonzero(origin > 0)
    first, second = rng.choice(rows, 20_000), rng.integers(0, len(everything), 20_000)
    different = np.flatnonzero(origin[first] != origin[second])[:10_000]
    same = np.sum(joint[first[different]] == joint[second[different]])
    print(f"  photographs of different data sets      {same:6d} of {len(different):,}")
    spanning = sum(len(np.unique(origin[joint == group])) > 1 for group in np.unique(joint[rows]))
    print(f"  groups that span data sets              {spanning:6d} ({len(rows)} photographs added)")
    for name, index in source.items():
        _, sizes = np.unique(joint[origin == index], return_counts=True)
        print(f"    {name}: {sizes.sum()} photographs in {len(sizes)} groups, largest {sizes.max()}")


def report_groups(paths: list[Path], groups: NDArray[np.int64]) -> None:
    """Print what the classes fall into."""
    print("\nGroups:          photographs   groups   in groups of 2 or more   largest")
    for name in ("Negative", "Positive"):
        own = groups[[path.parent.name == name for path in paths]]
        sizes = np.unique(own, return_counts=True)[1]
        many = sizes[sizes > 1].sum()
        print(f"  {name:<16}{len(own):10,}{len(sizes):9,}{many:14,} ({many / len(own):.0%}){sizes.max():12}")


def report_time(paths: list[Path], data: NDArray[np.uint8]) -> None:
    """Print seconds for one, two and four times as many photographs."""
    changes = list((CHANGES | PAIRED).values())

    def changed(task: tuple[int, Path]) -> Image:
        rng = np.random.default_rng(task[0])
        return thumbnail(changes[rng.integers(len(changes))](read(task[1]), rng))

    with ThreadPoolExecutor(os.cpu_count()) as executor:
        tasks = list(enumerate(paths * 3))
        more = np.stack(list(executor.map(changed, tasks)))
    begin = time.perf_counter()
    fingerprints = fingerprint(more)
    each = (time.perf_counter() - begin) / len(more)
    everything = np.concatenate([data, fingerprints])
    print(f"\nTime ({os.cpu_count()} cores): fingerprint {each * 1e3:.2f} ms per image on one core")
    taken = []
    for times in (1, 2, 4):
        begin, cpu = time.perf_counter(), time.process_time()
        find_groups(everything[: times * len(paths)])
        taken.append(time.perf_counter() - begin)
        cpu = time.process_time() - cpu
        print(
            f"  grouping {times * len(paths):7,} images: {taken[-1]:7.2f} s ({cpu:.2f} s of processor)",
            flush=True,
        )
    print(f"  growth from 1 to 4 times as many: N^{math.log(taken[-1] / taken[0], 4):.2f}")


def main() -> None:
    """Run the benchmark."""
    root = os.environ.get("CRACK_PIPELINE_DATA")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(root) / "metu" if root else None, help="METU folder")
    parser.add_argument("--others", type=Path, help="folder of the other data sets (default: beside --data)")
    parser.add_argument("--half", choices=["development", "held-out"], default="held-out")
    parser.add_argument("--copies", type=int, default=500, help="photographs of which copies are planted")
    parser.add_argument("--skip", nargs="*", default=[], choices=["recall", "false", "time"])
    options = parser.parse_args()
    if options.data is None or not options.data.is_dir():
        parser.error(f"no folder of photographs at {options.data}: give --data or set CRACK_PIPELINE_DATA")
    cv2.setNumThreads(1)
    paths = sorted(path for name in ("Negative", "Positive") for path in (options.data / name).glob("*.jpg"))
    data = load(paths)
    groups = find_groups(data)
    report_groups(paths, groups)
    if "false" not in options.skip:
        report_false_joins(paths, data, groups, options.others or options.data.parent)
    if "recall" not in options.skip:
        report_recall(paths, data, options.half, options.copies)
    if "time" not in options.skip:
        report_time(paths, data)


if __name__ == "__main__":
    main()
