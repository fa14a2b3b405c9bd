"""Messages that the documentation explains are messages that the code gives."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from documented import ROOT

PAGE = ROOT / "docs/troubleshooting.md"
OF_OTHERS = (
    "Extra inputs",
    "Failed to find the pipeline",
    "Registered model alias",
    "address already in use",
    "uvicorn",
)
OF_OTHERS += ("operator torchvision", "Python 3.11 or newer")


def messages():
    """Read the first column of the tables: what stands there as code."""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("| `"):
            for message in re.findall(r"`([^`]+)`", line.split(" | ")[0]):
                if (
                    len(message.split()) > 3
                    and not message.startswith(OF_OTHERS)
                    and not any(o in message for o in OF_OTHERS)
                ):
                    yield message


@cache
def texts():
    """Every text of the code; what is put into it is a zero byte."""
    found = []
    for file in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (part.value if isinstance(part, ast.Constant) else "\0" for part in node.values)
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


@pytest.mark.parametrize("message", sorted(set(messages())))
def test_the_code_says_so(message):
    parts = [part for part in re.split(r"…", message) if part.strip()]
    pattern = re.compile(".*".join(re.escape(part.strip()) for part in parts), re.DOTALL)
    assert any(pattern.search(text) for text in texts())


def test_there_are_many():
    assert len(set(messages())) > 30
