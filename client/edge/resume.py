"""Which bundle a scorer begins with: the one that was in force, the one before it, or what the agent published."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from msgspec import structs

from client.edge import state as disk
from client.edge.gates import Check
from client.edge.loading import load_edge
from client.edge.state import Event, Refusal, State
from shared.bundle.edge import EdgeBundle
from shared.errors import BundleInvalid, CrossplantError, FileTrouble, InvalidConfig

STARTS = 3  # of a process within one probation; a model that ends it more often goes back


@dataclass
class Resumed:
    """Where a scorer begins.

    Attributes:
        state: of the models.
        bundle: in force.
        troubles: what people should know.
    """

    state: State
    bundle: EdgeBundle
    troubles: list[str] = field(default_factory=list)


def resume(folder: Path, home: Path, trust: Path | None = None) -> Resumed:
    """Find the bundle to begin with, and the state that belongs to it; nothing is written but a first copy.

    Args:
        folder: of versions, or one bundle.
        home: the state folder; made if it is missing.
        trust: file with the agent's public key; None: the one pinned in `home`.

    Raises:
        BundleInvalid: there is none that can be used.
        FileTrouble: the state folder cannot be made.
        InvalidConfig: the state folder is another plant's.
    """
    troubles: list[str] = []
    state = _found_state(home, troubles)
    if state is not None:
        found = _resumed(_counted(state, folder, troubles), folder, home, trust, troubles)
        if found is not None:
            _check_site(found.bundle, folder, home, trust)
            return found
    bundle = load_edge(folder, trust, home)
    with suppress(CrossplantError):  # A full disk: the agent's copy serves.
        disk.copy_bundle(bundle.folder, home, bundle.digest)
    first = State(site=bundle.provenance.site, current=bundle.digest)
    event = Event(time=time.time(), what="first", digest=bundle.digest)
    return Resumed(first.with_event(event), bundle, troubles)


def own_copy(home: Path, digest: str, trust: Path | None) -> EdgeBundle:
    """A bundle from the scorer's own copies, verified.

    Raises:
        BundleInvalid, FileTrouble, MissingExtra: as `client.edge.loading.load_edge`.
    """
    if not digest:
        raise BundleInvalid("there is none.")
    bundle = load_edge(home / disk.MODELS / digest, trust, home)
    if bundle.digest != digest:
        raise BundleInvalid(f"{bundle.folder} holds another bundle than its name says.")
    return bundle


def gone_back(state: State, why: str, stamp: str, checks: tuple[Check, ...] = ()) -> State:
    """The bundle before the current one is in force again, and the current one refused.

    Args:
        state: as it was.
        why: the reason.
        stamp: of the refused bundle's files.
        checks: the gates.
    """
    now, bad = time.time(), state.current
    event = Event(time=now, what="rolled back", digest=state.previous, told=why, checks=checks)
    refusal = Refusal(digest=bad, stamp=stamp, why=why, time=now)
    doubt = state.previous_doubt
    kept = structs.replace(
        state, current=state.previous, previous="", probation=False, starts=0, doubt=doubt, previous_doubt=""
    )
    return kept.refusing(refusal).with_event(event)


def _found_state(home: Path, troubles: list[str]) -> State | None:
    try:
        home.mkdir(parents=True, exist_ok=True)
        return disk.read_state(home)
    except OSError as error:
        raise FileTrouble(f"{home}: {error.strerror or error}.") from error
    except FileTrouble as error:
        troubles.append(f"{error.cause} The agent's bundle counts.")
        return None


def _counted(state: State, folder: Path, troubles: list[str]) -> State:
    """One start more within a probation; too many of them end it."""
    if not state.probation:
        return state
    if state.starts < STARTS or not state.previous:
        return structs.replace(state, starts=state.starts + 1)
    told = f"the scorer ended {state.starts} times during its probation"
    troubles.append(f"{state.current[:12]} is rolled back: {told}")
    return gone_back(state, told, disk.stamp_of(folder / state.current))


def _resumed(state: State, folder: Path, home: Path, trust: Path | None, troubles: list[str]) -> Resumed | None:
    try:
        return Resumed(state, own_copy(home, state.current, trust), troubles)
    except CrossplantError as error:
        troubles.append(f"{state.current[:12]} cannot be used any more: {error.cause}")
    with suppress(CrossplantError):
        bundle = own_copy(home, state.previous, trust)
        return Resumed(gone_back(state, "its copy is damaged", disk.stamp_of(folder / state.current)), bundle, troubles)
    return None


def _check_site(bundle: EdgeBundle, folder: Path, home: Path, trust: Path | None) -> None:
    site = bundle.provenance.site
    with suppress(BundleInvalid, FileTrouble):  # The agent's folder may be gone: what was kept scores on.
        offered = load_edge(folder, trust, home).provenance.site
        if offered != site:
            cause = f"{home} is the state folder of {site}, not of {offered}."
            raise InvalidConfig(cause, "Give each plant a state folder of its own.")
