"""From a folder to what scores: read a bundle, check it, let it score its own probe."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from client.edge.engine import Model
from client.edge.guard import guard_of, halved
from client.edge.scorer import Judged, Scorer
from shared.bundle.edge import EdgeBundle, read_edge_bundle
from shared.bundle.trust import Trust
from shared.errors import BundleInvalid
from shared.scoring import Float64Array
from shared.series import FloatArray

PINNED = "trusted.pub"  # in the state folder: the key that was taken at first use
TOLERANCE = 1e-4  # of a score, and of what the network leaves
INT8_TOLERANCE = 1.0  # of a score, in robust units
INT8_LEFT = 0.1  # of what the network leaves


def load_edge(folder: Path, trust: Path | None = None, state: Path | None = None) -> EdgeBundle:
    """Read a bundle and check its signature and digests.

    Args:
        folder: one bundle, or a folder of versions: then the one in force.
        trust: file with the agent's public key.
        state: folder that outlives the process. Without `trust`, the key of the first bundle is kept there and asked
            for from then on; without both, any key's signature counts as long as it holds.

    Raises:
        BundleInvalid: it is incomplete, changed, unsigned or signed by another key; the cause says which.
        FileTrouble: the trusted key cannot be read, or not be kept.
        MissingExtra: the package cryptography is not installed.
    """
    if trust is not None:
        return read_edge_bundle(folder, Trust(trust))
    if state is not None:
        return read_edge_bundle(folder, Trust(state / PINNED, pin=True))
    import tempfile  # Half a megabyte that a scorer with --trust or --state does without.

    with tempfile.TemporaryDirectory(prefix="cp-") as nowhere:
        return read_edge_bundle(folder, Trust(Path(nowhere) / PINNED, pin=True))


def make_model(bundle: EdgeBundle, top: int = 5, int8: bool = False) -> Model:
    """A bundle made ready to score, with its guard; checked on its own probe.

    Raises:
        BundleInvalid: the graph or the guard cannot be used, or the probe's scores are not those of the trainer.
        MissingExtra: onnxruntime is not installed.
    """
    guard = guard_of(bundle, top)
    scorer = Scorer(bundle, top, int8, halved(bundle) if guard else None)
    check_probe(bundle, scorer, *((INT8_TOLERANCE, INT8_LEFT) if int8 else ()))
    return Model(scorer, guard)


def check_probe(
    bundle: EdgeBundle, scorer: Scorer, tolerance: float = TOLERANCE, left: float = TOLERANCE
) -> Float64Array:
    """Score a bundle's probe and compare with what the trainer gave for it.

    A judge may give the network next to no weight, so that any network would give the same scores: what it leaves of
    each window, as root mean square, is compared as well.

    Args:
        bundle: whose probe.
        scorer: of that bundle; it remembers nothing of this.
        tolerance: largest difference of a score, relative to 1 or to the score if it is larger.
        left: the same of what the network leaves, in prepared units.

    Returns:
        the scores, float64 (M,).

    Raises:
        BundleInvalid: they differ by more, or are fewer or more.
    """
    found, due_M = list(_probed(bundle, scorer)), bundle.probe.scores_M
    if len(found) != len(due_M):
        raise BundleInvalid(f"{bundle.folder}: the probe gives {len(found)} scores, {len(due_M)} are due.")
    scores_M = np.array([one.score for one in found], np.float64)
    errors_M = np.array([one.error for one in found], np.float64)
    _compare(bundle, " by scores", scores_M, due_M, tolerance)
    due_left_M = np.sqrt(np.maximum(bundle.probe.errors_M, 0.0))
    _compare(bundle, " by what its network leaves", np.sqrt(errors_M), due_left_M, left)
    return scores_M


def _compare(bundle: EdgeBundle, what: str, found_M: Float64Array, due_M: Float64Array, tolerance: float) -> None:
    worst = float(np.max(np.abs(found_M - due_M) / np.maximum(1.0, np.abs(due_M))))
    if not worst <= tolerance:
        cause = f"{bundle.folder} does not score its own probe as the trainer did: {worst:.2g} apart{what}."
        raise BundleInvalid(cause, "This machine computes otherwise, or the graph is of another model; publish again.")


def _probed(bundle: EdgeBundle, scorer: Scorer) -> Iterator[Judged]:
    """What is said of the probe's windows, its rows prepared one by one as live ones are."""
    stream, window = bundle.preprocessor.stream(), bundle.setup.window
    rows: deque[FloatArray] = deque(maxlen=window)
    judging, hearing = scorer.judging(), scorer.hearing()
    for row_D in bundle.probe.rows_RD:
        prepared_D = stream.step(row_D)
        if hearing is not None:
            hearing.take(row_D)
        if prepared_D is None:
            continue
        heard = None if hearing is None else hearing.close()
        rows.append(prepared_D)
        if judging is not None:
            judging.take(prepared_D)
        if len(rows) == window:
            yield scorer.judge(np.stack(rows)[None], judging, heard)
