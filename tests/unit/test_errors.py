from __future__ import annotations

import re

import pytest

from shared import errors
from shared.errors import CrossplantError, SchemaMismatch, UnknownName


def subclasses(kind: type[CrossplantError]) -> list[type[CrossplantError]]:
    return [kind, *(below for child in kind.__subclasses__() for below in subclasses(child))]


ALL = [kind for kind in subclasses(CrossplantError) if kind.__module__ == errors.__name__]
GROUPS = [kind for kind in ALL if kind.__base__ is CrossplantError]
LEAVES = [kind for kind in ALL if kind.__base__ in GROUPS]


def drawn() -> list[tuple[int, str, str]]:
    """Depth, name and code of each line of the tree at the top of the module."""
    found = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"    ([│ ]*)[├└]── (\w+) +(CP-\d(?:xx|\d\d))", line)
        if match:
            found.append((len(match[1]) // 4, match[2], match[3]))
    return found


def test_codes_are_unique() -> None:
    codes = [kind.code for kind in ALL]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"CP-\d{3}", code) for code in codes)


def test_the_tree_that_is_drawn_is_the_tree_that_is_there() -> None:
    expected = []
    for group in GROUPS:
        expected.append((0, group.__name__, f"{group.code[:4]}xx"))
        expected += [(1, leaf.__name__, leaf.code) for leaf in LEAVES if leaf.__base__ is group]
    assert drawn() == expected


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
