"""The front door: runs one command line and turns every error into one line and an exit code.

Exit codes: 0 done (also when the reader of the output went away), 1 an error the user can mend (one line on stderr
that starts with its code), 2 wrong usage, 130 interrupted. Nothing heavy is imported before errors are caught.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TextIO

INTERRUPTED = 130
_AGAIN, _AGAIN_S = "crossplant: Ctrl-C again", 0.05
OWN = ("client", "server", "shared", "simulations")  # packages whose absence is a bug


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit code and never raises."""
    try:
        code = _dispatch(arguments)
        if sys.stdout is not None:
            sys.stdout.flush()
    except BaseException as error:  # The last line of defence: a user never meets a traceback.
        return report(error)
    return code


def _dispatch(arguments: Sequence[str] | None) -> int:
    import click

    from shared.frontdoor import root

    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        # Not `root.main`: that turns a broken pipe into a SystemExit that looks like any other.
        with root.make_context("crossplant", given) as context:
            code = root.invoke(context)
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    return code if isinstance(code, int) else 0


def report(error: BaseException) -> int:
    """Say in one line what went wrong; the exit code."""
    if _reader_left(error):
        # The reader went away, as `| head` does: not an error, and nothing more can be said.
        silence(sys.stdout)
        return 0
    if isinstance(error, KeyboardInterrupt):
        return _interrupted()
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    try:
        return _explain(error)
    except KeyboardInterrupt:
        return _interrupted()


def _reader_left(error: BaseException) -> bool:
    """Whether a pipe broke; rich turns that into a SystemExit."""
    cause = error.__context__ if isinstance(error, SystemExit) else error
    return isinstance(cause, BrokenPipeError)


def _explain(error: BaseException) -> int:
    import click

    from shared.errors import CrossplantError

    if isinstance(error, click.exceptions.Abort):
        return _interrupted()
    if isinstance(error, click.ClickException):
        error.show()
        return error.exit_code
    if isinstance(error, CrossplantError):
        return _fail(str(error))
    if os.environ.get("CROSSPLANT_DEBUG"):
        raise error
    if isinstance(error, OSError | UnicodeEncodeError):
        return _fail(_file_trouble(error))
    if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] not in OWN:
        cure = (
            "An edge box has less than an agent's machine: run this there, or `pip install 'crossplant[simulation]'`."
        )
        return _fail(str(CrossplantError(f"This needs the package {error.name!r}, which is not installed.", cure)))
    cause = f"{type(error).__name__}: {error}"
    return _fail(f"CP-000 Unexpected: {cause} Set CROSSPLANT_DEBUG=1 to see where, and please report it.")


def _file_trouble(error: OSError | UnicodeEncodeError) -> str:
    """One line for what the operating system refused."""
    from shared.errors import FileTrouble

    if isinstance(error, UnicodeEncodeError):
        cause = f"{error.object[:200]!r} cannot be written as {error.encoding}: {error.reason}."
        return str(FileTrouble(cause, "Choose names and paths that are valid UTF-8."))
    names = " -> ".join(ascii(str(name))[1:-1][:300] for name in (error.filename, error.filename2) if name is not None)
    return str(FileTrouble(f"{names or 'a file or the output'}: {error.strerror or error or type(error).__name__}."))


def _interrupted() -> int:
    _fail("Interrupted.")
    return INTERRUPTED


def _fail(line: str) -> int:
    try:
        sys.stderr.write(" ".join(line.split()) + "\n")
        sys.stderr.flush()
    except OSError:  # Nobody is left to tell; the exit code still says it.
        silence(sys.stderr)
    _drop_unwritten()
    return 1


def _drop_unwritten() -> None:
    """What stdout still holds and cannot write (a full disk) would fail again, with a traceback, when Python ends."""
    try:
        sys.stdout.flush()
    except OSError:
        silence(sys.stdout)


def silence(stream: TextIO) -> None:
    """Send what a broken stream is still given to nowhere."""
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError, AttributeError):  # Not a file of the system: a test's or another program's.
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def main() -> None:
    """The console command."""
    open_missing_streams()
    sys.unraisablehook = press_again
    code = run()
    if code == INTERRUPTED:
        import signal

        signal.signal(signal.SIGINT, signal.SIG_IGN)  # it ends already: another Ctrl-C would only print a traceback
    sys.exit(code)


def press_again(lost: sys.UnraisableHookArgs) -> None:
    """Python drops what is raised in a finalizer, with a traceback. A Ctrl-C that came just then is pressed again, once
    for all that came together.
    """
    if lost.exc_type is not KeyboardInterrupt:
        sys.__unraisablehook__(lost)
    elif not sys.is_finalizing():
        import signal
        import threading

        if any(thread.name == _AGAIN for thread in threading.enumerate()):
            return
        main = threading.main_thread().ident
        later = threading.Timer(_AGAIN_S, signal.pthread_kill, (main, signal.SIGINT))  # here it would be lost again
        later.name, later.daemon = _AGAIN, True
        later.start()


def open_missing_streams() -> None:
    """A process started with `>&-` has no stdout; a file opened later would take its place. What no encoding of a
    stream has is written as an escape.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
