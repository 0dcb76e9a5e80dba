"""Runs on the network: asked for, submitted, resubmitted when their process died, and made final.

A run lives in the round store. Flower's run is only what carries it for a while: when that ends before the plan does,
another one goes on at the last committed round (`server.app` reads the store's latest state).
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from server.run.place import ServerPlace
from server.store.registry import Registry
from server.store.rows import RunInfo, RunStatus
from server.store.store import RoundStore
from shared.disk import replace_file
from shared.errors import FileTrouble, InvalidConfig, RoundNotFound

if TYPE_CHECKING:
    from server.run.control import Control, Standing
    from shared.config import RunConfig

NOTES = "CROSSPLANT_NOTES"
"""Environment variable that tells a ServerApp where the notes of runs are; without it, a run goes to all plants."""

MOST_ATTEMPTS = 20
"""Flower runs in a row that end without a committed round before a run is called failed."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # of a run: it names a file, too
_STORE = "store"
_FAILED, _DONE = ".failed", ".done"
_PAUSE_S, _LONGEST_PAUSE_S = 10.0, 60.0
_PASSING = ("CP-405", "CP-406", "No space left on device")  # waited out for as long as it takes
_PERMANENT = ("CP-1", "CP-301", "CP-302", "CP-402", "CP-404")


@dataclass(frozen=True)
class Submission:
    """A run that was asked for and is not over.

    Attributes:
        run: name in the round store.
        roster: plants it goes to, and to nobody else.
        carrier: Flower's run id; None before it was submitted.
        attempts: Flower runs since the last committed round.
        rounds: committed rounds when the last one was submitted.
        stood: how the run stood that was taken up again for an operator's order alone; None for any other.
    """

    run: str
    roster: tuple[str, ...]
    carrier: int | None = None
    attempts: int = 0
    rounds: int = 0
    stood: RunStatus | None = None

    def write(self, folder: Path) -> None:
        """Keep it in `folder`."""
        content = {
            "run": self.run, "roster": self.roster, "carrier": self.carrier,
            "attempts": self.attempts, "rounds": self.rounds, "stood": self.stood,
        }  # fmt: skip
        replace_file(folder / f"{self.run}.json", json.dumps(content).encode(), 0o600)

    @classmethod
    def read(cls, path: Path) -> Submission:
        """Read what `write` wrote.

        Raises:
            InvalidConfig: it is damaged.
        """
        try:
            found = json.loads(path.read_bytes())
            numbers = (found["attempts"], found["rounds"], *([] if found["carrier"] is None else [found["carrier"]]))
            known = found["run"] == path.stem and type(found["roster"]) is list and len(found["roster"]) >= 2
            if not known or any(type(name) is not str for name in found["roster"]):
                raise ValueError("another run's, or for no plants")
            if any(type(number) is not int or not 0 <= number < 2**64 for number in numbers):
                raise ValueError("no number")
            stood = None if found.get("stood") is None else RunStatus(found["stood"])
            return cls(path.stem, tuple(found["roster"]), found["carrier"], found["attempts"], found["rounds"], stood)
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise InvalidConfig(f"{path} is damaged.", "Remove it, and start the run again.") from error


def ask_for(
    place: ServerPlace, store: str, run: str, config: RunConfig, roster: tuple[str, ...], signature: str = ""
) -> Submission:
    """Enter a run into the round store and leave it for `crossplant server run` to submit.

    Args:
        place: the federation.
        store: location of the round store.
        run: a new name.
        config: its settings.
        roster: the plants.
        signature: the operator's over all this; empty when nobody signed it.

    Raises:
        InvalidConfig: nobody to send it to, or a name that is none.
        StoreError: there is a run of that name.
        FileTrouble: the disk refuses; the run is made final.
    """
    if not _NAME.fullmatch(run):
        raise InvalidConfig(f"{run[:80]!r} cannot name a run.", "Use letters, digits, `.`, `_` and `-`, 64 at most.")
    if len(roster) < 2:
        raise InvalidConfig(
            f"a run needs two plants, not {len(roster)}.", "Approve plants with `crossplant provision site approve`."
        )
    place.prepare()
    submission = Submission(run, roster)
    with create_store(place, store) as opened:
        opened.start_run(run, config, signature=signature)
        try:
            submission.write(place.runs)
        except OSError as error:
            opened.finish_run(run, RunStatus.FAILED)
            raise FileTrouble(f"cannot write into {place.runs}: {error.strerror}.") from error
    return submission


def ask_again(place: ServerPlace, store: str, run: str) -> None:
    """Go on with a run that failed, with the plants that it had, at its last committed round.

    Raises:
        RoundNotFound: no run of that name has failed here.
        FileTrouble: the disk refuses.
    """
    failed = place.runs / f"{run}{_FAILED}"
    if not _NAME.fullmatch(run) or not failed.is_file():
        raise RoundNotFound(f"no run {run[:80]!r} has failed here.", "`crossplant rounds list` says how a run stands.")
    with create_store(place, store) as opened:
        submission = Submission(run, Submission.read(failed).roster, rounds=opened.run(run).rounds)
        try:
            submission.write(place.runs)
            failed.unlink()
        except OSError as error:
            raise FileTrouble(f"cannot write into {place.runs}: {error.strerror}.") from error
        opened.finish_run(run, RunStatus.RUNNING, "")


def notes_of(place: ServerPlace, run: str) -> tuple[Path, ...]:
    """Where a run's `Submission` may lie: under way, failed, finished; nowhere when the name is none."""
    return tuple(place.runs / f"{run}{end}" for end in (".json", _FAILED, _DONE)) if _NAME.fullmatch(run) else ()


def create_store(place: ServerPlace, location: str) -> RoundStore:
    """The round store of a federation, made when it is missing; behind a URL, models are kept in its `models/`.

    Raises:
        StoreError: the place cannot be written.
    """
    return RoundStore.create(location, place.root / "models" if "://" in location else None)


def whole_location(place: ServerPlace, location: str | None) -> str:
    """The location of the round store, good for a process in any folder; the federation's folder when none is given."""
    given = str(place.root) if location is None else location
    return given if "://" in given else os.path.abspath(given)


def tell_store(place: ServerPlace, location: str) -> None:
    """Leave the location of the round store for `told_store`: for the one process that holds the federation's lock."""
    replace_file(place.run / _STORE, location.encode(errors="surrogateescape"), 0o600)  # a URL may hold a password


def told_store(place: ServerPlace) -> str:
    """Where the server that was started last keeps its rounds; the federation's folder when none ever was."""
    try:
        return (place.run / _STORE).read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return str(place.root)


class Reaper:
    """Looks after the runs that were asked for: submits, notices dead carriers, makes runs final. One run at a time.

    Args:
        place: the federation.
        store: location of the round store.
        bundle: the app to submit.
        say: tells people.
    """

    def __init__(self, place: ServerPlace, store: str, bundle: bytes, say: Callable[[str], None]) -> None:
        self._place, self._store, self._bundle, self._say = place, store, bundle, say
        self._clock: Callable[[], float] = time.monotonic
        self._waits: tuple[int | None, float, str] = (None, 0.0, "")  # for whom, until when, why

    def look(self, control: Control) -> None:
        """Look once at the oldest run that is not over.

        Raises:
            CrossplantError: a note is damaged (runs after it go on), or the SuperLink or the store cannot be used now.
        """
        with RoundStore.open(self._store) as store:
            known, ordered = store.runs(), Registry(store).waiting()
        self._take_up(known, ordered)
        damaged: InvalidConfig | None = None
        for info in known:
            path = self._place.runs / f"{info.name}.json"
            if not path.exists():
                continue
            try:
                submission = Submission.read(path)
            except InvalidConfig as error:
                damaged = damaged or error
                continue
            self._look_at(control, submission, path, info)
            break
        if damaged is not None:
            raise damaged

    def _take_up(self, known: list[RunInfo], ordered: frozenset[str]) -> None:
        """Where nothing is under way, a run that is over is taken up once more for an operator's order alone."""
        if not ordered or any((self._place.runs / f"{info.name}.json").exists() for info in known):
            return
        damaged: InvalidConfig | None = None
        for info in known:
            note = self._place.runs / f"{info.name}{_FAILED if info.status is RunStatus.FAILED else _DONE}"
            if info.name not in ordered or info.status not in (RunStatus.FINISHED, RunStatus.FAILED):
                continue
            try:
                roster = Submission.read(note).roster if note.is_file() else ()
            except InvalidConfig as error:  # orders for other runs go on
                damaged = damaged or error
                continue
            if roster:
                Submission(info.name, roster, rounds=info.rounds, stood=info.status).write(self._place.runs)
                self._say(f"run {info.name}: taken up for an operator's order.")
                return
        if damaged is not None:
            raise damaged

    def _look_at(self, control: Control, submission: Submission, path: Path, info: RunInfo) -> None:
        if submission.carrier is None:
            return self._submit(control, submission, info.rounds)
        standing = control.standing(submission.carrier)
        if standing is not None and standing.status != "finished":
            return self._end_orphan(control, submission)
        done = standing is not None and standing.outcome == "completed"
        if info.status is RunStatus.FINISHED if submission.stood is None else done:
            stands = submission.stood or info.status  # which was read before its process set it back
            path.replace(path.with_suffix(_FAILED if stands is RunStatus.FAILED else _DONE))
            return self._say(f"run {submission.run}: {stands.value}.")
        why = "the SuperLink lost it" if standing is None else _reason(standing)
        exhausted = info.rounds == submission.rounds and submission.attempts >= MOST_ATTEMPTS
        if not _passing(why) and (_hopeless(why) or exhausted):
            return self._give_up(submission, path, why)
        if not self._rested(submission, why, info.rounds):
            return None
        counted = replace(submission, attempts=submission.attempts - 1) if _passing(why) else submission
        return self._submit(control, counted, info.rounds)

    def _submit(self, control: Control, submission: Submission, rounds: int) -> None:
        settings = {"run": submission.run}  # Flower shows these to every plant
        replace(submission, carrier=None).write(self._place.runs)  # or nothing is started that nobody would remember
        carrier = control.start(self._bundle, settings)
        attempts = 1 if rounds > submission.rounds else submission.attempts + 1
        replace(submission, carrier=carrier, attempts=attempts, rounds=rounds).write(self._place.runs)

    def _rested(self, submission: Submission, why: str, rounds: int) -> bool:
        """Whether the pause before the next attempt is over; people hear of a reason once."""
        carrier, ends, said = self._waits
        if carrier != submission.carrier:
            pause = 0.0 if rounds > submission.rounds else _pause(submission, why)
            ends = self._clock() + pause
            self._waits = submission.carrier, ends, why
            if said != why or not _passing(why):
                then = f"in {pause:.0f} s " if pause else ""
                self._say(f"run {submission.run}: its process ended ({why}); it goes on {then}at round {rounds + 1}.")
        return self._clock() >= ends

    def _end_orphan(self, control: Control, submission: Submission) -> None:
        """Flower takes a minute to notice that a ServerApp was killed; its process id tells at once."""
        if (holder := self._holder(submission.carrier)) is None or _alive(holder):
            return
        self._say(f"run {submission.run}: process {holder} is gone.")
        assert submission.carrier is not None
        control.stop(submission.carrier)

    def _holder(self, carrier: int | None) -> int | None:
        """The process that said it carries this Flower run."""
        try:
            words = self._place.carrier.read_text(encoding="ascii").split()
        except (OSError, ValueError):
            return None
        return int(words[1]) if len(words) == 2 and words[0] == str(carrier) and words[1].isdigit() else None

    def _give_up(self, submission: Submission, path: Path, why: str) -> None:
        if submission.stood is not None:
            return self._forget_order(submission, submission.stood, path, why)
        with RoundStore.open(self._store) as store:
            store.finish_run(submission.run, RunStatus.FAILED, why)
        path.replace(path.with_suffix(_FAILED))  # `ask_again` goes on with the same plants
        return self._say(f"run {submission.run}: failed: {why}")

    def _forget_order(self, submission: Submission, stood: RunStatus, path: Path, why: str) -> None:
        with RoundStore.open(self._store) as store:
            if (order := Registry(store).open_order(submission.run)) is not None:
                Registry(store).fail(order.id, why)
            store.finish_run(submission.run, stood)
        path.replace(path.with_suffix(_FAILED if stood is RunStatus.FAILED else _DONE))
        self._say(f"run {submission.run}: the order was not carried out: {why}")


def _reason(standing: Standing) -> str:
    """Why a Flower run ended, without Flower's introduction."""
    return standing.details.removeprefix("ServerApp failed with exception: ") or standing.outcome


def _passing(why: str) -> bool:
    """Whether what ended a ServerApp passes, such as a full disk: no number of attempts is too many."""
    return any(code in why for code in _PASSING)


def _pause(submission: Submission, why: str) -> float:
    """Seconds before the next attempt: a process that was killed is followed at once."""
    if _passing(why):
        return _PAUSE_S
    return 0.0 if submission.attempts < 3 else min(_LONGEST_PAUSE_S, 2.0 ** (submission.attempts - 2))


def _hopeless(why: str) -> bool:
    """Whether what ended a ServerApp would end the next one too."""
    return any(code in why for code in _PERMANENT)


def _alive(pid: int) -> bool:
    """Whether a process runs. One that ended and was not reaped does not: executors leave theirs like that."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state not in ("Z", "X")
