"""A plant's private answers: charged before they are computed, the same for the same request, and nothing beside."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from client.agent import private, service
from client.agent.claim import Task, packet_digest
from client.agent.service import PlantAgent
from client.training.loop import gradient_of
from client.training.private import Exchange, private_exchange
from shared.config import Recipe
from shared.detectors import ClusterTarget
from shared.errors import NothingToLearn
from shared.privacy.accounting import Event
from shared.privacy.ledger import PrivacyLedger, Purpose, read_balance
from shared.series import SiteData
from shared.wire.compress import expand, flatten
from shared.wire.envelope import Packet, RawArray, decode_array
from shared.wire.frame import encode_frame
from shared.wire.inventory import REPLY, Kind, private_fields, unlisted
from shared.wire.messages import GRADIENT, parse_weights
from tests.support import claims
from tests.support.claims import PaperLedger, ask, claim, entries, plant

HEAD = {"round", "protocol"}


@pytest.fixture(autouse=True)
def paper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private, "PrivacyLedger", PaperLedger)
    return


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., PlantAgent]:
    def agent(site: SiteData | None = None, budget: float | None = 100.0, **said: Any) -> PlantAgent:
        where = {"home": tmp_path / "bundles", "privacy": tmp_path / "privacy", "budget": budget, "guard": False}
        return PlantAgent(site or plant(), **{**where, **said})

    return agent


def train(recipe: Recipe | None = None, **order: Any) -> Packet:
    return ask(Kind.TRAIN, recipe or claim(), **order)


def code(agent: PlantAgent, packet: Packet) -> str:
    return agent.handle(packet).texts.get("refused", "")


# ---- what leaves -----------------------------------------------------------------------------------------------------


def test_a_training_reply_holds_a_gradient_two_noised_numbers_and_nothing_else(make: Callable[..., PlantAgent]) -> None:
    reply = make().answer(train())
    assert {name.partition("/")[0] for name in reply.arrays} == {"gradient"}
    assert set(reply.numbers) == HEAD | {"below", "train_loss"}
    assert set(reply.texts) == {"run", "kind", "model", "plant", "fingerprint"}
    assert parse_weights(reply, make_manifest(), GRADIENT)
    assert not unlisted(reply, Kind.TRAIN, private_fields(REPLY))


def make_manifest() -> tuple[Any, ...]:
    from shared.detectors import build

    return build(claim().detector, claims.DIM).manifest()


def test_a_description_tells_the_power_of_two_and_releases_nothing(
    make: Callable[..., PlantAgent], tmp_path: Path
) -> None:
    reply = make(plant(1000)).answer(ask(Kind.DESCRIBE, claim()))
    assert {name: reply.numbers[name] for name in ("examples", "segments")} == {"examples": 512, "segments": 512}
    assert not (tmp_path / "privacy").exists()


def test_a_cluster_reply_is_noised_and_a_calibrated_plant_says_no_number(
    make: Callable[..., PlantAgent], tmp_path: Path
) -> None:
    agent = make()
    said = agent.answer(ask(Kind.CLUSTER, claim()))
    counts_K = decode_array(said.arrays["cluster_counts"], (3,), "<f8").astype(np.float64)
    assert set(said.numbers) == HEAD | {"cluster_spread"}
    assert abs(counts_K.sum() - 520) > 1e-6  # exact counts add up to the number of records
    assert set(agent.answer(ask(Kind.CALIBRATE, claim())).numbers) == HEAD
    assert (tmp_path / "bundles" / "north.bundle").exists()
    assert [line["purpose"] for line in entries(tmp_path / "privacy")] == ["centroids"]


def test_a_request_for_both_is_charged_for_both(make: Callable[..., PlantAgent], tmp_path: Path) -> None:
    reply = make().answer(train(with_statistic=True))
    assert {"cluster_sums", "cluster_counts"} < set(reply.arrays)
    found = entries(tmp_path / "privacy")
    assert [line["purpose"] for line in found] == ["centroids", "weights"]
    assert [line["sampling"] for line in found] == [1.0, 0.05]
    assert found[0]["multiplier"] == 30.0
    assert found[1]["multiplier"] == pytest.approx((3.0**-2 + 2 * 30.0**-2) ** -0.5)
    assert found[1]["unit"] == "segment of 8 samples (8 s)"


@pytest.mark.parametrize("wire", ["bf16", "int8"])
def test_in_fewer_bytes_the_change_along_the_gradient_travels(make: Callable[..., PlantAgent], wire: str) -> None:
    reply = make().answer(train(wire=wire))
    assert set(reply.arrays) <= {"delta", "delta_scales"}
    exact = make().answer(train(wire=wire, step=99))
    assert set(reply.numbers) == set(exact.numbers) == HEAD | {"below", "train_loss"}


def test_a_share_below_the_clip_that_has_no_noise_is_not_told(make: Callable[..., PlantAgent]) -> None:
    still = claim(privacy={"clip_quantile": None, "noise": {**claims.NOISE, "below": 0.0}})
    assert make().answer(train(still)).numbers["below"] == 0.5


# ---- charged first, once, under what it follows from -----------------------------------------------------------------


def test_a_release_is_on_the_disk_before_anything_is_computed(
    make: Callable[..., PlantAgent], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def watched(*given: Any) -> Exchange:
        seen.append(len(entries(tmp_path / "privacy")))
        return private_exchange(*given)

    monkeypatch.setattr(private, "private_exchange", watched)
    make().answer(train())
    assert seen == [1]


@pytest.mark.parametrize("kind", [Kind.TRAIN, Kind.CLUSTER])
def test_without_budget_nothing_is_computed(
    make: Callable[..., PlantAgent], monkeypatch: pytest.MonkeyPatch, kind: Kind
) -> None:
    computed: list[object] = []
    monkeypatch.setattr(private, "private_exchange", lambda *given: computed.append(given))
    monkeypatch.setattr(private, "noised_statistic", lambda *given: computed.append(given))
    assert code(make(budget=0.5), ask(kind, claim())) == "CP-903 BudgetSpent"
    assert not computed


def test_without_a_budget_of_its_own_a_plant_spends_what_the_run_claims(make: Callable[..., PlantAgent]) -> None:
    agent = make(budget=None)
    answers = [code(agent, train(step=step)) for step in range(9)]
    assert answers == [""] * 8 + ["CP-903 BudgetSpent"]


def test_the_same_request_brings_the_same_bytes_after_a_restart_and_is_charged_once(
    make: Callable[..., PlantAgent], tmp_path: Path
) -> None:
    first = encode_frame(make().answer(train(with_statistic=True)))
    assert encode_frame(make().answer(train(with_statistic=True))) == first
    assert len(entries(tmp_path / "privacy")) == 2


def test_a_request_after_others_brings_the_same_bytes_still(make: Callable[..., PlantAgent]) -> None:
    agent = make()
    first = encode_frame(agent.answer(train()))
    agent.answer(ask(Kind.CLUSTER, claim()))
    agent.answer(train(step=7))
    assert encode_frame(agent.answer(train())) == first


def gradients(reply: Packet) -> np.ndarray[Any, Any]:
    return np.concatenate([np.frombuffer(raw.data[-4:], "<f4") for raw in reply.arrays.values()])


@pytest.mark.parametrize(
    "other", [{"step": 3}, {"alpha": 0.25}, {"clip": 0.31}, {"number": 3}, {"recipe": claim(privacy={"clip": 0.2})}]
)
def test_any_other_request_has_noise_of_its_own_and_is_charged(
    make: Callable[..., PlantAgent], tmp_path: Path, other: dict[str, Any]
) -> None:
    agent = make()
    one, two = agent.answer(train()), agent.answer(train(**other))
    assert (gradients(one) != gradients(two)).all()
    assert len(entries(tmp_path / "privacy")) == 2


def test_changed_data_get_fresh_noise_and_are_charged(make: Callable[..., PlantAgent], tmp_path: Path) -> None:
    """The same noise over two data sets would cancel: their difference would show the reading that changed."""
    changed_TD = plant().train_TD.copy()
    changed_TD[100, 1] += 1.0
    one, two = make().answer(train()), make(replace(plant(), train_TD=changed_TD)).answer(train())
    wider = make(plant(ranges=((-4.0, 4.0), (-4.0, 5.0)))).answer(train())
    assert (gradients(one) != gradients(two)).all()
    assert (gradients(one) != gradients(wider)).all()
    assert len(entries(tmp_path / "privacy")) == 3


def test_a_plant_with_another_key_has_other_noise(make: Callable[..., PlantAgent], tmp_path: Path) -> None:
    one, two = make().answer(train()), make(privacy=tmp_path / "other").answer(train())
    assert (gradients(one) != gradients(two)).all()


def test_noise_is_large_enough_for_the_clip(make: Callable[..., PlantAgent]) -> None:
    """What the server checks: ||g||^2 (q N' / (z C))^2 is near the number of parameters, and never far below."""
    reply = make().answer(train())
    square, count = 0.0, 0
    for spec in make_manifest():
        values = decode_array(reply.arrays[f"{GRADIENT}{spec.name}"], spec.shape).astype(np.float64)
        square, count = square + float((values**2).sum()), count + values.size
    assert square * (0.05 * 512 / (3.0 * 0.3)) ** 2 >= count * (1 - 5 * np.sqrt(2 / count))


def test_another_field_another_border_or_another_number_is_another_request() -> None:
    one = Packet({"a": RawArray("f", (1,), b"xy")}, {"n": 1}, {"t": "ab", "u": "c"})
    others = [
        Packet({"a": RawArray("f", (1,), b"x")}, {"n": 1}, {"t": "yab", "u": "c"}),
        Packet({"a": RawArray("f", (1,), b"xy")}, {"n": 1.0}, {"t": "ab", "u": "c"}),
        Packet({"a": RawArray("f", (1,), b"xy")}, {"n": 1}, {"t": "a", "u": "bc"}),
        Packet({"a": RawArray("f", (1,), b"xy")}, {"n": 1}, {"t": "ab", "v": "c"}),
        Packet({"b": RawArray("f", (1,), b"xy")}, {"n": 1}, {"t": "ab", "u": "c"}),
        Packet({"a": RawArray("f", (1,), b"xy")}, {"n": 1}, {"ta": "buc"}),
    ]
    assert len({packet_digest(packet) for packet in (one, *others)}) == 7
    assert packet_digest(one) == packet_digest(Packet(one.arrays, one.numbers, {"u": "c", "t": "ab"}))


_KILLED = """
import os, signal, sys
from pathlib import Path
from client.agent import private
from client.agent.service import PlantAgent
from shared.wire.frame import encode_frame
from shared.wire.inventory import Kind
from tests.support.claims import ask, claim, plant
home = Path(sys.argv[1])
if sys.argv[2] == "kill":
    private.private_exchange = lambda *given: os.kill(os.getpid(), signal.SIGKILL)
agent = PlantAgent(plant(), home / "bundles", privacy=home / "privacy", budget=8.0, guard=False)
sys.stdout.buffer.write(encode_frame(agent.answer(ask(Kind.TRAIN, claim()))))
"""


def test_a_plant_killed_between_charge_and_answer_answers_the_same_later_and_is_not_charged_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(how: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path), how], capture_output=True, timeout=120)

    assert run("kill").returncode == -signal.SIGKILL
    charged = read_balance(tmp_path / "privacy")
    assert charged.releases == 1
    assert charged.by_purpose.keys() == {"weights"}
    assert 0 < charged.epsilon < 1
    first = run("answer")
    assert first.returncode == 0, first.stderr.decode()[-500:]
    assert len(first.stdout) > 500
    monkeypatch.setattr(private, "PrivacyLedger", PrivacyLedger)  # the real one, as in the other processes
    here = PlantAgent(plant(), tmp_path / "bundles", privacy=tmp_path / "privacy", budget=8.0, guard=False)
    assert first.stdout == encode_frame(here.answer(ask(Kind.TRAIN, claim())))
    assert read_balance(tmp_path / "privacy") == charged


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "broken",
    [
        {"detector": {"dropout": 0.1}},
        {"clustering": {"target": "local"}},
        {"preprocess": {"rolling": 50}},
        {"privacy": {"delta": 1e-3}},
    ],
)
@pytest.mark.parametrize("kind", [Kind.DESCRIBE, Kind.TRAIN])
def test_a_claim_that_contradicts_itself_is_refused_without_a_policy_too(
    make: Callable[..., PlantAgent], tmp_path: Path, broken: dict[str, dict[str, Any]], kind: Kind
) -> None:
    assert code(make(), ask(kind, claim(**broken))) == "CP-901 PrivacyUnmet"
    assert not (tmp_path / "privacy").exists()


@pytest.mark.parametrize(("records", "epsilon", "word"), [(490, 8.0, ""), (520, 7.9, "8"), (1600, 2.0, "3")])
def test_too_few_records_are_told_as_such_and_what_they_could_offer_stays_here(
    make: Callable[..., PlantAgent],
    caplog: pytest.LogCaptureFixture,
    records: int,
    epsilon: float,
    word: str,
) -> None:
    with caplog.at_level(logging.WARNING):
        refused = code(make(plant(records)), ask(Kind.DESCRIBE, claim(privacy={"epsilon": epsilon})))
    assert refused == "CP-905 TooFewRecords"
    assert (f"it can honestly offer is {word}." if word else "none up to 8 is honest") in caplog.text


@pytest.mark.parametrize("order", [{"clip": 0.0}, {"clip": 1e-5}, {"one_step": False}])
def test_what_is_no_private_exchange_is_not_charged(
    make: Callable[..., PlantAgent], tmp_path: Path, order: dict[str, Any]
) -> None:
    assert code(make(), train(**order)) == "CP-501 BadPayload"
    assert not entries(tmp_path / "privacy")


@pytest.mark.parametrize("radius", [float("inf"), 0.0, 5e-324, 1e300])
def test_a_statistic_that_nothing_bounds_is_not_charged(
    make: Callable[..., PlantAgent], tmp_path: Path, radius: float
) -> None:
    assert code(make(), ask(Kind.CLUSTER, claim(), radius=radius)) == "CP-501 BadPayload"
    assert not entries(tmp_path / "privacy")


# ---- nothing of the whole set, or of a batch, in a record's gradient -------------------------------------------------


def test_the_target_is_the_released_one(make: Callable[..., PlantAgent], monkeypatch: pytest.MonkeyPatch) -> None:
    """The frequency of a batch, or of the plant's own set, would make each record's gradient depend on the others."""
    seen: list[ClusterTarget] = []

    def watched(detector: Any, records: Any, target: ClusterTarget, *rest: Any) -> Exchange:
        seen.append(target)
        return private_exchange(detector, records, target, *rest)

    monkeypatch.setattr(private, "private_exchange", watched)
    for site in (plant(), plant(seed=5)):
        make(site).answer(train())
    assert all(np.allclose(target.frequency_K.numpy(), [0.7, 0.2, 0.1]) for target in seen)
    assert len(seen) == 2


def test_latents_that_overflow_on_some_records_show_nothing(make: Callable[..., PlantAgent], tmp_path: Path) -> None:
    agent = make()
    agent.answer(ask(Kind.CLUSTER, claim()))
    clusters = claims.model().clusters
    assert clusters is not None
    task = Task("r", 1, "digest", claim())
    latents_NZ = np.array([[0.1, 0.1], [np.nan, 0.0], [np.inf, 1.0]], np.float32)
    said = private.cluster_statistic(agent._desk, task, lambda: latents_NZ, np.arange(3), clusters, 1.0)
    assert np.isfinite(said.sums_KZ).all()
    assert np.isfinite(said.spread)


# ---- operating ranges ------------------------------------------------------------------------------------------------


def test_a_tag_without_a_public_range_stops_a_claim(
    make: Callable[..., PlantAgent], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert code(make(plant(ranges=(claims.RANGES[0], None))), train()) == "CP-901 PrivacyUnmet"
    assert "no operating range of 1 tags: b" in caplog.text
    assert "ranges.csv" in caplog.text


def test_quantiles_need_more_records_than_a_claim(make: Callable[..., PlantAgent]) -> None:
    asked = claim(privacy={"noise": {**claims.NOISE, "ranges": 5.0}})
    assert code(make(plant(4_900, ranges=None)), train(asked)) == "CP-905 TooFewRecords"


def test_quantiles_are_released_once_for_all_requests_of_the_same_settings(
    make: Callable[..., PlantAgent], tmp_path: Path
) -> None:
    asked = claim(privacy={"noise": {**claims.NOISE, "ranges": 5.0}})
    site = plant(5_100, ranges=None)
    agent = make(site)
    agent.answer(ask(Kind.DESCRIBE, asked))
    assert not entries(tmp_path / "privacy")
    first = agent.answer(train(asked))
    make(site).answer(train(asked, step=5))
    again = make(site).answer(train(asked))
    purposes = [(line["purpose"], line["multiplier"]) for line in entries(tmp_path / "privacy")]
    assert [purpose for purpose, _ in purposes] == ["ranges", "weights", "weights"]
    assert purposes[0][1] == 5.0
    assert (gradients(first) == gradients(again)).all()


def test_on_an_accelerator_every_answer_is_a_release_but_ranges_are_one(tmp_path: Path) -> None:
    """Sums there differ in their last bits from time to time: under the same noise, these bits would show."""
    desk = private.PrivateDesk(plant(), tmp_path / "privacy", 100.0, torch.device("cuda"))
    task = Task("r", 1, "digest", claim())
    kinds: dict[Purpose, bool] = {"weights": False, "centroids": False, "ranges": True}
    for purpose, equal in kinds.items():
        one, two = (desk.charged(task, purpose, Event(3.0, 1.0, 1)).normal(4, 1.0) for _ in range(2))
        assert (one == two).all() == equal
    assert len(entries(tmp_path / "privacy")) == 5


# ---- with privacy off, and central -----------------------------------------------------------------------------------

_PLAIN = """
import sys
from pathlib import Path
from client.agent.service import PlantAgent
from shared.wire.inventory import Kind
from tests.support.claims import ask, claim, plant
home = Path(sys.argv[1])
agent = PlantAgent(plant(), home / "bundles", privacy=home / "privacy", guard=False)
plain = claim(privacy={"mode": "none", "epsilon": None})
for kind in Kind:
    assert "refused" not in agent.handle(ask(kind, plain, clip=0.0)).texts
print([name for name in ("client.agent.private", "client.training.private", "opacus") if name in sys.modules])
"""


def test_without_a_claim_no_file_is_made_and_nothing_of_it_imported(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", _PLAIN, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-800:]
    assert done.stdout.strip() == "[]"
    assert not (tmp_path / "privacy").exists()


def test_under_a_central_claim_the_plant_sends_its_update_and_no_measurement(make: Callable[..., PlantAgent]) -> None:
    agent, central = make(), claim(privacy={"mode": "central"})
    reply = agent.answer(train(central, one_step=False, clip=0.0))
    assert {name.partition("/")[0] for name in reply.arrays} == {"weights"}
    assert not {"holdout_loss", "train_loss", "cluster_loss"} & set(reply.numbers)
    assert not {"holdout_loss", "calibrated"} & set(agent.answer(ask(Kind.CALIBRATE, central)).numbers)


@pytest.mark.parametrize("mode", ["none", "central"])
@pytest.mark.parametrize("kind", [Kind.DESCRIBE, Kind.TRAIN])
def test_records_that_a_ledger_protects_are_not_for_runs_that_promise_less(
    make: Callable[..., PlantAgent], mode: str, kind: Kind
) -> None:
    """One exact answer would undo all that the ledger claims; the plant's operator may allow it, a server may not."""
    less = claim(privacy={"mode": mode, "epsilon": None if mode == "none" else 8.0})
    agent = make()
    assert not code(agent, ask(kind, less, clip=0.0))
    agent.answer(train())
    assert code(agent, ask(kind, less, clip=0.0)) == "CP-603 privacy"
    assert not code(make(mixed=True), ask(kind, less, clip=0.0))


def test_what_rounding_took_from_an_unprotected_update_does_not_leave_with_a_private_one(
    make: Callable[..., PlantAgent],
) -> None:
    agent, plain = make(mixed=True), claim(privacy={"mode": "none", "epsilon": None})
    agent.answer(train(plain, wire="int8", step=1, clip=0.0))
    after = agent.answer(train(wire="int8", step=2))
    alone = make(home=None).answer(train(wire="int8", step=2))
    assert encode_frame(after) == encode_frame(alone)


@pytest.mark.parametrize("trouble", [NothingToLearn("it diverged."), ValueError("not finite")])
def test_whether_a_model_could_be_calibrated_does_not_show(
    make: Callable[..., PlantAgent],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    trouble: Exception,
) -> None:
    """A model can be made to diverge where one record holds a certain reading."""

    def diverged(*_: Any) -> None:
        raise trouble

    usual = make().answer(ask(Kind.CALIBRATE, claim()))
    monkeypatch.setattr(service, "calibrate", diverged)
    assert encode_frame(make().handle(ask(Kind.CALIBRATE, claim()))) == encode_frame(usual)
    assert "no bundle of round 2" in caplog.text


def test_one_step_without_a_claim_travels_as_the_gradient_itself(make: Callable[..., PlantAgent]) -> None:
    """As theta - g, what is below float32's grain beside theta would be lost."""
    agent, plain = make(), claim(privacy={"mode": "none", "epsilon": None})
    reply = agent.answer(train(plain, clip=0.0))
    bench = agent._bench_for(plain)
    gradient = gradient_of(bench.detector)
    for name, values in gradient.items():
        sent = decode_array(reply.arrays[f"{GRADIENT}{name}"], values.shape)
        assert (sent == values).all()
    compressed = agent.answer(train(plain, clip=0.0, wire="bf16"))
    specs = bench.detector.manifest()
    change_P = expand(dict(compressed.arrays), specs, "bf16")
    assert np.allclose(change_P, -flatten(gradient, specs), rtol=0.01, atol=1e-12)
