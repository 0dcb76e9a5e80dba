"""A round store as released versions wrote it: the tables of commit 1ccbeac, without versions, totals and indexes."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from tests.support.stores import filled

RELEASED = """
CREATE TABLE runs (
    name VARCHAR(255) NOT NULL, ordinal BIGINT NOT NULL, created TEXT NOT NULL, config_digest TEXT NOT NULL,
    config JSON NOT NULL, status TEXT NOT NULL, models_dir TEXT NOT NULL, note TEXT NOT NULL,
    PRIMARY KEY (name), UNIQUE (ordinal)
);
CREATE TABLE rounds (
    run VARCHAR(255) NOT NULL, number BIGINT NOT NULL, phase TEXT NOT NULL, label TEXT NOT NULL, status TEXT NOT NULL,
    reason TEXT, started TEXT NOT NULL, seconds DOUBLE, metrics JSON NOT NULL, clusters JSON, model TEXT,
    config TEXT NOT NULL, timings JSON NOT NULL, state JSON NOT NULL, optimizer TEXT,
    PRIMARY KEY (run, number), FOREIGN KEY(run) REFERENCES runs (name)
);
CREATE TABLE signatures (
    run VARCHAR(255) NOT NULL, text TEXT NOT NULL, made TEXT NOT NULL,
    PRIMARY KEY (run), FOREIGN KEY(run) REFERENCES runs (name)
);
CREATE TABLE updates (
    run VARCHAR(255) NOT NULL, number BIGINT NOT NULL, plant VARCHAR(255) NOT NULL, accepted BOOLEAN NOT NULL,
    reason TEXT, metrics JSON NOT NULL, examples BIGINT, bytes_down BIGINT NOT NULL, bytes_up BIGINT NOT NULL,
    seconds DOUBLE, timings JSON NOT NULL,
    PRIMARY KEY (run, number, plant), FOREIGN KEY(run, number) REFERENCES rounds (run, number)
);
"""
TABLES = ("runs", "rounds", "signatures", "updates")


def released(folder: Path, rounds: int = 3) -> Path:
    """A folder with an old store of one run; its database."""
    with filled(folder, rounds):
        pass
    file = folder / "rounds.sqlite"
    new = file.rename(folder / "new.sqlite")
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.executescript(RELEASED)
        connection.execute("ATTACH ? AS new", [str(new)])
        for table in TABLES:
            connection.execute(f"INSERT INTO {table} SELECT * FROM new.{table}")
    new.unlink()
    return file


def rows(file: Path) -> dict[str, list[tuple[object, ...]]]:
    """Everything in the released tables, with how SQLite keeps each value."""
    with closing(sqlite3.connect(file)) as connection:
        columns = {t: [row[1] for row in connection.execute(f"PRAGMA table_info({t})")] for t in TABLES}
        picked = {t: ", ".join(f"{c}, typeof({c})" for c in columns[t]) for t in TABLES}
        return {t: connection.execute(f"SELECT {picked[t]} FROM {t} ORDER BY 1, 3").fetchall() for t in TABLES}
