"""Ingest a folder of hostile files of named kinds and print what the quarantine says of each.

python benchmarks/hostile_files.py
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import hostile
from ingesting import Workspace


def main() -> None:
    """Make the folder, ingest it, print the table."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "photographs"
        kinds = hostile.make(root)
        done = Workspace(Path(scratch)).ingest(root, parameters={"reading": {"max_bad_share": 0.6}})
        found = done.quarantine.set_index("path")
        print(f"\n{'hostile file':46} {'quarantined as':17} reason")
        survived = 0
        for kind, (path, word) in kinds.items():
            row = found.loc[path]
            survived += row["kind"] == word
            print(f"{kind:46} {row['kind']:17} {row['reason'].replace(scratch, '…')}")
        print(
            f"\n{survived} of {len(kinds)} kinds quarantined as expected; "
            f"{len(done.manifest)} healthy photographs kept of {len(hostile.HEALTHY) + 30}"
        )


if __name__ == "__main__":
    main()
