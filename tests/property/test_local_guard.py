"""The guard on any plant: contributions add up, a stream gives what a batch gives, bytes bring back the same value."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.config import PreprocessConfig
from shared.errors import NothingToLearn
from shared.local_guard import GuardConfig, LocalGuard, fit, from_bytes, to_bytes
from shared.schema import SensorSchema

CONFIGS = st.builds(
    GuardConfig,
    lags=st.integers(1, 7),
    preprocess=st.builds(
        PreprocessConfig,
        every=st.sampled_from([1, 1, 3]),
        rolling=st.none() | st.integers(2, 40),
        scaling=st.sampled_from(["standard", "minmax", "robust", "none"]),
        clip_quantile=st.none() | st.floats(0.6, 0.999),
        max_correlation=st.none() | st.floats(0.5, 0.99),
    ),
)


@st.composite
def plants(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """Normal rows with constant and repeated tags in any unit, live rows with gaps, and the live recordings' starts."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    width = draw(st.integers(2, 8))
    values = (rng.normal(size=(400, 3)).cumsum(axis=0) @ rng.normal(size=(3, width))) * 10.0 ** rng.integers(
        -4, 5, width
    )
    values[:, 0] = draw(st.sampled_from([0.0, 5.0]))  # never moves
    live = values[300:].copy()
    live[rng.random(live.shape) < draw(st.sampled_from([0.0, 0.2]))] = np.nan
    live[rng.random(live.shape) < draw(st.sampled_from([0.0, 0.02]))] = draw(st.sampled_from([np.inf, -3e38, 1e6]))
    return values[:300].astype(np.float32), live.astype(np.float32), (0, draw(st.integers(1, 99)))


def streamed(guard: LocalGuard, live_TD: np.ndarray, starts: tuple[int, ...]) -> list[float]:
    scores, every = [], guard.preprocessor.every
    for begin, end in zip(starts, [*starts[1:], len(live_TD)], strict=True):
        stream = guard.stream()
        steps = [stream.step(row) for row in live_TD[begin:end]]
        scores += [np.nan if score is None else score for score in steps[every - 1 :: every]]
    return scores


@settings(max_examples=60)
@given(plants(), CONFIGS)
def test_batch_is_stream_and_nothing_is_lost(
    plant: tuple[np.ndarray, np.ndarray, tuple[int, ...]], config: GuardConfig
) -> None:
    train, live, starts = plant
    schema = SensorSchema(tags=tuple(f"t{n}" for n in range(train.shape[1])), period_s=1.0)
    try:
        guard = fit(train, schema, (0, 150), config)
    except NothingToLearn:
        return
    batch = guard.score_rows(live, starts)
    np.testing.assert_allclose(streamed(guard, live, starts), batch, rtol=1e-6, atol=1e-9)
    assert not (batch < 0).any()
    back = from_bytes(to_bytes(guard))
    np.testing.assert_array_equal(back.score_rows(live, starts), batch)
    prepared = guard.preprocessor.live(live).values_TD
    windows = np.stack([prepared[at : at + config.lags] for at in range(len(prepared) - config.lags + 1)])
    told = guard.explain(windows)
    np.testing.assert_allclose(told.contribution_ND.sum(axis=1), guard.score(windows), rtol=1e-9)
    assert np.isfinite(told.excess_ND).all()
