"""Fault: the server is killed after every round of a run that trains for too long; and what becomes of such a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from client.agent.service import PlantAgent
from shared.config import RunConfig
from shared.schema import SensorSchema
from shared.series import SiteData
from tests.support import plants
from tests.support.plants import Loopback, Memory, conduct, killed_after_every_round

SCHEMA = SensorSchema(tags=("FIT101", "LIT101", "P101"), period_s=1)


def config(**rounds: object) -> RunConfig:
    return plants.settings(
        recipe={
            "detector": {"dropout": 0.0, "hidden": 16, "latent": 8},
            "training": {"stride": 1, "batch_size": 32, "learning_rate": 0.03, "local_epochs": 12},
            "clustering": {"seed_steps": 1, "refine_steps": 1},
        },
        rounds={"pretrain": 12, "joint": 0, "patience": 2, **rounds},
    )


def agents() -> list[PlantAgent]:
    """Two plants of 120 rows of noise: what is learnt of the rows that are trained on holds for no others."""
    return [PlantAgent(_site(number)) for number in range(2)]


def _site(number: int) -> SiteData:
    rows_TD = np.random.default_rng([3, number]).normal(size=(120, 3)).astype(np.float32)
    return SiteData(f"plant-{number}", SCHEMA, rows_TD, np.empty((0, 3), np.float32), None)


def test_a_run_that_overfits_stops_and_publishes_the_best_model_it_had() -> None:
    settings, journal = config(), Memory()
    conduct(Loopback(agents()), journal, settings)
    trained = [record for record in journal.records if record.label.startswith("train")]
    assert len(trained) < settings.rounds.pretrain
    assert [r.number for r in trained if "stopped early" in (r.reason or "")] == [trained[-1].number]
    losses = [record.metrics["holdout_loss"] for record in trained]
    best = int(np.argmin(losses))
    assert 0 < best < len(losses) - 1
    assert losses[best] < 0.99 * losses[0]
    assert trained[-1].model == trained[best - 1].model  # which the round of the lowest loss sent, and measured
    assert trained[-1].reason is not None
    assert f"of round {trained[best - 1].number}, goes on" in trained[-1].reason
    assert journal.records[-1].metrics["holdout_loss"] == pytest.approx(losses[best], rel=1e-6)


def test_killed_after_every_round_it_stops_where_it_would_have_and_ends_with_the_same_model(tmp_path: Path) -> None:
    """The best model, its clusters, the optimiser's moments and the count of rounds come back from the store."""
    settings, there, whole = config(server_optimizer="fedavgm"), agents(), Memory()
    conduct(Loopback(there), whole, settings)
    assert any("stopped early" in (record.reason or "") for record in whole.records)
    records, state = killed_after_every_round(there, settings, tmp_path, len(whole.records))
    assert [(r.label, r.model, r.reason) for r in records] == [(r.label, r.model, r.reason) for r in whole.records]
    mine, theirs = state.best, whole.states[-1].best
    assert mine is not None
    assert theirs is not None
    for name in ("phase", "round", "losses", "mark", "stalled"):
        assert getattr(mine, name) == getattr(theirs, name)
    assert (mine.model.digest, mine.optimizer.step) == (theirs.model.digest, theirs.optimizer.step)
