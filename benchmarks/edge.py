"""The edge: one window against eager PyTorch, memory, cold start and throughput of the real command.

Latencies: hot (one call after the other, in turns of 50) and paced at 10 Hz, when caches are cold, as a plant sees it.
Both go from a prepared window to its score, on one thread; the edge's way from a raw sample to an explained score
stands beside it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import average_precision_score

from benchmarks.figures import Figure, median
from benchmarks.processes import ROOT
from benchmarks.quiet import Neighbours
from benchmarks.threads import ENVIRONMENT
from client.agent.service import PlantAgent
from client.edge.records import Sample
from client.edge.scorer import Scorer
from client.training.calibrate import window_entropy
from client.training.judged import window_modes
from shared.bundle.edge import EdgeBundle, read_edge_bundle
from shared.config import Recipe
from shared.detectors import Detector, build
from shared.model import Clusters, GlobalModel
from shared.schema import SensorSchema
from shared.series import FloatArray, SiteData
from shared.windows import window_view
from shared.wire.inventory import Kind
from shared.wire.messages import Request, encode_request
from simulations.generate import generate

HOT, PACED = 0.30, 0.36
MEMORY_MB, COLD_S, P99_MS, RATE = 75.0, 0.5, 10.0, 1000
_SITE = "plant"
_PERIOD_S = 1.0


def measure(scratch: Path, quick: bool) -> list[Figure]:
    """All figures of one run."""
    figures = []
    for dim in (51, 123):
        bundle, detector = _bundle(scratch / str(dim), dim)
        figures += _latency(bundle, detector, dim, quick)
    folder = scratch / "51" / f"{_SITE}.bundle"
    if not quick:
        figures += _eight_bits(scratch / "trained")
    return [
        *figures,
        *_cold(folder, scratch, quick),
        *_sustained(folder, scratch, quick),
        *_memory(folder, scratch, quick),
    ]


# ---- one window ------------------------------------------------------------------------------------------------------


def _bundle(home: Path, dim: int) -> tuple[EdgeBundle, Detector]:
    """A published bundle of the default recipe with its first weights; speed does not depend on what they are."""
    recipe, rng = Recipe(), np.random.default_rng(dim)
    detector = build(recipe.detector, dim)
    clusters, latent = recipe.clustering.clusters, recipe.detector.latent
    found = Clusters(
        centroids_KZ=rng.uniform(-0.5, 0.5, (clusters, latent)).astype(np.float32),
        frequency_K=np.full(clusters, 1 / clusters, np.float32),
        active_K=np.ones(clusters, np.bool_),
        misses_K=np.zeros(clusters, np.int64),
        radius=1.0,
    )
    model = GlobalModel(detector.weights(), found)
    site = SiteData(_SITE, SensorSchema(tags=_tags(dim), period_s=_PERIOD_S), _rows(dim, 2000), _rows(dim, 0), None)
    request = Request(Kind.CALIBRATE, "bench", 1, recipe, model.digest, model)
    PlantAgent(site, home).answer(encode_request(request))
    return read_edge_bundle(home / f"{_SITE}.bundle"), detector


def _tags(dim: int) -> tuple[str, ...]:
    return tuple(f"TAG{at:03d}" for at in range(dim))


def _rows(dim: int, count: int) -> FloatArray:
    rng = np.random.default_rng(dim)
    return (np.sin(np.arange(count)[:, None] / rng.uniform(5, 50, dim)) + rng.normal(0, 0.1, (count, dim))).astype(
        np.float32
    )


def _latency(bundle: EdgeBundle, detector: Detector, dim: int, quick: bool) -> list[Figure]:
    scorer, eager, window = Scorer(bundle), _eager(bundle, detector), bundle.setup.window
    rows_TD = _rows(dim, 400)
    windows = window_view(bundle.preprocessor.live(rows_TD).values_TD, window)
    samples = [Sample(float(at), row_D, at) for at, row_D in enumerate(rows_TD)]
    one, sample = windows[-1:].copy(), samples[-1]
    pairs = [(scorer.judge(windows[at : at + 1]), eager(windows[at])) for at in range(len(windows))]
    for row in samples[:window]:
        scorer.feed(row)
    calls = (lambda: scorer.judge(one), lambda: eager(one[0]), lambda: scorer.feed(sample))
    hot = _turns(calls, 20 if quick else 100, 50, 0.0)
    paced = _turns(calls, 20 if quick else 150, 1, 0.1)
    name = f"one window, D = {dim}"
    apart = max(abs(found.error - error) for found, (error, _) in pairs)
    scores = max(abs(found.score - score) for found, (_, score) in pairs)
    return [
        Figure(f"{name}: error against PyTorch's", apart, "", 1e-5, f"{len(pairs)} windows; scores {scores:.2g} apart"),
        *_compared(f"{name}, hot", hot, HOT),
        *_compared(f"{name}, paced at 10 Hz", paced, PACED),
    ]


def _eager(bundle: EdgeBundle, detector: Detector) -> Callable[[FloatArray], tuple[float, float]]:
    """A window's error and score by PyTorch, as calibration computes it."""
    detector.eval()
    tail, clusters, scale = bundle.setup.tail, bundle.clusters, bundle.scale
    judging = None if bundle.judge is None else bundle.judge.stream()

    def score(window_WD: FloatArray) -> tuple[float, float]:
        found = detector.score(torch.from_numpy(window_WD[None]), tail)
        if judging is not None:
            modes_1 = window_modes(found, clusters)
            judging.begin(window_WD)
            verdict = judging.judge(found.residual_ND[0], None if modes_1 is None else int(modes_1[0]))
            return float(found.error_N[0]), verdict.score
        return float(found.error_N[0]), float(scale.combine(found.error_N, window_entropy(found, clusters))[0])

    return score


def _turns(calls: Sequence[Callable[[], object]], turns: int, each: int, pause_s: float) -> list[list[float]]:
    """Milliseconds of every call, taken in turns."""
    found: list[list[float]] = [[] for _ in calls]
    for _ in range(turns):
        for call, took in zip(calls, found, strict=True):
            for _ in range(each):
                if pause_s:
                    time.sleep(pause_s)
                begun = time.perf_counter()
                call()
                took.append(1e3 * (time.perf_counter() - begun))
    return found


def _compared(name: str, took: list[list[float]], limit: float) -> list[Figure]:
    edge, eager, whole = ([float(np.quantile(one, share)) for share in (0.5, 0.99)] for one in took)
    return [
        Figure(f"{name}: p50 / PyTorch eager's", edge[0] / eager[0], "x", limit),
        Figure("  edge, window to score, p50", edge[0], "ms", note=f"p99 {edge[1]:.3f} ms"),
        Figure("  PyTorch eager, window to score, p50", eager[0], "ms", note=f"p99 {eager[1]:.3f} ms"),
        Figure("  edge, raw sample to explained score, p50", whole[0], "ms", note=f"p99 {whole[1]:.3f} ms"),
    ]


# ---- eight bits ------------------------------------------------------------------------------------------------------


def _eight_bits(out: Path) -> list[Figure]:
    """What dynamic quantisation does to the ranking of scores, on weights that were trained: two generated plants."""
    more = ["--set", "data.rows=6000", "--sites", "2", "--rounds", "12", "--stride", "3", "--seed", "3"]
    program = str(Path(sys.executable).with_name("crossplant"))
    done = subprocess.run(
        [program, "simulate", "--out", str(out), *more], capture_output=True, text=True, cwd=out.parent
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    found = [_ranked(out / "bundles" / f"{site.name}.bundle", site, out) for site in generate(2, 6000, 3)]
    lost = max(fp32 - int8 for fp32, int8, _ in found)
    told = ", ".join(f"{fp32:.4f} -> {int8:.4f}" for fp32, int8, _ in found)
    return [
        Figure("int8: loss of AUPRC on trained weights, worst plant", lost, "", 0.01, told),
        Figure("  scores apart at most", max(apart for *_, apart in found), "", note="robust units"),
    ]


def _ranked(folder: Path, site: SiteData, scratch: Path) -> tuple[float, float, float]:
    """AUPRC with 32 and with 8 bits, and the largest difference of a score."""
    bundle = read_edge_bundle(folder)
    both = [_scores(Scorer(bundle), site), _scores(Scorer(_quantised(bundle, scratch), int8=True), site)]
    labels_T = site.labels_T
    assert labels_T is not None
    known_T = np.isfinite(both[0])
    fp32, int8 = (float(average_precision_score(labels_T[known_T], scores_T[known_T])) for scores_T in both)
    return fp32, int8, float(np.abs(both[0] - both[1])[known_T].max())


def _scores(scorer: Scorer, site: SiteData) -> np.ndarray:
    found = [scorer.feed(Sample(float(at), row_D, at)) for at, row_D in enumerate(site.test_TD)]
    return np.array([np.nan if one is None else one.score for one in found])


def _quantised(bundle: EdgeBundle, scratch: Path) -> EdgeBundle:
    """The bundle with its graph's weights in 8 bits, a scale a channel."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    source, target = scratch / "fp32.onnx", scratch / "int8.onnx"
    onnx.save(onnx.load_model_from_string(bundle.graph), source)
    quantize_dynamic(source, target, weight_type=QuantType.QInt8, per_channel=True)
    return replace(bundle, graph_int8=target.read_bytes())


# ---- the command -----------------------------------------------------------------------------------------------------


def _command(folder: Path, *more: str) -> list[str]:
    program = str(Path(sys.executable).with_name("crossplant"))
    return [program, "client", "score", "--bundle", str(folder), "--trust", str(folder.parent / "bundle.pub"), *more]


def _cold(folder: Path, scratch: Path, quick: bool) -> list[Figure]:
    """CPU seconds of a process and its children, from its start to one score and its end."""
    recording = scratch / "recording.csv"
    tags, rows = _tags(51), _rows(51, 64)
    lines = [",".join(tags), *(",".join(f"{value:.4f}" for value in row) for row in rows)]
    recording.write_text("\n".join(lines) + "\n", encoding="ascii")
    command = _command(folder, "--source", str(recording), "--limit", "1")
    found = []
    for _ in range(3 if quick else 9):
        before = os.times()
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **ENVIRONMENT}, cwd=ROOT)
        if done.returncode:
            raise RuntimeError(done.stderr)
        after = os.times()
        found.append(after.children_user - before.children_user + after.children_system - before.children_system)
    return [median("cold start to the first score, process and children", found, "CPU s", COLD_S)]


class _Running:
    """The command, fed on standard input; remembers when each line went in and out."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.sent: list[float] = []
        self.got: list[tuple[int, float]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def send(self, line: bytes) -> None:
        assert self.process.stdin is not None
        self.sent.append(time.perf_counter())
        self.process.stdin.write(line)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            now = time.perf_counter()
            self.got.append((int(json.loads(line)["number"]), now))

    def wait_for(self, count: int) -> None:
        deadline = time.monotonic() + 120
        while len(self.got) < count and time.monotonic() < deadline and self.process.poll() is None:
            time.sleep(0.02)
        if len(self.got) < count:
            raise RuntimeError(f"{len(self.got)} of {count} scores came")

    @property
    def cpu_s(self) -> float:
        """Of the process itself so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def peak_mb(self) -> float:
        """Highest resident memory so far."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024 / 1e6


_EDGE_TOML = """
[sinks.out]
location = "-"
types = ["score"]
[sinks.history]
location = "{home}/history.sqlite"
[sinks.metrics]
location = "metrics://127.0.0.1:0"
"""


@contextmanager
def _running(folder: Path, home: Path) -> Iterator[_Running]:
    """With all that a plant has: guard, sensor faults, drift, alarms, a keeper of models, history and metrics."""
    home.mkdir()
    config = home / "edge.toml"
    config.write_text(_EDGE_TOML.format(home=home), encoding="utf-8")
    process = subprocess.Popen(
        _command(folder, "--source", "-", "--config", str(config), "--state", str(home / "state")),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        env={**os.environ, **ENVIRONMENT},
        cwd=ROOT,
    )
    try:
        yield _Running(process)
    finally:
        process.terminate()
        process.wait(20)


def _lines(count: int) -> list[bytes]:
    tags = _tags(51)
    rows = np.round(_rows(51, 500).astype(np.float64), 4).tolist()
    return [
        json.dumps({"time": at * _PERIOD_S, **dict(zip(tags, rows[at % 500], strict=True))}).encode() + b"\n"
        for at in range(count)
    ]


def _sustained(folder: Path, scratch: Path, quick: bool) -> list[Figure]:
    """Samples at 1,000 a second into standard input; time from writing a sample to reading its score."""
    warm, count = 500, 5_000 if quick else 20_000
    lines = _lines(warm + count)
    with _running(folder, scratch / "sustained") as running:
        for line in lines[:warm]:
            running.send(line)
        running.wait_for(warm - 29)
        neighbours, cpu, begun = Neighbours(), running.cpu_s, time.perf_counter()
        for at, line in enumerate(lines[warm:]):
            ahead = begun + at / RATE - time.perf_counter()
            if ahead > 0:
                time.sleep(ahead)
            running.send(line)
        running.wait_for(warm + count - 29)
        neighbours.stop()
        took = time.perf_counter() - begun
        cpu = running.cpu_s - cpu
        delays = [1e3 * (now - running.sent[number]) for number, now in running.got if number >= warm]
    p50, p99 = (float(np.quantile(delays, share)) for share in (0.5, 0.99))
    return [
        Figure(f"{RATE} samples/s, D = 51: p99 from sample to score", p99, "ms", neighbours.limit(P99_MS)),
        Figure("  p50", p50, "ms", note=f"{count} samples in {took:.1f} s, none lost"),
        Figure("  CPU a sample, source to sink", 1e3 * cpu / count, "ms", 1e3 / RATE, "what one core can sustain"),
        neighbours.figure(),
    ]


def _memory(folder: Path, scratch: Path, quick: bool) -> list[Figure]:
    """Highest resident memory of the running command, as fast as it goes; and how fast that is."""
    lines = _lines(6_000 if quick else 20_000)
    with _running(folder, scratch / "memory") as running:
        begun = time.perf_counter()
        for line in lines[:1_000]:
            running.send(line)
        running.wait_for(971)
        early = running.peak_mb
        for line in lines[1_000:]:
            running.send(line)
        running.wait_for(len(lines) - 29)
        took, peak = time.perf_counter() - begun, running.peak_mb
    return [
        Figure("peak memory of a running scorer (VmHWM)", peak, "MB", MEMORY_MB, f"after {len(lines)} samples"),
        Figure("  of that after 1,000 samples", early, "MB"),
        Figure("  samples a second, as fast as it goes", len(lines) / took, "1/s", note="source to sink"),
    ]
