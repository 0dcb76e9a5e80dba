"""What rounding took from a plant's updates, kept for its next one (error feedback, see `shared.wire.compress`).

A round may be asked twice: the server was killed before it committed, or the round was skipped. The answer must be the
same, bit for bit (docs/decisions/0004). So the residual is kept by the training step that made it, together with the
one that this step began with: the step asked again begins where it did before. It is on disk, because an agent may be
killed too, and because Flower's Ray engine may ask another process next time.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from shared.disk import replace_file
from shared.series import FloatArray

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Residual:
    """What one training step of a run left.

    Attributes:
        step: index of the training round within the run.
        before_P, after_P: float32 (P,), what the step began with and what it left.
    """

    step: int
    before_P: FloatArray
    after_P: FloatArray


class ResidualBook:
    """The residual of one plant in its latest run.

    Args:
        path: the file it is kept in; None keeps it in memory only.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._held: tuple[bytes, Residual] | None = None

    def carried(self, run: str, step: int, size: int) -> FloatArray:
        """What step `step` of a run adds to its update: the same whenever it is asked, until a later step was asked.

        Zeros when nothing is known: at the start, after another run, after a step back.
        """
        held = self._held if self._path is None else _read(self._path)
        if held is None or held[0] != _key(run) or held[1].before_P.shape != (size,) or held[1].step > step:
            return np.zeros(size, np.float32)
        return held[1].before_P if held[1].step == step else held[1].after_P

    def keep(self, run: str, residual: Residual) -> None:
        """Remember what a step left. A full disk costs precision, not the round."""
        self._held = (_key(run), residual)
        if self._path is None:
            return
        tensors: dict[str, np.ndarray] = {"step": np.asarray(residual.step), "run": np.frombuffer(_key(run), np.uint8)}
        tensors |= {"before": residual.before_P, "after": residual.after_P}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(self._path, safetensors.numpy.save(tensors))
        except OSError as error:
            log.warning("cannot keep the rounding of updates in %s: %s", self._path, error.strerror)


def _key(run: str) -> bytes:
    return hashlib.sha256(run.encode(errors="surrogatepass")).digest()


def _read(path: Path) -> tuple[bytes, Residual] | None:
    """The residual in a file; None when there is none, or none that can be used."""
    try:
        tensors = safetensors.numpy.load(path.read_bytes())
        before_P, after_P = (tensors[name] for name in ("before", "after"))
        if not all(p.dtype == np.float32 and np.isfinite(p).all() for p in (before_P, after_P)):
            raise ValueError("values that are not finite float32")
        if before_P.shape != after_P.shape:
            raise ValueError("residuals of two lengths")
        return tensors["run"].tobytes(), Residual(int(tensors["step"]), before_P, after_P)
    except FileNotFoundError:
        return None
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        log.warning("the rounding of updates kept in %s is lost: %s", path, error)
        return None
