"""Stacks of photographs with masks, written as an ingestion writes them, and the tables that go with them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crack_pipeline.datasets import ImageStackDataset
from crack_pipeline.imaging.photograph_stack import CRACK, PhotographChunk, PhotographStack


def write_stack(
    folder: Path | str, photographs: Sequence[NDArray[np.uint8]], masks: Sequence[NDArray[np.uint8]]
) -> PhotographStack:
    """Write photographs (H, W, 3) and their masks, and open them."""
    index = tabulate(masks)
    dataset = ImageStackDataset(filepath=f"{folder}/images")
    dataset.save(
        PhotographChunk(
            fingerprints=np.zeros((len(index), 1), np.uint8),
            index=index.drop(columns=["path", "mask_path", "source"]),
            photos=index.drop(columns=["image_id", "photo", "crack_pixels"]),
            rejected=pd.DataFrame({"path": [], "kind": [], "reason": []}, dtype=str),
            number=0,
            last=True,
            photographs=list(photographs),
            masks=list(masks),
            channels=3,
        )
    )
    return dataset.load()


def prepare(
    folder: Path, photographs: Sequence[tuple[NDArray[np.uint8], NDArray[np.uint8]]], roles: Sequence[str]
) -> tuple[PhotographStack, pd.DataFrame, pd.DataFrame]:
    """Give stack, manifest and partition of photographs with masks, each of which has a role."""
    images, masks = zip(*photographs, strict=True)
    stack = write_stack(folder, images, masks)
    table = tabulate(masks)
    manifest = table.assign(group=table["image_id"], row=range(len(table)))
    return stack, manifest, pd.DataFrame({"image_id": table["image_id"], "group": table["image_id"], "role": roles})


def tabulate(masks: Sequence[NDArray[np.uint8]]) -> pd.DataFrame:
    """Give a row per photograph, as the index of a stack has it."""
    ids = [f"{number:02d}" for number in range(len(masks))]
    cracked = [int((mask == CRACK).sum()) for mask in masks]
    return pd.DataFrame(
        {
            "image_id": ids,
            "photo_id": ids,
            "photo": range(len(ids)),
            "path": ids,
            "label": ["crack" if number else "normal" for number in cracked],
            "width": [mask.shape[1] for mask in masks],
            "height": [mask.shape[0] for mask in masks],
            "crack_pixels": pd.array(cracked, dtype="Int64"),
            "mask_path": "",
            "source": "",
        }
    )
