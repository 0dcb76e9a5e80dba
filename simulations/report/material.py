"""What a report is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from server.rounds import Phase, PlantReport, RoundRecord, Status
from shared.config import RunConfig
from shared.metrics.summary import Evaluation
from simulations.evaluate import SiteResult, pooled_evaluation
from simulations.given import Shares
from simulations.spent import Spent

SHOWN = 100  # sites that get a figure of their own; all of them are in the tables


@dataclass(frozen=True)
class Material:
    """One run, whole. Names, notes and reasons may come from plants: they are text and never markup.

    Attributes:
        run: its name in the store.
        config: its settings.
        origin: where each setting came from, by dotted name.
        notes: repairs and omissions, in words.
        records: finished rounds, in order.
        results: one a site.
        seconds: training and evaluation; after a resume, of the last session only.
        given: what each site got, or None where that was not kept.
        spent: what it spent of its privacy budget; None for a run that claims none.
    """

    run: str
    config: RunConfig
    origin: Mapping[str, str]
    notes: Sequence[str]
    records: Sequence[RoundRecord]
    results: Sequence[SiteResult]
    seconds: float
    given: Shares | None = None
    spent: Spent | None = None

    @property
    def measured(self) -> tuple[tuple[SiteResult, Evaluation], ...]:
        """Sites with labelled test data, and what was found there."""
        return tuple((result, result.evaluation) for result in self.results if result.evaluation is not None)

    @cached_property
    def pooled(self) -> Evaluation | None:
        """The measured sites laid end to end; None without any."""
        return pooled_evaluation(self.results)

    @property
    def weak(self) -> tuple[SiteResult, ...]:
        """Sites whose threshold cannot keep its promise."""
        return tuple(result for result in self.results if result.bundle.threshold.status == "weak")

    @property
    def halted(self) -> tuple[RoundRecord, ...]:
        """Rounds that were skipped or failed."""
        return tuple(record for record in self.records if record.status is not Status.COMMITTED)

    @property
    def refused(self) -> tuple[PlantReport, ...]:
        """Plants that the describe round did not take in."""
        return tuple(plant for record in self.records if record.phase is Phase.DESCRIBE for plant in record.rejected)
