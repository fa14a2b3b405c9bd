"""The commands that the documentation names, and how each of them is tried.

Two tables are what a new page may need a line in: ``PLACEHOLDERS``, for what a reader puts something of their own in
the place of, and ``RECIPES``, for programs that nobody has named before. ``SMALL`` holds the smallest settings of a
benchmark.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]

_FENCE = re.compile(r"^(?P<indent>\s*)(?P<fence>```+|~~~+)\s*(?P<language>[\w-]*)")
_SHELLS = {"sh", "bash", "shell", "console"}
_INLINE = re.compile(r"(?<!`)`((?:kedro|python|mlflow|make|pytest|mkdocs|airflow|ray|docker) [^`\n]+)`(?!`)")
_NAMES = ("--pipeline", "kedro run", "models serve", "…")
"""Ends of what a sentence names and nobody is to type as it stands."""
_COMMENT = re.compile(r"""^((?:[^'"#]|'[^']*'|"(?:\\.|[^"])*"|(?<=\S)#)*?)\s+#\s.*$""")
_HEREDOC = re.compile(r"<<-?\s*['\"]?(\w+)['\"]?")

PLACEHOLDERS: dict[str, str] = {
    # A pattern of what stands in the documentation, and the folder or file of the world (tests/docs/conftest.py)
    r"<data>/metu/Negative": "metu/Negative",
    r"<data>/metu": "metu",
    r"<data>/deepcrack": "deepcrack",
    r"<data>/uav75": "uav75",
    r"<data>/bridge": "bridge",
    r"<data>": ".",
    r"<30 of the 118 test photographs of DeepCrack>": "deepcrack",
    r"<60 \+ 60 photographs of METU>": "metu",
    r"<a trained segmenter>": "segmenter.safetensors",
    r"/path/to/weights\.pth": "densenet169.pth",
    r"/data/bridges(?=,dataset=pairs)": "pairs",
    r"(?<=raw_root=)/labelled\b": "sample",
    r"/folder/with/masks,dataset=my_bridge": "pairs,dataset=pairs",
    r"/folder/with/masks": "pairs",
    r"models:/…@champion": "models:/segmentation@champion",
    r"/folder/with/classes": "sample",
    r"/other/folder(?=,dataset=pairs)": "pairs",
    r"/folder(?=,dataset=pairs)": "pairs",
    r"/(some|other)/folder": "sample",
    r"/photographs/of/sound/concrete|/sound/concrete": "sample/Negative",
    r"/new/photographs(\.zip)?|/photographs/of/(a/bridge|pier_7)": "new",
    r"/some/photographs\.zip": "sample.zip",
    r"(?<==)/folder": "sample",
    r"(?<=[\s=])/photographs\b": "new",
    r"(?<=raw_root=)…": "pairs,dataset=pairs",
}

SMALL: dict[str, str] = {
    # The smallest settings of a benchmark: they come after those that the documentation names, and count
    "crack_measuring.py": "--cracks 2",
    "drift.py": "--photographs 60",
    "foreground.py": "",
    "hostile_files.py": "",
    "ingestion.py": "--counts 60 90",
    "inpainting.py": "--squares 6",
    "inspection.py": "--number 2",
    "large_photograph.py": "--megapixels 2 --whole 256 --size 256",
    "near_duplicates.py": "--copies 4",
    "onnx_export.py": "--photographs 1 --rounds 1 --threads 1 --side 64",
    "promotion_errors.py": "--trials 2 --resamples 100",
    "segmentation_training.py": "--steps 4 --batch 2 --crop 64 --photograph 256",
    "serving.py": "--seconds 0.3 --rounds 1 --clients 1 2",
    "simulation.py": "--squares 32 --steps 3 --batch 4",
    "training.py": "--images 64 --epochs 2",
}
LARGE_OPTIONS = ("--panorama", "--compile", "--only", "--server")
"""Options of benchmarks that are left out when they are tried: they ask for more of the same."""


@dataclass(frozen=True)
class Recipe:
    """How commands of one kind are tried.

    Parameters
    ----------
    pattern
        What they look like.
    how
        ``kedro``: run, after its parameters were checked; ``run``: run as it is; ``benchmark``: run with the smallest
        settings; ``serve``: started, asked with the commands of the kind ``ask`` on the same page, and stopped;
        ``ask``, ``set``: see there, sets a variable for what follows; ``elsewhere``: not run, because of `why`.
    why
        One sentence for the reader.
    """

    pattern: str
    how: str
    why: str = ""


RECIPES: tuple[Recipe, ...] = (
    # The first that fits counts. Commands of Kedro's are checked, not run, where they say why
    Recipe(
        r"kedro run\b.*--env server\b", "elsewhere", "needs the servers of conf/server, which tests of their own start"
    ),
    Recipe(r"kedro run\b.*compute\.engine=ray\b", "elsewhere", "needs a cluster, which tests of their own start"),
    Recipe(r"(\w+=\S+ )*kedro run\b", "kedro"),
    Recipe(r"kedro (registry|catalog|info)\b", "run"),
    Recipe(
        r"kedro viz\b|make viz\b", "elsewhere", "a server of Kedro's: tests/end_to_end/test_viz.py builds its pages"
    ),
    Recipe(r"kedro mlflow ui|make mlflow\b", "elsewhere", "a server of MLflow's own that shows what is tracked"),
    Recipe(r"python benchmarks/(promotion_races|ways_to_learn)\.py", "elsewhere", "many minutes in its smallest form"),
    Recipe(r"python benchmarks/(airflow_run|retraining_kills)\.py", "elsewhere", "many minutes, or needs Airflow"),
    Recipe(r"python benchmarks/storage\.py", "elsewhere", "minutes, most of which it waits for what does not answer"),
    Recipe(r"python benchmarks/ray_\w+\.py", "elsewhere", "minutes on two hosts in network namespaces of their own"),
    Recipe(
        r"deploy/ray/start\.sh\b", "elsewhere", "needs the machines of a cluster: tests/test_ray_deployment.py runs it"
    ),
    Recipe(r"(\w+=\S+ )*python benchmarks/\w+\.py", "benchmark"),
    Recipe(r"python docs/tools/pictures\.py", "elsewhere", "trains for minutes; what it makes lies in docs/pictures"),
    Recipe(r"python -m crack_pipeline\.serving\.server\b", "serve"),
    Recipe(r"(\w+=\S+ )*python -m crack_pipeline\.", "run"),
    Recipe(r"(\w+=(?:'[^']*'|\S+) )*mlflow models serve", "serve"),
    Recipe(r"echo .*> request\.json|curl .*localhost:\d+/invocations", "ask"),
    Recipe(r"export \w+=|source \.venv/bin/activate|\. \.venv/bin/activate|echo \$\?|cd \S+$", "set"),
    Recipe(r"make run TORCH=|make PYTHON=", "elsewhere", "sets up an environment of several GB"),
    Recipe(r"make (run|docs)\b", "run"),
    Recipe(
        r"make (test|lint)\b|(\w+=\S+ )*pytest\b|\.ci/run", "elsewhere", "what continuous integration runs: this suite"
    ),
    Recipe(r"make requirements\b|(\.venv/bin/)?(uv )?pip install\b", "elsewhere", "asks the package index"),
    Recipe(r"\.venv/bin/pre-commit|git clone\b", "elsewhere", "downloads"),
    Recipe(r"sudo |cd /opt/|(apt|apt-get|systemctl|loginctl|journalctl|crontab)\b", "elsewhere", "changes the machine"),
    Recipe(r"deploy/\w+\.sh\b", "elsewhere", "what a timer starts: tests of deploy run it"),
    Recipe(r"(kedro )?airflow\b|cp deploy/airflow", "elsewhere", "needs Airflow, in an environment of its own"),
    Recipe(r"(docker|podman|kubectl|helm)\b", "elsewhere", "needs a container engine or a cluster"),
    Recipe(r"aws s3\b", "elsewhere", "needs an object store, which tests of their own start"),
    Recipe(r"(\w+=\S+ )*ray \w+", "elsewhere", "starts or asks a cluster: tests of their own do"),
    Recipe(
        r"mlflow (server|db|gc)\b|(psql|createdb|createuser|pg_ctl)\b",
        "elsewhere",
        "servers that tests of their own start",
    ),
    Recipe(r"nvidia-smi\b", "elsewhere", "needs a GPU"),
)


@dataclass(frozen=True)
class Command:
    """A command and where it stands."""

    page: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.text}"

    @property
    def recipe(self) -> Recipe | None:
        """How it is tried; the first recipe that fits, None if there is none."""
        return next((recipe for recipe in RECIPES if re.match(recipe.pattern, self.text)), None)

    @property
    def words(self) -> list[str]:
        """The command's words; a placeholder in angle brackets stays one word."""
        held = re.sub(r"<[^<>\n]+>", lambda found: found[0].replace(" ", "\x00"), self.text)
        return [word.replace("\x00", " ") for word in shlex.split(held)]

    def option(self, name: str, default: str = "") -> str:
        """Give what follows an option."""
        words = self.words
        return words[words.index(name) + 1] if name in words else default


def pages() -> list[Path]:
    """Every page with commands: README, documentation, benchmarks, and what is beside files to install."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "benchmarks/README.md"]
    return found + sorted((ROOT / "deploy").rglob("*.md"))


def commands(page: Path) -> Iterator[Command]:
    """Read the commands of a page: the lines of its shell blocks, and code in its sentences that is a whole command."""
    name = page.relative_to(ROOT).as_posix()
    for language, _, number, lines in blocks(page):
        if language in _SHELLS:
            for line, text in _joined(lines):
                yield Command(name, number + line, text)
    outside = _without_blocks(page.read_text(encoding="utf-8"))
    for number, line in enumerate(outside.splitlines(), 1):
        for found in _INLINE.finditer(line):
            text = found[1].strip()
            if not text.endswith(_NAMES) and "kedro run --pipeline <" not in text:
                yield Command(name, number, text)


def blocks(page: Path) -> Iterator[tuple[str, str, int, list[str]]]:
    """Read the fenced blocks of a page: language, the rest of the opening line, its number, and the lines inside."""
    opened: tuple[str, str, str, int] | None = None
    inside: list[str] = []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        fence = _FENCE.match(line)
        if opened is None and fence:
            opened = fence["fence"], fence["language"], line[fence.end() :].strip(), number
            inside = []
        elif opened is not None and line.strip() == opened[0]:
            yield opened[1], opened[2], opened[3], inside
            opened = None
        elif opened is not None:
            inside.append(line)


def _without_blocks(text: str) -> str:
    """Empty the lines of fenced blocks; line numbers stay."""
    kept, fence = [], None
    for line in text.splitlines():
        found = _FENCE.match(line)
        if fence is None:
            fence = found["fence"] if found else None
            kept.append("" if found else line)
        else:
            fence = None if line.strip() == fence else fence
            kept.append("")
    return "\n".join(kept)


def _joined(lines: list[str]) -> Iterator[tuple[int, str]]:
    """Join continued lines and here-documents, and leave comments and prompts out."""
    number = 0
    while number < len(lines):
        start, text = number + 1, lines[number].rstrip()
        while text.endswith("\\") and number + 1 < len(lines):
            number += 1
            text = f"{text[:-1].rstrip()} {lines[number].strip()}"
        if heredoc := _HEREDOC.search(text):
            while number + 1 < len(lines):
                number += 1
                text += f"\n{lines[number]}"
                if lines[number].strip() == heredoc[1]:
                    break
        number += 1
        text = text.strip().removeprefix("$ ")
        text = text if "\n" in text else (_COMMENT.sub(r"\1", text) if not text.startswith("#") else "")
        if text.strip():
            yield start, text.strip()


def filled(text: str, world: Path) -> str:
    """Put real folders of a world in the place of what the documentation leaves to its reader."""
    for pattern, place in PLACEHOLDERS.items():
        text = re.sub(pattern, lambda _, place=place: str(world / place) if place != "." else str(world), text)
    return text
