"""The plant agent answers requests about one plant's data. Requests and replies are packets; whatever carries them is
not its business.

Every answer is a pure function of the request and the plant's data, so a repeated round repeats exactly, on any engine.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from client.agent.adapters import AdapterBook
from client.agent.answer import Answer, without_measurements
from client.agent.bench import Bench, set_up
from client.agent.own import OwnParts
from client.agent.publisher import Publisher
from client.agent.residual import ResidualBook
from client.agent.update import Clock, Updates, encode_statistic
from client.agent.wire import refusal, refused_text
from client.training.calibrate import Confirmed, calibrate, confirmed
from client.training.infer import encode_all, reconstruction_loss
from client.training.live_rows import LiveRows, live_rows, with_more
from client.training.loop import Trained, gradient_of, gradient_step, round_generator, train_epochs
from client.training.moments import lag_of, own_moments
from client.training.own_model import kept_model
from client.training.workspace import prepare
from shared import ring
from shared.clustering import statistic
from shared.config import Recipe
from shared.detectors import ClusterTarget, build, cluster_target
from shared.ensemble import place_in
from shared.errors import BadPayload, CrossplantError, NotAllowed, TaskGivenUp
from shared.model import Clusters, GlobalModel
from shared.sampling import own_recipe, told_schema
from shared.scoring import student_t_assignments
from shared.series import FloatArray, SiteData
from shared.wire.envelope import PROTOCOL, Number, Packet, RawArray
from shared.wire.gate import encode_manifest
from shared.wire.inventory import FINGERPRINT, Kind
from shared.wire.lagged import encode_moments
from shared.wire.messages import Request, parse_head, parse_request

if TYPE_CHECKING:
    from client.agent.claim import Task
    from client.agent.private import PrivateDesk
    from client.training.private import Records

log = logging.getLogger(__name__)


class Stop(Protocol):
    """What says that a task is to be given up; a `threading.Event` is one."""

    def is_set(self) -> bool:
        """Whether it is."""


class PlantAgent:
    """Owns one plant's data and answers for it.

    Args:
        site: the plant's data; it stays inside this object.
        home: where bundles are published, `home/SITE.bundle`; None publishes none.
        device: where training runs.
        stop: once set, a running task is given up.
        key: file with the key that signs bundles, made at the first one; None: `home/bundle.key`.
        guard: whether bundles hold the plant's local guard, which no request can change.
        guard_file: where that is kept; None: `home/SITE.guard.bin`.
        ring_folder: of rows that people confirmed as normal since (`shared.ring`); None: `home/SITE.ring`.
        privacy: folder of the plant's privacy ledger, made when the first private request comes; None refuses these.
        budget: epsilon that all of its releases may cost together; None: what the run claims.
        mixed: whether a run that promises less may be served after a private one, on the data that its ledger protects.
    """

    def __init__(
        self,
        site: SiteData,
        home: Path | None = None,
        device: torch.device | None = None,
        stop: Stop | None = None,
        key: Path | None = None,
        guard: bool = True,
        guard_file: Path | None = None,
        ring_folder: Path | None = None,
        privacy: Path | None = None,
        budget: float | None = None,
        mixed: bool = False,
    ) -> None:
        self._site = site
        self._stop: Stop = stop or threading.Event()
        self._device = device or torch.device("cpu")
        kept = None if home is None else home / f"{site.name}.guard.bin"
        self._own = OwnParts(site, guard_file or kept, guard)
        self._publisher = None if home is None else Publisher(site, self._own, home, key or home / "bundle.key")
        self._ring = ring_folder or (None if home is None else home / f"{site.name}.ring")
        self._one_at_a_time = threading.Lock()
        self._updates = Updates(ResidualBook(None if home is None else home / f"{site.name}.residual.safetensors"))
        self._adapters = AdapterBook(None if home is None else home / f"{site.name}.adapters")
        self._bench: Bench | None = None
        self._latents: tuple[str, FloatArray] | None = None
        # Rounding that an unprotected run left behind must not leave with a private one of the same name.
        quiet = None if home is None else home / f"{site.name}.private-residual.safetensors"
        self._private_updates = Updates(ResidualBook(quiet))
        self._privacy, self._budget, self._mixed = privacy, budget, mixed

    @property
    def name(self) -> str:
        """The plant's name."""
        return self._site.name

    def learn_alone(self) -> None:
        """Fit what no federation has a hand in, before anybody asks for anything; else the first bundle does it."""
        self._own.learn()

    def handle(self, packet: Packet) -> Packet:
        """Answer one request. What goes wrong becomes a refusal with a fixed code; details stay in the plant's log."""
        try:
            return self.answer(packet)
        except CrossplantError as error:
            log.warning("plant %s refuses: %s", self.name, error)
            return refusal(packet, self.name, refused_text(error))

    def answer(self, packet: Packet) -> Packet:
        """Answer one request as `handle` does, without making a refusal of an error.

        Raises:
            CrossplantError: why it cannot be answered, in words that stay at the plant.
        """
        with self._one_at_a_time:
            return self._handle(packet)

    def _handle(self, packet: Packet) -> Packet:
        kind, recipe = parse_head(packet)
        if kind is Kind.MOMENTS and (recipe.privacy.on or not recipe.lag.on):
            raise NotAllowed("exact moments are not for a run that promises privacy or wants none.", word="privacy")
        if recipe.privacy.mode == "local":
            return self._handle_privately(packet, kind, recipe)
        self._check_unmixed()
        bench = self._bench_for(recipe)
        request = self._request(packet, bench)
        handlers: dict[Kind, Callable[[Request, Bench], Answer]] = {
            Kind.DESCRIBE: self._describe,
            Kind.TRAIN: self._train,
            Kind.CLUSTER: self._cluster,
            Kind.MOMENTS: self._moments,
            Kind.CALIBRATE: self._calibrate,
        }
        answer = handlers[request.kind](request, bench)
        if recipe.privacy.mode == "central":
            answer = without_measurements(answer)
        return self._marked(packet, request, bench, answer)

    def _handle_privately(self, packet: Packet, kind: Kind, recipe: Recipe) -> Packet:
        """The same under local differential privacy: nothing data-dependent leaves without noise that is charged."""
        from client.agent.claim import task_of

        if kind is Kind.DESCRIBE:
            return self._describe_privately(packet, recipe)
        bench = self._bench_for(recipe)
        request, task = self._request(packet, bench), task_of(packet, bench.recipe)
        if kind is Kind.CALIBRATE:
            answer = self._calibrate_quietly(request, bench)
        elif kind is Kind.CLUSTER:
            answer = self._cluster_privately(request, task, bench)
        else:
            answer = self._train_privately(request, task, bench)
        return self._marked(packet, request, bench, answer)

    def _check_unmixed(self) -> None:
        """One exact answer about the same records, and what the ledger claims of them would be worth nothing."""
        from shared.privacy.ledger import in_use

        if not self._mixed and self._privacy is not None and in_use(self._privacy):
            cause = "a privacy ledger protects the plant's records, and this run promises less than it does."
            cure = "Allow it in policy.toml: [dp] mixed = true; the ledger's claim then covers private runs alone."
            raise NotAllowed(cause, cure, word="privacy")

    def _request(self, packet: Packet, bench: Bench) -> Request:
        request = parse_request(packet, bench.detector.manifest(), bench.recipe.detector.latent)
        if request.model is not None:
            bench.detector.load_weights(request.model.weights)
            self._adapters.load(bench.detector, bench.start, request.run, request.model.weights)
        return request

    def _marked(self, packet: Packet, request: Request, bench: Bench, answer: Answer) -> Packet:
        # A describe reply has the schema whole. Here its fingerprint tells whether tags changed while the run went on.
        mark = {} if request.kind is Kind.DESCRIBE else {FINGERPRINT: bench.told.fingerprint}
        return self._reply(packet, answer.arrays, answer.numbers, {**mark, **answer.texts})

    def _reply(
        self, packet: Packet, arrays: dict[str, RawArray], numbers: dict[str, Number], texts: dict[str, str]
    ) -> Packet:
        """Echo what identifies the request; add the answer."""
        head = {name: packet.texts[name] for name in ("run", "kind", "model") if name in packet.texts}
        echo = {"round": packet.numbers.get("round", 0), "protocol": PROTOCOL}
        return Packet(arrays, {**echo, **numbers}, {**head, "plant": self.name, **texts})

    @cached_property
    def _desk(self) -> PrivateDesk:
        from client.agent.private import PrivateDesk

        if self._privacy is None:
            raise NotAllowed("this agent keeps no privacy ledger.", word="privacy")
        return PrivateDesk(self._site, self._privacy, self._budget, self._device)

    def _bench_for(self, recipe: Recipe) -> Bench:
        if self._bench is None or self._bench.asked != recipe:
            private = recipe.privacy.mode == "local"
            prepared = self._desk.workspace if private else partial(prepare, self._site)
            self._bench = set_up(recipe, self._site.schema.period_s, self._device, prepared)
            self._latents = None
        return self._bench

    def _describe(self, request: Request, bench: Bench) -> Answer:
        numbers: dict[str, Number] = {"examples": len(bench.train), "segments": bench.workspace.segment_count}
        schema = bench.told.json.decode()
        return Answer({}, numbers, {"schema": schema, "manifest": encode_manifest(bench.detector.manifest())})

    def _describe_privately(self, packet: Packet, recipe: Recipe) -> Packet:
        """No more of the plant's size than its power of two, and nothing is computed on its data."""
        schema = told_schema(recipe, self._site.schema)
        size = self._desk.size(own_recipe(recipe, self._site.schema.period_s))
        manifest = encode_manifest(build(recipe.detector, schema.dim).manifest())
        texts = {"schema": schema.json.decode(), "manifest": manifest}
        return self._reply(packet, {}, {"examples": size, "segments": size}, texts)

    def _train(self, request: Request, bench: Bench) -> Answer:
        clock = Clock()
        order, model = request.order, _model_of(request)
        holdout_loss = reconstruction_loss(bench.detector, bench.holdout)
        clock.lap("evaluate")
        arrays: dict[str, RawArray] = {}
        numbers: dict[str, Number] = {}
        if order.with_statistic and model.clusters is not None:
            arrays, numbers = self._statistic(model, model.clusters, request.radius, bench)
        target = self._target(model, order.alpha, bench)
        clock.lap("cluster")
        trained = self._fit(request, bench, target)
        self._adapters.keep(bench.detector, bench.start, request.run, model.weights)
        clock.lap("train")
        if order.one_step:
            arrays |= self._updates.gradient(request, gradient_of(bench.detector), bench.detector)
        else:
            arrays |= self._updates.weights(request, model.weights, bench.detector)
        numbers |= {"examples": len(bench.train), "holdout_loss": holdout_loss, "train_loss": trained.reconstruction}
        numbers |= {"cluster_loss": trained.cluster, **clock.numbers()}
        return Answer(arrays, numbers, {})

    def _train_privately(self, request: Request, task: Task, bench: Bench) -> Answer:
        from client.agent.private import exchange

        model, order = _model_of(request), request.order
        arrays: dict[str, RawArray] = {}
        numbers: dict[str, Number] = {}
        if order.with_statistic and model.clusters is not None:
            said = self._cluster_privately(request, task, bench)
            arrays, numbers = said.arrays, said.numbers
        target = self._target(model, order.alpha, bench)
        found = exchange(self._desk, task, request, bench.detector, _records_of(bench), target)
        arrays |= self._private_updates.gradient(request, found.gradient, bench.detector)
        return Answer(arrays, {**numbers, "below": found.below, "train_loss": found.loss}, {})

    def _fit(self, request: Request, bench: Bench, target: ClusterTarget | None) -> Trained:
        config = bench.recipe.training
        noise = round_generator(config.seed, self.name, request.order.step, self._device)
        bench.detector.assign(*place_in(request.order.places, request.run, self.name) or (0, 1))
        if request.order.one_step:
            return gradient_step(bench.detector, bench.train, target, noise)
        proximal = bench.recipe.sharing.proximal
        return train_epochs(bench.detector, bench.train, target, config, noise, self._stop.is_set, proximal)

    def _target(self, model: GlobalModel, alpha: float, bench: Bench) -> ClusterTarget | None:
        """The clustering target of the round; the paper takes the frequency from the plant's own whole set."""
        if model.clusters is None or alpha == 0.0:
            return None
        target = cluster_target(model.clusters, alpha, self._device)
        if bench.recipe.clustering.target == "released":
            return target
        latents_NZ = self._latents_of(model, bench)
        q_NK = student_t_assignments(latents_NZ, model.clusters.centroids_KZ, model.clusters.active_K)
        local_K = q_NK.mean(axis=0)[model.clusters.active_K].astype(np.float32)
        return ClusterTarget(target.centroids_KZ, torch.from_numpy(local_K).to(self._device), alpha)

    def _cluster(self, request: Request, bench: Bench) -> Answer:
        clock = Clock()
        model = _model_of(request)
        if model.clusters is None:
            raise BadPayload("a cluster request without centroids.")
        arrays, numbers = self._statistic(model, model.clusters, request.radius, bench)
        clock.lap("cluster")
        return Answer(arrays, {**numbers, **clock.numbers()}, {})

    def _cluster_privately(self, request: Request, task: Task, bench: Bench) -> Answer:
        from client.agent.private import cluster_statistic

        model = _model_of(request)
        if model.clusters is None:
            raise BadPayload("a cluster request without centroids.")
        latents, segments_N = partial(self._latents_of, model, bench), bench.workspace.segments_N
        said = cluster_statistic(self._desk, task, latents, segments_N, model.clusters, request.radius)
        return Answer(*encode_statistic(said), {})

    def _statistic(
        self, model: GlobalModel, clusters: Clusters, radius: float, bench: Bench
    ) -> tuple[dict[str, RawArray], dict[str, Number]]:
        latents_NZ = self._latents_of(model, bench)
        return encode_statistic(statistic(latents_NZ, bench.workspace.segments_N, clusters.centroids_KZ, radius))

    def _latents_of(self, model: GlobalModel, bench: Bench) -> FloatArray:
        """Latents of the training windows; kept while the weights stay, as they do while clusters are seeded."""
        whole = (*model.weights.values(), *bench.detector.own_weights().values())
        key = hashlib.sha256(b"".join(value.tobytes() for value in whole)).hexdigest()
        if self._latents is None or self._latents[0] != key:
            alone = bench.recipe.privacy.mode == "local"
            self._latents = (key, encode_all(bench.detector, bench.train, alone))
        return self._latents[1]

    def _moments(self, request: Request, bench: Bench) -> Answer:
        return Answer(encode_moments(own_moments(bench.workspace, bench.recipe)), {}, {})

    def _calibrate(self, request: Request, bench: Bench) -> Answer:
        means = bench.means(self.name, request.round, self._stop.is_set)
        kept = kept_model(_model_of(request), means)
        step_s = bench.workspace.schema.period_s * bench.recipe.preprocess.every
        lag = lag_of(request.run, request.lag, bench.workspace, bench.recipe)
        ring = self._confirmed(bench)
        held = (bench.train, bench.holdout, bench.recipe, step_s, ring, lag, self._live(bench, ring))
        calibration = calibrate(bench.detector, kept.model.clusters, *held)
        if self._publisher is not None:
            self._publisher.publish(request, kept, calibration, bench.workspace, bench.detector, bench.recipe)
        ready = int(calibration.threshold.status == "ok")
        numbers: dict[str, Number] = {"holdout_loss": calibration.holdout_loss, "calibrated": ready}
        if bench.recipe.sharing.keep == "better":
            numbers["own_model"] = int(kept.origin != "federated")
        return Answer({}, numbers, {})

    def _calibrate_quietly(self, request: Request, bench: Bench) -> Answer:
        """The same answer whatever comes of it: a model can be made to diverge on one record and on no other, and a
        refusal would tell. Why there is no bundle stands in the plant's log.
        """
        try:
            self._calibrate(request, bench)
        except TaskGivenUp:
            raise
        except Exception:
            log.exception("plant %s: no bundle of round %d was published", self.name, request.round)
        return Answer({}, {}, {})

    def _live(self, bench: Bench, ring: Confirmed | None) -> LiveRows | None:
        """All normal rows, where a judge is wanted."""
        if not bench.recipe.scoring.evidence:
            return None
        wanted = bench.recipe.evidence.relations
        live = live_rows(self._site, bench.workspace, bench.recipe, self._own.relations if wanted else None)
        if ring is None:
            return live
        return with_more(live, ring.rows, ring.ends_N, ring.told(live.relations, bench.recipe))

    def _confirmed(self, bench: Bench) -> Confirmed | None:
        """What people confirmed as normal since, as it is now; nothing of it was or will be trained on."""
        if self._ring is None or not self._ring.is_dir():
            return None
        found = ring.never_trained(ring.read(self._ring, self._site.schema), np.asarray(self._site.train_TD))
        for told in found.troubles:
            log.warning("plant %s: calibration ring: %s", self.name, told)
        return confirmed(found, bench.workspace, bench.recipe, self._device)


def _model_of(request: Request) -> GlobalModel:
    if request.model is None:
        raise BadPayload("a request without a model.")
    return request.model


def _records_of(bench: Bench) -> Records:
    if bench.records is None:
        raise NotAllowed("this agent prepared no records.", word="privacy")
    return bench.records
