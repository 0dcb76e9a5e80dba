"""What the edge computes sample by sample is what was computed in batch, to the bit."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.config import PreprocessConfig
from shared.errors import NothingToLearn
from shared.preprocess import Preprocessor, fit_preprocessor

CONFIGS = st.builds(
    PreprocessConfig,
    every=st.sampled_from([1, 1, 2, 3, 7, 16]),
    join=st.sampled_from(["median", "mean", "last"]),
    fill_limit=st.integers(0, 20),
    rolling=st.none() | st.integers(2, 40),
    scaling=st.sampled_from(["standard", "minmax", "robust", "none"]),
    clip_quantile=st.none() | st.floats(0.6, 0.999),
    clip_live=st.booleans(),
    guard=st.floats(0.5, 1e4),
    min_variance=st.none() | st.floats(0, 0.05),
    max_correlation=st.none() | st.floats(0.3, 0.99),
)


@st.composite
def plants(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """Training rows, live rows with gaps and wild values, and the starts of the live recordings."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    width, rows = draw(st.integers(1, 9)), draw(st.integers(1, 150))
    unit = 10.0 ** rng.integers(-4, 5, width)
    series = [rng.normal(size=(n, width)).cumsum(axis=0) * unit for n in (200, rows)]
    for values in series:
        values[rng.random(values.shape) < draw(st.sampled_from([0.0, 0.1, 0.9]))] = np.nan
    live = series[1]
    for wild in (np.inf, -np.inf, 3e38, -3e38, 1e300, -0.0):
        live[rng.random(live.shape) < draw(st.sampled_from([0.0, 0.02]))] = wild
    cuts = draw(st.sets(st.integers(1, rows), max_size=5))
    return series[0].astype(np.float32), live, (0, *sorted(cuts - {rows}))


def streamed(made: Preprocessor, live_TD: np.ndarray, starts: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    stream, rows, masks = made.stream(), [], []
    for t, row in enumerate(live_TD):
        if t in starts:
            stream.restart()
        prepared = stream.step(row)
        if prepared is not None:
            rows.append(prepared)
            masks.append(stream.imputed_D)
    shape = (len(rows), made.dim)
    return np.asarray(rows, np.float32).reshape(shape), np.asarray(masks, bool).reshape(shape)


def bits(values: np.ndarray) -> list[int]:
    return list(np.ascontiguousarray(values).view(np.int32).ravel())


@settings(max_examples=300)
@given(plants(), CONFIGS)
def test_batch_is_stream(plant: tuple[np.ndarray, np.ndarray, tuple[int, ...]], config: PreprocessConfig) -> None:
    train, live, starts = plant
    try:
        made = fit_preprocessor(train, (0, 77), config)[0]
    except NothingToLearn:
        return
    made = Preprocessor.parse(made.json)
    with np.errstate(over="ignore"):
        batch = made.live(live.astype(np.float32), starts)
    values, imputed = streamed(made, live, starts)
    assert bits(values) == bits(batch.values_TD)
    np.testing.assert_array_equal(imputed, batch.imputed_TD)
    assert np.isfinite(values).all()
    assert (np.abs(values) <= np.float32(config.guard)).all()


@settings(max_examples=100)
@given(plants(), CONFIGS, st.data())
def test_no_row_knows_a_later_one(
    plant: tuple[np.ndarray, np.ndarray, tuple[int, ...]], config: PreprocessConfig, data: st.DataObject
) -> None:
    train, live, _ = plant
    try:
        made = fit_preprocessor(train, (0, 77), config)[0]
    except NothingToLearn:
        return
    with np.errstate(over="ignore"):
        whole = made.live(live.astype(np.float32)).values_TD
        part = made.live(live[: data.draw(st.integers(0, len(live)))].astype(np.float32)).values_TD
    assert bits(part) == bits(whole[: len(part)])
