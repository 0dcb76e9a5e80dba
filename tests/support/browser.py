"""Chromium for the pages of this project, and what goes wrong in it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

_CHROMIUM = Path("/usr/bin/chromium")
needs_chromium = pytest.mark.skipif(not _CHROMIUM.exists(), reason="needs the Debian package `chromium`")


@dataclass
class Opened:
    """A page in a browser: errors and warnings of its console, and all addresses that it asked for."""

    page: Any
    troubles: list[str] = field(default_factory=list)
    asked: set[str] = field(default_factory=set)


@contextmanager
def chromium(width: int, height: int, dark: bool = False, script: bool = True) -> Iterator[Opened]:
    """A browser with nothing open yet."""
    playwright = pytest.importorskip("playwright.sync_api")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=str(_CHROMIUM), args=flags)
        try:
            context = browser.new_context(
                viewport={"width": width, "height": height},
                color_scheme="dark" if dark else "light",
                java_script_enabled=script,
                locale="en-GB",
            )
            found = Opened(context.new_page())
            found.page.on("console", lambda m: _note(found, m.text) if m.type in ("error", "warning") else None)
            found.page.on("pageerror", lambda error: _note(found, str(error)))
            found.page.on("dialog", lambda dialog: _note(found, f"a dialog: {dialog.message}"))
            found.page.on("request", lambda request: found.asked.add(request.url))
            yield found
        finally:
            browser.close()


def _note(opened: Opened, trouble: str) -> None:
    opened.troubles.append(trouble)


def wait_for(what: Callable[[], object], seconds: float = 20.0, every_s: float = 0.05) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come"
        time.sleep(every_s)
