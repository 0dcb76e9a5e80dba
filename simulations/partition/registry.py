"""Which partitions there are, and what each is told."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TypeVar

from shared.errors import InvalidConfig
from shared.series import SiteData

Sites = tuple[SiteData, ...]
T = TypeVar("T")


@dataclass(frozen=True)
class Asked:
    """What a strategy is told beside the sites; each reads what it needs.

    Attributes:
        count: how many plants, or None.
        dataset: the data set's name as `--dataset` has it; empty: unknown.
        concentration: alpha of the Dirichlet distribution that `by-mode` draws from; small: unlike plants.
        modes: how many operating modes `by-mode` looks for.
        segment: rows that `by-mode` hands out in one piece.
        seed: of everything that is drawn.
    """

    count: int | None = None
    dataset: str = ""
    concentration: float = 0.5
    modes: int = 6
    segment: int = 300
    seed: int = 0


Strategy = Callable[[Sites, Asked], Sites]

_strategies: dict[str, Strategy] = {}


def strategy(name: str) -> Callable[[Strategy], Strategy]:
    """Register a function as the partition of that name."""

    def keep(function: Strategy) -> Strategy:
        _strategies[name] = function
        return function

    return keep


@cache
def _load() -> None:
    package = import_module("simulations.partition")
    for module in pkgutil.iter_modules(package.__path__):
        if module.name.startswith("by_"):
            import_module(f"simulations.partition.{module.name}")


def found() -> dict[str, Strategy]:
    """Every strategy by its name."""
    _load()
    return _strategies


def first(things: Sequence[T], count: int | None, how: str) -> tuple[T, ...]:
    """The first `count` of what a strategy gives, all of them without a count.

    Raises:
        InvalidConfig: it gives fewer.
    """
    if count is not None and count > len(things):
        cause = f"{count} sites are asked for, but the partition {how} gives {len(things)}."
        raise InvalidConfig(cause, f"Give --sites {len(things)} or fewer, or leave it out.")
    return tuple(things[:count])


def few(names: Sequence[str], shown: int = 5) -> str:
    """Some names of many.

    Example:
        >>> few(["a", "b", "c"], shown=2)
        'a, b and 1 more'
    """
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")
