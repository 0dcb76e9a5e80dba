"""Fixtures of several unit tests."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _no_passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's own passphrase locks the keys that tests make."""
    monkeypatch.delenv("CROSSPLANT_CA_PASSPHRASE", raising=False)


@pytest.fixture
def fed(tmp_path: Path) -> Path:
    """A new federation's folder."""
    from tests.support.pki import NOW, make  # most unit tests need no cryptography

    return make(tmp_path, NOW)


@pytest.fixture
def north(fed: Path) -> Path:
    """A plant of it that lacks nothing but a server."""
    from tests.support.preflight import ready_plant

    return ready_plant(fed)
