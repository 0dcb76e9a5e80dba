"""What `crossplant rounds prune` takes away, what it never does, and what a kill in the middle leaves."""

from __future__ import annotations

import dataclasses
import os
import time
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session
from typer.testing import CliRunner

from server.cli import rounds_app
from server.rounds import Anchor, Best, OptimizerState, Phase
from server.store import retention, sweep
from server.store.auditlog import Actor
from server.store.export import export_round
from server.store.models import MODEL, ModelFiles
from server.store.registry import Registry
from server.store.retention import Policy, Pruned, foresee, prune, pruned_on
from server.store.store import RoundStore
from server.store.tables import RoundRow
from shared.errors import InvalidConfig, RoundNotFound
from tests.support.stores import CONFIG, filled, model, record, state
from tests.unit.test_rounds_cli import call, call_json

ME = Actor("os:me", "shell")


def over(folder: Path, rounds: int = 6) -> RoundStore:
    """A store with a run that is over."""
    store = filled(folder, rounds, adam=True)
    store.finish_run("a", "finished")
    return store


def gone(found: Pruned) -> list[int]:
    return list(found.rounds.get("a", ()))


def files(folder: Path) -> set[str]:
    return {path.name for path in (folder / "models").iterdir()}


def test_the_newest_rounds_stay_and_the_others_lose_state_and_files(tmp_path: Path) -> None:
    store = over(tmp_path)
    before = files(tmp_path)
    foreseen = foresee(store, Policy(keep=2))
    assert files(tmp_path) == before
    found = prune(store, Policy(keep=2), ME)
    assert foreseen == found
    assert gone(found) == [1, 2, 3, 4]
    assert found.files == len(before - files(tmp_path)) == 7  # three models, and four moments: the first has no model
    for number in (5, 6):
        assert store.model("a", number).digest == model(number).digest
        assert store.state_at("a", number).optimizer.step == number
    assert [r.number for r in store.rounds("a")] == [1, 2, 3, 4, 5, 6]
    assert store.round("a", 3).model == model(3).digest  # what is known of it stays
    with store.session() as session:
        named = session.scalars(select(RoundRow.optimizer).order_by(RoundRow.number)).all()
    assert [digest is None for digest in named] == [True] * 4 + [False] * 2
    assert prune(store, Policy(keep=2), ME) == Pruned({}, 0, 0, 0)


def test_a_pruned_round_says_so_wherever_it_is_asked_for(tmp_path: Path) -> None:
    store = over(tmp_path / "s")
    prune(store, Policy(keep=2), ME)
    date = pruned_on(store, "a", 3)
    assert date is not None
    for ask in (store.model, store.state_at, lambda run, number: Registry(store).promote(run, number, ME, "why")):
        with pytest.raises(RoundNotFound, match=rf"pruned on {date[:10]}"):
            ask("a", 3)
    with pytest.raises(RoundNotFound, match="pruned on"):
        export_round(store, "a", 3, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    shown = call("show", "3", "--store", str(tmp_path / "s"))
    assert f"pruned on {date}" in shown
    assert call_json("show", "3", "--store", str(tmp_path / "s"))["pruned"] == date
    compared = call("compare", "3", "6", "--store", str(tmp_path / "s"))
    assert f"the model of round 3 of run 'a' was pruned on {date}" in compared
    assert "holdout_loss" in compared


def test_a_promoted_model_is_never_pruned(tmp_path: Path) -> None:
    store = over(tmp_path / "s", 9)
    registry = Registry(store)
    registry.promote("a", 2, ME, "first")
    registry.promote("a", 4, ME, "better")  # the first is replaced, and was ordered all the same
    found = prune(store, Policy(keep=1), ME)
    assert gone(found) == [1, 3, 5, 6, 7, 8]
    for number in (2, 4):
        assert store.model("a", number).digest == model(number).digest
        assert export_round(store, "a", number, tmp_path / f"out{number}")["round"] == number


def test_what_plants_score_by_and_what_a_rollback_would_go_back_to_stays(tmp_path: Path) -> None:
    store = RoundStore.create(str(tmp_path))
    store.start_run("a", CONFIG)
    for number in range(1, 9):
        after = state("a", number)
        label = f"calibrate {number}" if number in (3, 6) else f"train {number}/9"
        store.commit(dataclasses.replace(record(after), label=label), after)
    store.finish_run("a", "finished")
    assert Registry(store).before("a") == 3
    assert gone(prune(store, Policy(keep=1), ME)) == [1, 2, 4, 5, 7]
    assert Registry(store).rollback("a", ME, "alarms at night").target == 3


def test_a_calibration_that_comes_while_a_prune_looks_keeps_what_a_rollback_goes_back_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RoundStore.create(str(tmp_path))
    store.start_run("a", CONFIG)
    whole = RoundStore.session

    def put(numbers: range) -> None:
        for number in numbers:
            after = state("a", number)
            label = f"calibrate {number}" if number in (2, 5, 9) else f"train {number}/9"
            store.commit(dataclasses.replace(record(after), label=label), after)

    def late(own: RoundStore, writes: bool = False) -> AbstractContextManager[Session]:
        if writes:  # another process is quicker
            monkeypatch.setattr(RoundStore, "session", whole)
            put(range(9, 13))
        return whole(own, writes)

    put(range(1, 9))
    monkeypatch.setattr(RoundStore, "session", late)
    assert gone(prune(store, Policy(keep=1), ME)) == [1, 2, 3, 4, 6, 7, 8]
    assert Registry(store).rollback("a", ME, "alarms at night").target == 5


def test_anchor_best_and_moments_of_the_newest_state_stay(tmp_path: Path) -> None:
    store = over(tmp_path, 4)
    kept = OptimizerState(9, {"w": model(9).weights["head.bias"]}, {})
    anchor, best = Anchor(2, model(2), kept, {"north": 0.5}), Best(Phase.JOINT, 3, model(3), kept, {}, {})
    after = dataclasses.replace(state("a", 5), anchor=anchor, best=best)
    store.commit(record(after), after)
    store.finish_run("a", "finished")
    assert gone(prune(store, Policy(keep=1), ME)) == [1, 2, 3, 4]
    latest = store.latest_state("a")
    assert latest is not None
    assert latest.anchor is not None
    assert latest.best is not None
    assert (latest.anchor.model.digest, latest.best.model.digest) == (model(2).digest, model(3).digest)
    assert latest.best.optimizer.step == 9


def test_a_model_that_two_rounds_share_goes_with_the_last_of_them(tmp_path: Path) -> None:
    store = over(tmp_path, 3)
    for number in (4, 5):
        after = dataclasses.replace(state("a", number), model=model(3))
        store.commit(record(after), after)
    store.finish_run("a", "finished")
    prune(store, Policy(keep=1), ME)
    assert f"{model(3).digest}{MODEL}" in files(tmp_path)
    assert store.model("a", 5).digest == model(3).digest


def test_a_run_under_way_keeps_its_last_rounds_whatever_is_asked(tmp_path: Path) -> None:
    store = filled(tmp_path, 6)
    assert gone(prune(store, Policy(keep=1), ME)) == [1, 2, 3]


def test_rounds_go_by_age_and_both_rules_have_to_agree(tmp_path: Path) -> None:
    store = RoundStore.create(str(tmp_path))
    store.start_run("a", CONFIG)
    now = datetime.now(UTC)
    for number, days in enumerate([40, 30, 20, 1, 0], 1):
        began = (now - timedelta(days=days)).isoformat() if number != 2 else "no time"
        store.commit(dataclasses.replace(record(state("a", number)), started=began), state("a", number))
    store.finish_run("a", "finished")
    assert gone(foresee(store, Policy(older_than_days=10))) == [1, 3]  # the one without a time is young
    assert gone(foresee(store, Policy(keep=3, older_than_days=10))) == [1]
    assert gone(foresee(store, Policy(keep=1, older_than_days=0.5))) == [1, 3, 4]
    assert gone(foresee(store, Policy(older_than_days=0))) == [1, 3, 4]  # never the newest


def test_one_run_or_all(tmp_path: Path) -> None:
    store = over(tmp_path, 4)
    store.start_run("b", CONFIG)
    for number in range(1, 5):
        store.commit(record(state("b", number)), state("b", number))
    store.finish_run("b", "failed")
    assert dict(foresee(store, Policy(keep=2)).rounds) == {"a": (1, 2), "b": (1, 2)}
    assert dict(prune(store, Policy(keep=1), ME, "b").rounds) == {"b": (1, 2, 3)}
    assert store.model("a", 2).digest == model(2).digest
    with pytest.raises(RoundNotFound):
        prune(store, Policy(keep=1), ME, "c")


@pytest.mark.parametrize(
    ("keep", "days"), [(None, None), (0, None), (None, -1.0), (None, float("nan")), (None, 36_501.0), (None, 1e300)]
)
def test_a_policy_that_says_nothing_is_refused(keep: int | None, days: float | None) -> None:
    with pytest.raises(InvalidConfig):
        Policy(keep, days)


def test_pruning_is_written_down(tmp_path: Path) -> None:
    from server.store import auditlog

    store = over(tmp_path)
    prune(store, Policy(keep=2), ME, "a")
    with store.session() as session:
        (entry,) = auditlog.entries(session)
    assert (entry.who, entry.action, entry.target) == ("os:me", "prune", "run a")
    assert entry.detail == {"keep": 2, "older_than_days": None, "rounds": {"a": "1 to 4"}}


# ---- killed in the middle, beside a writer ----


def test_a_prune_that_was_killed_after_the_database_is_finished_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, before = over(tmp_path), files(tmp_path)

    def die(store: RoundStore) -> sweep.Swept:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(retention, "_sweep", die)
        with pytest.raises(KeyboardInterrupt):
            prune(store, Policy(keep=2), ME)
    assert files(tmp_path) == before
    with pytest.raises(RoundNotFound, match="pruned"):
        store.model("a", 3)
    found = prune(store, Policy(keep=2), ME)
    assert (gone(found), found.files) == ([], 7)


def test_a_file_that_was_set_aside_by_a_killed_prune_goes_or_comes_back(tmp_path: Path) -> None:
    store = over(tmp_path)
    prune(store, Policy(keep=2), ME)
    needed, idle = f"{model(6).digest}{MODEL}", f"{model(2).digest}{MODEL}"
    (tmp_path / "models" / needed).rename(tmp_path / "models" / f".{needed}.gone")
    (tmp_path / "models" / f".{idle}.gone").write_bytes(b"x")
    prune(store, Policy(keep=2), ME)
    assert not {name for name in files(tmp_path) if name.startswith(".")}
    assert store.model("a", 6).digest == model(6).digest


def test_files_that_no_round_ever_named_go_after_an_hour(tmp_path: Path) -> None:
    store = over(tmp_path)
    models = ModelFiles(tmp_path / "models")
    young, old = models.path(models.put(model(50))), models.path(models.put(model(51)))
    (tmp_path / "models/notes.txt").write_text("mine")
    half = tmp_path / "models" / f".{old.name}.tmp"
    half.write_bytes(b"half")
    for path in (old, half):
        os.utime(path, (time.time() - 7200,) * 2)
    found = prune(store, Policy(keep=100), ME)
    assert (found.files, found.later) == (1, 1)
    assert young.exists()
    assert not old.exists()
    assert not half.exists()
    assert (tmp_path / "models/notes.txt").exists()


def test_beside_a_writer_files_that_were_marked_lately_stay(tmp_path: Path) -> None:
    store = over(tmp_path)
    with RoundStore.open(str(tmp_path)).lock():  # as a run does from its beginning to its end
        found = prune(store, Policy(keep=2), ME)
    assert (gone(found), found.files, found.later) == ([1, 2, 3, 4], 0, 7)
    assert prune(store, Policy(keep=2), ME).files == 7


def test_a_writer_that_relies_on_a_file_keeps_it(tmp_path: Path) -> None:
    """The round before the last brings back a model of a round that is being pruned: its file is there already."""
    store = over(tmp_path)
    for path in (tmp_path / "models").iterdir():
        os.utime(path, (time.time() - 7200,) * 2)
    with RoundStore.open(str(tmp_path)).lock():
        ModelFiles(tmp_path / "models").put(model(2))  # and its round is about to be committed
        found = prune(store, Policy(keep=2), ME)
        assert found.later == 1
        after = dataclasses.replace(state("a", 7), model=model(2))
        store.commit(record(after), after)
    assert store.model("a", 7).digest == model(2).digest
    prune(store, Policy(keep=1), ME)
    assert store.model("a", 7).digest == model(2).digest


def test_a_mark_that_comes_while_a_file_is_set_aside_is_heeded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, models = over(tmp_path), ModelFiles(tmp_path / "models")
    for path in (tmp_path / "models").iterdir():
        os.utime(path, (time.time() - 7200,) * 2)
    replace = Path.replace

    def mark_first(path: Path, target: Path) -> Path:
        if path.name == f"{model(2).digest}{MODEL}":
            models.put(model(2))  # the writer is just faster
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", mark_first)
    with RoundStore.open(str(tmp_path)).lock():
        assert prune(store, Policy(keep=2), ME).later == 1
    assert models.get(model(2).digest).digest == model(2).digest


def test_a_database_elsewhere_loses_only_what_its_own_rounds_named(tmp_path: Path) -> None:
    store = RoundStore.create(f"sqlite:///{tmp_path}/x.sqlite", tmp_path / "models")
    store.start_run("a", CONFIG)
    for number in range(1, 5):
        store.commit(record(state("a", number)), state("a", number))
    store.finish_run("a", "finished")
    other = ModelFiles(tmp_path / "models").path(ModelFiles(tmp_path / "models").put(model(50)))
    os.utime(other, (time.time() - 7200,) * 2)
    assert prune(store, Policy(keep=1), ME).files == 2
    assert other.exists()


# ---- the command ----


def test_the_command_asks_first_and_tells_what_went(tmp_path: Path) -> None:
    over(tmp_path)
    words = ["prune", "--store", str(tmp_path), "--keep", "2"]
    refused = CliRunner().invoke(rounds_app, words, input="n\n")
    assert refused.exit_code == 1
    with pytest.raises(InvalidConfig, match=r"nobody answered.*--yes"):
        call(*words)
    assert len(files(tmp_path)) == 11
    dry = call(*words, "--dry-run")
    assert dry.startswith("4 states and 7 files (")
    assert "run a: rounds 1 to 4" in dry
    assert len(files(tmp_path)) == 11
    done = call_json(*words, "--yes")
    assert (done["rounds"], done["files"], done["later"]) == ({"a": [1, 2, 3, 4]}, 7, 0)
    with pytest.raises(InvalidConfig, match="--keep"):
        call("prune", "--store", str(tmp_path))
