"""From the files under a root to a table of photographs: label, mask and given split of each."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import NamedTuple, Protocol

import pandas as pd

from crack_pipeline.imaging.decoding import SUFFIXES
from crack_pipeline.pipelines.ingestion.parameters import Part, Preset, plain

logger = logging.getLogger(__name__)

PHOTOGRAPHS = ("path", "label", "mask_path", "source", "size", "version")
REJECTED = ("path", "kind", "reason")

UNKNOWN, TOO_LARGE = "unknown class", "too large"
NO_MASK, MASK, MASK_FOLDER = "no mask", "unreadable mask", "mask folder"
UNMARKED = "crack without mask"
ORPHAN_MASK, AMBIGUOUS_MASK = "orphan mask", "ambiguous mask"

File = tuple[str, int, str, str] | tuple[str, int, str, str, str]

_CLUTTER = {"thumbs.db", "desktop.ini", "__macosx"}


class Source(Protocol):
    """Where photographs are read from, as `datasets.RawRootDataset` opens it; it can be pickled."""

    name: str

    def list(self) -> Iterable[File]:
        """Path, size in bytes, and, for a file that must not be read, the kind and the reason; perhaps the version."""

    def read(self, path: str) -> bytes:
        """Content of one file; raises OSError, or StorageLostError if no other one can be read either."""


def list_files(
    files: Iterable[File], preset: Preset, *, labelled: bool, max_bytes: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Decide what each file is.

    Hidden files and what operating systems leave behind are passed over, and so are the files that give the
    splits, and those beside a picture of the same name that are none by theirs: what a labelling tool notes, the raw
    file of a camera. Where labels are wanted, a mask that belongs to no photograph is rejected under its own path, and
    photographs are rejected that match several masks or share one.

    Parameters
    ----------
    files
        Path, size, and the kind and reason of those that must not be read; perhaps what changes with their content.
    preset
        The layout.
    labelled
        Whether labels and masks are wanted. If not, every file that is not a mask is a photograph, and masks of these
        are passed over; what lies in a folder of masks and is none of theirs is rejected.
    max_bytes
        A photograph with more, or with a mask with more, is rejected.

    Returns
    -------
    photographs : DataFrame
        ``path``, ``label`` (normal, crack or missing), ``mask_path`` (or missing), ``source``, ``size`` in
        bytes, ``version`` (changes with the content of photograph and mask, as far as that is known).
    rejected : DataFrame
        ``path``, ``kind``, ``reason``.
    """
    passed_over = set(preset.split_paths) if labelled else set()
    kept = [file for file in files if not _is_clutter(file[0]) and file[0] not in passed_over]
    beside = _beside_pictures([path for path, *_ in kept])
    if beside:
        logger.info("%s files passed over, for beside each lies a picture of the same name", f"{len(beside):,}")
        kept = [file for file in kept if file[0] not in beside]
    layout = _Layout(preset, [path for path, _, kind, *_ in kept if not kind])
    theirs = set() if labelled else {mask for path, *_ in kept for mask in layout.masks_beside(path)}
    if theirs:
        logger.info("%s files passed over, for they are masks of photographs", f"{len(theirs):,}")
        kept = [file for file in kept if file[0] not in theirs]
    large = {path for path, size, *_ in kept if size > max_bytes}
    photographs, rejected = [], []
    matched: Counter[str] = Counter()
    versions = {mask: "" for mask in layout.masks}
    versions |= {path: more[0] for path, _, _, _, *more in kept if more and path in versions}
    for path, size, kind, reason, *version in kept:
        folder = PurePosixPath(path).parts[:-1]
        if layout.is_mask(folder):
            if not labelled:
                reason = f"the folder {folder[-1]} holds masks: rename it if these are photographs"
                rejected.append((path, MASK_FOLDER, reason))
            elif kind:
                rejected.append((path, kind, reason))
            continue
        found = layout.describe(path) if labelled else _Found()
        matched.update(found.masks)
        if not kind:
            kind, reason = found.kind, found.reason
        if not kind and size > max_bytes:
            kind, reason = TOO_LARGE, f"{size:,} bytes are more than the {max_bytes:,} allowed"
        if not kind and not large.isdisjoint(found.masks):
            kind, reason = MASK, f"its mask {found.masks[0]} has more bytes than the {max_bytes:,} allowed"
        if kind:
            rejected.append((path, kind, reason))
        else:
            mask = found.masks[0] if found.masks else None
            both = " ".join([*version, versions[mask]] if mask else version)
            photographs.append((path, found.label, mask, layout.source(folder), size, both))
    shared = {
        path: f"its mask {mask} is that of another photograph, too"
        for path, _, mask, *_ in photographs
        if mask and matched[mask] > 1
    }
    photographs = [row for row in photographs if row[0] not in shared]
    rejected += [(path, AMBIGUOUS_MASK, reason) for path, reason in shared.items()]
    if labelled:
        rejected += [(mask, ORPHAN_MASK, "a mask without a photograph") for mask in layout.masks if not matched[mask]]
    return (
        pd.DataFrame(photographs, columns=list(PHOTOGRAPHS)).astype(
            {"path": "str", "label": "str", "mask_path": "str", "source": "str", "size": "int64", "version": "str"}
        ),
        pd.DataFrame(rejected, columns=list(REJECTED)).astype("str"),
    )


class _Found(NamedTuple):
    """What the layout says of a photograph: its label, its mask, or why it cannot be used."""

    label: str | None = None
    masks: tuple[str, ...] = ()
    kind: str = ""
    reason: str = ""


class _Layout:
    """A preset applied to the files that there are."""

    def __init__(self, preset: Preset, paths: list[str]) -> None:
        self._preset = preset
        self._parts = [(part, _split(part.images), _split(part.masks)) for part in preset.parts]
        self._mask_folders = {name.lower() for name in preset.mask_folders}
        self._labels: dict[str, str | None] = {}
        self._of_masks: dict[tuple[str, ...], bool] = {}
        self.masks: list[str] = []
        self._masks: dict[str, list[str]] = {}
        for path in paths:
            pure = PurePosixPath(path)
            if self.is_mask(pure.parts[:-1]):
                self.masks.append(path)
                self._masks.setdefault(_key(pure.parts[:-1], pure.stem), []).append(path)

    def is_mask(self, folder: tuple[str, ...]) -> bool:
        """Whether files of this folder are masks."""
        if folder not in self._of_masks:
            lower = _lower(folder)
            self._of_masks[folder] = not self._mask_folders.isdisjoint(lower) or any(
                _find(lower, masks) is not None for _, _, masks in self._parts
            )
        return self._of_masks[folder]

    def masks_beside(self, path: str) -> set[str]:
        """Give the masks that a photograph may have whose label nobody has looked for; none for a mask."""
        if not self.masks:
            return set()
        pure = PurePosixPath(path)
        folder = pure.parts[:-1]
        if self.is_mask(folder):
            return set()
        keys = {key for at in range(len(folder) + 1) for key in self._mask_keys(folder, pure.stem, None, at)}
        return {mask for key in keys for mask in self._masks.get(key, ())}

    def source(self, folder: tuple[str, ...]) -> str:
        """Name of the part that the folder belongs to, or nothing."""
        found = self._part(folder)
        return found[0].source if found else ""

    def describe(self, path: str) -> _Found:
        """Say what a photograph is."""
        pure = PurePosixPath(path)
        folder = pure.parts[:-1]
        if self._preset.label_from == "none":
            return _Found()
        if self._preset.label_from == "sound":
            return _Found("normal")
        if self._parts and self._part(folder) is None:
            names = ", ".join(part.images for part in self._preset.parts)
            return _Found(kind=UNKNOWN, reason=f"not in a folder of photographs of this data set ({names})")
        label, at = None, len(folder)
        if self._preset.label_from == "folder":
            label, at = self._label(folder)
            if label is None:
                where = f"the folder {folder[-1]} names no class" if folder else "not in the folder of a class"
                return _Found(kind=UNKNOWN, reason=f"{where} ({self._understood()})")
        wanted = list(self._mask_keys(folder, pure.stem, label, at))
        masks = tuple(dict.fromkeys(mask for key in wanted for mask in self._masks.get(key, ())))
        if len(masks) > 1:
            return _Found(label, masks, AMBIGUOUS_MASK, f"{len(masks)} masks match it: {', '.join(masks)}")
        if not masks and self._preset.label_from == "mask":
            return _Found(kind=NO_MASK, reason="no mask" + (f": looked for {wanted[0]}.*" if wanted else ""))
        return _Found(label, masks)

    def _part(self, folder: tuple[str, ...]) -> tuple[Part, int] | None:
        for part, images, _ in self._parts:
            at = _find(_lower(folder), images)
            if at is not None:
                return part, at
        return None

    def _label(self, folder: tuple[str, ...]) -> tuple[str | None, int]:
        """Label of the innermost folder that names a class, and the position of that folder."""
        for at in reversed(range(len(folder))):
            name = folder[at]
            if name not in self._labels:
                self._labels[name] = next(
                    (
                        label
                        for label in ("normal", "crack")
                        if any(fnmatchcase(plain(name), p) for p in self._preset.classes.get(label, []))
                    ),
                    None,
                )
            if self._labels[name]:
                return self._labels[name], at
        return None, -1

    def _mask_keys(self, folder: tuple[str, ...], stem: str, label: str | None, at: int) -> Iterator[str]:
        """Where the mask may lie, the likeliest first."""
        for suffix in self._preset.mask_suffixes:
            name = stem + suffix
            found = self._part(folder)
            if found:
                part, start = found
                after = start + len(_split(part.images))
                yield _key((*folder[:start], *_split(part.masks), *folder[after:]), name)
            for masks in self._preset.mask_folders:
                yield _key((*folder[:at], masks, *folder[at:]), name)
                # without a class folder the mask of 00001.jpg could be that of another class's 00001.jpg
                if label != "normal":
                    yield _key((*folder[:at], masks, *folder[at + 1 :]), name)

    def _understood(self) -> str:
        classes = [f"{label}: {', '.join(names[:4])} …" for label, names in self._preset.classes.items()]
        return f"known are {'; '.join(classes)}"


def _is_clutter(path: str) -> bool:
    parts = path.split("/")
    return any((part.startswith(".") and part not in (".", "..")) or part.lower() in _CLUTTER for part in parts)


def _beside_pictures(paths: list[str]) -> set[str]:
    """Find the files that are no pictures by their names, and share these with one that is: a.json of a.jpg."""
    names = {path: PurePosixPath(path) for path in paths}
    pictures = {path: name for path, name in names.items() if name.suffix.lower() in SUFFIXES}
    taken = {str(name.with_suffix("")).lower() for name in pictures.values()} | {path.lower() for path in pictures}
    return {
        path
        for path, name in names.items()
        if name.suffix and path not in pictures and str(name.with_suffix("")).lower() in taken
    }


def _split(folder: str) -> tuple[str, ...]:
    return PurePosixPath(folder).parts


def _lower(folder: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(part.lower() for part in folder)


def _key(folder: tuple[str, ...], name: str) -> str:
    return "/".join((*folder, name)).lower()


def _find(folder: tuple[str, ...], wanted: tuple[str, ...]) -> int | None:
    """Position of a run of folders in a path, whatever its case."""
    lower = _lower(wanted)
    return next((at for at in range(len(folder) - len(lower) + 1) if folder[at : at + len(lower)] == lower), None)
