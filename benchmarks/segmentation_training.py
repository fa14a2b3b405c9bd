"""Megapixels per second that train a segmenter: this project beside a plain fp32 loop, in one run.

    python benchmarks/segmentation_training.py [--data <folder>] [--steps 60] [--batch 16] [--crop 256] [--compile]

The plain loop is what torch does by default: fp32, channels first in memory, a Dataset that opens photograph and mask
with Pillow, cuts a random square and flips it. It trains the same network with the same loss, optimiser and learning
rate. This project trains as its pipeline does: crops of a memory-mapped stack, augmentation, Lightning, the average of
the weights, and, once in 60 steps, the end of an epoch with its normalisations, a validation (of one crop) and a
checkpoint. Decoding is not in it, since the ingestion does that once. The two take turns every few steps, so that a
noisy machine is noisy for both; the first turn of each is a warm-up. Two more trainings say what the augmentation and
the input cost: one without augmentation, one whose batch lies ready on the device. Where that one is no faster, the
input limits nothing.

On a GPU give it something to do: --batch 64 --crop 512 --photograph 8192. Turns are longer there, so that what the
workers read while the plain loop runs is soon used up.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from crack_pipeline.datasets import ImageStackDataset
from crack_pipeline.engines.compute import Compute, Plan, matrix_flops, resolve
from crack_pipeline.imaging.photograph_stack import PhotographChunk, PhotographStack
from crack_pipeline.imaging.scenes import render_scene
from crack_pipeline.models.segmenters import create_segmenter
from crack_pipeline.training.augmentation import Augmentation
from crack_pipeline.training.crops import Crops, GridCrops, RandomCrops
from crack_pipeline.training.fit import Data, fit
from crack_pipeline.training.losses import CrossEntropy, Dice, loss
from crack_pipeline.training.memory import keep_memory
from crack_pipeline.training.segmentation import SegmentationTraining
from crack_pipeline.training.segmenting import Tiles, probabilities

NETWORK = {"name": "unet", "levels": 5, "base_channels": 24, "patch": 2, "upsampling": "nearest"}
TERMS, RATE = (CrossEntropy(), Dice()), 2e-3
EPOCH = 60
RENDERED, MOST = 24, 300
ENOUGH = 0.95

Files = list[tuple[Path, Path]]


class Opened(Dataset[tuple[Tensor, Tensor]]):
    """The plain style: photograph and mask are opened, cut and flipped whenever they are asked for."""

    def __init__(self, files: Files, crop: int) -> None:
        self.files, self.crop = files, crop

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, at: int) -> tuple[Tensor, Tensor]:
        image, mask = read(self.files[at])
        y, x = (np.random.randint(length - self.crop + 1) for length in mask.shape)  # noqa: NPY002
        image, mask = (array[y : y + self.crop, x : x + self.crop] for array in (image, mask))
        for axis in range(2):
            if np.random.rand() < 0.5:  # noqa: NPY002
                image, mask = np.flip(image, axis), np.flip(mask, axis)
        pixels = np.ascontiguousarray(image.transpose(2, 0, 1), np.float32) / 255
        return torch.from_numpy(pixels), torch.from_numpy(mask.copy())


@dataclass
class Spent:
    """Seconds and steps of one way to train, and the seconds that the end of an epoch takes."""

    seconds: float = 0.0
    steps: int = 0
    end: float = 0.0
    waited: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    @property
    def per_step(self) -> float:
        """Seconds, with its share of the end of an epoch."""
        return self.seconds / max(self.steps, 1) + self.end / EPOCH

    @property
    def waiting(self) -> float:
        """Share of a step that passes until its batch is there."""
        waited = self.waited[-self.steps :]  # without those of the warm-up
        return float(np.mean(waited)) / self.per_step if waited else 0.0


class Turns(Callback):
    """Lets the plain loop run whenever this project has made a few steps, and stops the clock meanwhile."""

    def __init__(self, plain: Iterator[float], ours: Spent, plan: Plan, turn: int) -> None:
        self.plain, self.ours, self.plan, self.turn, self.warm_up = plain, ours, plan, turn, 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self.started = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Change over."""
        if (batch_idx + 1) % self.turn:
            return
        spent = self.passed()
        if self.warm_up:
            self.ours.seconds += spent
            self.ours.steps += self.turn
        else:
            self.warm_up = spent
        self.ours.losses.append(float(outputs["loss"]))
        keep_memory(False)
        for _ in range(self.turn // 2):
            next(self.plain)
        keep_memory(True)
        self.started = time.perf_counter()

    def passed(self) -> float:
        """Seconds since the clock was started."""
        wait(self.plan)
        return time.perf_counter() - self.started


class Timed:
    """A loader that notes how long each batch was waited for."""

    def __init__(self, loader: Any, waited: list[float]) -> None:
        self.loader, self.waited = loader, waited

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        batches = iter(self.loader)
        while True:
            started = time.perf_counter()
            try:
                batch = next(batches)
            except StopIteration:
                return
            self.waited.append(time.perf_counter() - started)
            yield batch


class TimedCrops(Crops):
    """The crops of the pipeline, timed."""

    waited: list[float]

    def train_dataloader(self) -> Any:
        """Give this epoch's batches."""
        return Timed(super().train_dataloader(), self.waited)


class Ready(Data):
    """One batch, over and over, that already lies where it is needed."""

    def __init__(self, crops: Crops, steps: int, plan: Plan) -> None:
        super().__init__(batch_size=crops.batch_size, images_per_epoch=steps * crops.batch_size, seed=crops.seed)
        images, masks = next(iter(crops.train_dataloader()))
        self.batch, self.steps, self.crops = (images.to(plan.device), masks.to(plan.device)), steps, crops

    def train_dataloader(self) -> Any:
        """Give the batch."""
        # Not the list itself, whose items Lightning would take for loaders.
        return Timed([self.batch] * self.steps, [])

    def val_dataloader(self) -> Any:
        """Give the validation batches."""
        return self.crops.val_dataloader()


def pairs(folder: Path) -> Files:
    """Find photographs and masks of one name in ``train_img`` and ``train_lab``."""
    masks = {path.stem: path for path in Path(folder, "train_lab").glob("*") if path.suffix.lower() == ".png"}
    found = [(path, masks[path.stem]) for path in sorted(Path(folder, "train_img").glob("*")) if path.stem in masks]
    if not found:
        raise SystemExit(f"there are no photographs with masks in {folder}/train_img and {folder}/train_lab")
    return found[:MOST]


def render(folder: Path, crop: int) -> Files:
    """Render photographs with cracks and write them as a data set."""
    files = []
    for number in range(RENDERED):
        scene = render_scene((max(384, crop), max(544, crop)), np.random.default_rng([0, number]), 0.5, True)
        photograph, mask = folder / f"{number:03d}.jpg", folder / f"{number:03d}.png"
        Image.fromarray(scene.image).save(photograph, quality=92)
        Image.fromarray(scene.mask.astype(np.uint8) * 255).save(mask)
        files.append((photograph, mask))
    return files


def read(pair: tuple[Path, Path]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Open a photograph (H, W, 3) and its mask (H, W), 0 and 1."""
    photograph, mask = pair
    return np.array(Image.open(photograph).convert("RGB")), (np.array(Image.open(mask).convert("L")) > 127).astype("u1")


def ingest(files: Files, folder: Path, crop: int) -> PhotographStack:
    """Store the photographs as the ingestion does."""
    photographs, masks = map(list, zip(*map(read, files), strict=True))
    ids = [path.stem for path, _ in files]
    heights, widths = zip(*(mask.shape for mask in masks), strict=True)
    if min(*heights, *widths) < crop:
        raise SystemExit(f"a photograph is smaller than the crop of {crop} px, which the plain loop cannot do: --crop")
    photos = pd.DataFrame({"photo_id": ids, "label": "crack", "path": "", "mask_path": "", "source": ""})
    photos = photos.assign(width=widths, height=heights)
    index = photos.assign(image_id=ids, photo=range(len(ids)), crack_pixels=[int(mask.sum()) for mask in masks])
    dataset = ImageStackDataset(filepath=str(folder / "stack"))
    dataset.save(
        PhotographChunk(
            fingerprints=np.zeros((len(ids), 1), np.uint8),
            index=index,
            photos=photos,
            rejected=pd.DataFrame({"path": [], "kind": [], "reason": []}, dtype=str),
            number=0,
            last=True,
            photographs=photographs,
            masks=masks,
            channels=3,
        )
    )
    stack = dataset.load()
    assert isinstance(stack, PhotographStack)
    return stack


def new_network(options: argparse.Namespace) -> nn.Module:
    """Create the network, the same one every time."""
    torch.manual_seed(0)
    return create_segmenter(options.network)


def plain(files: Files, options: argparse.Namespace, plan: Plan, spent: Spent) -> Iterator[float]:
    """Train in the plain style, a step whenever asked; the first turn is a warm-up."""
    network = new_network(options).to(plan.device)
    optimiser = torch.optim.AdamW(network.parameters(), RATE)
    opened = Opened(files * -(-2 * options.batch // len(files)), options.crop)
    batches = DataLoader(opened, options.batch, shuffle=True, drop_last=True, num_workers=options.plain_workers)
    steps = 0
    while True:
        waited: list[float] = []
        started = time.perf_counter()
        for images, masks in Timed(batches, waited):
            logits = network(images.to(plan.device))
            value, _ = loss(logits, masks.to(plan.device), TERMS)
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
            spent.losses.append(value.item())
            wait(plan)
            steps += 1
            if steps > options.turn // 2:
                spent.seconds += time.perf_counter() - started
                spent.steps += 1
                spent.waited.append(waited[-1])
            yield spent.seconds
            started = time.perf_counter()


def ours(
    stack: PhotographStack,
    options: argparse.Namespace,
    plan: Plan,
    others: Iterator[float],
    *,
    steps: int,
    augmented: bool = True,
    ready: bool = False,
) -> tuple[Spent, float]:
    """Train as the pipeline does, in turns with the plain loop; give what it took, and the seconds of the warm-up."""
    spent = Spent()
    nothing = Augmentation(flips=False, brightness=0, contrast=0, gamma=0, colour=0, blur=0, noise=0, jpeg=0)
    crops = TimedCrops(
        RandomCrops(
            stack, np.arange(len(stack)), size=options.crop, batch_size=options.batch, steps=steps, centred=0.5
        ),
        GridCrops(stack, np.arange(1), size=options.crop, batch_size=options.batch, most=1),
        batch_size=options.batch,
        steps=steps,
        seed=0,
        workers=plan.workers,
    )
    crops.waited = [] if ready else spent.waited
    network = new_network(options).to(memory_format=torch.channels_last)
    module = SegmentationTraining(
        network,
        terms=TERMS,
        augmentation=Augmentation(rotation=0.5, scale=1.5) if augmented else nothing,
        optimiser="adamw",
        learning_rate=RATE,
        weight_decay=1e-2,
        steps=steps,
        schedule="one_cycle",
        average=0.995,
        seed=0,
    )
    if plan.compile:
        network.compile()
    turns = Turns(others, spent, plan, options.turn)
    with tempfile.TemporaryDirectory() as folder:
        fit(
            module,
            Ready(crops, steps, plan) if ready else crops,
            plan,
            epochs=1,
            checkpoints=Path(folder),
            identity={},
            callbacks=[turns],
        )
    spent.end = turns.passed()
    return spent, turns.warm_up


def predict(stack: PhotographStack, options: argparse.Namespace, plan: Plan) -> float:
    """Give the megapixels per second of the prediction of one large photograph, made of mirrored ones."""
    photograph = np.asarray(stack.photograph(0))
    pair = np.concatenate([photograph, photograph[:, ::-1]], axis=1)
    block = np.concatenate([pair, pair[::-1]])
    times = [-(-options.photograph // side) for side in block.shape[:2]]
    large = np.tile(block, (*times, 1))[: options.photograph, : options.photograph]
    network = new_network(options)
    best = 0.0
    for _ in range(2):  # the first is a warm-up
        started = time.perf_counter()
        probabilities(network, large, plan, Tiles())
        wait(plan)
        best = max(best, large[..., 0].size / 1e6 / (time.perf_counter() - started))
    return best


def operations(options: argparse.Namespace) -> tuple[float, float]:
    """Count the floating-point operations per pixel of a training step and of a prediction."""
    network, image = new_network(options), torch.rand(2, 3, options.crop, options.crop)
    counts = []
    for train in (True, False):
        with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(train):
            logits = network(image)
            if train:
                logits.sum().backward()
        counts.append(counter.get_total_flops() / image[:, 0].numel())
    return counts[0], counts[1]


def wait(plan: Plan) -> None:
    """Wait for the device."""
    if plan.accelerator == "cuda":
        torch.cuda.synchronize()
    elif plan.accelerator == "mps":
        torch.mps.synchronize()


def peak(dtype: torch.dtype, plan: Plan) -> float:
    """Measure the rate of a matrix product."""
    return matrix_flops(dtype, plan.device, 2048 if plan.accelerator == "cpu" else 8192)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = os.environ.get("CRACK_PIPELINE_DATA")
    parser.add_argument(
        "--data", type=Path, default=Path(root, "deepcrack") if root else None, help="with train_img and train_lab"
    )
    parser.add_argument(
        "--steps", type=int, help="of this project, half for its other trainings; by default 60, on a GPU 512"
    )
    parser.add_argument("--turn", type=int, help="steps before the plain loop makes half as many; 4, on a GPU 64")
    parser.add_argument("--batch", type=int, default=16, help="crops in a batch")
    parser.add_argument("--crop", type=int, default=256, help="side of a crop, px")
    parser.add_argument("--photograph", type=int, default=2048, help="side of the photograph that is predicted, px")
    parser.add_argument("--network", type=json.loads, default=NETWORK, help="options of the network, JSON")
    parser.add_argument("--precision", default="auto", choices=["auto", "32-true", "bf16-mixed", "16-mixed"])
    parser.add_argument("--workers", type=int, help="that read ahead for this project; the plan's own by default")
    parser.add_argument("--plain-workers", type=int, default=0, help="that read for the plain loop; torch's default: 0")
    parser.add_argument(
        "--compile", action="store_true", help="also train with torch.compile, or without where the plan compiles"
    )
    options = parser.parse_args()
    if min(options.steps or 1, options.batch, options.crop) < 1 or (options.turn or 2) < 2:
        parser.error("--steps, --batch and --crop must be at least 1, --turn at least 2")
    return options


def main() -> None:
    """Train in turns and print a line for each way."""
    options = arguments()
    workers: Any = "auto" if options.workers is None else options.workers
    plan = resolve(Compute(precision=options.precision, workers=workers))
    on_cpu = plan.accelerator == "cpu"
    options.turn = options.turn or (4 if on_cpu else 64)
    wanted = options.steps or (60 if on_cpu else 512)
    # Whole turns, and one more than the warm-up.
    steps, fewer = (max(2, round(number / options.turn)) * options.turn for number in (wanted, wanted / 2))
    dtype = {"32-true": torch.float32, "16-mixed": torch.float16}.get(plan.precision, torch.bfloat16)
    peaks = {kind: [peak(kind, plan)] for kind in {torch.float32, dtype}}
    found: dict[str, Spent] = {"plain": Spent()}
    with tempfile.TemporaryDirectory() as scratch:
        files = pairs(options.data) if options.data else render(Path(scratch), options.crop)
        stack = ingest(files, Path(scratch), options.crop)
        print(f"{len(stack)} photographs, batches of {options.batch} crops of {options.crop} px, {options.network}")
        print(
            f"plan: {plan.device_name}, {plan.precision}, {torch.get_num_threads()} threads, {plan.workers} workers, "
            f"compile {plan.compile}; the plain loop has {options.plain_workers} workers"
        )
        others = plain(files, options, plan, found["plain"])
        found["ours"], warm_up = ours(stack, options, plan, others, steps=steps)
        found["no augmentation"], _ = ours(stack, options, plan, others, steps=fewer, augmented=False)
        found["input ready"], _ = ours(stack, options, plan, others, steps=fewer, ready=True)
        if options.compile:
            other = plan.model_copy(update={"compile": not plan.compile})
            name = "compiled" if other.compile else "not compiled"
            found[name], there = ours(stack, options, other, others, steps=fewer)
            print(f"the first {options.turn} steps took {warm_up:.1f} s, {name} {there:.1f} s")
        predicted = predict(stack, options, plan)
    for kind, rates in peaks.items():
        rates.append(peak(kind, plan))

    megapixels = options.batch * options.crop**2 / 1e6
    per_step, per_prediction = operations(options)
    highest = {kind: max(rates) for kind, rates in peaks.items()}
    print(f"{'':<16}   s/step     MP/s  times plain   GFLOP/s  of peak  waits for input   loss at the end")
    for name, spent in found.items():
        rate = megapixels / spent.per_step
        work = per_step * rate * 1e6
        share = work / highest[torch.float32 if name == "plain" else dtype]
        times = found["plain"].per_step / spent.per_step
        print(
            f"{name:<16} {spent.per_step:8.4f} {rate:8.2f} {times:12.2f} {work / 1e9:9.1f} {share:8.1%} "
            f"{spent.waiting:16.1%} {np.mean(spent.losses[-2:]):17.3f}"
        )
    work = per_prediction * predicted * 1e6
    print(f"{'prediction':<16} {'':8} {predicted:8.2f} {'':12} {work / 1e9:9.1f} {work / highest[dtype]:8.1%}")
    print(
        "peak: a matrix product at "
        + ", ".join(
            f"{rate / 1e9:,.0f} GFLOP/s in {str(kind).removeprefix('torch.')}" for kind, rate in highest.items()
        )
    )
    kept = found["input ready"].per_step / found["ours"].per_step
    waiting = found["ours"].waiting
    verdict = "LIMITS" if kept < ENOUGH and waiting > 1 - ENOUGH else "does not limit"
    print(
        f"the input {verdict} the training: it takes {waiting:.1%} of a step, and the rate is {kept:.0%} of that on a "
        "batch that is ready"
    )
    print(f"the end of an epoch takes {found['ours'].end:.2f} s, a {EPOCH}th of which is in every step")
    print(f"ours is {found['plain'].per_step / found['ours'].per_step:.2f} times as fast as the plain loop (target: 2)")


if __name__ == "__main__":
    main()
