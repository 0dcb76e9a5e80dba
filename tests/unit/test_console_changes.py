"""Changes by the console's forms: orders with their reasons, pruning, and who may."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from server.rounds import Phase, PlantReport
from server.store.auditlog import Actor
from tests.support.console_html import checked, seen
from tests.support.console_runs import PLANTS, Visitor, console, rich, round_of
from tests.support.stores import state


def token(visitor: Visitor, path: str = "/runs/a/registry") -> str:
    found = [one["value"] for one in seen(visitor, path).every("input") if one.get("name") == "csrf"]
    return found[0]


@pytest.fixture
def own(tmp_path: Path) -> Visitor:
    rich(tmp_path / "store", 14)
    return Visitor(console(tmp_path / "store"))


def test_an_operator_promotes_rolls_back_and_follows_with_a_reason(own: Visitor) -> None:
    own.log_in("olaf")
    csrf = token(own)
    for action, form in (
        ("promote", {"number": "13", "why": "best at all plants"}),
        ("rollback", {"to": "12", "why": "alarms at north"}),
        ("follow", {"why": "solved"}),
    ):
        answer = own.post(f"/runs/a/{action}", {"csrf": csrf} | form)
        assert answer.status_code == 303, answer.text
        assert answer.headers["location"].startswith("/runs/a/registry?ordered=")
        text = seen(own, answer.headers["location"]).text
        assert form["why"] in text
        assert "is written down" in text
    log = seen(own, "/audit").text
    assert all(why in log for why in ("best at all plants", "alarms at north", "solved"))
    states = [order.state.value for order in own.app.state.console.registry.orders("a")]
    assert states == ["open", "replaced", "replaced"]


def test_of_a_run_that_is_over_the_page_says_what_carries_an_order_out(own: Visitor) -> None:
    own.log_in("olaf")
    own.post("/runs/a/promote", {"csrf": token(own), "number": "13", "why": "x"})
    assert "simulate --resume" not in seen(own, "/runs/a/registry").text
    own.app.state.console.store.finish_run("a", "finished")
    assert "of a simulation crossplant simulate --resume DIR" in seen(own, "/runs/a/registry").text


def test_what_holds_is_told_apart_from_what_is_only_ordered(own: Visitor) -> None:
    held, store = own.app.state.console, own.app.state.console.store
    own.log_in("olaf")
    assert "Nobody has chosen a model" in seen(own, "/runs/a/registry").text
    order = held.registry.promote("a", 13, Actor("olaf", "operator"), "best")
    text = seen(own, "/runs/a/registry").text
    assert "Nobody has chosen a model" in text
    assert "waiting for the next round" in text
    parts = tuple(PlantReport(plant, True) for plant in PLANTS)
    told = replace(round_of("a", 15), phase=Phase.CALIBRATE, plants=parts, label=order.label)
    store.commit(told, state("a", 15), order=order.id)
    text = seen(own, "/runs/a/registry").text
    assert "Carried out in round 15" in text
    assert "waiting for the next round" not in text
    assert text.count("as ordered") == len(PLANTS)


def test_an_order_without_a_reason_or_for_a_round_without_clusters_is_an_error_page(own: Visitor) -> None:
    own.log_in("olaf")
    csrf = token(own)
    for form, status in (
        ({"number": "13", "why": ""}, 422),
        ({"number": "13"}, 422),
        ({"number": "x", "why": "a"}, 422),
        ({"number": "999", "why": "a"}, 404),
        ({"number": "1", "why": "a"}, 404),
        ({"number": "13", "why": "a\x00b"}, 422),
    ):
        answer = own.post("/runs/a/promote", {"csrf": csrf} | form)
        assert answer.status_code == status, form
        checked(answer.text)
    assert own.app.state.console.registry.orders("a") == []


def test_a_viewer_sees_no_forms_and_changes_nothing_by_them(own: Visitor) -> None:
    own.log_in("vera")
    page = seen(own, "/runs/a/registry")
    assert [one["action"] for one in page.every("form")] == ["/logout"]
    csrf = token(own)
    for action in ("promote", "rollback", "follow", "prune"):
        answer = own.post(f"/runs/a/{action}", {"csrf": csrf, "number": "13", "why": "a", "keep": "1"})
        assert answer.status_code == 403
        checked(answer.text)
    assert own.app.state.console.registry.orders("a") == []


def test_an_admin_sees_what_pruning_would_remove_before_it_does(own: Visitor) -> None:
    own.log_in("ann")
    page = seen(own, "/runs/a/registry?keep=4")
    assert "would be pruned" in page.text
    assert {"type": "hidden", "name": "keep", "value": "4"} in page.every("input")
    assert own.app.state.console.store.model("a", 2) is not None
    answer = own.post("/runs/a/prune", {"csrf": token(own), "keep": "4"})
    assert answer.status_code == 303, answer.text
    assert "10 rounds pruned" in seen(own, answer.headers["location"]).text
    page = seen(own, "/runs/a/rounds/2")
    assert "It was pruned." in page.text
    assert not [one for one in page.every("a") if one["href"].endswith("/export")]
    assert "cannot be compared" in seen(own, "/runs/a/compare?a=2&b=14").text
    assert own.get("/runs/a/rounds/2/export").status_code == 404


def test_an_operator_may_not_prune(own: Visitor) -> None:
    own.log_in("olaf")
    assert own.post("/runs/a/prune", {"csrf": token(own), "keep": "4"}).status_code == 403


def test_a_read_only_console_has_no_forms_that_change_anything(tmp_path: Path) -> None:
    rich(tmp_path / "store", 14)
    console(tmp_path / "store")  # makes the people
    there = Visitor(console(tmp_path / "store", read_only=True)).log_in("ann")
    for path in ("/runs/a/registry?keep=3", "/runs/a/rounds/14", "/accounts"):
        page = seen(there, path)
        assert [one["action"] for one in page.every("form") if one.get("method") == "post"] == ["/logout"], path
