"""A verdict, and how a check becomes one: what goes wrong in a check is its verdict, never the end of the others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeVar

from shared.errors import CrossplantError
from shared.pki.trouble import CertificateUnusable

Result = TypeVar("Result")
REPORT = "Please report this with the command that led here."


@dataclass(frozen=True)
class Verdict:
    """What one check found.

    Attributes:
        name: what was checked, such as `clock`.
        status: `fail` keeps the start from going well; `warn` will, one day; `skip` could not be checked.
        says: what was found, in one sentence.
        mend: what to do about it; empty when there is nothing to do.
    """

    name: str
    status: Literal["ok", "warn", "fail", "skip"]
    says: str
    mend: str = ""


def ok(name: str, says: str) -> Verdict:
    """All is well."""
    return Verdict(name, "ok", says)


def warn(name: str, says: str, mend: str) -> Verdict:
    """All is well for now."""
    return Verdict(name, "warn", says, mend)


def fail(name: str, says: str, mend: str) -> Verdict:
    """It must be mended before a start."""
    return Verdict(name, "fail", says, mend)


def skip(name: str, says: str) -> Verdict:
    """It could not be checked, and that is no failure of its own."""
    return Verdict(name, "skip", says)


def judged(name: str, look: Callable[[], Verdict | Iterable[Verdict]], mend: str | None = None) -> list[Verdict]:
    """The verdicts of a check; an error of ours brings its own cure, any other is a failure too.

    Args:
        name: of the verdict when the check raises.
        look: the check.
        mend: what to do about a certificate, which is not the same for a plant and for the operator.
    """
    try:
        found = look()
        return [found] if isinstance(found, Verdict) else list(found)
    except CrossplantError as error:
        cure = mend if mend is not None and isinstance(error, CertificateUnusable) else error.cure
        return [fail(name, f"{error.code}: {error.cause}", cure)]
    except (OSError, UnicodeError) as error:
        place = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
        says = f"{place}{getattr(error, 'strerror', None) or error}."
        return [fail(name, says, "Check the path and its rights, or restore it from a backup.")]
    except Exception as error:  # A check that breaks must not keep the others from being made.
        return [fail(name, f"{type(error).__name__}: {str(error)[:200]}", REPORT)]


class TookTooLong(Exception):
    """A call did not come back in time."""


def within(seconds: float, call: Callable[[], Result]) -> Result:
    """A call that may hang for ever (a name look-up, a server that trickles), given up after some seconds.

    Raises:
        TookTooLong: it did not come back; its thread is left to end by itself.
        Exception: whatever the call raises.
    """
    box: dict[str, Any] = {}

    def run() -> None:
        try:
            box["result"] = call()
        except BaseException as error:  # Carried to the caller's thread.
            box["error"] = error

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if "error" in box:
        raise box["error"]
    if "result" not in box:
        raise TookTooLong
    result: Result = box["result"]
    return result


def as_json(verdicts: Iterable[Verdict]) -> dict[str, Any]:
    """For programs."""
    found = list(verdicts)
    return {"format": 1, "ready": ready(found), "checks": [asdict(one) for one in found]}


def ready(verdicts: Iterable[Verdict]) -> bool:
    """Whether nothing failed."""
    return all(one.status != "fail" for one in verdicts)
