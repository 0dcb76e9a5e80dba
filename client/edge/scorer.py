"""A bundle that scores: one sample in, one score out, the numbers that training gives for the same rows.

    raw row -> Stream (as in batch, bit for bit) -> the newest W prepared rows -> ONNX graph -> reconstruction, latents
    with a judge:    residual of the newest row, mode -> JudgeStream, which has every prepared row -> score, parts
    without one:     error over the newest `tail` rows, entropy of the assignments -> ScoreScale -> score, parts

Shapes: W rows of a window, D tags, Z latent coordinates, A active clusters.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from client.edge.explain import Explainer
from client.edge.memory import give_back
from client.edge.records import Sample, Scored
from shared.bundle.edge import EdgeBundle
from shared.errors import BundleInvalid, MissingExtra
from shared.evidence.judge import JudgeStream
from shared.relations.beside import Beside, Heard, weighed
from shared.scoring import Float64Array
from shared.series import FloatArray
from shared.thresholds import Threshold, Tracker, start

_BAD_GRAPH = "Publish the bundle again; the one in use goes on scoring."
_FATAL = 4  # onnxruntime's own log would go to standard error


class Scorer:
    """Scores a stream of samples by one bundle. Its memory is W prepared rows, and what a judge looks back over.

    Args:
        bundle: what to score by.
        top: tags named in a score.
        int8: run the graph in 8 bits, if the bundle has it.
        threshold: in the place of the bundle's own, as beside a local guard.

    Attributes:
        bundle: as given.
        threshold: as calibrated.
        tracker: what moves it, sample by sample; `client.edge.adapt.follow` puts it on a leash.
        quiet: whether the next score may teach the tracker; the engine says so.

    Raises:
        BundleInvalid: the graph is none, or not of the bundle's shape.
        MissingExtra: onnxruntime is not installed.
    """

    def __init__(
        self, bundle: EdgeBundle, top: int = 5, int8: bool = False, threshold: Threshold | None = None
    ) -> None:
        self.bundle, self.threshold = bundle, threshold or bundle.threshold
        self.tracker: Tracker = start(self.threshold)
        self.quiet = False
        self._mark, self._scale = bundle.digest[:12], bundle.scale
        self._tail = bundle.setup.tail or bundle.setup.window
        self._graph = Graph(bundle, int8)
        self._clusters = _Centroids.of(bundle)
        self._explainer = Explainer(bundle.schema.tags, bundle.preprocessor, top, bundle.calibration.tag_error_high)
        self._stream = bundle.preprocessor.stream()
        self._window_1WD: FloatArray = np.zeros((1, bundle.setup.window, bundle.schema.dim), np.float32)
        self._missing = bundle.setup.window
        self._judging, self._beside = self.judging(), self.hearing()
        self._apart: JudgeStream | None = None
        self._heard: Heard | None = None

    @property
    def digest(self) -> str:
        """Of the bundle, hex."""
        return self.bundle.digest

    @property
    def window_WD(self) -> FloatArray:  # noqa: N802 (a shape suffix)
        """The newest W prepared rows, oldest first, a copy; zeros where there were none yet."""
        window_WD: FloatArray = self._window_1WD[0].copy()
        return window_WD

    def restart(self) -> None:
        """The next sample begins a recording."""
        self._stream.restart()
        if self._judging is not None:
            self._judging.restart()
        if self._beside is not None:
            self._beside.restart()
        self._missing = len(self._window_1WD[0])

    def feed(self, sample: Sample) -> Scored | None:
        """Take a sample.

        Returns:
            what the window that ends with it says; None while there are fewer than W prepared rows, or while rows are
            being joined into one.

        Raises:
            SchemaMismatch: the sample has another number of values; nothing was taken from it.
        """
        return self._scored(sample) if self._took(sample) else None

    def follow(self, sample: Sample) -> None:
        """Take a sample without scoring: the windows go on, at a tenth of the time.

        Raises:
            SchemaMismatch: as for `feed`.
        """
        self._took(sample)

    def _took(self, sample: Sample) -> bool:
        """Take a sample; whether a window ends with it."""
        prepared_D = self._stream.step(sample.values_D)
        if self._beside is not None:
            self._beside.take(sample.values_D)
        if prepared_D is None:
            return False
        if self._beside is not None:
            self._heard = self._beside.close()
        window_WD = self._window_1WD[0]
        window_WD[:-1] = window_WD[1:]
        window_WD[-1] = prepared_D
        if self._judging is not None:
            self._judging.take(prepared_D)
        self._missing = max(0, self._missing - 1)
        return not self._missing

    def judging(self) -> JudgeStream | None:
        """The bundle's judge at the beginning of a recording; None without one."""
        return None if self.bundle.judge is None else self.bundle.judge.stream()

    def hearing(self) -> Beside | None:
        """The bundle's relations at the beginning of a recording; None without any."""
        return None if self.bundle.relations is None else Beside(self.bundle.relations)

    def judge(self, window_1WD: FloatArray, judging: JudgeStream | None = None, heard: Heard | None = None) -> Judged:
        """The score of one prepared window, and where it comes from; nothing else is remembered.

        Args:
            window_1WD: (1, W, D).
            judging: the bundle's judge, which has taken the rows up to the window's last; None: the window's rows are
                all that there is.
            heard: what the bundle's relations say of the newest row; None: nothing.
        """
        rebuilt_1WD, latents_1Z = self._graph(window_1WD)
        residual_WD = rebuilt_1WD[0, -self._tail :] - window_1WD[0, -self._tail :]
        error_D = np.einsum("wd,wd->d", residual_WD, residual_WD) / np.float32(self._tail)
        error_1 = np.add.reduce(error_D, keepdims=True) / np.float32(len(error_D))
        mode, entropy_1 = (None, None) if self._clusters is None else self._clusters(latents_1Z)
        known = (float(error_1[0]), mode, error_D, residual_WD[-1], rebuilt_1WD[0, -1])
        judging = judging or self._alone(window_1WD[0])
        if judging is None:
            return Judged(float(self._scale.combine(error_1, entropy_1)[0]), *known, error_D)
        verdict = judging.judge(residual_WD[-1], mode)
        relations = self.bundle.relations
        if relations is None:
            return Judged(verdict.score, *known, verdict.part_D)
        heard = heard or Heard(np.nan, np.zeros(len(error_D)))
        final = weighed(relations, heard, verdict.score, verdict.part_D)
        return Judged(final.score, *known, final.part_D)

    def _alone(self, window_WD: FloatArray) -> JudgeStream | None:
        """The bundle's judge after the rows of one window, as if they were all that there is; None without one."""
        self._apart = self._apart or self.judging()
        if self._apart is not None:
            self._apart.begin(window_WD)
        return self._apart

    def _scored(self, sample: Sample) -> Scored:
        found = self.judge(self._window_1WD, self._judging, self._heard)
        return Scored(
            time=sample.time,
            number=sample.number,
            score=found.score,
            threshold=self.tracker.step(found.score, found.mode, self.quiet),
            p_value=self.bundle.calibration.p_value(found.score),
            error=found.error,
            mode=found.mode,
            parts=self._explainer(found.part_D, sample.values_D, found.expected_D, found.residual_D, self._stream),
            bundle=self._mark,
        )


class Judged(NamedTuple):
    """What the model says of one window.

    Attributes:
        score: combined, higher is more anomalous.
        error: mean squared reconstruction error over the rows that count.
        mode: nearest active cluster; None without clusters.
        error_D: the error by tag; its mean is `error`.
        residual_D, expected_D: of the newest row, prepared: expected less read, and what is expected.
        part_D: what each tag adds to the score: the judge's, or without one the error.
    """

    score: float
    error: float
    mode: int | None
    error_D: FloatArray
    residual_D: FloatArray
    expected_D: FloatArray
    part_D: NDArray[np.floating[Any]]


class Graph:
    """The bundle's ONNX graph for one window, on one thread.

    Args:
        bundle: whose graph.
        int8: in 8 bits.

    Raises:
        BundleInvalid, MissingExtra: as for `Scorer`.
    """

    def __init__(self, bundle: EdgeBundle, int8: bool = False) -> None:
        data = bundle.graph_int8 if int8 else bundle.graph
        if data is None:
            raise BundleInvalid(f"{bundle.folder} holds no graph in 8 bits.", "Score without --int8.")
        self._session = _session(bundle, data)
        window = (1, bundle.setup.window, bundle.schema.dim)
        wanted = {"windows": window, "reconstruction": window, "latents": (1, bundle.setup.latent)}
        ends = (*self._session.get_inputs(), *self._session.get_outputs())
        found = {end.name: tuple(end.shape) for end in ends}
        if found != wanted:
            raise BundleInvalid(f"{bundle.folder}: the graph has {found}, due are {wanted}.", _BAD_GRAPH)

        self._window_1WD, self._rebuilt_1WD = np.zeros(window, np.float32), np.zeros(window, np.float32)
        self._latents_1Z = np.zeros(wanted["latents"], np.float32)
        self._binding = self._session.io_binding()
        _bind(self._binding.bind_input, "windows", self._window_1WD)
        _bind(self._binding.bind_output, "reconstruction", self._rebuilt_1WD)
        _bind(self._binding.bind_output, "latents", self._latents_1Z)

    def __call__(self, window_1WD: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Reconstruction (1, W, D) and latents (1, Z) of one window; the next call writes into the same arrays."""
        np.copyto(self._window_1WD, window_1WD)
        self._session.run_with_iobinding(self._binding)
        return self._rebuilt_1WD, self._latents_1Z


def _bind(bind: Callable[..., None], name: str, array_: FloatArray) -> None:
    """Let onnxruntime read or write an array in place: nothing is made for each call."""
    bind(name, "cpu", 0, np.float32, array_.shape, array_.ctypes.data)


def _session(bundle: EdgeBundle, data: bytes) -> Any:
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise MissingExtra("scoring needs the package 'onnxruntime'.", "pip install 'crossplant[edge]'.") from error
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = _FATAL
    options.enable_cpu_mem_arena = False
    give_back()  # Making a session takes 13 MB of code, for a moment.
    try:
        session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exceptions have no common class but this one.
        raise BundleInvalid(f"{bundle.folder}: the graph cannot be run: {error!s:.300}.", _BAD_GRAPH) from error
    give_back()
    return session


class _Centroids:
    """Student-t assignment of one window to the active clusters: `shared.scoring.student_t_assignments` for N = 1,
    without its loop over the clusters.
    """

    def __init__(self, centroids_AZ: Float64Array, modes_A: NDArray[np.intp]) -> None:
        self._centroids_AZ, self._modes = centroids_AZ, modes_A.tolist()

    @classmethod
    def of(cls, bundle: EdgeBundle) -> _Centroids | None:
        """Of a bundle; None when it has no active cluster."""
        clusters = bundle.clusters
        if clusters is None or not clusters.active_K.any():
            return None
        active_A = np.flatnonzero(clusters.active_K)
        return cls(clusters.centroids_KZ[active_A].astype(np.float64), active_A)

    def __call__(self, latents_1Z: FloatArray) -> tuple[int, FloatArray]:
        """Nearest active cluster, and the entropy of the assignment as training keeps it, float32 (1,)."""
        offset_AZ = self._centroids_AZ - latents_1Z
        kernel = [1.0 / (1.0 + square) for square in np.einsum("az,az->a", offset_AZ, offset_AZ).tolist()]
        total = sum(kernel)
        entropy = -sum(q * math.log(q) for q in (one / total for one in kernel) if q > 0)
        return self._modes[kernel.index(max(kernel))], np.array([entropy], np.float32)
