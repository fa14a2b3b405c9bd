"""Messages that the documentation explains are messages that the code gives."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from documented import ROOT

PAGE, CLUSTER = ROOT / "docs/troubleshooting.md", ROOT / "docs/ray.md"
VALUE = re.compile(
    r"\b\d+ workers of 1 cores and 0 GPUs$|(?:\b(?:Ray|Python|crack-pipeline) )?\b\d[\w.:]*|(?<=\s)raw_root /\S+|/\S+"
    r"|\bOSError: \w\.jpg|\bNo such file or directory|\bcuda$"
)
"""What stands in an example in the place of something that differs: numbers, versions, addresses, paths."""
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


def messages_of_a_cluster():
    """Read what is said there, in parts: some are put together of a line for all and one for each node."""
    inside = False
    for line in CLUSTER.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip(" |") for cell in line.split(" | ")]
        inside = line.startswith("|") and (inside or cells[-1] in ("what is said", "what happens"))
        for message in re.findall(r"`([^`]+)`", cells[-1]) if inside else ():
            if len(message.split()) > 3:
                yield from re.split(r"(?<=:) (?=10\.0\.0\.2: )", message)


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


def is_said(parts):
    """Whether a text of the code has these parts, one after the other."""
    pattern = re.compile(".*".join(re.escape(part.strip()) for part in parts if part.strip()), re.DOTALL)
    return any(pattern.search(text) for text in texts())


@pytest.mark.parametrize("message", sorted(set(messages())))
def test_the_code_says_so(message):
    assert is_said(re.split("…", message))


@pytest.mark.parametrize("message", sorted(set(messages_of_a_cluster())))
def test_the_code_says_so_of_a_cluster(message):
    assert is_said(part for part in re.split("…", VALUE.sub("…", message)) if len(part) > 2)


def test_there_are_many():
    assert len(set(messages())) > 30
    assert len(set(messages_of_a_cluster())) > 15
