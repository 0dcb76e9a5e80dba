"""The streamed reader by itself: what it finds out about a table, what it refuses, how blocks join."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xlsxwriter
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from client.ingest import lines, sheet
from client.ingest.clock import mend, recordings
from client.ingest.layout import Layout, find_layout
from client.ingest.scan import Block, Table, read
from shared.errors import DataUnreadable


def is_header(names: Sequence[str]) -> bool:
    return {"t", "a", "b"} <= set(names)


def layout_of(path: Path, content: str | bytes) -> Layout:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    layout = find_layout(path, is_header)
    assert layout is not None
    return layout


def texts(block: Block) -> Mapping[str, NDArray[Any]]:
    return {"t": block.texts["t"].to_numpy()}


def table(path: Path, content: str | bytes) -> Table:
    return read(layout_of(path, content), ("a", "b"), ("t",), texts)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x"


def test_what_is_found_out_of_a_layout(path: Path) -> None:
    layout = layout_of(path, 'made on 1.1.\n\n t ;"a"; b\nx y;1;2\nz;1,5;2\n')
    assert (layout.names, layout.header_line, layout.separator, layout.decimal) == (("t", "a", "b"), 3, ";", ",")
    assert (layout.first_row, layout.cell("t"), layout.cell("none")) == (("x y", "1", "2"), "x y", "")
    found = read(layout, ("b", "a"), ("t",), texts)
    assert found.values_TD.tolist() == [[2, 1], [2, 1.5]]
    assert found.columns["t"].tolist() == ["x y", "z"]
    assert found.lines_T.tolist() == [4, 5]


def test_lines_of_nothing_keep_the_numbers_of_the_others(path: Path) -> None:
    found = table(path, "t,a,b\nx,1,2\n\n,,\ny,3,\n\n\n")
    assert found.lines_T.tolist() == [2, 5]
    assert np.array_equal(found.values_TD, np.array([[1, 2], [3, np.nan]], np.float32), equal_nan=True)
    assert [(note.what.split(" hold")[0], note.count) for note in found.repairs] == [
        ("lines between the rows", 2),
        ("lines after the last row", 2),
    ]


def test_quoted_cells(path: Path) -> None:
    found = table(path, 't,a,b\n"x, ""y""","1",2\nz,3,"4.5"\n')
    assert found.columns["t"].tolist() == ['x, "y"', "z"]
    assert found.values_TD.tolist() == [[1, 2], [3, 4.5]]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("t,a,b\n", "has a header but no rows"),
        ("t,a,b\nx,1\n", "line 2: 2 fields where the header has 3"),
        ("t,a,b\nx,1,2\ny,1,2,3\n", "line 3: 4 fields where the header has 3"),
        ("t,a,b\nx,1,2\ny,1,0x3\n", "line 3, column b: '0x3' is not a number"),
        ("t,a,b\nx,1,2\ny,,\n\nz,1,1_0\n", "line 5, column b: '1_0' is not a number"),
        ("t,a,b,a\nx,1,2,3\n", "line 1: the column 'a' occurs twice"),
        ("1,2,3\nt,a,b\nx,1,2\n", "line 1: a row of readings stands above the header"),
        ('t,a,b\n"x,1,2\ny",1,2\n', "line 2: "),
        (b"t,a,b\nx\xe9,1,2\n", "line 2: byte 0xe9 is no UTF-8 text"),
        ("t,a,b\nx,1,2\n" + "y" * 1_100_000 * 9, "line 3: more than 1048576 bytes long"),
        ("\ufefft,a,b\nx,1,2\n".encode("utf-16-le")[:-1], "is none"),
    ],
)
def test_what_is_no_table_is_refused_with_its_line(path: Path, content: str | bytes, says: str) -> None:
    with pytest.raises(DataUnreadable) as caught:
        table(path, content)
    assert says in str(caught.value)


@given(rows=st.integers(1, 30), block=st.integers(1, 200), end=st.sampled_from(["\n", "\r\n"]), last=st.booleans())
def test_blocks_of_any_size_give_the_same_rows(
    tmp_path_factory: pytest.TempPathFactory, rows: int, block: int, end: str, last: bool
) -> None:
    path = tmp_path_factory.mktemp("blocks") / "x"
    body = [f"r{row},{row},{row / 4}" + ("" if row % 7 else end) for row in range(rows)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "BLOCK", block)
        found = table(path, end.join(["t,a,b", *body]) + (end if last else ""))
    assert found.columns["t"].tolist() == [f"r{row}" for row in range(rows)]
    assert found.values_TD[:, 1].tolist() == [row / 4 for row in range(rows)]
    blanks = [sum(before % 7 == 0 for before in range(row)) for row in range(rows)]
    assert found.lines_T.tolist() == [row + 2 + blank for row, blank in enumerate(blanks)]


def test_only_rows_of_the_file_are_held(path: Path) -> None:
    found = table(path, "t,a,b\n" + "x,1,2\n" * 50)
    assert found.values_TD.shape == (50, 2)
    assert found.values_TD.flags.c_contiguous
    assert found.values_TD.dtype == np.float32


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"PK\x05\x06" + b"\0" * 18, b"PKxl/"])
def test_a_broken_workbook_has_no_rows(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert sheet.head(path, 5) == ()
    assert find_layout(path, is_header) is None


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ([0, 1, 2, 3], [0, 1, 2, 3]),
        ([0, 43201, 43202, 3], [0, 1, 2, 3]),
        ([50000, 50001, 6802, 6803, 50004], [50000, 50001, 50002, 50003, 50004]),
        ([0, 1, 2, 90, 91], [0, 1, 2, 90, 91]),
        ([0, 1, 1, 3, 4], [0, 1, 1, 3, 4]),
        ([0, 10, 20, 43230, 40], [0, 10, 20, 30, 40]),
    ],
)
def test_times_are_mended_only_where_half_a_day_is_off(seconds: list[int], expected: list[int]) -> None:
    mended_T, notes = mend(Path("x"), np.array(seconds), np.arange(len(seconds)) + 2)
    assert mended_T.tolist() == expected
    assert sum(note.count for note in notes) == sum(a != b for a, b in zip(seconds, expected, strict=True))


def test_recordings_begin_after_gaps() -> None:
    starts, notes = recordings("x", np.array([0, 5, 10, 15, 30, 35, 60]))
    assert starts == (0, 4, 6)
    assert str(notes[0]) == (
        "x: 30 s are missing, the first of 2 before 1970-01-01 00:00:30: "
        "a new recording begins there and after each gap (2)"
    )


def test_a_point_among_decimal_commas_is_no_number(path: Path) -> None:
    """1.004 may be a thousand and four or a little more than one: nobody can tell."""
    with pytest.raises(DataUnreadable, match=r"x, line 3, column a: '1\.004' is not a number"):
        table(path, "t;a;b\nx;1,5;2\ny;1.004;2,5\n")
    assert table(path, "t;a;b\nx.y;1,5;2\n").values_TD.tolist() == [[1.5, 2]]


@pytest.mark.parametrize(("row", "column"), [(1_048_575, 16_383), (9, 16_383), (1_048_575, 0)])
def test_a_workbook_that_would_not_fit_into_memory_is_refused(path: Path, row: int, column: int) -> None:
    with xlsxwriter.Workbook(path) as book:
        made = book.add_worksheet()
        made.write_row(0, 0, ["t", "a", "b"])
        made.write(row, column, 1)
    if row > 9 and column:
        with pytest.raises(DataUnreadable, match=r"reaches to row 1,048,576 and column 16,384, 100,000,000 cells"):
            sheet.check_extent(path)
    else:
        sheet.check_extent(path)


def test_a_workbook_that_unpacks_to_gigabytes_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with xlsxwriter.Workbook(path) as book:
        book.add_worksheet().write_row(0, 0, ["t"] * 50)
    monkeypatch.setattr(sheet, "_MOST_BYTES", 1_000)
    with pytest.raises(DataUnreadable, match=r"unpacks to [0-9,]+ bytes, 1,000 are the most"):
        sheet.check_extent(path)


def test_a_file_that_grows_while_it_is_read_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "count", lambda _: 2)
    with pytest.raises(DataUnreadable, match="x grew while it was read"):
        table(path, "t,a,b\nx,1,2\ny,3,4\n")
