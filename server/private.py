"""What differential privacy changes at the coordinator: how the clip moves, which counts are noise, what is due.

Nothing here needs to be trusted by a plant: it clips, noises and accounts on its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from server import phases
from server.phases import Action, Step
from server.rounds import Member, RunState
from shared.config import NoiseConfig, PrivacyConfig, RunConfig
from shared.model import TensorSpec
from shared.privacy.noise import NoiseDue, noise_due
from shared.wire.messages import CLIP_LEAST, CLIP_MOST, Request

if TYPE_CHECKING:
    from shared.privacy.planning import Releases

_RATE = 0.2


def planned(config: RunConfig) -> RunConfig:
    """The settings with noise that fits the budget, where they ask for privacy and name no noise themselves.

    Raises:
        BudgetTooSmall: the plan has more releases than the budget bears.
    """
    privacy = config.recipe.privacy
    if not privacy.on or privacy.noise != NoiseConfig():
        return config
    from shared.privacy.planning import spend  # Imports the accountants.

    filled = spend(privacy, releases(config)).privacy
    return config.model_copy(update={"recipe": config.recipe.model_copy(update={"privacy": filled})})


def releases(config: RunConfig) -> Releases:
    """What a run releases of each record: its plan, and a few exchanges more for rounds that have to be repeated."""
    from shared.privacy.planning import Releases

    actions = [step.action for step in phases.plan(config)]
    training, still = actions.count(Action.TRAIN), (Action.DESCRIBE, Action.TRAIN, Action.MOMENTS, Action.CALIBRATE)
    statistic = sum(action not in still for action in actions)
    ranges = int(config.recipe.privacy.ranges == "quantiles")
    return Releases(training + 1 + training // 50, statistic + 1, ranges)


def next_clip(state: RunState, step: Step, config: RunConfig, metrics: Mapping[str, float]) -> float:
    """The clip after a training round: C <- C exp(-0.2 (b - gamma)), b the noised share of the norms below it.

    Andrew et al. 2021, "Differentially private learning with adaptive clipping" (arXiv 1905.03871), equation 1.

    Returns:
        the state's where nothing moves it; 0 without local differential privacy.
    """
    privacy = config.recipe.privacy
    if privacy.mode != "local" or privacy.clip_quantile is None or step.action is not Action.TRAIN:
        return state.clip
    now = phases.record_clip(state, config)
    below = min(max(metrics.get("below", privacy.clip_quantile), 0.0), 1.0)
    return min(max(now * math.exp(-_RATE * (below - privacy.clip_quantile)), CLIP_LEAST), CLIP_MOST)


def with_clip(state: RunState, step: Step, config: RunConfig, metrics: Mapping[str, float]) -> Mapping[str, float]:
    """A training round's metrics, and the clip that records' gradients were cut to: for people, nothing follows it."""
    if config.recipe.privacy.mode != "local" or step.action is not Action.TRAIN:
        return metrics
    return {**metrics, "clip": phases.record_clip(state, config)}


def floor(config: RunConfig, plants: int, radius: float) -> float:
    """Counts below this are taken for nothing: `n_min`, or three standard deviations of the plants' noise together."""
    privacy = config.recipe.privacy
    if not privacy.on or privacy.noise.statistic == 0.0:
        return config.recipe.clustering.n_min
    from shared.privacy.mechanisms import StatisticNoise  # Imports cryptography.

    one = 3.0 * StatisticNoise.of(privacy.noise.statistic, radius).counts
    if privacy.mode == "central":  # there the noise is added once, and counts are shares of plants
        return one
    return max(config.recipe.clustering.n_min, one * math.sqrt(plants))


def hopeless(config: RunConfig, manifest: Sequence[TensorSpec], plants: int) -> str | None:
    """Why central noise would drown what so few plants say, with the ratio; None when it would not, or is not asked."""
    privacy = config.recipe.privacy
    if privacy.mode != "central":
        return None
    from server.central import WORST, drowned  # Imports cryptography.

    ratio = drowned(privacy.noise.weights, sum(spec.size for spec in manifest), plants)
    if ratio <= WORST:
        return None
    return (
        f"privacy: noise would drown the signal: z sqrt(d) / n is {ratio:.3g} for {plants} plants, at most {WORST:g} "
        "is worth training with. Use local differential privacy (--dp local), more plants or a smaller network"
    )


def due(config: RunConfig, request: Request, member: Member) -> NoiseDue | None:
    """The noise that a member's reply must bear; None without local differential privacy."""
    privacy: PrivacyConfig = config.recipe.privacy
    if privacy.mode != "local":
        return None
    return noise_due(privacy, request.order.clip, member.segments, request.radius)
