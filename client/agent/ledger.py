"""How often a plant has computed for whom: the budget of its policy, kept over restarts."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from client.agent.policy import Budget
from shared.disk import replace_file
from shared.errors import AuditBroken, NotAllowed

Count = Annotated[int, Field(ge=0)]

_DAYS, _RUNS = 40, 5_000  # kept


class _RunAccount(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    rounds: Count
    last: str  # digest of the newest request
    day: str


class _Accounts(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    format: Literal[1] = 1
    days: dict[str, Count] = {}
    runs: dict[str, _RunAccount] = {}


@dataclass
class Ledger:
    """The accounts of one plant; one process and one request at a time use them.

    Args:
        path: `ledger.json`; replaced as a whole, so that it is never half-written.
        budget: of the policy.
    """

    path: Path
    budget: Budget
    _accounts: _Accounts = field(init=False)

    def __post_init__(self) -> None:
        self._accounts = _read(self.path)

    def charge(self, run: str, digest: str, now: datetime) -> None:
        """Charge one round before it is computed. The run's newest request, sent again, was charged already: its
        answer is the same.

        Args:
            run: its name.
            digest: of the whole request.
            now: with a time zone; days are those of UTC.

        Raises:
            NotAllowed: the budget is spent.
            AuditBroken: the ledger cannot be written.
        """
        run, day = run if len(run) <= 64 else f"{run[:64]}...", now.astimezone(UTC).date().isoformat()
        account = self._accounts.runs.get(run, _RunAccount(rounds=0, last="", day=day))
        if account.last == digest:
            return
        self._check(day, account)
        changed = self._accounts.model_copy(deep=True)
        changed.days[day] = changed.days.get(day, 0) + 1
        changed.runs[run] = _RunAccount(rounds=account.rounds + 1, last=digest, day=day)
        _write(self.path, _pruned(changed))
        self._accounts = changed

    def today(self, now: datetime) -> int:
        """Rounds that were charged on the day of `now` (UTC)."""
        return self._accounts.days.get(now.astimezone(UTC).date().isoformat(), 0)

    def _check(self, day: str, account: _RunAccount) -> None:
        today, budget = self._accounts.days.get(day, 0), self.budget
        if today >= budget.rounds_a_day:
            raise NotAllowed(f"{today:,} rounds were computed on {day}, as many as a day may have.", word="budget")
        if account.rounds >= budget.rounds_a_run:
            raise NotAllowed(f"the run has had {account.rounds:,} rounds, as many as a run may have.", word="budget")


def _pruned(accounts: _Accounts) -> _Accounts:
    """Forget the oldest, so that run names without end do not fill the disk."""
    for day in sorted(accounts.days)[:-_DAYS]:
        del accounts.days[day]
    surplus = len(accounts.runs) - _RUNS
    if surplus > 0:
        for run in sorted(accounts.runs, key=lambda name: accounts.runs[name].day)[:surplus]:
            del accounts.runs[run]
    return accounts


def _read(path: Path) -> _Accounts:
    try:
        return _Accounts.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return _Accounts()
    except (OSError, ValidationError) as error:
        cause = f"the ledger {path} cannot be read: {type(error).__name__}."
        raise AuditBroken(cause, "Restore it from a backup; without it, the plant's budget begins anew.") from error


def _write(path: Path, accounts: _Accounts) -> None:
    try:
        replace_file(path, accounts.model_dump_json().encode())
    except OSError as error:
        raise AuditBroken(f"cannot write the ledger {path}: {error.strerror}.", "Check the free space.") from error
