"""What outlives a scorer's process: which bundle is in force, which one is tried, which were refused and why.

    STATE/swap.json        `State`: changed in one step, on the disk before a model changes
    STATE/models/DIGEST/   the scorer's own copies of bundles: the agent may remove what it published
    STATE/standing.json    how the trial and the line to the server stand: for people, and lost without harm
    STATE/page.seen        touched while somebody looks at the page
    STATE/rollback.json    what a person asks for; removed when it is done

Killed at any moment, `swap.json` names the bundle before or the one after, and both lie in `models`.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta, structs

from client.edge.gates import Check
from shared.artefact import Artefact
from shared.bundle.files import INDEX, OPTIONAL, REQUIRED, SIGNATURE, read_file
from shared.bundle.folder import DIGEST
from shared.disk import replace_file, sync_folder
from shared.errors import BundleInvalid, FileTrouble

FILE, MODELS, STANDING, REQUEST = "swap.json", "models", "standing.json", "rollback.json"
SEEN = "page.seen"  # touched while somebody looks at the page
FORMAT = 1
EVENTS = 50  # that are remembered
REFUSALS = 50
_MOST = 2**20  # bytes of a file that is read here
_CURE = "Free some space or check the folder's permissions; scoring goes on with the bundle in force."
Digest = Annotated[str, Meta(pattern="^([0-9a-f]{64})?$")]


class Refusal(Artefact, frozen=True, kw_only=True):
    """A bundle that is not looked at again while its files stay as they are.

    Attributes:
        digest: its name.
        stamp: what its files looked like.
        why: the reason, for a person.
        time: when, by the machine's clock, in seconds since 1970-01-01 UTC.
    """

    digest: str
    stamp: str
    why: str
    time: float


class Event(Artefact, frozen=True, kw_only=True):
    """Something that happened to the models: `first`, `shadow`, `adopted`, `confirmed`, `refused`, `rolled back`.

    Attributes:
        time: by the machine's clock, in seconds since 1970-01-01 UTC.
        what: see above.
        digest: of which bundle.
        told: why, for a person.
        checks: the gates, where there were any.
    """

    time: float
    what: str
    digest: str
    told: str = ""
    checks: tuple[Check, ...] = ()


class State(Artefact, frozen=True, kw_only=True):
    """What is in force, durable.

    Attributes:
        format: of the file.
        site: whose bundles.
        current: digest of the bundle in force.
        previous: of the one before it, for a rollback; empty: none.
        shadow: of the one that is tried; empty: none.
        probation: whether `current` is on probation, and `previous` takes over when it fails.
        starts: of the process since the probation began.
        doubt, previous_doubt: gates that let `current` and `previous` pass for want of data, in words.
        uncalibrated: why `current` is not known to keep its false alarm rate, `doubt` included; empty: it is.
        refused: newest last.
        events: newest last.
    """

    site: str
    current: Digest
    format: int = FORMAT
    previous: Digest = ""
    shadow: Digest = ""
    probation: bool = False
    starts: Annotated[int, Meta(ge=0)] = 0
    doubt: str = ""
    previous_doubt: str = ""
    uncalibrated: str = ""
    refused: tuple[Refusal, ...] = ()
    events: tuple[Event, ...] = ()

    def check(self) -> None:
        if self.format != FORMAT:
            raise ValueError(f"it has format {self.format}, this version reads {FORMAT}")

    def with_event(self, event: Event) -> State:
        """With one more event."""
        return structs.replace(self, events=(*self.events, event)[-EVENTS:])

    def refusing(self, refusal: Refusal) -> State:
        """With one more refusal, in the place of an older one of the same bundle."""
        kept = tuple(one for one in self.refused if one.digest != refusal.digest)
        return structs.replace(self, refused=(*kept, refusal)[-REFUSALS:])

    def allowing(self, digest: str) -> State:
        """Without the refusal of a bundle."""
        return structs.replace(self, refused=tuple(one for one in self.refused if one.digest != digest))

    def is_refused(self, digest: str, stamp: str) -> bool:
        """Whether a bundle was refused, and its files are what they were then."""
        return any(one.digest == digest and one.stamp == stamp for one in self.refused)

    @property
    def kept(self) -> frozenset[str]:
        """Bundles whose copies stay."""
        return frozenset((self.current, self.previous, self.shadow)) - {""}


def read_state(folder: Path) -> State | None:
    """Read `swap.json`; None where there is none yet.

    Raises:
        FileTrouble: it is damaged, or of another version.
    """
    path = folder / FILE
    try:
        return State.parse(_read(path))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        told = getattr(error, "strerror", None) or error
        raise FileTrouble(f"{path} cannot be read: {told}.", "Remove it to begin with the bundle you give.") from error


def write_state(folder: Path, state: State) -> None:
    """Write `swap.json` in one step.

    Raises:
        FileTrouble: the disk refuses; the file is what it was.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(folder / FILE, state.pretty)
    except OSError as error:
        raise FileTrouble(f"{folder / FILE} cannot be written: {error.strerror or error}.", _CURE) from error


def copy_bundle(source: Path, state: Path, digest: str) -> Path:
    """The scorer's own copy of a bundle, whole or not at all; what it holds is not judged here.

    Args:
        source: folder of the bundle.
        state: the state folder.
        digest: its name.

    Returns:
        the folder of the copy.

    Raises:
        BundleInvalid: a file cannot be read, as when it is missing or no file.
        FileTrouble: the disk refuses.
    """
    place = state / MODELS / digest
    if place.is_dir():
        return place
    scratch = place.with_name(f".{digest}.new")
    try:
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        for name in sorted(REQUIRED | OPTIONAL | {INDEX, SIGNATURE}):
            if name not in OPTIONAL or os.path.lexists(source / name):
                _write_synced(scratch / name, read_file(source, name))
        sync_folder(scratch)
        scratch.rename(place)
        sync_folder(place.parent)
    except OSError as error:
        raise FileTrouble(f"{scratch} cannot be written: {error.strerror or error}.", _CURE) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return place


def drop_copies(state: Path, keep: frozenset[str]) -> None:
    """Remove copies that nothing names any more, and what a killed process left."""
    with suppress(OSError):
        for path in (state / MODELS).iterdir():
            if path.name not in keep:
                shutil.rmtree(path, ignore_errors=True)


def copies(state: Path) -> tuple[str, ...]:
    """Digests of the copies that there are."""
    try:
        return tuple(sorted(path.name for path in (state / MODELS).iterdir() if DIGEST.fullmatch(path.name)))
    except OSError:
        return ()


def stamp_of(folder: Path) -> str:
    """What a folder's files look like from outside: names, sizes, times. Empty when it cannot be looked at."""
    try:
        return ";".join(
            f"{e.name}:{e.stat(follow_symlinks=False).st_size}:{e.stat(follow_symlinks=False).st_mtime_ns}"
            for e in sorted(os.scandir(folder), key=lambda entry: entry.name)[:40]
        )
    except OSError:
        return ""


def ask_rollback(state: Path, to: str) -> None:
    """Leave a request to go back to a bundle; the scorer takes it at its next look.

    Args:
        state: the state folder.
        to: its digest.

    Raises:
        FileTrouble: it cannot be written.
    """
    try:
        replace_file(state / REQUEST, json.dumps({"to": to, "time": time.time()}).encode())
    except OSError as error:
        raise FileTrouble(f"{state / REQUEST} cannot be written: {error.strerror or error}.", _CURE) from error


def asked_rollback(state: Path) -> str | None:
    """The digest that somebody asks for; None where nobody does. A file that is no request is removed."""
    found = read_table(state / REQUEST)
    if found is None:
        return None
    to = found.get("to")
    if isinstance(to, str) and DIGEST.fullmatch(to):
        return to
    drop_request(state)
    return None


def drop_request(state: Path) -> None:
    """The request is done, or cannot be."""
    with suppress(OSError):
        (state / REQUEST).unlink()


def write_standing(state: Path, table: dict[str, Any]) -> None:
    """Write `standing.json`; a disk that refuses must not stop anything. Not synced: it is lost without harm."""
    scratch = state / f".{STANDING}.new"
    with suppress(OSError, ValueError):
        scratch.write_bytes(json.dumps(table, allow_nan=False).encode())
        scratch.replace(state / STANDING)


def is_watched(state: Path, now: float, within_s: float = 30.0) -> bool:
    """Whether somebody has the page open."""
    try:
        return now - (state / SEEN).stat().st_mtime < within_s
    except OSError:
        return False


def read_table(path: Path) -> dict[str, Any] | None:
    """A JSON object from a small file; None where there is none, {} where it is something else."""
    try:
        found = json.loads(_read(path))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _read(path: Path) -> bytes:
    try:
        return read_file(path.parent, path.name, _MOST)
    except BundleInvalid as error:
        if isinstance(error.__cause__, OSError | ValueError):
            raise error.__cause__ from None
        raise


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
