"""The names under which the coordinator's figures are exported; frozen by a test, and in docs/metrics-prometheus.md."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

LONGEST = 255
"""Characters of a label's value: names come from plants and from whoever filled the store."""


class Family(NamedTuple):
    """A metric: what it is, in words, and the names of its labels."""

    kind: Literal["gauge", "counter"]
    help: str
    labels: tuple[str, ...] = ()


_RUN, _PLANT = ("run",), ("run", "plant")
FAMILIES: Mapping[str, Family] = {
    "crossplant_build_info": Family("gauge", "1; the version as a label.", ("version",)),
    "crossplant_store_up": Family("gauge", "1 when the round store could be read, 0 when not."),
    "crossplant_store_read_seconds": Family("gauge", "How long this scrape read the round store."),
    "crossplant_run_info": Family("gauge", "1; how a run stands, digest of its settings.", ("run", "status", "config")),
    "crossplant_run_running": Family("gauge", "1 while the run is not over.", _RUN),
    "crossplant_run_created_timestamp_seconds": Family("gauge", "When the run was started.", _RUN),
    "crossplant_run_round": Family("gauge", "Number of its last finished round.", _RUN),
    "crossplant_run_rounds_planned": Family("gauge", "Rounds of its plan; skipped ones come on top.", _RUN),
    "crossplant_run_rounds_total": Family("counter", "Finished rounds by how they ended.", ("run", "status")),
    "crossplant_run_round_deadline_seconds": Family("gauge", "How long one of its rounds may wait.", _RUN),
    "crossplant_run_last_round_timestamp_seconds": Family("gauge", "When its last finished round ended.", _RUN),
    "crossplant_run_last_round_seconds": Family("gauge", "How long that took.", _RUN),
    "crossplant_run_last_round_activity_seconds": Family("gauge", "What it took at the server.", ("run", "activity")),
    "crossplant_run_last_round_plants": Family("gauge", "Plants in it: asked, accepted, joined.", ("run", "part")),
    "crossplant_run_last_round_bytes": Family("gauge", "Payload in both directions.", _RUN),
    "crossplant_run_holdout_loss": Family("gauge", "Newest loss on held-out normal data, mean of the plants.", _RUN),
    "crossplant_run_train_loss": Family("gauge", "Newest training loss, mean of the plants.", _RUN),
    "crossplant_run_privacy_epsilon_budget": Family("gauge", "Epsilon that the run may cost a plant.", _RUN),
    "crossplant_run_waiting_round": Family("gauge", "Round that waits for plants now.", _RUN),
    "crossplant_run_waiting_since_timestamp_seconds": Family("gauge", "Since when.", _RUN),
    "crossplant_run_waiting_deadline_timestamp_seconds": Family("gauge", "Until when at the latest.", _RUN),
    "crossplant_run_waiting_plants": Family("gauge", "For how many plants.", _RUN),
    "crossplant_plant_waited_for": Family("gauge", "1 for a plant that a round waits for; the first ten.", _PLANT),
    "crossplant_plant_rounds_total": Family("counter", "Rounds that asked the plant.", _PLANT),
    "crossplant_plant_accepted_rounds_total": Family("counter", "Rounds in which it counted.", _PLANT),
    "crossplant_plant_missed_rounds": Family(
        "gauge", "Rounds since it counted last, up to the last that asked it.", _PLANT
    ),
    "crossplant_plant_bytes_total": Family("counter", "Payload to it (down) and from it (up).", (*_PLANT, "direction")),
    "crossplant_plant_last_seen_timestamp_seconds": Family("gauge", "When the last round it counted in began.", _PLANT),
    "crossplant_plant_live_round": Family("gauge", "Last round in which it calibrated and published.", _PLANT),
    "crossplant_plant_holdout_loss": Family("gauge", "Newest loss on its held-out normal data.", _PLANT),
    "crossplant_plant_certificate_expiry_timestamp_seconds": Family("gauge", "When its certificate ends.", ("plant",)),
    "crossplant_federation_certificate_expiry_timestamp_seconds": Family(
        "gauge", "When a certificate of the coordinator ends: authority, server.", ("certificate",)
    ),
    "crossplant_privacy_epsilon_spent": Family(
        "gauge", "Upper bound of the epsilon in a privacy ledger beside the store, over all runs.", ("plant",)
    ),
    "crossplant_privacy_epsilon_budget": Family("gauge", "What the newest release was held against.", ("plant",)),
    "crossplant_order_open": Family("gauge", "1 while an order waits to be carried out.", ("run", "action")),
    "crossplant_order_open_since_timestamp_seconds": Family("gauge", "Since when.", _RUN),
}


@dataclass
class Samples:
    """What a scrape found, by metric and labels; of two samples with the same labels the first counts."""

    _found: dict[str, dict[tuple[str, ...], float]] = field(default_factory=dict)

    def put(self, name: str, value: float | None, *labels: str) -> None:
        """Take a sample; None and what is no number is left out."""
        if value is None or math.isnan(value):
            return
        key = tuple(_readable(label) for label in labels)
        if len(key) != len(FAMILIES[name].labels):
            raise ValueError(f"{name} has the labels {FAMILIES[name].labels}")
        self._found.setdefault(name, {}).setdefault(key, float(value))

    def families(self) -> Iterator[Metric]:
        """As prometheus_client writes them; metrics without a sample are there with their help."""
        for name, (kind, told, labels) in FAMILIES.items():
            make = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
            family = make(name, told, labels=labels)
            for key, value in self._found.get(name, {}).items():
                family.add_metric(key, value)
            yield family


def _readable(text: str) -> str:
    """What UTF-8 can carry, of bearable length."""
    return text[:LONGEST].encode("utf-8", "replace").decode()
