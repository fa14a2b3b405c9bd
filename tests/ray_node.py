"""One node of Ray on this machine, with token authentication."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import crack_pipeline

_TOKEN = secrets.token_hex(32)
"""Ray reads it once in a process."""
_SOURCES = (Path(crack_pipeline.__file__).parents[1], Path(__file__).parent)


@contextmanager
def one_node(folder: Path) -> Iterator[None]:
    """Start a node of one core, and join it; ``folder`` is for its token."""
    (folder / "token").write_text(_TOKEN)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN_PATH", str(folder / "token"))
        patch.setenv("PYTHONPATH", os.pathsep.join(map(str, _SOURCES)))
        import ray  # not before: it reads its settings then

        ray.init(
            address="local",
            num_cpus=1,
            object_store_memory=100_000_000,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
        try:
            yield
        finally:
            ray.shutdown()
