"""Image stacks as batches of tensors, indexed a whole batch at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset

from crack_pipeline.training.sharing import Place

_ALONE = Place()


class Images(Protocol):
    """What training needs of an image stack: shape (N, H, W) or (N, H, W, C), uint8."""

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Give the images of some rows, in their order."""


class _Rows(Dataset[Tensor]):
    def __init__(self, images: Images, rows: NDArray[np.int64]) -> None:
        self.images, self.rows = images, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, positions: list[int]) -> Tensor:
        return as_tensor(self.images.take(self.rows[positions]))


def as_tensor(images: NDArray[np.uint8]) -> Tensor:
    """Turn uint8 images (N, H, W) or (N, H, W, C) into a uint8 tensor (N, C, H, W), channels last in memory."""
    tensor = torch.from_numpy(images if images.ndim == 4 else images[..., None])
    return tensor.permute(0, 3, 1, 2)


def normalise(images: Tensor, device: torch.device) -> Tensor:
    """Move uint8 images (N, C, H, W) to the device as float32 in [0, 1], channels last in memory."""
    moved = images.to(device, non_blocking=True)
    return moved.to(dtype=torch.float32, memory_format=torch.channels_last).div_(255)


def loader(
    images: Images,
    rows: NDArray[np.int64],
    batch_size: int,
    *,
    seed: int | None = None,
    workers: int = 0,
    place: Place = _ALONE,
) -> DataLoader[Tensor]:
    """Give an iterable of uint8 batches (n, C, H, W).

    Parameters
    ----------
    images
        The image stack.
    rows
        (N,), which images, in this order.
    batch_size
        Images in a batch; the last one may be smaller.
    seed
        Shuffles the rows, the same way for the same seed; ``None`` keeps their order.
    workers
        Processes that read ahead.
    place
        Of the process among those that train together: of shuffled batches it is given its part, of others every so
        many-th.
    """
    dataset = _Rows(images, rows)
    order: Sequence[int] = range(len(rows))
    if seed is not None:
        # Drawn here, so that it is the same however often an iterator is made: Lightning makes one or two an epoch.
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed)).tolist()
    batches = list(BatchSampler(order, batch_size, drop_last=False))
    return DataLoader(
        dataset,
        sampler=place.deal(batches) if seed is None else [place.part(batch) for batch in batches],
        batch_size=None,
        num_workers=workers,
        # Its own: an iterator would otherwise draw from the noise of the training, and a resumed one more rarely.
        generator=torch.Generator().manual_seed(seed or 0),
        pin_memory=torch.cuda.is_available(),
    )
