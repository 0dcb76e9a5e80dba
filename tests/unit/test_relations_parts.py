"""Relations by operating mode, part by part: what is learnt from what, and when a controller is believed again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from shared.relations import Fitted, fit, fitting
from shared.relations.blocks import Blocks
from shared.relations.hazards import CODES, FLOOR, Beliefs
from shared.relations.repeats import Repeats
from shared.series import BoolArray
from tests.unit.test_headed import relations
from tests.unit.test_relations import PERIOD_S, tank

CUT, PATIENCE = 5.0, 3

# ---- belief ----------------------------------------------------------------------------------------------------------


def suspicion(codes: list[int], stays: float = 0.0, switches: dict[int, float] | None = None) -> list[float]:
    """Ratios of one tag. A switch is a surprise of 9, in the blocks of `switches` another one; to stay of `stays`."""
    surprise_nJAA = np.full((len(codes), 1, CODES, CODES), 9.0)
    for n, value in (switches or {}).items():
        surprise_nJAA[n] = value
    surprise_nJAA[:, :, range(CODES), range(CODES)] = stays
    return Beliefs(np.array([CUT]), PATIENCE).take(np.array(codes)[:, None], surprise_nJAA)[:, 0].tolist()


def test_a_code_that_nothing_explains_is_believed_when_patience_is_out() -> None:
    raised = PATIENCE + 1  # the switch itself, and as many blocks as patience has
    assert suspicion([0, *[1] * 8]) == [0.0, *[1.8] * raised, *[0.0] * (8 - raised)]


def test_it_is_believed_at_once_when_the_believed_one_would_switch_as_well() -> None:
    """At block 3, by what block 2 looked like: a probability of e^-1."""
    assert suspicion([0, 1, 1, 1, 1], switches={2: 1.0}) == [0.0, 1.8, 1.8, 0.0, 0.0]


def test_a_little_surprise_that_nothing_happens_fades_and_moves_no_belief() -> None:
    found = suspicion([0] * 400, stays=0.1)
    assert 0.8 < max(found) < 1.0
    assert found[-1] == pytest.approx(found[-100], rel=0.01)
    assert max(suspicion([0] * 40, stays=1.0)) == 1.8


def test_what_never_happened_has_the_least_probability() -> None:
    hazards = relations().hazards
    share_RNA = hazards.share_RNA.copy()
    share_RNA[:, :, 2] = 0.0
    (surprise_JAA,) = replace(hazards, share_RNA=share_RNA).surprises(np.zeros((1, 3)))
    assert surprise_JAA[0, 1, 2] == pytest.approx(-np.log(FLOOR))
    assert surprise_JAA[0, 1, 3] == pytest.approx(np.log(CODES))


def test_a_repeat_from_just_as_long_ago_as_is_remembered_is_none() -> None:
    """Its place in the ring is that of the new values: it would be compared with itself."""
    fresh_T = np.random.default_rng(0).random(200).astype(np.float32)
    assert not Repeats(np.full((1, 1), np.nan), 80).take(fresh_T[:, None, None])[:, 0].any()
    twice_T = np.concatenate([fresh_T[:80], fresh_T[:80]])
    assert not Repeats(np.full((1, 1), np.nan), 80).take(twice_T[:, None, None])[:, 0].any()


# ---- fitting ---------------------------------------------------------------------------------------------------------


def test_a_block_is_followed_within_its_recording_and_its_part_only() -> None:
    none = Blocks(*[np.empty(0)] * len(Blocks._fields))
    part_n, recording_n = np.array([0, 0, 1, 1, 1, 1]), np.array([0, 0, 0, 0, 1, 1])
    settled_n = np.array([True, True, True, True, False, True])
    found = fitting._Normal(none, np.empty(0), part_n, recording_n, settled_n)
    assert found.follows_n.tolist() == [True, False, True, False, False, False]


def test_a_cut_lies_above_all_surprises_of_normal_switches() -> None:
    assert fitting._cut(np.array([[6.0, 1.0], [5.0, 2.0]])).tolist() == [6.5, 5.0]


def test_the_newest_blocks_are_learnt_from_and_each_part_is_judged_by_the_other_three(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counts: list[int] = []
    follows: list[BoolArray] = []
    surprises: list[np.ndarray] = []
    ridge, grow_hazards, cut = fitting.ridge, fitting.grow_hazards, fitting._cut

    def solving(xx_PP: np.ndarray, xy_PO: np.ndarray, count: int) -> np.ndarray:
        counts.append(count)
        return ridge(xx_PP, xy_PO, count)

    def growing(control_nK: np.ndarray, stable_nJ: np.ndarray, follows_n: BoolArray) -> object:
        follows.append(follows_n)
        return grow_hazards(control_nK, stable_nJ, follows_n)

    def cutting(surprise_KJ: np.ndarray) -> np.ndarray:
        surprises.append(surprise_KJ)
        return cut(surprise_KJ)

    monkeypatch.setattr(fitting, "_MOST_BLOCKS", 10_400)
    monkeypatch.setattr(fitting, "ridge", solving)
    monkeypatch.setattr(fitting, "grow_hazards", growing)
    monkeypatch.setattr(fitting, "_cut", cutting)
    made = fit(tank(22_000, 1), period_s=PERIOD_S)
    assert isinstance(made, Fitted)
    first, settled = 22_000 - 2 * 10_400, 10_400 - 60
    assert np.isnan(made.scores_T[: first + 100]).all()
    assert np.isfinite(made.scores_T[first + 200 :]).all()
    assert counts == [settled - (2600 - 60), *[settled - 2600] * 3, settled]
    part_n = np.arange(10_400) * 4 // 10_400
    for part, follows_n in enumerate(follows[:4]):
        assert not follows_n[part_n == part].any()
        assert follows_n[part_n != part].sum() > 7000
    assert len(surprises[0]) == 4
    for part, others in enumerate(surprises[1:]):
        np.testing.assert_array_equal(others, np.delete(surprises[0], part, axis=0))
    assert len(surprises) == 5
