"""Which model files a sweep takes and which it must leave, file by file; and which ones a check misses."""

from __future__ import annotations

import dataclasses
import os
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from server.rounds import Anchor, Best, OptimizerState, Phase
from server.store import retention
from server.store.auditlog import Actor, entries
from server.store.check import check
from server.store.models import MODEL, ModelFiles
from server.store.retention import Policy, foresee, prune
from server.store.store import RoundStore
from shared.lag.pooled import LagSum
from shared.lag.sums import vector_size
from tests.support.stores import CONFIG, filled, model, record, state

ME = Actor("os:me", "shell")


@pytest.fixture
def store(tmp_path: Path) -> RoundStore:
    """Six rounds of a run that is over."""
    made = filled(tmp_path, 6)
    made.finish_run("a", "finished")
    return made


def name(seed: int) -> str:
    return f"{model(seed).digest}{MODEL}"


def aged(path: Path) -> Path:
    """The file, two hours old."""
    os.utime(path, (time.time() - 7200,) * 2)
    return path


# ---- files that stay ----


def test_the_model_that_a_run_began_with_stays_though_no_round_names_it(tmp_path: Path) -> None:
    store = RoundStore.create(str(tmp_path))
    began = store.keep_start(model(50))
    config = CONFIG.model_copy(update={"rounds": CONFIG.rounds.model_copy(update={"start": began})})
    store.start_run("a", config)
    for number in (1, 2, 3):
        after = dataclasses.replace(state("a", number), config_digest=config.digest)
        store.commit(record(after), after)
    store.finish_run("a", "finished")
    aged(ModelFiles(tmp_path / "models").path(began))
    prune(store, Policy(keep=1), ME)
    assert store.start_weights(config) is not None


def test_what_only_looks_like_a_model_file_stays(store: RoundStore, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"mine")
    (folder / name(60)).symlink_to(aged(elsewhere))
    longer = folder / f"{name(61)}.bak"
    longer.write_bytes(b"mine")
    aged(longer)
    prune(store, Policy(keep=2), ME)
    assert (folder / name(60)).is_symlink()
    assert longer.exists()
    assert elsewhere.read_bytes() == b"mine"


def test_a_file_that_a_writer_has_half_written_stays(store: RoundStore, tmp_path: Path) -> None:
    half = tmp_path / "models" / f".{name(60)}.tmp"
    half.write_bytes(b"half")
    prune(store, Policy(keep=2), ME)
    assert half.exists()


def test_what_was_set_aside_does_not_take_the_place_of_a_file_that_is_there(store: RoundStore, tmp_path: Path) -> None:
    aside = tmp_path / "models" / f".{name(6)}.gone"
    aside.write_bytes(b"an older one, cut short")
    prune(store, Policy(keep=2), ME)
    assert not aside.exists()
    assert store.model("a", 6).digest == model(6).digest


def test_a_store_that_was_copied_is_pruned_where_it_is_and_the_original_left_alone(tmp_path: Path) -> None:
    filled(tmp_path / "one").finish_run("a", "finished")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    found = prune(RoundStore.create(str(tmp_path / "two")), Policy(keep=1), ME)
    assert (dict(found.rounds), found.files) == ({"a": (1, 2)}, 1)
    assert not (tmp_path / "two" / "models" / name(2)).exists()
    assert (tmp_path / "one" / "models" / name(2)).exists()


# ---- rounds that go ----


def test_rounds_that_go_in_several_transactions_are_all_told(
    store: RoundStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_BATCH", 2)
    assert prune(store, Policy(keep=1), ME).rounds == {"a": (1, 2, 3, 4, 5)}
    with store.session() as session:
        told = [entry.detail["rounds"]["a"] for entry in entries(session)]
    assert told == ["5", "3 to 4", "1 to 2"]


def test_a_time_without_a_zone_is_one_in_utc(tmp_path: Path) -> None:
    store = RoundStore.create(str(tmp_path))
    store.start_run("a", CONFIG)
    for number, hours in ((1, 25), (2, 23), (3, 0)):
        began = (datetime.now(UTC) - timedelta(hours=hours)).replace(tzinfo=None).isoformat()
        store.commit(dataclasses.replace(record(state("a", number)), started=began), state("a", number))
    store.finish_run("a", "finished")
    assert foresee(store, Policy(older_than_days=1)).rounds == {"a": (1,)}


# ---- files that are missing ----


def test_a_check_misses_every_file_that_the_newest_state_names(store: RoundStore, tmp_path: Path) -> None:
    adam = [OptimizerState(n, {"w": model(n).weights["head.bias"]}, {}) for n in (21, 22)]
    anchor = Anchor(2, model(11), adam[0], {"north": 0.5})
    best = Best(Phase.JOINT, 3, model(12), adam[1], {}, {})
    lag = LagSum(model(1).weights["head.bias"].astype(float)[:1].repeat(vector_size(1, 0)), {})
    after = dataclasses.replace(state("a", 7), anchor=anchor, best=best, moments=lag)
    before = {path.name for path in (tmp_path / "models").iterdir()}
    store.commit(record(after), after)
    added = {path.name for path in (tmp_path / "models").iterdir()} - before
    assert len(added) == 6
    assert check(store).whole
    for lost in sorted(added):
        kept = (tmp_path / "models" / lost).read_bytes()
        (tmp_path / "models" / lost).unlink()
        assert check(store).missing == (lost,)
        (tmp_path / "models" / lost).write_bytes(kept)
