"""The site builds without a warning, every link in it leads somewhere, and it asks nobody else for anything."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import sys
import time
from graphlib import TopologicalSorter
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest
import yaml

from documented import ROOT
from warm_start import run_module

sys.path.insert(0, str(ROOT / "docs/tools"))
from parameters import Documented, base_parameters

LARGEST = 200_000
FETCHED = {
    ("script", "src"),
    ("link", "href"),
    ("img", "src"),
    ("iframe", "src"),
    ("source", "src"),
    ("object", "data"),
}
HARMLESS = {"canonical", "prev", "next", "alternate"}


class Page(HTMLParser):
    """The names and the references of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.links: set[str] = set()
        self.fetched: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.names |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.add(given["href"])
        for name in {attribute for of, attribute in FETCHED if of == tag} & set(given):
            if given.get("rel") not in HARMLESS:
                self.fetched.add(given[name])


@pytest.fixture(scope="module")
def site(tmp_path_factory, surroundings):
    """Build the site as make docs does, into a folder of its own."""
    folder = tmp_path_factory.mktemp("site")
    command = ("mkdocs", "build", "--strict", "--site-dir", str(folder))
    source = os.pathsep.join(filter(None, (str(ROOT / "src"), os.environ.get("PYTHONPATH"))))
    environment = surroundings | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": source}
    built = run_module(*command, folder=ROOT, surroundings=environment, seconds=300)
    assert built.returncode == 0, built.stdout[-4000:]
    assert "WARNING" not in built.stdout and "Aborted" not in built.stdout, built.stdout[-4000:]
    return folder


@pytest.fixture(scope="module")
def built(site):
    return {path: Page(path) for path in sorted(site.rglob("*.html"))}


def test_every_page_is_there(built, site):
    made = {path.relative_to(site).with_suffix("").as_posix() for path in built}
    assert made >= {path.relative_to(ROOT / "docs").with_suffix("").as_posix() for path in (ROOT / "docs").glob("*.md")}
    assert not (site / "tools").exists()


def test_every_link_leads_somewhere(built, site):
    for path, page in built.items():
        for link in page.links | page.fetched:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or path.name == "404.html":
                continue
            place, fragment = urldefrag(link)
            target = (path.parent / unquote(place)).resolve() if place else path
            assert target.is_file(), f"{path.name}: {link}"
            if fragment and target in built:
                assert unquote(fragment) in built[target].names, f"{path.name}: {link}"


def test_nothing_is_asked_of_anybody_else(built, site):
    for path, page in built.items():
        strange = {address for address in page.fetched if urlsplit(address).scheme or address.startswith("//")}
        assert strange <= {address for address in strange if address.startswith("data:")}, f"{path.name}: {strange}"
    assert not any("unpkg.com/iframe" in path.read_text(encoding="utf-8") for path in built)
    for style in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)\s*['\"]?(?:https?:)?//", style.read_text(encoding="utf-8")), style.name


def test_the_search_finds_things_in_pages_on_the_disk(site):
    """In a browser that reaches nothing, from files: without a server, and without a request to anybody."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium, which drives the browser, is not installed")
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    controller = shutil.which("chromedriver")
    if browser is None or controller is None:
        pytest.skip("no browser to open the site in: chromedriver and chromium or google-chrome are needed")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in ("--headless=new", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND", "--window-size=1400,1000"):
        options.add_argument(flag)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    driven = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=controller))
    try:
        driven.get((site / "index.html").as_uri())
        driven.execute_script("document.querySelector('[data-md-toggle=search]').click()")
        driven.find_element("css selector", ".md-search__input").send_keys("quarantine")
        deadline = time.monotonic() + 30
        while not (found := driven.find_elements("css selector", ".md-search-result__link")):
            assert time.monotonic() < deadline, "nothing was found"
            time.sleep(0.1)
        assert any("your_data.html" in (link.get_attribute("href") or "") for link in found)
        messages = [json.loads(entry["message"])["message"] for entry in driven.get_log("performance")]
    finally:
        driven.quit()
    asked = {m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"}
    assert {urlsplit(address).scheme for address in asked} <= {"file", "data", "blob"}


def test_pictures_are_small():
    for picture in (path for path in (ROOT / "docs").rglob("*") if path.suffix in (".png", ".jpg", ".svg")):
        assert picture.stat().st_size <= LARGEST, picture.name


def test_links_to_files_of_the_repository_lead_to_files():
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for place in re.findall(r"\]\(([^)\s#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if not urlsplit(place).scheme:
                assert (page.parent / unquote(place)).exists(), f"{page.name}: {place}"


def test_tables_of_parameters_say_what_is_so():
    documented = Documented.of_the_project(ROOT)
    found = {leaf.name: leaf for block in documented.blocks.values() for leaf in block}
    assert found["anomaly.vae.epochs"].default == 10
    assert found["anomaly.vae.epochs"].takes == "whole number from 1"
    assert found["promotion.detector.metrics.<name>.least"].default is None
    assert found["segmentation.network.levels"].default == base_parameters(ROOT)["segmentation"]["network"]["levels"]
    assert found["segmentation.network.name"].takes.startswith("`unet`, `encoder`")
    # Every value of conf/base is in a table, as it stands there
    for name, value in _leaves(base_parameters(ROOT)):
        if value == {}:
            continue
        if name in found and not name.startswith("_"):
            assert found[name].default == value, name
        else:
            above = [other for other in found if name.startswith(f"{other}.") or name.startswith(f"{other}[")]
            assert above or re.match(r"presets\.", name), f"{name} is in no table"


def test_every_parameter_is_on_a_page():
    documented = Documented.of_the_project(ROOT)
    text = "\n".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs").glob("*.md"))
    asked = [name for names in re.findall(r"<!-- parameters: (.+?) -->", text) for name in names.split()]
    for block in documented.blocks:
        assert any(block == name or block.startswith(f"{name}.") for name in asked), f"{block} is in no table of a page"


def test_the_page_of_the_architecture_says_who_imports_whom():
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \|[^|]*\|([^|]*)\|$", text, re.MULTILINE)
    allowed = {room: set(re.findall(r"`(\w+)`", may)) for room, may in rows}
    source = ROOT / "src/crack_pipeline"
    found = {room: set() for room in _rooms(source)}
    for file in source.rglob("*.py"):
        room = file.relative_to(source).with_suffix("").parts[0]
        for other in _imported(file, found) - {room}:
            assert room in allowed, f"docs/architecture.md has no row for {room}"
            assert other in allowed[room], f"{file.relative_to(source)} imports from {other}"
            found[room].add(other)
    assert set(allowed) == set(found) - {"__init__"}
    for room, others in allowed.items():
        assert others == found[room], f"docs/architecture.md lets {room} import from what it does not"
    TopologicalSorter(allowed).prepare()  # raises CycleError where there is a way back


def _rooms(source):
    """Name the folders and the modules of the package."""
    return {path.stem for path in source.iterdir() if (path / "__init__.py").exists() or path.suffix == ".py"}


def _imported(file, rooms):
    """Give the rooms of the package that a file imports from, in whichever of the ways to write it."""
    modules = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are written in full"
            modules |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
        elif isinstance(node, ast.Import):
            modules |= {name.name for name in node.names}
    parts = (module.split(".") for module in modules)
    return {names[1] for names in parts if names[0] == "crack_pipeline" and len(names) > 1} & set(rooms)


def test_a_table_of_parameters_that_are_not_there_is_refused():
    with pytest.raises(ValueError, match="no parameter begins with nothing"):
        list(Documented({}, {}).tables(["nothing"]))


def _leaves(values, prefix=""):
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def test_pages_of_the_navigation_are_written_once():
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    named = list(_named(nav))
    assert len(set(named)) == len(named)


def _named(entries):
    for entry in entries:
        (target,) = entry.values()
        yield from _named(target) if isinstance(target, list) else [target]
