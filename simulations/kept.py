"""Where sharing helped and where it did not: which model each site keeps, in words."""

from __future__ import annotations

from collections.abc import Sequence

from shared.bundle.parts import Provenance
from simulations.evaluate import SiteResult

_WHAT = {
    "federated": "the federation's model",
    "personal": "the federation's model, fine-tuned",
    "alone": "a model that it trained alone",
}


def kept_lines(results: Sequence[SiteResult]) -> tuple[str, ...]:
    """A sentence for each site that compared models; nothing where none did."""
    found = (result.bundle.provenance for result in results)
    return tuple(_line(one) for one in found if one.compared)


def _line(one: Provenance) -> str:
    losses = ", ".join(f"{_WHAT[name]} {loss:.4g}" for name, loss in one.compared)
    verdict = "" if one.origin != "alone" else "; sharing does not help here"
    return f"{one.site} keeps {_WHAT[one.origin]}{verdict}. Loss on held-out normal data: {losses}."
