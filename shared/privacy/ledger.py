"""The privacy ledger of one plant: append-only, hash-chained, written and fsynced before a release leaves.

One JSON object a line; `previous` is the SHA-256 of the line before. A release is charged once under its request: the
same request on the same data under the same key gives the same bytes (`Randomness.keyed`), so sending them again
tells nothing new. A torn last line was never answered and counts as spent all the same: over-counting is safe,
under-counting is not. A missing ledger beside a key that has been used is an error, not a fresh start.

`head.json` holds number and digest of the newest line, so that a missing end shows. Whoever can write the folder can
forge all of it: the ledger guards a plant against mishaps and old backups, not against its own administrator.
docs/decisions/0013-what-the-ledger-counts.md.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from shared.alone import alone
from shared.disk import replace_file, sync_folder
from shared.errors import BudgetSpent, FileTrouble, LedgerBroken, PrivacyUnmet
from shared.privacy.accounting import Event, epsilon, upper
from shared.privacy.chain import TORN, Chain, Head, Purpose
from shared.service_errors import AlreadyRunning

LEDGER, KEY, HEAD, LOCK = "ledger.jsonl", "key", "head.json", "lock"
_TOGETHER = "Restore ledger.jsonl, head.json and key together from the newest backup; nothing is released until then."

__all__ = ["Balance", "PrivacyLedger", "Purpose", "Release", "in_use", "read_balance", "read_bound"]


@dataclass(frozen=True)
class Release:
    """One line.

    Attributes:
        run, round, purpose: what it was for.
        request: SHA-256 over all that the answer follows from: request, data, key.
        event: what it costs.
        delta, unit: of the claim it was made under; unit in words, such as `segment of 60 samples (60 s)`.
        time: ISO 8601, UTC.
    """

    run: str
    round: int
    purpose: Purpose
    request: str
    event: Event
    delta: float
    unit: str
    time: str


@dataclass(frozen=True)
class Balance:
    """What a plant has spent, over all runs of its ledger.

    Attributes:
        plant, epsilon, delta, unit: the claim; delta the largest that was promised.
        releases: lines.
        by_purpose: epsilon of each purpose alone.
        budget: what the newest release was held against; None before the first.
        torn: lines that were cut off, each counted as the costliest release.
        sampling: the rates of the releases, ascending.
        runs: how many runs were charged.
        since, until: times of the first and the newest release.
        digest: SHA-256 of the newest line; noted elsewhere, it shows whether anything was rewritten.
    """

    plant: str
    epsilon: float
    delta: float
    unit: str
    releases: int
    by_purpose: dict[str, float]
    budget: float | None = None
    torn: int = 0
    sampling: tuple[float, ...] = ()
    runs: int = 0
    since: str = ""
    until: str = ""
    digest: str = ""


class PrivacyLedger:
    """Opens, or makes, `folder/ledger.jsonl` and `folder/key` of one plant. Processes may share it: each charge takes
    the lock (`shared.alone`) and reads on where another left off.

    Args:
        folder: `HOME/privacy/PLANT`.
        now: the clock.

    Raises:
        LedgerBroken: the chain does not hold, the file is missing while the key was used, or is not writable.
    """

    def __init__(self, folder: Path, now: Callable[[], datetime] | None = None) -> None:
        self._folder, self._path = folder, folder / LEDGER
        self._now = now or (lambda: datetime.now(UTC))
        self._mutex = threading.Lock()
        self._lost = False
        try:
            if not folder.exists():
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                sync_folder(folder.parent)
        except OSError as error:
            raise _unwritable(self._path, error) from error
        with self._locked():
            _begin(folder, self._now().astimezone(UTC).isoformat(timespec="seconds"))
            self._reload()
            self._make_durable()  # What a killed process wrote may be in memory only.

    @property
    def secret(self) -> bytes:
        """The plant's key, 32 bytes that never leave; all noise follows from it."""
        return self._secret

    def charge(self, release: Release, budget: float) -> None:
        """Write a release down before it is made; nothing happens when this request was charged already.

        Raises:
            BudgetSpent: it would take the ledger beyond `budget` at its delta; says what is left.
            LedgerBroken: it cannot be written.
            PrivacyUnmet: records of another length were charged before, or the same request with other noise.
        """
        event = release.event
        if not (0 <= event.multiplier < math.inf and 0 <= event.sampling <= 1 and 0 < release.delta < 1):
            raise PrivacyUnmet(f"{event} at delta {release.delta} is no release that can be accounted for.")
        with self._mutex, self._locked():
            self._catch_up()
            if not self._known(release):
                self._check(release, budget)
                self._append(release, budget)
            self._seal()

    def balance(self) -> Balance:
        """What was spent so far."""
        with self._mutex:
            return _balance(self._chain, bool(self._rest))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            with alone(self._folder / LOCK, f"the privacy ledger of {self._folder.name}"):
                try:
                    yield
                except OSError as error:
                    raise _unwritable(self._path, error) from error
        except (FileTrouble, AlreadyRunning) as error:
            raise LedgerBroken(error.cause, "Check the folder's rights and the free space; then ask again.") from error

    def _reload(self) -> None:
        self._secret, self._chain, self._rest = _read(self._folder)
        self._sealed = _head(self._folder).lines

    def _catch_up(self) -> None:
        """Read what another process wrote, and what this one could not finish."""
        if self._lost:
            raise LedgerBroken(f"{self._path}: the disk took a line and then reported that it may be lost.")
        try:
            size = self._path.stat().st_size
        except FileNotFoundError as error:
            raise LedgerBroken(f"{self._path} is missing.", _TOGETHER) from error
        if size < self._chain.size:
            raise LedgerBroken(f"{self._path} is shorter than it was: lines were removed.", _TOGETHER)
        with self._path.open("rb") as file:
            file.seek(self._chain.size)
            data = file.read()
        if data != self._rest:
            self._rest = self._chain.feed(data)
            self._make_durable()

    def _known(self, release: Release) -> bool:
        charged = self._chain.charged.get((release.request, release.purpose))
        if charged is not None and charged != release.event:
            raise PrivacyUnmet(
                f"the same request was charged with noise {charged.multiplier:g} before and asks for "
                f"{release.event.multiplier:g} now: both answers together would show what the noise hides."
            )
        return charged is not None

    def _check(self, release: Release, budget: float) -> None:
        newest = self._chain.newest
        if newest is not None and newest.unit != release.unit:
            raise PrivacyUnmet(
                f"the ledger of {self._folder.name!r} counts for each {newest.unit}, the run asks for {release.unit}: "
                "costs of different records do not add up.",
                "Use the same --unit, or begin another ledger in another folder, with a budget of its own.",
            )
        after = self._chain.events(release.event, torn=bool(self._rest))
        if upper(after, release.delta) <= budget or epsilon(after, release.delta) <= budget:
            return
        spent = epsilon(self._chain.events(torn=bool(self._rest)), release.delta)
        raise BudgetSpent(
            f"plant {self._folder.name!r} has spent epsilon {spent:.4g} of {budget:g} at delta {release.delta:g}; "
            f"{max(0.0, budget - spent):.4g} is left, and this release would bring it to "
            f"{epsilon(after, release.delta):.4g}."
        )

    def _append(self, release: Release, budget: float) -> None:
        """A torn line is closed and the new one written at once; its digest goes over all that stands there."""
        mark = TORN + b"\n" if self._rest else b""
        previous = hashlib.sha256(self._rest + TORN).hexdigest() if self._rest else self._chain.digest
        line = json.dumps({"previous": previous, **_plain(release), "budget": budget}, separators=(",", ":"))
        data = mark + line.encode("ascii") + b"\n"
        file_number = os.open(self._path, os.O_WRONLY | os.O_APPEND)
        try:
            _write_all(file_number, data)
            self._sync(file_number)
        finally:
            os.close(file_number)
        self._rest = self._chain.feed(self._rest + data)

    def _sync(self, file_number: int) -> None:
        """After a failed fsync nobody knows what is on the disk, and asking again answers yes: give up for good."""
        try:
            os.fsync(file_number)
        except OSError:
            self._lost = True
            raise

    def _make_durable(self) -> None:
        file_number = os.open(self._path, os.O_WRONLY | os.O_APPEND)
        try:
            self._sync(file_number)
        finally:
            os.close(file_number)

    def _seal(self) -> None:
        if self._sealed != self._chain.lines:
            _write_head(self._folder, Head(self._chain.lines, self._chain.digest))
            self._sealed = self._chain.lines


def in_use(folder: Path) -> bool:
    """Whether anything was, or may have been, released under a ledger in this folder."""
    return (folder / LEDGER).exists()


def read_balance(folder: Path) -> Balance:
    """`balance` of a ledger that another process may be writing: reads only.

    Raises:
        LedgerBroken: the chain does not hold.
    """
    try:
        _, chain, rest = _read(folder)
    except OSError as error:
        raise LedgerBroken(f"{folder / LEDGER} cannot be read: {error.strerror}.") from error
    return _balance(chain, bool(rest))


def read_bound(folder: Path) -> tuple[float, float | None]:
    """What `read_balance` says of epsilon, as a quick upper bound, and the budget; None before the first release.

    Raises:
        LedgerBroken: the chain does not hold.
    """
    try:
        _, chain, rest = _read(folder)
    except OSError as error:
        raise LedgerBroken(f"{folder / LEDGER} cannot be read: {error.strerror}.") from error
    if chain.newest is None:
        return 0.0, None
    return upper(chain.events(torn=bool(rest)), chain.delta), chain.newest.budget


def _balance(chain: Chain, torn: bool) -> Balance:
    total = epsilon(chain.events(torn=torn), chain.delta) if chain.newest else 0.0
    parts = {purpose: [Event(z, q, n) for (z, q), n in counted.items()] for purpose, counted in chain.counts.items()}
    newest, opening = chain.newest, chain.opening
    return Balance(
        plant=opening.plant if opening else "",
        epsilon=total,
        delta=chain.delta,
        unit=newest.unit if newest else "",
        releases=len(chain.charged),
        by_purpose={purpose: epsilon(events, chain.delta) for purpose, events in sorted(parts.items())},
        budget=newest.budget if newest else None,
        torn=chain.torn + torn,
        sampling=tuple(sorted({q for counted in chain.counts.values() for _, q in counted})),
        runs=len(chain.runs),
        since=chain.since,
        until=newest.time if newest else "",
        digest=chain.digest,
    )


def _plain(release: Release) -> dict[str, object]:
    """As JSON holds it; text that UTF-8 cannot carry would make a line that nobody can read."""
    return {
        key: value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
        for key, value in asdict(release).items()
    }


def _begin(folder: Path, now: str) -> None:
    """Make ledger, head and key, in this order: a key that exists was begun with a ledger beside it."""
    ledger, key = folder / LEDGER, folder / KEY
    if key.exists():
        return
    if ledger.exists() and ledger.read_bytes().count(b"\n") > 1:
        raise LedgerBroken(f"{key} is missing beside a ledger in use.", _TOGETHER)
    secret = os.urandom(32)
    opening = {"format": 1, "plant": folder.name, "key": _key_id(secret), "made": now}
    line = json.dumps(opening, separators=(",", ":")).encode("ascii")
    replace_file(ledger, line + b"\n", mode=0o600)
    _write_head(folder, Head(1, hashlib.sha256(line).hexdigest()))
    replace_file(key, secret, mode=0o600)


def _read(folder: Path) -> tuple[bytes, Chain, bytes]:
    """Key, chain and a torn end. The head is read first: the ledger only grows."""
    path = folder / LEDGER
    secret, head = _key(folder), _head(folder)
    chain = Chain(str(path))
    try:
        rest = chain.feed(path.read_bytes(), head)
    except FileNotFoundError as error:
        raise LedgerBroken(f"{path} is missing beside a key in use.", _TOGETHER) from error
    if chain.lines < head.lines:
        raise LedgerBroken(f"{path} has {chain.lines} lines of {head.lines}: lines were removed.", _TOGETHER)
    opening = chain.opening
    if opening is None or opening.key != _key_id(secret):
        raise LedgerBroken(f"{path} belongs to another key than the one beside it.", _TOGETHER)
    if opening.plant != folder.name:
        raise LedgerBroken(f"{path} is the ledger of {opening.plant!r}, not of {folder.name!r}.", _TOGETHER)
    return secret, chain, rest


def _key(folder: Path) -> bytes:
    path = folder / KEY
    try:
        secret = path.read_bytes()
    except FileNotFoundError as error:
        raise LedgerBroken(f"{folder} holds no privacy ledger: {KEY} is missing.", _TOGETHER) from error
    if len(secret) != 32:
        raise LedgerBroken(f"{path} has {len(secret)} bytes instead of 32.", _TOGETHER)
    return secret


def _key_id(secret: bytes) -> str:
    return hashlib.sha256(b"crossplant privacy key\0" + secret).hexdigest()


def _head(folder: Path) -> Head:
    try:
        return msgspec.json.decode((folder / HEAD).read_bytes(), type=Head)
    except FileNotFoundError as error:
        raise LedgerBroken(f"{folder / HEAD} is missing beside a key in use.", _TOGETHER) from error
    except (msgspec.DecodeError, ValueError) as error:
        raise LedgerBroken(f"{folder / HEAD} cannot be read.", _TOGETHER) from error


def _write_head(folder: Path, head: Head) -> None:
    replace_file(folder / HEAD, msgspec.json.encode(head), mode=0o600)


def _unwritable(path: Path, error: OSError) -> LedgerBroken:
    return LedgerBroken(f"{path} cannot be written: {error.strerror or error}.", "Check its rights and the free space.")


def _write_all(file_number: int, data: bytes) -> None:
    while data:
        data = data[os.write(file_number, data) :]
