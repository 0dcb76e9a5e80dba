"""Lagged moments over a real run: the coordinator's sum is the pooled rows', and each plant gets the others'."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.agent import service
from client.agent.service import PlantAgent
from client.training.moments import lag_of, measured_rows, own_moments
from client.training.workspace import Workspace, prepare
from server.coordinator import Coordinator
from server.rounds import RoundRecord
from server.store.store import RoundStore
from shared.config import RunConfig
from shared.errors import BadPayload
from shared.lag.learn import fit_var
from shared.lag.pooled import Lag, LagSum, tag, without
from shared.lag.sums import Moments, moments
from shared.series import SiteData
from shared.wire.envelope import Packet, encode_array
from shared.wire.inventory import Kind
from simulations.gather import gather
from tests.property.test_federation import SCHEMA, site
from tests.support import plants
from tests.support.plants import Loopback, Memory, federate
from tests.support.puppets import changed

CONFIG = plants.settings(rounds={"pretrain": 1, "joint": 0})


def gappy(name: str, seed: int, rows: int) -> SiteData:
    """Two recordings, in the second of which nothing is measured for a while."""
    made = site(name, seed, 2 * rows)
    values = np.array(made.train_TD)
    values[rows + rows // 4 : rows + rows // 2] = np.nan
    return replace(made, train_TD=values, train_starts=(0, rows))


def trio() -> list[SiteData]:
    return [site("east", 1, 110), gappy("north", 2, 120), site("south", 3, 90)]


def prepared(sites: list[SiteData], config: RunConfig = CONFIG) -> list[Workspace]:
    return [prepare(one, config.recipe) for one in sites]


def pooled(sites: list[SiteData], config: RunConfig = CONFIG) -> Moments:
    """Of all plants' rows laid end to end."""
    parts = [measured_rows(made, config.recipe) for made in prepared(sites, config)]
    ends = np.cumsum([0, *(len(rows) for rows, _ in parts)])
    starts = [int(end) + begin for end, (_, begins) in zip(ends, parts, strict=False) for begin in begins]
    return moments(np.concatenate([rows for rows, _ in parts]), tuple(starts), config.recipe.lag.lags)


def of(total: LagSum, config: RunConfig = CONFIG) -> Moments:
    return Moments(total.vector_Q, SCHEMA.dim, config.recipe.lag.lags)


def rounds(journal: Memory, label: str) -> list[RoundRecord]:
    return [record for record in journal.records if record.label.startswith(label)]


# ---- exact -----------------------------------------------------------------------------------------------------------


@settings(max_examples=5, deadline=None)
@given(
    rows=st.lists(st.integers(80, 200), min_size=2, max_size=4),
    lags=st.integers(0, 6),
    gaps=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_the_sum_at_the_server_is_the_pooled_rows_own(rows: list[int], lags: int, gaps: bool, seed: int) -> None:
    config = plants.settings(rounds={"pretrain": 1, "joint": 0}, recipe={"lag": {"lags": lags}})
    make = gappy if gaps else site
    sites = [make(f"plant {i}", seed + i, count) for i, count in enumerate(rows)]
    state, _, _ = federate(sites, config)
    whole, found = pooled(sites, config), of(state.moments, config)
    assert found.rows == whole.rows > 0
    np.testing.assert_allclose(found.vector_Q, whole.vector_Q, rtol=1e-12, atol=1e-8)
    if lags:
        np.testing.assert_allclose(fit_var(found).weights_ZD, fit_var(whole).weights_ZD, atol=1e-8)
    assert dict(state.moments.shares) == {tag("test", one.name): 1.0 for one in sites}


@pytest.mark.parametrize(
    "data",
    [{"dataset": "generated", "sites": 3, "rows": 400}, {"dataset": "twin-swat", "sites": 2, "days": 0.05}],
    ids=["generated", "twin"],
)
def test_so_it_is_on_made_plants(data: dict[str, object]) -> None:
    """51 tags of the twin: 306 columns."""
    config = plants.settings(data=data, rounds={"pretrain": 1, "joint": 0}, recipe={"training": {"stride": 16}})
    sites = list(gather(config).sites)
    state, _, _ = federate(sites, config)
    whole, dim = pooled(sites, config), sites[0].schema.dim
    np.testing.assert_allclose(state.moments.vector_Q, whole.vector_Q, rtol=1e-12, atol=1e-8)
    found = fit_var(Moments(state.moments.vector_Q, dim, config.recipe.lag.lags))
    np.testing.assert_allclose(found.weights_ZD, fit_var(whole).weights_ZD, atol=1e-8)


@settings(max_examples=3, deadline=None)
@given(order=st.permutations(range(3)), seed=st.integers(0, 10**6))
def test_the_order_of_the_sites_changes_not_one_bit_of_the_sum(order: list[int], seed: int) -> None:
    sites = [site(f"plant {i}", seed + i, 90 + 17 * i) for i in range(3)]
    first, other = (federate(some, CONFIG)[0].moments for some in (sites, [sites[i] for i in order]))
    assert first.vector_Q.tobytes() == other.vector_Q.tobytes()
    assert first.shares == other.shares


def test_held_out_rows_and_rows_that_were_not_measured_are_not_summed() -> None:
    [made] = prepared([gappy("north", 2, 120)])
    rows, starts = measured_rows(made, CONFIG.recipe)
    assert len(rows) < len(made.train.rows_TD) < 240  # the gap; the hold-out
    assert len(starts) == 3  # the second recording in two pieces
    hold = replace(made, holdout=replace(made.holdout, rows_TD=made.holdout.rows_TD + 100))
    assert own_moments(hold, CONFIG.recipe).vector_Q.tobytes() == own_moments(made, CONFIG.recipe).vector_Q.tobytes()


@settings(max_examples=25, deadline=None)
@given(
    window=st.integers(2, 12),
    stride=st.integers(1, 20),
    rows=st.integers(60, 90),
    gaps=st.booleans(),
    seed=st.integers(0, 99),
)
def test_a_plant_claims_no_more_rows_than_its_windows_cover(
    window: int, stride: int, rows: int, gaps: bool, seed: int
) -> None:
    """Or the gate would reject an honest plant. Without gaps every row of a recording with a window counts."""
    recipe = {"detector": {"window": window}, "training": {"stride": stride}}
    config = plants.settings(recipe=recipe)
    [made] = prepared([(gappy if gaps else site)("north", seed, rows)], config)
    found, starts = measured_rows(made, config.recipe)
    assert starts[0] == 0
    assert own_moments(made, config.recipe).rows <= len(found) <= len(made.train.starts_N) * (window + stride - 1)
    if not gaps:
        assert len(found) == len(made.train.rows_TD)


# ---- what a plant makes of it ----------------------------------------------------------------------------------------


def calibrated_with(monkeypatch: pytest.MonkeyPatch, sites: list[SiteData], **given: object) -> dict[str, Lag | None]:
    """What each plant knew of lagged moments when it calibrated last, in a whole run."""
    heard: list[Lag | None] = []
    real = service.calibrate

    def listening(*args: object) -> object:
        found = real(*args)  # type: ignore[arg-type]
        heard.append(found.lag)
        return found

    monkeypatch.setattr(service, "calibrate", listening)
    federate(sites, given.pop("config", CONFIG), **given)  # type: ignore[arg-type]
    return dict(zip([one.name for one in sites], heard[-len(sites) :], strict=True))


def test_each_plant_gets_the_others_pooled_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    sites = trio()
    for name, lag in calibrated_with(monkeypatch, sites).items():
        own, others = pooled([one for one in sites if one.name == name]), pooled([s for s in sites if s.name != name])
        np.testing.assert_array_equal(lag.own.vector_Q, own.vector_Q)
        np.testing.assert_allclose(lag.others.vector_Q, others.vector_Q, atol=1e-8)


def test_a_plant_that_was_away_when_moments_were_sent_gets_the_sum_of_those_that_were_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So does one that joins after it: its part is in no sum."""
    sites = trio()

    def away(plant: str, reply: Packet) -> Packet | None:
        return None if plant == "south" and reply.texts["kind"] == Kind.MOMENTS else reply

    heard = calibrated_with(monkeypatch, sites, tamper=away)
    np.testing.assert_allclose(heard["south"].others.vector_Q, pooled(sites[:2]).vector_Q, atol=1e-8)
    np.testing.assert_allclose(heard["east"].others.vector_Q, pooled(sites[1:2]).vector_Q, atol=1e-8)


def test_a_plant_whose_moments_were_all_that_came_shares_them_with_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every other plant would read them in the sum."""
    sites = trio()[:2]

    def alone(plant: str, reply: Packet) -> Packet | None:
        return None if plant != "east" and reply.texts["kind"] == Kind.MOMENTS else reply

    heard = calibrated_with(monkeypatch, sites, tamper=alone)
    assert [lag.others for lag in heard.values()] == [None, None]
    assert heard["east"].own.rows > 0
    state, journal, channel = federate(sites, CONFIG, tamper=alone)
    assert state.moments is None
    assert "moments: of fewer than 2 plants, so nothing is shared" in rounds(journal, "moments")[0].reason
    assert "lag_moments" not in next(p for p in channel.sent if p.texts["kind"] == Kind.CALIBRATE).arrays


def test_where_the_recipe_wants_no_moments_none_are_summed(monkeypatch: pytest.MonkeyPatch) -> None:
    config = plants.settings(rounds={"pretrain": 1, "joint": 0}, recipe={"lag": {"on": False}})
    assert set(calibrated_with(monkeypatch, trio(), config=config).values()) == {None}
    state, _, channel = federate(trio(), config)
    assert state.moments is None
    assert Kind.MOMENTS not in {packet.texts["kind"] for packet in channel.sent}


def test_moments_are_asked_for_anew_before_every_calibration() -> None:
    config = plants.settings(rounds={"pretrain": 1, "joint": 3, "calibrate_every": 1})
    _, journal, _ = federate(trio()[:2], config)
    labels = [r.label for r in journal.records if r.label.startswith(("moments", "calibrate"))]
    assert labels == ["moments 1", "calibrate 1", "moments 2", "calibrate 2", "moments", "calibrate"]
    sums = [s.moments.vector_Q.tobytes() for s in journal.states if s.moments is not None]
    assert len(set(sums)) == 1  # of the same rows


# ---- one plant's own part --------------------------------------------------------------------------------------------


def test_a_plants_share_is_taken_out_as_it_was_counted() -> None:
    here, there = (own_moments(made, CONFIG.recipe) for made in prepared(trio()[:2]))
    total = LagSum((here * 0.25 + there).vector_Q, {tag("r", "east"): 0.25, tag("r", "north"): 1.0})
    np.testing.assert_allclose(without(total, here, tag("r", "east")).vector_Q, there.vector_Q, atol=1e-8)
    np.testing.assert_allclose(without(total, here, tag("r", "new")).vector_Q, total.vector_Q)


def test_of_a_sum_that_ones_own_part_does_not_fit_nothing_is_believed() -> None:
    here, there = (own_moments(made, CONFIG.recipe) for made in prepared(trio()[:2]))
    total = LagSum((here + there).vector_Q, {tag("r", "east"): 1.0, tag("r", "north"): 1.0})
    assert without(total, here, tag("r", "east")) is not None
    assert without(total, here * 5.0, tag("r", "east")) is None  # its rows are others now
    assert without(total, here + there, tag("r", "east")) is None


def test_tags_that_stand_at_nothing_elsewhere_are_left_at_nothing() -> None:
    """What a large part of one's own leaves of them by rounding is no spread."""
    rng = np.random.default_rng(0)
    here, still = rng.normal(size=(5000, 3)) * 10, rng.normal(size=(200, 3))
    still[:, 1] = 0.0
    own, there = moments(here, lags=2), moments(still, lags=2)
    left = without(LagSum((there + own).vector_Q, {"a": 1.0, "b": 1.0}), own, "a")
    np.testing.assert_allclose(left.matrix_PP, there.matrix_PP, atol=1e-6)
    assert (left.matrix_PP[2::3] == 0).all()


@pytest.mark.parametrize("harm", ["short", "rows", "squares"])
def test_a_sum_that_no_rows_have_is_refused_by_the_plant(harm: str) -> None:
    made = prepared(trio())[0]
    vector_Q = np.array(own_moments(made, CONFIG.recipe).vector_Q) * 2
    harmed = {"short": vector_Q[:-1], "rows": vector_Q * -1, "squares": vector_Q * ([1] + [500] * (len(vector_Q) - 1))}
    with pytest.raises(BadPayload):
        lag_of("r", LagSum(harmed[harm], {"0" * 16: 1.0, "1" * 16: 1.0}), made, CONFIG.recipe)
    off = plants.settings(recipe={"lag": {"on": False}}).recipe
    with pytest.raises(BadPayload, match="does not ask for"):
        lag_of("r", LagSum(vector_Q, {"0" * 16: 1.0}), made, off)


# ---- hostile plants --------------------------------------------------------------------------------------------------


def lying(change: object) -> plants.Tamper:
    def tamper(plant: str, reply: Packet) -> Packet:
        if plant != "south" or reply.texts["kind"] != Kind.MOMENTS:
            return reply
        vector_Q = np.frombuffer(reply.arrays["moments"].data[-8 * 91 :], "<f8")
        return changed(reply, arrays={"moments": encode_array(change(vector_Q))})  # type: ignore[operator]

    return tamper


@pytest.mark.parametrize(
    ("change", "telling"),
    [
        (lambda v: np.where(np.arange(len(v)) == 7, np.nan, v), "not finite"),
        (lambda v: v * 1000, "rows came; 0 to"),
        (lambda v: v + ([0.0] + [1e3] * 12 + [0.0] * 78), "Cauchy and Schwarz"),
        (lambda v: v * ([1.0] + [1e4] * 90), "within 20"),
        (lambda v: v[:-1], "moments: shape"),
        (lambda v: v.astype(np.float32), "dtype <f4"),
    ],
    ids=["NaN", "rows", "means", "squares", "shape", "float32"],
)
def test_hostile_moments_are_rejected_by_name_and_the_others_are_summed(change: object, telling: str) -> None:
    sites = trio()
    state, journal, _ = federate(sites, CONFIG, tamper=lying(change))
    [record] = rounds(journal, "moments")
    [report] = record.rejected
    assert (report.plant, telling in (report.reason or "")) == ("south", True), report.reason
    assert record.accepted == ("east", "north")
    np.testing.assert_allclose(of(state.moments).vector_Q, pooled(sites[:2]).vector_Q, atol=1e-8)


def test_a_plant_that_claims_rows_beyond_the_cap_counts_for_less() -> None:
    sites = [*trio(), site("west", 4, 100)]
    config = plants.settings(rounds={"pretrain": 1, "joint": 0, "weight_cap": 1.2})
    state, journal, _ = federate(sites, config)
    share = state.moments.shares[tag("test", "north")]
    assert 0 < share < 1
    assert {s for name, s in state.moments.shares.items() if name != tag("test", "north")} == {1.0}
    parts = [own_moments(made, config.recipe) for made in prepared(sites, config)]
    expected = parts[0] + parts[1] * share + parts[2] + parts[3]
    np.testing.assert_allclose(state.moments.vector_Q, expected.vector_Q, atol=1e-8)
    assert rounds(journal, "moments")[0].reason == "moments: 1 of 4 plants claim more rows than count"


def test_plants_that_refuse_do_not_fail_the_run() -> None:
    """A policy of an older plant does not know the kind. After the skips that a run bears, they go without."""

    def refusing(plant: str, reply: Packet) -> Packet:
        refused = {**reply.texts, "refused": "CP-603 kind"}
        return replace(reply, arrays={}, texts=refused) if reply.texts["kind"] == Kind.MOMENTS else reply

    state, journal, channel = federate(trio(), CONFIG, tamper=refusing)
    asked = rounds(journal, "moments")
    assert [record.status.value for record in asked] == ["skipped", "skipped", "committed"]
    assert asked[0].rejected[0].reason == "refused by the plant: CP-603 kind"
    assert asked[2].reason == "0 of 3 plants counted, the quorum is 2; plants calibrate without the others' moments"
    assert (journal.records[-1].label, journal.records[-1].status.value) == ("calibrate", "committed")
    assert (state.moments, state.skips) == (None, 0)
    assert "lag_moments" not in channel.sent[-1].arrays


# ---- stopped and resumed ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", ["refine 3/3", "moments"])
def test_a_run_that_was_killed_goes_on_with_the_same_bits(label: str, tmp_path: Path) -> None:
    """Before the moments are kept, or after: from what the store holds, by new processes."""
    sites = trio()
    whole, journal, channel = federate(sites, CONFIG)
    stop = next(i for i, record in enumerate(journal.records) if record.label == label) + 1
    with RoundStore.create(str(tmp_path)) as store:
        store.start_run("test", CONFIG)
        for record, state in zip(journal.records[:stop], journal.states, strict=False):
            store.commit(record, state)
    read = RoundStore.open(str(tmp_path)).latest_state("test")
    assert (read.moments is None) == (label != "moments")
    resumed = Loopback([PlantAgent(one) for one in sites])
    again = Coordinator(CONFIG, resumed, Memory(), clock=resumed.clock).run(read)
    assert again.moments.vector_Q.tobytes() == whole.moments.vector_Q.tobytes()
    assert again.moments.shares == whole.moments.shares
    assert resumed.sent[-1].arrays == channel.sent[-1].arrays  # what plants calibrate with
    assert "lag_moments" in resumed.sent[-1].arrays
