"""Runs on the network: asked for, submitted, resubmitted when their process died, and made final.

A run lives in the round store. Flower's run is only what carries it for a while: when that ends before the plan does,
another one goes on at the last committed round (`server.app` reads the store's latest state).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from server.run.place import ServerPlace
from server.store.rows import RunInfo, RunStatus
from server.store.store import RoundStore
from shared.disk import replace_file
from shared.errors import InvalidConfig

if TYPE_CHECKING:
    from server.run.control import Control
    from shared.config import RunConfig

MOST_ATTEMPTS = 20
"""Flower runs in a row that end without a committed round before a run is called failed."""

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
    """

    run: str
    roster: tuple[str, ...]
    carrier: int | None = None
    attempts: int = 0
    rounds: int = 0

    def write(self, folder: Path) -> None:
        """Keep it in `folder`."""
        content = {
            "run": self.run, "roster": self.roster, "carrier": self.carrier,
            "attempts": self.attempts, "rounds": self.rounds,
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
            carrier = None if found["carrier"] is None else int(found["carrier"])
            roster = tuple(str(name) for name in found["roster"])
            return cls(str(found["run"]), roster, carrier, int(found["attempts"]), int(found["rounds"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidConfig(f"{path} is damaged.", "Remove it, and start the run again.") from error


def ask_for(place: ServerPlace, store: str, run: str, config: RunConfig, roster: tuple[str, ...]) -> Submission:
    """Enter a run into the round store and leave it for `crossplant server run` to submit.

    Raises:
        InvalidConfig: nobody to send it to.
        StoreError: there is a run of that name.
    """
    if len(roster) < 2:
        raise InvalidConfig(
            f"a run needs two plants, not {len(roster)}.", "Approve plants with `crossplant provision site approve`."
        )
    place.prepare()
    with RoundStore.create(store) as opened:
        opened.start_run(run, config)
    submission = Submission(run, roster)
    submission.write(place.runs)
    return submission


class Reaper:
    """Looks after the runs that were asked for: submits, notices dead carriers, makes runs final. One run at a time.

    Args:
        place: the federation.
        store: location of the round store.
        bundle: the app to submit.
        say: tells people.
        named: plants are known by their keys; without, a run goes to whoever is connected.
    """

    def __init__(
        self, place: ServerPlace, store: str, bundle: bytes, say: Callable[[str], None], named: bool = True
    ) -> None:
        self._place, self._store, self._bundle, self._say, self._named = place, store, bundle, say, named

    def look(self, control: Control) -> None:
        """Look once at the oldest run that is not over.

        Raises:
            CrossplantError: its note is damaged, or the SuperLink or the store cannot be used just now.
        """
        with RoundStore.open(self._store) as store:
            known = store.runs()
        for info in known:
            path = self._place.runs / f"{info.name}.json"
            if path.exists():
                return self._look_at(control, Submission.read(path), path, info)
        return None

    def _look_at(self, control: Control, submission: Submission, path: Path, info: RunInfo) -> None:
        if submission.carrier is None:
            return self._submit(control, submission, info.rounds)
        standing = control.standing(submission.carrier)
        if standing is not None and standing.status != "finished":
            return self._end_orphan(control, submission)
        if info.status is RunStatus.FINISHED:
            path.unlink(missing_ok=True)
            return self._say(f"run {submission.run}: finished.")
        why = "the SuperLink lost it" if standing is None else standing.details or standing.outcome
        if _hopeless(why) or (info.rounds == submission.rounds and submission.attempts >= MOST_ATTEMPTS):
            return self._give_up(submission, path, why)
        self._say(f"run {submission.run}: its process ended ({why}); it goes on at round {info.rounds + 1}.")
        return self._submit(control, submission, info.rounds)

    def _submit(self, control: Control, submission: Submission, rounds: int) -> None:
        roster = ",".join(submission.roster) if self._named else ""
        settings = {"run": submission.run, "roster": roster}
        carrier = control.start(self._bundle, settings)
        attempts = 1 if rounds > submission.rounds else submission.attempts + 1
        replace(submission, carrier=carrier, attempts=attempts, rounds=rounds).write(self._place.runs)

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
        with RoundStore.open(self._store) as store:
            store.finish_run(submission.run, RunStatus.FAILED)
        path.unlink(missing_ok=True)
        self._say(f"run {submission.run}: failed: {why}")


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
