"""Detectors that are trained in rounds. All modes run the same agents and the same coordinator:

- federated: a run as `crossplant simulate` makes it, in a folder of its own;
- private: the same under local differential privacy;
- local: a run of one plant a site, with as many passes over its data;
- central: a run of one plant that holds every site's rows, each scaled by the site's own preprocessor and a recording
  of its own; then every site's agent calibrates the model on the site's own held-out rows.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from client.agent.service import PlantAgent
from client.training.moments import own_moments
from client.training.tensors import resolve_device
from client.training.workspace import Workspace, prepare
from server import phases
from server.channel import Silent
from server.rounds import RoundRecord, RunState
from server.store.store import RoundStore
from shared.bundle.whole import Bundle, read_bundle
from shared.config import RunConfig
from shared.errors import (
    BundleInvalid,
    DataError,
    NothingToLearn,
    PrivacyError,
    RoundError,
    RunFailed,
    TooFewRows,
)
from shared.lag.pooled import LagSum, fitting_lags, tag
from shared.schema import SensorSchema
from shared.series import FloatArray, SiteData
from shared.wire.messages import encode_request
from simulations.engines import Job, carry
from simulations.evaluate import evaluate_site
from simulations.gather import check_sites
from simulations.public_start import check_source
from simulations.rundir import RunFolder
from simulations.simulate import begin
from simulations.study.contestant import CENTRAL, FEDERATED, LOCAL, PRIVATE, Arrays, LeftOut, Scored
from simulations.study.portrait import portrait
from simulations.study.rows import check_alike, recordings

POOLED = "pooled"

MOST_WINDOWS = 60_000
"""Windows of all sites in one pass over their data: half a minute of training on a core."""


@dataclass(frozen=True)
class FittedBundle:
    """A site with the bundle that it would score live data with."""

    site: str
    train_s: float
    wire_bytes: int
    bundle: Bundle
    data: SiteData
    device: torch.device

    def score(self, test_TD: FloatArray, starts: tuple[int, ...]) -> Scored:
        """As `crossplant simulate` scores a site's test rows; see `Fitted.score`."""
        site = replace(self.data, test_TD=test_TD, test_starts=starts, labels_T=None)
        found = evaluate_site(site, self.bundle, self.device)
        return Scored(np.asarray(found.scores_T, np.float64), found.thresholds_T, self.bundle.preprocessor.every)

    def portrait(self, test_TD: FloatArray, starts: tuple[int, ...]) -> Arrays:
        """Latents, modes and errors by sensor; see `Fitted.portrait`."""
        return portrait(self.bundle, test_TD, starts, self.device)


@dataclass(frozen=True)
class NeuralContestant:
    """A registered detector or a preset."""

    name: str
    config: RunConfig

    @property
    def modes(self) -> tuple[str, ...]:
        """All of them."""
        return (LOCAL, FEDERATED, PRIVATE, CENTRAL)

    def fit(self, sites: Sequence[SiteData], mode: str, seed: int, scratch: Path) -> Sequence[FittedBundle | LeftOut]:
        """Train and calibrate; see `Contestant.fit`. The seed is in the settings already."""
        config = self.config if mode == PRIVATE else thinned(self.config, sites)  # there records are drawn, not windows
        if mode == LOCAL:
            return [_alone(site, config, scratch / f"{at}") for at, site in enumerate(sites)]
        if mode == CENTRAL:
            return central(sites, config, scratch)
        return federated(sites, config, scratch / "run")


def thinned(config: RunConfig, sites: Sequence[SiteData]) -> RunConfig:
    """The settings with a stride at which all sites together train on `MOST_WINDOWS` windows at most, in every mode.

    Judges, thresholds and scores look at every row whatever the stride.
    """
    rows = sum(len(site.train_TD) for site in sites) / config.recipe.preprocess.every
    stride = max(config.recipe.training.stride, math.ceil(rows / MOST_WINDOWS))
    training = config.recipe.training.model_copy(update={"stride": stride})
    return config.model_copy(update={"recipe": config.recipe.model_copy(update={"training": training})})


def _of(config: RunConfig, fewest: int) -> RunConfig:
    return config.model_copy(update={"rounds": config.rounds.model_copy(update={"fewest": fewest})})


def _alone(site: SiteData, config: RunConfig, folder: Path) -> FittedBundle | LeftOut:
    try:
        found = federated([site], _of(config, 1), folder)[0]
    except (DataError, RoundError, PrivacyError) as error:
        return LeftOut(site.name, f"{error.code} {error.cause}")
    return found if isinstance(found, LeftOut) else replace(found, wire_bytes=0)  # nothing leaves a plant alone


def federated(sites: Sequence[SiteData], config: RunConfig, folder: Path) -> list[FittedBundle | LeftOut]:
    """A simulated run over sites, one of them or more.

    Raises:
        CrossplantError: the run cannot be begun, or fails.
    """
    started = time.perf_counter()
    run = _carried(sites, config, folder)
    seconds, device = time.perf_counter() - started, resolve_device(config.engine.device)
    found: list[FittedBundle | LeftOut] = []
    for site in sites:
        try:
            bundle = read_bundle(run.folder.bundles / f"{site.name}.bundle")
        except BundleInvalid:
            found.append(LeftOut(site.name, run.why(site.name)))
        else:
            found.append(FittedBundle(site.name, seconds, run.wire_bytes, bundle, site, device))
    return found


@dataclass(frozen=True)
class _Run:
    """A run that was carried to its end."""

    folder: RunFolder
    config: RunConfig
    records: list[RoundRecord]
    state: RunState

    @property
    def wire_bytes(self) -> int:
        """What all plants sent and received."""
        return sum(plant.bytes_down + plant.bytes_up for record in self.records for plant in record.plants)

    def why(self, site: str) -> str:
        """Why a site has no bundle: the last thing that was said of it."""
        said = [plant.reason for record in self.records for plant in record.plants if plant.plant == site]
        notes = [note for note in self.folder.read_index().notes if note.startswith(f"{site}: left out")]
        return next((reason for reason in (*reversed(said), *notes) if reason), "it published no bundle")


def _carried(sites: Sequence[SiteData], config: RunConfig, place: Path) -> _Run:
    folder = RunFolder(place)
    index = begin(config, {}, folder, public=check_source("auto", config), gathered=check_sites(config, "given", sites))
    location = folder.store_location(index)
    with RoundStore.open(location) as store:
        config = store.config(index.run)
    carry(Job(location, index.run, folder.plants, len(sites), config.engine), Silent())
    with RoundStore.open(location) as store:
        records, state = store.rounds(index.run), store.latest_state(index.run)
    if state is None:
        raise RunFailed(f"the run in {place.name} left no state.")
    return _Run(folder, config, records, state)


_Works = list[tuple[SiteData, Workspace]]


# ---- central ---------------------------------------------------------------------------------------------------------


def central(sites: Sequence[SiteData], config: RunConfig, scratch: Path) -> list[FittedBundle | LeftOut]:
    """One model on everybody's rows, calibrated by each site for itself.

    Raises:
        SchemaMismatch: the sites have different tags or sampling.
    """
    started = time.perf_counter()
    works, left = _workspaces(sites, config)
    run = _carried([pooled_site(works, config)], scaled_already(_of(config, 1)), scratch / POOLED)
    run = replace(run, state=replace(run.state, moments=summed(works, run.state.run, config)))
    bundles = [(site, _calibrated(site, run, config, scratch / "home")) for site, _ in works]
    seconds, device = time.perf_counter() - started, resolve_device(config.engine.device)
    return [*left, *(FittedBundle(site.name, seconds, 0, bundle, site, device) for site, bundle in bundles)]


def summed(works: _Works, run: str, config: RunConfig) -> LagSum | None:
    """Everybody's lagged moments, as a federation of the sites sums them; the pooled plant by itself has no others."""
    lags = fitting_lags(works[0][1].schema.dim, config.recipe.lag.lags)
    if len(works) < 2 or lags is None or not phases.asks_moments(config):
        return None
    found = [own_moments(work, config.recipe) for _, work in works]
    total = sum(found[1:], found[0])
    return LagSum(total.vector_Q, {tag(run, site.name): 1.0 for site, _ in works})


def _workspaces(sites: Sequence[SiteData], config: RunConfig) -> tuple[_Works, list[LeftOut]]:
    works: _Works = []
    left: list[LeftOut] = []
    for site in sites:
        try:
            works.append((site, prepare(site, config.recipe)))
        except (TooFewRows, NothingToLearn) as error:
            left.append(LeftOut(site.name, f"{error.code} {error.cause}"))
    if not works:
        raise TooFewRows(f"none of the {len(sites)} sites can take part. {left[0].why}")
    return works, left


def pooled_site(works: Sequence[tuple[SiteData, Workspace]], config: RunConfig) -> SiteData:
    """Every site's rows as its own preprocessor leaves them, each recording one of the pooled plant's.

    Training and held-out rows of a recording follow each other as they did: the pooled plant holds out the same ones.

    Raises:
        SchemaMismatch: the sites have different tags or sampling.
    """
    check_alike([site for site, _ in works])
    pieces = [piece for site, work in works for piece in _prepared(site, work, config)]
    lengths = np.cumsum([0, *(len(piece) for piece in pieces[:-1])])
    schema, every = works[0][1].schema, works[0][1].preprocessor.every
    return SiteData(
        name=POOLED,
        schema=SensorSchema(tags=schema.tags, period_s=schema.period_s * every),
        train_TD=np.concatenate(pieces),
        test_TD=np.empty((0, schema.dim), np.float32),
        labels_T=None,
        train_starts=tuple(int(at) for at in lengths),
    )


def _prepared(site: SiteData, work: Workspace, config: RunConfig) -> list[FloatArray]:
    """A site's recordings, prepared whole: the part that was learnt from and the part that was held out."""
    parts = recordings(site, work, config.recipe)
    return [
        np.concatenate([work.train.rows_TD[slice(*learnt)], work.holdout.rows_TD[slice(*held)]])
        for learnt, held in parts
    ]


def scaled_already(config: RunConfig) -> RunConfig:
    """The settings for rows that are prepared: nothing is joined, clipped, scaled or muted once more."""
    plain = {"every": 1, "rolling": None, "scaling": "none", "clip_quantile": None, "clip_live": False}
    plain |= dict.fromkeys(("min_variance", "max_correlation", "period_s"))
    known = {name: value for name, value in plain.items() if name in type(config.recipe.preprocess).model_fields}
    preprocess = config.recipe.preprocess.model_copy(update=known)
    return config.model_copy(update={"recipe": config.recipe.model_copy(update={"preprocess": preprocess})})


def _calibrated(site: SiteData, run: _Run, config: RunConfig, home: Path) -> Bundle:
    """What the site's own agent publishes when it is asked to calibrate the pooled model on the site's own rows.

    Raises:
        RunFailed: it refuses.
    """
    home.mkdir(exist_ok=True)
    agent = PlantAgent(site, home, resolve_device(config.engine.device))
    step = phases.plan(run.config)[-1]
    packet = encode_request(phases.request(step, run.state, config))
    answer = agent.answer(packet)
    if "refused" in answer.texts:
        raise RunFailed(f"{site.name} cannot calibrate the pooled model: {answer.texts['refused']}.")
    return read_bundle(home / f"{site.name}.bundle")
