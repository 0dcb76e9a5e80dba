"""Files played back: columns by name, times, hostile lines, pace."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from client.edge.records import Notice, Sample
from client.edge.sources.base import SourceSettings, open_source
from client.edge.sources.rows import read_time
from shared.errors import CrossplantError, DataNotFound, DataUnreadable, InvalidConfig, SchemaMismatch
from shared.schema import SensorSchema

SCHEMA = SensorSchema(tags=("LIT101", "FIT101", "P101"), period_s=1.0)


def play(
    path: Path, speed: float | None = None, schema: SensorSchema = SCHEMA, **options: str
) -> tuple[list[Sample], list[Notice]]:
    async def run() -> list[Sample | Notice]:
        async with open_source(SourceSettings(str(path), schema, speed, options)) as source:
            return [item async for item in source]

    items = asyncio.run(run())
    return [x for x in items if isinstance(x, Sample)], [x for x in items if isinstance(x, Notice)]


def write(path: Path, *lines: str | bytes) -> Path:
    path.write_bytes(b"\n".join(line if isinstance(line, bytes) else line.encode() for line in lines) + b"\n")
    return path


def values(samples: Sequence[Sample]) -> list[list[float]]:
    return [sample.values_D.tolist() for sample in samples]


def kinds(notices: Sequence[Notice]) -> list[str]:
    return [notice.kind for notice in notices]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_columns_are_found_by_name_in_any_order(tmp_path: Path, delimiter: str) -> None:
    rows = ("timestamp,P101, FIT101 ,label,LIT101", "60,1,2.5,Normal,3", "61,0,,Attack,4")
    samples, notices = play(write(tmp_path / "a.csv", *(row.replace(",", delimiter) for row in rows)))
    np.testing.assert_array_equal(values(samples), [[3, 2.5, 1], [4, np.nan, 0]])
    assert [(sample.time, sample.number) for sample in samples] == [(60.0, 0), (61.0, 1)]
    assert kinds(notices) == ["columns", "ended"]
    assert "label" in notices[0].text
    assert "2 rows" in notices[1].text


def test_a_byte_order_mark_decimal_commas_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    samples, _ = play(write(tmp_path / "a.csv", b"\xef\xbb\xbfLIT101;FIT101;P101\r", b"1,5;-2,25;0\r"))
    assert values(samples) == [[1.5, -2.25, 0.0]]


def test_without_times_rows_are_a_period_apart(tmp_path: Path) -> None:
    schema = SensorSchema(tags=SCHEMA.tags, period_s=60.0)
    samples, _ = play(write(tmp_path / "a.csv", "LIT101,FIT101,P101", "1,2,3", "1,2,3"), schema=schema)
    assert [sample.time for sample in samples] == [0.0, 60.0]


def test_a_column_of_times_may_be_named_and_its_layout_given(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "when,LIT101,FIT101,P101", "28/12/2015 10:00:01 AM,1,2,3")
    samples, _ = play(path, time="when", time_format="%d/%m/%Y %I:%M:%S %p")
    assert samples[0].time == 1451296801.0
    with pytest.raises(InvalidConfig, match="no column 'then'"):
        play(path, time="then")
    with pytest.raises(InvalidConfig, match="no option 'tim'"):
        play(path, tim="when")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1700000000", 1.7e9), ("1700000000.25", 1700000000.25), ("1700000000250", 1700000000.25),
     ("1700000000250000000", 1700000000.25), ("2023-11-14T22:13:20Z", 1.7e9), ("2023-11-14 22:13:20", 1.7e9),
     ("2023-11-14T23:13:20+01:00", 1.7e9)],
)  # fmt: skip
def test_times_are_numbers_or_iso(text: str, seconds: float) -> None:
    assert read_time(text) == pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize("text", ["", "nan", "inf", "-1", "yesterday", "1e30", "9999-01-01", "14/11/2023"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        read_time(text)


def test_a_missing_tag_is_told_and_more_than_half_are_refused(tmp_path: Path) -> None:
    samples, notices = play(write(tmp_path / "a.csv", "LIT101,P101", "1,2"))
    np.testing.assert_array_equal(values(samples), [[1, np.nan, 2]])
    assert "FIT101" in notices[0].text
    with pytest.raises(SchemaMismatch, match="lacks 2 of 3 tags: FIT101, P101"):
        play(write(tmp_path / "b.csv", "LIT101,x,y", "1,2,3"))
    with pytest.raises(SchemaMismatch, match="more than one column 'LIT101'"):
        play(write(tmp_path / "c.csv", "LIT101,LIT101,FIT101,P101", "1,2,3,4"))


def test_hostile_lines_are_counted_and_the_others_are_played(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.csv",
        "time,LIT101,FIT101,P101",
        "1,1,1,1",
        "2,1,1",
        "x,1,1,1",
        '3,"1,1,1',
        b"4,\xff\xfe,1e999,nan",
        "",
        "5," + "9" * 400 + ",bad,-inf",
        "6," * 100_000,
        "7,1,1,1",
    )
    samples, notices = play(path)
    assert [sample.time for sample in samples] == [1.0, 4.0, 5.0, 7.0]
    assert np.isfinite(samples[-1].values_D).all()
    assert not np.isfinite(samples[1].values_D).any()
    assert not np.isfinite(samples[2].values_D).any()
    assert kinds(notices) == ["rejected", "ended"]
    assert "4 rejected" in notices[-1].text
    assert "2 cells are no numbers" in notices[-1].text


def test_a_line_without_an_end_takes_no_memory_and_the_next_is_played(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "LIT101,FIT101,P101", b"1," * (5 * 2**20), "1,2,3")
    samples, notices = play(path)
    assert values(samples) == [[1.0, 2.0, 3.0]]
    assert "longer than" in notices[0].text


def test_time_that_stands_or_goes_back_is_told_and_a_jump_begins_a_recording(tmp_path: Path) -> None:
    times = [100, 101, 101, 100.5, 102, 200, 201, 50, 51]
    path = write(tmp_path / "a.csv", "time,LIT101,FIT101,P101", *(f"{time},1,2,3" for time in times))
    samples, notices = play(path)
    assert [sample.time for sample in samples] == times  # No sample that arrived is lost.
    assert kinds(notices) == ["clock", "gap", "gap", "ended"]


def test_a_million_columns_are_refused_in_a_moment(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", ",".join(f"c{i}" for i in range(300_000)))
    begun = time.monotonic()
    with pytest.raises(CrossplantError):
        play(path)
    assert time.monotonic() - begun < 5


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataNotFound):
        play(tmp_path / "nowhere.csv")
    with pytest.raises(DataUnreadable, match="is no file"):
        play(tmp_path)
    with pytest.raises(DataUnreadable, match="header"):
        play(write(tmp_path / "empty.csv"))
    with pytest.raises(DataUnreadable, match="Parquet"):
        play(write(tmp_path / "a.parquet", "no parquet"))
    with pytest.raises(InvalidConfig, match="speed"):
        play(write(tmp_path / "a.csv", "LIT101,FIT101,P101"), speed=-1.0)


def test_parquet_gives_the_same_samples_as_csv(tmp_path: Path) -> None:
    pl = pytest.importorskip("polars")
    frame = {"time": [10.0, 11.0], "P101": [True, False], "LIT101": [1.5, None], "FIT101": [2, 3]}
    pl.DataFrame(frame).write_parquet(tmp_path / "a.parquet")
    write(tmp_path / "a.csv", "time,P101,LIT101,FIT101", "10,1,1.5,2", "11,0,,3")
    one, other = play(tmp_path / "a.parquet")[0], play(tmp_path / "a.csv")[0]
    np.testing.assert_array_equal(values(one), values(other))
    assert [sample.time for sample in one] == [sample.time for sample in other]


def test_rows_come_at_their_time_and_a_long_hole_is_not_waited_for(tmp_path: Path) -> None:
    times = [0, 1, 2, 3, 4, 100_000, 100_001]
    path = write(tmp_path / "a.csv", "time,LIT101,FIT101,P101", *(f"{time},1,2,3" for time in times))
    begun = time.monotonic()
    samples, _ = play(path, speed=50.0)
    took = time.monotonic() - begun
    assert len(samples) == 7
    assert (4 + 10 + 1) / 50 <= took < 3  # 10 periods at most for the hole.


def test_a_number_as_python_writes_it_is_no_guess(tmp_path: Path) -> None:
    samples, notices = play(write(tmp_path / "a.csv", "time,LIT101,FIT101,P101", "10,1_000,1e3, 2 ", "1_1,1,2,3"))
    np.testing.assert_array_equal(values(samples), [[np.nan, 1000.0, 2.0]])
    assert "1 cells are no numbers" in notices[-1].text
    assert "1 rejected" in notices[-1].text


@pytest.mark.parametrize("line", ["", "not,a,row,of,this,table"])
def test_a_file_without_a_single_row_can_be_left(tmp_path: Path, line: str) -> None:
    path = write(tmp_path / "a.csv", "LIT101,FIT101,P101", *[line] * 300_000)

    async def run() -> float:
        source = open_source(SourceSettings(str(path), SCHEMA, None, {}))
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        task = asyncio.create_task(others())
        async with source:
            assert not [item async for item in source if isinstance(item, Sample)]
        task.cancel()
        return turns

    assert asyncio.run(run()) > 1000


def test_a_cell_without_an_end_says_so(tmp_path: Path) -> None:
    _, notices = play(write(tmp_path / "a.csv", "LIT101,FIT101,P101", "1,2," + "9" * 200_000, "1,2,3"))
    assert "a cell of more than" in notices[0].text


def test_a_damaged_parquet_file_is_one_clear_error_wherever_the_damage_is(tmp_path: Path) -> None:
    pl = pytest.importorskip("polars")
    path, rng = tmp_path / "a.parquet", np.random.default_rng(0)
    frame = {tag: rng.normal(size=500) for tag in SCHEMA.tags}
    pl.DataFrame({"time": np.arange(500.0), **frame}).write_parquet(path)
    whole, refused = path.read_bytes(), 0
    for _ in range(60):
        torn = bytearray(whole)
        for at in rng.integers(0, len(whole), 20):
            torn[at] = rng.integers(256)
        path.write_bytes(torn)
        try:
            play(path)
        except (DataUnreadable, SchemaMismatch):
            refused += 1
    assert refused > 10
