"""Bundles to publish and to damage: small, whole, different by round. No torch."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared import sensor_limits
from shared.bundle.parts import Calibration, Probe, Provenance, Rehearsal
from shared.bundle.whole import Bundle, Live, publish
from shared.config import DetectorConfig, PreprocessConfig, Recipe, ThresholdConfig
from shared.distribution import Distribution
from shared.preprocess import fit_preprocessor
from shared.schema import SensorSchema
from shared.scoring import RobustScale, ScoreScale
from shared.thresholds import fit
from tests.support.stores import model

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
SCHEMA = SensorSchema(tags=("LIT101", "FIT101"), period_s=0.1)
RECIPE = Recipe(detector=DetectorConfig(window=4, hidden=4, latent=3))


@cache
def bundle(round_: int = 4, run: str = "a") -> Bundle:
    rng = np.random.default_rng(round_)
    made = model(round_)
    gappy = np.where(rng.random((50, 2)) < 0.1, np.nan, rng.normal(size=(50, 2))).astype(np.float32)
    preprocess = PreprocessConfig(rolling=5, every=2, join="mean", max_correlation=0.99)
    return Bundle(
        provenance=Provenance(site="north", run=run, round=round_, model=made.digest, holdout_loss=0.1 + 0.2),
        model=made,
        recipe=RECIPE,
        schema=SCHEMA,
        preprocessor=fit_preprocessor(gappy, (0, 20), preprocess)[0],
        score=ScoreScale(entropy_weight=0.1, error=RobustScale(median=-1.5, spread=0.3)),
        threshold=fit("conformal", rng.uniform(size=500), ThresholdConfig()),
    )


@cache
def live(round_: int = 4) -> Live:
    rng = np.random.default_rng(round_)
    calibration = Calibration(
        holdout_loss=0.3,
        effective_size=40.0,
        distribution=Distribution.of_scores(rng.normal(size=500)),
        rehearsal=Rehearsal(size=250, effective_size=20.0, rate=0.012, asked=0.01),
        occupancy=(1.0, 0.0),
        tag_error=(0.1, 0.5),
        tag_error_high=(0.3, 2.5),
    )
    rows_RD = rng.normal(size=(12, 2)).astype(np.float32)
    found = Probe(rows_RD, rng.normal(size=3), rng.uniform(size=3))
    limits = sensor_limits.fit(rng.normal(size=(200, 2)).astype(np.float32), SCHEMA)
    return Live(b"graph %d" % round_, calibration, found, limits=limits)


def put(folder: Path, round_: int = 4, key: Ed25519PrivateKey = KEY, run: str = "a") -> str:
    """Publish the bundle of a round; its digest."""
    return publish(bundle(round_, run), live(round_), folder, key)
