"""A plant's own exports: every way that times, numbers and files come out of a process historian."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from client.ingest.base import find, known, load
from client.ingest.historian.timeline import SECOND, Rows, each_once, on_grid, split, without_attacks
from shared.errors import CrossplantError, DataNotFound, DataUnreadable, InvalidConfig, TooFewRows
from shared.series import SiteData
from tests.conftest import real

START = datetime(2024, 3, 5, 6, 0)
ISO = "%Y-%m-%d %H:%M:%S"


def stamps(rows: int, step_s: float = 60, layout: str = ISO, start: datetime = START) -> list[str]:
    return [f"{start + timedelta(seconds=step_s * row):{layout}}" for row in range(rows)]


def write(
    path: Path,
    times: Sequence[str],
    cells: Callable[[int], str] = lambda row: f"{row}.5,{row}",
    header: str = "time,a,b",
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    mark = ";" if ";" in header else ","
    lines = [header, *(f"{stamp}{mark}{cells(row)}" for row, stamp in enumerate(times))]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def one(path: Path) -> SiteData:
    (site,) = load("historian", path)
    return site


def notes(site: SiteData) -> list[str]:
    return [str(note) for note in site.repairs]


def settings(folder: Path, text: str) -> None:
    (folder / "historian.toml").write_text(text, encoding="utf-8")


def test_the_real_export_and_its_faults(data_root: Path) -> None:
    path = real(data_root, "petrobras")
    found = find("historian").recognise(path)
    assert found is not None
    assert [file.path.name for file in found.files] == ["real_process_data.csv"]
    site = one(path)
    assert (site.name, site.train_TD.shape, site.test_TD.shape, site.labels_T) == (
        "petrobras",
        (3_169, 108),
        (0, 108),
        None,
    )
    assert (site.schema.period_s, site.train_starts) == (300, (0,))
    assert "2017-12-24 00:00:00 to 2018-01-04 00:00:00" in site.source
    assert notes(site) == [
        "tag2: no reading but 'Inp OutRange': missing (156)",
        "tag34: no reading but 'Bad': missing (14)",
        "tag36: no reading but 'Scan Timeout': missing (1)",
        "tag70: no reading but 'Bad': missing (326)",
        "tag72: no reading but 'Scan Timeout': missing (1)",
    ]
    assert int(np.isnan(site.train_TD).sum()) == 498
    assert np.isnan(site.train_TD[0, 2])
    assert site.train_TD[1, :3].tolist() == pytest.approx([0.6147, 1.164, -0.047])


def test_every_real_folder_is_recognised_by_its_own_loader_and_no_other(data_root: Path) -> None:
    own = {"telemanom": {"msl", "smap"}, "petrobras": set()}
    for folder in ("telemanom", "batadal", "skab", "tep", "secom", "petrobras"):
        path = real(data_root, folder)
        by = {name for name in known() if name != "historian" and find(name).recognise(path) is not None}
        assert by == own.get(folder, {folder})


@pytest.mark.parametrize(
    "layout",
    [
        "%Y-%m-%d %H:%M:%S",
        "%Y-%m-%dT%H:%M:%S",
        "%Y-%m-%d %H:%M:%S.%f",
        "%Y-%m-%dT%H:%M:%SZ",
        "%Y-%m-%dT%H:%M:%S+00:00",
        "%Y/%m/%d %H:%M",
        "%d/%m/%Y %H:%M:%S",
        "%m/%d/%Y %I:%M:%S %p",
        "%d.%m.%Y %H:%M",
        "%d-%b-%Y %H:%M:%S",
        "%d-%b-%y %H:%M:%S",
        "%d/%m/%y %H:%M",
        "%m-%d-%Y %H:%M",
    ],
)
def test_times_are_found_in_many_formats(tmp_path: Path, layout: str) -> None:
    start = datetime(2024, 3, 12, 6)  # day 13 follows: the order of day and month shows
    site = one(
        write(tmp_path / "a.csv", stamps(60, 3_600, layout, start), lambda row: f"{row},x", "when,level,comment")
    )
    assert site.schema.tags == ("level",)
    assert (site.schema.period_s, len(site.train_TD), site.train_starts) == (3_600, 60, (0,))
    assert "2024-03-12 06:00:00 to 2024-03-14 17:00:00" in site.source
    assert site.train_TD[:, 0].tolist() == list(range(60))


@pytest.mark.parametrize(("factor", "shown"), [(1, "s"), (1_000, "ms"), (1_000_000, "us")])
def test_counted_times_are_found(tmp_path: Path, factor: int, shown: str) -> None:
    first = int(START.replace(tzinfo=UTC).timestamp())
    site = one(write(tmp_path / "a.csv", [str((first + 10 * row) * factor) for row in range(50)]))
    assert (site.schema.period_s, site.schema.tags) == (10, ("a", "b"))
    assert "2024-03-05 06:00:00 to" in site.source


def test_offsets_become_utc(tmp_path: Path) -> None:
    times = [f"{START + timedelta(minutes=row):%Y-%m-%d %H:%M:%S}+02:00" for row in range(10)]
    assert "2024-03-05 04:00:00 to 2024-03-05 04:09:00" in one(write(tmp_path / "a.csv", times)).source


def test_date_and_time_of_day_in_two_columns(tmp_path: Path) -> None:
    times = stamps(60, 60, "%d/%m/%Y,%H:%M:%S", datetime(2024, 3, 13, 6))
    site = one(write(tmp_path / "a.csv", times, header="Date,Time,a,b"))
    assert (site.schema.tags, site.schema.period_s) == (("a", "b"), 60)


def test_times_in_a_later_column_and_tags_that_look_like_times(tmp_path: Path) -> None:
    rows = [f"{row},{1_700_000_000 + row},{stamp},{row}.25" for row, stamp in enumerate(stamps(30))]
    (tmp_path / "a.csv").write_text("\n".join(["row,x,counter,y", *rows]).replace("counter", "when") + "\n", "utf-8")
    settings(tmp_path, 'time = "when"')
    assert one(tmp_path / "a.csv").schema.tags == ("row", "x", "y")


def test_day_and_month_are_told_apart_by_the_rows_or_refused(tmp_path: Path) -> None:
    """From 4 to 6 March either order parses; only one of them makes three days in a row."""
    days = write(tmp_path / "a.csv", stamps(72, 3_600, "%d/%m/%Y %H:%M:%S", datetime(2024, 3, 4)))
    site = one(days)
    assert "2024-03-04 00:00:00 to 2024-03-06 23:00:00" in site.source
    assert any("times read as %d/%m/%Y %H:%M:%S" in note for note in notes(site))
    american = write(tmp_path / "b.csv", stamps(72, 3_600, "%m/%d/%Y %H:%M:%S", datetime(2024, 3, 4)))
    assert "2024-03-04 00:00:00 to 2024-03-06 23:00:00" in one(american).source
    single = write(tmp_path / "c.csv", stamps(20, 3_600, "%d/%m/%Y %H:%M:%S", datetime(2024, 3, 5)))
    with pytest.raises(DataUnreadable, match="the rows do not tell") as caught:
        one(single)
    assert "time_format" in str(caught.value)
    settings(tmp_path, 'time_format = "%m/%d/%Y %H:%M:%S"')
    assert "2024-05-03 00:00:00" in one(single).source
    settings(tmp_path, 'time_format = "%Y"')
    with pytest.raises(InvalidConfig, match="is no time like %Y"):
        one(single)


def test_semicolons_and_decimal_commas(tmp_path: Path) -> None:
    site = one(write(tmp_path / "a.csv", stamps(20), lambda row: f'{row},5;"1.00{row % 10},25";', "Zeit;a;b;"))
    assert site.schema.tags == ("a", "b")
    assert site.train_TD[3].tolist() == [3.5, 1003.25]
    assert notes(site) == ["column4: holds nothing at all: left out (20)"]


def test_a_point_beside_decimal_commas_is_no_number(tmp_path: Path) -> None:
    """1.234 may be a thousand or a fraction."""
    site = one(write(tmp_path / "a.csv", stamps(20), lambda row: "1.234;0,5" if row == 7 else f"{row},5;0,5", "t;a;b"))
    assert np.flatnonzero(np.isnan(site.train_TD[:, 0])).tolist() == [7]
    assert notes(site) == ["a: no reading but '1.234': missing (1)"]


def test_quality_strings_are_missing_and_text_is_left_out(tmp_path: Path) -> None:
    def cells(row: int) -> str:
        level, flow = "Inp OutRange" if row % 2 else row, "weird" if row == 3 else row
        return f"{level},{'Running' if row else 7},I/O Timeout,{flow}"

    site = one(write(tmp_path / "a.csv", stamps(20), cells, "t,level,mode,dead,flow"))
    assert site.schema.tags == ("level", "flow")
    assert notes(site) == [
        "level: no reading but 'Inp OutRange': missing (10)",
        "mode: mostly text, such as 'Running': left out; states in historian.toml make numbers of words (19)",
        "dead: holds nothing but 'I/O Timeout': left out (20)",
        "flow: no reading but 'weird': missing (1)",
    ]
    assert np.isnan(site.train_TD[1, 0])


def test_settings_make_numbers_of_words(tmp_path: Path) -> None:
    def cells(row: int) -> str:
        return f"{'OPEN' if row % 2 else 'CLOSED'},{'on' if row % 3 else 'tripped'},{row}"

    path = write(tmp_path / "a.csv", stamps(20), cells, "t,MV101,P101,x")
    settings(
        tmp_path,
        'quality = ["tripped"]\nleave_out = ["x"]\nname = "north"\n[units]\nMV101 = "position"\n'
        '[states]\nMV101 = {OPEN = 2, CLOSED = 1}\n"*" = {on = 1}\n',
    )
    site = one(path)
    assert (site.name, site.schema.tags) == ("north", ("MV101", "P101"))
    assert site.train_TD[:3, 0].tolist() == [1, 2, 1]
    assert np.isnan(site.train_TD[0, 1])
    assert site.source.endswith("MV101 in position")


def test_months_are_laid_in_order_of_time_not_of_names(tmp_path: Path) -> None:
    write(tmp_path / "april.csv", stamps(30, 60, start=START + timedelta(minutes=30)), lambda row: f"{30 + row},1")
    write(tmp_path / "march.csv", stamps(30), lambda row: f"{row},1")
    site = one(tmp_path)
    assert site.train_TD[:, 0].tolist() == list(range(60))
    assert (site.name, site.train_starts, site.repairs) == (tmp_path.name.replace("_", "_"), (0,), ())


def test_files_that_overlap_or_lack_tags_are_said(tmp_path: Path) -> None:
    write(tmp_path / "1.csv", stamps(30), lambda row: f"{row},1")
    write(tmp_path / "2.csv", stamps(30, start=START + timedelta(minutes=20)), lambda row: f"{20 + row}", "time,a")
    site = one(tmp_path)
    assert site.train_TD[:, 0].tolist() == list(range(50))
    assert np.isnan(site.train_TD[20:, 1]).all()
    said = " / ".join(notes(site))
    assert "2.csv: lacks 1 tags (b): missing there (30)" in said
    assert "files that overlap: times go back: sorted" in said
    assert (
        "rows with the time of another but other readings, first at 2024-03-05 06:20:00: the last one counts (10)"
        in said
    )


def test_folders_are_plants_and_keep_their_own_settings(tmp_path: Path) -> None:
    write(tmp_path / "south" / "a.csv", stamps(20))
    write(tmp_path / "north" / "a.csv", stamps(20))
    write(tmp_path / "plant 10" / "a.csv", stamps(20))
    (tmp_path / "notes.md").write_text("nothing", "utf-8")
    settings(tmp_path / "south", "period_s = 120")
    settings(tmp_path, 'leave_out = ["b"]')
    sites = load("historian", tmp_path)
    assert [site.name for site in sites] == ["north", "plant-10", "south"]
    assert [site.schema.dim for site in sites] == [1, 1, 2]
    assert [site.schema.period_s for site in sites] == [60, 60, 120]
    settings(tmp_path, 'name = "one"')
    with pytest.raises(InvalidConfig, match="two plants are called 'one'"):
        load("historian", tmp_path)


def test_times_that_go_back_are_sorted_and_the_line_is_said(tmp_path: Path) -> None:
    times = stamps(30)
    path = write(tmp_path / "a.csv", times[:10] + times[20:] + times[10:20])
    site = one(path)
    assert site.train_TD[:, 1].tolist() == [*range(10), *range(20, 30), *range(10, 20)]
    assert notes(site) == [
        "a.csv: times go back: sorted, first in line 22 (2024-03-05 06:10:00 after 2024-03-05 06:29:00) (1)"
    ]


def test_newest_first_is_turned(tmp_path: Path) -> None:
    site = one(write(tmp_path / "a.csv", stamps(30)[::-1]))
    assert site.train_TD[:, 1].tolist() == list(range(29, -1, -1))
    assert "newest row first: turned" in notes(site)[0]


def test_duplicates_equal_and_contradictory(tmp_path: Path) -> None:
    times = stamps(20)
    rows = [*range(5), 4, *range(5, 20)]
    path = write(tmp_path / "a.csv", [times[row] for row in [*rows, 19]], lambda at: f"{[*rows, 99][at]},1")
    site = one(path)
    assert site.train_TD[:, 0].tolist() == [*range(19), 99]
    assert notes(site) == [
        "a: rows that repeat the row before them: left out (1)",
        "a: rows with the time of another but other readings, first at 2024-03-05 06:19:00: the last one counts (1)",
    ]


def test_gaps_are_missing_rows_and_long_ones_begin_a_recording(tmp_path: Path) -> None:
    minutes = [*range(10), *range(13, 20), *range(100, 110)]
    times = [f"{START + timedelta(minutes=minute):{ISO}}" for minute in minutes]
    path = write(tmp_path / "a.csv", times, lambda row: f"{minutes[row]},1")
    site = one(path)
    assert site.train_starts == (0, 20)
    expected = [*range(10), *[float("nan")] * 3, *range(13, 20), *range(100, 110)]
    assert np.array_equal(site.train_TD[:, 0], np.array(expected, np.float32), equal_nan=True)
    assert notes(site)[-1] == "a: pauses longer than 600 s (the longest 4860 s): a new recording begins after each (1)"
    settings(tmp_path, "max_gap_s = 6000")
    assert len(one(path).train_TD) == 110
    settings(tmp_path, "max_gap_s = 120")
    assert one(path).train_starts == (0, 10, 17)


def test_jitter_moves_no_row_to_another_slot(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    late_s = rng.uniform(-0.4, 0.4, 200)
    late_s[0] = 0
    times = [f"{START + timedelta(seconds=row + late_s[row]):%Y-%m-%d %H:%M:%S.%f}" for row in range(200)]
    site = one(write(tmp_path / "a.csv", times))
    assert site.schema.period_s == 1
    assert site.train_TD[:, 1].tolist() == list(range(200))


def test_a_longer_period_takes_the_last_reading_and_never_a_later_one(tmp_path: Path) -> None:
    settings(tmp_path, "period_s = 60")
    site = one(write(tmp_path / "a.csv", stamps(601, 1)))
    assert site.train_TD[:, 1].tolist() == list(range(0, 601, 60))
    settings(tmp_path, "period_s = 0.001\nmax_gap_s = 10")
    with pytest.raises(InvalidConfig, match="601 rows would become 600001"):
        one(tmp_path / "a.csv")


@pytest.mark.parametrize("newest_first", [False, True])
def test_an_hour_that_comes_twice_is_kept_when_the_zone_is_known(tmp_path: Path, newest_first: bool) -> None:
    """27 October 2024 in Berlin: from 00:30 to 04:30 are five hours of half-hours on the clock, but six in truth."""
    begin = datetime(2024, 10, 26, 22, 30, tzinfo=UTC)
    local = [begin + timedelta(minutes=30 * row) for row in range(13)]
    shown = [f"{at + timedelta(hours=2 if at < datetime(2024, 10, 27, 1, tzinfo=UTC) else 1):{ISO}}" for at in local]
    assert len(set(shown)) == 11
    order = slice(None, None, -1 if newest_first else 1)
    rows = list(range(13))[order]
    path = write(tmp_path / "a.csv", shown[order], lambda at: f"{rows[at]},1")
    naive = one(path)
    assert len(naive.train_TD) == 11
    settings(tmp_path, 'timezone = "Europe/Berlin"')
    zoned = one(path)
    assert zoned.train_TD[:, 0].tolist() == list(range(13))
    assert zoned.schema.period_s == 1_800
    assert "2024-10-26 22:30:00 to 2024-10-27 04:30:00" in zoned.source


def test_clocks_set_back_without_a_zone_are_pointed_out(tmp_path: Path) -> None:
    times = stamps(180) + stamps(120, start=START + timedelta(hours=2))
    site = one(write(tmp_path / "a.csv", times))
    assert "times go back an hour, as when clocks are set back: sorted; set timezone" in notes(site)[0]


def test_times_that_never_were_are_left_out(tmp_path: Path) -> None:
    times = stamps(12, 1_800, start=datetime(2024, 3, 31))
    path = write(tmp_path / "a.csv", times)
    settings(tmp_path, 'timezone = "Europe/Berlin"')
    site = one(path)
    said = "a.csv: times that never were in Europe/Berlin, when clocks are set forward: left out (2)"
    assert said in notes(site)
    assert len(site.train_TD) == 10


def test_rows_without_a_time_are_left_out_and_counted(tmp_path: Path) -> None:
    times = stamps(60)
    times[50], times[59] = "", "Total"
    site = one(write(tmp_path / "a.csv", times))
    assert notes(site)[0] == "a.csv: rows without a time, the first in line 52: left out (2)"
    assert len(site.train_TD) == 59
    assert np.isnan(site.train_TD[50, 0])


def test_labels_and_the_begin_of_test_data_come_from_the_settings(tmp_path: Path) -> None:
    def cells(row: int) -> str:
        return f"{row},{'Attack' if row in (4, 5, 33, 39) else 'normal'}"

    path = write(tmp_path / "a.csv", stamps(40), cells, "t,x,state")
    settings(tmp_path, 'label = "state"')
    with pytest.raises(InvalidConfig, match="4 rows labelled as attacks, but test data begins nowhere"):
        one(path)
    settings(tmp_path, 'label = "state"\ntest_from = 2024-03-05T06:30:00')
    site = one(path)
    assert site.labels_T is not None
    assert np.flatnonzero(site.labels_T).tolist() == [3, 9]
    assert site.train_TD[:, 0].tolist() == [*range(4), *range(6, 30)]
    assert site.train_starts == (0, 4)
    assert "a: rows before test_from that are labelled as attacks: left out (2)" in notes(site)
    settings(tmp_path, 'label = "state"\nattack = ["attack", 1]\nnormal = ["ok"]\ntest_from = 2024-03-05T06:30:00')
    with pytest.raises(DataUnreadable, match="line 2, column state: 'normal' is neither normal nor attack"):
        one(path)
    settings(tmp_path, 'label = "mode"')
    with pytest.raises(DataUnreadable, match="has no column 'mode'"):
        one(path)
    settings(tmp_path, "test_from = 2020-01-01T00:00:00")
    with pytest.raises(TooFewRows, match="no rows to train on: its data runs from 2024-03-05 06:00:00"):
        one(path)


def test_one_row_a_reading_becomes_one_column_a_tag(tmp_path: Path) -> None:
    rows = [
        f"{stamp},{tag},{value}"
        for row, stamp in enumerate(stamps(20))
        for tag, value in (("FIT", row), ("LIT", "Bad" if row == 4 else -row))
    ]
    (tmp_path / "a.csv").write_text("\n".join(["Timestamp,TagName,Value", *rows, rows[-1]]) + "\n", "utf-8")
    site = one(tmp_path / "a.csv")
    assert site.schema.tags == ("FIT", "LIT")
    assert site.train_TD[:3].tolist() == [[0, 0], [1, -1], [2, -2]]
    assert notes(site)[:3] == [
        "LIT: no reading but 'Bad': missing (1)",
        "a.csv: one row a reading: turned into 2 columns (41)",
        "a.csv: readings of a tag at the time of another: the last one counts (1)",
    ]


def frame(rows: int = 30) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "when": [START + timedelta(minutes=row) for row in range(rows)],
            "level": [row + 0.5 for row in range(rows)],
            "state": ["Bad" if row == 3 else str(row) for row in range(rows)],
        }
    )


@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
def test_parquet(tmp_path: Path, zone: str | None) -> None:
    frame().with_columns(pl.col("when").dt.replace_time_zone(zone), running=pl.lit(value=True)).write_parquet(
        tmp_path / "a.parquet"
    )
    site = one(tmp_path)
    assert (site.schema.tags, site.schema.period_s) == (("level", "state", "running"), 60)
    assert site.train_TD[2].tolist() == [2.5, 2, 1]
    assert np.isnan(site.train_TD[3, 1])
    assert ("2024-03-05 05:00:00" if zone else "2024-03-05 06:00:00") in site.source


def test_xlsx(tmp_path: Path) -> None:
    frame().write_excel(tmp_path / "a.xlsx")
    site = one(tmp_path / "a.xlsx")
    assert (site.schema.tags, site.schema.period_s) == (("level", "state"), 60)
    assert site.train_TD[2].tolist() == [2.5, 2]
    assert notes(site) == ["state: no reading but 'Bad': missing (1)"]
    assert find("historian").recognise(tmp_path / "a.xlsx") is not None


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_other_encodings(tmp_path: Path, encoding: str) -> None:
    text = (
        "\r\n".join(["time;Temperatur °C;b", *(f"{stamp};{row},5;1" for row, stamp in enumerate(stamps(20)))]) + "\r\n"
    )
    (tmp_path / "a.csv").write_bytes(text.encode(encoding))
    site = one(tmp_path)
    assert site.schema.tags == ("Temperatur °C", "b")
    assert site.train_TD[3].tolist() == [3.5, 1]
    assert any("Windows-1252" in note for note in notes(site)) == (encoding == "cp1252")


def test_a_last_line_without_an_end_is_said(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", stamps(20))
    path.write_bytes(path.read_bytes()[:-2])  # 19 becomes 1, which nobody could see otherwise
    site = one(path)
    assert site.train_TD[-1, 1] == 1
    assert notes(site) == ["a.csv: the last line has no end, so its last cell may be cut: kept (1)"]


def test_lines_before_the_header_and_columns_named_twice(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", stamps(20), lambda row: f"{row},{-row},0", "time,a,a,")
    path.write_text("Export of plant 7\nserver: PI01\n\n" + path.read_text("utf-8"), "utf-8")
    site = one(path)
    assert site.schema.tags == ("a", "a.2", "column4")
    assert site.train_TD[2].tolist() == [2, -2, 0]
    assert "a.csv: lines before the header: skipped (3)" in notes(site)
    assert "a.csv: the column 'a' occurs again: called 'a.2' (1)" in notes(site)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("nothing to see\n", "is no table"),
        ("a;b\n1;2\n3;4\n", "no column holds times"),
        ("t,x\n" + "\n".join(f"{stamp},low" for stamp in stamps(20)), "none of its 1 columns beside the times holds"),
        (
            "t,x\n" + "\n".join(f"{stamp},1" for stamp in stamps(20)) + "\n2024-03",
            "line 22: 1 fields where the header has 2",
        ),
        ("\n".join(f"{stamp},1" for stamp in stamps(20)), "is a time where a header is expected"),
        ("t,x\n" + "\n".join(f"{stamp},1" for stamp in stamps(20, layout="%H:%M:%S")), "no column holds times"),
        ("t," + "x" * 200 + "\n" + "\n".join(f"{stamp},1" for stamp in stamps(20)), "a name of 200 characters"),
        (
            ",".join(f"c{at}" for at in range(200)) + "\n" + "\n".join(",".join(["abc"] * 200) for _ in range(9)),
            "no column",
        ),
    ],
)
def test_a_file_that_is_no_export_is_refused_in_words(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "a.csv").write_text(text, "utf-8")
    with pytest.raises(DataUnreadable, match=r"a\.csv") as caught:
        one(tmp_path)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"PK\x03\x04zip", b"PAR1 broken", b"\x1f\x8b\x08", b"\x00\x01\x02", b"\xff\xfe", b"PK\x03\x04xl/"]
)
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    for name in ("a.csv", "a.xlsx", "a.parquet"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataUnreadable):
            one(tmp_path / name)
        assert find("historian").recognise(tmp_path / name) is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("period = 3", "period: Extra inputs are not permitted"),
        ("period_s = 0", "period_s: "),
        ("period_s = inf", "period_s: "),
        ("timezone = 'Mars/Olympus'", "timezone: Value error, is no time zone"),
        ("timezone = '../../etc/passwd'", "timezone: "),
        ("time = ['a', 'b', 'c']", "time: "),
        ("time = 'zeit'", "has no column 'zeit'"),
        ("tag_column = 'a'", "tag_column and value_column belong together"),
        ("tag_column = 'z'\nvalue_column = 'a'", "has no column 'z'"),
        ("normal = ['x']\nattack = ['X']", "'x' stands under both"),
        ("[units]\nnowhere = 'bar'", "speaks of 'nowhere', which is no column"),
        ("name = '../up'", "name: "),
        ("name = ", "is no TOML"),
    ],
)
def test_settings_are_checked(tmp_path: Path, text: str, says: str) -> None:
    write(tmp_path / "a.csv", stamps(20))
    settings(tmp_path, text)
    with pytest.raises(CrossplantError) as caught:
        one(tmp_path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_text_file_beside_the_exports_is_left_out(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", stamps(20))
    (tmp_path / "readme.txt").write_text("The pump of hall 3.\nSee the plan.\n", "utf-8")
    assert notes(one(tmp_path)) == ["readme.txt: is no export: left out (1)"]
    (tmp_path / "b.csv").write_text("The pump of hall 3.\nSee the plan.\n", "utf-8")
    with pytest.raises(DataUnreadable, match=r"b\.csv is no table"):
        one(tmp_path)


def test_nothing_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataNotFound, match=r"holds no files that end in \.csv"):
        load("historian", tmp_path)
    assert find("historian").recognise(tmp_path) is None
    (tmp_path / "a.txt").write_text("words only\nmore words\n", "utf-8")
    assert find("historian").recognise(tmp_path) is None


def rows_at(seconds: Sequence[float], attacks: Sequence[bool] | None = None) -> Rows:
    values = np.arange(len(seconds), dtype=np.float32)[:, None]
    marks = None if attacks is None else np.array(attacks)
    return Rows(np.array([round(at * SECOND) for at in seconds], dtype=np.int64), values, marks)


def test_a_moment_is_an_attack_if_one_of_its_rows_is() -> None:
    kept, _ = each_once(rows_at([0, 0, 1, 1, 2], [True, False, False, False, True]), "x")
    assert kept.attacks_T is not None
    assert kept.attacks_T.tolist() == [True, False, True]
    assert kept.values_TD[:, 0].tolist() == [1, 3, 4]


def test_labels_keep_their_moments_on_the_grid() -> None:
    grid, _ = on_grid(rows_at([0, 1, 3, 4, 20], [False, True, False, False, True]), SECOND, 10 * SECOND, "x")
    assert grid.attacks_T is not None
    assert grid.attacks_T.tolist() == [False, True, True, False, False, True]
    assert grid.starts == (0, 5)
    assert (grid.stamps_T / SECOND).tolist() == [0, 1, 2, 3, 4, 20]
    early, late = split(grid, 4 * SECOND)
    assert (early.starts, late.starts) == ((0,), (0, 1))
    assert late.attacks_T is not None
    assert late.attacks_T.tolist() == [False, True]
    calm, lost = without_attacks(early)
    assert (calm.starts, lost, calm.values_TD[:, 0].tolist()) == ((0, 1), 2, [0, 2])
