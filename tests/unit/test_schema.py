from __future__ import annotations

import time

import pytest

from shared.schema import SensorSchema, difference

BASE = SensorSchema(tags=("LIT101", "FIT101", "P101"), period_s=1.0)


def test_the_fingerprint_tells_schemas_apart_and_nothing_else() -> None:
    assert BASE.fingerprint == SensorSchema(tags=BASE.tags, period_s=1).fingerprint
    others = [
        SensorSchema(tags=("FIT101", "LIT101", "P101"), period_s=1),
        SensorSchema(tags=("LIT101", "FIT101"), period_s=1),
        SensorSchema(tags=BASE.tags, period_s=2),
        SensorSchema(tags=("LIT101,FIT101", "P101"), period_s=1),
    ]
    assert len({BASE.fingerprint, *(other.fingerprint for other in others)}) == 5


def test_it_survives_json() -> None:
    assert SensorSchema.parse(BASE.json) == BASE


@pytest.mark.parametrize(
    ("fields", "telling"),
    [
        ({"tags": ("a", "b", "a")}, "twice: a"),
        ({"tags": ()}, "length >= 1"),
        ({"tags": ("",)}, "length >= 1"),
        ({"tags": ("a" * 129,)}, "length <= 128"),
        ({"period_s": 0}, "> 0"),
        ({"period_s": float("inf")}, "finite"),
        ({"unit": "m"}, "unknown field `unit`"),
    ],
)
def test_what_is_no_schema(fields: dict[str, object], telling: str) -> None:
    with pytest.raises(ValueError, match=telling):
        SensorSchema.of({"tags": ("a", "b"), "period_s": 1.0} | fields)


def test_many_doubled_tags_are_found_quickly() -> None:
    tags = tuple(f"tag {i // 2}" for i in range(10_000))
    begin = time.process_time()
    with pytest.raises(ValueError, match="twice: tag 0"):
        SensorSchema(tags=tags, period_s=1)
    assert time.process_time() - begin < 0.5


@pytest.mark.parametrize(
    ("tags", "period_s", "said"),
    [
        (("LIT101", "FIT101", "P101"), 1.0, ""),
        (("LIT101", "P101"), 1.0, "sends 2 tags where the federation expects 3; missing FIT101"),
        (("LIT101", "FIT101", "P101", "X"), 1.0, "sends 4 tags where the federation expects 3; unknown X"),
        (("LIT101", "FIT101", "P102"), 1.0, "missing P101; unknown P102"),
        (("FIT101", "LIT101", "P101"), 1.0, "same tags in another order"),
        (("LIT101", "FIT101", "P101"), 0.5, "samples every 0.5 s where the federation expects 1 s"),
    ],
)
def test_the_difference_in_words(tags: tuple[str, ...], period_s: float, said: str) -> None:
    assert difference(BASE, SensorSchema(tags=tags, period_s=period_s)) == said


def test_a_long_difference_is_cut() -> None:
    many = SensorSchema(tags=tuple(f"t{i}" for i in range(20)), period_s=1)
    assert "missing t0, t1, t2, t3, t4 ..." in difference(many, BASE)
