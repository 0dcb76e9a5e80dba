"""Whatever a run's state or a round holds, it comes back from JSON as it was."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.rounds import ClusterReport, Member, OptimizerState, Phase, PlantReport, RoundRecord, RunState, Status
from server.store.codec import RECORDS, STATE
from server.store.models import ModelFiles
from server.store.rows import StoredAnchor, StoredBest, StoredState, read_record, round_row
from shared.errors import StoreError, StoreUnreadable
from shared.model import Clusters, GlobalModel, TensorSpec
from shared.schema import SensorSchema

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
counts = st.integers(0, 2**63 - 1)
exact = st.floats(allow_nan=False, allow_infinity=False)
floats = st.floats(allow_infinity=False)
metrics = st.dictionaries(texts, floats, max_size=3)
digests = st.from_regex(r"[0-9a-f]{64}", fullmatch=True)
names = texts.filter(bool)
schemas = st.builds(
    SensorSchema,
    tags=st.lists(names, min_size=1, max_size=4, unique=True).map(tuple),
    period_s=st.floats(min_value=0, exclude_min=True, allow_infinity=False),
)
specs = st.builds(TensorSpec, names, st.lists(st.integers(0, 99), max_size=3).map(tuple), exact)
stored = st.builds(
    StoredState,
    run=texts,
    config_digest=digests,
    finished=counts,
    step=counts,
    skips=counts,
    model=st.none() | digests,
    optimizer=st.none() | digests,
    members=st.lists(st.builds(Member, texts, counts, counts, exact), max_size=3).map(tuple),
    schema=st.none() | schemas,
    manifest=st.lists(specs, max_size=3).map(tuple),
    norms=st.lists(exact, max_size=5).map(tuple),
    anchor=st.none()
    | st.builds(StoredAnchor, counts, digests, st.none() | digests, st.dictionaries(names, exact, max_size=3)),
    moments=st.none() | digests,
    best=st.none()
    | st.builds(
        StoredBest,
        st.sampled_from(Phase),
        counts,
        digests,
        st.none() | digests,
        st.dictionaries(names, exact, max_size=3),
        st.dictionaries(names, exact, max_size=3),
        counts,
    ),
)
reports = st.builds(
    PlantReport, texts, st.booleans(), st.none() | texts, metrics, st.none() | counts, counts, counts, floats, metrics
)
cohorts = st.lists(reports, max_size=4, unique_by=lambda p: p.plant)
clusters = st.builds(
    ClusterReport,
    mass=st.lists(floats, max_size=3).map(tuple),
    displacement=st.lists(floats, max_size=3).map(tuple),
    active=st.lists(st.booleans(), max_size=3).map(tuple),
    effective=floats,
    plants=st.lists(counts, max_size=3).map(tuple),
)
records = st.builds(
    RoundRecord,
    run=texts,
    number=counts,
    phase=st.sampled_from(Phase),
    label=texts,
    status=st.sampled_from(Status),
    reason=st.none() | texts,
    started=texts,
    seconds=floats,
    plants=cohorts.map(lambda plants: tuple(sorted(plants, key=lambda p: p.plant))),
    metrics=metrics,
    clusters=st.none() | clusters,
    model=st.none() | digests,
    config=digests,
    timings=metrics,
)


def through_json(value: Any) -> Any:
    return json.loads(json.dumps(value, allow_nan=False))


@given(stored)
def test_a_state_comes_back_exactly(state: StoredState) -> None:
    assert STATE.decode(StoredState, through_json(STATE.encode(StoredState, state)), "here") == state


@given(records)
def test_a_record_comes_back_exactly_with_nan_as_nan(record: RoundRecord) -> None:
    read = RECORDS.decode(RoundRecord, through_json(RECORDS.encode(RoundRecord, record)), "here")
    assert repr(read) == repr(record)  # NaN is not equal to itself


@given(clusters)
def test_a_record_of_an_older_version_lacks_what_came_later(report: ClusterReport) -> None:
    value = through_json(RECORDS.encode(ClusterReport, report))
    del value["plants"]
    assert repr(RECORDS.decode(ClusterReport, value, "here")) == repr(dataclasses.replace(report, plants=()))
    del value["mass"]
    with pytest.raises(StoreUnreadable, match="mass"):
        RECORDS.decode(ClusterReport, value, "here")


@given(records, stored)
def test_a_record_comes_back_from_its_rows(record: RoundRecord, state: StoredState) -> None:
    assert repr(read_record(round_row(record, state))) == repr(record)


@given(stored, st.data())
def test_a_state_with_a_field_lost_added_or_mistyped_is_refused(state: StoredState, data: st.DataObject) -> None:
    value = through_json(STATE.encode(StoredState, state))
    name = data.draw(st.sampled_from(sorted(set(value) - StoredState.YOUNGER)))
    harm = data.draw(st.sampled_from(["lose", "add", "mistype"]))
    if harm == "lose":
        del value[name]
    elif harm == "add":
        value["surprise"] = 1
    else:
        value[name] = True
    with pytest.raises(StoreUnreadable):
        STATE.decode(StoredState, value, "here")


@given(stored)
def test_a_state_of_an_older_version_lacks_moments_or_the_best_model_and_nothing_else(state: StoredState) -> None:
    value = through_json(STATE.encode(StoredState, state))
    del value["moments"]
    assert STATE.decode(StoredState, value, "here") == dataclasses.replace(state, moments=None)
    del value["best"]
    assert STATE.decode(StoredState, value, "here") == dataclasses.replace(state, moments=None, best=None)
    del value["clip"]
    with pytest.raises(StoreUnreadable, match="clip"):
        STATE.decode(StoredState, value, "here")


@given(st.sampled_from([math.nan, math.inf, -math.inf]))
def test_a_state_that_json_cannot_hold_is_refused(weight: float) -> None:
    with pytest.raises(StoreError, match="cannot be stored exactly"):
        STATE.encode(Member, Member("north", 1, 1, weight))


@given(st.integers(0, 2**32 - 1), st.booleans(), st.sampled_from([np.float32, np.float64]))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_run_state_comes_back_with_its_arrays(tmp_path: Path, seed: int, seeded: bool, dtype: type) -> None:
    rng = np.random.default_rng(seed)
    weights = {"b": rng.normal(size=(2, 3)).astype(np.float32), "a": rng.normal(size=4).astype(np.float32)}
    found = Clusters(
        weights["b"], weights["b"][:, 0], np.asarray([True, False]), np.asarray([0, 3]), float(rng.normal())
    )
    moments: dict[str, Any] = {name: np.asarray(rng.normal(size=value.shape), dtype) for name, value in weights.items()}
    optimizer = OptimizerState(seed, moments, {name: value.T for name, value in moments.items()})
    state = RunState("r", "d" * 64, model=GlobalModel(weights, found if seeded else None), optimizer=optimizer)

    files = ModelFiles(tmp_path)
    files.put(state.model)  # type: ignore[arg-type]
    value = STATE.encode(StoredState, StoredState.of(state, files.put_optimizer(optimizer)))
    read = STATE.decode(StoredState, through_json(value), "here").load(files)

    assert read.model is not None
    assert read.model.digest == state.model.digest  # type: ignore[union-attr]
    assert read.optimizer.step == seed
    for mine, theirs in ((optimizer.first, read.optimizer.first), (optimizer.second, read.optimizer.second)):
        assert sorted(mine) == sorted(theirs)
        assert all(np.array_equal(mine[k], theirs[k]) and mine[k].dtype == theirs[k].dtype for k in mine)
    assert dataclasses.replace(read, model=None, optimizer=OptimizerState()) == dataclasses.replace(
        state, model=None, optimizer=OptimizerState()
    )
