from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from client.agent.residual import Residual, ResidualBook
from client.agent.service import PlantAgent
from server.coordinator import Coordinator
from server.rounds import RunState
from shared.errors import BadPayload
from shared.model import TensorSpec
from shared.wire.compress import DELTA, SCALES, WIRES, Wire, compress, expand, flatten, unflatten
from shared.wire.envelope import Packet, RawArray, encode_array
from shared.wire.gate import Accepted, Expectation, Rejected, parse_reply
from shared.wire.inventory import Kind
from shared.wire.messages import Request, encode_request, parse_request
from simulations.generate import generate
from tests.support.plants import Loopback, Memory, settings
from tests.support.puppets import changed
from tests.support.tampering import sites
from tests.unit.test_gate import MODEL, reply

SPECS = (TensorSpec("w", (3, 4), 0.1), TensorSpec("b", (5,), 0.5), TensorSpec("c", (1,), 0.5))
SIZE = 18
SMALL: tuple[Wire, ...] = ("bf16", "int8")


def change(seed: int = 0, size: float = 0.01) -> np.ndarray:
    return (size * np.random.default_rng(seed).normal(size=SIZE)).astype(np.float32)


# ---- there and back --------------------------------------------------------------------------------------------------


def test_weights_travel_by_name_in_one_vector() -> None:
    rng = np.random.default_rng(0)
    weights = {spec.name: rng.normal(size=spec.shape).astype(np.float32) for spec in SPECS}
    flat = flatten(weights, SPECS)
    np.testing.assert_array_equal(flat, np.concatenate([weights["b"], weights["c"], weights["w"].ravel()]))
    back = unflatten(flat, SPECS[::-1])
    assert list(back) == ["b", "c", "w"]
    for name, value in weights.items():
        np.testing.assert_array_equal(back[name], value)


def test_bfloat16_rounds_to_the_nearest_of_8_bits_and_ties_to_even() -> None:
    exact = np.asarray([0.0, -0.0, 1.0, -2.5, 2.0**-130, 3e38] + [0.0] * 12, np.float32)
    back = expand(compress(exact, SPECS, "bf16"), SPECS, "bf16")
    np.testing.assert_array_equal(back[:5], exact[:5])
    ties = np.asarray([1 + 2**-8, 1 + 3 * 2**-8] + [0.0] * 16, np.float32)
    assert expand(compress(ties, SPECS, "bf16"), SPECS, "bf16")[:2].tolist() == [1.0, 1 + 2**-6]
    wild = change(size=1e3)
    np.testing.assert_allclose(expand(compress(wild, SPECS, "bf16"), SPECS, "bf16"), wild, rtol=2**-8)


def test_eight_bits_are_off_by_half_a_level_of_each_tensor() -> None:
    delta = change()
    delta[6:] *= 1e-6  # tensor w: its own scale
    back = expand(compress(delta, SPECS, "int8"), SPECS, "int8")
    for part, own in ((slice(0, 5), delta[:5]), (slice(6, 18), delta[6:])):
        level = np.abs(own).max() / 127
        assert np.abs(back[part] - own).max() <= 0.5001 * level
        assert np.abs(back[part]).max() == pytest.approx(np.abs(own).max(), rel=1e-6)


@pytest.mark.parametrize("wire", SMALL)
@pytest.mark.parametrize("value", [0.0, 1e-45, -3e-44, 1e-38, 5.0])
def test_nothing_and_next_to_nothing_survive(wire: Wire, value: float) -> None:
    same = np.full(SIZE, value, np.float32)
    back = expand(compress(same, SPECS, wire), SPECS, wire)
    np.testing.assert_allclose(back, same, rtol=2**-8, atol=1e-40)


def test_the_bytes() -> None:
    """A manifest like the default detector's: 20 tensors, 200,000 weights."""
    specs = tuple(TensorSpec(f"t{i:02}", (100, 100), 0.1) for i in range(20))
    full = sum(len(encode_array(np.zeros(s.shape, np.float32)).data) for s in specs)
    delta = np.zeros(200_000, np.float32)
    sent = {wire: sum(len(raw.data) for raw in compress(delta, specs, wire).values()) for wire in SMALL}
    assert sent["int8"] <= 0.25 * full
    assert sent["bf16"] <= 0.50 * full


# ---- what the gate takes ---------------------------------------------------------------------------------------------


def good(wire: Wire) -> dict[str, RawArray]:
    return dict(compress(change(), SPECS, wire))


def levels(value: int) -> RawArray:
    return encode_array(np.full(SIZE, value, np.uint8))


def halves(bits: int) -> RawArray:
    return encode_array(np.full(SIZE, bits, "<u2").view(np.uint8))


def scales(value: float) -> RawArray:
    return encode_array(np.full(3, value, np.float32))


HOSTILE: dict[str, tuple[Wire, dict[str, RawArray | None], str]] = {
    "no change": ("int8", {DELTA: None}, "expected ['delta', 'delta_scales']"),
    "no scales": ("int8", {SCALES: None}, "expected ['delta', 'delta_scales']"),
    "scales where none are due": ("bf16", {SCALES: scales(1.0)}, "expected ['delta'] for bf16"),
    "weights beside the change": ("int8", {"weights/b": encode_array(np.zeros(5, np.float32))}, "weights/b"),
    "one level short": ("int8", {DELTA: encode_array(np.full(SIZE - 1, 128, np.uint8))}, "shape (17,)"),
    "one level more": ("int8", {DELTA: encode_array(np.full(SIZE + 1, 128, np.uint8))}, "shape (19,)"),
    "floats for levels": ("int8", {DELTA: encode_array(np.zeros(SIZE, np.float32))}, "dtype <f4"),
    "a level of -128": ("int8", {DELTA: levels(0)}, "a level of -128"),
    "one scale for all": ("int8", {SCALES: encode_array(np.ones(1, np.float32))}, "delta_scales: shape (1,)"),
    "a negative scale": ("int8", {SCALES: scales(-1e-9)}, "negative"),
    "a scale of NaN": ("int8", {SCALES: scales(np.nan)}, "not finite"),
    "an infinite scale": ("int8", {SCALES: scales(np.inf)}, "not finite"),
    "a scale beyond all weights": ("int8", {SCALES: scales(200.0)}, "beyond 157"),
    "NaN in 16 bits": ("bf16", {DELTA: halves(0x7FC0)}, "NaN or infinite"),
    "infinity in 16 bits": ("bf16", {DELTA: halves(0xFF80)}, "NaN or infinite"),
    "half the bytes": ("bf16", {DELTA: encode_array(np.zeros(SIZE, np.uint8))}, "shape (18,)"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_no_plant_would_send_is_refused(name: str) -> None:
    wire, parts, telling = HOSTILE[name]
    arrays = {key: raw for key, raw in {**good(wire), **parts}.items() if raw is not None}
    with pytest.raises(BadPayload) as caught:
        expand(arrays, SPECS, wire)
    assert telling in caught.value.cause


@pytest.mark.parametrize("wire", SMALL)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3.4e38])
def test_training_that_diverged_is_refused_as_it_would_be_uncompressed(wire: Wire, value: float) -> None:
    delta = change()
    delta[7] = value
    with pytest.raises(BadPayload, match=r"not finite|NaN or infinite|beyond"):
        expand(compress(delta, SPECS, wire), SPECS, wire)


def packed(wire: Wire, delta: float = 0.25) -> Packet:
    honest = reply(Kind.TRAIN)
    specs = tuple(TensorSpec(n, v.shape, 0.5) for n, v in MODEL.weights.items())
    flat = np.full(sum(s.size for s in specs), delta, np.float32)
    kept = {name: raw for name, raw in honest.arrays.items() if not name.startswith("weights/")}
    return replace(honest, arrays={**kept, **compress(flat, specs, wire)})


def expecting(wire: Wire, cap: float = 50.0) -> Expectation:
    specs = tuple(TensorSpec(n, v.shape, 0.5) for n, v in MODEL.weights.items())
    due = {"manifest": specs, "base": MODEL.weights, "plant": "north", "examples": 100, "segments": 11}
    return Expectation(Kind.TRAIN, "run", 7, MODEL.digest, max_update_norm=cap, wire=wire, **due)


@pytest.mark.parametrize("wire", SMALL)
def test_the_gate_gives_the_weights_that_a_change_leads_to(wire: Wire) -> None:
    verdict = parse_reply(packed(wire), expecting(wire))
    assert isinstance(verdict, Accepted), verdict
    for name, value in MODEL.weights.items():
        np.testing.assert_allclose(verdict.weights[name], value + np.float32(0.25), rtol=1e-6)
    assert verdict.update_norm == pytest.approx(0.25 * np.sqrt(sum(v.size for v in MODEL.weights.values())), rel=1e-6)


@pytest.mark.parametrize(
    ("sent", "due", "telling"),
    [
        ("int8", "fp32", "was to travel as fp32"),
        ("bf16", "int8", "expected ['delta', 'delta_scales'] for int8"),
        ("int8", "bf16", "expected ['delta'] for bf16"),
    ],
)
def test_another_form_than_was_asked_for_is_refused(sent: Wire, due: Wire, telling: str) -> None:
    verdict = parse_reply(packed(sent), expecting(due))
    assert isinstance(verdict, Rejected)
    assert telling in verdict.reason


def test_full_weights_where_a_change_was_asked_for_are_refused() -> None:
    verdict = parse_reply(reply(Kind.TRAIN), expecting("int8"))
    assert isinstance(verdict, Rejected)


@pytest.mark.parametrize("asked", ["zip", "", "INT8", None])
def test_a_plant_refuses_a_form_that_it_does_not_know(asked: str | None) -> None:
    packet = encode_request(Request(Kind.TRAIN, "run", 7, settings().recipe, MODEL.digest, MODEL))
    assert packet.texts["wire"] == "fp32"
    specs = tuple(TensorSpec(n, v.shape, 0.5) for n, v in MODEL.weights.items())
    assert MODEL.clusters is not None
    latent = MODEL.clusters.centroids_KZ.shape[1]
    assert parse_request(packet, specs, latent).order.wire == "fp32"
    with pytest.raises(BadPayload, match="expected one of fp32, bf16, int8"):
        parse_request(changed(packet, texts={"wire": asked}), specs, latent)


@pytest.mark.parametrize("wire", SMALL)
def test_the_cap_on_the_norm_and_on_weights_holds_for_changes(wire: Wire) -> None:
    assert "update norm" in parse_reply(packed(wire, 5.0), expecting(wire, cap=5.0)).reason
    assert "a value beyond 10,000" in parse_reply(packed(wire, 10_100.0), expecting(wire, cap=1e9)).reason


# ---- error feedback --------------------------------------------------------------------------------------------------


def test_what_rounding_takes_comes_with_the_next_update() -> None:
    """20 updates too small for the levels of their loudest weight: all of it arrives but the last remainder."""
    delta = np.zeros(SIZE, np.float32)
    delta[6:] = 1.0, *([0.001] * 11)
    arrived = carried = np.zeros(SIZE, np.float32)
    for _ in range(20):
        wanted = delta + carried
        sent = expand(compress(wanted, SPECS, "int8"), SPECS, "int8")
        arrived, carried = arrived + sent, wanted - sent
    assert expand(compress(delta, SPECS, "int8"), SPECS, "int8")[7] == 0
    np.testing.assert_allclose(arrived + carried, 20 * delta, rtol=1e-5)
    assert np.abs(arrived - 20 * delta).max() <= 0.51 / 127


def residual(step: int) -> Residual:
    return Residual(step, np.full(4, step, np.float32), np.full(4, step + 0.5, np.float32))


@pytest.fixture(params=["memory", "disk"])
def book(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ResidualBook]:
    return ResidualBook(tmp_path / "new" / "a.residual" if request.param == "disk" else None)


def test_a_step_asked_again_begins_where_it_did(book: ResidualBook) -> None:
    assert not book.carried("run", 3, 4).any()
    book.keep("run", residual(3))
    assert book.carried("run", 3, 4).tolist() == [3.0] * 4
    assert book.carried("run", 4, 4).tolist() == [3.5] * 4
    assert book.carried("run", 9, 4).tolist() == [3.5] * 4  # the plant was away meanwhile


@pytest.mark.parametrize(("run", "step", "size"), [("other", 4, 4), ("run", 2, 4), ("run", 4, 5)])
def test_a_residual_of_something_else_is_not_used(book: ResidualBook, run: str, step: int, size: int) -> None:
    book.keep("run", residual(3))
    assert not book.carried(run, step, size).any()


def test_a_residual_survives_its_process(tmp_path: Path) -> None:
    ResidualBook(tmp_path / "a").keep("run", residual(3))
    assert ResidualBook(tmp_path / "a").carried("run", 4, 4).tolist() == [3.5] * 4
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("damage", [b"", b"\xff" * 50, "cut", "nan"])
def test_a_damaged_residual_is_told_and_not_used(
    tmp_path: Path, damage: object, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a"
    book = ResidualBook(path)
    book.keep("run", replace(residual(3), after_P=np.full(4, np.nan, np.float32)) if damage == "nan" else residual(3))
    if damage != "nan":
        path.write_bytes(damage if isinstance(damage, bytes) else path.read_bytes()[:-3])
    with caplog.at_level(logging.WARNING, "client.agent.residual"):
        assert not book.carried("run", 4, 4).any()
    assert "is lost" in caplog.text


def test_a_residual_that_cannot_be_kept_costs_precision_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_bytes(b"")
    book = ResidualBook(tmp_path / "file" / "a")
    with caplog.at_level(logging.WARNING, "client.agent.residual"):
        book.keep("run", residual(3))
        assert not book.carried("run", 4, 4).any()
    assert "cannot keep" in caplog.text


# ---- whole runs ------------------------------------------------------------------------------------------------------


def federate(wire: Wire, home: Path | None, journal: Memory, state: RunState | None = None, **rounds: object) -> None:
    config = settings(rounds={"pretrain": 2, "joint": 2, "wire": wire, **rounds})
    channel = Loopback([PlantAgent(site, home) for site in sites()])
    Coordinator(config, channel, journal, clock=channel.clock).run(state or RunState("r", config.digest))


@pytest.mark.parametrize("wire", SMALL)
def test_a_killed_run_goes_on_bit_for_bit_though_the_agents_died_too(tmp_path: Path, wire: Wire) -> None:
    whole, first, second = Memory(), Memory(), Memory()
    federate(wire, tmp_path / "whole", whole)

    class Killed(Exception):
        pass

    class Mortal(Memory):
        def commit(self, record, state) -> None:  # type: ignore[no-untyped-def]
            if record.number == 15:  # the plants have answered, nothing of it is kept
                raise Killed
            first.commit(record, state)

    assert whole.records[14].label == "train 2/2"
    with pytest.raises(Killed):
        federate(wire, tmp_path / "killed", Mortal())
    federate(wire, tmp_path / "killed", second, first.states[-1])
    assert [r.model for r in first.records + second.records] == [r.model for r in whole.records]


def test_error_feedback_is_carried_between_rounds(tmp_path: Path) -> None:
    """Without it the second round's update would be that of an agent with no past."""
    journal = Memory()
    federate("int8", tmp_path, journal)
    later = Memory()
    federate("int8", tmp_path / "forgot", later, journal.states[1])
    assert later.records[0].model != journal.records[2].model


@pytest.fixture(scope="module")
def twenty_rounds() -> dict[Wire, tuple[float, float]]:
    """Last loss on held-out data, and bytes of one update, of three plants after 20 rounds."""
    plants, found = generate(3, 900, 0), {}
    for wire in WIRES:
        recipe = {"detector": {"hidden": 24, "layers": 1, "window": 12}, "training": {"stride": 3}}
        recipe["scoring"] = {"evidence": False}  # the loss on held-out data does not need judges
        config = settings(recipe=recipe, rounds={"pretrain": 6, "joint": 14, "wire": wire})
        channel, journal = Loopback([PlantAgent(site) for site in plants]), Memory()
        Coordinator(config, channel, journal).run(RunState("r", config.digest))
        update = next(p for p in channel.received if p.texts["kind"] == Kind.TRAIN)
        found[wire] = journal.records[-1].metrics["holdout_loss"], sum(len(r.data) for r in update.arrays.values())
        first = next(r.metrics["holdout_loss"] for r in journal.records if r.label.startswith("train 1"))
        assert found[wire][0] < 0.9 * first
    return found


@pytest.mark.parametrize(("wire", "share"), [("bf16", 0.5), ("int8", 0.25)])
def test_twenty_rounds_in_fewer_bytes_lose_no_more_than_a_hundredth(
    twenty_rounds: dict[Wire, tuple[float, float]], wire: Wire, share: float
) -> None:
    loss, size = twenty_rounds[wire]
    full_loss, full_size = twenty_rounds["fp32"]
    assert size <= share * full_size
    assert loss == pytest.approx(full_loss, rel=0.01)
