"""What holds of a plant's private answers as they leave it: each function fails where it does not.

Everything is asked of a real agent, through requests as a coordinator sends them, and nothing is believed that it says
of itself: noise is measured, sensitivities are, and how many records were drawn is counted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from client.agent.service import PlantAgent
from client.training import private as training
from shared.config import Recipe
from shared.detectors import build
from shared.model import Clusters, GlobalModel
from shared.privacy.accounting import Event, together
from shared.privacy.mechanisms import Randomness
from shared.series import SiteData
from shared.wire.envelope import Packet, decode_array
from shared.wire.frame import encode_frame
from shared.wire.inventory import REPLY, Kind, private_fields, unlisted
from shared.wire.messages import Request, TrainOrder, encode_request
from tests.support.claims import DIM, NOISE, UNIT, claim, plant

Double = NDArray[np.float64]

REJECT = 1e-6
CLIP, RADIUS = 0.3, 0.8
SLOTS = 520
"""Records that the plants of these tests have, most of them empty: without a reading, so that they add nothing."""

_HIDDEN, _LATENT, _CLUSTERS = 16, 4, 3
_SHARES = {"sums": 0.65, "counts": 0.20, "spread": 0.15}


def recipe(**privacy: Any) -> Recipe:
    """A network of some thousand weights; each record is drawn with probability 1/20 unless told otherwise."""
    return claim(detector=_NETWORK, privacy={"noise": NOISE, **privacy})


_NETWORK = {"window": 4, "hidden": _HIDDEN, "latent": _LATENT, "layers": 1, "dropout": 0.0}


def agent(site: SiteData, folder: Path) -> PlantAgent:
    """With a ledger in `folder` that refuses nothing."""
    return PlantAgent(site, privacy=folder, budget=1e6, guard=False)


def of(*pieces: NDArray[np.floating], slots: int = SLOTS) -> SiteData:
    """A plant with these records, (UNIT, DIM) each, and otherwise empty ones; what is held out is at rest."""
    whole = plant(slots)
    rows_TD = np.full_like(whole.train_TD, np.nan)
    rows_TD[slots * UNIT :] = 0.0
    for at, piece in enumerate(pieces):
        rows_TD[at * UNIT : (at + 1) * UNIT] = piece
    return replace(whole, train_TD=rows_TD)


AT_REST = of(np.zeros((UNIT, DIM)))
"""A plant whose only record stands still in the middle of its range."""


@cache
def model(zero: bool = False) -> GlobalModel:
    """Weights, or none: then what stands still is reconstructed exactly, so that gradient and loss are 0."""
    rng, specs = np.random.default_rng(0), build(recipe().detector, DIM).manifest()
    span = 0.0 if zero else 0.4
    centroids_KZ = rng.uniform(-0.6, 0.6, (_CLUSTERS, _LATENT)).astype(np.float32)
    frequency_K = np.array([0.7, 0.2, 0.1], np.float32)
    clusters = Clusters(centroids_KZ, frequency_K, np.ones(3, bool), np.zeros(3, np.int64), 1.0)
    return GlobalModel({s.name: rng.uniform(-span, span, s.shape).astype(np.float32) for s in specs}, clusters)


def request(kind: Kind, number: int, how: Recipe, zero: bool = False, alpha: float = 0.0, both: bool = False) -> Packet:
    """As a coordinator makes it."""
    if kind in (Kind.DESCRIBE, Kind.MOMENTS):
        return encode_request(Request(kind, "r", number, how))
    order = TrainOrder(alpha=alpha, step=number, one_step=True, clip=CLIP, with_statistic=both)
    sent = model(zero)
    return encode_request(Request(kind, "r", number, how, sent.digest, sent, RADIUS, order))


# ---- what an answer says, in units of what one record may move -------------------------------------------------------


@dataclass(frozen=True)
class Said:
    """An answer's parts, undone of what is public: sums over records, each over its sensitivity.

    Attributes:
        parts: gradient (P,), below (1,), loss (1,), sums (K Z,), counts (K,), spread (1,).
    """

    parts: dict[str, Double]

    def minus(self, other: Said) -> Said:
        return Said({name: values - other.parts[name] for name, values in self.parts.items()})


def read(reply: Packet, how: Recipe, size: int = 512) -> Said:
    """Read an answer as the formulas of docs/privacy.md say that it was made."""
    assert "refused" not in reply.texts, reply.texts.get("refused")
    parts, drawn = {}, how.privacy.sampling * size
    gradient = [decode_array(raw, raw.shape) for name, raw in sorted(reply.arrays.items()) if "gradient/" in name]
    if gradient:
        parts["gradient"] = np.concatenate([g.astype(np.float64).ravel() for g in gradient]) * drawn / CLIP
        parts["below"] = np.array([(reply.numbers["below"] - 0.5) * drawn / 0.5])
        parts["loss"] = np.array([reply.numbers["train_loss"] * drawn / how.privacy.loss_cap])
    if "cluster_sums" in reply.arrays:
        sums_KZ = decode_array(reply.arrays["cluster_sums"], (_CLUSTERS, _LATENT), "<f8")
        counts_K = decode_array(reply.arrays["cluster_counts"], (_CLUSTERS,), "<f8")
        parts["sums"] = sums_KZ.astype(np.float64).ravel() / RADIUS
        parts["counts"] = counts_K.astype(np.float64).ravel()
        parts["spread"] = np.array([reply.numbers["cluster_spread"] / RADIUS**2])
    return Said(parts)


def multipliers(how: Recipe) -> dict[str, float]:
    """Standard deviation of each part's noise over its sensitivity, as the recipe has it."""
    noise = how.privacy.noise
    own = {"gradient": noise.weights, "below": noise.below, "loss": noise.loss}
    return own | {name: noise.statistic / share**0.5 for name, share in _SHARES.items()}


@contextmanager
def silent() -> Iterator[None]:
    """The product without its noise; everything else as it is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Randomness, "normal", lambda self, size, sd: np.zeros(size))
        yield


@contextmanager
def watched() -> Iterator[list[NDArray[np.int64]]]:
    """Which records each exchange drew, in order."""
    drawn: list[NDArray[np.int64]] = []
    exact = training.clipped_sum

    def noted(detector: Any, records: Any, chosen_B: NDArray[np.int64], *rest: Any) -> Any:
        drawn.append(chosen_B)
        return exact(detector, records, chosen_B, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "clipped_sum", noted)
        yield drawn


# ---- noise -----------------------------------------------------------------------------------------------------------


def noise_of(folder: Path, requests: int = 60) -> dict[str, Double]:
    """All noise of so many answers by part, over its sensitivity: what stands still says nothing else."""
    how, found = recipe(), agent(AT_REST, folder)
    with silent():
        still = agent(AT_REST, folder.with_name(f"{folder.name}-silent"))
        exact = read(still.handle(request(Kind.CLUSTER, 1, how, zero=True)), how)
    exact = Said(exact.parts | {name: np.zeros(1) for name in ("gradient", "below", "loss")})
    answers = [
        read(found.handle(request(kind, number, how, zero=True)), how).parts
        for number in range(requests)
        for kind in (Kind.TRAIN, Kind.CLUSTER)
    ]
    return {
        name: np.concatenate([said[name] - exact.parts[name] for said in answers if name in said])
        for name in multipliers(how)
    }


def noise_is_gaussian_and_whole(folder: Path) -> None:
    """Variance by chi-square, two-sided, and the whole shape by Kolmogorov and Smirnov, in every part of a release."""
    due = multipliers(recipe())
    for name, values in noise_of(folder).items():
        scaled = values / due[name]
        tail = stats.chi2.cdf(float(scaled @ scaled), len(scaled))
        assert REJECT < tail < 1 - REJECT, f"{name}: variance {float(scaled @ scaled) / len(scaled):.3f} of what is due"
        assert stats.kstest(scaled, "norm").pvalue > REJECT, name


def noise_differs(folder: Path) -> None:
    """Between two requests, two kinds of request, and two plants that hold the same data: no draw is used twice."""
    how = recipe()
    one, two = agent(AT_REST, folder / "one"), agent(replace(AT_REST, name="two"), folder / "two")
    first, second = request(Kind.TRAIN, 1, how, zero=True), request(Kind.TRAIN, 2, how, zero=True)
    draws = [read(who.handle(what), how).parts["gradient"] for who in (one, two) for what in (first, second)]
    for i, draw in enumerate(draws):
        assert len(np.unique(draw)) > 0.99 * len(draw)
        for other in draws[:i]:
            assert (draw != other).mean() > 0.99
            assert abs(np.corrcoef(draw, other)[0, 1]) < 6 / len(draw) ** 0.5
    sums = [read(who.handle(request(Kind.CLUSTER, 3, how, zero=True)), how).parts["sums"] for who in (one, two)]
    assert (sums[0] != sums[1]).all()


def retry_brings_the_same_bytes(folder: Path) -> None:
    """From the same agent, after other requests, and from another agent on the same folder."""
    how, site = recipe(), of(*np.random.default_rng(1).normal(size=(40, UNIT, DIM)))
    asked = request(Kind.TRAIN, 1, how, alpha=0.5, both=True)
    found = agent(site, folder)
    first = encode_frame(found.handle(asked))
    charged = len(charges(folder))
    found.handle(request(Kind.TRAIN, 2, how))
    assert encode_frame(found.handle(asked)) == first
    assert encode_frame(agent(site, folder).handle(asked)) == first
    assert len(charges(folder)) == charged + 1


# ---- sensitivity -----------------------------------------------------------------------------------------------------


def answer(site: SiteData, folder: Path, alpha: float = 0.5) -> Said:
    """What a plant says to a request for everything, all records drawn."""
    how = recipe(sampling=1.0)
    return read(agent(site, folder).handle(request(Kind.TRAIN, 1, how, alpha=alpha, both=True)), how)


def moved(pieces: NDArray[np.floating], folder: Path, alpha: float = 0.5) -> dict[str, float]:
    """How far removing the first record moves each part, over its sensitivity: 1 is the most that is allowed."""
    without = np.array(pieces)
    without[0] = np.nan
    with silent():
        said = answer(of(*pieces), folder, alpha).minus(answer(of(*without), folder, alpha))
    return {name: float(np.linalg.norm(values)) for name, values in said.parts.items()}


def hostile_records(seed: int = 0) -> dict[str, NDArray[np.float64]]:
    """Plants of ten records, or one, of which the first is what an adversary would choose, (10, UNIT, DIM) each."""
    rng = np.random.default_rng(seed)
    usual, huge = rng.normal(size=(10, UNIT, DIM)), 1e3 * rng.normal(size=(UNIT, DIM))
    window = rng.normal(size=(UNIT // 2, DIM))
    firsts = {
        "like the others": usual[0],
        "huge": huge,
        "beyond all": np.full((UNIT, DIM), 3e38),
        "infinite": np.where(rng.random((UNIT, DIM)) < 0.2, np.inf, usual[0]),
        "windows that cancel": np.concatenate([window, -window]),
        "full of gaps": np.where(rng.random((UNIT, DIM)) < 0.3, np.nan, 4.0),
        "at rest": np.zeros((UNIT, DIM)),
    }
    found = {name: np.concatenate([first[None], usual[1:]]) for name, first in firsts.items()}
    return found | {"all alike and huge": np.tile(huge, (10, 1, 1)), "alone": usual[:1]}


def one_record_moves_what_it_may(folder: Path) -> None:
    """Gradient, share below the clip, loss, sums, counts and spread, whatever the record is and clusters weigh."""
    for (name, pieces), alpha in product(hostile_records().items(), (0.5, 10.0)):
        for part, share in moved(pieces, folder / f"{name} {alpha:g}", alpha).items():
            assert share <= 1 + 1e-4, f"{name}: {part} moves by {share:.4g} of what one record may"


# ---- sampling, and the ledger ----------------------------------------------------------------------------------------


def drawn_by(folder: Path, exchanges: int = 60, **privacy: Any) -> NDArray[np.bool_]:
    """Which records were in which exchange, (T, SLOTS)."""
    how, found = recipe(**privacy), agent(AT_REST, folder)
    with watched() as drawn:
        for number in range(exchanges):
            found.handle(request(Kind.TRAIN, number, how, zero=True))
    assert len(drawn) == exchanges
    inside_TR = np.zeros((exchanges, SLOTS), np.bool_)
    for number, chosen in enumerate(drawn):
        inside_TR[number, chosen] = True
    return inside_TR


def records_are_drawn_as_the_ledger_says(folder: Path) -> None:
    """Each with the probability that was written down, independently of the others and of the exchange before."""
    inside_TR = drawn_by(folder)
    charged = [line.event for line in charges(folder) if line.purpose == "weights"]
    assert len(charged) == len(inside_TR)
    (share,) = {event.sampling for event in charged}
    assert binomial(int(inside_TR.sum()), inside_TR.size, share)
    for counts, most in ((inside_TR.sum(axis=0), len(inside_TR)), (inside_TR.sum(axis=1), SLOTS)):
        spread = ((counts - most * share) ** 2).sum() / (most * share * (1 - share))
        assert REJECT < stats.chi2.cdf(spread, len(counts)) < 1 - REJECT
    again = inside_TR[1:] & inside_TR[:-1]
    assert binomial(int(again.sum()), again.size, share**2)
    beside = inside_TR[:, 1:] & inside_TR[:, :-1]
    assert binomial(int(beside.sum()), beside.size, share**2)


def binomial(found: int, count: int, share: float) -> bool:
    return bool(stats.binomtest(found, count, share).pvalue > REJECT)


@dataclass(frozen=True)
class Charge:
    """A line of a ledger."""

    purpose: str
    event: Event


def charges(folder: Path) -> list[Charge]:
    """What a plant's ledger holds, read from the disk."""
    whole = [line for line in (folder / "ledger.jsonl").read_text().splitlines() if line.endswith("}")]
    lines = [json.loads(line) for line in whole]  # without those that were torn
    return [Charge(line["purpose"], Event(**line["event"])) for line in lines if "event" in line]


def the_ledger_says_what_was_used(folder: Path) -> None:
    """The precision that was measured, of all parts of a release together, is the one that was charged, to a tenth."""
    sds = {name: float(np.sqrt(np.mean(values**2))) for name, values in noise_of(folder, 100).items()}
    used = {
        "weights": together(sds["gradient"], *(multipliers(recipe())[name] for name in ("below", "loss"))),
        "centroids": together(sds["sums"], sds["counts"], sds["spread"]),
    }
    for line in charges(folder):
        assert line.event.multiplier == pytest.approx(used[line.purpose], rel=0.1)
    records_are_drawn_as_the_ledger_says(folder / "drawn")


# ---- nothing else ----------------------------------------------------------------------------------------------------


def nothing_else_leaves(folder: Path) -> None:
    """No reply has a field that the list drops under a claim."""
    how, found = recipe(), agent(of(*np.random.default_rng(2).normal(size=(40, UNIT, DIM))), folder)
    for kind in Kind:
        reply = found.handle(request(kind, 1, how, both=kind is Kind.TRAIN))
        assert ("refused" in reply.texts) == (kind is Kind.MOMENTS)  # exact sums, whatever the recipe says of them
        assert unlisted(reply, kind, private_fields(REPLY)) == []
