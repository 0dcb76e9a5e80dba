"""Fault: a plant sends one of the payloads that Flower 1.41's own strategies take, crash on or allocate 37 GiB for.

Each time the plant is absent for the round with a reason, the round commits with the others, and the model is the one
they make without it.
"""

from __future__ import annotations

import io
import pickle
import resource
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest

from server.coordinator import Coordinator
from server.rounds import RoundRecord, RunState
from shared.config import TRUSTED, RunConfig, build
from shared.model import initial_weights
from shared.wire.envelope import Packet, RawArray, encode_array
from tests.support.plants import Memory
from tests.support.puppets import MANIFEST, Puppet, Stage, changed

NAMES = ("east", "north", "south", "west")
WEIGHT, BIAS = "weights/head.weight", "weights/head.bias"  # (3, 4) and (3,)


def config(aggregation: str) -> RunConfig:
    clustering = {"recipe": {"clustering": {"clusters": 3, "seed_steps": 1, "refine_steps": 1, "unit": 20}}}
    rounds = {"rounds": {"pretrain": 1, "joint": 1, "deadline_s": 5.0, "aggregation": aggregation}}
    base = TRUSTED if aggregation == "robust" else {}
    return build({"a": clustering, "trusted": base, "b": rounds})[0]


def arrays(**tensors: RawArray | None) -> Callable[[Packet], Packet]:
    return lambda reply: changed(reply, arrays={f"weights/head.{name}": raw for name, raw in tensors.items()})


def examples(value: object) -> Callable[[Packet], Packet]:
    return lambda reply: changed(reply, numbers={"examples": value})


def full(value: float, shape: tuple[int, ...] = (3, 4), dtype: str = "<f4") -> RawArray:
    return encode_array(np.full(shape, value, dtype))


def npy(header: str, body: bytes = b"") -> RawArray:
    text = header.encode() + b"\n"
    return RawArray("float32", (3, 4), b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body)


def claims(shape: str, descr: str = "<f4", order: str = "False", body: bytes = b"\0" * 48) -> RawArray:
    return npy(f"{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}}}", body)


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('unpickled')",)


def pickled() -> RawArray:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asarray([Bomb()], object), version=(1, 0), allow_pickle=True)
    return RawArray("object", (3, 4), buffer.getvalue())


HOSTILE: dict[str, tuple[Callable[[Packet], Packet], str]] = {
    "NaN": (arrays(weight=full(np.nan)), "NaN or infinite"),
    "infinity": (arrays(weight=full(np.inf)), "NaN or infinite"),
    "an int64 buffer": (arrays(weight=full(1, dtype="<i8")), "dtype <i8"),
    "a header that claims 37 GiB": (arrays(weight=claims("(10000000000,)")), "impossible shape"),
    "a header that claims 8 GiB": (arrays(weight=claims("(2000000000,)")), "shape (2000000000,)"),
    "no rows of 10^18": (arrays(weight=claims("(0, 1000000000000000000)", body=b"")), "impossible shape"),
    "float64 that says it is float32": (
        arrays(weight=RawArray("float32", (3, 4), full(1.0, (2, 2), "<f8").data)),
        "dtype <f8, expected <f4",
    ),
    "a shape that broadcasts": (arrays(bias=full(9.0, (1,))), "shape (1,), expected (3,)"),
    "10^18 examples": (examples(10**18), "examples, allowed are 1 to"),
    "-999 examples": (examples(-999), "examples is -999"),
    "NaN examples": (examples(float("nan")), "examples is nan"),
    "3e38 everywhere": (arrays(weight=full(3e38)), "a value beyond 10,000"),
    "a weight beyond the cap": (arrays(weight=full(10_001.0)), "a value beyond 10,000"),
    "an update beyond the norm": (arrays(weight=full(9_000.0)), "update norm"),
    "a pickle": (arrays(weight=pickled()), "array of dtype |O"),
    "a pickle and no array": (
        arrays(weight=RawArray("float32", (3, 4), pickle.dumps(Bomb()))),
        "not an .npy version 1",
    ),
    "columns first": (arrays(weight=claims("(3, 4)", order="True")), "in order True"),
    "trailing bytes": (arrays(weight=RawArray("float32", (3, 4), full(0.0).data + b"x")), "49 bytes of data"),
    "cut short": (arrays(weight=RawArray("float32", (3, 4), full(0.0).data[:-1])), "47 bytes of data"),
    "big-endian": (arrays(weight=full(0.0, dtype=">f4")), "dtype >f4"),
    "a header of 10,000 brackets": (arrays(weight=npy("(" * 500)), "unreadable array header"),
    "a tensor missing": (arrays(weight=None), "tensors missing: ['head.weight']"),
    "a tensor too many": (arrays(spare=full(0.0)), "unknown: ['head.spare']"),
    "a change beside the weights": (
        lambda reply: changed(reply, arrays={"delta": full(0.0)}),
        "delta in a reply that was to travel as fp32",
    ),
    "True examples": (examples(True), "examples is True"),
    "a stale round": (lambda reply: changed(reply, numbers={"round": 1}), "round 1, expected 2: a stale reply"),
    "another plant's name": (lambda reply: changed(reply, texts={"plant": "north"}), "plant 'north', expected 'west'"),
    "another run": (lambda reply: changed(reply, texts={"run": "theirs"}), "run 'theirs', expected"),
    "another model": (lambda reply: changed(reply, texts={"model": "0" * 64}), "another global model"),
    "bytes in a text": (lambda reply: changed(reply, texts={"rows": "1,2,3"}), "fields that no train reply may carry"),
}


def conduct(act: Callable[[Packet], Packet | None], aggregation: str = "robust") -> list[RoundRecord]:
    def in_round_two(request: Packet, answer: Packet) -> Packet | None:
        return act(answer) if request.numbers["round"] == 2 else answer

    puppets = [Puppet(name, step=0.01 * (1 + i)) for i, name in enumerate(NAMES)]
    puppets[-1] = replace(puppets[-1], act=in_round_two)
    settings, journal, stage = config(aggregation), Memory(), Stage(puppets)
    Coordinator(settings, stage, journal, clock=stage.clock).run(RunState("run", settings.digest))
    return journal.records


@pytest.fixture(scope="module", params=["robust", "mean"])
def absent(request: pytest.FixtureRequest) -> tuple[str, list[RoundRecord]]:
    return request.param, conduct(lambda reply: None, request.param)


@pytest.mark.parametrize("name", HOSTILE)
def test_the_plant_is_absent_and_the_round_goes_on(name: str, absent: tuple[str, list[RoundRecord]]) -> None:
    act, reason = HOSTILE[name]
    aggregation, others = absent
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    records = conduct(act, aggregation)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB
    report = next(p for p in records[1].plants if p.plant == "west")
    assert (records[1].label, records[1].status.value) == ("train 1/1", "committed")
    assert not report.accepted
    assert reason in (report.reason or ""), report.reason
    assert [r.model for r in records] == [r.model for r in others]


@pytest.mark.parametrize("aggregation", ["robust", "mean", "median", "trimmed-mean", "krum"])
def test_an_update_of_nothing_is_an_update(aggregation: str) -> None:
    """Flower's server divides by its norm. It is honest: a plant may have nothing to learn."""
    records = conduct(lambda reply: changed(reply, arrays=_as_sent()), aggregation)
    assert records[1].accepted == NAMES
    assert all(r.status.value == "committed" for r in records)


def _as_sent() -> dict[str, object]:
    return {f"weights/{name}": encode_array(value) for name, value in initial_weights(MANIFEST, 0).items()}


def test_one_reply_a_plant_counts() -> None:
    """A plant that answers twice counts once: with its first reply."""

    @dataclass
    class Twice(Stage):
        def receive(self, wait_s: float):  # type: ignore[no-untyped-def]
            arrivals = list(super().receive(wait_s))
            return arrivals + [a for a in arrivals if a.packet and a.packet.texts.get("plant") == "west"]

    settings, once, twice = config("robust"), Memory(), Memory()
    for kind, journal in ((Stage, once), (Twice, twice)):
        stage = kind([Puppet(name, step=0.01 * (1 + i)) for i, name in enumerate(NAMES)])
        Coordinator(settings, stage, journal, clock=stage.clock).run(RunState("run", settings.digest))
    assert [r.model for r in twice.records] == [r.model for r in once.records]
