"""`crossplant console` in a real browser, beside a run that goes on in another process's store.

`CROSSPLANT_SCREENSHOTS=1` keeps the pictures in docs/console.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from server.notice import Waits
from server.run.place import ServerPlace
from server.store.auditlog import Actor
from server.store.registry import Registry
from server.store.store import RoundStore
from tests.support import browser
from tests.support.browser import needs_chromium, wait_for
from tests.support.console import served
from tests.support.console_runs import PASSWORD, commit, console, rich

ROOT = Path(__file__).parents[2]
CROSSPLANT = str(Path(sys.executable).with_name("crossplant"))
WIDTHS = (320, 768, 1280, 2560)
ROUNDS = 31
ODD = "<img src=x onerror=alert(1)> \u202egnp"
NAMES = ("east", "harbour", "north", "south", ODD)
PAGES = (
    "/login",
    "/",
    "/runs/a",
    "/runs/a/rounds/27",
    "/runs/a/plants",
    "/runs/a/plants/east",
    "/runs/a/compare?a=25&b=29",
    "/runs/a/matrix",
    "/runs/a/registry?keep=5",
    "/audit",
    "/accounts",
    "/account/password",
    "/runs/nothing",
)
UNNAMED = ("button", "link", "textbox", "combobox", "checkbox", "spinbutton", "progressbar", "region", "image", "table")

pytestmark = [
    needs_chromium,
    pytest.mark.timeout(240),
]


@dataclass
class There:
    """A console that runs, and its store."""

    address: str
    folder: Path
    store: RoundStore


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[There]:
    folder = tmp_path_factory.mktemp("walk") / "store"
    store = rich(folder, ROUNDS, plants=NAMES)
    console(folder)  # makes the people
    command = [CROSSPLANT, "console", "--store", str(folder), "--port", "0"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1)
    try:
        assert child.stdout is not None
        line = ""
        while "http://" not in line:
            line = child.stdout.readline()
            assert line, f"the console ended with {child.wait()}"
        yield There(line.split()[-1].rstrip("/"), folder, store)
    finally:
        child.terminate()
        with suppress(subprocess.TimeoutExpired):
            assert child.wait(15) == 0
        child.kill()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()


@dataclass
class Opened(browser.Opened):
    """A page of the console."""

    address: str = ""

    def go(self, path: str) -> None:
        """Load a page."""
        self.page.goto(self.address + path)

    def log_in(self, name: str = "ann") -> None:
        """Log in by keyboard; the cursor is in the first field already."""
        self.go("/login")
        wait_for(lambda: self.page.evaluate("document.activeElement.name") == "name")
        keys = self.page.keyboard
        keys.type(name)
        keys.press("Tab")
        keys.type(PASSWORD)
        keys.press("Enter")
        self.page.wait_for_url(f"{self.address}/")

    def tab_to(self, text: str, kind: str = "a, button, input, select") -> None:
        """Press Tab until something with this text, label or id has the focus."""
        for _ in range(250):
            self.page.keyboard.press("Tab")
            if self.page.evaluate(_FOCUSED, [text, kind]):
                return
        raise AssertionError(f"Tab does not reach {text!r}")

    def press(self, text: str, lands: str) -> None:
        """Go to something by Tab, press Enter, and wait for the page that it leads to."""
        self.tab_to(text)
        self.page.keyboard.press("Enter")
        self.page.wait_for_url(lands)


_FOCUSED = """([text, kind]) => {
  const one = document.activeElement;
  if (!one || !one.matches(kind)) return false;
  const label = one.labels && one.labels.length ? one.labels[0].textContent : "";
  return [one.textContent, label, one.id].some((found) => (found || "").trim().startsWith(text));
}"""


@contextmanager
def visit(
    there: There, width: int = 1280, height: int = 900, script: bool = True, dark: bool = False
) -> Iterator[Opened]:
    """Chromium, with nothing open yet."""
    with browser.chromium(width, height, dark, script) as found:
        found.page.set_default_timeout(20_000)
        yield Opened(found.page, found.troubles, found.asked, there.address)


def keep(page: Any, name: str) -> None:
    """Keep a picture in docs/console."""
    file = ROOT / "docs" / "console" / name
    file.parent.mkdir(exist_ok=True)
    page.evaluate("document.activeElement.blur()")
    image = Image.open(io.BytesIO(page.screenshot()))
    image.convert("RGB").quantize(128).save(file, optimize=True)
    assert file.stat().st_size < 200_000


def only_own(opened: Opened) -> None:
    assert opened.troubles == []
    assert all(url.startswith((opened.address, "data:")) for url in opened.asked), opened.asked


def test_walk_by_keyboard_from_login_to_logout(there: There) -> None:
    with visit(there) as opened:
        page = opened.page
        last = there.store.run("a").rounds
        opened.log_in("olaf")
        opened.press("a", "**/runs/a")
        page.wait_for_selector(f"text=Round {last + 1} is under way")
        page.evaluate("window.same = true")
        opened.tab_to(f"Round {last - 1}")
        commit(there.store, last + 1, plants=NAMES)
        page.wait_for_selector(f"text=Round {last + 2} is under way")
        assert page.evaluate("window.same"), "the page was loaded again"
        assert page.evaluate("document.activeElement.id") == f"round-{last - 1}", "the focus was lost"
        assert f"Round {last + 2}" in page.inner_text("#said")

        page.go_back()
        page.wait_for_url(f"{there.address}/")
        opened.press("a", "**/runs/a")
        page.wait_for_selector("#round-30")
        opened.press("Round 30", "**/rounds/30")  # a refresh in which a plant was late
        page.wait_for_selector("#not-counted tbody tr")
        row = page.inner_text("#not-counted tbody tr")
        assert "east" in row
        assert "late: no reply within 40 s" in row
        assert "rounds.deadline_s" in row

        opened.press("Compare with round 29", "**/compare?**")
        page.wait_for_selector("text=Tensors that moved most")
        opened.tab_to("Round A", "input")
        page.keyboard.press("Control+A")
        page.keyboard.type("25")
        page.keyboard.press("Enter")
        page.wait_for_url("**/compare?a=25&b=30")
        assert "head.weight" in page.inner_text("main")

        opened.press("Models", "**/registry")
        opened.tab_to("Round whose model plants shall score by", "input")
        page.keyboard.type("29")
        page.keyboard.press("Tab")
        page.keyboard.type("better at every plant <b>")
        page.keyboard.press("Enter")
        page.wait_for_selector("text=is written down")
        assert "better at every plant <b>" in page.inner_text("main")
        opened.tab_to("To the round", "input")
        page.keyboard.type("27")
        page.keyboard.press("Tab")
        page.keyboard.type("alarms at north")
        page.keyboard.press("Enter")
        page.wait_for_selector("text=Roll back to round 27")
        [back, first] = Registry(there.store).orders("a")
        assert (back.action, back.target, back.who, back.why) == ("rollback", 27, "olaf", "alarms at north")
        assert (first.action, first.target, first.state) == ("promote", 29, "replaced")

        opened.press("Audit log", "**/audit")
        page.wait_for_selector("text=alarms at north")
        opened.press("Log out", "**/login")
        opened.go("/runs/a")
        assert "/login" in page.url
        only_own(opened)


def test_curves_are_drawn_follow_the_run_and_have_their_figures_beside_them(there: There) -> None:
    with visit(there, dark=True) as opened:
        page = opened.page
        opened.log_in()
        opened.go("/runs/a")
        page.locator(".plot").first.scroll_into_view_if_needed()
        page.wait_for_selector(".plot canvas")
        ink = page.evaluate(
            "() => { const c = document.querySelector('.plot canvas'); const d = c.getContext('2d')"
            ".getImageData(0, 0, c.width, c.height).data; return d.some((v, i) => i % 4 === 3 && v > 0); }"
        )
        assert ink, "nothing is drawn"
        assert "all plants" in page.inner_text(".plot .u-legend")
        assert ODD[:10] in page.inner_text(".plot .u-legend")
        page.set_viewport_size({"width": 400, "height": 800})
        wait_for(lambda: page.evaluate("document.querySelector('.plot .uplot').clientWidth") <= 400)
        page.click("summary >> nth=0")
        assert "all plants" in page.inner_text("details[open] table")
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        commit(there.store, there.store.run("a").rounds + 1, plants=NAMES)
        wait_for(lambda: page.evaluate("1") and any("/series?" in url for url in asked))
        only_own(opened)


@pytest.mark.parametrize("width", WIDTHS)
def test_no_page_scrolls_sideways(there: There, width: int) -> None:
    with visit(there, width, dark=width == 768) as opened:
        opened.log_in()
        for path in PAGES:
            opened.go(path)
            opened.page.wait_for_load_state("load")
            wide = opened.page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, (path, wide)
        assert [one for one in opened.troubles if "404" not in one] == []


def test_every_control_has_a_name_and_a_visible_focus_and_tab_leaves_the_page(there: There) -> None:
    with visit(there) as opened:
        opened.log_in()
        session = opened.page.context.new_cdp_session(opened.page)
        for path in PAGES:
            opened.go(path)
            nodes = session.send("Accessibility.getFullAXTree")["nodes"]
            shown = [node for node in nodes if not node.get("ignored")]
            unnamed = [
                node["role"]["value"]
                for node in shown
                if node["role"]["value"] in UNNAMED and not node.get("name", {}).get("value", "").strip()
            ]
            assert unnamed == [], path
            if path != "/login":  # begins in its first field; `log_in` goes on from there
                _check_tabs(opened, path)


def _check_tabs(opened: Opened, path: str) -> None:
    """Tab goes through all that can be reached, shows where it is, and gets out at the end."""
    page = opened.page
    due = page.evaluate(
        "[...document.querySelectorAll('a[href], button, input:not([type=hidden]), select, summary, [tabindex=\"0\"]')]"
        ".filter((one) => one.checkVisibility()).length"
    )
    page.evaluate("document.body.focus()")
    reached = 0
    for _ in range(due + 5):
        page.keyboard.press("Tab")
        found = page.evaluate(
            "() => { const one = document.activeElement; if (!one || one === document.body) return null;"
            "return getComputedStyle(one).outlineStyle !== 'none'; }"
        )
        if found is None:
            break
        assert found, f"{path}: the focus cannot be seen on {page.evaluate('document.activeElement.outerHTML')[:200]}"
        reached += 1
    assert reached >= due - 1, (path, reached, due)


def test_pages_work_without_javascript(there: There) -> None:
    with visit(there, script=False) as opened:
        page = opened.page
        opened.log_in("olaf")
        opened.go("/runs/a")
        assert "Round 29" in page.inner_text("#live")
        page.click("summary >> nth=0")
        assert "0." in page.inner_text("details[open] table")
        opened.go("/runs/a/registry")
        page.fill("[name=number]", "28")
        page.fill("#promote-why", "without script")
        page.keyboard.press("Enter")
        page.wait_for_selector("text=is written down")
        assert opened.troubles == []


def test_the_wait_for_plants_is_told_as_text_and_a_server_that_is_gone_too(tmp_path: Path) -> None:
    store = rich(tmp_path / "store", 3)
    (tmp_path / "store" / "federation.toml").write_text("")
    place = ServerPlace(tmp_path / "store")
    place.prepare()
    app = console(tmp_path / "store")
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(contextlib.ExitStack())
        there = There(server.enter_context(served(app)), tmp_path / "store", store)
        opened = stack.enter_context(visit(there))
        page = opened.page
        page.clock.install()
        opened.log_in("vera")
        opened.go("/runs/a")
        page.wait_for_selector("text=Round 4 is under way")
        now = time.time()
        waits = Waits("a", 4, (ODD, "north"), 0, now - 5, now + 60, now)
        place.waits.write_text(json.dumps(asdict(waits)))
        page.wait_for_selector("text=Round 4 waits for plants")
        wait_for(lambda: "deadline in" in page.inner_text("#waiting"))
        assert ODD[:20] in page.inner_text("#waiting")
        assert ODD[:20] in page.inner_text("#waits")
        assert page.evaluate("document.querySelectorAll('#live img').length") == 0
        assert page.inner_text("#said") == "Round 4 waits for plants"
        only_own(opened)
        page.clock.fast_forward(15_000)
        assert not page.is_visible("#lost"), "silence alone is no loss"
        server.close()
        wait_for(lambda: page.clock.fast_forward(12_000) or page.is_visible("#lost"))  # ten seconds by the page's clock
        assert "Live updates have stopped" in page.inner_text("#lost")


@pytest.mark.skipif(not os.environ.get("CROSSPLANT_SCREENSHOTS"), reason="CROSSPLANT_SCREENSHOTS=1 keeps pictures")
def test_pictures_for_the_docs(tmp_path: Path) -> None:
    store = rich(tmp_path / "store", ROUNDS)
    app = console(tmp_path / "store")
    Registry(store).promote("a", 28, Actor("olaf", "operator"), "best at every plant but one")
    with served(app) as address, visit(There(address, tmp_path, store), 1200, 1000) as opened:
        opened.log_in()
        for path, name, height in (
            ("/runs/a", "run.png", 1500),
            ("/runs/a/rounds/27", "round.png", 1500),
            ("/runs/a/matrix", "matrix.png", 760),
            ("/runs/a/registry?keep=5", "models.png", 1240),
        ):
            opened.page.set_viewport_size({"width": 1200, "height": height})
            opened.go(path)
            opened.page.wait_for_timeout(1500)
            keep(opened.page, name)
