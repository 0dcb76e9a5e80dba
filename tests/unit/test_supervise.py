"""Children are started, watched, restarted, and never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from shared.service_errors import ProcessFailed
from shared.supervise import Spec, Supervisor, last_line


def spec(tmp: Path, code: str, name: str = "child", **changes: object) -> Spec:
    return Spec(name, (sys.executable, "-c", code), tmp / f"{name}.log", first_pause_s=0.1, **changes)  # type: ignore[arg-type]


def ended(pid: int, longest_s: float = 10.0) -> bool:
    ends = time.monotonic() + longest_s
    while time.monotonic() < ends:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False


def test_a_log_does_not_grow_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.supervise.LONGEST_LOG", 10_000)
    code = "import sys, time\nfor n in range(60): print(f'{n:03} ' + 'x' * 495, flush=True); time.sleep(0.02)"
    with Supervisor(lambda line: None) as children:
        children.start(spec(tmp_path, code + "\ntime.sleep(60)"))
        children.watch(lambda: "059 x" in _both(tmp_path), longest_s=20.0)
        newest, older = (tmp_path / "child.log").read_bytes(), (tmp_path / "child.log.1").read_bytes()
    assert "059 x" in _both(tmp_path)  # in the older one where the log was begun anew just then
    assert b"\0" not in newest  # what writes on where it was would leave a hole
    assert len(newest) <= 20_000
    assert 10_000 < len(older) <= 20_000


def _both(tmp: Path) -> str:
    return "".join(path.read_text() for path in sorted(tmp.glob("child.log*")))


def test_a_killed_child_is_started_again_and_people_hear_of_it(tmp_path: Path) -> None:
    said: list[str] = []
    with Supervisor(said.append) as children:
        children.start(spec(tmp_path, "import time; time.sleep(60)"))
        first = children.pids()["child"]
        os.kill(first, signal.SIGKILL)
        assert children.watch(lambda: children.pids().get("child", first) != first, 10)
        second = children.pids()["child"]
    assert said == ["child ended with code -9; it starts again in 0 s."]
    assert ended(second)


def test_the_last_words_of_a_child_that_failed_are_told(tmp_path: Path) -> None:
    said: list[str] = []
    with Supervisor(said.append) as children:
        children.start(spec(tmp_path, "print('key refused (305)'); raise SystemExit(1)"))
        children.watch(lambda: bool(said), 20)
    assert said == ["child ended with code 1 (key refused (305)); it starts again in 0 s."]


def test_what_cannot_be_started_again_does_not_end_the_others(tmp_path: Path) -> None:
    said: list[str] = []
    with Supervisor(said.append) as children:
        children.start(spec(tmp_path, "import time; time.sleep(60)", "other"))
        program = tmp_path / "program"
        program.symlink_to(sys.executable)
        children.start(Spec("child", (str(program), "-c", ""), tmp_path / "log", first_pause_s=0.1))
        program.unlink()
        assert children.watch(lambda: any("CP-801" in line for line in said), 20)
        assert "other" in children.pids()
    assert f"cannot start child: {program}: No such file" in said[-1]


def test_the_pause_grows_with_every_death(tmp_path: Path) -> None:
    said: list[str] = []
    with Supervisor(said.append) as children:
        children.start(
            Spec("child", (sys.executable, "-c", ""), tmp_path / "log", first_pause_s=0.3, longest_pause_s=2.0)
        )
        children.watch(lambda: len(said) >= 3, 20)
    assert [line.split(" in ")[1] for line in said[:3]] == ["0 s.", "1 s.", "1 s."]


def test_a_child_that_dies_before_it_serves_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    with (
        Supervisor() as children,
        pytest.raises(ProcessFailed, match=r"ended before it served: no such key\.") as caught,
    ):
        children.start(spec(tmp_path, "print('no such key.'); raise SystemExit(3)", ready=lambda: False))
    assert str(tmp_path / "child.log") in caught.value.cure


def test_a_child_that_never_serves_is_an_error(tmp_path: Path) -> None:
    slow = spec(tmp_path, "import time; time.sleep(60)", ready=lambda: False, ready_s=0.3)
    with Supervisor() as children, pytest.raises(ProcessFailed, match="did not serve within 0 s"):
        children.start(slow)


def test_a_program_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with Supervisor() as children, pytest.raises(ProcessFailed, match="cannot start ghost"):
        children.start(Spec("ghost", (str(tmp_path / "none"),), tmp_path / "log"))


def test_what_ignores_the_request_to_end_is_made_to_with_its_own_children(tmp_path: Path) -> None:
    stubborn = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(p.pid, flush=True); time.sleep(60)"
    )
    log = tmp_path / "child.log"
    with Supervisor() as children:
        children.start(spec(tmp_path, stubborn, stop_s=0.3, ready=lambda: log.read_text().strip().isdigit()))
        pids = [children.pids()["child"], int(log.read_text())]
    assert all(map(ended, pids))


def test_children_end_last_started_first(tmp_path: Path) -> None:
    out = tmp_path / "order"
    code = (
        "import signal, sys, time\n"
        "def end(*_):\n    open({out!r}, 'a').write({name!r}); sys.exit()\n"
        "signal.signal(signal.SIGTERM, end)\nprint('up', flush=True)\ntime.sleep(60)"
    )
    with Supervisor() as children:
        for name in ("a", "b", "c"):
            log = tmp_path / f"{name}.log"
            up = code.format(out=str(out), name=name)
            children.start(spec(tmp_path, up, name, ready=lambda log=log: "up" in log.read_text()))
    assert out.read_text() == "cba"


def test_no_child_outlives_a_parent_that_was_killed(tmp_path: Path) -> None:
    parent = (
        "import sys, time\nfrom pathlib import Path\nfrom shared.supervise import Spec, Supervisor\n"
        "s, sleeper = Supervisor(), 'import time; time.sleep(60)'\n"
        f"s.start(Spec('child', (sys.executable, '-c', sleeper), Path({str(tmp_path / 'log')!r})))\n"
        "print(s.pids()['child'], flush=True)\ntime.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    process.kill()
    process.wait()
    process.stdout.close()
    assert ended(child)


def test_the_last_line_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert last_line(log) == "it left no log"
    log.write_bytes(b"one\n\xff\xfe two.\n\n  \n")
    assert last_line(log).endswith("two")
    log.write_bytes(b"")
    assert last_line(log) == "it said nothing"
