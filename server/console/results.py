"""What `crossplant simulate` left beside a store: `results.json`, each site's figures on its labelled test data.

The file is read as a stranger's: whatever has not the shape that is due is left out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server.store.store import RoundStore
from shared.errors import CrossplantError

COLUMNS = ("auprc", "vus_pr", "event_recall", "delay_s", "false_alarms_per_day")
_LARGEST = 32 * 2**20
_MOST = 500


@dataclass(frozen=True)
class Site:
    """One site's figures.

    Attributes:
        name: of the site.
        figures: by name, those of `COLUMNS` among them; what is missing is None.
        threshold: how well its threshold is founded (`ok`, `weak`), empty if nobody says.
    """

    name: str
    figures: Mapping[str, float | None]
    threshold: str


@dataclass(frozen=True)
class Spent:
    """What a run's privacy came to.

    Attributes:
        mode: `local` or `central`.
        budget, epsilon, delta: of the claim.
        plants: epsilon by plant.
        claim: the paragraph to quote.
    """

    mode: str
    budget: float | None
    epsilon: float | None
    delta: float | None
    plants: Mapping[str, float | None]
    claim: str


@dataclass(frozen=True)
class Results:
    """Figures of a run.

    Attributes:
        sites: one entry each.
        mean: over the sites, each weighing the same.
        spent: None where nothing was promised.
    """

    sites: tuple[Site, ...]
    mean: Mapping[str, float | None]
    spent: Spent | None


def results_of(store: RoundStore, run: str) -> Results | None:
    """The results of a run; None when there are none beside its store."""
    try:
        found = _read(store.folder / "results.json")
    except (CrossplantError, OSError, ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or found.get("run") != run:
        return None
    sites = tuple(_site(one) for one in _list(found.get("sites"))[:_MOST] if isinstance(one, dict))
    return Results(sites, _figures(found.get("macro")), _spent(found.get("privacy")))


def _read(path: Path) -> Any:
    with path.open("rb") as file:
        return json.loads(file.read(_LARGEST))


def _site(found: Mapping[str, Any]) -> Site:
    threshold = found.get("threshold")
    status = threshold.get("status") if isinstance(threshold, dict) else ""
    return Site(_text(found.get("site")), _figures(found.get("metrics")), _text(status))


def _spent(found: Any) -> Spent | None:
    if not isinstance(found, dict):
        return None
    plants = [one for one in _list(found.get("plants"))[:_MOST] if isinstance(one, dict)]
    return Spent(
        _text(found.get("mode")),
        _number(found.get("budget")),
        _number(found.get("epsilon")),
        _number(found.get("delta")),
        {_text(one.get("plant")): _number(one.get("epsilon")) for one in plants},
        _text(found.get("claim")),
    )


def _figures(found: Any) -> dict[str, float | None]:
    given = found if isinstance(found, dict) else {}
    return {name: _number(given.get(name)) for name in COLUMNS}


def _number(value: Any) -> float | None:
    good = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if good and abs(value) < 1e300 and math.isfinite(value) else None


def _text(value: Any) -> str:
    return value[:2000] if isinstance(value, str) else ""


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
