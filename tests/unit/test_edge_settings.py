"""edge.toml as a value."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.edge.settings import parse_settings
from shared.errors import InvalidConfig


def sink(name: str) -> bytes:
    return f"[sinks.{name}]\nlocation = '-'\n".encode()


def test_a_sink_has_any_plain_name() -> None:
    assert list(parse_settings(sink('"webhook-2.b"'), Path("edge.toml")).sinks) == ["webhook-2.b"]


@pytest.mark.parametrize("name", ['"../x"', '"/x"', '".x"', '"a b"', '"x\\n"', '""', '"' + "x" * 65 + '"'])
def test_a_sinks_name_leads_nowhere_else(name: str) -> None:
    """Its spool and its place in the history lie in a folder of that name."""
    with pytest.raises(InvalidConfig, match=r"edge.toml: .*sinks"):
        parse_settings(sink(name), Path("edge.toml"))
