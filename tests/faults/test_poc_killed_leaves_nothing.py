"""kill -9 of `poc up`: the kernel ends its children, they end theirs; no process of it is left."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.support.network import network, running_below

pytestmark = pytest.mark.network


def test_no_process_is_left(tmp_path: Path) -> None:
    with network(tmp_path, 2, 1) as there:
        there.wait_for_round(1)
        assert len(running_below(there.out)) > 8
        there.process.kill()
        there.process.wait()
        ends = time.monotonic() + 40
        while running_below(there.out) and time.monotonic() < ends:
            time.sleep(0.2)
        assert running_below(there.out) == []
