"""Numbers with units, times and names of files in words that any document can hold."""

from __future__ import annotations

import re
from datetime import datetime

_SPACE = "\N{NO-BREAK SPACE}"
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def plain(text: str) -> str:
    """Replace what no document can hold, halves of characters as of broken file names, and what makes one deceive.

    Control characters do both: those of directions show a name in another order than its own.

    Examples
    --------
    >>> plain("deck" + chr(0) + chr(0xDCFF) + ".jpg").isprintable()
    True
    """
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text.encode("utf-8", "surrogatepass").decode("utf-8", "replace"))


def number(value: float) -> str:
    """Write a number with about three digits that count.

    Examples
    --------
    >>> number(0.123), number(12.34), number(1234.5)
    ('0.12', '12.3', '1,234')
    """
    size = abs(value)
    return f"{value:,.{0 if size >= 100 else 1 if size >= 10 else 2}f}"


def quantity(value: float, unit: str) -> str:
    """Write a number and its unit, which stay on one line."""
    return f"{number(value)}{_SPACE}{unit}"


def distance(millimetres: float) -> str:
    """Write a length in m from one metre on, in mm below."""
    return quantity(millimetres / 1000, "m") if millimetres >= 1000 else quantity(millimetres, "mm")


def share(value: float) -> str:
    """Write a share from 0 to 1 in per cent.

    Examples
    --------
    >>> share(0.5), share(0.00004), share(0)
    ('50 %', '< 0.01 %', '0 %')
    """
    percent = 100 * value
    if 0 < percent < 0.01:
        return f"<{_SPACE}0.01{_SPACE}%"
    return f"{f'{percent:.2f}' if 0 < percent < 1 else f'{percent:.3g}'}{_SPACE}%"


def moment(made: datetime) -> str:
    """Write a day and a time with its zone."""
    return f"{made.day} {made:%B %Y, %H:%M} (UTC{made:%z})"
