"""Make one stack of stacks that several machines have written, without copying a picture."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from crack_pipeline.datasets.stack_writing import TABLES, TableWriter
from crack_pipeline.imaging.stack import DESCRIPTION, FORMAT, IMAGES, PHOTOGRAPHS, StackPart, read_description


class StackJoiner:
    """A stack that takes over the shards of its parts, as links where the file system has them.

    The parts stay as they are, so that a run that is killed can take them over again.

    Parameters
    ----------
    folder
        An empty folder.

    Attributes
    ----------
    chunks
        Number of parts so far.
    """

    def __init__(self, folder: Path) -> None:
        self.chunks = 0
        self._folder = folder
        self._about: dict[str, Any] = {}
        self._rows: dict[str, list[int]] = {}
        self._counts: Counter[str] = Counter()
        self._tables = {name: TableWriter(folder / f"{name}.parquet", columns) for name, columns in TABLES.items()}

    def append(self, part: StackPart) -> None:
        """Add a part; raises OSError, or ValueError if it does not fit those before it."""
        about = read_description(part.folder)
        if not self._about:
            self._about = about
        if _form(about) != _form(self._about):
            raise ValueError(f"a part of a stack is {_form(about)}, and those before it are {_form(self._about)}")
        for name, rows in _arrays(about):
            whole = self._rows.setdefault(name, [])
            for number in range(len(rows)):
                _take_over(
                    part.folder / f"{name}-{number:05d}.npy", self._folder / f"{name}-{len(whole) + number:05d}.npy"
                )
            whole.extend(rows)
        for name, writer in self._tables.items():
            table = pq.read_table(part.folder / f"{name}.parquet")
            if name == "index":  # it counts the photographs of its part
                at = table.schema.get_field_index("photo")
                moved = pc.add(table["photo"], pa.scalar(self._counts["photos"], pa.int64()))
                table = table.set_column(at, "photo", moved)
            writer.append_table(table)
            self._counts[name] += len(table)
        self.chunks += 1

    def close(self) -> None:
        """Write the tables, and last what the stack is; raises OSError."""
        for table in self._tables.values():
            table.close()
        about = {"format": FORMAT, "dtype": "uint8"}
        if IMAGES in self._about:
            about[IMAGES] = self._joined("images", self._about[IMAGES]["shape"])
        else:
            photographs = self._about[PHOTOGRAPHS] | {"count": self._counts["index"], "pixels": self._rows["pixels"]}
            about[PHOTOGRAPHS] = photographs | {"masks": self._rows.get("masks")}
        about["fingerprints"] = self._joined("fingerprints", self._about["fingerprints"]["shape"])
        (self._folder / DESCRIPTION).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")

    def abandon(self) -> None:
        """Close the files, whatever is in them."""
        for table in self._tables.values():
            table.abandon()

    def _joined(self, name: str, shape: list[int]) -> dict[str, Any]:
        return {"shape": [sum(self._rows[name]), *shape[1:]], "rows": self._rows[name]}


def is_whole(folder: Path) -> bool:
    """Whether a stack has all of its files, each as long as it must be."""
    try:
        about = read_description(folder)
        for name, rows in _arrays(about):
            for number, count in enumerate(rows):
                if len(np.load(folder / f"{name}-{number:05d}.npy", mmap_mode="r")) != count:
                    return False
        for name in TABLES:
            pq.read_metadata(folder / f"{name}.parquet")
    except (OSError, ValueError, KeyError):  # among them those of Arrow and of JSON
        return False
    return True


def _form(about: dict[str, Any]) -> str:
    """Say what pictures a stack holds; parts of one stack say the same."""
    if IMAGES in about:
        return f"{IMAGES} of {tuple(about[IMAGES]['shape'][1:])}"
    masks = "with masks" if about[PHOTOGRAPHS]["masks"] is not None else "without masks"
    return f"{PHOTOGRAPHS} of {about[PHOTOGRAPHS]['channels']} channels {masks}"


def _arrays(about: dict[str, Any]) -> list[tuple[str, list[int]]]:
    arrays = [("fingerprints", about["fingerprints"]["rows"])]
    if IMAGES in about:
        return [*arrays, ("images", about[IMAGES]["rows"])]
    arrays.append(("pixels", about[PHOTOGRAPHS]["pixels"]))
    masks = about[PHOTOGRAPHS]["masks"]
    return arrays if masks is None else [*arrays, ("masks", masks)]


def _take_over(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copyfile(source, target)
