import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # for hostile and ingesting, which the benchmarks share

from ingesting import Workspace


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "project")
