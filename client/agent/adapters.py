"""A plant's adapter between rounds: what of a network never leaves it (`shared.detectors.adapter`).

It is kept as how far training has moved it from where it began. An answer must be the same whenever it is asked for
(docs/decisions/0004), and a server may go back: to a round that it did not commit, to the model that plants voted for,
to the best one before training was stopped. So beside the newest adapter the book has those that the last models met,
by what these models were: one that comes again meets the adapter that it met before, a new one the newest. In another
run it begins anew; those of the latest runs stay.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from shared.detectors import Detector
from shared.disk import replace_file
from shared.model import Weights
from shared.series import FloatArray

log = logging.getLogger(__name__)

RUNS = 4
"""Whose adapters are kept."""

MODELS = 16
"""Of a run, that may come again."""

_MET = "met/"


@dataclass(frozen=True)
class Kept:
    """The adapters of one run, as offsets from the start.

    Attributes:
        newest_P: float32 (P,), what the last training left.
        met: what the last models began with, by digest, the newest last.
    """

    newest_P: FloatArray
    met: dict[str, FloatArray]


class AdapterBook:
    """The adapters of one plant in its latest runs.

    Args:
        folder: one file a run; None keeps them in memory only.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._held: dict[str, Kept] = {}

    def load(self, detector: Detector, start: Weights, run: str, shared: Weights) -> None:
        """Give a detector the adapter that a model is met with; nothing where it has none.

        Args:
            detector: of the plant.
            start: the adapter before any training.
            run: of the request.
            shared: weights of the model that came with it.
        """
        if start:
            detector.load_weights(_unflat(_flat(start) + self._carried(run, _flat(start).size, shared), start))

    def keep(self, detector: Detector, start: Weights, run: str, shared: Weights) -> None:
        """Remember what training left that began with a model. One that diverged leaves nothing."""
        if not start:
            return
        begin_P = _flat(start)
        after_P = _flat(detector.own_weights()) - begin_P
        if not np.isfinite(after_P).all():
            return
        digest, held = _digest(shared), self._of(run, begin_P.size)
        before_P = self._carried(run, begin_P.size, shared)
        earlier = {} if held is None else {name: value for name, value in held.met.items() if name != digest}
        self._put(run, Kept(after_P, dict([*earlier.items(), (digest, before_P)][-MODELS:])))

    def _carried(self, run: str, size: int, shared: Weights) -> FloatArray:
        held = self._of(run, size)
        if held is None:
            return np.zeros(size, np.float32)
        return held.met.get(_digest(shared), held.newest_P)

    def _of(self, run: str, size: int) -> Kept | None:
        """What is known of a run for an adapter of this size."""
        found = self._held.get(run) if self._folder is None else _read(_path(self._folder, run))
        return found if found is not None and found.newest_P.shape == (size,) else None

    def _put(self, run: str, kept: Kept) -> None:
        """A full disk costs what was learnt of the adapter, not the round."""
        if self._folder is None:
            self._held.pop(run, None)
            self._held = dict([*self._held.items(), (run, kept)][-RUNS:])
            return
        tensors = {"newest": kept.newest_P}
        tensors |= {f"{_MET}{place:02}/{digest}": value for place, (digest, value) in enumerate(kept.met.items())}
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            replace_file(_path(self._folder, run), safetensors.numpy.save(tensors))
            files = sorted(self._folder.glob("*.safetensors"), key=lambda path: path.stat().st_mtime_ns)
            for path in files[:-RUNS]:
                path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("cannot keep the plant's adapter in %s: %s", self._folder, error.strerror)


def _path(folder: Path, run: str) -> Path:
    return folder / f"{hashlib.sha256(run.encode(errors='surrogatepass')).hexdigest()[:16]}.safetensors"


def _read(path: Path) -> Kept | None:
    """The adapters in a file; None when there is none, or none that can be used."""
    try:
        tensors = safetensors.numpy.load(path.read_bytes())
        newest_P = tensors.pop("newest")
        if not all(v.dtype == np.float32 and v.shape == newest_P.shape for v in (newest_P, *tensors.values())):
            raise ValueError("values that are no adapter")
        if not all(np.isfinite(value).all() for value in (newest_P, *tensors.values())):
            raise ValueError("values that are not finite")
        return Kept(newest_P, {name.rpartition("/")[2]: tensors[name] for name in sorted(tensors)})
    except FileNotFoundError:
        return None
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        log.warning("the plant's adapter kept in %s is lost: %s", path, error)
        return None


def _digest(weights: Weights) -> str:
    found = hashlib.sha256()
    for name, value in sorted(weights.items()):
        found.update(name.encode() + b"\0" + np.ascontiguousarray(value, np.float32).tobytes())
    return found.hexdigest()[:32]


def _flat(weights: Weights) -> FloatArray:
    return np.concatenate([np.asarray(value, np.float32).ravel() for _, value in sorted(weights.items())])


def _unflat(values_P: FloatArray, like: Weights) -> Weights:
    names = sorted(like)
    parts = np.split(values_P, np.cumsum([like[name].size for name in names])[:-1])
    return {name: part.reshape(like[name].shape) for name, part in zip(names, parts, strict=True)}
