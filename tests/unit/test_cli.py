"""The front door: exit codes, broken streams, interruptions, and one line for whatever goes wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from shared.errors import FileTrouble
from tests.support.command import crossplant_here

COMMAND = f"{sys.executable} -m shared"
SHOW = f"{COMMAND} config show"


def shell(line: str) -> subprocess.CompletedProcess[str]:
    """Run a line as a shell does, with its redirections; the exit code is that of `crossplant`."""
    return subprocess.run(
        ["bash", "-c", line + '; exit "${PIPESTATUS[0]}"'], capture_output=True, text=True, check=False, timeout=120
    )


@pytest.mark.parametrize("line", [f"{SHOW} >&-", f"{SHOW} >&- 2>&-", f"{SHOW} | head -1", f"{COMMAND} --help | true"])
def test_a_missing_reader_is_no_error(line: str) -> None:
    done = shell(line)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_reader_that_left_before_the_first_line_is_no_error() -> None:
    for arguments in (["config", "show"], ["simulate", "--help"], ["--version"]):
        receiving, sending = os.pipe()
        os.close(receiving)
        with os.fdopen(sending, "w") as out:
            command = [sys.executable, "-m", "shared", *arguments]
            done = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, text=True, check=False, timeout=120)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("command", [SHOW, f"{COMMAND} simulate --help"])
def test_a_full_disk_is_one_line_with_a_code(command: str) -> None:
    done = shell(f"{command} > /dev/full")
    assert done.returncode == 1
    assert done.stderr.startswith("CP-106 FileTrouble: ")
    assert "No space left" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("at", ["shared.cli", "click", "shared.frontdoor", "simulations.cli", "shared.config"])
def test_an_interruption_while_modules_load_is_one_line(at: str) -> None:
    """An import hook presses Ctrl-C when the module `at` is first asked for."""
    program = f"""
import runpy, sys
class Press:
    def find_spec(self, name, path=None, target=None):
        if name == {at!r}:
            raise KeyboardInterrupt
sys.meta_path.insert(0, Press())
sys.argv = ["crossplant", "config", "show"]
runpy.run_module("shared", run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "Interrupted.\n")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (PermissionError(13, "Permission denied", "/srv/report.html"), "/srv/report.html: Permission denied."),
        (OSError(36, "File name too long", "x" * 999), "File name too long."),
        (OSError(28, "No space left on device"), "a file or the output: No space left on device."),
        (OSError(18, "Invalid cross-device link", "a", None, "b"), "a -> b: Invalid cross-device link."),
        (OSError("no reason"), "a file or the output: no reason."),
        (UnicodeEncodeError("utf-8", "a\udcff", 1, 2, "surrogates not allowed"), "cannot be written as utf-8"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_the_system_refuses_is_one_line(error: Exception, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr("simulations.settings.layered", refuse)
    done = crossplant_here("config", "show")
    assert done.returncode == 1
    assert done.stderr.startswith(f"{FileTrouble.code} FileTrouble: ")
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
    assert len(done.stderr) < 600


def test_an_interrupted_command_ends_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("simulations.settings.layered", interrupt)
    done = crossplant_here("config", "show")
    assert (done.returncode, done.stderr) == (130, "Interrupted.\n")


@pytest.mark.parametrize("times", [1, 3])
def test_an_interruption_inside_a_finalizer_is_neither_lost_nor_printed_with_a_traceback(times: int) -> None:
    """Python drops what a finalizer raises; Ctrl-C may come in any."""
    program = f"""
import signal, sys, time
import simulations.settings
left = [{times}]
class Lost:
    def __del__(self):
        left[0] -= 1
        if left[0] > 0:
            Lost()
        signal.raise_signal(signal.SIGINT)
def layered(*_):
    Lost()
    time.sleep(60)
simulations.settings.layered = layered
from shared.cli import main
sys.argv = ["crossplant", "config", "show"]
main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "Interrupted.\n")


def test_another_error_inside_a_finalizer_is_still_told() -> None:
    program = """
import sys
from shared.cli import press_again
sys.unraisablehook = press_again
class Broken:
    def __del__(self):
        raise ValueError("a bug")
Broken()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0
    assert "ValueError: a bug" in done.stderr


def test_a_package_that_is_not_installed_is_named_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    """On an edge box there is no torch; that is no bug to report. A module of our own that is missing is one."""

    def lack(name: str) -> None:
        def missing(*_: object) -> None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

        monkeypatch.setattr("simulations.settings.layered", missing)

    monkeypatch.delenv("CROSSPLANT_DEBUG", raising=False)
    lack("torch.nn")
    told = crossplant_here("config", "show").stderr
    assert told.startswith("CP-000 CrossplantError: This needs the package 'torch.nn', which is not installed.")
    assert "report it" not in told
    lack("shared.nothing")
    assert "report it" in crossplant_here("config", "show").stderr


def test_a_bug_is_one_line_too_and_a_traceback_on_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr("simulations.settings.layered", fail)
    monkeypatch.delenv("CROSSPLANT_DEBUG", raising=False)
    assert crossplant_here("config", "show").stderr.startswith("CP-000 Unexpected: ZeroDivisionError: by nothing ")
    monkeypatch.setenv("CROSSPLANT_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        crossplant_here("config", "show")


def test_a_run_goes_on_when_its_reader_has_left() -> None:
    """What `simulate | head -1` does to the console of a run."""
    program = """
from simulations.cli import lasting_console
console = lasting_console()
for _ in range(3):
    console.print("a round")
import sys
sys.stderr.write("finished")
"""
    receiving, sending = os.pipe()
    os.close(receiving)
    with os.fdopen(sending, "w") as out:
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, "finished")
    assert Console.on_broken_pipe.__module__ == "rich.console"


@pytest.mark.parametrize("flags", [["--preset", "demo"], ["--set", "seed=1"]])
def test_settings_of_a_run_take_no_others(flags: list[str], tmp_path: Path) -> None:
    done = crossplant_here("config", "show", "--run", tmp_path, *flags)
    assert done.returncode == 2
    assert "--run" in done.stderr


def test_no_command_offers_to_install_completion() -> None:
    for command in ("simulate", "rounds", "config"):
        assert "completion" not in crossplant_here(command, "--help").stdout
