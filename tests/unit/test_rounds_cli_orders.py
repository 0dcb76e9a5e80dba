"""`crossplant rounds promote, rollback, follow, orders`: what an operator says in a terminal."""

from __future__ import annotations

import dataclasses
import json
import os
import pwd
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from server.cli import rounds_app
from server.rounds_cli.options import me
from server.store import auditlog
from server.store.registry import Registry
from server.store.store import RoundStore
from shared.errors import InvalidConfig, RoundNotFound, StoreNotFound
from tests.support.old_store import released
from tests.support.stores import CONFIG, filled, model, record, state
from tests.unit.test_rounds_cli import call, call_json


@pytest.fixture
def store(tmp_path: Path) -> str:
    filled(tmp_path / "store")
    return str(tmp_path / "store")


def test_promote_orders_a_round_in_the_name_of_who_types(store: str) -> None:
    text = call("promote", "2", "--store", store, "--why", "fewer false alarms")
    assert f"Promoted round 2 of run a, model {model(2).digest[:12]}: order 1.\n" in text
    assert "The run's next round sends it to the plants" in text
    (order,) = Registry(RoundStore.open(store)).orders("a")
    assert (order.target, order.who, order.why, order.state.value) == (
        2, f"os:{pwd.getpwuid(os.getuid()).pw_name}", "fewer false alarms", "open",
    )  # fmt: skip
    with RoundStore.open(store).session() as session:
        (entry,) = auditlog.entries(session)
    assert (entry.who, entry.role, entry.action) == (order.who, "shell", "promote")


@pytest.mark.parametrize("status", ["finished", "failed", "interrupted"])
def test_of_a_run_that_is_over_it_says_what_carries_the_order_out(store: str, status: str) -> None:
    RoundStore.open(store).finish_run("a", status)
    text = call("promote", "3", "--store", store, "--why", "x")
    assert f"Run a is over ({status})." in text
    assert "`crossplant server run`" in text
    assert "`crossplant simulate --resume DIR`" in text
    assert max(map(len, text.splitlines())) <= 80


def test_rollback_and_follow(store: str) -> None:
    there = RoundStore.open(store)
    for number, label in ((4, "calibrate 1"), (5, "train"), (6, "calibrate 2")):
        there.commit(dataclasses.replace(record(state("a", number)), label=label), state("a", number))
    assert call_json("rollback", "--store", store, "--why", "noise")["round"] == 4
    assert call_json("rollback", "--store", store, "--to", "3", "--why", "more noise")["round"] == 3
    done = call_json("follow", "--store", store, "--why", "repaired")
    assert (done["action"], done["round"], done["state"], done["done_in"]) == ("follow", 6, "open", None)
    orders = call_json("orders", "--store", store)["orders"]
    assert [(o["action"], o["state"]) for o in orders] == [
        ("rollback", "replaced"), ("rollback", "replaced"), ("follow", "open"),
    ]  # fmt: skip
    assert [o["id"] for o in call_json("orders", "--store", store, "--last", "1")["orders"]] == [3]


def test_orders_fit_the_terminal_and_cannot_steer_it(store: str) -> None:
    call("promote", "2", "--store", store, "--why", "a very long reason " * 20)
    with closing(sqlite3.connect(f"{store}/rounds.sqlite")) as connection, connection:
        connection.execute("UPDATE orders SET who = ?", ("os:\x1b[2J\u202e" + "x" * 200,))
    text = call("orders", "--store", store)
    assert max(map(len, text.splitlines())) <= 80
    assert " ".join(text.splitlines()[2:]).split() == ["a", "very", "long", "reason"] * 20
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_without_orders_the_newest_goes_out(store: str) -> None:
    assert call("orders", "--store", store) == "Nobody has given an order for run a: each newest model goes out.\n"


@pytest.mark.parametrize("why", ["", "  ", "x" * 1001, "a\x1b[2Jb", "a\u202eb"])
def test_a_reason_is_required_and_is_text(store: str, why: str) -> None:
    with pytest.raises(InvalidConfig):
        call("promote", "2", "--store", store, "--why", why)
    assert call_json("orders", "--store", store)["orders"] == []
    for words in (["promote", "2"], ["rollback"], ["follow"]):
        assert CliRunner().invoke(rounds_app, [*words, "--store", store]).exit_code == 2


def test_what_is_not_there_cannot_be_ordered(store: str, tmp_path: Path) -> None:
    for words in (["promote", "9"], ["promote", "1"], ["rollback"], ["rollback", "--to", "99"]):
        with pytest.raises(RoundNotFound):
            call(*words, "--store", store, "--why", "x")
    for run in ("none", "\x1b[2J", "a' OR '1'='1"):
        with pytest.raises(RoundNotFound):
            call("promote", "2", "--store", store, "--run", run, "--why", "x")
    with pytest.raises(StoreNotFound):
        call("promote", "2", "--store", str(tmp_path / "none"), "--why", "x")
    assert not (tmp_path / "none").exists()


def test_an_older_store_gets_the_tables_that_an_order_needs(tmp_path: Path) -> None:
    released(tmp_path / "old")
    assert json.loads(call("orders", "--store", str(tmp_path / "old"), "--json"))["orders"] == []
    assert call_json("promote", "3", "--store", str(tmp_path / "old"), "--why", "x")["id"] == 1


def test_a_store_behind_a_url_is_changed_too(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.sqlite"
    there = RoundStore.create(url, tmp_path / "m")
    there.start_run("a", CONFIG)
    for number in (1, 2):
        there.commit(record(state("a", number)), state("a", number))
    assert call_json("promote", "2", "--store", url, "--why", "x")["round"] == 2


def test_a_user_without_a_name_has_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(number: int) -> str:
        raise KeyError("getpwuid(): uid not found: 4711")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert me().name.removeprefix("os:").isdigit()


def test_the_log_names_who_types_whatever_their_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    own = me().name
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "somebody-else")
    assert me().name == own
