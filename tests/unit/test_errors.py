from __future__ import annotations

import re
from types import ModuleType

import pytest

from shared import errors, service_errors
from shared.errors import CrossplantError, SchemaMismatch, UnknownName
from shared.pki import trouble


def subclasses(kind: type[CrossplantError]) -> list[type[CrossplantError]]:
    return [kind, *(below for child in kind.__subclasses__() for below in subclasses(child))]


HOMES = [errors, service_errors, trouble]
ALL = [kind for kind in subclasses(CrossplantError) if kind.__module__ in [home.__name__ for home in HOMES]]
GROUPS = [kind for kind in ALL if kind.__base__ is CrossplantError]
LEAVES = [kind for kind in ALL if kind.__base__ in GROUPS]


def drawn(home: ModuleType) -> list[tuple[str, str]]:
    """Name and code of each line of the tree at the top of a module."""
    return re.findall(r"^[│├└─ ]*(\w+) +(CP-\d(?:xx|\d\d))", home.__doc__ or "", re.MULTILINE)


def test_codes_are_unique() -> None:
    codes = [kind.code for kind in ALL]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"CP-\d{3}", code) for code in codes)


@pytest.mark.parametrize("home", HOMES, ids=lambda home: home.__name__)
def test_the_tree_that_is_drawn_is_the_tree_that_is_there(home: ModuleType) -> None:
    expected = []
    for group in (group for group in GROUPS if group.__module__ == home.__name__):
        expected.append((group.__name__, f"{group.code[:4]}xx"))
        expected += [(leaf.__name__, leaf.code) for leaf in LEAVES if leaf.__base__ is group]
    assert drawn(home) == expected


def test_a_leaf_has_the_number_of_its_group_and_nothing_is_deeper() -> None:
    assert all(group.code.endswith("00") for group in GROUPS)
    assert all(leaf.code[:4] == leaf.__base__.code[:4] and not leaf.code.endswith("00") for leaf in LEAVES)
    assert len(ALL) == 1 + len(GROUPS) + len(LEAVES)


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_each_says_what_it_is_and_what_to_do(kind: type[CrossplantError]) -> None:
    assert (kind.__doc__ or "").strip().splitlines()[0].endswith(".")
    error = UnknownName("rule", "x", ["a", "b"]) if kind is UnknownName else kind("something is wrong.")
    assert str(error).startswith(f"{kind.code} {kind.__name__}: ")
    assert error.cure
    assert "\n" not in str(error)


def test_a_cure_of_its_own() -> None:
    error = SchemaMismatch("plant 'north' lacks LIT301.", "Add it.")
    assert str(error) == "CP-203 SchemaMismatch: plant 'north' lacks LIT301. Add it."
    assert SchemaMismatch("x.").cure == SchemaMismatch.cure != "Add it."
    assert error.args == ("plant 'north' lacks LIT301.",)


def test_an_unknown_name_lists_what_there_is() -> None:
    assert str(UnknownName("detector", "spy", ["hac-uml"])) == (
        "CP-102 UnknownName: there is no detector called 'spy'. Known: hac-uml."
    )
