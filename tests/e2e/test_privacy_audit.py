"""A whole federated run, audited: five hundred canaries in one plant's records, against all that left it.

The attacker is as strong as the claim allows for: it knows every reading of the plant but the coins, every model, the
clip, and all that the coordinator sees. It does not know which records were drawn, nor the noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from client.agent.service import PlantAgent
from client.training.opacus_step import opacus_gradients
from server.coordinator import Coordinator
from server.private import planned
from server.rounds import RunState
from shared.config import RunConfig, build
from shared.detectors import Detector, cluster_target
from shared.detectors import build as build_detector
from shared.privacy.audit import epsilon_bound, guess
from shared.privacy.defaults import PRIVATE
from shared.privacy.ledger import read_balance
from shared.privacy.mechanisms import Randomness
from shared.schema import SensorSchema
from shared.series import SiteData
from shared.wire.envelope import Packet, decode_array
from shared.wire.messages import Request, parse_request
from tests.support.plants import Loopback, Memory

Double = NDArray[np.float64]

CLAIM, DELTA = 1.0, 1e-5
WINDOW, DIM, RECORDS, CANARIES = 4, 16, 5_200, 500
GUESSES = 200  # settled beforehand
_SIZE = 4_096  # that the plants declare
_OWN = {
    "seed": 3,
    "rounds": {"pretrain": 6, "joint": 6, "deadline_s": 600.0},
    "recipe": {
        "detector": {"window": WINDOW, "hidden": 4, "latent": 4, "layers": 1},
        "training": {"holdout": 0.02},
        "clustering": {"clusters": 3, "unit": WINDOW},
        "scoring": {"evidence": False},  # the plant's judge takes seconds to fit; nothing of it leaves
        "privacy": {"mode": "local", "epsilon": CLAIM, "sampling": 0.2, "clip": 0.1, "clip_quantile": None},
    },
}


@cache
def settings() -> RunConfig:
    """With the noise that fits the claim."""
    return planned(build({"private": PRIVATE, "own": _OWN})[0])


@dataclass(frozen=True)
class Hidden:
    """What the auditor put into the plant: records (M, W, D), their coins, and all other records (R, W, D)."""

    canaries_MWD: Double
    included_M: NDArray[np.bool_]
    others_RWD: Double


@cache
def hidden() -> Hidden:
    """Canaries swing three tags far beyond the range that all others stay in the middle of, each in its own way."""
    rng = np.random.default_rng(0)
    canaries_MWD = np.zeros((CANARIES, WINDOW, DIM))
    for canary_WD in canaries_MWD:
        tags = rng.choice(DIM, 3, replace=False)
        canary_WD[:, tags] = rng.choice([-1, 1], (WINDOW, 3)) * rng.uniform(10, 20, (WINDOW, 3))
    others_RWD = 0.05 * rng.normal(size=(RECORDS - CANARIES, WINDOW, DIM))
    return Hidden(canaries_MWD, rng.random(CANARIES) < 0.5, others_RWD)


def site(name: str, records_RWD: Double) -> SiteData:
    """A plant with these records, whose range makes scaling the identity; what is held out is at rest."""
    rows_TD = np.zeros((round(RECORDS * WINDOW / 0.98) + 2, DIM), np.float32)
    rows_TD[: RECORDS * WINDOW] = records_RWD.reshape(-1, DIM)
    schema = SensorSchema(tags=tuple(f"t{d}" for d in range(DIM)), period_s=1.0)
    return SiteData(name, schema, rows_TD, rows_TD[:0], None, ranges=((-2.0, 2.0),) * DIM)


def audited() -> SiteData:
    """Without a reading where a coin said no: such a record adds nothing, as if it were not there."""
    put = hidden()
    present_MWD = np.where(put.included_M[:, None, None], put.canaries_MWD, np.nan)
    return site("audited", np.concatenate([put.others_RWD, present_MWD]))


def federated(folder: Path) -> Loopback:
    """The run, with another plant beside the audited one."""
    other = site("other", 0.05 * np.random.default_rng(1).normal(size=(RECORDS, WINDOW, DIM)))
    agents = [PlantAgent(data, privacy=folder / data.name, guard=False) for data in (audited(), other)]
    channel, journal = Loopback(agents), Memory()
    Coordinator(settings(), channel, journal).run(RunState("audit", settings().digest))
    assert all(report.accepted for record in journal.records for report in record.plants)
    return channel


# ---- the attack ------------------------------------------------------------------------------------------------------


def scores(channel: Loopback, expected: Sequence[float]) -> Double:
    """Of each canary, (E, M): sum over exchanges of <what came beyond what was to be expected, the canary's gradient>,
    in the metric in which all that the attacker cannot know is alike in all directions: which records were drawn, and
    noise of so many times the clip, by each of E expectations.
    """
    put, config = hidden(), settings()
    detector, sampling = build_detector(config.recipe.detector, DIM), config.recipe.privacy.sampling
    sent = {packet.numbers["round"]: packet for packet in channel.sent if packet.texts["kind"] == "train"}
    found_EM = np.zeros((len(expected), CANARIES))
    for reply in channel.received:
        if (reply.texts["kind"], reply.texts["plant"]) != ("train", "audited"):
            continue
        request = parse_request(sent[reply.numbers["round"]], detector.manifest(), config.recipe.detector.latent)
        canary_MP = clipped(detector, request, put.canaries_MWD)
        other_RP = clipped(detector, request, put.others_RWD)
        came_P = gradient(reply) * sampling * _SIZE
        beyond_P = came_P - sampling * (other_RP.sum(axis=0) + canary_MP.sum(axis=0) / 2)
        drawn_PP = sampling * (1 - sampling) * other_RP.T @ other_RP
        drawn_PP += sampling / 2 * (1 - sampling / 2) * canary_MP.T @ canary_MP
        for e, noise in enumerate(expected):
            unknown_PP = drawn_PP + (noise * request.order.clip) ** 2 * np.eye(len(drawn_PP))
            found_EM[e] += canary_MP @ np.linalg.solve(unknown_PP, beyond_P)
    return found_EM


def clipped(detector: Detector, request: Request, records_RWD: Double) -> Double:
    """Each record's clipped gradient under the round's model, (R, P), by Opacus: the auditor trusts no code of ours."""
    model, order = request.model, request.order
    assert model is not None
    detector.load_weights(model.weights)
    target = None if model.clusters is None or order.alpha == 0 else cluster_target(model.clusters, order.alpha)
    windows_NWD = torch.from_numpy(np.clip(records_RWD, -20.0, 20.0).astype(np.float32))
    found = opacus_gradients(detector, windows_NWD, len(windows_NWD), target, 1.0).gradients
    gradient_RP = np.concatenate([found[name].flatten(1).double().numpy() for name in sorted(found)], axis=1)
    norm_R = np.linalg.norm(gradient_RP, axis=1)
    clipped_RP: Double = gradient_RP * np.minimum(1.0, order.clip / norm_R)[:, None]
    return clipped_RP


def gradient(reply: Packet) -> Double:
    """What left, (P,), names ascending."""
    parts = [(name, raw) for name, raw in sorted(reply.arrays.items()) if name.startswith("gradient/")]
    return np.concatenate([decode_array(raw, raw.shape).astype(np.float64).ravel() for _, raw in parts])


def bound() -> tuple[float, float]:
    """Of one run: the epsilon that two attacks prove at 95 % together, and the one that the plant's ledger says."""
    with TemporaryDirectory() as folder:
        channel = federated(Path(folder))
        said = read_balance(Path(folder) / "audited").epsilon
    expected = (settings().recipe.privacy.noise.weights, 0.01)  # the noise that was promised, or next to none
    tries = [guess(score_M, hidden().included_M, GUESSES) for score_M in scores(channel, expected)]
    return max(epsilon_bound(found, DELTA, 1 - 0.05 / len(tries)) for found in tries), said


# ---- the audit -------------------------------------------------------------------------------------------------------


def test_the_attack_proves_no_more_than_the_claim_allows() -> None:
    proven, said = bound()
    assert proven <= said <= CLAIM
    assert proven < 0.6  # a Gaussian mechanism of epsilon 1 shows this attack far less


@pytest.mark.parametrize("factor", [0.0, 1 / (0.2 * _SIZE)], ids=["no noise", "noise divided by the batch"])
def test_the_same_attack_refutes_the_claim_of_a_mutant(factor: float) -> None:
    exact = Randomness.normal
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Randomness, "normal", lambda self, size, sd: exact(self, size, sd * factor))
        proven, _ = bound()
    assert proven > 1.5 * CLAIM
