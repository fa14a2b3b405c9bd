"""The report of an inspection in a real browser that reaches nothing else: clicks, keys, and names of what it shows."""

from __future__ import annotations

import json
import os
import shutil
from itertools import count, pairwise

import pytest

from crack_pipeline.reporting.inspection import render
from inspected import crack, inspection, page, pictures

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless=new",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--window-size=1400,1000",
)
HOSTILE = "x</script><script>window.harmed=1</script><img src=x onerror=window.harmed=1>\"'&\u202e🧱"
SECONDS = 10
_NUMBERS = count()


@pytest.fixture(scope="module")
def driver():
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium, which drives the browser, is not installed")
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    controller = shutil.which("chromedriver")
    if browser is None or controller is None:
        pytest.skip(f"no browser to open the report in: chromedriver and one of {', '.join(BROWSERS)} are needed")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*FLAGS, *(["--no-sandbox"] if os.geteuid() == 0 else [])):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driven = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=controller))
    yield driven
    driven.quit()


@pytest.fixture(scope="module")
def write(tmp_path_factory):
    """Write a report and give its address."""

    def write(told):
        path = tmp_path_factory.mktemp("report") / "report.html"
        with path.open("w", encoding="utf-8") as file:
            file.writelines(render(told))
        return path.as_uri()

    return write


@pytest.fixture(scope="module")
def address(write):
    few = {view: picture for view, picture in pictures().items() if view != "foreground"}
    return write(
        inspection(
            page("deck/one.jpg", crack("c1", 2.0), crack("c2", 12.0), crack("c3", 6.0)),
            page("deck/two.jpg", note="shot against the light"),
            page("pier/three.jpg", crack("c1", 30.0, None), millimetres_per_pixel=None, pictures=few),
            page(HOSTILE, crack("c1", 5.0), note=HOSTILE),
            others=[page(f"far/{n:03d}.jpg", crack("c1", 1.0 + n / 10), pictures={}) for n in range(70)],
            failed=[(HOSTILE, HOSTILE)],
        )
    )


class Report:
    """A report that is open in the browser."""

    def __init__(self, driver, address):
        self.driver, self.address = driver, address

    def open(self, fragment="", address=None):
        # Another query makes another document of it: what differs in the fragment only is not loaded anew.
        self.driver.get(f"{address or self.address}?{next(_NUMBERS)}{fragment}")
        if "photo=" in fragment:
            self.wait_for_picture()
        return self

    def all(self, selector):
        return self.driver.find_elements("css selector", selector)

    def one(self, selector):
        return self.driver.find_element("css selector", selector)

    def click(self, selector):
        self.run("arguments[0].scrollIntoView({block: 'center'})", self.one(selector))
        self.one(selector).click()

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def keys(self, *keys):
        self.actions().send_keys(*keys).perform()

    def actions(self):
        from selenium.webdriver import ActionChains

        return ActionChains(self.driver, duration=20)

    def wait(self, condition):
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.driver, SECONDS, poll_frequency=0.02).until(lambda _: condition())

    def wait_for_picture(self):
        ready = "return document.getElementById('viewport').getAttribute('aria-busy') === 'false'"
        self.wait(lambda: self.run(ready))

    def column(self, table, number):
        return self.texts(f"#{table}-table tbody tr > :nth-child({number})")

    def texts(self, selector):
        """All in one moment: what is drawn anew between two looks at it is gone."""
        return self.run("return [...document.querySelectorAll(arguments[0])].map(found => found.textContent)", selector)

    def status(self, table):
        return self.one(f"#{table}-pager p").text

    def heading(self):
        return self.one("#photo-heading").text

    def announced(self):
        return self.run("return document.getElementById('announcement').textContent")

    def fragment(self):
        return self.run("return location.hash")

    def focused(self):
        return self.driver.switch_to.active_element

    def grey(self):
        """What the picture in the middle of the viewer is, 0 to 255."""
        self.wait_for_picture()
        return self.run(
            """const canvas = document.createElement("canvas");
            canvas.width = canvas.height = 1;
            const drawing = canvas.getContext("2d");
            drawing.drawImage(document.getElementById("picture"), 0, 0, 1, 1);
            return drawing.getImageData(0, 0, 1, 1).data[0]"""
        )

    def zoom(self):
        return float(self.one("#zoom").text.strip("×"))

    def place(self):
        box = self.one("#stage").rect
        return round(box["x"]), round(box["y"])


@pytest.fixture
def report(driver, address):
    """The report; afterwards the browser must have had nothing to complain of and asked nobody for anything."""
    for kind in ("browser", "performance"):
        driver.get_log(kind)
    yield Report(driver, address)
    assert [line["message"] for line in driver.get_log("browser")] == []
    assert _schemes(driver) <= {"file", "data"}
    assert Report(driver, address).run("return window.harmed") is None


def _schemes(driver):
    messages = [json.loads(line["message"])["message"] for line in driver.get_log("performance")]
    sent = [one["params"]["request"]["url"] for one in messages if one["method"] == "Network.requestWillBeSent"]
    assert sent
    return {url.split(":")[0] for url in sent}


def test_tables_are_sorted_by_their_heads(report):
    report.open()
    widths = "#cracks-table thead th:nth-child(5)"
    report.click(f"{widths} button")
    assert report.one(widths).get_attribute("aria-sort") == "descending"
    assert report.column("cracks", 5)[:3] == ["1.20\u00a0mm", "0.79\u00a0mm", "0.78\u00a0mm"]
    report.one(f"{widths} button").send_keys("\ue007")
    assert report.one(widths).get_attribute("aria-sort") == "ascending"
    assert report.column("cracks", 5)[0] == "30.0\u00a0px"  # never compared with millimetres
    assert report.focused().text == "Max. width"
    report.click("#cracks-table thead th:nth-child(3) button")
    assert report.one(widths).get_attribute("aria-sort") is None
    assert report.column("cracks", 3)[:2] == ["deck/one.jpg", "deck/one.jpg"]
    assert report.status("cracks") == "Rows 1 to 50 of 75, sorted by photograph"


def test_tables_are_filtered(report):
    report.open()
    report.one("#photographs-filters input").send_keys("DECK")
    assert report.column("photographs", 2) == ["deck/one.jpg", "deck/two.jpg"]
    assert report.status("photographs") == "2 photographs (of 74 without the filter)"
    report.one("#photographs-filters select").send_keys("none")
    assert report.column("photographs", 2) == ["deck/two.jpg"]
    report.one("#photographs-filters input").send_keys("zzz")
    assert report.column("photographs", 1) == ["No photograph is left by the filter."]
    report.click("#photographs-filters button")
    report.wait(lambda: report.status("photographs") == "Rows 1 to 50 of 74")


def test_long_tables_are_shown_in_parts(report):
    report.open()
    report.click("#cracks-pager button:last-child")
    assert report.status("cracks") == "Rows 51 to 75 of 75"
    assert len(report.column("cracks", 1)) == 25
    assert not report.one("#cracks-pager button:last-child").is_enabled()
    report.click("#cracks-pager button")
    assert report.status("cracks") == "Rows 1 to 50 of 75"


def test_a_photograph_is_opened_and_left(report):
    report.open()
    report.click("#photographs-table tbody tr:nth-child(2) a")
    assert report.heading() == "Photograph 2: deck/two.jpg"
    assert report.focused().get_attribute("id") == "viewport"
    assert report.one("#photo-note").text == "shot against the light"
    assert not report.one("#overview").is_displayed()
    assert report.column("found", 1) == ["There is no crack."]
    report.driver.back()
    report.wait(lambda: report.one("#overview").is_displayed())
    assert report.focused().text == "deck/two.jpg"
    report.driver.forward()
    report.wait(lambda: report.one("#photo").is_displayed())
    report.click(".top a[href='#settings']")
    report.wait(lambda: report.one("#overview").is_displayed())
    assert report.fragment() == "#settings"
    assert not report.one("#picture").get_attribute("src")  # only what is looked at is decoded


def test_a_photograph_that_is_not_there_yet_opens_when_it_is(report):
    report.open()
    report.run("Object.defineProperty(document, 'readyState', { value: 'loading', configurable: true })")
    report.click("#photographs-table tbody tr:nth-child(1) a")
    report.wait(lambda: report.one("#loading").is_displayed())
    assert report.one("#overview").is_displayed()
    report.run("delete document.readyState; document.dispatchEvent(new Event('DOMContentLoaded'))")
    assert report.heading() == "Photograph 1: deck/one.jpg" and report.grey() == 40
    assert not report.one("#loading").is_displayed()


def test_views_are_switched_by_mouse_and_keys(report):
    report.open("#photo=1")
    greys = {"photograph": report.grey()}
    for view in ("probability", "mask", "foreground"):
        report.click(f"input[value={view}]")
        assert report.fragment() == f"#photo=1&view={view}"
        greys[view] = report.grey()
    report.one("input[value=foreground]").send_keys("\ue014")
    greys["repaired"] = report.grey()
    assert greys == {"photograph": 40, "probability": 80, "mask": 120, "foreground": 160, "repaired": 200}
    assert report.one("#picture").get_attribute("alt") == "deck/one.jpg as it would look repaired"
    assert report.fragment() == "#photo=1&view=repaired"


def test_repaired_and_photograph_are_compared(report):
    report.open("#photo=1&view=repaired")
    assert not report.one("#overlay").is_selected()  # lines would hide what was repaired
    slider = report.one("#compare input")
    slider.send_keys("\ue014" * 3)
    assert "3%" in report.one("#picture").value_of_css_property("clip-path")
    assert report.one("#under").is_displayed()
    report.click("input[value=mask]")
    assert not report.one("#compare").is_displayed() and not report.one("#under").get_attribute("src")
    assert report.one("#overlay").is_selected()


def test_a_view_that_is_missing_is_not_offered(report):
    report.open("#photo=3&view=foreground")
    assert report.grey() == 40
    assert not report.one("input[value=foreground]").is_enabled()
    assert report.one("input[value=photograph]").is_selected()
    assert "scale not known" in report.one("#scale-bar").text


def test_zoom_and_pan(report):
    report.open("#photo=1")
    assert report.zoom() == 1 and not report.one("#zoom-out").is_enabled()
    fitted = report.place()
    report.click("#zoom-in")
    assert report.zoom() == 1.5
    report.one("#viewport").send_keys("++-")
    assert report.zoom() == pytest.approx(2.25, abs=0.06)
    before = report.place()
    report.keys("\ue012", "\ue013")  # left, up
    assert report.place() == (before[0] + 80, before[1] + 80)
    report.actions().click_and_hold(report.one("#viewport")).move_by_offset(-30, -20).release().perform()
    assert report.place() == (before[0] + 50, before[1] + 60)
    report.keys("0")
    assert report.zoom() == 1 and report.place() == fitted
    wheel = report.actions()
    from selenium.webdriver.common.actions.wheel_input import ScrollOrigin

    wheel.scroll_from_origin(ScrollOrigin.from_element(report.one("#viewport")), 0, -300).perform()
    report.wait(lambda: report.zoom() > 1.5)
    report.click("#fit")
    assert report.zoom() == 1


def test_two_fingers_zoom(report):
    report.open("#photo=1")
    box = report.one("#viewport").rect
    x, y = box["x"] + box["width"] / 2, box["y"] + 200

    def touch(kind, *apart):
        points = [{"x": x + by, "y": y, "id": number} for number, by in enumerate(apart)]
        report.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", -40, 40)
    touch("touchMove", -80, 80)
    touch("touchMove", -120, 120)
    touch("touchEnd")
    report.wait(lambda: report.zoom() > 2.5)
    assert report.zoom() == pytest.approx(3, abs=0.5)


def test_the_scale_bar_is_as_long_as_it_says(report):
    report.open("#photo=1")
    for _ in range(3):
        length, unit = report.one("#scale-bar span").text.split()
        pixels = report.one("#scale-bar div").rect["width"]
        shown = report.run("return document.getElementById('stage').getBoundingClientRect().width")
        assert unit == "mm" and float(length) / 0.1 == pytest.approx(240 * pixels / shown, rel=0.02)
        report.one("#viewport").send_keys("+")


def test_next_and_previous_by_keys_and_buttons(report):
    report.open("#photo=1&view=mask")
    report.one("#viewport").send_keys("n")
    report.wait(lambda: report.heading() == "Photograph 2: deck/two.jpg")
    assert report.focused().get_attribute("id") == "viewport" and report.grey() == 120
    assert report.announced().startswith("Photograph 2, Photograph deck/two.jpg: no crack found")
    report.keys("p")
    report.wait(lambda: report.heading() == "Photograph 1: deck/one.jpg")
    report.keys("p")
    report.wait(lambda: report.announced() == "This is the first photograph.")
    report.driver.back()
    report.wait(lambda: report.heading() == "Photograph 2: deck/two.jpg")
    report.click("#next")
    report.wait(lambda: report.heading() == "Photograph 3: pier/three.jpg")
    assert report.one("#place").text == "3 of 4"


def test_next_follows_the_table_as_it_is_filtered_and_sorted(report):
    report.open()
    report.one("#photographs-filters input").send_keys("deck")
    for _ in range(2):
        report.click("#photographs-table thead th:nth-child(2) button")
    report.click("#photographs-table tbody tr a")
    assert report.heading() == "Photograph 2: deck/two.jpg" and report.one("#place").text == "1 of 2"
    report.click("#next")
    report.wait(lambda: report.heading() == "Photograph 1: deck/one.jpg")
    assert not report.one("#next").is_enabled()


def test_a_crack_is_chosen_from_the_table_of_all(report):
    report.open()
    report.run("document.querySelector('#cracks-table tbody tr:nth-child(2) a').scrollIntoView({block: 'center'})")
    report.one("#cracks-table tbody tr:nth-child(2) a").click()
    report.wait(lambda: report.fragment() == "#photo=1&crack=c2")
    assert report.one("#found-table .chosen button").text == "c2"
    assert report.one("#found-table .chosen button").get_attribute("aria-pressed") == "true"
    assert [group.get_attribute("data-crack") for group in report.all("#lines .chosen")] == ["c2"]
    assert report.announced() == "Crack c2 chosen: wide, 1.20\u00a0mm at its widest, 20.0\u00a0mm long."


def test_cracks_are_chosen_by_mouse_and_keys(report):
    report.open("#photo=1")
    assert report.texts("#lines text") == ["c1", "c2", "c3"]
    report.one("[data-crack=c3] .hit").click()
    assert report.fragment() == "#photo=1&crack=c3"
    report.one("#viewport").send_keys("c")
    assert report.fragment() == "#photo=1&crack=c1"
    report.keys("C")
    assert report.fragment() == "#photo=1&crack=c3"
    report.keys("\ue00c")
    assert report.fragment() == "#photo=1" and not report.all("#lines .chosen")
    button = report.one("#found-table tbody tr:nth-child(2) button")
    button.send_keys("\ue00d")
    assert report.fragment() == "#photo=1&crack=c2" and report.focused().text == "c2"
    report.click("#overlay")
    assert not report.one("#lines").is_displayed()


def test_links_lead_to_what_they_say(report):
    report.open("#photo=1&view=mask&crack=c3")
    assert report.one("#found-table .chosen button").text == "c3" and report.grey() == 120
    for nowhere in ("#photo=99", "#photo=x", "#photo=20", "#%E0%A4%A", "#photo=1&crack=zz&view=zz"):
        report.open(nowhere if "zz" in nowhere else "")
        report.run("location.hash = arguments[0]", nowhere)
        shown = "#photo" if "zz" in nowhere else "#overview"
        assert report.one(shown).is_displayed(), nowhere
    assert report.one("#summary small a").get_attribute("href").endswith("#photo=1&crack=c2")


def test_hostile_names_are_shown_as_they_are(report):
    harmless = HOSTILE.replace("\u202e", "\ufffd")
    report.open("#photo=4")
    assert report.heading() == f"Photograph 4: {harmless}"
    assert report.one("#photo-note").text == harmless
    assert harmless in report.one("#picture").get_attribute("alt")
    assert not report.all("img:not([alt]), [onerror]")


@pytest.mark.parametrize("fragment", ["", "#photo=1&crack=c2", "#photo=3&view=repaired"])
def test_a_screen_reader_is_told_what_everything_is(report, fragment):
    report.open(fragment)
    tree = report.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    told = [(one["role"]["value"], one.get("name", {}).get("value", "")) for one in tree if not one["ignored"]]
    controls = {"button", "link", "searchbox", "combobox", "radio", "checkbox", "slider", "DisclosureTriangle"}
    named = controls | {"image", "region", "navigation", "search", "columnheader", "status"}
    assert len([role for role, _ in told if role in controls]) > 15
    assert [(role, name) for role, name in told if role in named - {"status"} and not name.strip()] == []
    assert [role for role, _ in told].count("main") == 1
    assert {"banner", "contentinfo", "navigation"} <= {role for role, _ in told}
    levels = [int(one.tag_name[1]) for one in report.all("h1, h2, h3") if one.is_displayed()]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in pairwise(levels))


def test_identifiers_are_unique_and_lead_somewhere(report):
    report.open("#photo=1")
    identifiers = report.run("return [...document.querySelectorAll('[id]')].map(one => one.id)")
    assert len(set(identifiers)) == len(identifiers)
    pointed = report.run(
        """return [...document.querySelectorAll("[aria-labelledby], [aria-describedby]")].flatMap(one =>
        [one.getAttribute("aria-labelledby"), one.getAttribute("aria-describedby")]).filter(Boolean)"""
    )
    assert pointed and set(pointed) <= set(identifiers)
    assert report.run("return [...document.querySelectorAll('table')].every(one => one.caption)")


def test_the_keyboard_alone_reaches_everything_in_order_and_is_seen(report):
    report.open("#photo=1")
    report.run(
        """window.order = [];
        document.addEventListener("focusin", ({ target }) => window.order.push(
          [target.id || target.getAttribute("aria-label") || target.innerText, getComputedStyle(target).outlineStyle]));
        document.querySelector(".skip").focus();"""
    )
    report.keys("\ue004" * 30)
    order, outlines = zip(*report.run("return window.order"), strict=True)
    wanted = ["Skip to the content", "Summary", "All photographs", "next", "overlay", "zoom-in", "fit", "viewport"]
    assert [one for one in order if one in wanted][: len(wanted)] == wanted
    assert "Crack c2, show in the photograph" in order and "Max. width" in order
    assert "none" not in outlines


def test_the_way_past_the_head_leaves_the_photograph_open(report):
    report.open("#photo=2")
    report.run("document.querySelector('.skip').focus()")
    report.keys("\ue007")
    report.wait(lambda: report.focused().get_attribute("id") == "content")
    assert report.heading() == "Photograph 2: deck/two.jpg" and report.fragment() == "#photo=2"


def test_colour_is_not_all_that_tells_classes_apart(report):
    report.open()
    samples = report.all("#summary .sample .line")
    dashes = [sample.value_of_css_property("stroke-dasharray") for sample in samples]
    assert len(dashes) == 4 and len(set(dashes)) == 4
    rows = report.column("photographs", 3)
    assert [row.strip() for row in rows[:4]] == ["wide", "none", "unknown", "moderate"]


def test_a_narrow_screen_needs_no_scrolling_sideways(report):
    report.open()
    emulated = {"width": 380, "height": 760, "deviceScaleFactor": 1, "mobile": False}
    report.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", emulated)
    try:
        for fragment in ("", "#photo=1", "#photo=4&crack=c1"):
            report.open(fragment)
            assert report.run("return document.documentElement.scrollWidth") <= 380
    finally:
        report.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_paper_has_a_page_for_each_photograph_with_cracks(report, write):
    cracked = [page(f"{n}", crack("c1"), pictures=pictures(brighter=n)) for n in range(3)]
    report.open(address=write(inspection(*cracked, page("sound"))))

    def printed():
        import base64

        return base64.b64decode(report.driver.print_page())

    few = printed()
    report.run("document.querySelector('[name=sheets]').value = 'none'")
    none = printed()
    assert _pages(few) == _pages(none) + 3
    assert few.count(b"/Subtype /Image") - none.count(b"/Subtype /Image") == 3
    assert report.all("#sheets > *") == []
    report.open("#photo=1&view=mask")
    assert _pages(printed()) == 1


def _pages(pdf):
    return pdf.count(b"/Type /Page\n")


def test_the_button_prints_when_all_pictures_are_there(report):
    report.open()
    report.run(
        "window.print = () => { window.printed = [...document.querySelectorAll('#sheets img')].map(i => i.complete) }"
    )
    report.click("#print-form button")
    report.wait(lambda: report.run("return window.printed") is not None)
    assert report.run("return window.printed") == [True] * 3


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (inspection(), "There was no photograph to work on."),
        (inspection(page("a", pictures=pictures())), "No crack was found in any of the photographs."),
        (inspection(failed=[("a", "broken"), ("b", "broken")]), "None of the photographs could be worked on"),
    ],
    ids=["no photograph", "no crack", "all failed"],
)
def test_empty_reports_open(report, write, told, said):
    report.open(address=write(told))
    assert said in report.one("#summary .notice").text
    assert report.column("cracks", 1) == ["There is no crack."]


def test_ten_thousand_cracks(report, write):
    many = tuple(crack(f"c{number}", 1.0 + number / 10) for number in range(1, 10_001))
    report.open(address=write(inspection(page("a", *many))))
    assert len(report.all("#cracks-table tbody tr")) == 50
    taken = report.run(
        """const button = document.querySelector("#cracks-table thead th:nth-child(5) button");
        const begin = performance.now();
        button.click();
        return performance.now() - begin"""
    )
    assert taken < 1000
    assert report.column("cracks", 1)[0] == "c10000"
    report.run("location.hash = '#photo=1&crack=c7777'")
    report.wait(lambda: report.one("#found-table .chosen button").text == "c7777")
    assert len(report.all("#found-table tbody tr")) == 50


def test_whatever_tried_to_leave_is_stopped(driver, address):
    opened = Report(driver, address).open()
    stopped = driver.execute_async_script(
        """const done = arguments[0], stopped = [];
        document.addEventListener("securitypolicyviolation", (event) => {
          stopped.push(event.effectiveDirective);
          if (stopped.length === 4) done(stopped.sort());
        });
        const add = (name, told) => document.body.append(Object.assign(document.createElement(name), told));
        add("img", { src: "http://127.0.0.1:9/a.png" });
        add("script", { src: "http://127.0.0.1:9/a.js" });
        add("script", { textContent: "window.harmed = 1" });
        fetch("http://127.0.0.1:9/").catch(() => {});"""
    )
    assert stopped == ["connect-src", "img-src", "script-src-elem", "script-src-elem"]
    assert opened.run("return window.harmed") is None
