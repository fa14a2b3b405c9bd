"""Splits that files beside the photographs give."""

from __future__ import annotations

import csv
import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

import pandas as pd

from crack_pipeline.pipelines.ingestion.listing import REJECTED, Source
from crack_pipeline.pipelines.ingestion.parameters import Preset, split_name

logger = logging.getLogger(__name__)

SPLIT_LINE, TWO_SPLITS, NO_SPLIT = "split line", "two splits", "no split"

_NAMED = ("path", "file", "image")
_SPLIT = "split"


def apply_splits(
    photographs: pd.DataFrame, rejected: pd.DataFrame, source: Source, preset: Preset
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Take the source of every photograph from the files that the preset names.

    An entry names a photograph by its path relative to the root, by the end of that path, such as the file's
    name, or by either without its ending, in any case.

    Parameters
    ----------
    photographs, rejected
        As `listing.list_files` gives them.
    source
        The root, which the split files are read from.
    preset
        Names them.

    Returns
    -------
    photographs : DataFrame
        ``source`` is the split that names the photograph, and empty where none does.
    rejected : DataFrame
        Also each entry that matches no photograph, or several (its ``path`` is that of the split file, with the
        number of the line), each photograph that is in two splits and, where a split train is given, each that is in
        none. An entry for a photograph that is rejected anyway is in order.

    Raises
    ------
    ValueError
        If a split file cannot be read or understood, or none of its entries names one photograph.
    """
    if not preset.split_paths:
        return photographs, rejected
    paths = photographs["path"].tolist()
    entries = list(_entries(source, preset))
    found = _match([name for _, _, _, name in entries], paths)
    others = _match([name for _, _, _, name in entries], rejected["path"].tolist())
    splits: dict[str, set[str]] = defaultdict(set)
    faults: list[tuple[str, str, str]] = []
    for file, line, split, name in entries:
        matches = found.get(name, [])
        if len(matches) == 1:
            splits[matches[0]].add(split)
        elif matches:
            reason = f"{name!r} matches {len(matches)} photographs: {', '.join(matches[:3])}"
            faults.append((f"{file}:{line}", SPLIT_LINE, reason))
        elif name not in others:
            faults.append((f"{file}:{line}", SPLIT_LINE, f"{name!r} matches no photograph"))
    _refuse_strangers(entries, {name for name in found if len(found[name]) == 1} | set(others))
    torn = {path: sorted(names) for path, names in splits.items() if len(names) > 1}
    faults += [(path, TWO_SPLITS, f"it is in {' and in '.join(names)}") for path, names in torn.items()]
    of_path = {path: next(iter(names)) for path, names in splits.items()}
    photographs = photographs.assign(source=[of_path.get(path, "") for path in paths])
    # Whoever lists what may be learned from does not mean the rest.
    unnamed = [path for path in paths if path not in splits] if "train" in of_path.values() else []
    photographs = photographs[~photographs["path"].isin({*torn, *unnamed})].reset_index(drop=True)
    counts = Counter(photographs["source"])
    logger.info("splits: %s", ", ".join(f"{n:,} {split or 'in none'}" for split, n in sorted(counts.items())))
    if faults:
        logger.warning("%s entries of split files do not name one photograph of one split", f"{len(faults):,}")
    faults += [(path, NO_SPLIT, "in no split file, and one lists what to train on") for path in unnamed]
    more = pd.DataFrame(faults, columns=list(REJECTED)).astype("str")
    return photographs, pd.concat([rejected, more], ignore_index=True)


def _entries(source: Source, preset: Preset) -> Iterator[tuple[str, int, str, str]]:
    """File, line, split and name of every entry."""
    files = preset.split_files
    wanted = [(None, files)] if isinstance(files, str) else list(files.items())
    for split, path in wanted:
        lines = _read_lines(source, path)
        rows = list(_rows(lines, split, path) if path.lower().endswith(".csv") else _plain(lines, split, path))
        if not rows:
            raise ValueError(f"split_files: {path} names no photograph" + (f" for {split}" if split else ""))
        yield from ((path, line, split_name(name_of_split), name) for line, name_of_split, name in rows)


def _read_lines(source: Source, path: str) -> list[str]:
    try:
        return source.read(path).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"split_files: {path} is not a text file (UTF-8)") from None
    except Exception as error:  # an object store raises anything
        raise ValueError(f"split_files: {path} cannot be read from the root {source.name}: {error}") from None


def _plain(lines: list[str], split: str | None, path: str) -> Iterator[tuple[int, str, str]]:
    if split is None:
        raise ValueError(
            f"split_files: {path} is a plain list, so it must say of which split: {{test: {path}}}, for example"
        )
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield number, split, line.strip()


def _rows(lines: list[str], split: str | None, path: str) -> Iterator[tuple[int, str, str]]:
    """Entries of a CSV; where it has a column of splits, those of the wanted one."""
    header = lines[0] if lines else ""
    delimiter = max(",;\t", key=header.count)
    reader = csv.DictReader(lines, delimiter=delimiter)
    columns = {name.strip().lower(): name for name in reader.fieldnames or () if name}
    column = next((columns[name] for name in _NAMED if name in columns), None)
    if column is None or (split is None and _SPLIT not in columns):
        needed = f"a column {', '.join(_NAMED[:-1])} or {_NAMED[-1]}" + ("" if split else f" and a column {_SPLIT}")
        raise ValueError(f"split_files: {path} needs {needed}; it has {', '.join(columns) or 'none'}")
    for row in reader:
        name, of_row = (row[column] or "").strip(), (row.get(columns.get(_SPLIT, ""), split) or "").strip()
        if name and (split is None or _SPLIT not in columns or split_name(of_row) == split_name(split)):
            yield reader.line_num, split or of_row, name


def _match(names: Iterable[str], paths: list[str]) -> dict[str, list[str]]:
    """Find the paths that each name may mean: the whole path, else its end, first with its ending, then without."""
    keys = {name: _key(name) for name in names}
    by_key: dict[str, list[list[str]]] = {key: [[], [], [], []] for key in keys.values()}
    # Lists of pairs name a photograph and its mask in one line
    first = {name: _key(name.split()[0]) for name in keys}
    by_key |= {key: [[], [], [], []] for key in first.values()}
    for path in paths:
        lower = path.lower()
        stem = lower.removesuffix(PurePosixPath(lower).suffix)
        for tier, whole in ((0, lower), (2, stem)):
            if whole in by_key:
                by_key[whole][tier].append(path)
            at = whole.find("/")
            while at >= 0:
                if whole[at + 1 :] in by_key:
                    by_key[whole[at + 1 :]][tier + 1].append(path)
                at = whole.find("/", at + 1)
    found = {}
    for name, key in keys.items():
        for tried in (key, first[name]):
            matches = next((matches for matches in by_key[tried] if matches), None)
            if matches:
                found[name] = matches
                break
    return found


def _key(name: str) -> str:
    return name.replace("\\", "/").removeprefix("./").lstrip("/").lower()


def _refuse_strangers(entries: list[tuple[str, int, str, str]], understood: set[str]) -> None:
    for file in dict.fromkeys(file for file, *_ in entries):
        names = [name for of_file, _, _, name in entries if of_file == file]
        if understood.isdisjoint(names):
            raise ValueError(
                f"split_files: none of the {len(names):,} entries of {file} names one photograph; an entry is a path "
                f"relative to the root, or its end, with or without the ending, and the first is {names[0]!r}"
            )
