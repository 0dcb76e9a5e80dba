"""What a run spent of its privacy budget, read from the ledgers in its folder and not from what was planned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from server.rounds import RoundRecord, Status
from shared.config import RunConfig
from shared.privacy.accounting import Event, epsilon
from shared.privacy.chain import TORN, Line
from shared.privacy.claim import Claim, claim, rounded_up
from shared.privacy.ledger import LEDGER, Balance, read_balance
from simulations.private import LeftOut, PrivateSite

FOLDER = "privacy"
"""Where ledgers lie, in a run folder."""

_POINTS = 24  # of a course: each takes a moment to account for


@dataclass(frozen=True)
class PlantSpent:
    """One plant's ledger; under central privacy the coordinator's, which speaks for every plant.

    Attributes:
        balance: over all runs of the ledger.
        course: round and epsilon up to and with it, of this run; ascending.
    """

    balance: Balance
    course: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Spent:
    """The privacy of one run.

    Attributes:
        mode: `local` or `central`.
        budget, delta: what was claimed.
        plants: one a ledger, sorted by name.
        clip: round and the clipping norm it was asked with; ascending.
        noise: multipliers by release.
        sites: what the sites have and say.
        left_out: sites without the claim.
        folder: where the ledgers lie.
    """

    mode: str
    budget: float
    delta: float
    plants: tuple[PlantSpent, ...]
    clip: tuple[tuple[int, float], ...]
    noise: Mapping[str, float]
    sites: tuple[PrivateSite, ...]
    left_out: tuple[LeftOut, ...]
    folder: Path

    @property
    def worst(self) -> Balance | None:
        """The ledger that spent most; None before the first release."""
        return max((plant.balance for plant in self.plants), key=lambda b: b.epsilon, default=None)

    @property
    def claim(self) -> Claim | None:
        """What may be said of the plant that spent most; of the others no less. None before the first release."""
        return claim(self.worst) if self.worst else None

    @property
    def short(self) -> tuple[str, ...]:
        """The claim in a few lines, for a terminal."""
        found = self.claim
        if found is None:
            return ("privacy: nothing was released",)
        whose = "at most, at each plant" if self.mode == "local" else "for all plants together"
        return (
            f"privacy: epsilon {found.epsilon:g} of {self.budget:g} at delta {found.delta:g}, {whose},",
            f"  for each {found.unit.removeprefix('one ')}",
            f"  ledgers: {self.folder}",
            f"  the claim, to be quoted: crossplant privacy ledger --store {self.folder.parent}",
        )

    def to_dict(self) -> dict[str, Any]:
        """For results.json, as plain JSON values."""
        worst = self.worst
        return {
            "mode": self.mode,
            "budget": self.budget,
            "epsilon": rounded_up(worst.epsilon) if worst else 0.0,
            "delta": worst.delta if worst else self.delta,
            "unit": worst.unit if worst else None,
            "claim": self.claim.text if self.claim else None,
            "noise": dict(self.noise),
            "plants": [_row(plant.balance) for plant in self.plants],
            "left_out": [one.model_dump(mode="json") for one in self.left_out],
        }


def _row(balance: Balance) -> dict[str, Any]:
    return {
        "plant": balance.plant,
        "epsilon": balance.epsilon,
        "delta": balance.delta,
        "unit": balance.unit,
        "releases": balance.releases,
        "by_purpose": dict(balance.by_purpose),
        "claim": claim(balance).text,
    }


def spent(
    root: Path,
    run: str,
    config: RunConfig,
    records: Sequence[RoundRecord],
    sites: Sequence[PrivateSite],
    left_out: Sequence[LeftOut],
) -> Spent | None:
    """Read a run's ledgers; None for a run that claims nothing.

    Args:
        root: the folder with `privacy/` in it.
        run: whose course to follow.
        config: the run's.
        records: its finished rounds.
        sites, left_out: what the run began with.

    Raises:
        LedgerBroken: a chain does not hold.
    """
    privacy = config.recipe.privacy
    if not privacy.on:
        return None
    folder = root / FOLDER
    kept = sorted(path.parent for path in folder.glob(f"*/{LEDGER}"))
    return Spent(
        mode=privacy.mode,
        budget=privacy.epsilon or 0.0,
        delta=privacy.delta,
        plants=tuple(PlantSpent(read_balance(path), course(path, run, privacy.delta)) for path in kept),
        clip=clip_course(config, records),
        noise={name: value for name, value in privacy.noise.model_dump().items() if value},
        sites=tuple(sites),
        left_out=tuple(left_out),
        folder=folder,
    )


def course(folder: Path, run: str, delta: float) -> tuple[tuple[int, float], ...]:
    """Epsilon of a ledger over the rounds of one run: what other runs spent comes before the first of them.

    Args:
        folder: of a ledger that was found whole.
        run: its name.
        delta: to account at.
    """
    rounds = _by_round(folder, run)
    shown = set(_thinned(sorted(rounds)))
    total: Counter[tuple[float, float]] = Counter()
    found: list[tuple[int, float]] = []
    for number in sorted(rounds):
        total.update(rounds[number])
        if number in shown:
            found.append((number, epsilon([Event(z, q, n) for (z, q), n in total.items()], delta)))
    return tuple(found)


def _by_round(folder: Path, run: str) -> dict[int, Counter[tuple[float, float]]]:
    """Releases by round, by multiplier and sampling; those of other runs, and of no run, in round 0."""
    found: dict[int, Counter[tuple[float, float]]] = {}
    for text in (folder / LEDGER).read_bytes().split(b"\n")[1:-1]:
        if text.endswith(TORN):
            continue
        line = msgspec.json.decode(text, type=Line)
        number = line.round if line.run == run else 0
        event = line.event
        found.setdefault(number, Counter())[event.multiplier, event.sampling] += event.count
    return found


def _thinned(numbers: Sequence[int]) -> list[int]:
    """Some of many numbers, the first and the last among them.

    Example:
        >>> _thinned([3, 4, 5]), len(_thinned(range(1000))), _thinned(range(1000))[-1]
        ([3, 4, 5], 24, 999)
    """
    if len(numbers) <= _POINTS:
        return list(numbers)
    last = len(numbers) - 1
    return [numbers[round(i * last / (_POINTS - 1))] for i in range(_POINTS)]


def clip_course(config: RunConfig, records: Sequence[RoundRecord]) -> tuple[tuple[int, float], ...]:
    """The clipping norm of each committed training round, as the coordinator moved it (`server.private.next_clip`)."""
    if config.recipe.privacy.mode != "local":
        return ()
    return tuple((r.number, r.metrics["clip"]) for r in records if r.status is Status.COMMITTED and "clip" in r.metrics)
