"""`step(state, replies) -> Committed | Skipped | Failed`: the round state machine, pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from server import centroids, phases, private, stopping, vote
from server.aggregate import Aggregate, adam_step
from server.membership import admit, found, misfit
from server.optimizers import MOVED, moved
from server.phases import Action, Step
from server.robust import clip_factor, remember
from server.rounds import (
    Anchor,
    ClusterReport,
    Committed,
    Failed,
    OptimizerState,
    Outcome,
    PlantReport,
    RoundRecord,
    RunState,
    Skipped,
    Status,
)
from shared.clustering import Statistic, cloud_radius, displacement, effective_count, update
from shared.config import RunConfig
from shared.model import Clusters, GlobalModel, Weights, initial_weights
from shared.schema import SensorSchema
from shared.wire.gate import Description
from shared.wire.messages import LARGEST_CENTROID, LARGEST_WEIGHT


@dataclass(frozen=True)
class Conducted:
    """What came back in a round.

    Attributes:
        aggregate: of the accepted replies.
        reports: one a plant asked, sorted by name.
        started: ISO 8601.
        seconds, timings: durations.
        joined: plants that fit the federation, and are members from the next round on.
        notes: what a person should know about how it went.
    """

    aggregate: Aggregate
    reports: tuple[PlantReport, ...]
    started: str
    seconds: float
    timings: Mapping[str, float]
    joined: Mapping[str, Description] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def quorum(members: int, share: float) -> int:
    """How many accepted replies a round needs.

    Example:
        >>> quorum(5, 0.5), quorum(2, 0.5), quorum(27, 1.0)
        (3, 1, 27)
    """
    return max(1, math.ceil(share * members - 1e-9))  # 0.56 of 25 is 14, and a little more in floating point


def settle(state: RunState, step: Step, config: RunConfig, conducted: Conducted) -> Outcome:
    """The outcome of a round after the describe round; however it ends, who joined has joined."""
    outcome = _settle(state, step, config, conducted)
    return replace(outcome, state=admit(outcome.state, conducted.joined, config))


def _settle(state: RunState, step: Step, config: RunConfig, conducted: Conducted) -> Outcome:
    needed = quorum(len(state.members), config.rounds.quorum)
    if conducted.aggregate.count < needed:
        reason = f"{conducted.aggregate.count} of {len(state.members)} plants counted, the quorum is {needed}"
        if step.action is Action.MOMENTS and state.skips + 1 >= config.rounds.max_skips:
            return pass_over(state, step, conducted, reason)
        return skip(state, step, config, conducted, reason)
    anchor, refused = _vote(state, step, config, conducted.reports)
    if refused and anchor is not None:
        before = replace(state, model=anchor.model, optimizer=anchor.optimizer)
        return skip(before, step, config, conducted, f"{refused}; back to the model of round {anchor.round}")
    model, optimizer = _advance(state, step, config, conducted.aggregate)
    illegal = _illegal(model)
    if illegal:
        return skip(state, step, config, conducted, f"model: {illegal} after {_what_moved(config)}")
    told = replace(conducted.aggregate, metrics=private.with_clip(state, step, config, conducted.aggregate.metrics))
    conducted = replace(conducted, reports=_with_clips(conducted), aggregate=told)
    after = replace(state, finished=state.finished + 1, step=state.step + 1, skips=0, model=model, optimizer=optimizer)
    after = replace(after, anchor=anchor, norms=remember(state.norms, conducted.aggregate.norms))
    after = replace(after, clip=private.next_clip(state, step, config, conducted.aggregate.metrics))
    after = replace(after, moments=conducted.aggregate.moments or state.moments)
    after, conducted = _stop_early(state, after, step, config, conducted)
    report = _cluster_report(state.model, after.model, conducted.aggregate)
    return Committed(after, record(after, step, Status.COMMITTED, _notes(config, conducted, report), conducted, report))


def _stop_early(
    state: RunState, after: RunState, step: Step, config: RunConfig, conducted: Conducted
) -> tuple[RunState, Conducted]:
    """The state after a round, gone back to the phase's best model and past its training where that no longer helps."""
    found = stopping.judge(state, step, config, conducted.reports)
    if found.best is None or found.next is None:
        return replace(after, best=found.best), conducted
    best = found.best
    after = replace(after, step=found.next, model=best.model, optimizer=best.optimizer, best=best)
    aggregate = replace(conducted.aggregate, statistic=None)  # it was taken about another model's clusters
    return after, replace(conducted, aggregate=aggregate, notes=(*conducted.notes, found.reason))


def pass_over(state: RunState, step: Step, conducted: Conducted, reason: str) -> Committed:
    """Plants can calibrate without the others' moments: a run does not fail for the want of them."""
    after = replace(state, finished=state.finished + 1, step=state.step + 1, skips=0)
    reason = "; ".join((reason, *conducted.notes, "plants calibrate without the others' moments"))
    return Committed(after, record(after, step, Status.COMMITTED, reason, conducted))


def _vote(
    state: RunState, step: Step, config: RunConfig, reports: tuple[PlantReport, ...]
) -> tuple[Anchor | None, str | None]:
    """The anchor from here on, and why the plants refuse the model that was sent to them, None if they do not."""
    anchor, sent = state.anchor, state.model
    if sent is None or not phases.votes(step, config):
        return anchor, None
    now = {r.plant: r.metrics["holdout_loss"] for r in reports if r.accepted and "holdout_loss" in r.metrics}
    if anchor is None:
        return Anchor(state.finished, sent, state.optimizer, now), None
    known = {**anchor.losses, **now}
    if sent.digest == anchor.model.digest:
        return replace(anchor, losses=known), None
    votes = vote.ballot(anchor.losses, now)
    if not votes.accepted:
        return anchor, vote.in_words(votes)
    return (Anchor(state.finished, sent, state.optimizer, known) if votes.better else anchor), None


def _with_clips(conducted: Conducted) -> tuple[PlantReport, ...]:
    """Reports that say of clipped updates by how much they were shortened."""
    bound = conducted.aggregate.bound
    return tuple(
        replace(r, metrics={**r.metrics, "clipped": clip_factor(r.metrics["update_norm"], bound)})
        if r.accepted and r.metrics.get("update_norm", 0.0) > bound
        else r
        for r in conducted.reports
    )


def _notes(config: RunConfig, conducted: Conducted, report: ClusterReport | None) -> str | None:
    """What a person should know about a round that counts: rules that could not protect it, clusters of one plant."""
    notes = [*conducted.aggregate.notes, *conducted.notes]
    if report is not None and config.rounds.aggregation != "mean" and conducted.aggregate.count > 1:
        alone = [str(k) for k, n in enumerate(report.plants) if n == 1 and report.active[k]]
        if alone and len(report.plants) <= config.recipe.clustering.clusters:  # more are seeds
            word = "clusters" if len(alone) > 1 else "cluster"
            notes.append(f"{word} {', '.join(alone)} populated by one plant only: no low score there is worth trusting")
    return "; ".join(notes) or None


def skip(state: RunState, step: Step, config: RunConfig, conducted: Conducted, reason: str) -> Skipped | Failed:
    """A round that did not count; too many in a row, and the run failed."""
    after = replace(state, finished=state.finished + 1, skips=state.skips + 1)
    reason = "; ".join((reason, *conducted.notes))
    if after.skips >= config.rounds.max_skips:
        reason += f"; skipped {after.skips} times in a row"
        return Failed(after, record(after, step, Status.FAILED, reason, conducted))
    return Skipped(after, record(after, step, Status.SKIPPED, reason, conducted))


def _illegal(model: GlobalModel | None) -> str | None:
    """What no plant would take of a model that the server made itself; NaN is within no bounds."""
    for name, value in (model.weights if model else {}).items():
        if not (np.abs(value) <= LARGEST_WEIGHT).all():
            return f"tensor {name} has values that are not finite or beyond {LARGEST_WEIGHT:,.0f}"
    clusters = model.clusters if model else None
    if clusters is not None and not (np.abs(clusters.centroids_KZ) <= LARGEST_CENTROID).all():
        return f"centroids that are not finite or beyond {LARGEST_CENTROID:,.0f}"
    return None


def _what_moved(config: RunConfig) -> str:
    rounds = config.rounds
    if rounds.server_optimizer == "avg":
        return "aggregation"
    step = "Adam step" if phases.one_step(config) else f"{rounds.server_optimizer} step"
    return f"the server's {step} at server_learning_rate {rounds.server_learning_rate:g}"


def record(
    state: RunState,
    step: Step,
    status: Status,
    reason: str | None,
    conducted: Conducted,
    clusters: ClusterReport | None = None,
) -> RoundRecord:
    """The record of the round that led to `state`."""
    return RoundRecord(
        run=state.run,
        number=state.finished,
        phase=step.phase,
        label=step.label,
        status=status,
        reason=reason,
        started=conducted.started,
        seconds=conducted.seconds,
        plants=conducted.reports,
        metrics=conducted.aggregate.metrics,
        clusters=clusters,
        model=None if state.model is None else state.model.digest,
        config=state.config_digest,
        timings=conducted.timings,
    )


def _advance(
    state: RunState, step: Step, config: RunConfig, aggregate: Aggregate
) -> tuple[GlobalModel | None, OptimizerState]:
    model, optimizer = state.model, state.optimizer
    if model is None:
        return None, optimizer
    clusters = _move_clusters(state, step, config, aggregate.statistic) if aggregate.statistic else model.clusters
    if aggregate.weights is None:
        return GlobalModel(model.weights, clusters), optimizer
    weights = aggregate.weights
    if phases.one_step(config):
        weights, optimizer = adam_step(model.weights, weights, optimizer, config.rounds.server_learning_rate)
    elif config.rounds.server_optimizer in MOVED:
        weights, optimizer = moved(model.weights, weights, optimizer, config.rounds)
    return GlobalModel(weights, clusters), optimizer


def _move_clusters(state: RunState, step: Step, config: RunConfig, total: Statistic) -> Clusters | None:
    """UPD for this step (docs/algorithm.md, phases 2 and 3)."""
    c, box = config.recipe.clustering, phases.latent_box(config)
    rng = np.random.default_rng([config.seed, state.step])
    before = phases.clusters_to_send(step, state.model, config) if state.model else None
    if before is None:
        return None
    radius = phases.clip_radius(step, before, config)
    kappa = c.kappa if step.action in (Action.TRAIN, Action.REFRESH) else 0.0
    floor = private.floor(config, len(state.members), radius)
    if step.action is Action.RADIUS:
        spread = math.sqrt(max(total.spread, 0.0) / max(float(total.counts_K.sum()), 1.0))
        centre_Z = before.centroids_KZ[0].astype(np.float64)
        return centroids.overseed(centre_Z, max(spread, 1e-6), c.oversampling * c.clusters, rng, box)
    after = update(before, total, radius, kappa=kappa, floor=floor, box=box)
    if step.action is not Action.CENTRE:
        after = replace(after, radius=cloud_radius(after, total))
    if step.action is Action.SEED and step.last:
        chosen = centroids.choose(after, total, c.clusters, floor) if phases.chooses_clusters(config) else None
        return chosen or centroids.merge(after, total.counts_K, c.clusters, rng, floor, box)
    if step.action is Action.SEED:
        return centroids.replace_dead(after, total.counts_K, floor, rng, box)
    return after


def _cluster_report(
    before: GlobalModel | None, after: GlobalModel | None, aggregate: Aggregate
) -> ClusterReport | None:
    total = aggregate.statistic
    if after is None or after.clusters is None or total is None:
        return None
    old, new = before.clusters if before else None, after.clusters
    moved = displacement(old, new) if old is not None and old.count == new.count else np.zeros(new.count)
    return ClusterReport(
        mass=tuple(float(f) for f in new.frequency_K),
        displacement=tuple(moved.tolist()),
        active=tuple(bool(a) for a in new.active_K),
        effective=effective_count(new.frequency_K),
        plants=aggregate.plants_K if len(aggregate.plants_K) == new.count else (),
    )


# ---- the describe round ----------------------------------------------------------------------------------------------


def settle_describe(
    state: RunState,
    step: Step,
    config: RunConfig,
    conducted: Conducted,
    described: Mapping[str, Description],
    start: Weights | None = None,
) -> Committed | Failed:
    """Found the federation on the schema and detector that most plants share; refuse the others with the difference.

    With `recipe.sharing.share = "trunk"` on the detector's trunk alone.

    Args:
        state, step, config, conducted: of the round.
        described: what each plant said.
        start: weights to begin with, made from public data; None: fresh ones.
    """
    schema, refused = _agree(described, trunk=config.recipe.sharing.share == "trunk")
    fitting = {plant: d for plant, d in described.items() if plant not in refused}
    reports = tuple(
        replace(r, accepted=False, reason=refused[r.plant]) if r.accepted and r.plant in refused else r
        for r in conducted.reports
    )
    conducted = replace(conducted, reports=reports)
    after = replace(state, finished=state.finished + 1)
    if not fitting or len(fitting) < config.rounds.fewest:
        reason = f"{len(fitting)} of {len(reports)} plants are compatible, a federation needs {config.rounds.fewest}"
        return Failed(after, record(after, step, Status.FAILED, reason, conducted))
    manifest = next(iter(fitting.values())).manifest
    if told := private.hopeless(config, manifest, len(fitting)):
        return Failed(after, record(after, step, Status.FAILED, told, conducted))
    members = found(fitting, config)
    if start is not None and {n: w.shape for n, w in start.items()} != {s.name: s.shape for s in manifest}:
        told = "rounds.start is a model of another network than the plants build"
        return Failed(after, record(after, step, Status.FAILED, told, conducted))
    model = GlobalModel(initial_weights(manifest, config.seed) if start is None else start)
    after = replace(after, step=state.step + 1, model=model, members=members, schema=schema, manifest=manifest)
    return Committed(after, record(after, step, Status.COMMITTED, None, conducted))


def _agree(described: Mapping[str, Description], trunk: bool) -> tuple[SensorSchema | None, dict[str, str]]:
    """The schema that most plants have (ties: the first by name), and why each of the others is refused.

    Where plants share a trunk only there is no common schema, and what they agree on is the trunk.
    """
    if not described:
        return None, {}
    ordered = sorted(described.items())
    votes = Counter(("" if trunk else d.schema.fingerprint, d.manifest) for _, d in ordered)
    winner = votes.most_common(1)[0][0]
    same = (d.schema for _, d in ordered if (d.schema.fingerprint, d.manifest) == winner)
    schema = None if trunk else next(same)
    told = {plant: misfit(plant, d, schema, winner[1]) for plant, d in ordered}
    return schema, {plant: reason for plant, reason in told.items() if reason is not None}
