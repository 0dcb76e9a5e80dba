"""What a plant learns alone, from its own rows and once: its local guard and the limits of its sensors.

Nothing of a request reaches this module, so whatever a federation sends, the bytes that it publishes stay the same. The
guard is kept at home; it is fitted again only when the plant's data, its columns or the settings here have changed.
"""

from __future__ import annotations

import hashlib
import logging
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shared import sensor_limits
from shared.artefact import Artefact
from shared.disk import replace_file
from shared.errors import BundleInvalid, DataError, TooFewRows
from shared.local_guard import GuardConfig, fit, from_bytes, to_bytes
from shared.sensor_limits import SensorLimits
from shared.series import SiteData

if TYPE_CHECKING:
    from shared.relations import Fitted

log = logging.getLogger(__name__)

_WIDEST = 1500  # columns times lags: 18 MB of numbers, which every edge box holds and multiplies by every second
_CHUNK = 65_536  # rows


class Kept(Artefact, frozen=True, kw_only=True):
    """What lies beside a kept guard.

    Attributes:
        guard: SHA-256 of its file, hex.
        data: SHA-256 of what it was fitted on: rows, recordings, columns and settings.
    """

    guard: str
    data: str


class OwnParts:
    """The parts of a plant's bundles that no federation has a hand in.

    Args:
        site: the plant's data.
        path: where the guard is kept; `path.with_suffix(".json")` says what it was fitted on. None keeps none.
        guard: whether the plant wants a guard.
    """

    def __init__(self, site: SiteData, path: Path | None, guard: bool = True) -> None:
        self._site, self._path, self._wanted = site, path, guard

    def learn(self) -> None:
        """Fit everything now."""
        _ = self.limits, self.guard

    @cached_property
    def limits(self) -> SensorLimits:
        """Limits of healthy sensors; such as judge nothing where there are too few rows to learn any."""
        try:
            return sensor_limits.fit(self._site.train_TD, self._site.schema, self._site.train_starts)
        except TooFewRows as error:
            log.warning("plant %s: sensors will not be judged: %s", self._site.name, error.cause)
            return sensor_limits.unknown(self._site.schema)

    @cached_property
    def relations(self) -> Fitted | None:
        """What valves and pumps tell of the other tags; None where they tell too little. Fitted at its first use."""
        from client.agent.own_relations import relations_of  # Imports scikit-learn.

        path = self._path
        return relations_of(
            self._site, None if path is None else path.with_name(path.name.replace("guard", "relations"))
        )

    @cached_property
    def guard(self) -> bytes | None:
        """The guard's file; None where none is wanted, or none can be fitted."""
        if not self._wanted:
            return None
        config = guard_config(self._site.schema.dim)
        if config is None:
            log.warning("plant %s has more than %d tags: too many for a local guard", self._site.name, _WIDEST)
            return None
        data = data_digest(self._site, config)
        return self._kept(data) or self._fitted(data, config)

    def _kept(self, data: str) -> bytes | None:
        """The guard from before; None, and why in the log, if it must be fitted."""
        if self._path is None or not self._path.exists():
            return None
        try:
            found = self._path.read_bytes()
            kept = Kept.parse(self._path.with_suffix(".json").read_bytes())
            if hashlib.sha256(found).hexdigest() != kept.guard:
                raise ValueError("it is not the one that was written")
            from_bytes(found)
        except (OSError, ValueError, BundleInvalid) as error:
            log.warning("plant %s: the local guard %s is fitted again: %s", self._site.name, self._path, error)
            return None
        if kept.data != data:
            log.warning("plant %s: the local guard is fitted again: the plant's data have changed", self._site.name)
            return None
        return found

    def _fitted(self, data: str, config: GuardConfig) -> bytes | None:
        site = self._site
        try:
            guard = fit(np.asarray(site.train_TD, np.float32), site.schema, site.train_starts, config)
        except DataError as error:
            log.warning("plant %s has no local guard: %s", site.name, error)
            return None
        found, threshold = to_bytes(guard), guard.threshold
        digest = hashlib.sha256(found).hexdigest()
        log.info(
            "plant %s: local guard %s fitted on %d windows, threshold %.4g%s",
            site.name,
            digest[:12],
            guard.fitted_on,
            threshold.value,
            f"; weak: {threshold.note}" if threshold.note else "",
        )
        self._keep(found, Kept(guard=digest, data=data))
        return found

    def _keep(self, found: bytes, kept: Kept) -> None:
        """A guard that cannot be kept is used all the same: fitting it again gives the same bytes."""
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(self._path, found, 0o600)
            replace_file(self._path.with_suffix(".json"), kept.pretty)
        except OSError as error:
            log.warning("plant %s: the local guard cannot be kept: %s", self._site.name, error.strerror or error)


def guard_config(dim: int) -> GuardConfig | None:
    """The guard's settings for a plant of D tags: fewer lags where there are many tags; None where there are too many.

    Example:
        >>> guard_config(51).lags, guard_config(700).lags, guard_config(5000)
        (5, 2, None)
    """
    usual = GuardConfig()
    lags = min(usual.lags, _WIDEST // dim)
    return usual.model_copy(update={"lags": lags}) if lags else None


def data_digest(site: SiteData, config: GuardConfig) -> str:
    """SHA-256 over everything that a guard is fitted on, hex."""
    return site_digest(site, config.model_dump_json().encode())


def site_digest(site: SiteData, settings: bytes) -> str:
    """SHA-256 over a site's training rows, where they begin, its columns and settings, hex."""
    head = (site.schema.json, repr(tuple(map(int, site.train_starts))).encode(), settings)
    found = hashlib.sha256(b"\n".join(head))
    for first in range(0, len(site.train_TD), _CHUNK):
        found.update(np.ascontiguousarray(site.train_TD[first : first + _CHUNK], "<f4").tobytes())
    return found.hexdigest()
