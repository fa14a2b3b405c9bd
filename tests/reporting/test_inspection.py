import base64
import hashlib
import json
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from importlib import resources

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crack_pipeline.reporting.inspection import render
from crack_pipeline.reporting.wording import plain
from inspected import crack, inspection, page

HOSTILE = "</script></style>\"'><img src=x onerror=alert(1)>&amp;{{7*7}}\u202egpj.exe\0\udcff🧱<!--"


class Document(HTMLParser):
    """Elements, the text of each kind of element, and what scripts of data hold."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.scripts, self._open, self._script = [], {}, {}, [], None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append((tag, attributes))
        self._open.append(tag)
        self._script = attributes.get("id") if tag == "script" else None

    def handle_endtag(self, tag):
        self._script = None

    def handle_data(self, text):
        self.texts.setdefault(self._open[-1] if self._open else "", []).append(text)
        if self._script:
            self.scripts[self._script] = self.scripts.get(self._script, "") + text

    def json(self, name):
        return json.loads(self.scripts[name])


def document(told):
    return Document("".join(render(told)))


def shown(told):
    """What can be read without the script."""
    text = "".join(render(told)).split('<script type="application/json"')[0].split("</style>")[1]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", text)).replace("\N{NO-BREAK SPACE}", " ")


@settings(max_examples=25, deadline=None)
@given(st.text(st.characters(codec=None), min_size=1))
def test_no_text_changes_what_the_document_is_made_of(text):
    def make(text):
        return inspection(
            page(text, crack("c1"), crack("c2" + text), note=text),
            others=[page(text, pictures={}, note=text)],
            failed=[(text, text)],
            title=text,
            settings={text: text},
            severity_source="s" + text,
        )

    harmless, hostile = document(make("x")), document(make(text))
    assert [tag for tag, _ in hostile.tags] == [tag for tag, _ in harmless.tags]
    assert [row["path"] for row in hostile.json("data")["photographs"]] == [plain(text)] * 2
    assert hostile.json("data")["cracks"][1][1] == plain("c2" + text)


def test_hostile_text_is_written_as_what_it_is():
    told = inspection(page(HOSTILE, crack("c1"), note=HOSTILE), failed=[(HOSTILE, HOSTILE)], title=HOSTILE)
    made = document(told)
    assert not [tag for tag, attributes in made.tags if "onerror" in attributes]
    assert plain(HOSTILE) in "".join(made.texts["title"])
    "".join(render(told)).encode("utf-8")


def test_the_policy_allows_this_style_and_this_script_only():
    text = "".join(render(inspection(page("a", crack("c1")))))
    policy = next(
        attributes["content"] for tag, attributes in Document(text).tags if attributes.get("http-equiv")
    ).split("; ")
    for name, pattern in (("style", r"<style>(.*?)</style>"), ("script", r"<script>(.*?)</script>")):
        (content,) = re.findall(pattern, text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy
    assert {"default-src 'none'", "img-src data:", "base-uri 'none'", "form-action 'none'"} <= set(policy)


def test_nothing_is_asked_for_elsewhere():
    text = "".join(render(inspection(page("a", crack("c1")))))
    assert set(re.findall(r"[a-z]+://[^\s\"'<>]+", text)) == {"http://www.w3.org/2000/svg"}
    made = Document(text)
    assert not [tag for tag, attributes in made.tags if "style" in attributes or any(n[:2] == "on" for n in attributes)]
    addresses = {attributes.get(name) for _, attributes in made.tags for name in ("src", "href")} - {None}
    assert addresses and all(address.startswith(("#", "data:,")) for address in addresses)


def test_pictures_and_lines_are_what_was_told():
    told = inspection(page("a"), page("b", crack("c1", paths=(np.array([[9.5, 4.0], [12.0, 4.0], [20.0, 14.0]]),))))
    made = document(told)
    for view, (_, content) in told.photographs[1].pictures.items():
        assert base64.b64decode(made.scripts[f"picture-2-{view}"]) == content
    assert made.json("lines-1") == []
    # The middle of a pixel is half a pixel from its edge.
    assert made.json("lines-2") == [["M10 4.5l2.5 0 8 10", [20, 50, 200, 6], [12.5, 4.5]]]


def test_lines_stay_where_they_are():
    steps = np.linspace(0, 6, 400)
    path = np.stack([30 * steps, 60 + 40 * np.sin(steps)], axis=1)
    ((drawn, _, _),) = document(inspection(page("a", crack("c1", paths=(path,))))).json("lines-1")
    numbers = np.array(re.findall(r"-?[\d.]+", drawn), float).reshape(-1, 2)
    corners = np.cumsum(numbers, axis=0) - 0.5
    assert 5 < len(corners) < 60
    sheet = np.ones((160 * 10, 240 * 10), np.uint8)
    cv2.polylines(sheet, [np.rint(corners * 10).astype(np.int32)], False, 0)
    away = cv2.distanceTransform(sheet, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) / 10
    assert max(away[round(y * 10), round(x * 10)] for x, y in path) < 0.6


@pytest.mark.parametrize("points", [1, 2])
def test_short_lines_are_drawn(points):
    paths = (np.array([[3.0, 4.0], [5.0, 4.0]])[:points],)
    ((drawn, _, _),) = document(inspection(page("a", crack("c1", paths=paths)))).json("lines-1")
    assert drawn == ("M3.5 4.5l0 0" if points == 1 else "M3.5 4.5l2 0")


def test_a_crack_without_lines_has_its_name_in_its_box():
    assert document(inspection(page("a", crack("c1", paths=())))).json("lines-1") == [["", [20, 50, 200, 6], [120, 53]]]


def test_photographs_are_asked_for_one_at_a_time_and_errors_come_first():
    class Stored(Sequence):
        def __init__(self, odd=False):
            self.asked, self.odd = [], odd

        def __len__(self):
            return 3

        def __getitem__(self, place):
            if place >= len(self):
                raise IndexError(place)
            self.asked.append(place)
            return page(
                str(place), crack("c1", severity="odd" if place == 2 and self.odd else "narrow"), severity="narrow"
            )

    stored = Stored()
    parts = render(inspection(photographs=stored))
    assert stored.asked == [0, 1, 2]
    text = ""
    while 'id="picture-1-repaired"' not in text:
        text += next(parts)
    assert stored.asked == [0, 1, 2, 0]
    with pytest.raises(ValueError, match="'odd'"):
        render(inspection(photographs=Stored(odd=True)))


def test_parts_can_be_added_to_each_other():
    total = ""
    for part in render(inspection(page("a"))):
        total += part
    assert type(total) is str and total == "".join(render(inspection(page("a"))))


def test_no_part_is_longer_than_a_picture():
    noise = np.random.default_rng(0).bytes(300_000)
    pictures = {view: ("image/jpeg", noise) for view in ("photograph", "mask")}
    parts = [len(part) for part in render(inspection(*(page(str(n), pictures=pictures) for n in range(3))))]
    assert max(parts) == 400_000 and parts.count(400_000) == 6


def test_summary_in_words():
    text = shown(
        inspection(
            page("a", crack("c1", 2.0), crack("c2", 12.0)),
            page("b", crack("c1", 40.0, scale=None), millimetres_per_pixel=None),
            page("c"),
            failed=[("d", "the file ends early")],
        )
    )
    for told in (
        "Photographs 3 With cracks 2 66.7 % Cracks 3 Total crack length 40.0 mm and 200 px",
        "Widest crack 1.20 mm c2 in photograph 1",
        "Failed 1 which, and why",
        "The scale of 1 photograph with cracks is not known",
        "Severity of cracks by their greatest width, after a standard",
        "wide 1 mm and more to be repaired 1 33.3 % 1",
        "moderate 0.3 mm to below 1 mm to be watched 0 0 % 0",
        "narrow below 0.3 mm no action 1 33.3 % 0",
        "unknown not known in mm the photograph has no scale 1 33.3 % 1",
        "no crack – – 1",
        "d the file ends early",
        "model unet",
        "28 November 2026, 09:30 (UTC+0000)",
        "Name Place and date Signature",
    ):
        assert told in text


def test_a_single_class_reaches_over_all_widths():
    one = inspection().severities[0]
    assert "narrow 0 mm and more no action" in shown(inspection(severities=(one,)))


def test_empty_inspections_say_so():
    assert "There was no photograph to work on." in shown(inspection())
    assert "None of the photographs could be worked on" in shown(inspection(failed=[("a", "broken")]))
    assert "No crack was found in any of the photographs." in shown(inspection(page("a"), page("b")))
    assert "the scale of" not in shown(inspection(page("a"))).lower()


def _schemes():
    style = resources.files("crack_pipeline.reporting").joinpath("inspection.css").read_text(encoding="utf-8")
    light, dark = re.findall(r":root \{(.*?)\}", style, re.DOTALL)[:2]
    colours = [dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block)) for block in (light, dark)]
    return [colours[0], colours[0] | colours[1]]


@pytest.mark.parametrize("colours", _schemes(), ids=["light", "dark"])
def test_text_stands_out_from_its_ground(colours):
    def luminance(colour):
        parts = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return linear @ (0.2126, 0.7152, 0.0722)

    def contrast(one, other):
        low, high = sorted(luminance(colours[name]) for name in (one, other))
        return (high + 0.05) / (low + 0.05)

    for ground in ("ground", "raised", "chosen", "notice"):
        for ink in ("ink", "accent", *(["quiet"] if ground != "notice" else [])):
            assert contrast(ink, ground) >= 4.5, (ink, ground)  # WCAG 2.2, 1.4.3
    assert contrast("edge", "ground") >= 3  # 1.4.11
