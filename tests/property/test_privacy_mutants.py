"""Each way to break the claim that we could think of, and the test that notices.

A mutant replaces one of the product's own functions; then the guard in `test_privacy_guards` must fail. Whoever finds
another way adds a line to the table.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from client.agent import private as desk
from client.agent.service import PlantAgent
from client.training import private as training
from client.training import segments as cutting
from client.training.private import ClippedSum, Records, clipped_sum, private_exchange
from shared.clustering import Statistic
from shared.config import Recipe
from shared.detectors import ClusterTarget
from shared.privacy.accounting import Event
from shared.privacy.mechanisms import Randomness, noised_statistic
from shared.privacy.planning import training_event
from shared.series import SiteData
from tests.property import test_privacy_guards as guarded

Patch = pytest.MonkeyPatch

_normal, _keyed = Randomness.normal, Randomness.keyed


# ---- noise -----------------------------------------------------------------------------------------------------------


def _scaled(patch: Patch, factor: float) -> None:
    patch.setattr(Randomness, "normal", lambda self, size, sd: _normal(self, size, sd * factor))


def noise_halved(patch: Patch) -> None:
    _scaled(patch, 0.5)


def noise_a_tenth_too_small(patch: Patch) -> None:
    _scaled(patch, 0.9)


def noise_divided_by_the_batch(patch: Patch) -> None:
    """Added to the mean as if it were the sum, and divided once more."""
    _scaled(patch, 1 / (0.05 * 512))


def no_noise(patch: Patch) -> None:
    _scaled(patch, 0.0)


def uniform_noise(patch: Patch) -> None:
    """Of the right variance and the wrong shape: its tails end."""

    def uniform(self: Randomness, size: Any, sd: float) -> Any:
        count = int(np.prod(size))
        return ((self._uniform(count) - 0.5) * 12**0.5 * sd).reshape(size)

    patch.setattr(Randomness, "normal", uniform)


def constant_seed(patch: Patch) -> None:
    patch.setattr(Randomness, "keyed", staticmethod(lambda secret, *parts: Randomness(bytes(32))))


def one_seed_for_a_plant(patch: Patch) -> None:
    patch.setattr(Randomness, "keyed", staticmethod(lambda secret, *parts: _keyed(secret)))


def one_seed_for_all_plants(patch: Patch) -> None:
    patch.setattr(Randomness, "keyed", staticmethod(lambda secret, *parts: _keyed(b"", *parts[1:])))


def fresh_noise_on_a_retry(patch: Patch) -> None:
    patch.setattr(Randomness, "keyed", staticmethod(lambda secret, *parts: _keyed(os.urandom(32), *parts)))


def centroids_unnoised(patch: Patch) -> None:
    patch.setattr(desk, "noised_statistic", lambda exact, multiplier, radius, noise: exact)


def counts_unnoised(patch: Patch) -> None:
    def exact_counts(exact: Statistic, multiplier: float, radius: float, noise: Randomness) -> Statistic:
        return replace(noised_statistic(exact, multiplier, radius, noise), counts_K=exact.counts_K)

    patch.setattr(desk, "noised_statistic", exact_counts)


# ---- clipping --------------------------------------------------------------------------------------------------------


def _clipping(patch: Patch, how: Callable[..., ClippedSum]) -> None:
    patch.setattr(training, "clipped_sum", how)


def no_clipping(patch: Patch) -> None:
    def unclipped(detector: Any, records: Records, chosen: Any, target: Any, clip: float, *rest: Any) -> ClippedSum:
        return clipped_sum(detector, records, chosen, target, 1e12, *rest)

    _clipping(patch, unclipped)


def clipping_of_each_window(patch: Patch) -> None:
    """Every window counts as a record, of which a segment has m."""

    def by_window(detector: Any, records: Records, chosen: NDArray[np.int64], *rest: Any) -> ClippedSum:
        first_R = records.first_R
        windows = [np.arange(first_R[r], first_R[r + 1]) for r in chosen]
        alone = Records(records.windows, np.arange(first_R[-1] + 1), 1, records.public_size)
        return clipped_sum(detector, alone, np.concatenate([np.empty(0, np.int64), *windows]), *rest)

    _clipping(patch, by_window)


def clipping_of_the_batch(patch: Patch) -> None:
    """The mean gradient is clipped to C, and not those that it is the mean of."""

    def whole(detector: Any, records: Records, chosen: Any, target: Any, clip: float, *rest: Any) -> ClippedSum:
        exact = clipped_sum(detector, records, chosen, target, 1e12, *rest)
        size = max(1, int(np.isfinite(exact.norms_B).sum()))
        length = np.sqrt(sum((value**2).sum() for value in exact.sums.values())) / size
        factor = min(1.0, clip / max(length, 1e-300))
        return exact._replace(sums={name: value * factor for name, value in exact.sums.items()})

    _clipping(patch, whole)


def frequency_of_the_batch_in_the_target(patch: Patch) -> None:
    """As DEC has it: p_j ~ q_j^2 / sum_i q_ij, over the records that were drawn."""

    def coupled(detector: Any, records: Records, chosen: Any, target: ClusterTarget, *rest: Any) -> ClippedSum:
        first_R = records.first_R
        index = np.concatenate([np.arange(first_R[r], first_R[r + 1]) for r in chosen])
        with torch.no_grad():
            latents_NZ = detector.encode(records.windows.batch(torch.from_numpy(index)))
        square_NK = (latents_NZ[:, None] - target.centroids_KZ[None]).square().sum(2)
        q_NK = 1 / (1 + square_NK)
        frequency_K = (q_NK / q_NK.sum(1, keepdim=True)).mean(0)
        return clipped_sum(detector, records, chosen, replace(target, frequency_K=frequency_K), *rest)

    _clipping(patch, coupled)


# ---- records and sampling --------------------------------------------------------------------------------------------


def a_record_in_two_segments(patch: Patch) -> None:
    """Segments that overlap by half."""
    exact = cutting.segments

    def overlapping(site: SiteData, recipe: Recipe) -> cutting.Segments:
        found = exact(site, recipe)
        size, rows, dim = found.rows_RUD.shape
        flat_TD = found.rows_RUD.reshape(-1, dim)
        begins = range(0, (size - 1) * rows + 1, rows // 2)
        return replace(found, rows_RUD=np.stack([flat_TD[at : at + rows] for at in begins]))

    patch.setattr(cutting, "segments", overlapping)
    patch.setattr(desk, "segments", overlapping)


def a_window_across_two_records(patch: Patch) -> None:
    """As many windows in as many records, each begun half a window early."""
    exact = cutting._windows

    def shifted(recipe: Recipe, *rest: Any) -> Any:
        part, _ = exact(recipe, *rest)
        half = recipe.detector.window // 2
        starts_N = np.arange(0, len(part.rows_TD) - recipe.detector.window + 1, recipe.detector.window) - half
        starts_N = starts_N[starts_N >= 0]
        return replace(part, starts_N=starts_N), (starts_N + half) // 8

    patch.setattr(cutting, "_windows", shifted)


def sampling_misstated(patch: Patch) -> None:
    """The ledger is told half of the rate."""

    def half(privacy: Any) -> Event:
        event = training_event(privacy)
        return replace(event, sampling=event.sampling / 2)

    patch.setattr(desk, "training_event", half)


def noise_misstated(patch: Patch) -> None:
    def more(privacy: Any) -> Event:
        event = training_event(privacy)
        return replace(event, multiplier=event.multiplier * 1.5)

    patch.setattr(desk, "training_event", more)


def shuffled_batches_of_one_size(patch: Patch) -> None:
    """Not Poisson sampling, for which alone the price holds."""

    def fixed(self: Randomness, count: int, share: float) -> NDArray[np.int64]:
        order = np.argsort(self._uniform(count))
        return np.sort(order[: round(share * count)]).astype(np.int64)

    patch.setattr(Randomness, "chosen", fixed)


# ---- metrics ---------------------------------------------------------------------------------------------------------


def a_metric_leaking_a_maximum(patch: Patch) -> None:
    def largest(detector: Any, records: Records, target: Any, privacy: Any, clip: float, noise: Any) -> Any:
        found = private_exchange(detector, records, target, privacy, clip, noise)
        exact = clipped_sum(detector, records, np.arange(len(records)), target, clip)
        return replace(found, loss=float(exact.losses_B.max()))

    patch.setattr(desk, "private_exchange", largest)


def a_loss_without_a_cap(patch: Patch) -> None:
    def uncapped(detector: Any, records: Any, target: Any, privacy: Any, *rest: Any) -> Any:
        return private_exchange(detector, records, target, privacy.model_copy(update={"loss_cap": 1e9}), *rest)

    patch.setattr(desk, "private_exchange", uncapped)


def an_unlisted_metric(patch: Patch) -> None:
    exact = PlantAgent._train_privately

    def more(self: PlantAgent, *given: Any) -> Any:
        answer = exact(self, *given)
        return replace(answer, numbers={**answer.numbers, "holdout_loss": 0.1})

    patch.setattr(PlantAgent, "_train_privately", more)


Guard = Callable[[Path], None]

NOISE: Guard = guarded.test_noise_is_gaussian_and_as_large_as_the_claim_says
OWN_NOISE: Guard = guarded.test_two_requests_and_two_plants_have_noise_of_their_own
RETRY: Guard = guarded.test_the_same_request_brings_the_same_bytes_from_another_agent_too
SENSITIVITY: Guard = guarded.test_a_hostile_record_moves_no_part_of_an_answer_by_more_than_its_sensitivity
SAMPLING: Guard = guarded.test_records_are_drawn_one_by_one_with_the_probability_that_is_charged
LEDGER: Guard = guarded.test_the_ledger_says_what_was_used
LISTED: Guard = guarded.test_nothing_leaves_that_is_dropped_under_a_claim

TABLE: dict[Callable[[Patch], None], Guard] = {
    noise_halved: NOISE,
    noise_a_tenth_too_small: NOISE,
    noise_divided_by_the_batch: NOISE,
    no_noise: NOISE,
    uniform_noise: NOISE,
    centroids_unnoised: NOISE,
    counts_unnoised: NOISE,
    constant_seed: OWN_NOISE,
    one_seed_for_a_plant: OWN_NOISE,
    one_seed_for_all_plants: OWN_NOISE,
    fresh_noise_on_a_retry: RETRY,
    no_clipping: SENSITIVITY,
    clipping_of_each_window: SENSITIVITY,
    clipping_of_the_batch: SENSITIVITY,
    a_record_in_two_segments: SENSITIVITY,
    a_window_across_two_records: SENSITIVITY,
    frequency_of_the_batch_in_the_target: SENSITIVITY,
    a_metric_leaking_a_maximum: SENSITIVITY,
    a_loss_without_a_cap: SENSITIVITY,
    sampling_misstated: SAMPLING,
    shuffled_batches_of_one_size: SAMPLING,
    noise_misstated: LEDGER,
    an_unlisted_metric: LISTED,
}


@pytest.mark.parametrize("mutant", TABLE, ids=lambda mutant: mutant.__name__)
def test_the_mutant_is_caught(mutant: Callable[[Patch], None], tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        mutant(patch)
        with pytest.raises(AssertionError):
            TABLE[mutant](tmp_path)
