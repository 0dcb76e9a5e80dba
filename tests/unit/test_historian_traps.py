"""Exports that look sound and are not: turned days, second tables, running numbers, and files that hurt the reader."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xlsxwriter

from client.ingest.base import find
from client.ingest.historian.clock import Clock, read_clock
from shared.errors import DataUnreadable
from tests.unit.test_historian import START, notes, one, stamps, write


def test_days_that_excel_turned_are_refused(tmp_path: Path) -> None:
    """It reads 05/03 the American way and leaves 13/03 alone: every row is a time, and most are wrong ones."""
    days = [datetime(2024, 3, 1) + timedelta(hours=8 * row) for row in range(90)]
    times = [f"{day:%m/%d/%Y %H:%M:%S}" if day.day <= 12 else f"{day:%d/%m/%Y %H:%M:%S}" for day in days]
    with pytest.raises(
        DataUnreadable, match=r"a\.csv, column 'time': time is in order only if some rows put the month"
    ):
        one(write(tmp_path / "a.csv", times))
    right = [f"{day:%d/%m/%Y %H:%M:%S}" for day in days]
    site = one(write(tmp_path / "b.csv", [*right[30:], *right[:30]]))
    assert "2024-03-01 00:00:00 to 2024-03-30 16:00:00" in site.source
    assert any("times go back" in note for note in notes(site))


def test_a_second_table_with_other_columns_is_refused(tmp_path: Path) -> None:
    later = START + timedelta(hours=1)
    first, second = stamps(40), stamps(40, start=later)
    rows = [*(f"{stamp},1,2" for stamp in first), "time,b,a", *(f"{stamp},2,1" for stamp in second)]
    (tmp_path / "a.csv").write_text("\n".join(["time,a,b", *rows]) + "\n", "utf-8")
    with pytest.raises(DataUnreadable, match=r"a\.csv, line 42: another header, with 'b' under 'a'"):
        one(tmp_path)
    (tmp_path / "a.csv").write_text("\n".join(["time,a,a", *rows]).replace("time,b,a", "time,a,a") + "\n", "utf-8")
    assert len(one(tmp_path).train_TD) == 80


def test_running_numbers_are_no_times_beside_a_column_of_times(tmp_path: Path) -> None:
    rows = [f"{1_600_000_000 + 7 * row},{stamp},{row}.5" for row, stamp in enumerate(stamps(60))]
    (tmp_path / "a.csv").write_text("\n".join(["lot,when,a", *rows]) + "\n", "utf-8")
    site = one(tmp_path)
    assert (site.schema.tags, site.schema.period_s) == (("lot", "a"), 60)


def test_nanoseconds_are_read_and_said(tmp_path: Path) -> None:
    first = int(START.replace(tzinfo=UTC).timestamp())
    rows = [f"{(first + 60 * row) * 10**9},{1_600_000_000 + row}" for row in range(50)]
    (tmp_path / "a.csv").write_text("\n".join(["time,counter", *rows]) + "\n", "utf-8")
    site = one(tmp_path)
    assert (site.schema.tags, site.schema.period_s) == (("counter",), 60)
    assert "2024-03-05 06:00:00 to" in site.source
    assert notes(site) == ["a.csv: the numbers of 'time' are taken for times, epoch in ns: read (50)"]


def test_thousands_of_tags_have_a_long_header(tmp_path: Path) -> None:
    names = ",".join(["time", *(f"a-rather-long-name-of-a-tag-{tag}" for tag in range(3_000))])
    path = write(tmp_path / "a.csv", stamps(5), lambda row: ",".join([f"{row}.5"] * 3_000), names)
    assert one(path).train_TD.shape == (5, 3_000)
    assert find("historian").recognise(path) is not None


def test_a_line_without_end_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", stamps(20))
    path.write_text(f"{path.read_text('utf-8')}2024-03-05 09:00:00,1,{'9' * 2**20}\n", "utf-8")
    with pytest.raises(DataUnreadable, match=r"a\.csv, line 22: more than 1048576 bytes long"):
        one(path)


def test_a_name_that_is_no_utf8_is_refused_in_words(tmp_path: Path) -> None:
    folder = tmp_path / "plant\udcff"
    with pytest.raises(DataUnreadable, match="the name is no UTF-8") as caught:
        one(write(folder / "a.csv", stamps(20)))
    str(caught.value).encode()


def test_doubled_line_ends_are_recognised_as_they_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", stamps(20))
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\r\n"))
    assert len(one(path).train_TD) == 20
    assert find("historian").recognise(path) is not None


def test_sheets_beside_the_first_are_said(tmp_path: Path) -> None:
    with xlsxwriter.Workbook(tmp_path / "a.xlsx") as book:
        for name in ("January", "February"):
            sheet = book.add_worksheet(name)
            for line, stamp in enumerate(["time", *stamps(20)]):
                sheet.write_row(line, 0, [stamp, "a" if line == 0 else line])
    assert notes(one(tmp_path)) == ["a.xlsx: other sheets of the workbook, 'February': not read (1)"]


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.csv", stamps(20))

    def slow(*given: Any) -> Clock:
        clock = read_clock(*given)
        path.write_text(path.read_text("utf-8") + "2024-03-05 09:00:00,1,2\n", "utf-8")
        return clock

    monkeypatch.setattr("client.ingest.historian.loader.read_clock", slow)
    with pytest.raises(DataUnreadable, match=r"a\.csv changed while it was read"):
        one(path)


def test_readings_too_large_to_hold_are_said(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", stamps(20), lambda row: f"{row},{'1e308' if row in (3, 4) else row}")
    site = one(path)
    assert notes(site) == ["b: no reading but '1e308': missing (2)"]
    assert np.flatnonzero(np.isnan(site.train_TD[:, 1])).tolist() == [3, 4]


def test_short_years_written_first_are_not_taken_for_days(tmp_path: Path) -> None:
    site = one(write(tmp_path / "a.csv", stamps(72, 3_600, "%y/%m/%d %H:%M", datetime(2024, 3, 4))))
    assert "2024-03-04 00:00:00 to 2024-03-06 23:00:00" in site.source
    assert any("times read as %y/%m/%d %H:%M" in note for note in notes(site))


def test_a_tag_above_its_unit_is_one_name_and_line_numbers_stay(tmp_path: Path) -> None:
    head = 'Zeit;"FIT101\n[m3/h]";"LIT101\n[mm]"\n'
    rows = "".join(f"2025-01-01 00:{minute:02d}:00;{minute},5;{2 * minute}\n" for minute in range(60))
    (tmp_path / "good.csv").write_text(head + rows, encoding="utf-8")
    site = one(tmp_path / "good.csv")
    assert site.schema.tags == ("FIT101 [m3/h]", "LIT101 [mm]")
    assert site.train_TD[:2].tolist() == [[0.5, 0.0], [1.5, 2.0]]
    assert notes(site) == ["good.csv: line breaks inside names: read as blanks (2)"]
    (tmp_path / "bad.csv").write_text(head + rows + "2025-01-01 01:00:00;1\n", encoding="utf-8")
    with pytest.raises(DataUnreadable, match="line 64: 2 fields where the header has 3"):
        one(tmp_path / "bad.csv")


def test_a_stray_quotation_mark_swallows_no_lines(tmp_path: Path) -> None:
    rows = "".join(f"2025-01-01 00:{minute:02d}:00,{minute}\n" for minute in range(60))
    (tmp_path / "inch.csv").write_text('time,pipe 5"\n' + rows, encoding="utf-8")
    site = one(tmp_path / "inch.csv")
    assert len(site.train_TD) == 60


def test_a_cover_sheet_is_not_taken_for_the_recording(tmp_path: Path) -> None:
    book = xlsxwriter.Workbook(str(tmp_path / "a.xlsx"))
    cover, trend = book.add_worksheet("Cover"), book.add_worksheet("Trend")
    cover.write_row(0, 0, ("Created by", "M. Muster"))
    trend.write_row(0, 0, ("time", "TI-101"))
    for minute in range(60):
        trend.write_row(minute + 1, 0, (f"2025-01-01 00:{minute:02d}:00", minute))
    book.close()
    site = one(tmp_path / "a.xlsx")
    assert (site.schema.tags, len(site.train_TD)) == (("TI-101",), 60)
    assert any("'Cover': not read" in note for note in notes(site))
    (tmp_path / "historian.toml").write_text('sheet = "Cover"\n', encoding="utf-8")
    with pytest.raises(DataUnreadable):
        one(tmp_path / "a.xlsx")
    (tmp_path / "historian.toml").write_text('sheet = "Trends"\n', encoding="utf-8")
    with pytest.raises(DataUnreadable, match="no sheet 'Trends'; it has 'Cover', 'Trend'"):
        one(tmp_path / "a.xlsx")


def test_lines_above_the_header_may_be_filled_up_with_separators(tmp_path: Path) -> None:
    rows = "".join(f"2025-01-01 00:{minute:02d}:00;{minute};1\n" for minute in range(60))
    (tmp_path / "a.csv").write_text("Plant: Boiler 3;;\nExported: today;;\n\ntime;a;b\n" + rows, encoding="utf-8")
    assert one(tmp_path / "a.csv").schema.tags == ("a", "b")


def test_a_column_that_looks_like_a_label_is_told(tmp_path: Path) -> None:
    rows = "".join(f"2025-01-01 00:{minute:02d}:00,{minute},{minute % 2}\n" for minute in range(60))
    (tmp_path / "a.csv").write_text("time,level,Alarm\n" + rows, encoding="utf-8")
    site = one(tmp_path / "a.csv")
    assert site.schema.tags == ("level", "Alarm")
    assert any(note.startswith("Alarm: looks like a label") for note in notes(site))
    assert not any(note.startswith("level:") for note in notes(site))
