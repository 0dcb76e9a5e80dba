"""A plant's answers under local differential privacy: what to refuse, what to charge, what to compute.

    which release is it? -> charge it in the plant's ledger, on the disk -> compute -> answer

The noise follows from request, data and the plant's key alone. So the same request brings the same bytes, after a kill
between charge and answer too, and is charged once; with other data, or another request, the noise is another one.
Imported when the first such request comes: without one, no file is made.
"""

from __future__ import annotations

import platform
import secrets
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from client.agent.claim import Task, check_claim, ranges_digest, tag, unit_text
from client.agent.own import site_digest
from client.training.private import Exchange, Records, private_exchange
from client.training.segments import (
    Double,
    Segments,
    count_records,
    first_windows,
    medians,
    prepare_records,
    segments,
    windows_a_record,
)
from client.training.tensors import TensorWindows
from client.training.workspace import Workspace
from shared.clustering import Statistic, statistic
from shared.config import Recipe
from shared.detectors import ClusterTarget, Detector
from shared.errors import BadPayload, PrivacyUnmet, TooFewRecords
from shared.model import Clusters
from shared.privacy.accounting import Event
from shared.privacy.ledger import PrivacyLedger, Purpose, Release
from shared.privacy.mechanisms import Randomness, noised_statistic
from shared.privacy.planning import (
    check_delta,
    least_epsilon,
    public_size,
    ranges_event,
    statistic_event,
    training_event,
)
from shared.privacy.quantiles import noised_ranges
from shared.series import FloatArray, SiteData
from shared.wire.messages import CLIP_LEAST, CLIP_MOST, Request

FEWEST_FOR_RANGES = 5_000
"""Records from which on noised quantiles tell a useful range (docs/privacy.md, "One exchange")."""


RADIUS_LEAST, RADIUS_MOST = 1e-9, 1e6
"""Of a statistic's offsets: near the ends of float64 they would round to more than the radius, or its square to 0."""


class PrivateDesk:
    """Knows a plant's records and keeps its ledger.

    Args:
        site: the plant's data.
        folder: of ledger and key, made at the first release.
        budget: epsilon that all releases of this ledger may cost together; None: what the recipe claims.
        device: where training runs.
        now: the clock.
    """

    def __init__(
        self,
        site: SiteData,
        folder: Path,
        budget: float | None,
        device: torch.device,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._site, self._folder, self._budget, self._device, self._now = site, folder, budget, device, now

    def size(self, recipe: Recipe) -> int:
        """What the plant says of its size: N', the power of two at or below its number of records.

        Raises:
            PrivacyUnmet: the recipe contradicts its claim, or a tag has no range that is not read off the data.
            TooFewRecords: for the epsilon that is claimed, or for ranges from noised quantiles.
        """
        check_claim(recipe)
        windows_a_record(recipe, self._site.schema.period_s)
        records = count_records(self._site, recipe)
        self._check_enough(recipe, records)
        self._check_ranges(recipe, records)
        return public_size(records)

    def workspace(self, recipe: Recipe) -> Workspace:
        """The plant's records, prepared; charges the release of ranges where they come from quantiles.

        Raises:
            PrivacyUnmet, TooFewRecords: as `size`.
            TooFewRows: nothing is usable.
            BudgetSpent, LedgerBroken: ranges cannot be released.
        """
        self.size(recipe)
        records = segments(self._site, recipe)
        return prepare_records(self._site, recipe, records, self._ranges(recipe, records))

    def charged(self, task: Task, purpose: Purpose, event: Event) -> Randomness:
        """Write a release down, then give the noise that it must bear.

        Raises:
            BudgetSpent, LedgerBroken: and nothing may be released.
        """
        privacy = task.recipe.privacy
        engine = "" if purpose == "ranges" else self._engine  # whole numbers and their noise round alike everywhere
        parts = (self._data, engine, task.digest, purpose)
        budget = self._budget if self._budget is not None else privacy.epsilon
        if budget is None:
            raise PrivacyUnmet("the run claims differential privacy without an epsilon.")
        ledger = self._ledger
        release = Release(
            run=task.run,
            round=task.round,
            purpose=purpose,
            request=tag(ledger.secret, *parts),
            event=event,
            delta=privacy.delta,
            unit=unit_text(task.recipe, self._site.schema.period_s),
            time=self._now().isoformat(timespec="milliseconds"),
        )
        ledger.charge(release, budget)
        return Randomness.keyed(ledger.secret, *parts)

    @cached_property
    def _ledger(self) -> PrivacyLedger:
        return PrivacyLedger(self._folder, self._now)

    @cached_property
    def _data(self) -> str:
        return site_digest(self._site, repr(self._site.ranges).encode())

    @property
    def _engine(self) -> str:
        """What else rounds an answer: the same noise on sums that differ in their last bits would show these bits. On
        an accelerator sums differ from time to time, so every answer there is a release of its own.
        """
        if self._device.type != "cpu":
            return secrets.token_hex(16)
        versions = tuple(map(version, ("crossplant", "torch", "numpy", "opacus", "cryptography")))
        machine = (torch.backends.cpu.get_cpu_capability(), torch.__config__.show(), _processor())
        return f"{versions} {machine} {torch.get_num_threads()}"

    def _check_enough(self, recipe: Recipe, records: int) -> None:
        offered, epsilon = least_epsilon(records), recipe.privacy.epsilon
        if offered is None or epsilon is None or epsilon < offered:
            honest = "none up to 8 is honest" if offered is None else f"the least it can honestly offer is {offered:g}"
            asked = "one that is not named" if epsilon is None else f"{epsilon:g}"
            cause = f"plant {self._site.name!r} has {records:,} records, too few for epsilon {asked}: {honest}."
            raise TooFewRecords(cause)
        check_delta(recipe.privacy, records)

    def _check_ranges(self, recipe: Recipe, records: int) -> None:
        unknown = self._unknown
        if not unknown:
            return
        names = [self._site.schema.tags[d] for d in unknown]
        some = f"{', '.join(names[:5])}{' ...' if len(names) > 5 else ''}"
        cause = f"plant {self._site.name!r} knows no operating range of {len(names)} tags: {some}."
        cure = "Put `ranges.csv` with the columns tag, low and high beside plant.toml or into the data set's folder."
        if recipe.privacy.noise.ranges == 0:
            raise PrivacyUnmet(cause, cure)
        if records < FEWEST_FOR_RANGES:
            few = f"{cause} Noised quantiles need {FEWEST_FOR_RANGES:,} records, here are {records:,}."
            raise TooFewRecords(few, cure)

    @property
    def _unknown(self) -> list[int]:
        """Columns without a public range."""
        ranges = self._site.ranges or (None,) * self._site.schema.dim
        return [d for d, span in enumerate(ranges) if span is None]

    def _ranges(self, recipe: Recipe, records: Segments) -> Double:
        """Low and high of each tag, (D, 2): public, else noised quantiles, released once for the same settings."""
        known = self._site.ranges or (None,) * self._site.schema.dim
        ranges_D2 = np.array([span or (np.nan, np.nan) for span in known])
        unknown = self._unknown
        if unknown:
            multiplier = recipe.privacy.noise.ranges
            task = Task("", 0, ranges_digest(recipe), recipe)
            noise = self.charged(task, "ranges", ranges_event(recipe.privacy))
            ranges_D2[unknown] = noised_ranges(medians(records)[:, unknown], multiplier, noise)
        return ranges_D2


def _processor() -> str:
    """Its model: libraries choose their ways, and so their roundings, by it."""
    try:
        with Path("/proc/cpuinfo").open() as file:
            return next((line for line in file if line.startswith("model name")), platform.machine())
    except OSError:
        return platform.processor()


def private_records(workspace: Workspace, windows: TensorWindows, recipe: Recipe) -> Records:
    """The prepared records as training takes them."""
    per_record = windows_a_record(recipe, workspace.schema.period_s)
    return Records(windows, first_windows(workspace), per_record, public_size(workspace.records))


def exchange(
    desk: PrivateDesk,
    task: Task,
    request: Request,
    detector: Detector,
    records: Records,
    target: ClusterTarget | None,
) -> Exchange:
    """One training exchange, charged before it is computed.

    Raises:
        BadPayload: the request is not for one gradient at a clip of its own.
        BudgetSpent, LedgerBroken: nothing is released.
    """
    order, privacy = request.order, task.recipe.privacy
    if not order.one_step or not CLIP_LEAST <= order.clip <= CLIP_MOST:
        raise BadPayload(f"a private exchange needs one_step and a clip of {CLIP_LEAST:g} to {CLIP_MOST:g}.")
    noise = desk.charged(task, "weights", training_event(privacy))
    found = private_exchange(detector, records, target, privacy, order.clip, noise)
    # Where nothing follows the norms, how many lay below the clip is not released: the plan has no noise for it.
    return found if privacy.noise.below else replace(found, below=0.5)


def cluster_statistic(
    desk: PrivateDesk,
    task: Task,
    latents: Callable[[], FloatArray],
    segments_N: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
    clusters: Clusters,
    radius: float,
) -> Statistic:
    """One cluster statistic, charged before it is computed.

    Raises:
        BadPayload: without a radius, or one beyond float64's good range, one record could move it by anything.
        BudgetSpent, LedgerBroken: nothing is released.
    """
    if not RADIUS_LEAST <= radius <= RADIUS_MOST:
        raise BadPayload(f"a private statistic needs a radius of {RADIUS_LEAST:g} to {RADIUS_MOST:g}, not {radius:g}.")
    multiplier = task.recipe.privacy.noise.statistic
    noise = desk.charged(task, "centroids", statistic_event(task.recipe.privacy))
    # A model may be made to overflow on certain records: each window's own coordinates then count as 0.
    latents_NZ = np.nan_to_num(latents(), nan=0.0, posinf=0.0, neginf=0.0)
    return noised_statistic(statistic(latents_NZ, segments_N, clusters.centroids_KZ, radius), multiplier, radius, noise)
