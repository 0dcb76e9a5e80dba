"""What a report is made of, gathered in lean queries: the same for ten rounds and for ten thousand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

from server.console.certificates import Certificate, certificates_of
from server.console.context import Console, federation_of
from server.console.results import Results, results_of
from server.console.standing import Live, live, settings_of
from server.store.auditlog import Entry, entries
from server.store.reading import Attempt, PlantLine, Reader, RoundLine, RunPage, Series
from server.store.registry import Order, Registry
from server.store.store import RoundStore
from shared.config import RunConfig
from shared.errors import CrossplantError
from shared.privacy.ledger import Balance, in_use, read_balance

CURVES = ("holdout_loss", "train_loss", "auprc", "false_alarms_per_day")
"""Figures over all plants that are drawn where a run has them."""
LOSS = "holdout_loss"
"""By which a plant got better or worse: measured by each on its own data, on every model that it was sent."""
MOST_PLANTS, MOST_REFUSALS, MOST_ROUNDS, MOST_ENTRIES = 200, 20, 500, 50
_LOOKED_AT = 500  # entries of the audit log


@dataclass(frozen=True)
class Material:
    """One run. Names, notes, reasons and words of operators are text that others wrote, and never markup.

    Attributes:
        page: the run.
        config: its settings; None where this version cannot read them.
        live: how it stands, in words.
        plants: by name, the first `MOST_PLANTS`.
        left_out: how many more there are.
        rounds: the newest, ascending.
        halted: the newest that did not commit.
        curves: figures over all plants, by name.
        losses: each plant's loss on held-out normal data, by plant.
        refusals: each plant's newest rounds in which it did not count, by plant.
        orders: what operators wanted plants to score by, the newest first.
        audit: the newest entries of the audit log that tell of this run.
        results: what a simulation measured on labelled data; None without one.
        balances: privacy ledgers beside the store.
        certificates: of plants, where the store is a federation's.
        state: changes whenever anything of the run does.
        version: of Crossplant.
        made: when all this was read.
    """

    page: RunPage
    config: RunConfig | None
    live: Live
    plants: tuple[PlantLine, ...]
    left_out: int
    rounds: tuple[RoundLine, ...]
    halted: tuple[RoundLine, ...]
    curves: Mapping[str, Series]
    losses: Mapping[str, Series]
    refusals: Mapping[str, tuple[Attempt, ...]]
    orders: tuple[Order, ...]
    audit: tuple[Entry, ...]
    results: Results | None
    balances: tuple[Balance, ...]
    certificates: Mapping[str, Certificate]
    state: str
    version: str
    made: datetime

    @property
    def run(self) -> str:
        """Its name."""
        return self.page.info.name


def gather(location: str, run: str, now: datetime | None = None) -> Material:
    """Read a run.

    Args:
        location: of the store.
        run: its name.
        now: the time.

    Raises:
        StoreError: there is no such store, or it cannot be read.
        RoundNotFound: it holds no such run.
    """
    made = now or datetime.now(UTC)
    with RoundStore.open(location, look=True) as store:
        at = Console(location, store, Reader(store), Registry(store), read_only=True, federation=federation_of(store))
        return _gathered(at, run, made)


def _gathered(at: Console, run: str, now: datetime) -> Material:
    reader = at.reader
    page, plants = reader.page(run), reader.plants(run)
    shown = tuple(plants[:MOST_PLANTS])
    return Material(
        page=page,
        config=settings_of(at, run),
        live=live(at, page, now),
        plants=shown,
        left_out=len(plants) - len(shown),
        rounds=tuple(reversed(reader.rounds(run, limit=MOST_ROUNDS))),
        halted=tuple(_halted(reader, page)),
        curves={name: reader.series(run, name) for name in CURVES if name in page.metrics},
        losses={line.plant: reader.series(run, LOSS, line.plant) for line in shown},
        refusals={line.plant: _refusals(reader, run, line) for line in shown if line.accepted < line.rounds},
        orders=tuple(at.registry.orders(run, limit=MOST_ENTRIES)),
        audit=_audit(at.store, run),
        results=results_of(at.store, run),
        balances=_balances(at.store),
        certificates=certificates_of(at, now),
        state=reader.version(run),
        version=version("crossplant"),
        made=now,
    )


def _halted(reader: Reader, page: RunPage) -> list[RoundLine]:
    kinds = [status for status in page.statuses if status != "committed"]
    found = [line for kind in kinds for line in reader.rounds(page.info.name, limit=MOST_ENTRIES, status=kind)]
    return sorted(found, key=lambda line: line.number, reverse=True)[:MOST_ENTRIES]


def _refusals(reader: Reader, run: str, line: PlantLine) -> tuple[Attempt, ...]:
    return tuple(reader.attempts(run, line.plant, limit=MOST_REFUSALS, refused=True))


def _audit(store: RoundStore, run: str) -> tuple[Entry, ...]:
    with store.session() as session:
        found = entries(session, limit=_LOOKED_AT)
    about = f"run {run}"
    ours = (entry for entry in found if entry.target == about or entry.target.startswith(f"{about}, "))
    return tuple(ours)[:MOST_ENTRIES]


def _balances(store: RoundStore) -> tuple[Balance, ...]:
    """Ledgers that lie beside the store; none that is damaged, and none where what adds up epsilon is not installed."""
    try:
        folder = store.folder / "privacy"
        folders = sorted(one for one in folder.iterdir() if in_use(one))[:MOST_PLANTS] if folder.is_dir() else []
        return tuple(read_balance(one) for one in folders)
    except (CrossplantError, OSError, ImportError):
        return ()
