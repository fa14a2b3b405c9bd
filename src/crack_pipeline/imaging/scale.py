"""How many millimetres of a surface a pixel of its photograph shows."""

from __future__ import annotations

import csv
import io
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from pydantic import BaseModel, ConfigDict, Field

_DIRECT = "millimetres_per_pixel"
_OPTICS = ("distance_m", "focal_length_mm", "sensor_width_mm")
_LISTED = 3
LEAST, MOST = 1e-4, 1e4
"""Of any number here: what is beyond is another unit."""


class Optics(BaseModel):
    """Where a photograph was taken from, and with what: at right angles to a flat surface."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    distance_m: float = Field(ge=LEAST, le=MOST, description="from the lens to the surface, m")
    focal_length_mm: float = Field(
        ge=LEAST, le=MOST, description="the real one of the lens, not that in terms of 35 mm film"
    )
    sensor_width_mm: float = Field(
        ge=LEAST, le=MOST, description="of the sensor's longer side, which is the photograph's"
    )

    def millimetres_per_pixel(self, width: int, height: int) -> float:
        """Give the scale of a photograph of ``width`` × ``height`` px, after the pinhole camera.

        Examples
        --------
        >>> round(Optics(distance_m=2, focal_length_mm=24, sensor_width_mm=36).millimetres_per_pixel(6000, 4000), 3)
        0.5
        """
        return 1000 * self.distance_m / self.focal_length_mm * self.sensor_width_mm / max(width, height)


Scale = float | Optics
"""Millimetres per pixel, or what they follow from."""


def resolve(scale: Scale | None, width: int, height: int) -> float | None:
    """Give the millimetres per pixel of a photograph of ``width`` × ``height`` px; None where no scale is known."""
    return scale.millimetres_per_pixel(width, height) if isinstance(scale, Optics) else scale


def read_scales(text: bytes, paths: Sequence[str], name: str = "scale.csv") -> dict[str, Scale]:
    r"""Read the scales of photographs from a table.

    Parameters
    ----------
    text
        CSV, UTF-8, with commas, or semicolons and then perhaps decimal commas. Columns: ``path``, and
        ``millimetres_per_pixel`` or all of ``distance_m``, ``focal_length_mm`` and ``sensor_width_mm``, or both, of
        which each row fills in one. ``path`` is that of a photograph, relative to the root, or a pattern with ``*`` and
        ``?``; the first row that matches counts.
    paths
        Of the photographs.
    name
        Of the table, for messages.

    Returns
    -------
    dict of str to Scale
        By path; those that no row matches are missing.

    Raises
    ------
    ValueError
        If the table is none or has no row, a column is unknown or missing, a value is not a number between 0.0001 and
        10,000, a row says nothing or two different things, matches no photograph, or none that an earlier row has not
        decided; the message names table and row.

    Examples
    --------
    >>> read_scales(b"path,millimetres_per_pixel\npier/*,0.25\n", ["pier/a.jpg", "deck.jpg"])
    {'pier/a.jpg': 0.25}
    """
    rows = _rows(text, name)
    found: dict[str, Scale] = {}
    for number, row in rows:
        pattern = row["path"]
        if not pattern:
            raise ValueError(f"{name}, row {number}: path is empty; it takes a path relative to the root, or a pattern")
        matching = [path for path in paths if _matches(path, pattern)]
        if not matching:
            some = ", ".join(list(paths)[:_LISTED]) + (", …" if len(paths) > _LISTED else "")
            raise ValueError(f"{name}, row {number}: no photograph is called {pattern}; there are {some or 'none'}")
        new = [path for path in matching if path not in found]
        if not new:
            raise ValueError(
                f"{name}, row {number}: rows above have already given the scale of all that {pattern} names; the first "
                "row counts, so put it above them"
            )
        found |= dict.fromkeys(new, _scale(row, f"{name}, row {number}"))
    return {path: found[path] for path in paths if path in found}


def _rows(text: bytes, name: str) -> list[tuple[int, dict[str, str]]]:
    """Read the rows that are not empty, with their numbers as a spreadsheet counts them."""
    try:
        content = text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} is not text in UTF-8: save it as CSV (UTF-8)") from error
    first = content.partition("\n")[0]
    delimiter = ";" if first.count(";") > first.count(",") else ","
    reader = csv.reader(io.StringIO(content), delimiter=delimiter)
    try:
        lines = [(reader.line_num, [cell.strip() for cell in line]) for line in reader]
    except csv.Error as error:
        raise ValueError(f"{name} is not a CSV table: {error}") from error
    header = lines[0][1] if lines else []
    known = ("path", _DIRECT, *_OPTICS)
    unknown = [column for column in header if column not in known]
    if "path" not in header or unknown or len(set(header)) < len(header) or not _says_scale(header):
        raise ValueError(
            f"{name} has the columns {', '.join(header) or 'none'}; it takes path, and {_DIRECT} or all of "
            f"{', '.join(_OPTICS)}"
        )
    rows = []
    for number, line in lines[1:]:
        if not any(line):
            continue
        if len(line) != len(header):
            raise ValueError(
                f"{name}, row {number}: {len(line)} values for {len(header)} columns; decimal fractions take a point"
            )
        row = dict(zip(header, line, strict=True))
        if delimiter == ";":
            row = {name: cell if name == "path" else cell.replace(",", ".") for name, cell in row.items()}
        rows.append((number, row))
    if not rows:
        raise ValueError(f"{name} has no row below its header")
    return rows


def _says_scale(header: Iterable[str]) -> bool:
    return _DIRECT in header or set(_OPTICS) <= set(header)


def _scale(row: Mapping[str, str], where: str) -> Scale:
    given = {column: _positive(row[column], column, where) for column in (_DIRECT, *_OPTICS) if row.get(column)}
    optics = {column: given[column] for column in _OPTICS if column in given}
    if _DIRECT in given and not optics:
        return given[_DIRECT]
    if len(optics) == len(_OPTICS) and _DIRECT not in given:
        return Optics(**optics)
    raise ValueError(
        f"{where}: it takes either {_DIRECT} or all of {', '.join(_OPTICS)}, got {', '.join(given) or 'none'}"
    )


def _positive(value: str, column: str, where: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not LEAST <= number <= MOST:
        raise ValueError(
            f"{where}: {column} is {value}, and must be a number between {LEAST:g} and {MOST:,.0f}, with a point for "
            "decimals"
        )
    return number


def _matches(path: str, pattern: str) -> bool:
    # Some systems write accents as characters of their own.
    path, pattern = (unicodedata.normalize("NFC", name) for name in (path, pattern))
    wanted = "".join({"*": ".*", "?": "."}.get(character, re.escape(character)) for character in pattern)
    return path == pattern or re.fullmatch(wanted, path, re.DOTALL) is not None
