"""From the command line to the effective settings of every contestant on every data set."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared.config import RunConfig, flatten
from shared.errors import InvalidConfig
from shared.layers import overlay
from simulations.settings import layered, nested, parse_assignment
from simulations.study.contestant import LOCAL, MODES, PRIVATE, kind_of, known
from simulations.study.overlays import ABLATIONS, BASE, ablations

ALIASES = {
    "default": BASE,
    "federated+dp": PRIVATE,
    "dp": PRIVATE,
    "iforest": "isolation-forest",
    "ocsvm": "one-class-svm",
}
TWIN_EVERY = 30
"""Seconds that become one row of a plant that has one a second, SWaT and WADI as their twins: docs/lag.md."""

_PROTOCOLS: Mapping[str, Mapping[str, Any]] = {
    name: {"recipe.preprocess.every": TWIN_EVERY} for name in ("twin-swat", "twin-wadi", "swat", "wadi")
}
_QUICK: Mapping[str, Any] = {"data.sites": 3, "data.days": 0.25, "data.rows": 1500, "recipe.training.stride": 4}
_QUICK_ROUNDS, _PAPER_ROUNDS = 4, 20


@dataclass(frozen=True)
class Asked:
    """The command line.

    Attributes:
        datasets, detectors, modes: names; of detectors also `all`.
        seeds: how many, from 0.
        rounds: of training; None: each preset's own (20 of `paper`'s 100, unless `full`).
        epsilon: of the mode private.
        settings: `--set` texts, laid over every contestant.
        quick: few rounds, few sites, short made plants.
        full: `paper` with all of its rounds.
        with_ablations, with_robustness: whether these are measured, too.
    """

    datasets: tuple[str, ...]
    detectors: tuple[str, ...]
    modes: tuple[str, ...]
    seeds: int = 3
    rounds: int | None = None
    epsilon: float = 8.0
    settings: tuple[str, ...] = ()
    quick: bool = False
    full: bool = False
    with_ablations: bool = False
    with_robustness: bool = False


# ---- names -----------------------------------------------------------------------------------------------------------


def detectors_of(asked: Asked) -> tuple[str, ...]:
    """Every detector that is asked for, by its own name.

    Raises:
        UnknownName: nobody knows one.
    """
    names = list(_expanded(asked.detectors))
    if asked.with_ablations:
        names += [BASE, *ablations()]
    for name in names:
        kind_of(name)
    return tuple(dict.fromkeys(names))


def _expanded(names: Sequence[str]) -> Iterator[str]:
    """`all`: everything; a registered detector that the default recipe is made of is left to `crossplant`."""
    for name in names:
        if name == "all":
            yield from (one for one in known() if one != RunConfig().recipe.detector.name)
        else:
            yield ALIASES.get(name, name)


def modes_of(names: Sequence[str]) -> tuple[str, ...]:
    """The modes that are asked for, in the order of `MODES`.

    Raises:
        InvalidConfig: there is no such mode.
    """
    wanted = {ALIASES.get(name, name) for name in names}
    unknown = sorted(wanted - set(MODES))
    if unknown or not wanted:
        told = f"there is no mode called {unknown[0]!r}." if unknown else "no mode was given."
        raise InvalidConfig(told, f"Known: {', '.join(MODES)}.")
    return tuple(mode for mode in MODES if mode in wanted)


# ---- settings --------------------------------------------------------------------------------------------------------


def effective(
    asked: Asked, dataset: str, detectors: Sequence[str], private: Sequence[str], base: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """What differs from the base, by detector (`NAME/private` for the mode private); under the empty name: default.

    Raises:
        InvalidConfig: a setting is impossible.
    """
    found = {"": _differing(_config(asked, dataset, BASE, LOCAL), base)}
    found |= {name: _differing(_config(asked, dataset, name, LOCAL), base) for name in detectors}
    return found | {f"{name}/{PRIVATE}": _differing(_config(asked, dataset, name, PRIVATE), base) for name in private}


def refused_privately(asked: Asked, detectors: Sequence[str]) -> dict[str, str]:
    """Presets whose letter contradicts what local differential privacy needs, with the reason."""
    found = {}
    for name in detectors:
        if kind_of(name) == "neural":
            try:
                _config(asked, asked.datasets[0], name, PRIVATE)
            except InvalidConfig as error:
                found[name] = error.cause
    return found


def _config(asked: Asked, dataset: str, name: str, mode: str) -> RunConfig:
    """The effective settings of a contestant: its preset, the data set's protocol, what it stands for, `--set`."""
    flags: dict[str, Any] = {**_PROTOCOLS.get(dataset, {}), "engine.workers": 1, "engine.device": "cpu"}
    flags |= _QUICK if asked.quick else {}
    flags |= _meaning(name)
    if mode == PRIVATE:
        flags["recipe.privacy.epsilon"] = asked.epsilon
    preset = "paper" if name == "paper" else None
    rounds = asked.rounds or (_QUICK_ROUNDS if asked.quick else None)
    if rounds is None and name == "paper" and not asked.full:
        rounds = _PAPER_ROUNDS
    config = layered(preset, flags, rounds, asked.settings)[0]
    given = {parse_assignment(text)[0] for text in asked.settings}
    none = {flag: None for flag, value in flags.items() if value is None and flag not in given}
    return restored(config.model_dump(mode="json"), none) if none else config  # a flag of None says that there is none


def _meaning(name: str) -> Mapping[str, Any]:
    """Settings that a contestant's name stands for."""
    kind = kind_of(name)
    if kind == "neural" and name.startswith(f"{BASE}:"):
        return ABLATIONS[name.partition(":")[2]]
    if kind == "neural" and name not in (BASE, "paper"):
        return {"recipe.detector.name": name}
    return {"recipe.preprocess.clip_quantile": None} if kind == "lag" else {}


def _differing(config: RunConfig, base: Mapping[str, Any]) -> dict[str, Any]:
    usual = dict(flatten(base))
    return {
        name: value
        for name, value in flatten(config.model_dump(mode="json"))
        if name not in usual or value != usual[name]
    }


def seeded(seed: int) -> dict[str, Any]:
    """What a seed sets."""
    return {"seed": seed, "recipe.training.seed": seed}


def restored(base: Mapping[str, Any], differing: Mapping[str, Any]) -> RunConfig:
    """A configuration from a dump of another one and what differs, by dotted name."""
    tree: dict[str, Any] = json.loads(json.dumps(base))
    for name, value in differing.items():
        overlay(tree, nested(name, value))
    return RunConfig.model_validate(tree)
