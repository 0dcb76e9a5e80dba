"""One scorer a state folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from client.edge.sole import LOCK, sole
from shared.service_errors import AlreadyRunning

_HOLDS = "import sys, time; from pathlib import Path; from client.edge.sole import sole\n" + (
    "with sole(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)\n"
)


def test_a_second_scorer_is_refused_and_a_killed_one_leaves_the_folder_free(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", _HOLDS, str(tmp_path)], stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        with pytest.raises(AlreadyRunning, match=f"process {first.pid} scores with"), sole(tmp_path):
            pass
        first.send_signal(signal.SIGKILL)
        first.wait(10)
    with sole(tmp_path):
        assert (tmp_path / LOCK).read_text() == f"{os.getpid()}\n"


def test_a_scorer_begins_where_no_lock_can_be_made(tmp_path: Path) -> None:
    (tmp_path / LOCK).mkdir()
    with sole(tmp_path), sole(None):
        pass
