"""Points and boxes by which people say what of a photograph is structure."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

REQUIRED = ("path", "kind", "x", "y")
OPTIONAL = ("x2", "y2", "label")


class Point(NamedTuple):
    """A place in a photograph, px from its upper left corner."""

    x: float
    y: float
    foreground: bool


class Box(NamedTuple):
    """A box around structure, px from the upper left corner of the photograph."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class Prompts:
    """What is said of one photograph: at least one box, or one point on the structure."""

    points: tuple[Point, ...] = field(default=())
    boxes: tuple[Box, ...] = field(default=())

    def furthest(self) -> tuple[float, float]:
        """Give the largest x and y, px, to compare with the size of the photograph."""
        xs = [point.x for point in self.points] + [box.right for box in self.boxes]
        ys = [point.y for point in self.points] + [box.bottom for box in self.boxes]
        return max(xs), max(ys)


def read_prompts(text: bytes, paths: Iterable[str]) -> dict[str, Prompts]:
    r"""Read prompts from a table.

    Parameters
    ----------
    text
        CSV in UTF-8, with commas or semicolons, with the columns ``path`` (of a photograph), ``kind`` (``point`` or
        ``box``), ``x``, ``y`` and, as needed, ``x2``, ``y2`` (the opposite corner of a box) and ``label`` (of a point:
        1 structure, as where it is empty, or 0 background). Coordinates are px of the upright photograph, from its
        upper left corner.
    paths
        Of the photographs that there are, relative to their root, with ``/``.

    Returns
    -------
    dict of str to Prompts
        By path; photographs without a row are not in it.

    Raises
    ------
    ValueError
        If the table is wrong; the message names the row, as an editor counts lines.

    Examples
    --------
    >>> read_prompts(b"path,kind,x,y\npier.jpg,point,400,300\n", ["pier.jpg"])["pier.jpg"].points
    (Point(x=400.0, y=300.0, foreground=True),)
    """
    try:
        decoded = text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"the prompts are no text in UTF-8: {error.reason} at byte {error.start}") from error
    header = decoded.partition("\n")[0]
    delimiter = ";" if header.count(";") > header.count(",") else ","
    rows = csv.DictReader(io.StringIO(decoded, newline=""), delimiter=delimiter)
    try:
        names = [name.strip() for name in rows.fieldnames or ()]
        _check_columns(names)
        rows.fieldnames = names
        known = set(paths)
        points: dict[str, list[Point]] = {}
        boxes: dict[str, list[Box]] = {}
        first: dict[str, int] = {}
        for row in rows:
            where = f"line {rows.line_num} of the prompts"
            if None in row:
                raise ValueError(f"{where} has more fields than the first line names")
            fields = {name: (value or "").strip() for name, value in row.items()}
            if not any(fields.values()):
                continue
            path = fields["path"].replace("\\", "/").removeprefix("./")
            if path not in known:
                raise ValueError(f"{where}: there is no photograph {fields['path']!r}, relative to the root")
            first.setdefault(path, rows.line_num)
            if fields["kind"] == "point":
                points.setdefault(path, []).append(_point(fields, where))
            elif fields["kind"] == "box":
                boxes.setdefault(path, []).append(_box(fields, where))
            else:
                raise ValueError(f"{where}: kind is {fields['kind']!r}, and takes point or box")
    except csv.Error as error:
        raise ValueError(f"the prompts are no CSV table: line {rows.line_num}: {error}") from error
    found = {}
    for path, line in first.items():
        prompts = Prompts(tuple(points.get(path, ())), tuple(boxes.get(path, ())))
        if not prompts.boxes and not any(point.foreground for point in prompts.points):
            raise ValueError(
                f"line {line} of the prompts: of {path} there are only points on the background; add a point with the "
                "label 1, or a box"
            )
        found[path] = prompts
    return found


def check_inside(prompts: Prompts, size: tuple[int, ...]) -> None:
    """Raise ValueError if a prompt lies outside its photograph, of ``size`` (H, W)."""
    x, y = prompts.furthest()
    if x > size[1] or y > size[0]:
        raise ValueError(
            f"a prompt reaches to x {x:g}, y {y:g}, and the photograph is {size[1]} × {size[0]} px: coordinates are "
            "those of the upright photograph in its full size"
        )


def _check_columns(names: list[str]) -> None:
    if missing := [name for name in REQUIRED if name not in names]:
        raise ValueError(
            f"the prompts have no column {missing[0]}; the first line names {', '.join(REQUIRED)} and, as needed, "
            f"{', '.join(OPTIONAL)}"
        )
    for name in names:
        if name not in REQUIRED + OPTIONAL:
            raise ValueError(f"the prompts have an unknown column {name!r}; there are {', '.join(REQUIRED + OPTIONAL)}")
        if names.count(name) > 1:
            raise ValueError(f"the prompts have the column {name} twice")


def _number(fields: Mapping[str, str], name: str, where: str) -> float:
    text = fields.get(name, "")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0:
        what = f"is {text!r}" if text else "is missing"
        raise ValueError(f"{where}: {name} {what}, and must be a number of px, at least 0")
    return value


def _point(fields: Mapping[str, str], where: str) -> Point:
    label = fields.get("label", "") or "1"
    if label not in ("0", "1"):
        raise ValueError(f"{where}: label is {label!r}, and takes 1 (structure) or 0 (background)")
    for name in ("x2", "y2"):
        if fields.get(name):
            raise ValueError(f"{where}: a point has no {name}; a box has")
    return Point(_number(fields, "x", where), _number(fields, "y", where), label == "1")


def _box(fields: Mapping[str, str], where: str) -> Box:
    if fields.get("label", "") not in ("", "1"):
        raise ValueError(f"{where}: label is {fields['label']!r}; a box is always around structure")
    x, y, x2, y2 = (_number(fields, name, where) for name in ("x", "y", "x2", "y2"))
    if x == x2 or y == y2:
        raise ValueError(f"{where}: the box from {x:g}, {y:g} to {x2:g}, {y2:g} is empty")
    return Box(min(x, x2), min(y, y2), max(x, x2), max(y, y2))
