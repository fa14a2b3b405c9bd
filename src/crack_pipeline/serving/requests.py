"""What a request to a served model holds: the forms that MLflow's server takes, read row by row.

MLflow's server makes a table of them first, in which rows with a name each for their photograph, or one long text among
short ones, take the square of their memory.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

IMAGE, PARAMS = "image", "params"
FORMS = ("dataframe_records", "dataframe_split", "inputs", "instances")
MOST = 10_000
"""Photographs in a request, of any model; each model has a limit of its own."""


class Request(NamedTuple):
    """Photographs as they were sent, not looked at yet, and wishes by name."""

    photographs: list[Any]
    params: dict[str, Any]


def read_request(body: bytes) -> Request:
    """Read the body of a request.

    Parameters
    ----------
    body
        JSON: an object with one of `FORMS`, and perhaps ``params``.

    Raises
    ------
    ValueError
        If it is none; the message is for who sent it.

    Examples
    --------
    >>> read_request(b'{"inputs": {"image": ["one", "two"]}, "params": {"threshold": 0.5}}')
    Request(photographs=['one', 'two'], params={'threshold': 0.5})
    """
    try:
        request = json.loads(body)
    except RecursionError:
        raise ValueError("the body is nested too deeply") from None
    except ValueError as error:  # also bytes that are no text, and numbers of thousands of digits
        raise ValueError(f"the body is no valid JSON: {error}") from None
    if not isinstance(request, dict):
        raise ValueError(f"the body is a JSON object with one of {', '.join(FORMS)}")
    forms, others = [name for name in request if name in FORMS], sorted({*request} - {*FORMS, PARAMS})
    if len(forms) != 1 or others:
        held = ascii(others[0][:40]) if others else f"{len(forms)} of them"
        raise ValueError(f"a request holds one of {', '.join(FORMS)}, perhaps {PARAMS}, and nothing else, not {held}")
    params = request.get(PARAMS)
    if not isinstance(params, dict | None):
        raise ValueError(f"{PARAMS} must be an object: a value by name")
    (form,) = forms
    photographs = _split(request[form]) if form == "dataframe_split" else _listed(form, request[form])
    if len(photographs) > MOST:
        raise ValueError(f"{len(photographs):,} images are more than the {MOST:,} that a request may ever hold")
    return Request(photographs, params or {})


def _split(table: Any) -> list[Any]:
    columns, rows = (table.get(name) if isinstance(table, dict) else None for name in ("columns", "data"))
    if (
        not isinstance(columns, list)
        or not isinstance(rows, list)
        or columns.count(IMAGE) != 1
        or not all(isinstance(row, list) and len(row) == len(columns) for row in rows)
    ):
        raise ValueError(f'dataframe_split is {{"columns": ["{IMAGE}"], "data": [[photograph], [photograph], …]}}')
    place = columns.index(IMAGE)
    return [row[place] for row in rows]


def _listed(form: str, rows: Any) -> list[Any]:
    """Give the photographs of a list of objects, or, where it need not be one, of a list or an object of a list."""
    by_name = form == "dataframe_records"
    if not by_name and isinstance(rows, dict) and IMAGE in rows:
        found = rows[IMAGE]
        rows = [found] if isinstance(found, str) else found
    if not isinstance(rows, list) or (by_name and not all(isinstance(row, dict) for row in rows)):
        raise ValueError(f'{form} is a list of photographs, each {{"{IMAGE}": photograph}}')
    for number, row in enumerate(rows):
        if isinstance(row, dict) and IMAGE not in row:
            raise ValueError(f"row {number} has no {IMAGE}")
    return [row[IMAGE] if isinstance(row, dict) else row for row in rows]
