"""The plant agent answers requests about one plant's data. Requests and replies are packets; whatever carries them is
not its business.

Every answer is a pure function of the request and the plant's data, so a repeated round repeats exactly, on any engine.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from client.agent.own import OwnParts
from client.agent.residual import Residual, ResidualBook
from client.agent.wire import refusal, refused_text
from client.training.calibrate import Calibrated, Confirmed, calibrate, confirmed
from client.training.infer import encode_all, reconstruction_loss
from client.training.loop import Trained, gradient_step, round_generator, train_epochs
from client.training.probe import probe
from client.training.tensors import TensorWindows
from client.training.workspace import Workspace, prepare
from shared import ring
from shared.bundle.parts import Provenance
from shared.bundle.whole import Bundle, Live, publish
from shared.clustering import statistic
from shared.config import Recipe
from shared.detectors import ClusterTarget, Detector, build, cluster_target
from shared.errors import BadPayload, CrossplantError
from shared.model import Clusters, GlobalModel
from shared.scoring import student_t_assignments
from shared.series import FloatArray, SiteData
from shared.wire.compress import compress, expand, flatten
from shared.wire.envelope import PROTOCOL, Number, Packet, RawArray, encode_array
from shared.wire.gate import encode_manifest
from shared.wire.inventory import FINGERPRINT, Kind
from shared.wire.messages import WEIGHT, Request, parse_head, parse_request

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Bench:
    """One recipe's workspace with the detector and the windows on the device."""

    recipe: Recipe
    workspace: Workspace
    detector: Detector
    train: TensorWindows
    holdout: TensorWindows


@dataclass(frozen=True)
class _Answer:
    """What a handler adds to the common head of a reply."""

    arrays: dict[str, RawArray]
    numbers: dict[str, Number]
    texts: dict[str, str]


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
    ) -> None:
        self._site = site
        self._key = key
        self._stop: Stop = stop or threading.Event()
        self._home = home
        self._device = device or torch.device("cpu")
        kept = None if home is None else home / f"{site.name}.guard.bin"
        self._own = OwnParts(site, guard_file or kept, guard)
        self._ring = ring_folder or (None if home is None else home / f"{site.name}.ring")
        self._one_at_a_time = threading.Lock()
        self._residuals = ResidualBook(None if home is None else home / f"{site.name}.residual.safetensors")
        self._bench: _Bench | None = None
        self._latents: tuple[str, FloatArray] | None = None

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
        _, recipe = parse_head(packet)
        bench = self._bench_for(recipe)
        request = parse_request(packet, bench.detector.manifest(), recipe.detector.latent)
        if request.model is not None:
            bench.detector.load_weights(request.model.weights)
        handlers: dict[Kind, Callable[[Request, _Bench], _Answer]] = {
            Kind.DESCRIBE: self._describe,
            Kind.TRAIN: self._train,
            Kind.CLUSTER: self._cluster,
            Kind.CALIBRATE: self._calibrate,
        }
        answer = handlers[request.kind](request, bench)
        # A describe reply has the schema whole. Here its fingerprint tells whether tags changed while the run went on.
        mark = {} if request.kind is Kind.DESCRIBE else {FINGERPRINT: bench.workspace.schema.fingerprint}
        return self._reply(packet, answer.arrays, answer.numbers, {**mark, **answer.texts})

    def _reply(
        self, packet: Packet, arrays: dict[str, RawArray], numbers: dict[str, Number], texts: dict[str, str]
    ) -> Packet:
        """Echo what identifies the request; add the answer."""
        head = {name: packet.texts[name] for name in ("run", "kind", "model") if name in packet.texts}
        echo = {"round": packet.numbers.get("round", 0), "protocol": PROTOCOL}
        return Packet(arrays, {**echo, **numbers}, {**head, "plant": self.name, **texts})

    def _bench_for(self, recipe: Recipe) -> _Bench:
        if self._bench is None or self._bench.recipe != recipe:
            workspace = prepare(self._site, recipe)
            detector = build(recipe.detector, workspace.schema.dim).to(self._device)
            window = recipe.detector.window
            self._bench = _Bench(
                recipe,
                workspace,
                detector,
                TensorWindows(workspace.train, window, self._device),
                TensorWindows(workspace.holdout, window, self._device),
            )
            self._latents = None
        return self._bench

    def _describe(self, request: Request, bench: _Bench) -> _Answer:
        numbers: dict[str, Number] = {"examples": len(bench.train), "segments": bench.workspace.segment_count}
        schema = bench.workspace.schema.json.decode()
        return _Answer({}, numbers, {"schema": schema, "manifest": encode_manifest(bench.detector.manifest())})

    def _train(self, request: Request, bench: _Bench) -> _Answer:
        clock = _Clock()
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
        clock.lap("train")
        arrays |= self._update(request, model, bench)
        numbers |= {"examples": len(bench.train), "holdout_loss": holdout_loss, "train_loss": trained.reconstruction}
        numbers |= {"cluster_loss": trained.cluster, **clock.numbers()}
        return _Answer(arrays, numbers, {})

    def _update(self, request: Request, model: GlobalModel, bench: _Bench) -> dict[str, RawArray]:
        """The trained weights, or their change in fewer bytes with what rounding took from the change before."""
        weights, wire, step = bench.detector.weights(), request.order.wire, request.order.step
        if wire == "fp32":
            return {f"{WEIGHT}{name}": encode_array(value) for name, value in weights.items()}
        specs = bench.detector.manifest()
        delta_P = flatten(weights, specs) - flatten(model.weights, specs)
        before_P = self._residuals.carried(request.run, step, delta_P.size)
        arrays = compress(delta_P + before_P, specs, wire)
        if np.isfinite(delta_P).all():  # else the server refuses it, and nothing of it may stay
            after_P = delta_P + before_P - expand(arrays, specs, wire)
            self._residuals.keep(request.run, Residual(step, before_P, after_P))
        return arrays

    def _fit(self, request: Request, bench: _Bench, target: ClusterTarget | None) -> Trained:
        config = bench.recipe.training
        noise = round_generator(config.seed, self.name, request.order.step, self._device)
        if request.order.one_step:
            return gradient_step(bench.detector, bench.train, target, noise)
        return train_epochs(bench.detector, bench.train, target, config, noise, self._stop.is_set)

    def _target(self, model: GlobalModel, alpha: float, bench: _Bench) -> ClusterTarget | None:
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

    def _cluster(self, request: Request, bench: _Bench) -> _Answer:
        clock = _Clock()
        model = _model_of(request)
        if model.clusters is None:
            raise BadPayload("a cluster request without centroids.")
        arrays, numbers = self._statistic(model, model.clusters, request.radius, bench)
        clock.lap("cluster")
        return _Answer(arrays, {**numbers, **clock.numbers()}, {})

    def _statistic(
        self, model: GlobalModel, clusters: Clusters, radius: float, bench: _Bench
    ) -> tuple[dict[str, RawArray], dict[str, Number]]:
        latents_NZ = self._latents_of(model, bench)
        result = statistic(latents_NZ, bench.workspace.segments_N, clusters.centroids_KZ, radius)
        arrays = {"cluster_sums": encode_array(result.sums_KZ), "cluster_counts": encode_array(result.counts_K)}
        return arrays, {"cluster_spread": result.spread}

    def _latents_of(self, model: GlobalModel, bench: _Bench) -> FloatArray:
        """Latents of the training windows; kept while the weights stay, as they do while clusters are seeded."""
        key = hashlib.sha256(b"".join(value.tobytes() for value in model.weights.values())).hexdigest()
        if self._latents is None or self._latents[0] != key:
            self._latents = (key, encode_all(bench.detector, bench.train))
        return self._latents[1]

    def _calibrate(self, request: Request, bench: _Bench) -> _Answer:
        model = _model_of(request)
        step_s = bench.workspace.schema.period_s * bench.recipe.preprocess.every
        held = (bench.train, bench.holdout, bench.recipe, step_s, self._confirmed(bench))
        calibration = calibrate(bench.detector, model.clusters, *held)
        if self._home is not None:
            self._publish(request, model, calibration, bench, self._home)
        ready = int(calibration.threshold.status == "ok")
        return _Answer({}, {"holdout_loss": calibration.holdout_loss, "calibrated": ready}, {})

    def _confirmed(self, bench: _Bench) -> Confirmed | None:
        """What people confirmed as normal since, as it is now; nothing of it was or will be trained on."""
        if self._ring is None or not self._ring.is_dir():
            return None
        found = ring.never_trained(ring.read(self._ring, self._site.schema), np.asarray(self._site.train_TD))
        for told in found.troubles:
            log.warning("plant %s: calibration ring: %s", self.name, told)
        return confirmed(found, bench.workspace, bench.recipe, self._device)

    def _publish(
        self, request: Request, model: GlobalModel, calibration: Calibrated, bench: _Bench, home: Path
    ) -> None:
        """What an edge box needs to score by this model, beside what it was needed for before."""
        from shared.bundle.keys import own_key  # Imports cryptography, which an agent without a home does not need.
        from shared.detectors.graph import in_eight_bits  # Imports onnx.

        workspace, recipe, scale = bench.workspace, bench.recipe, calibration.scale
        provenance = Provenance(
            site=self.name,
            run=request.run,
            round=request.round,
            model=request.digest,
            holdout_loss=calibration.holdout_loss,
        )
        local = (workspace.schema, workspace.preprocessor, scale, calibration.threshold)
        sample = probe(self._site, workspace.preprocessor, bench.detector, model.clusters, scale, recipe)
        graph = bench.detector.graph()
        own = self._own
        live = Live(graph, calibration.figures, sample, in_eight_bits(graph), own.guard, limits=own.limits)
        key = own_key(self._key or home / "bundle.key")
        publish(Bundle(provenance, model, recipe, *local), live, home / f"{self.name}.bundle", key)


def _model_of(request: Request) -> GlobalModel:
    if request.model is None:
        raise BadPayload("a request without a model.")
    return request.model


class _Clock:
    """Seconds by activity."""

    def __init__(self) -> None:
        self._last = time.perf_counter()
        self._laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self._laps[name] = now - self._last
        self._last = now

    def numbers(self) -> dict[str, Number]:
        return {f"seconds_{name}": seconds for name, seconds in self._laps.items()}
