"""What MkDocs asks for while it builds the site: tables of parameters, and links to files of the repository.

The tables come from the models that check the parameters, and from ``conf/base``: they cannot say anything else than
what a run does. A page asks for one with a comment that other readers of Markdown do not show::

    <!-- parameters: anomaly -->
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.plugins import get_plugin_logger

sys.path.insert(0, str(Path(__file__).parent))

from parameters import Documented

logger = get_plugin_logger("site")

ROOT = Path(__file__).parents[2]

_TABLES = re.compile(r"^<!-- parameters: (?P<names>.+?) -->$", re.MULTILINE)
_OUTSIDE = re.compile(r"(?<!!)\[(?P<text>[^\]]+)\]\(\.\./(?P<path>[^)#\s]+)(?:#[^)]*)?\)")
_WORKER = "https://unpkg.com/iframe-worker/shim"
_documented: list[Documented] = []


def on_post_build(config: Any) -> None:
    """Let pages take the worker of their search from beside them: the theme would fetch it from elsewhere."""
    folder = Path(config.site_dir)
    for page in folder.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        if _WORKER in text:
            near = "../" * (len(page.relative_to(folder).parts) - 1) + "worker.js"
            page.write_text(text.replace(_WORKER, near), encoding="utf-8")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Put tables of parameters in their places, and name files that lie outside the site instead of linking to them."""

    def name_file(link: re.Match[str]) -> str:
        if not (ROOT / link["path"]).exists():
            logger.warning("%s names %s, which is not there", page.file.src_path, link["path"])
        plain = link["text"].strip("`")
        return f"`{link['path']}`" if plain in link["path"] else f"{link['text']} (`{link['path']}`)"

    def tabulate(place: re.Match[str]) -> str:
        if not _documented:
            _documented.append(Documented.of_the_project(ROOT))
        return "\n".join(_documented[0].tables(place["names"].split()))

    return _TABLES.sub(tabulate, _OUTSIDE.sub(name_file, markdown))
