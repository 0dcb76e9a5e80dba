"""`crossplant rounds list` and `watch` at size: pages, widths, hostile text, and nothing heavy imported."""

from __future__ import annotations

import dataclasses
import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from server.notice import Noticed
from server.rounds import JOINED, PlantReport, Status
from server.rounds_cli import watch
from server.rounds_cli.printing import table
from server.run.place import ServerPlace
from server.store import glance, migrate, views
from server.store.glance import Wanted, look
from server.store.models import MODEL
from server.store.place import DATABASE
from server.store.reading import Reader
from server.store.store import RoundStore
from shared.errors import RoundNotFound, StoreBusy, StoreNotFound, StoreUnreadable
from tests.support.disturbed import read_only, small_disk
from tests.support.old_store import released
from tests.support.stores import CONFIG, NORTH, SOUTH, alter, filled, model, record, state
from tests.unit.test_rounds_cli import call, call_json


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Sixty rounds, of which each tenth was skipped."""
    folder = tmp_path_factory.mktemp("long") / "store"
    store = RoundStore.create(str(folder))
    store.start_run("a", CONFIG)
    for number in range(1, 61):
        after = dataclasses.replace(state("a", number), model=model(3))
        done = record(after)
        if number % 10 == 0:
            done = dataclasses.replace(done, status=Status.SKIPPED, reason="too few")
        store.commit(done, after)
    return str(folder)


def numbers(text: str) -> list[int]:
    return [int(line.split()[0]) for line in text.splitlines() if line[:1].isdigit()]


def test_the_newest_fifty_are_listed_and_the_rest_is_pointed_to(long: str) -> None:
    text = call("list", "--store", long)
    assert text.startswith("Run a, 60 rounds\n")
    assert numbers(text) == list(range(11, 61))
    assert "Older ones: --before 11, or --all." in text
    older = call("list", "--store", long, "--before", "11")
    assert numbers(older) == list(range(1, 11))
    assert "Older ones" not in older
    assert numbers(call("list", "--store", long, "--all")) == list(range(1, 61))
    assert numbers(call("list", "--store", long, "--last", "3")) == [58, 59, 60]


def test_rounds_of_one_status(long: str) -> None:
    assert numbers(call("list", "--store", long, "--status", "skipped")) == [10, 20, 30, 40, 50, 60]
    assert numbers(call("list", "--store", long, "--status", "skipped", "--last", "2", "--before", "60")) == [40, 50]
    assert numbers(call("list", "--store", long, "--status", "failed")) == []


def test_json_gives_all_rounds_of_a_run_of_a_usual_length_and_a_way_to_older_ones(long: str) -> None:
    whole = call_json("list", "--store", long)
    assert [r["number"] for r in whole["rounds"]] == list(range(1, 61))
    assert (whole["of"], whole["before"]) == (60, None)
    page = call_json("list", "--store", long, "--last", "5")
    assert ([r["number"] for r in page["rounds"]], page["before"]) == ([56, 57, 58, 59, 60], 56)
    assert glance.MOST == 500


def test_a_line_is_what_the_whole_round_says(tmp_path: Path) -> None:
    store = filled(tmp_path)
    after = state("a", 4)
    store.commit(record(after, (NORTH, SOUTH, PlantReport("west", False, f"{JOINED} from round 5 on"))), after)
    page = look(str(tmp_path), None, Wanted())
    assert [views.line_of(one) for one in store.rounds("a")] == list(page.lines)
    assert (glance._FILE, glance._JOINED) == (DATABASE, JOINED)


def test_any_other_database_is_read_by_the_same_statements(tmp_path: Path) -> None:
    filled(tmp_path)
    by_url = look(f"sqlite:///{tmp_path}/rounds.sqlite", "a", Wanted(2, status="committed"))
    assert by_url == look(str(tmp_path), "a", Wanted(2, status="committed"))
    assert by_url.older
    assert glance.runs(f"sqlite:///{tmp_path}/rounds.sqlite", 5) == glance.runs(str(tmp_path), 5)


def test_a_store_on_a_medium_that_cannot_be_written_is_read(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 8):
        filled(tmp_path / "disk")
        with read_only(tmp_path / "disk"):
            assert not os.access(tmp_path / "disk", os.W_OK)
            assert look(str(tmp_path / "disk"), None, Wanted()).run.rounds == 3


def test_what_is_no_store_is_told_as_everywhere(tmp_path: Path) -> None:
    for location in ("", "  ", str(tmp_path), str(tmp_path / "none")):
        with pytest.raises(StoreNotFound):
            look(location, None, Wanted())
    (tmp_path / "rounds.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(StoreUnreadable):
        look(str(tmp_path), None, Wanted())
    RoundStore.create(str(tmp_path / "empty"))
    with pytest.raises(RoundNotFound, match="no run yet"):
        look(str(tmp_path / "empty"), None, Wanted())
    assert call("runs", "--store", str(tmp_path / "empty")) == "There is no run yet.\n"


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("metrics", '{"a": 1' + "0" * 400 + "}"),
        *(("metrics", "[1]"), ("metrics", "{"), ("metrics", '{"a": "b"}'), ("metrics", "[" * 50_000)),
        *(("seconds", "'long'"), ("label", 7), ("model", 1.5), ("state", '{"pruned": 3}'), ("state", '{"pruned"')),
    ],
)
def test_hostile_values_in_a_store_are_one_clear_error(tmp_path: Path, column: str, value: Any) -> None:
    filled(tmp_path)
    with closing(sqlite3.connect(tmp_path / "rounds.sqlite")) as connection, connection:
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute(
            f"UPDATE rounds SET {column} = CAST(? AS {'BLOB' if value == 7 else 'TEXT'}) WHERE number = 2", (value,)
        )
    if (column, value) == ("model", 1.5):  # text is text: it is shown
        assert call_json("list", "--store", str(tmp_path))["rounds"][1]["model"] == "1.5"
        return
    with pytest.raises(StoreUnreadable, match="round 2 of run 'a' holds values that are none"):
        look(str(tmp_path), None, Wanted())


@pytest.mark.parametrize("words", [["list"], ["list", "--json"], ["runs"], ["show", "1"], ["watch"]])
def test_a_store_of_a_newer_version_is_refused_by_every_way_to_look(tmp_path: Path, words: list[str]) -> None:
    filled(tmp_path).finish_run("a", "finished")
    alter(tmp_path, "UPDATE alembic_version SET version_num = '0999'")
    with pytest.raises(StoreUnreadable, match="is of version '0999'"):
        call(*words, "--store", str(tmp_path))


@pytest.mark.parametrize("change", ["rounds SET number = 'x' WHERE number = 2", "runs SET name = x'00'"])
@pytest.mark.parametrize(
    "words", [["list"], ["show", "1"], ["prune", "--keep", "1", "--yes"], ["rollback", "--why", "x"]]
)
def test_keys_that_are_none_are_one_clear_error(tmp_path: Path, change: str, words: list[str]) -> None:
    filled(tmp_path)
    alter(tmp_path, f"UPDATE {change}")
    with suppress(StoreUnreadable, RoundNotFound):
        call(*words, "--store", str(tmp_path))


@pytest.mark.parametrize("words", [["list", "--last"], ["list", "--before"], ["runs", "--last"], ["orders", "--last"]])
def test_a_number_beyond_all_rounds_is_as_good_as_any(tmp_path: Path, words: list[str]) -> None:
    filled(tmp_path)
    assert call(*words, str(10**24), "--store", str(tmp_path)) == call(*words, "1000", "--store", str(tmp_path))


def test_a_store_without_a_version_is_listed(tmp_path: Path) -> None:
    released(tmp_path)
    assert look(str(tmp_path), None, Wanted()).run.rounds == 3
    assert glance.KNOWN == migrate.KNOWN


def test_runs_are_listed(tmp_path: Path) -> None:
    store = filled(tmp_path)
    store.start_run("b" * 60, CONFIG, note="a note \x1b[31m that is rather long and goes on and on " * 3)
    found = call_json("runs", "--store", str(tmp_path))["runs"]
    assert [(run["name"], run["rounds"], run["status"]) for run in found] == [
        ("a", 3, "running"), ("b" * 60, 0, "running"),
    ]  # fmt: skip
    text = call("runs", "--store", str(tmp_path))
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 80


# ---- eighty columns ----

WILD = "works \x1b[2J\u202e[red]" + "長" * 40 + " of the " + "very " * 30 + "north"


@pytest.mark.parametrize("columns", ["80", "44"])
def test_tables_fit_the_terminal_whatever_plants_are_called(
    tmp_path: Path, columns: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rich.cells import cell_len

    monkeypatch.setenv("COLUMNS", columns)
    store = filled(tmp_path)
    after = state("a", 4)
    metrics = {"holdout_loss": 1.23456e-12, "train_loss": 123456.0, "m" * 90: 1.0}
    wild = PlantReport(WILD, True, None, metrics, 10**12, 10**10, 10**10, 99999.25, {"train": 1.0})
    label = "a step with quite a long name, and more of it"
    mute = PlantReport(f"{WILD}!", False, "late: " + "because " * 40)
    store.commit(dataclasses.replace(record(after, (wild, mute)), label=label), after)
    for words in (["list"], ["show", "4"], ["compare", "3", "4"], ["runs"]):
        text = call(*words, "--store", str(tmp_path))
        assert text.isprintable() or all(c.isprintable() for c in text.replace("\n", ""))
        lines = text.splitlines()
        heads = [i for i, line in enumerate(lines) if line.split()[:1] in (["#"], ["plant"], ["cluster"], ["tensor"])]
        assert heads or words == ["runs"]
        for head in heads:
            assert all(cell_len(line) <= int(columns) for line in lines[head : head + 3])
    shown = call("show", "4", "--store", str(tmp_path))
    assert "because because" in shown  # a reason is whole, below the table
    assert call_json("show", "4", "--store", str(tmp_path))["cohort"][0] == WILD


def test_a_table_that_does_not_fit_is_cut_where_names_are_alike() -> None:
    rows = [["the plant at the river, north", "1.5"], ["the plant at the river, south", "2"]]
    lines = table(["plant", "s"], rows, 1, 20)
    assert lines == ["plant              s", "the plant …north 1.5", "the plant …south   2"]
    assert all(len(line) <= 9 for line in table(["a", "b"], [["x" * 99, "9" * 99]], 1, 9))


# ---- half a second ----


def test_listing_imports_neither_sqlalchemy_nor_numpy(tmp_path: Path) -> None:
    filled(tmp_path)
    program = f"""
import sys
from shared.cli import run
assert run(["rounds", "list", "--store", {str(tmp_path)!r}]) == 0
assert run(["rounds", "list", "--store", {str(tmp_path)!r}, "--json"]) == 0
heavy = {{"sqlalchemy", "numpy", "pydantic", "rich.console", "sklearn", "torch", "flwr"}} & sys.modules.keys()
sys.exit(f"imports {{heavy}}" if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


# ---- watch ----


@pytest.fixture
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_EVERY_S", 0.05)


@pytest.mark.usefixtures("_soon")
def test_watch_tells_rounds_as_they_end_and_ends_with_the_run(tmp_path: Path) -> None:
    store = filled(tmp_path, rounds=7)

    def go_on() -> None:
        for number in (8, 9):
            time.sleep(0.2)
            store.commit(record(state("a", number)), state("a", number))
        store.finish_run("a", "failed", "CP-302 \x1b[2J gave up")

    writer = threading.Thread(target=go_on)
    writer.start()
    text = call("watch", "--store", str(tmp_path))
    writer.join()
    assert numbers(text) == [3, 4, 5, 6, 7, 8, 9]
    assert text.endswith("Run a, 9 rounds, failed\nRun a failed: CP-302 \\x1b[2J gave up\n")
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.usefixtures("_soon")
@pytest.mark.parametrize("locked", [(Reader, "version"), (glance, "look")])
def test_watch_outlasts_a_database_that_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locked: tuple[Any, str]
) -> None:
    store, (owner, name) = filled(tmp_path), locked
    free, calls = getattr(owner, name), []

    def sometimes(*arguments: Any) -> Any:
        calls.append(name)
        if len(calls) == 2:
            store.commit(record(state("a", 4)), state("a", 4))
            store.finish_run("a", "finished")
            raise StoreBusy("the store is locked by another process.")
        return free(*arguments)

    monkeypatch.setattr(owner, name, sometimes)
    text = call("watch", "--store", str(tmp_path))
    assert numbers(text) == [1, 2, 3, 4]
    assert text.endswith("Run a, 4 rounds, finished\n")


@pytest.mark.usefixtures("_soon")
def test_watch_names_the_plants_that_a_round_waits_for(tmp_path: Path) -> None:
    store, place = filled(tmp_path), ServerPlace(tmp_path)
    place.prepare()
    Noticed(place.waits, "a").round_waits(4, ["north", "so\x1buth"], 3.0, 60.0)

    def go_on() -> None:
        time.sleep(0.4)
        store.commit(record(state("a", 4)), state("a", 4))

    writer = threading.Thread(target=go_on)
    writer.start()
    out = call("watch", "--store", str(tmp_path), "--until-round", "4", "--json")
    writer.join()
    values = [json.loads(line) for line in out.splitlines()]
    waits = [value["waits"] for value in values if "waits" in value]
    assert [(w["round"], w["plants"]) for w in waits] == [(4, ["north", "so\x1buth"])]
    assert [value["round"]["number"] for value in values if "round" in value] == [1, 2, 3, 4]
    assert values[-1]["run"]["rounds"] == 4


def test_watch_of_a_run_that_is_over_says_so_at_once(tmp_path: Path) -> None:
    filled(tmp_path).finish_run("a", "finished")
    assert call("watch", "--store", str(tmp_path)).endswith("Run a, 3 rounds, finished\n")


def test_ctrl_c_ends_watch_with_130(tmp_path: Path) -> None:
    import signal

    filled(tmp_path)
    command = [sys.executable, "-m", "shared", "rounds", "watch", "--store", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while not process.stdout.readline().startswith("3 "):
            pass
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=30)
    assert (process.returncode, told) == (130, "Interrupted.\n")


def test_a_pruned_round_says_so_in_the_list(tmp_path: Path) -> None:
    filled(tmp_path)
    with closing(sqlite3.connect(tmp_path / "rounds.sqlite")) as connection, connection:
        connection.execute("""UPDATE rounds SET state = '{"pruned": "2026-01-02T03:04:05"}' WHERE number = 2""")
    (tmp_path / f"models/{model(2).digest}{MODEL}").unlink()
    assert call("list", "--store", str(tmp_path)).splitlines()[3].split()[-2] == "pruned"
    rounds = call_json("list", "--store", str(tmp_path))["rounds"]
    assert [r.get("pruned") for r in rounds] == [None, "2026-01-02T03:04:05", None]
