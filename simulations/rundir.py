"""The run folder: where a simulation keeps its plants, its store, its bundles and its report."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from client.ingest.folder import write_site
from shared.disk import replace_file
from shared.errors import DataUnreadable, NothingToResume, RunDirectoryInUse
from shared.series import Repair, SiteData
from simulations.given import Shares
from simulations.private import LeftOut, PrivateSite

_INDEX = "run.json"


class RunIndex(BaseModel):
    """What `run.json` says.

    Attributes:
        run: name of the run in the store.
        store: folder or database URL of the round store; `.` means the run folder itself.
        origin: where each setting came from.
        notes: repairs and omissions, in words.
        data: SHA-256 of each plant's training rows: a resumed run must train on the same.
        given: what each site got; None in runs of earlier versions.
        private: the sites under local differential privacy; empty without.
        left_out: sites that the claim does not bear.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str
    store: str
    origin: dict[str, str]
    notes: tuple[str, ...]
    data: dict[str, str]
    given: Shares | None = None
    private: tuple[PrivateSite, ...] = ()
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True)
class RunFolder:
    """Paths inside a run folder; absolute, since engines start processes elsewhere."""

    root: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(os.path.abspath(self.root)))

    @property
    def plants(self) -> Path:
        """One folder a plant."""
        return self.root / "plants"

    @property
    def bundles(self) -> Path:
        """One bundle a site, written by the agents."""
        return self.root / "bundles"

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.root / "report.html"

    @property
    def results(self) -> Path:
        """Figures a site, as JSON."""
        return self.root / "results.json"

    def store_location(self, index: RunIndex) -> str:
        """Where this run's round store is."""
        return str(self.root) if index.store == "." else index.store

    def check_free(self) -> None:
        """Refuse a folder that already holds something.

        Raises:
            RunDirectoryInUse: it does.
        """
        if self.root.exists() and (not self.root.is_dir() or any(self.root.iterdir())):
            raise RunDirectoryInUse(f"{self.root} is not empty.")
        parent = next(p for p in [self.root, *self.root.parents] if p.exists())
        if not os.access(parent, os.W_OK):
            raise RunDirectoryInUse(
                f"{self.root} cannot be written: no permission on {parent}.", "Choose another --out."
            )

    @property
    def complete(self) -> bool:
        """Whether a run was prepared here: the index is written last."""
        return (self.root / _INDEX).exists()

    def write_plants(self, sites: Sequence[SiteData]) -> dict[str, str]:
        """Write one folder a plant; returns the digest of each one's training rows."""
        self.plants.mkdir(parents=True, exist_ok=True)
        for site in sites:
            write_site(self.plants / site.name, site)
        return {site.name: self._data_digest(site.name) for site in sites}

    def write_index(self, index: RunIndex) -> None:
        """Say that the folder is complete."""
        replace_file(self.root / _INDEX, index.model_dump_json(indent=1).encode())

    def check_data(self, index: RunIndex) -> None:
        """Refuse to go on with other data than the run began with.

        Raises:
            DataUnreadable: a plant's training rows changed or are gone.
        """
        for name, digest in index.data.items():
            if self._data_digest(name) != digest:
                raise DataUnreadable(
                    f"{self.plants / name / 'train.npy'} is not what the run began with.",
                    "Put it back, or start a new run with --out.",
                )

    def _data_digest(self, name: str) -> str:
        try:
            with (self.plants / name / "train.npy").open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            return ""

    @contextmanager
    def undone_on_failure(self) -> Iterator[None]:
        """Remove the folder, which was absent or empty before, when the block does not end well."""
        try:
            yield
        except BaseException:
            shutil.rmtree(self.root, ignore_errors=True)
            raise

    def read_index(self) -> RunIndex:
        """Read what `create` wrote.

        Raises:
            NothingToResume: there is none.
        """
        try:
            return RunIndex.model_validate_json((self.root / _INDEX).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise NothingToResume(f"{self.root} holds no run ({_INDEX} cannot be read).") from error
        except (ValidationError, ValueError) as error:
            raise NothingToResume(f"{self.root / _INDEX} is damaged.", "Start the run anew.") from error


def write_json(path: Path, content: object) -> None:
    """Write JSON atomically; NaN is refused, so that any reader can parse it."""
    replace_file(path, json.dumps(content, indent=1, allow_nan=False).encode())


def note_lines(notes: Sequence[Repair]) -> tuple[str, ...]:
    """Repairs as text."""
    return tuple(str(note) for note in notes)
