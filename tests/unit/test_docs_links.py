"""README.md and docs/: what they point at is there, and the commands they show can be typed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import click
import pytest

from benchmarks.__main__ import NAMES
from shared.frontdoor import root
from tests.conftest import REPOSITORY

PAGES = sorted(
    [
        *(REPOSITORY / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
        *(REPOSITORY / "docs").rglob("*.md"),
        *(REPOSITORY / name for name in ("deploy/README.md", "benchmarks/README.md")),
    ]
)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
ROOMS = ("client", "server", "shared", "simulations", "tests", "docs", "deploy", "benchmarks")
NAMED = re.compile(rf"(?<![\w./-])((?:{'|'.join(ROOMS)})/[\w./-]+)(?![\w./<*{{-])")
ELSEWHERE = {"server/server.key"}  # in the operator's folder, not in the repository
COMMAND = re.compile(r"(?<![\w./-])(?:\.venv/bin/)?crossplant ((?:[^`\n\\]|\\\n)+)")
BENCHMARK = re.compile(r"benchmarks --only ([\w-]+)")
MODULE = re.compile(r"python -m (benchmarks\.\w+)")
TARGET = re.compile(r"`make (\w+)`")


def _name(page: Path) -> str:
    return str(page.relative_to(REPOSITORY))


def _anchors(text: str) -> set[str]:
    """As GitHub makes them of headings."""
    heads = re.findall(r"^#+ +(.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        place, _, anchor = unquote(link).partition("#")
        target = page.parent / place if place else page
        assert target.exists(), f"{_name(page)} links to {link}"
        if anchor and target.suffix == ".md":
            assert anchor in _anchors(target.read_text(encoding="utf-8")), f"{_name(page)} links to {link}"


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_named_file_of_the_repository_exists(page: Path) -> None:
    for named in NAMED.findall(page.read_text(encoding="utf-8")):
        path = named.rstrip(".-")
        there = path in ELSEWHERE or any((place / path).exists() for place in (REPOSITORY, page.parent))
        assert there or _decision(path), f"{_name(page)} names {path}"


def _decision(path: str) -> bool:
    """Whether it is a decision by its number alone."""
    return bool(re.fullmatch(r"docs/decisions/\d{4}", path)) and any(REPOSITORY.glob(f"{path}-*.md"))


@cache
def _command(names: tuple[str, ...]) -> click.Command:
    found: click.Command = root
    with click.Context(root) as context:
        for name in names:
            assert isinstance(found, click.Group)
            inner = found.get_command(context, name)
            assert inner is not None, name
            found = inner
    return found


def _commands(text: str) -> Iterator[list[str]]:
    """Words after `crossplant` wherever a command line is shown: code spans, and lines of code blocks."""
    for line in COMMAND.findall(re.sub(r" (?:\||&&|;) (?=crossplant )", "\n", text)):
        try:
            words = shlex.split(line.replace("\\\n", " "), comments=True)
        except ValueError:  # An apostrophe in prose after the command.
            words = line.split()
        if words and re.fullmatch(r"[a-z][a-z-]*", words[0]) and words[0] in root.list_commands(click.Context(root)):
            yield words


def _options(command: click.Command) -> set[str]:
    found = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
    return found | {"--help", "-h"}


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_command_that_is_shown_is_there_with_its_options(page: Path) -> None:
    for words in _commands(page.read_text(encoding="utf-8")):
        names: tuple[str, ...] = ()
        command: click.Command = root
        for word in words:
            if not isinstance(command, click.Group) or not re.fullmatch(r"[a-z][a-z-]*", word):
                break
            names = (*names, word)
            known = command.list_commands(click.Context(command))
            assert word in known, f"{_name(page)}: crossplant {' '.join(words)}: there is no {word!r}"
            command = _command(names)
        given = {word.split("=")[0] for word in words if re.match(r"--[a-z]", word)}
        if not isinstance(command, click.Group):
            missing = given - _options(command)
            assert not missing, f"{_name(page)}: crossplant {' '.join(names)} has no {missing}"


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_benchmark_and_make_target_that_is_named_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert set(BENCHMARK.findall(text)) <= set(NAMES)
    for module in MODULE.findall(text):
        assert (REPOSITORY / module.replace(".", "/")).with_suffix(".py").is_file(), module
    targets = set(re.findall(r"^(\w+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(TARGET.findall(text)) <= targets


def test_the_check_finds_what_is_wrong() -> None:
    """A pattern that matches nothing would let everything pass."""
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert len(LINK.findall(text)) > 20
    assert len(NAMED.findall(text)) > 10
    assert len(list(_commands(text))) > 15
    assert _anchors("## What is it?\n# A `b`") == {"what-is-it", "a-b"}
    shown = "`crossplant data export A --out - | crossplant client score --bogus X`  # and more --words"
    assert list(_commands(shown)) == [["data", "export", "A", "--out", "-"], ["client", "score", "--bogus", "X"]]
    assert "--bogus" not in _options(_command(("client", "score")))
