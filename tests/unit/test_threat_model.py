"""docs/threat-model.md names tests; a name that proves nothing is worse than none."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.conftest import REPOSITORY

TEXT = (REPOSITORY / "docs" / "threat-model.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)))
HEADER = "| Asset | Capability | Control | Test that proves it | What remains |"


def rows() -> Iterator[list[str]]:
    """Cells of every row of the adversaries' tables."""
    for table in TEXT.split(HEADER)[1:]:
        for line in table.strip().splitlines()[1:]:
            if not line.startswith("|"):
                break
            yield [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_every_test_that_is_named_exists(path: str, name: str) -> None:
    tree = ast.parse((REPOSITORY / path).read_text(encoding="utf-8"))
    assert name.startswith("test_")
    assert any(isinstance(node, ast.FunctionDef) and node.name == name for node in tree.body)


def test_every_adversary_has_its_table() -> None:
    assert TEXT.count(HEADER) == 7
    assert len(NAMED) > 50


def test_every_row_has_a_control_and_names_the_test_that_proves_it() -> None:
    """Where there is no control, the row says so instead of naming a test."""
    found = list(rows())
    assert len(found) > 30
    for asset, capability, control, proof, _ in found:
        assert asset, capability
        assert control, capability
        assert re.search(r"`tests/[\w/]+\.py::test_\w+`", proof) or control.startswith("none"), capability


def test_assets_are_those_of_the_list() -> None:
    known = set(re.findall(r"^\| ([A-Z]) \|", TEXT, re.MULTILINE))
    for asset, *_ in rows():
        assert asset == "all" or set(asset.split(", ")) <= known, asset
