"""What a site measures: tags, kinds, sampling period, and a fingerprint over all of it."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Annotated

from msgspec import Meta

from shared.artefact import Artefact

TagName = Annotated[str, Meta(min_length=1, max_length=128)]


class SensorSchema(Artefact, frozen=True, kw_only=True):
    """The columns of a site's data, in order.

    Attributes:
        tags: one name a column.
        period_s: nominal time between two rows, in seconds.
    """

    tags: Annotated[tuple[TagName, ...], Meta(min_length=1, max_length=10_000)]
    period_s: Annotated[float, Meta(gt=0)]

    def check(self) -> None:
        twice = sorted(tag for tag, count in Counter(self.tags).items() if count > 1)
        if twice:
            raise ValueError(f"tag names occur twice: {', '.join(twice[:5])}")

    @property
    def dim(self) -> int:
        """Number of columns, D."""
        return len(self.tags)

    @property
    def fingerprint(self) -> str:
        """A short digest; two sites may train one model when theirs are equal."""
        return hashlib.sha256(self.json).hexdigest()[:16]


def difference(expected: SensorSchema, got: SensorSchema, shown: int = 5) -> str:
    """Say in words how `got` differs from `expected`; empty when they are equal.

    Example:
        >>> a = SensorSchema(tags=("LIT101", "FIT101"), period_s=1)
        >>> difference(a, SensorSchema(tags=("LIT101",), period_s=1))
        'sends 1 tags where the federation expects 2; missing FIT101'
    """
    due, sent = set(expected.tags), set(got.tags)
    missing = [tag for tag in expected.tags if tag not in sent]
    extra = [tag for tag in got.tags if tag not in due]
    parts = []
    if got.dim != expected.dim:
        parts.append(f"sends {got.dim} tags where the federation expects {expected.dim}")
    if missing:
        parts.append(f"missing {', '.join(missing[:shown])}{' ...' if len(missing) > shown else ''}")
    if extra:
        parts.append(f"unknown {', '.join(extra[:shown])}{' ...' if len(extra) > shown else ''}")
    if not missing and not extra and expected.tags != got.tags:
        parts.append("same tags in another order")
    if expected.period_s != got.period_s:
        parts.append(f"samples every {got.period_s:g} s where the federation expects {expected.period_s:g} s")
    return "; ".join(parts)
