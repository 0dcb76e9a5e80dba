"""The plant's relations (`shared.relations`): fitted once, kept beside its guard, fitted again when its data change.

Beside the relations lie the scores of the plant's normal rows, by relations that had not seen them: scales and
thresholds need these, whatever the recipe, and they take as long as the fit.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from client.agent.own import Kept, site_digest
from shared.disk import replace_file
from shared.errors import BundleInvalid
from shared.relations import Fitted, Unfit, fit, from_bytes, to_bytes
from shared.series import SiteData

log = logging.getLogger(__name__)

_SETTINGS = b"crossplant relations, 1"  # a fit that gives other numbers has another name here
_SCORES = "scores"


def relations_of(site: SiteData, path: Path | None) -> Fitted | None:
    """A plant's relations; None, and why in the log, where its tags do not allow any.

    Args:
        site: the plant's data.
        path: where they are kept, with `.scores.safetensors` and `.json` beside; None keeps none.
    """
    data = site_digest(site, _SETTINGS)
    kept = None if path is None else _kept(site, path, data)
    if kept is not None:
        return kept
    found = fit(np.asarray(site.train_TD, np.float32), site.train_starts, site.schema.period_s)
    if isinstance(found, Unfit):
        log.info("plant %s has no relations by mode: %s", site.name, found.reason)
        return None
    log.info("plant %s: relations fitted on %d rows", site.name, len(site.train_TD))
    if path is not None:
        _keep(site, path, found, data)
    return found


def _files(path: Path) -> tuple[Path, Path]:
    return path.with_suffix(".scores.safetensors"), path.with_suffix(".json")


def _kept(site: SiteData, path: Path, data: str) -> Fitted | None:
    """Those from before; None, and why in the log, if they must be fitted."""
    if not path.exists():
        return None
    scores, note = _files(path)
    try:
        model, numbers, kept = path.read_bytes(), scores.read_bytes(), Kept.parse(note.read_bytes())
        if hashlib.sha256(model + numbers).hexdigest() != kept.guard or kept.data != data:
            raise ValueError("they are not of these data")
        return Fitted(from_bytes(model, str(path)), safetensors.numpy.load(numbers)[_SCORES])
    except (OSError, ValueError, KeyError, SafetensorError, BundleInvalid) as error:
        log.warning("plant %s: the relations %s are fitted again: %s", site.name, path, error)
        return None


def _keep(site: SiteData, path: Path, found: Fitted, data: str) -> None:
    """Relations that cannot be kept are used all the same: fitting them again gives the same bytes."""
    model, numbers = to_bytes(found.relations), safetensors.numpy.save({_SCORES: found.scores_T})
    scores, note = _files(path)
    digest = hashlib.sha256(model + numbers).hexdigest()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, model, 0o600)
        replace_file(scores, numbers, 0o600)
        replace_file(note, Kept(guard=digest, data=data).pretty)
    except OSError as error:
        log.warning("plant %s: its relations cannot be kept: %s", site.name, error.strerror or error)
