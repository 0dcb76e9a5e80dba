"""The examples in the docstrings do what they say."""

import doctest
import pkgutil
from importlib import import_module

import pytest

PACKAGES = ("shared", "client", "server", "simulations")
PROGRAMS = {"shared.__main__", "server.store.migrations.env"}  # the second is run by alembic


def _modules() -> list[str]:
    found = [name for package in PACKAGES for _, name, _ in pkgutil.walk_packages([package], f"{package}.")]
    return sorted(set(found) - PROGRAMS)


@pytest.mark.parametrize("name", _modules())
def test_examples(name: str) -> None:
    assert doctest.testmod(import_module(name), optionflags=doctest.ELLIPSIS).failed == 0


def test_there_are_examples() -> None:
    finder = doctest.DocTestFinder()
    assert sum(len(one.examples) for name in _modules() for one in finder.find(import_module(name))) > 150
