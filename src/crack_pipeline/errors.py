"""Errors as one clear message instead of a page of traceback."""

from __future__ import annotations

import logging
import os
import re
import sys
import traceback
from types import TracebackType

from kedro.validation.exceptions import ParameterValidationError

from crack_pipeline.surroundings import MissingVariableError, missing_variable

VARIABLE = "CRACK_PIPELINE_TRACEBACK"

_PARAMETER = re.compile(r"^- Parameter '(?P<name>[^']+)': Failed to instantiate .* validation errors? for ")
_PROBLEM = re.compile(r"^  (?P<text>\S.*?) \[type=(?P<type>\w+), input_value=(?P<value>.*), input_type=\w+\]$")


def report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an uncaught error to stderr: its message alone, or all of it where the environment asks for that."""
    if os.environ.get(VARIABLE) or issubclass(kind, KeyboardInterrupt):
        traceback.print_exception(kind, error, trace)
        return
    if missing := missing_variable(error):
        error, kind = missing, MissingVariableError
    message = str(error).strip() or kind.__name__
    if issubclass(kind, ParameterValidationError):
        message = explain_parameters(message)
    print(f"\n{kind.__name__}: {message}", file=sys.stderr)
    cause = error.__cause__
    if cause is not None and str(cause) and str(cause) not in message:
        print(f"because of {type(cause).__name__}: {cause}", file=sys.stderr)
    print(f"({VARIABLE}=1 shows the whole traceback)", file=sys.stderr)


def explain_parameters(message: str) -> str:
    """Write Kedro's report of wrong parameters as one line a parameter: its full name, what is wrong, what it got.

    A report of another form comes back as it is.
    """
    found: list[str] = []
    name, field = "", ""
    for line in message.splitlines():
        if parameter := _PARAMETER.match(line):
            name, field = parameter["name"], ""
        elif problem := _PROBLEM.match(line):
            got = "" if problem["type"] in ("value_error", "missing") else f", got {problem['value']}"
            text = problem["text"].removeprefix("Value error, ")
            found.append(f"{'.'.join(filter(None, (name, field)))}: {text}{got}")
        elif line and not line.startswith((" ", "-")):
            field = line
        elif line.startswith("- Parameter"):
            return message
    return "\n  ".join(found) if found else message


def install() -> None:
    """Report the uncaught errors of this process with :func:`report`."""
    sys.excepthook = report
    # It logs what it then raises, and one message is enough.
    logging.getLogger("kedro.validation.parameter_validator").setLevel(logging.CRITICAL)
