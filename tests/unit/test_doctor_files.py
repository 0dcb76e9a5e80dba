"""The doctor's look at single files: what is no data, what is half-copied, and that no bytes end in a traceback."""

from __future__ import annotations

import gzip
import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from client.ingest.doctor import examine
from client.ingest.doctor.damage import broken, foreign
from client.ingest.doctor.render import as_json, print_text
from client.ingest.peek import peek


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("empty.csv", b"", "an empty file"),
        ("set.csv", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS pointer"),
        ("set.csv", b"  <!DOCTYPE html>\n<html><body>Please log in</body></html>", "web page"),
        ("set.csv", b'{"error": "login"}\n', "JSON"),
        ("set.gz", gzip.compress(b"a,b\n1,2\n", mtime=0), "gzip archive"),
        ("set.7z", b"7z\xbc\xaf\x27\x1c" + bytes(30), "7-Zip archive"),
        ("MSL_train.pkl", pickle.dumps([1.0]), "pickle"),
        ("data.npy", pickle.dumps({"a": 1}, protocol=4), "pickle"),
        ("set.csv", "a,b\n1,2\n".encode("utf-16"), "UTF-16"),
        ("set.xls", b"\xd0\xcf\x11\xe0" + bytes(600), "old Excel"),
        ("set.bin", bytes(range(256)), "binary file"),
    ],
)
def test_what_is_no_data_is_named_with_a_way_out(name: str, content: bytes, told: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    found = foreign(file)
    assert found is not None
    assert told in found.what
    assert found.action
    assert found.severity == "error"


def test_a_zip_is_told_from_a_workbook(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("normal.csv", "a,b\n1,2\n")
    found = foreign(tmp_path / "a.zip")
    assert found is not None
    assert "unzip a.zip" in found.action


def _array(path: Path) -> None:
    np.save(path, np.zeros((50, 3), np.float64))
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("cut.csv", lambda path: path.write_text("t,a,b\n1,2,3\n2,3,4\n3,4,5\n4,5")),
        ("cut.txt", lambda path: path.write_text("a;b;c\n1,5;2;3\n2,5;3;4\n3,5;4;5\n4,5;5")),
        ("cut.dat", lambda path: path.write_text("1.0 2.0 3.0\n" * 5 + "1.0 2.")),
        ("cut.npy", _array),
        ("tiny.npy", lambda path: path.write_bytes(b"\x93NUMPY\x01")),
        ("cut.xlsx", lambda path: path.write_bytes(b"PK\x03\x04" + b"[Content_Types].xml" + bytes(500))),
        ("cut.parquet", lambda path: path.write_bytes(b"PAR1" + bytes(500))),
    ],
)
def test_a_half_copied_file_shows_at_its_end(name: str, write, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    write(tmp_path / name)
    found = broken(tmp_path / name)
    assert found is not None
    assert "cut short" in found.what


@pytest.mark.parametrize(
    "content",
    ["t,a\n1,2\n2,3\n3,4", "Prose, with commas,\nin some lines,\nand no line end", 't,"a,b"\n1,2\n2,3\n3,"4,5"', "t,a"],
)
def test_a_whole_file_without_a_last_line_end_is_not_called_cut(content: str, tmp_path: Path) -> None:
    (tmp_path / "whole.csv").write_text(content)
    assert broken(tmp_path / "whole.csv") is None


@settings(max_examples=25)
@given(
    start=st.sampled_from([b"", b"PK\x03\x04", b"\x93NUMPY\x01\x00", b"PAR1", b"a,b\n1,2\n", b"\x80\x04", b"\xff\xfe"]),
    rest=st.one_of(st.binary(max_size=300), st.text("0123456789.,;\n\t abc\"'-:", max_size=300).map(str.encode)),
    name=st.sampled_from(["a.csv", "a.npy", "a.xlsx", "a.parquet", "a.txt", "d00.dat", "secom.data"]),
)
def test_any_bytes_get_a_verdict(
    start: bytes, rest: bytes, name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """All loaders are asked, the real ones."""
    folder = tmp_path_factory.mktemp("any")
    (folder / name).write_bytes(start + rest)
    for path in (folder, folder / name):
        report = examine(path)
        assert report.verdict
        if not report.usable:
            assert any(
                one.severity == "error" for one in [*report.findings, *(f for s in report.sections for f in s.findings)]
            )
        print_text(report, Console(width=80, file=io.StringIO()))
        assert as_json(report)


@pytest.mark.parametrize(
    ("header", "told", "cure"),
    [
        ("2024-03-05 05:59:00,1", "is a time where a header is expected", "first line that names the columns"),
        ("time,a", "may be %d/%m/%Y %H:%M:%S or %m/%d/%Y %H:%M:%S, and the rows do not tell", "historian.toml"),
    ],
)
def test_a_table_of_times_is_refused_in_the_words_of_the_loader(
    header: str, told: str, cure: str, tmp_path: Path
) -> None:
    layout = "2024-03-05 06:{:02d}:00" if header.startswith("2024") else "05/03/2024 06:{:02d}:00"
    (tmp_path / "a.csv").write_text("\n".join([header, *(f"{layout.format(row)},1" for row in range(30))]) + "\n")
    for path in (tmp_path / "a.csv", tmp_path):
        (finding,) = (one for one in examine(path).findings if one.kind == "load")
        assert told in finding.what
        assert cure in finding.action


def test_a_file_that_the_system_makes_up_is_not_read() -> None:
    """Reading /proc/kmsg, a regular file of no size, waits for ever: `data check /` would never end."""
    assert peek(Path("/proc/self/status")).form == "empty"


def test_plants_of_which_no_two_have_the_same_tags_cannot_be_trained(tmp_path: Path) -> None:
    for name, tags in (("north", "a,b"), ("south", "a,c")):
        (tmp_path / name).mkdir()
        rows = "".join(
            f"2025-01-{day + 1:02d} {hour:02d}:00:00,{hour},{day}\n" for day in range(20) for hour in range(24)
        )
        (tmp_path / name / "export.csv").write_text(f"time,{tags}\n{rows}", encoding="utf-8")
    report = examine(tmp_path)
    assert not report.usable
    (section,) = report.sections
    assert section.next is None
    (finding,) = [finding for finding in section.findings if finding.kind == "schema"]
    assert (finding.severity, "north and south differ by b, c" in finding.what) == ("error", True)
