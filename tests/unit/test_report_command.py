"""`crossplant report`: one file that needs nothing, plain words that are true, hostile text that stays text."""

from __future__ import annotations

import json
import re
import struct
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from server.console.opening import opened
from server.console.templating import coded
from server.report.advised import advised
from server.report.changes import Change, changes, middle
from server.report.material import MOST_PLANTS, Material, gather
from server.report.said import names, summary
from server.report.write import write_report
from server.rounds import PlantReport, RoundRecord, Status
from server.store.auditlog import Actor
from server.store.reading import Series
from server.store.registry import Registry
from server.store.store import RoundStore
from shared.config import build
from shared.errors import RoundNotFound
from shared.privacy.accounting import Event
from shared.privacy.defaults import private_layers
from shared.privacy.ledger import PrivacyLedger, Release
from tests.support import stores
from tests.support.command import crossplant_here
from tests.unit.test_report import Page

HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=1> $\\frac{1}$ {{ 7*7 }} `rm` \u202e\x01 –名"
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def plant(name: str, loss: float, counted: bool = True, reason: str = "late: no reply within 40 s") -> PlantReport:
    return PlantReport(name, counted, None if counted else reason, {"holdout_loss": loss}, 100, 900, 800, 1.5)


def commit(store: RoundStore, number: int, plants: tuple[PlantReport, ...], run: str = "a", **changed: object) -> None:
    after = stores.state(run, number)
    record: RoundRecord = replace(stores.record(after, plants), **changed)  # type: ignore[arg-type]
    store.commit(record, after)


def course(folder: Path) -> RoundStore:
    """Four rounds: north gets better, south worse; west is late but once."""
    store = RoundStore.create(str(folder))
    store.start_run("a", stores.CONFIG)
    for number in range(1, 5):
        west = plant("west", 0.5, counted=number == 1)
        commit(store, number, (plant("north", 1.0 / number), plant("south", 0.5 + 0.1 * number), west))
    return store


def material(folder: Path, run: str = "a") -> Material:
    return gather(str(folder), run, NOW)


def said(found: Material) -> dict[str, str]:
    return {paragraph.title: paragraph.text for paragraph in summary(found)}


def page(folder: Path, run: str = "a") -> Page:
    out = folder / "out" / "report.html"
    write_report(out, material(folder, run))
    assert [path.name for path in out.parent.iterdir()] == ["report.html"]
    return Page(out.read_text(encoding="utf-8"))


# ---- the page ----


def test_a_run_has_every_part(tmp_path: Path) -> None:
    course(tmp_path)
    found = page(tmp_path)
    for heading in ("In short", "What to do next", "Curves", "Plants", "What failed", "Models and changes", "Words"):
        assert heading in found.text
    assert found.tags["svg"] == found.tags["figcaption"] == 3
    assert found.html.count('role="img" aria-label="') == 3
    assert stores.CONFIG.digest in found.text
    assert "crossplant report a --store STORE --out FILE" in found.text


def test_it_needs_nothing_from_outside_and_runs_nothing(tmp_path: Path) -> None:
    course(tmp_path)
    found = page(tmp_path)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', found.html)
    assert policy
    assert policy[1].startswith("default-src 'none'; style-src 'unsafe-inline'")
    assert not re.search(r"https?:|//[a-z]|@import|\bsrc=|xmlns|javascript:", found.html)
    assert all(link.startswith("#") for link in found.links)
    assert not found.tags["script"] + found.tags["link"] + found.tags["img"] + found.tags["iframe"] + found.tags["form"]
    assert not {name for name in found.attributes if name.startswith("on")}


def test_ids_are_unique_and_every_reference_leads_somewhere(tmp_path: Path) -> None:
    course(tmp_path)
    found = page(tmp_path)
    assert [name for name, times in Counter(found.ids).items() if times > 1] == []
    named = {link[1:] for link in found.links} | set(re.findall(r"url\(#([^)]+)\)", found.html))
    assert named <= set(found.ids)
    assert found.tags["caption"] == found.tags["table"]


def test_no_path_of_this_machine_and_no_secret_of_the_store_is_in_it(tmp_path: Path) -> None:
    course(tmp_path)
    assert str(tmp_path) not in page(tmp_path).html
    assert "sqlite" not in page(tmp_path).html


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    store = RoundStore.create(str(tmp_path))
    store.start_run(HOSTILE, stores.CONFIG, HOSTILE)
    for number in (1, 2, 3):
        bad = plant(HOSTILE, 0.5, counted=False, reason=HOSTILE)
        commit(store, number, (plant(HOSTILE * 3, 1.0 / number), bad), HOSTILE, reason=HOSTILE, status=Status.SKIPPED)
    store.finish_run(HOSTILE, "failed", HOSTILE)
    Registry(opened(str(tmp_path), read_only=False)).promote(HOSTILE, 2, Actor("<b>ann", "operator"), "why <b>& `x`")
    found = page(tmp_path, HOSTILE)
    assert "script" not in found.tags
    assert "img" not in found.tags
    assert not {name for name in found.attributes if name.startswith("on") or name == "src"}
    assert "alert('x')" in found.text
    assert "{{ 7*7 }}" in found.text
    assert "\u202e" not in found.html
    assert "<b>ann" in found.text


def test_what_stands_in_backticks_is_a_command_and_still_text() -> None:
    assert str(coded("a `b <c>` d & `")) == "a <code>b &lt;c&gt;</code> d &amp; "


@pytest.mark.parametrize("rounds", [0, 1])
def test_a_run_that_has_just_begun_has_a_report(rounds: int, tmp_path: Path) -> None:
    stores.filled(tmp_path, rounds=rounds)
    found = page(tmp_path)
    assert "under way" in found.text or "is open" in found.text
    assert ("No plant has been asked yet." in found.text) == (rounds == 0)
    assert ("There is nothing to draw yet." in found.text) == (rounds == 0)


def test_no_table_and_no_curve_grows_with_the_rounds(tmp_path: Path) -> None:
    """Curves have 400 points at most; of 60 rounds no table has a line each."""
    store = RoundStore.create(str(tmp_path))
    store.start_run("a", stores.CONFIG)
    for number in range(1, 61):
        commit(store, number, (plant("north", 1.0 / number), plant("south", 0.5, counted=number % 2 == 0)))
    found = page(tmp_path)
    assert len(found.html) < 100_000
    assert found.tags["tr"] < 20


# ---- the words ----


def test_the_summary_says_who_took_part_and_for_whom_it_got_better(tmp_path: Path) -> None:
    course(tmp_path)
    told = said(material(tmp_path))
    assert told["Who took part?"].startswith("3 plants were asked: north, south and west.")
    assert "Fewer than half of their replies counted of west." in told["Who took part?"]
    better = told["Did it get better, and for whom?"]
    assert "fits 1 plant better than at first, by 75.0\N{NO-BREAK SPACE}% (median): north." in better
    assert "fits 1 plant worse than at first, by 50.0\N{NO-BREAK SPACE}% (median): south." in better
    assert "3 of 12 replies did not count." in told["What failed, and why?"]
    assert "late (3)" in told["What failed, and why?"]
    assert "promises no differential privacy" in told["What did it cost in privacy?"]


def test_what_to_do_names_the_missing_plant_with_a_cure_and_the_one_that_got_worse(tmp_path: Path) -> None:
    course(tmp_path)
    found = advised(material(tmp_path))
    (west,) = [one for one in found if one.what.startswith("west")]
    assert "has not counted in the last 3 rounds (late)" in west.what
    assert "rounds.deadline_s" in west.how
    assert any("south worse" in one.what for one in found)
    assert not any("north" in one.what for one in found)


def test_a_run_without_trouble_needs_nothing(tmp_path: Path) -> None:
    store = RoundStore.create(str(tmp_path))
    store.start_run("a", stores.CONFIG)
    for number in (1, 2):
        commit(store, number, (plant("north", 1.0 / number),))
    store.finish_run("a", "finished")
    found = material(tmp_path)
    assert [one.what for one in advised(found)] == ["Nothing needs to be done."]
    assert said(found)["What failed, and why?"].startswith("Nothing")


def test_a_run_that_failed_says_why_and_how_to_go_on(tmp_path: Path) -> None:
    store = course(tmp_path)
    commit(store, 5, (), status=Status.FAILED, reason="three rounds in a row had no quorum")
    store.finish_run("a", "failed", "CP-302 no quorum")
    found = material(tmp_path)
    assert "The run failed." in said(found)["How does the run stand?"]
    assert "CP-302 no quorum" in said(found)["How does the run stand?"]
    assert "three rounds in a row had no quorum" in said(found)["What failed, and why?"]
    assert "resume-run" in advised(found)[0].how


def test_an_operators_order_and_its_entry_in_the_audit_log_are_told(tmp_path: Path) -> None:
    course(tmp_path)
    Registry(opened(str(tmp_path), read_only=False)).promote("a", 3, Actor("ann", "operator"), "fewer false alarms")
    found = material(tmp_path)
    assert [(order.label, order.who) for order in found.orders] == [("promote round 3", "ann")]
    assert [(entry.who, entry.target) for entry in found.audit] == [("ann", "run a, round 3")]
    assert "An operator wants promote round 3" in said(found)["Which model is live where?"]
    text = page(tmp_path).text
    assert "fewer false alarms" in text
    assert any("waits to be carried out" in one.what for one in advised(found))


def test_entries_about_another_run_are_left_out(tmp_path: Path) -> None:
    store = course(tmp_path)
    store.start_run("ab", stores.CONFIG)
    for number in (1, 2):
        commit(store, number, (plant("north", 1.0),), "ab")
    registry = Registry(opened(str(tmp_path), read_only=False))
    registry.promote("ab", 2, Actor("ann", "operator"), "the other one")
    assert material(tmp_path).audit == ()


def test_results_of_a_simulation_beside_the_store_are_used_when_they_are_this_runs(tmp_path: Path) -> None:
    course(tmp_path)
    figures = {"auprc": 0.5, "event_recall": 0.75, "false_alarms_per_day": 2.5, "delay_s": None}
    site = {"site": "north", "metrics": figures, "threshold": {"status": "weak"}}
    content = {"run": "a", "sites": [site], "macro": figures}
    (tmp_path / "results.json").write_text(json.dumps(content), encoding="utf-8")
    found = material(tmp_path)
    better = said(found)["Did it get better, and for whom?"]
    assert "noticed 75.0\N{NO-BREAK SPACE}% of the events, with 2.5 false alarms a day" in better
    assert any("Too little normal data" in one.what and "north" in one.what for one in advised(found))
    assert "On labelled test data" in page(tmp_path).text
    (tmp_path / "results.json").write_text(json.dumps(content | {"run": "b"}), encoding="utf-8")
    assert material(tmp_path).results is None


def test_privacy_that_was_spent_is_told_from_the_ledgers(tmp_path: Path) -> None:
    noise = {"weights": 9.0, "below": 90.0, "loss": 90.0, "statistic": 90.0}
    asked = {"recipe": {"privacy": {"mode": "local", "epsilon": 3.0, "noise": noise}}}
    config = build({**private_layers(asked), "asked": asked})[0]
    store = RoundStore.create(str(tmp_path))
    store.start_run("a", config)
    ledger = PrivacyLedger(tmp_path / "privacy" / "north")
    ledger.charge(Release("a", 1, "weights", "0" * 64, Event(1.5, 1.0, 1), 1e-5, "row", "2026-11-22"), 3.0)
    found = material(tmp_path)
    (balance,) = found.balances
    assert balance.epsilon > 0.8 * 3.0
    told = said(found)["What did it cost in privacy?"]
    assert "at each plant, before anything leaves it) with an epsilon of 3." in told
    assert f"of north, stands at {balance.epsilon:.3g}"[:-1] in told
    assert any("of its privacy budget" in one.what for one in advised(found))


def test_a_change_is_from_the_first_figure_to_the_newest() -> None:
    series = {
        "a": Series("holdout_loss", "a", (1, 2, 3), (2.0, None, 1.0)),
        "b": Series("holdout_loss", "b", (1, 2), (1.0, 1.01)),
        "c": Series("holdout_loss", "c", (1,), (1.0,)),
        "d": Series("holdout_loss", "d", (1, 2), (0.0, 1.0)),
    }
    found = changes(series)
    assert set(found) == {"a", "b", "d"}
    assert found["a"] == Change(2.0, 1.0, 1, 3)
    assert [found[plant].verdict for plant in "abd"] == ["better", "alike", "alike"]
    assert middle([found["a"], found["d"]]) == -0.5
    assert middle([]) is None


def test_many_names_are_the_first_few() -> None:
    assert names([]) == "nobody"
    assert names([f"p{i}" for i in range(10)]) == "p0, p1, p2, p3, p4, p5, p6, p7 and 2 more"


def test_more_plants_than_fit_are_counted(tmp_path: Path) -> None:
    store = RoundStore.create(str(tmp_path))
    store.start_run("a", stores.CONFIG)
    commit(store, 1, tuple(plant(f"p{i:03d}", 1.0) for i in range(MOST_PLANTS + 5)))
    found = material(tmp_path)
    assert (len(found.plants), found.left_out) == (MOST_PLANTS, 5)
    assert said(found)["Who took part?"].startswith(f"{MOST_PLANTS + 5} plants were asked: ")
    assert "5 more plants are in the store" in page(tmp_path).text


# ---- the command ----


def test_the_command_writes_the_page_and_the_pictures(tmp_path: Path) -> None:
    course(tmp_path / "store")
    out, png = tmp_path / "new" / "a.html", tmp_path / "png"
    done = crossplant_here("report", "a", "--store", tmp_path / "store", "--out", out, "--png", png)
    assert (done.returncode, done.stderr) == (0, "")
    assert set(done.stdout.split()) == {str(out), *map(str, png.iterdir())}
    assert {path.name for path in png.iterdir()} == {"loss.png", "plants.png", "participation.png"}
    for path in png.iterdir():
        head = path.read_bytes()[:24]
        assert head[:8] == b"\x89PNG\r\n\x1a\n"
        width, height = struct.unpack(">II", head[16:24])
        assert width > 1200
        assert height > 200
    again = crossplant_here("report", "a", "--store", tmp_path / "store", "--out", out, "--png", png)
    assert again.returncode == 0


def test_pictures_of_an_earlier_report_do_not_stay(tmp_path: Path) -> None:
    course(tmp_path / "store")
    png = tmp_path / "png"
    png.mkdir()
    (png / "auprc.png").write_bytes(b"old")
    write_report(tmp_path / "a.html", material(tmp_path / "store"), png)
    assert "auprc.png" not in {path.name for path in png.iterdir()}


def test_another_file_is_not_overwritten(tmp_path: Path) -> None:
    course(tmp_path / "store")
    out = tmp_path / "thesis.html"
    out.write_text("<html>mine</html>", encoding="utf-8")
    done = crossplant_here("report", "a", "--store", tmp_path / "store", "--out", out)
    assert done.returncode == 1
    assert done.stderr.startswith("CP-106 FileTrouble: ")
    assert done.stderr.count("\n") == 1
    assert out.read_text(encoding="utf-8") == "<html>mine</html>"
    (tmp_path / "png").mkdir()
    (tmp_path / "png" / "holiday.png").write_bytes(b"mine")
    done = crossplant_here(
        "report", "a", "--store", tmp_path / "store", "--out", tmp_path / "b.html", "--png", tmp_path / "png"
    )
    assert done.stderr.startswith("CP-103 RunDirectoryInUse: ")
    assert not (tmp_path / "b.html").exists()


@pytest.mark.parametrize(
    ("run", "store", "code"), [("b", "store", "CP-403"), ("../a", "store", "CP-403"), ("a", "none", "CP-401")]
)
def test_what_is_not_there_is_one_line(run: str, store: str, code: str, tmp_path: Path) -> None:
    course(tmp_path / "store")
    done = crossplant_here("report", run, "--store", tmp_path / store, "--out", tmp_path / "a.html")
    assert done.returncode == 1
    assert done.stderr.startswith(code)
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "a.html").exists()


def test_a_page_that_cannot_be_written_leaves_no_half(tmp_path: Path) -> None:
    course(tmp_path / "store")
    (tmp_path / "file").write_bytes(b"")
    done = crossplant_here("report", "a", "--store", tmp_path / "store", "--out", tmp_path / "file" / "a.html")
    assert done.returncode == 1
    assert done.stderr.startswith("CP-106 FileTrouble: ")


def test_gathering_an_unknown_run_is_an_error_with_a_cure(tmp_path: Path) -> None:
    course(tmp_path)
    with pytest.raises(RoundNotFound):
        material(tmp_path, "nobody")
