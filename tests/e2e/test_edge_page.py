"""`crossplant client page` in a real browser, beside a real `crossplant client score`.

`CROSSPLANT_PICTURES=1` keeps the pictures in docs/edge.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.edge.alarm_files import read_state as read_alarms
from client.edge.state import read_state
from tests.support.browser import Opened, chromium, needs_chromium, wait_for
from tests.support.edge import Made, trained

ROOT = Path(__file__).parents[2]
CROSSPLANT = str(Path(sys.executable).with_name("crossplant"))
ATTACK = 300  # its first row; fifty a second are played
TOML = """
state = "edge"
[alarms]
hits = 4
among = 6
clear_s = 600
group_s = 7200
[swap]
look_s = 0.5
shadow_windows = 6000
longest_windows = 9000
[sinks.history]
location = "{history}"
"""

pytestmark = [
    needs_chromium,
    pytest.mark.timeout(240),
]


@contextmanager
def process(command: list[str | Path], said: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A child that has said something on standard error; it is ended with the test."""
    child = subprocess.Popen(command, stderr=subprocess.PIPE, stdin=subprocess.PIPE, text=True, bufsize=1)
    try:
        assert child.stderr is not None
        line = ""
        while said not in line or not line:
            line = child.stderr.readline()
            assert line, f"{command} ended with {child.wait()}"
        yield child, line
    finally:
        child.terminate()
        with suppress(subprocess.TimeoutExpired):
            child.wait(10)
        child.kill()
        child.wait()
        for pipe in (child.stderr, child.stdin):
            if pipe is not None:
                pipe.close()


def attacked(made: Made, path: Path) -> Path:
    """Normal rows for some seconds, then an attack: LIT301 shows what is not there. It plays for about a minute."""
    tags, rows_TD = made.site.schema.tags, made.site.train_TD.astype(np.float64)
    rows_TD[ATTACK:, tags.index("LIT301")] += 1.0
    start = time.time() - ATTACK * 60
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["time", *tags])
        writer.writerows([[start + 60 * i, *row] for i, row in enumerate(rows_TD.tolist())])
    return path


@contextmanager
def browser(address: str, width: int, height: int, dark: bool = False) -> Iterator[Opened]:
    """Chromium at an address."""
    with chromium(width, height, dark) as found:
        found.page.goto(address)
        yield found


@dataclass
class Plant:
    """A scorer and its page."""

    made: Made
    state: Path
    address: str


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    folder = tmp_path_factory.mktemp("page")
    made = trained(folder / "agent", rows=3000, rounds=6)
    state, config = folder / "edge", folder / "edge.toml"
    config.write_text(TOML.format(history=state / "history.sqlite"))
    readings = attacked(made, folder / "readings.csv")
    scorer: list[str | Path] = [CROSSPLANT, "client", "score", "--bundle", made.folder, "--source", readings]
    scorer += ["--speed", "3000x", "--config", config, "--trust", made.key]
    page: list[str | Path] = [CROSSPLANT, "client", "page", "--state", state, "--port", "0"]
    with process(scorer, "started"), process(page, "open http") as (_, line):
        from tests.unit.test_edge_swap import publish_again

        publish_again(made)
        yield Plant(made, state, line.split()[-1])


def active(plant: Plant) -> bool:
    with suppress(ValueError):
        return read_alarms(plant.state).standing == "active"
    return False


def keep(page: Any, name: str, **options: Any) -> None:
    """Keep a picture in docs/edge when asked to."""
    if os.environ.get("CROSSPLANT_PICTURES"):
        page.screenshot(path=str(ROOT / "docs" / "edge" / name), **options)


def test_alarm_shows_and_is_acknowledged_and_nothing_leaves_the_machine(plant: Plant) -> None:
    wait_for(lambda: active(plant), 60)
    time.sleep(2)
    with browser(plant.address, 1200, 860) as opened:
        page = opened.page
        page.wait_for_selector("#banner[data-state=active]", timeout=20_000)
        page.wait_for_selector("#chart .score", state="attached")
        page.wait_for_selector("#sensors progress")
        page.wait_for_timeout(2500)
        assert "LIT301" in page.inner_text("#standing") + page.inner_text("#alarm-list")
        assert "LIT301" in page.inner_text("#sensors")
        assert "above it" in page.get_attribute("#chart", "aria-label")
        assert "Round" in page.inner_text("#models")
        assert "uncalibrated" in page.inner_text("#models")
        keep(page, "page.png")
        page.click("#alarm-list button[data-do=ack] >> nth=0")
        page.fill("#ask-by", "ann")
        page.click("#ask-ok")
        wait_for(lambda: any(alarm.acked_by == "ann" for alarm in read_alarms(plant.state).listed), 20)
        page.wait_for_selector("#banner[data-state=acknowledged]", timeout=20_000)
        assert "seen by ann" in page.inner_text("#alarm-list")
        page.click("#alarm-list button[data-do=shelve] >> nth=0")
        page.fill("#ask-by", "ann")
        page.fill("#ask-note", "the level meter is being cleaned")
        page.click("#ask-ok")
        wait_for(lambda: read_alarms(plant.state).shelves, 20)
        page.wait_for_selector("#shelves button")
        assert opened.troubles == []
        assert all(url.startswith(plant.address.split("?")[0]) for url in opened.asked), opened.asked


def test_page_fits_a_phone_in_the_dark(plant: Plant) -> None:
    wait_for(lambda: active(plant) or read_alarms(plant.state).listed, 60)
    with browser(plant.address, 375, 800, dark=True) as opened:
        page = opened.page
        page.wait_for_selector("#sensors progress", timeout=20_000)
        assert page.evaluate("document.documentElement.scrollWidth") <= 375
        small = page.evaluate(
            "[...document.querySelectorAll('button')].filter(b => b.offsetParent && b.offsetHeight < 40).length"
        )
        assert small == 0
        assert opened.troubles == []
        if os.environ.get("CROSSPLANT_PICTURES") == "all":
            keep(page, "phone.png", full_page=True)


def test_everything_is_reached_by_keyboard_and_has_a_name(plant: Plant) -> None:
    with browser(plant.address, 1280, 900) as opened:
        page = opened.page
        page.wait_for_selector("#sensors progress", timeout=20_000)
        unnamed = page.evaluate(
            "[...document.querySelectorAll('button, input, select, progress, svg[role=img]')]"
            ".filter(e => !(e.getAttribute('aria-label') || e.innerText || (e.labels && e.labels.length)))"
            ".map(e => e.outerHTML)"
        )
        assert unnamed == []
        reached = []
        for _ in range(12):
            page.keyboard.press("Tab")
            reached.append(
                page.evaluate("document.activeElement.tagName + '.' + document.activeElement.textContent.trim()")
            )
        assert any(one.startswith("BUTTON.150") for one in reached)


def test_scorer_keeps_its_state_while_the_page_is_open(plant: Plant) -> None:
    state = read_state(plant.state)
    assert state is not None
    assert state.current
