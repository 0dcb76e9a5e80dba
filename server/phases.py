"""Which steps a run consists of, and what each asks of the plants: describe, pretrain, cluster, joint, calibrate."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from server import centroids
from server.members import places_of
from server.rounds import Phase, RunState
from shared.config import ClusteringConfig, RoundConfig, RunConfig
from shared.lag.pooled import fitting_lags
from shared.model import Clusters, GlobalModel
from shared.wire.inventory import Kind
from shared.wire.messages import Request, TrainOrder


class Action(StrEnum):
    """What one round does."""

    DESCRIBE = "describe"
    TRAIN = "train"
    CENTRE = "centre"
    RADIUS = "radius"
    SEED = "seed"
    REFINE = "refine"
    REFRESH = "refresh"
    MOMENTS = "moments"
    CALIBRATE = "calibrate"


@dataclass(frozen=True)
class Step:
    """One round to come.

    Attributes:
        phase: which phase it belongs to.
        action: what it does.
        label: for people, such as `seed 2/4`.
        index: of this action within the phase, from 0.
        training: index among all training rounds, from 0.
        last: whether it is the last of its action within the phase.
    """

    phase: Phase
    action: Action
    label: str
    index: int = 0
    training: int = 0
    last: bool = False


def plan(config: RunConfig) -> tuple[Step, ...]:
    """All steps of a run, in order (docs/algorithm.md, phases 0 to 4)."""
    return tuple(_steps(config))


def _steps(config: RunConfig) -> Iterator[Step]:
    rounds, clustering = config.rounds, config.recipe.clustering
    yield Step(Phase.DESCRIBE, Action.DESCRIBE, "describe")
    for i in range(rounds.pretrain):
        yield Step(Phase.PRETRAIN, Action.TRAIN, f"train {i + 1}/{rounds.pretrain}", i, i)
    yield Step(Phase.CLUSTER, Action.CENTRE, "centre")
    yield Step(Phase.CLUSTER, Action.RADIUS, "radius")
    yield from _repeat(Phase.CLUSTER, Action.SEED, clustering.seed_steps)
    yield from _repeat(Phase.CLUSTER, Action.REFINE, clustering.refine_steps)
    for i in range(rounds.joint):
        yield Step(Phase.JOINT, Action.TRAIN, f"train {i + 1}/{rounds.joint}", i, rounds.pretrain + i)
        if refresh_follows(i, rounds.joint, clustering):
            final = i == rounds.joint - 1
            steps = clustering.refine_steps if final else clustering.refresh_steps
            yield from _repeat(Phase.JOINT, Action.REFRESH, steps)
        if calibration_follows(i, rounds):
            if asks_moments(config):
                yield Step(Phase.JOINT, Action.MOMENTS, f"moments {i + 1}", i)
            yield Step(Phase.JOINT, Action.CALIBRATE, f"calibrate {i + 1}", i)
    if asks_moments(config):
        yield Step(Phase.CALIBRATE, Action.MOMENTS, "moments")
    yield Step(Phase.CALIBRATE, Action.CALIBRATE, "calibrate")


def _repeat(phase: Phase, action: Action, count: int) -> Iterator[Step]:
    for i in range(count):
        yield Step(phase, action, f"{action.value} {i + 1}/{count}", i, last=i == count - 1)


def refresh_follows(index: int, joint: int, clustering: ClusteringConfig) -> bool:
    """Whether a refresh under the aggregated encoder follows joint round `index`; one always follows the last."""
    every = clustering.refresh_every
    return index == joint - 1 or (every > 0 and (index + 1) % every == 0)


def calibration_follows(index: int, rounds: RoundConfig) -> bool:
    """Whether plants calibrate and publish the model after joint round `index`, before the run goes on.

    It costs a round trip and a pass over the held-out data of every plant, so it is off unless somebody waits for
    bundles while the run goes on. After the last joint round the calibrate phase does it.
    """
    every = rounds.calibrate_every
    return every > 0 and (index + 1) % every == 0 and index < rounds.joint - 1


def asks_moments(config: RunConfig) -> bool:
    """Whether plants send their moments before they calibrate: never where they promised records protection, nor where
    each may have other tags, so that sums would add up different things.
    """
    recipe = config.recipe
    return recipe.lag.on and not recipe.privacy.on and recipe.sharing.share == "all"


def lags(state: RunState, config: RunConfig) -> int | None:
    """The lags of the moments that plants are asked for; None: too many tags for any."""
    return None if state.schema is None else fitting_lags(state.schema.dim, config.recipe.lag.lags)


def chooses_clusters(config: RunConfig) -> bool:
    """Whether seeding ends with as many clusters as the data shows: not where their sums are clipped or noise."""
    c = config.recipe.clustering
    return c.choose == "index" and c.clusters > 2 and c.clip == "public" and not config.recipe.privacy.on


def alpha(step: Step, config: RunConfig) -> float:
    """Weight of the clustering loss, annealed in epochs.

    alpha(t) = alpha_max (1 - exp(-beta t)), t from 0 at the first joint round. Counted from the start of training, as
    the paper has it, alpha jumps to 0.39 when the warm-up of 30 epochs ends.
    """
    if step.phase is not Phase.JOINT:
        return 0.0
    c = config.recipe.clustering
    rounds_in = step.index if c.anneal_from == "joint" else step.training
    epochs = rounds_in * (1 if one_step(config) else config.recipe.training.local_epochs)
    return c.alpha_max * (1.0 - math.exp(-c.beta * epochs))


def clusters_to_send(step: Step, model: GlobalModel, config: RunConfig) -> Clusters | None:
    """The clusters a step's statistic is taken about."""
    if step.action is Action.CENTRE:
        return centroids.single(config.recipe.detector.latent, public_radius(config))
    return model.clusters


def clip_radius(step: Step, clusters: Clusters | None, config: RunConfig) -> float:
    """Clipping radius rho of a step's statistic.

    `public`: 2 R, which no two latents exceed, so that nothing is clipped and the update is Lloyd's. `cloud`: what
    noise needs, R while nothing is known and then the measured radius of the latent cloud.
    """
    if clusters is None:
        return math.inf
    if config.recipe.clustering.clip == "public":
        return 2.0 * public_radius(config)
    return 1.5 * clusters.radius if step.action is Action.SEED else clusters.radius


def latent_box(config: RunConfig) -> float:
    """Bound on each latent coordinate."""
    return 1.0 if config.recipe.detector.bottleneck == "tanh" else math.inf


def public_radius(config: RunConfig) -> float:
    """R, the bound on a latent's norm that follows from the architecture alone."""
    return latent_box(config) * math.sqrt(config.recipe.detector.latent)


_KINDS = {
    Action.DESCRIBE: Kind.DESCRIBE,
    Action.TRAIN: Kind.TRAIN,
    Action.MOMENTS: Kind.MOMENTS,
    Action.CALIBRATE: Kind.CALIBRATE,
}


def request(step: Step, state: RunState, config: RunConfig) -> Request:
    """What a step asks of every plant."""
    kind = _KINDS.get(step.action, Kind.CLUSTER)
    number = state.finished + 1
    if state.model is None or kind is Kind.MOMENTS:
        return Request(kind, state.run, number, config.recipe)
    model = GlobalModel(state.model.weights, clusters_to_send(step, state.model, config))
    order = TrainOrder(
        alpha=alpha(step, config),
        step=step.training,
        one_step=one_step(config),
        with_statistic=wants_statistic(step, config),
        wire=config.rounds.wire,
        clip=record_clip(state, config) if step.action is Action.TRAIN else 0.0,
        places=places_of(state) if kind is Kind.TRAIN else "",
    )
    radius = clip_radius(step, model.clusters, config)
    lag = state.moments if kind is Kind.CALIBRATE else None
    return Request(kind, state.run, number, config.recipe, model.digest, model, radius, order, lag)


def one_step(config: RunConfig) -> bool:
    """Whether plants answer with a gradient, for the server's optimiser, instead of weights that they trained."""
    return config.rounds.server_optimizer == "adam"


def record_clip(state: RunState, config: RunConfig) -> float:
    """The norm that plants clip each record's gradient to; 0 without local differential privacy."""
    privacy = config.recipe.privacy
    return (state.clip or privacy.clip) if privacy.mode == "local" else 0.0


def votes(step: Step, config: RunConfig) -> bool:
    """Whether the replies to a step also judge the model that it sends: every few joint rounds, and at the end."""
    every = config.rounds.vote_every
    if step.action is Action.CALIBRATE:
        return every > 0
    return every > 0 and step.phase is Phase.JOINT and step.action is Action.TRAIN and step.index % every == 0


def wants_statistic(step: Step, config: RunConfig) -> bool:
    """Whether a reply carries the cluster statistic: every cluster round, and joint rounds that no refresh follows.

    Under differential privacy each statistic costs, so that only cluster rounds and refreshes have one.
    """
    if step.action is Action.TRAIN and config.recipe.privacy.on:
        return False
    if step.action is Action.TRAIN:
        follows = refresh_follows(step.index, config.rounds.joint, config.recipe.clustering)
        return step.phase is Phase.JOINT and not follows
    return step.action not in (Action.DESCRIBE, Action.MOMENTS, Action.CALIBRATE)
