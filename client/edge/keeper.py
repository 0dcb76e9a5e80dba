"""Keeps a scorer's models: looks for new bundles, examines them, writes down what is in force, answers rollbacks.

A thread of its own does everything that waits for a disk, a child process or a person; the engine's `Swapping` only
swaps what this hands to it. What is on the disk names a whole bundle at any moment.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from msgspec import structs

from client.edge import state as disk
from client.edge.budget import budgeted
from client.edge.engine import Model
from client.edge.examine import Both, examine_apart
from client.edge.gates import Check, SwapSettings, judge_at_rest, judge_live
from client.edge.guard import guard_of, halved
from client.edge.link import Link, read_link
from client.edge.loading import make_model
from client.edge.promise import lacking
from client.edge.resume import gone_back, own_copy, resume
from client.edge.scorer import Scorer
from client.edge.state import Event, Refusal, State
from client.edge.swap import Candidate, Drop, Go, Judged, Offer, Swapping, Tell
from shared.bundle.edge import EdgeBundle, refuse_older, refuse_other_columns
from shared.bundle.files import CURRENT
from shared.bundle.folder import current
from shared.errors import BundleInvalid, CrossplantError, FileTrouble

_ASKED_NO_GATE = "it was chosen by hand, and no gate was asked"
TURN_S = 0.5  # between two looks at what is quick to look at
_STANDING_S = 30.0  # between two notes of how things stand; while somebody looks, every turn
Examine = Callable[[Path, Path, bool], Both]


class Keeper:
    """The models of one scorer.

    Args:
        folder: of versions, as the agent publishes it, or of one bundle: then nothing new is looked for.
        home: the state folder.
        settings: `[swap]`.
        trust: file with the agent's public key; None: the first key that is seen, from then on.
        top: tags named in a score.
        int8: run graphs in 8 bits.
        examine: how a candidate is looked at; in a child process.
        budget: false alarms a day that set the thresholds of every bundle; None: the bundles' own.

    Attributes:
        bundle: in force when the process starts: its schema is what sources deliver.
        model: made of it, for the engine.
        shadow: for the engine.

    Raises:
        BundleInvalid: neither the state folder nor `folder` has a bundle that can be used.
        InvalidConfig: the state folder is another plant's.
    """

    def __init__(
        self,
        folder: Path,
        home: Path,
        settings: SwapSettings,
        trust: Path | None = None,
        top: int = 5,
        int8: bool = False,
        examine: Examine = examine_apart,
        budget: float | None = None,
    ) -> None:
        self._folder, self._home, self._settings = folder, home, settings
        self._trust, self._top, self._int8, self._examine = trust, top, int8, examine
        self._budget = budget
        self._dirty, self._told_pointer, self._told_disk = False, "", ""
        self._looked = self._shown = -math.inf
        self._link = Link("unknown", 0.0, "")
        self._waiting: Judged | None = None
        self._forced = ""
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        found = resume(folder, home, trust)
        self._state, self.bundle = found.state, budgeted(found.bundle, budget)
        live = self._candidate(self.bundle, make_model(self.bundle, top, int8))
        self.model: Model = live.model
        self._live = self.bundle
        self._at_rest = ""  # what could not be told of the one in shadow before it went there
        self._state = _calibrated(self._state, self.bundle, self._state.doubt)
        self.shadow = Swapping(live, settings, self._former())
        self._save()
        for told in found.troubles:
            self._tell("trouble", "", told)

    @property
    def state(self) -> State:
        """What is in force."""
        return self._state

    def start(self) -> None:
        """Look from now on, in a thread."""
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)
        self._thread.start()

    def close(self, timeout_s: float = 5.0) -> None:
        """End the thread; what is on the disk stays as it is."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout_s)
        self._settle()
        self._save()

    def turn(self) -> None:
        """One look at everything. Never raises for what is wrong outside: it is told and tried again, or refused."""
        self._settle()
        self._requested()
        if time.monotonic() - self._looked >= self._settings.look_s:
            self._looked = time.monotonic()
            self._looked_for_new()
            self._looked_at_link()
        if self._dirty:
            self._save()
        self._show()

    def _run(self) -> None:
        while not self._stop.wait(min(TURN_S, self._settings.look_s)):
            try:
                self.turn()
            except Exception as error:  # The scorer must not lose its keeper for an oversight here.
                self._tell("trouble", "", f"{type(error).__name__}: {error}"[:300])
                self._stop.wait(self._settings.look_s)

    def _former(self) -> Candidate | None:
        if not self._state.probation:
            return None
        try:
            bundle = self._own(self._state.previous)
        except CrossplantError:
            self._state = structs.replace(self._state, probation=False, previous="")
            return None
        return self._candidate(bundle, self._made(bundle))

    # ---- what the stage says ---------------------------------------------------------------------------------------

    def _settle(self) -> None:
        while self._waiting is not None or not self.shadow.judged.empty():
            judged = self._waiting or self.shadow.judged.get()
            self._waiting = None
            if judged.what == "passed" and not self._adopt(judged):
                self._waiting = judged  # The disk refuses: nothing goes live that is not written down.
                return
            if judged.what != "passed":
                self._note(judged)

    def _adopt(self, judged: Judged) -> bool:
        old, forced = self._state, self._forced == judged.digest
        if judged.digest not in (old.shadow, old.previous) and not forced:
            return True  # An order of a trial that a person has ended.
        new = structs.replace(
            old, current=judged.digest, previous=old.current, shadow="", probation=not forced, starts=0,
            previous_doubt=old.doubt,
        )  # fmt: skip
        live = self._own_or_live(judged.digest)
        new = _calibrated(new, live, self._doubt(judged, forced))
        what, told = ("rolled back", "by hand") if forced else ("adopted", "no gate failed")
        told += f"; UNCALIBRATED: {new.uncalibrated}" if new.uncalibrated else ""
        event = Event(time=time.time(), what=what, digest=judged.digest, told=told, checks=judged.verdict.checks)
        if forced:
            stamp = disk.stamp_of(self._folder / old.current)
            refusal = Refusal(digest=old.current, stamp=stamp, why="rolled back by hand", time=event.time)
            new = new.allowing(judged.digest).refusing(refusal)
        if not self._saved(new.with_event(event)):
            return False
        self._live = live
        self.shadow.orders.put(Go(judged.digest, new.uncalibrated))
        if forced:
            self._forced = ""
            disk.drop_request(self._home)
        return True

    def _doubt(self, judged: Judged, forced: bool) -> str:
        if not forced:
            return _joined(self._at_rest, judged.verdict.doubt)
        return self._state.previous_doubt if judged.digest == self._state.previous else _ASKED_NO_GATE

    def _own(self, digest: str) -> EdgeBundle:
        return budgeted(own_copy(self._home, digest, self._trust), self._budget)

    def _own_or_live(self, digest: str) -> EdgeBundle:
        try:
            return self._own(digest)
        except CrossplantError:
            return self._live

    def _note(self, judged: Judged) -> None:
        state, now, why = self._state, time.time(), judged.verdict.why
        if judged.what == "confirmed":
            event = Event(time=now, what="confirmed", digest=judged.digest, checks=judged.verdict.checks)
            confirmed = structs.replace(state, probation=False, starts=0)
            self._state = _calibrated(confirmed, self._live, judged.verdict.doubt).with_event(event)
        elif judged.what == "rolled back":
            stamp = disk.stamp_of(self._folder / judged.digest)
            self._state = gone_back(state, why, stamp, judged.verdict.checks)
            self._live = self._own_or_live(self._state.current)
            self._state = _calibrated(self._state, self._live, self._state.doubt)
        else:
            self._refuse(judged.digest, why, judged.verdict.checks, tell=False)
        self._save()

    # ---- what a person asks for ------------------------------------------------------------------------------------

    def _requested(self) -> None:
        digest = disk.asked_rollback(self._home)
        if digest is None or digest == self._forced:
            return
        try:
            if digest == self._state.current:
                raise BundleInvalid(f"{digest[:12]} is in force already.")
            self._forced_offer(digest)
        except CrossplantError as error:
            self._tell("refused", digest, f"a rollback to it was asked for: {error.cause}")
            disk.drop_request(self._home)

    def _forced_offer(self, digest: str) -> None:
        source = self._folder / digest if (self._folder / CURRENT).exists() else self._folder
        if digest not in disk.copies(self._home):
            disk.copy_bundle(source, self._home, digest)
        bundle = self._own(digest)
        refuse_other_columns(bundle, self.bundle.schema)
        self._forced = digest
        self._state = structs.replace(self._state, shadow="")
        self.shadow.orders.put(Offer(replace(self._candidate(bundle, self._made(bundle)), forced=True, told="by hand")))

    # ---- what the agent publishes ----------------------------------------------------------------------------------

    def _looked_for_new(self) -> None:
        if self.shadow.standing() is not None or self._waiting is not None or self._forced:
            return
        if not self.shadow.orders.empty() or not (self._folder / CURRENT).exists():
            return
        try:
            digest = current(self._folder)
        except BundleInvalid as error:
            self._once(error.cause)
            return
        self._told_pointer = ""
        stamp = disk.stamp_of(self._folder / digest)
        if digest != self._state.current and not self._state.is_refused(digest, stamp):
            self._tried(digest, stamp)

    def _once(self, told: str) -> None:
        if told != self._told_pointer:
            self._told_pointer = told
            self._tell("refused", "", told)

    def _disk_trouble(self, error: FileTrouble) -> None:
        if not self._told_disk:
            self._told_disk = error.cause
            self._tell("trouble", "", f"{error.cause} {error.cure}")

    def _tried(self, digest: str, stamp: str) -> None:
        try:
            bundle, both = self._examined(digest)
        except FileTrouble as error:  # The disk is full: not the bundle's fault, it is tried again.
            self._disk_trouble(error)
            return
        except CrossplantError as error:
            self._refuse(digest, error.cause, (), stamp)
            return
        verdict = judge_at_rest(both.new, both.now, self._settings)
        if not verdict.passed:
            self._refuse(digest, verdict.why, verdict.checks, stamp)
            return
        every = max(1, math.ceil(both.new.latency_ms / 1e3 / (self._settings.share * bundle.schema.period_s)))
        self._at_rest = verdict.doubt
        told = f"{_named(bundle)} is tried beside {self._state.current[:12]}"
        self._state = structs.replace(self._state, shadow=digest).with_event(
            Event(time=time.time(), what="shadow", digest=digest, told=told, checks=verdict.checks)
        )
        self._save()
        candidate = self._candidate(bundle, self._made(bundle))
        self.shadow.orders.put(Offer(replace(candidate, every=every, told=told)))

    def _examined(self, digest: str) -> tuple[EdgeBundle, Both]:
        try:
            disk.copy_bundle(self._folder / digest, self._home, digest)
            bundle = self._own(digest)
            refuse_older(bundle.provenance, self._live.provenance)
            refuse_other_columns(bundle, self.bundle.schema)
            return bundle, self._examine(self._live.folder, bundle.folder, self._int8)
        except CrossplantError:
            disk.drop_copies(self._home, self._state.kept)
            raise

    def _refuse(
        self, digest: str, why: str, checks: tuple[Check, ...], stamp: str | None = None, tell: bool = True
    ) -> None:
        stamp = disk.stamp_of(self._folder / digest) if stamp is None else stamp
        refusal = Refusal(digest=digest, stamp=stamp, why=why, time=time.time())
        event = Event(time=refusal.time, what="refused", digest=digest, told=why, checks=checks)
        shadow = "" if self._state.shadow == digest else self._state.shadow
        self._state = structs.replace(self._state, shadow=shadow).refusing(refusal).with_event(event)
        self.shadow.orders.put(Drop(digest))
        if tell:
            self.shadow.tells.put(Tell("refused", digest, why, checks))
        self._save()

    # ---- made of a bundle ------------------------------------------------------------------------------------------

    def _made(self, bundle: EdgeBundle) -> Model:
        """A model of a bundle whose probe was scored in the examining process, or before its adoption."""
        guard = guard_of(bundle, self._top)
        return Model(Scorer(bundle, self._top, self._int8, halved(bundle) if guard else None), guard)

    def _candidate(self, bundle: EdgeBundle, model: Model) -> Candidate:
        scores = bundle.calibration.distribution
        return Candidate(
            digest=bundle.digest,
            model=model,
            alpha=bundle.setup.false_alarm_rate / (2 if model.guard else 1),
            span=(scores.quantile(0.01), scores.quantile(0.99)),
            occupancy=bundle.calibration.occupancy,
            told=_named(bundle),
        )

    # ---- on the disk -----------------------------------------------------------------------------------------------

    def _save(self) -> None:
        self._saved(self._state)

    def _saved(self, state: State) -> bool:
        try:
            disk.write_state(self._home, state)
        except FileTrouble as error:
            self._dirty = True
            self._disk_trouble(error)
            return False
        self._state, self._dirty, self._told_disk = state, False, ""
        disk.drop_copies(self._home, state.kept | ({self._forced} if self._forced else set()))
        return True

    def _tell(self, event: str, digest: str, told: str) -> None:
        self.shadow.tells.put(Tell(event, digest, told))

    def _looked_at_link(self) -> None:
        path = Path(self._settings.link) if self._settings.link else self._folder.parent.parent / "link.json"
        found = read_link(path, time.time())
        if found is not None and (found.state, found.told) != (self._link.state, self._link.told):
            self._tell("link", "", found.line)
        self._link = found or Link("unknown", 0.0, "no relay writes here")

    def _show(self) -> None:
        if time.monotonic() - self._shown < _STANDING_S and not disk.is_watched(self._home, time.time()):
            return
        self._shown = time.monotonic()
        standing, trial = self.shadow.standing(), None
        if standing is not None:
            role, digest, seen, passed = standing
            alpha, span = self._promised(digest)
            settings = self._settings
            judged = judge_live(seen, alpha, span, settings.confidence, settings.effective)
            checks = judged.checks if seen.windows else ()
            wanted = self._settings.shadow_windows if role == "shadow" else self._settings.probation_windows
            trial = {
                "role": role, "bundle": digest, "windows": seen.quiet, "wanted": wanted, "worth": round(seen.worth, 1),
                "passed": passed, "checks": [structs.asdict(check) for check in checks],
            }  # fmt: skip
        link = {"state": self._link.state, "since": self._link.since, "told": self._link.told}
        newest = self.shadow.newest
        score = None if newest is None else newest.as_json()
        disk.write_standing(self._home, {"time": time.time(), "trial": trial, "link": link, "score": score})

    def _promised(self, digest: str) -> tuple[float, tuple[float, float]]:
        promised = self.shadow.promised(digest)
        return (0.5, (-math.inf, math.inf)) if promised is None else promised


def _calibrated(state: State, live: EdgeBundle, doubt: str) -> State:
    """With what is not known of the bundle in force: what its own data cannot carry, and what no gate could tell."""
    return structs.replace(state, doubt=doubt, uncalibrated=_joined(lacking(live), doubt))


def _joined(*reasons: str) -> str:
    """What is lacking, in one line."""
    return "; ".join(reason.rstrip(".") for reason in reasons if reason)[:1000]


def _named(bundle: EdgeBundle) -> str:
    p = bundle.provenance
    return f"bundle {p.number} ({bundle.digest[:12]}) of run {p.run}, round {p.round}"
