"""Errors as one clear message instead of a page of traceback."""

from __future__ import annotations

import os
import sys
import traceback
from types import TracebackType

VARIABLE = "CRACK_PIPELINE_TRACEBACK"


def report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an uncaught error to stderr: its message alone, or all of it where the environment asks for that."""
    if os.environ.get(VARIABLE) or issubclass(kind, KeyboardInterrupt):
        traceback.print_exception(kind, error, trace)
        return
    message = str(error).strip() or kind.__name__
    print(f"\n{kind.__name__}: {message}", file=sys.stderr)
    cause = error.__cause__
    if cause is not None and str(cause) and str(cause) not in message:
        print(f"because of {type(cause).__name__}: {cause}", file=sys.stderr)
    print(f"({VARIABLE}=1 shows the whole traceback)", file=sys.stderr)


def install() -> None:
    """Report the uncaught errors of this process with :func:`report`."""
    sys.excepthook = report
