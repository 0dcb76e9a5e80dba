"""From a folder to what scores: read a bundle, check it, let it score its own probe."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from client.edge.engine import Model
from client.edge.guard import guard_of, halved
from client.edge.scorer import Scorer
from shared.bundle.edge import EdgeBundle, read_edge_bundle
from shared.bundle.trust import Trust
from shared.errors import BundleInvalid
from shared.scoring import Float64Array
from shared.series import FloatArray

PINNED = "trusted.pub"  # in the state folder: the key that was taken at first use
TOLERANCE = 1e-4  # of a score
INT8_TOLERANCE = 1.0  # robust units: a graph of another model is further off


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
    check_probe(bundle, scorer, INT8_TOLERANCE if int8 else TOLERANCE)
    return Model(scorer, guard)


def check_probe(bundle: EdgeBundle, scorer: Scorer, tolerance: float = TOLERANCE) -> Float64Array:
    """Score a bundle's probe and compare with what the trainer gave for it.

    Args:
        bundle: whose probe.
        scorer: of that bundle; it remembers nothing of this.
        tolerance: largest difference of a score, relative to 1 or to the score if it is larger.

    Returns:
        the scores, float64 (M,).

    Raises:
        BundleInvalid: they differ by more, or are fewer or more.
    """
    scores_M, due_M = np.array(list(_probed(bundle, scorer)), np.float64), bundle.probe.scores_M
    if len(scores_M) != len(due_M):
        raise BundleInvalid(f"{bundle.folder}: the probe gives {len(scores_M)} scores, {len(due_M)} are due.")
    worst = float(np.max(np.abs(scores_M - due_M) / np.maximum(1.0, np.abs(due_M))))
    if not worst <= tolerance:
        cause = f"{bundle.folder} does not score its own probe as the trainer did: {worst:.2g} apart."
        raise BundleInvalid(cause, "This machine computes otherwise, or the graph is of another model; publish again.")
    return scores_M


def _probed(bundle: EdgeBundle, scorer: Scorer) -> Iterator[float]:
    """Scores of the probe's windows, its rows prepared one by one as live ones are."""
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
            yield scorer.judge(np.stack(rows)[None], judging, heard).score
