"""After any commits, orders and prunes, killed or not, all that must stay is there and the run can be resumed."""

from __future__ import annotations

import dataclasses
import os
import tempfile
import time
from pathlib import Path
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from server.rounds import Anchor, OptimizerState
from server.store import retention
from server.store.auditlog import Actor
from server.store.check import check
from server.store.registry import Registry
from server.store.retention import Policy, prune, pruned_on
from server.store.store import RoundStore
from shared.errors import RoundNotFound
from tests.support.stores import CONFIG, model, record, state

ME = Actor("os:me", "shell")

commits = st.tuples(st.just("commit"), st.integers(2, 7), st.integers(0, 7))  # model, model of the anchor or none
orders = st.tuples(st.just("promote"), st.integers(1, 12), st.just(0))
backs = st.tuples(st.just("rollback"), st.just(0), st.just(0))
prunes = st.tuples(st.sampled_from(["prune", "prune beside a writer", "killed prune"]), st.integers(1, 6), st.just(0))
ends = st.tuples(st.just("finish"), st.just(0), st.just(0))
stories = st.lists(st.one_of(commits, commits, commits, orders, backs, prunes, ends), min_size=3, max_size=14)


class Killed(BaseException):
    pass


def play(store: RoundStore, story: list[tuple[str, int, int]]) -> set[str]:
    """Do it all; digests of models that were ever ordered."""
    registry, ordered, number = Registry(store), set[str](), 0
    for what, first, second in story:
        try:
            if what == "commit":
                number += 1
                commit(store, number, first, second)
            elif what == "promote":
                ordered.add(registry.promote("a", first, ME, "why").model)
            elif what == "rollback":
                ordered.add(registry.rollback("a", ME, "why").model)
            elif what == "finish":
                store.finish_run("a", "finished")
            else:
                cut(store, what, Policy(keep=first))
        except RoundNotFound:  # such a round there is not, or it was pruned: refused in words
            continue
    return ordered


def commit(store: RoundStore, number: int, seed: int, anchor: int) -> None:
    after = dataclasses.replace(state("a", number, adam=True), model=model(seed))
    if anchor > 1:
        held = Anchor(1, model(anchor), OptimizerState(anchor, {}, {}), {})
        after = dataclasses.replace(after, anchor=held)
    store.commit(record(after), after)


def cut(store: RoundStore, what: str, policy: Policy) -> None:
    for path in (store.folder / "models").glob("*"):
        os.utime(path, (time.time() - 7200,) * 2)
    if what == "prune":
        prune(store, policy, ME)
    elif what == "killed prune":
        try:
            with mock.patch.object(retention, "_sweep", side_effect=Killed):
                prune(store, policy, ME)
        except Killed:
            pass
    else:
        with RoundStore.open(str(store.folder)).lock():
            prune(store, policy, ME)


@settings(max_examples=25, deadline=None)
@given(stories)
def test_what_must_stay_stays(story: list[tuple[str, int, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = RoundStore.create(folder)
        store.start_run("a", CONFIG)
        ordered = play(store, story)
        models = {path.name for path in (Path(folder) / "models").glob("*")}
        assert {f"{digest}.safetensors" for digest in ordered} <= models
        for one in store.rounds("a"):
            if pruned_on(store, "a", one.number) is None:
                assert store.state_at("a", one.number).finished == one.number
        if store.run("a").rounds:
            assert store.latest_state("a") is not None
        assert check(store).whole
        prune(store, Policy(keep=1), ME)
        assert check(store).whole
