"""`crossplant data`: exit codes, frozen JSON keys, and the page that `data show` writes."""

from __future__ import annotations

import json
import re
import sys
import types
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.errors import InvalidConfig, UnknownName
from shared.schema import SensorSchema
from shared.series import Repair, SiteData
from simulations.show.choose import Chosen, View, stretches, tag_columns
from simulations.show.envelope import HEIGHT, axis, curve, shades
from simulations.show.inventory import NEEDS, inventory
from simulations.show.page import write_page
from tests.conftest import site, write_telemanom
from tests.support.command import crossplant_here

HOSTILE = '"><script>alert(1)</script><b onmouseover=x>'


@pytest.fixture
def msl(tmp_path: Path) -> Path:
    return write_telemanom(tmp_path / "msl", {"A-1": "[[3, 9]]", "A-2": "[]"})


# ---- check ----


def test_the_keys_of_the_json_are_frozen(msl: Path) -> None:
    """A program reads these: adding one is fine, with this test; renaming or dropping one is not."""
    done = crossplant_here("data", "check", msl, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert report["format"] == 1
    assert set(report) == {"format", "path", "usable", "verdict", "sections", "findings", "known"}
    (section,) = report["sections"]
    assert set(section) == {
        *("dataset", "version", "usable", "next", "files", "missing", "figures", "sites", "findings"),
    }
    assert set(section["files"][0]) == {"path", "role", "bytes"}
    assert set(section["figures"][0]) == {"what", "found", "published", "agrees"}
    assert set(section["sites"][0]) == {
        *("name", "group", "tags", "period_s", "train_rows", "test_rows", "train_recordings", "test_recordings"),
        *("labelled_rows", "events", "missing_cells", "empty_tags", "constant_tags"),
    }
    assert set(section["findings"][0]) == {"severity", "kind", "where", "what", "count", "action"}
    assert section["sites"][0]["labelled_rows"] == 7
    assert report["usable"] is True


def test_the_text_fits_80_columns_and_ends_with_the_next_command(msl: Path) -> None:
    done = crossplant_here("data", "check", msl)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "usable: yes" in lines
    assert lines[-1].startswith(f"next: crossplant simulate --dataset msl --data {msl}")
    assert all(len(line) <= 80 for line in lines if not line.startswith("next: "))


def test_an_unusable_path_ends_with_1_and_prints_its_verdict_on_stdout(tmp_path: Path) -> None:
    done = crossplant_here("data", "check", tmp_path / "nowhere")
    assert (done.returncode, done.stderr) == (1, "")
    assert "does not exist" in done.stdout
    assert "usable: no" in done.stdout
    as_json = crossplant_here("data", "check", tmp_path / "nowhere", "--json")
    assert as_json.returncode == 1
    assert json.loads(as_json.stdout)["findings"][0]["what"] == "does not exist"


def test_a_misspelt_path_is_told_its_neighbour(msl: Path) -> None:
    assert f"Did you mean {msl}?" in crossplant_here("data", "check", msl.with_name("mls"), "--json").stdout


@pytest.mark.parametrize(
    "flags",
    [
        ["check"],
        ["check", "a", "b"],
        ["show", "x"],
        ["show", "x", "--out", "page.csv"],
        ["show", "x", "--out", "page.html", "--part", "middle"],
        ["show", "x", "--out", "page.html", "--from", "9", "--to", "9"],
        ["show", "x", "--out", "page.html", "--tags", " , "],
        ["make", "--layout", "batadal", "--out", "x"],
        ["make", "--plants", "0", "--out", "x"],
        ["make", "--days", "nan", "--out", "x"],
        ["make", "--days", "0", "--out", "x"],
        ["make", "--seed", "-1", "--out", "x"],
        ["make"],
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2(flags: list[str]) -> None:
    done = crossplant_here("data", *flags)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr


# ---- show ----


class _Tags(HTMLParser):
    """Every element of a page, with its attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


def _elements(page: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = _Tags()
    parser.feed(page)
    return parser.seen


def test_hostile_names_are_text_and_the_page_loads_and_runs_nothing(tmp_path: Path) -> None:
    schema = SensorSchema(tags=(HOSTILE, "b"), period_s=1)
    hostile = replace(
        site(HOSTILE), schema=schema, group=HOSTILE, source=HOSTILE, repairs=(Repair(HOSTILE, HOSTILE, 1),)
    )
    write_page(tmp_path / "a.html", Chosen(HOSTILE, hostile, (HOSTILE,)), View())
    page = (tmp_path / "a.html").read_text()
    elements = _elements(page)
    assert {"script", "link", "img", "iframe", "object"}.isdisjoint(tag for tag, _ in elements)
    for tag, attributes in elements:
        assert not any(name.startswith("on") or name == "src" for name in attributes)
        assert (attributes.get("href") or "#").startswith("#"), tag
    assert "default-src 'none'" in page
    assert page.count("&lt;script&gt;alert(1)") >= 6
    assert not re.search(r"https?://", page)


def test_a_spike_of_one_row_survives_among_a_million(tmp_path: Path) -> None:
    values = np.zeros((1_000_000, 1), np.float32)
    values[654_321] = 50
    values[12_345] = -50
    long = SiteData("long", SensorSchema(tags=("a",), period_s=1), values, values[:0], None)
    drawn = curve(long, 0, axis(stretches(long, View())), 900)
    heights = [int(number) for number in re.findall(r"(?:V| )([0-9]+)", drawn.path)]
    assert (drawn.low, drawn.high) == (-50, 50)
    assert {0, HEIGHT // 2, HEIGHT} <= set(heights)
    assert len(drawn.path) < 20_000


def test_the_page_of_a_large_site_is_bounded(tmp_path: Path) -> None:
    """As many tags as WADI; the rows hardly matter, since each tag gets at most one bucket a pixel."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(20_000, 127)).astype(np.float32)
    tags = tuple(f"2_FIC_{at}_PV" for at in range(127))
    large = SiteData("large", SensorSchema(tags=tags, period_s=1), values, values[:5_000], np.zeros(5_000, np.bool_))
    assert write_page(tmp_path / "a.html", Chosen("wadi", large, ()), View()) == 127
    assert (tmp_path / "a.html").stat().st_size < 3_000_000


def test_thousands_of_tags_are_not_all_drawn(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(50, 3_000)).astype(np.float32)
    tags = tuple(f"T{at}" for at in range(3_000))
    wide = SiteData("wide", SensorSchema(tags=tags, period_s=1), values, values[:0], None)
    assert write_page(tmp_path / "a.html", Chosen("x", wide, ()), View()) == 600
    assert "2400 more tags are not drawn" in (tmp_path / "a.html").read_text()


def test_labels_are_shaded_even_when_shorter_than_a_pixel() -> None:
    values = np.zeros((100_000, 1), np.float32)
    labels = np.zeros(100_000, np.bool_)
    labels[50_000] = True
    labels[99_999] = True
    one = SiteData("one", SensorSchema(tags=("a",), period_s=1), values, values, labels)
    found = shades(one, axis(stretches(one, View())))
    assert found == ((675, 676), (899, 900))


def test_constant_and_empty_tags_are_folded_and_gaps_break_the_line(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    values[:, 1], values[:, 2] = 4, np.nan
    values[50:60, 0] = np.nan
    gappy = SiteData("gappy", SensorSchema(tags=("moving", "still", "void"), period_s=1), values, values[:0], None)
    assert write_page(tmp_path / "a.html", Chosen("x", gappy, ()), View()) == 1
    page = (tmp_path / "a.html").read_text()
    assert "1 constant tags" in page
    assert "1 empty tags" in page
    assert "10 rows missing" in page
    (path,) = [attributes["d"] for tag, attributes in _elements(page) if attributes.get("class") == "curve"]
    assert path is not None
    assert path.count("M") == 2


def test_huge_and_infinite_readings_can_be_drawn(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(200, 1)).astype(np.float32)
    values[3], values[4], values[5], values[6] = 3.4e38, -3.4e38, np.inf, -np.inf
    huge = SiteData("huge", SensorSchema(tags=("a",), period_s=1), values, values, None)
    assert write_page(tmp_path / "a.html", Chosen("x", huge, ()), View()) == 1
    assert "NaN" not in (tmp_path / "a.html").read_text()


@pytest.mark.parametrize(
    ("view", "rows"),
    [
        (View(), [("train", 0, 20), ("test", 0, 12)]),
        (View("test"), [("test", 0, 12)]),
        (View("both", 5, 25), [("train", 5, 20), ("test", 0, 5)]),
        (View("both", 22), [("test", 2, 12)]),
        (View("test", 3, 999), [("test", 3, 12)]),
    ],
)
def test_rows_are_chosen_over_both_parts(view: View, rows: list[tuple[str, int, int]]) -> None:
    assert [(s.part, s.first, s.end) for s in stretches(site("a"), view)] == rows


def test_rows_and_tags_that_are_not_there_are_refused() -> None:
    with pytest.raises(InvalidConfig, match="12 rows"):
        stretches(site("a"), View("test", 12))
    with pytest.raises(UnknownName, match="'c'"):
        tag_columns(site("a"), ("b", "c"))
    assert tag_columns(site("a"), ("b", "a", "b")) == (1, 0)


def test_show_writes_one_page_and_replaces_it(msl: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "page.html"
    for _ in range(2):
        done = crossplant_here("data", "show", msl, "--site", "A-2", "--tags", "telemetry,command03", "--out", out)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("2 of 55 tags of A-2 drawn")
    assert [file.name for file in out.parent.iterdir()] == ["page.html"]


@pytest.mark.parametrize(
    ("flags", "code", "told"),
    [
        (["--site", "A-9"], "CP-102", "A-1, A-2"),
        (["--tags", "LIT101"], "CP-102", "telemetry, command01"),
        (["--dataset", "mls"], "CP-102", "msl"),
        (["--from", "500"], "CP-101", "70 rows"),
    ],
)
def test_show_refuses_in_one_line_and_writes_nothing(
    flags: list[str], code: str, told: str, msl: Path, tmp_path: Path
) -> None:
    done = crossplant_here("data", "show", msl, *flags, "--out", tmp_path / "page.html")
    assert done.returncode == 1
    assert done.stderr.startswith(code)
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "page.html").exists()


def test_show_of_what_is_no_data_set_points_to_check(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path, told in ((tmp_path / "empty", "crossplant data check"), (tmp_path / "nowhere", "does not exist")):
        done = crossplant_here("data", "show", path, "--out", tmp_path / "page.html")
        assert done.returncode == 1
        assert done.stderr.startswith("CP-201")
        assert told in done.stderr


# ---- list ----


def test_every_data_set_is_described() -> None:
    assert {entry["name"] for entry in inventory(None)} <= set(NEEDS)


def test_list_says_what_lies_where(msl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CROSSPLANT_DATA", raising=False)
    done = crossplant_here("data", "list", "--data", msl.parent, "--json")
    assert done.returncode == 0, done.stderr
    listed = json.loads(done.stdout)
    assert set(listed) == {"format", "data", "datasets"}
    entries: dict[str, dict[str, Any]] = {entry["name"]: entry for entry in listed["datasets"]}
    assert set(entries["msl"]) == {"name", "title", "needs", "partition", "path", "version"}
    assert entries["msl"]["path"] == str(msl)
    assert entries["batadal"]["path"] is None
    monkeypatch.setenv("CROSSPLANT_DATA", str(msl.parent))
    assert f"here       {msl} (" in crossplant_here("data", "list").stdout
    monkeypatch.delenv("CROSSPLANT_DATA")
    assert "set CROSSPLANT_DATA" in crossplant_here("data", "list").stdout


def test_list_of_no_folder_is_refused(tmp_path: Path) -> None:
    done = crossplant_here("data", "list", "--data", tmp_path / "nowhere")
    assert done.returncode == 1
    assert done.stderr.startswith("CP-201")


# ---- make ----


def test_make_hands_its_options_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    got: dict[str, Any] = {}
    stand_in = types.ModuleType("simulations.twin.make")
    stand_in.make = lambda **options: got.update(options) or [tmp_path / "plant-1"]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "simulations.twin.make", stand_in)
    flags = ["--plants", "3", "--days", "0.5", "--layout", "wadi", "--seed", "7"]
    done = crossplant_here("data", "make", *flags, "--out", tmp_path / "plants")
    assert done.returncode == 0, done.stderr
    assert got.pop("progress")
    assert got == {"plants": 3, "days": 0.5, "layout": "wadi", "seed": 7, "out": tmp_path / "plants", "xlsx": False}


def test_make_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    for out in (tmp_path, tmp_path / "thesis.txt"):
        done = crossplant_here("data", "make", "--out", out)
        assert done.returncode == 1
        assert done.stderr.startswith("CP-103")
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]
