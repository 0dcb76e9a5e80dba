"""What leaves a plant is a list (DESIGN.md, idea 12): a whole run is sent past it, in both directions."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from server.private import planned
from shared.schema import SensorSchema
from shared.series import SiteData
from shared.wire.envelope import Packet, encode_array
from shared.wire.gate import METRICS, TIMINGS
from shared.wire.inventory import DROPPED, REPLY, REQUEST, Field, Kind, private_fields, unlisted
from tests.support import plants
from tests.support.plants import Loopback, federate

# Settings under which other fields travel than under the defaults.
SETTINGS: dict[str, dict[str, object]] = {
    "defaults": {},
    "statistic in train replies": {"recipe": {"clustering": {"refresh_every": 0}}},
    "no bound, server Adam": {
        "recipe": {"detector": {"bottleneck": "linear"}, "clustering": {"target": "local", "clip": "cloud"}},
        "rounds": {"server_optimizer": "adam", "weighting": "bucket"},
    },
    "plants that differ": {
        "recipe": {"sharing": {"share": "trunk", "adapter": 3, "keep": "better", "alone_epochs": 1}},
    },
    "an ensemble": {"recipe": {"detector": {"name": "ewad", "members": 2}}},
    "updates in 8 bits": {"rounds": {"wire": "int8", "aggregation": "robust", "vote_every": 1}},
    "local differential privacy": {
        "recipe": {
            "detector": {"dropout": 0.0},
            "clustering": {"unit": 8, "clip": "cloud"},
            "privacy": {"mode": "local", "epsilon": 8.0},
        },
        "rounds": {"server_optimizer": "adam", "weighting": "uniform"},
    },
}
PRIVATE = "local differential privacy"
DIFFER = "plants that differ"


@cache
def run(name: str) -> Loopback:
    rng, private = np.random.default_rng(0), name == PRIVATE
    sites = []
    for site, rows in (("north", 5_500 if private else 120), ("south", 5_500 if private else 120), ("short", 9)):
        values = rng.normal(size=(rows, 2)).astype(np.float32)
        schema = SensorSchema(tags=("a", "b"), period_s=1)
        sites.append(SiteData(site, schema, values, values[:0], None, ranges=((-4.0, 4.0), (-4.0, 4.0))))
    with TemporaryDirectory() as folder:
        return federate(sites, planned(plants.settings(**SETTINGS[name])), privacy=Path(folder))[2]


def fields(packet: Packet) -> Iterator[tuple[str, str]]:
    for part in ("arrays", "numbers", "texts"):
        yield from ((part, name) for name in getattr(packet, part))


def carried(packets: list[Packet], entry: Field) -> set[Kind]:
    """The kinds of message that carried an entry's field."""
    kinds = ((Kind(packet.texts["kind"]), packet) for packet in packets)
    return {kind for kind, p in kinds for part, name in fields(p) if entry.covers(part, name, kind)}


@pytest.mark.parametrize("name", SETTINGS)
def test_nothing_travels_that_is_not_listed(name: str) -> None:
    channel = run(name)
    never = {Kind.MOMENTS} if name in (PRIVATE, DIFFER) else set()  # exact moments of unprotected, like records
    assert {packet.texts["kind"] for packet in channel.sent} == set(Kind) - never
    for packet in channel.sent:
        assert unlisted(packet, Kind(packet.texts["kind"]), REQUEST) == []
    for packet in channel.received:
        assert unlisted(packet, Kind(packet.texts["kind"]), REPLY) == []


@pytest.mark.parametrize("entry", REQUEST, ids=lambda entry: f"{entry.part}-{entry.name}")
def test_every_listed_request_field_travels_in_every_kind_it_is_listed_for(entry: Field) -> None:
    only_under = {"clip": PRIVATE, "places": "an ensemble"}
    assert carried(run(only_under.get(entry.name, "defaults")).sent, entry) == entry.kinds


# Listed fields that a run under the defaults does not carry, and what it takes.
ONLY_UNDER = {
    ("cluster_sums", Kind.TRAIN): "statistic in train replies",
    ("cluster_counts", Kind.TRAIN): "statistic in train replies",
    ("cluster_spread", Kind.TRAIN): "statistic in train replies",
    ("delta", Kind.TRAIN): "updates in 8 bits",
    ("delta_scales", Kind.TRAIN): "updates in 8 bits",
    ("gradient/*", Kind.TRAIN): "no bound, server Adam",
    ("below", Kind.TRAIN): "local differential privacy",
    ("own_model", Kind.CALIBRATE): DIFFER,
}
# A plant refuses in the describe round and is not asked again; these kinds are refused only by a plant that changes.
ONLY_WHEN_REFUSED = {("refused", kind) for kind in Kind if kind is not Kind.DESCRIBE}


@pytest.mark.parametrize("entry", REPLY, ids=lambda entry: f"{entry.part}-{entry.name}")
def test_every_listed_reply_field_travels_in_every_kind_it_is_listed_for(entry: Field) -> None:
    missing = entry.kinds - carried(run("defaults").received, entry)
    assert missing == {kind for name, kind in (*ONLY_UNDER, *ONLY_WHEN_REFUSED) if name == entry.name} & entry.kinds
    for kind in missing:
        if (entry.name, kind) in ONLY_UNDER:
            assert kind in carried(run(ONLY_UNDER[entry.name, kind]).received, entry)


def test_under_a_claim_nothing_travels_that_is_dropped_there() -> None:
    channel = run(PRIVATE)
    dropped = {(entry.name, kind) for entry in REPLY if entry.private == DROPPED for kind in entry.kinds}
    assert {("holdout_loss", Kind.TRAIN), ("examples", Kind.TRAIN), ("weights/*", Kind.TRAIN)} < dropped
    for packet in channel.received:
        assert unlisted(packet, Kind(packet.texts["kind"]), private_fields(REPLY)) == []


def test_under_a_claim_all_that_is_noised_travels() -> None:
    """Or nothing would be shown by what does not."""
    for entry in REPLY:
        if entry.sensitivity:
            due = {Kind.CLUSTER} if entry.name.startswith("cluster_") else {Kind.TRAIN}
            assert carried(run(PRIVATE).received, entry) == due, entry.name


def test_what_is_noised_says_how_far_one_record_moves_it() -> None:
    for entry in REPLY:
        assert bool(entry.sensitivity) == ("noise" in entry.private and "rounding" not in entry.private), entry.name
        assert not (entry.sensitive and not entry.private), entry.name


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.DESCRIBE])
def test_a_plant_refuses_every_kind_within_the_list(kind: Kind) -> None:
    channel = run("defaults")
    sent = next(packet for packet in channel.sent if packet.texts["kind"] == kind)
    answer = channel.agents[0].handle(Packet(sent.arrays, {**sent.numbers, "extra": 1}, sent.texts))
    assert "refused" in answer.texts
    assert unlisted(answer, kind, REPLY) == []


def test_what_is_sensitive_says_what_protects_it() -> None:
    for entry in REPLY:
        assert bool(entry.sensitive) == bool(entry.protection), entry.name


def test_no_entry_is_listed_twice() -> None:
    for inventory in (REQUEST, REPLY):
        listed = [(entry.part, entry.name, kind) for entry in inventory for kind in entry.kinds]
        assert len(set(listed)) == len(listed)


def test_the_metrics_that_the_gate_reads_are_listed_numbers() -> None:
    listed = {entry.name for entry in REPLY if entry.part == "numbers"}
    assert {*METRICS, *TIMINGS} <= listed


_SHAPED = ("weights/", "gradient/", "cluster_sums", "cluster_counts", "delta", "moments")


def test_no_raw_reading_is_as_large_as_what_crosses() -> None:
    """No reply array has a row for each window or reading: shapes are those of the detector, of the clusters and of
    the tags.
    """
    for name in SETTINGS:
        for packet in run(name).received:
            for field, raw in packet.arrays.items():
                assert field.startswith(_SHAPED), field
                assert 120 not in raw.shape
                assert 96 not in raw.shape


@pytest.mark.parametrize(
    ("packet", "kind", "told"),
    [
        (Packet({"rows": encode_array(np.zeros(2))}), Kind.TRAIN, ["arrays:rows"]),
        (Packet({"weights/a": encode_array(np.zeros(2))}), Kind.CLUSTER, ["arrays:weights/a"]),
        (Packet({"weights": encode_array(np.zeros(2))}), Kind.TRAIN, ["arrays:weights"]),
        (Packet({}, {"examples": 3, "round": 1}), Kind.CALIBRATE, ["numbers:examples"]),
        (Packet({"moments": encode_array(np.zeros(2))}), Kind.CALIBRATE, ["arrays:moments"]),
        (Packet({}, {"rows": 3, "round": 1}), Kind.MOMENTS, ["numbers:rows"]),
        (Packet({}, {}, {"schema": "", "round": ""}), Kind.TRAIN, ["texts:schema", "texts:round"]),
    ],
)
def test_unlisted_fields_are_told(packet: Packet, kind: Kind, told: list[str]) -> None:
    assert unlisted(packet, kind, REPLY) == told
