"""The round store's audit log and `crossplant audit`: every change, removal and cut in it shows."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import typer
from rich.cells import cell_len
from typer.testing import CliRunner, Result

from server.audit_cli import audit_app
from server.store import auditlog
from server.store.auditlog import Actor
from server.store.registry import Registry
from server.store.store import RoundStore
from shared.errors import InvalidConfig, StoreNotFound
from tests.support.old_store import released
from tests.support.stores import filled

ADA = Actor("ada", "operator")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Four entries."""
    registry = Registry(filled(tmp_path))
    for number in (2, 3, 2, 3):
        registry.promote("a", number, ADA, f"because of {number}")
    return tmp_path


def run(*words: str | Path) -> Result:
    result = CliRunner().invoke(audit_app, list(map(str, words)))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def tamper(folder: Path, *statements: str) -> None:
    """As somebody who may write the file: guards and all."""
    with closing(sqlite3.connect(folder / "rounds.sqlite")) as connection, connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")]
        for statement in [*(f"DROP TRIGGER {name}" for name in names), *statements]:
            connection.execute(statement)


def head(folder: Path) -> str:
    return str(json.loads(run("verify", "--store", folder, "--json").stdout)["head"])


def test_an_untouched_log_holds(store: Path) -> None:
    told = run("verify", "--store", store, "--json")
    assert told.exit_code == 0
    found = json.loads(told.stdout)
    assert (found["entries"], found["broken"], found["holds"], found["known"]) == (4, None, True, None)
    assert json.loads(run("verify", "--store", store, "--head", found["head"], "--json").stdout)["known"] is True
    assert found["head"] in run("verify", "--store", store).stdout


@pytest.mark.parametrize(
    ("statements", "broken"),
    [
        (["UPDATE audit SET who = 'eve' WHERE seq = 2"], 2),
        (['UPDATE audit SET detail = \'{"why": "another reason"}\' WHERE seq = 3'], 3),
        (["UPDATE audit SET at = '2030-01-01T00:00:00.000+00:00' WHERE seq = 1"], 1),
        (["DELETE FROM audit WHERE seq = 1"], 2),
        (["DELETE FROM audit WHERE seq = 3"], 4),
        (["DELETE FROM audit WHERE seq = 3", "UPDATE audit SET seq = 3 WHERE seq = 4"], 3),
        (
            [
                "UPDATE audit SET seq = 99 WHERE seq = 2",
                "UPDATE audit SET seq = 2 WHERE seq = 3",
                "UPDATE audit SET seq = 3 WHERE seq = 99",
            ],
            2,
        ),
        (["INSERT INTO audit SELECT 5, at, who, role, action, target, detail, previous, digest FROM audit LIMIT 1"], 5),
        (["UPDATE audit SET digest = previous WHERE seq = 4"], 4),
    ],
    ids=["who", "why", "when", "first gone", "one gone", "one gone, closed up", "reordered", "put in", "digest"],
)
def test_what_was_changed_shows_without_a_kept_head(store: Path, statements: list[str], broken: int) -> None:
    tamper(store, *statements)
    told = run("verify", "--store", store)
    assert told.exit_code == 1
    assert f"entry {broken} " in told.stdout
    assert json.loads(run("verify", "--store", store, "--json").stdout)["holds"] is False


@pytest.mark.parametrize(
    "change",
    [
        """detail = '{"why": NaN}'""",
        """detail = '[1]'""",
        """detail = 'null'""",
        """detail = '{"why": "\\ud800"}'""",
        "at = x'ff'",
        "who = x'ff'",
        "target = 7",
    ],
)
def test_what_is_no_entry_any_more_is_named_and_shown_as_text(store: Path, change: str) -> None:
    tamper(store, f"UPDATE audit SET {change} WHERE seq = 2")
    told = run("verify", "--store", store)
    assert (told.exit_code, told.stdout[:31]) == (1, "The log was changed: entry 2 is")
    assert run("list", "--store", store).stdout.count("\n") >= 5
    (damaged,) = [
        one for one in json.loads(run("list", "--store", store, "--json").stdout)["entries"] if one["seq"] == 2
    ]
    assert isinstance(damaged["detail"], dict)
    assert all(isinstance(damaged[name], str) for name in ("at", "who", "target"))
    with RoundStore.open(str(store)).session(writes=True) as session:
        auditlog.append(session, ADA, "test", "what comes after", {})


def test_a_cut_end_shows_by_a_kept_head_only(store: Path) -> None:
    kept = head(store)
    tamper(store, "DELETE FROM audit WHERE seq > 2")
    assert run("verify", "--store", store).exit_code == 0
    told = run("verify", "--store", store, "--head", kept)
    assert told.exit_code == 1
    assert "cut off" in told.stdout
    tamper(store, "DELETE FROM audit")
    assert run("verify", "--store", store, "--head", kept).exit_code == 1


def test_a_log_that_grew_still_holds_the_kept_head(store: Path) -> None:
    kept = head(store)
    Registry(RoundStore.open(str(store))).follow("a", ADA, "enough")
    assert run("verify", "--store", store, "--head", kept).exit_code == 0
    assert head(store) != kept


def test_a_log_written_anew_is_another_one(store: Path) -> None:
    """Who may write the file can make a whole new chain: it lacks the head that was kept elsewhere."""
    kept = head(store)
    tamper(store, "DELETE FROM audit")
    with RoundStore.open(str(store)).session(writes=True) as session:
        for number in range(5):
            auditlog.append(session, ADA, "promote", f"run a, round {number}", {"why": "all is well"})
    assert run("verify", "--store", store).exit_code == 0
    assert run("verify", "--store", store, "--head", kept).exit_code == 1


@pytest.mark.parametrize("digest", ["", "x", "A" * 64, "0" * 63, "\x1b[2J"])
def test_a_head_that_is_none_is_refused(store: Path, digest: str) -> None:
    with pytest.raises(InvalidConfig, match="no digest"):
        run("verify", "--store", store, "--head", digest)


def test_entries_are_listed_in_a_table_that_fits(store: Path) -> None:
    with RoundStore.open(str(store)).session(writes=True) as session:
        detail = {"why": "a long reason \x1b[2J " * 9}
        auditlog.append(session, Actor("os:\u202e" + "x" * 99, "shell"), "prune", "run " + "y" * 99, detail)
        auditlog.append(session, ADA, "prune", "the store", {"keep": 3, "rounds": {"a": "1 to 4"}})
    text = run("list", "--store", store).stdout
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert [line.split()[0] for line in text.splitlines() if line[0] != " "] == ["#", "1", "2", "3", "4", "5", "6"]
    found = json.loads(run("list", "--store", store, "--last", "2", "--before", "5", "--json").stdout)["entries"]
    assert [(entry["seq"], entry["who"], entry["detail"]["why"]) for entry in found] == [
        (3, "ada", "because of 2"),
        (4, "ada", "because of 3"),
    ]


def below(store: Path, why: str | None = None, **detail: object) -> str:
    """What is printed below an entry with this detail."""
    with RoundStore.open(str(store)).session(writes=True) as session:
        auditlog.append(session, ADA, "test", "run a", detail if why is None else detail | {"why": why})
    lines = run("list", "--store", store, "--last", "1").stdout.splitlines()
    assert all(line.startswith("    ") and cell_len(line) <= 80 for line in lines[2:])
    return " ".join(line.strip() for line in lines[2:])


def test_a_reason_is_told_whole_below_its_entry(store: Path) -> None:
    why = " ".join(f"word{i}" for i in range(120))
    assert below(store, why, order=1) == why
    assert below(store, "\u6c34" * 100).replace(" ", "") == "\u6c34" * 100
    assert below(store, "word " * 5000).endswith(" …")
    assert below(store) == ""


def test_what_else_an_entry_says_is_told_in_words(store: Path) -> None:
    many = [f"p{i}" for i in range(13)]
    told = below(store, order=2, model="ab" * 32, plants=many, rounds={"a": [1, 2], "b": []})
    assert told == (
        "order 2, model abababababab, plants p0, p1, p2, p3, p4, p5, p6, p7, p8, p9, 3 more, "
        "rounds a: 1, 2, b: none"
    )  # fmt: skip


def test_what_lies_deep_in_an_entry_is_left_out(store: Path) -> None:
    deep: list[object] = []
    for _ in range(200):
        deep = [deep]
    assert below(store, rounds=deep) == "rounds …"


def test_a_store_without_a_log_has_an_empty_one(tmp_path: Path) -> None:
    released(tmp_path / "old")
    assert "Nobody has changed anything yet." in run("list", "--store", tmp_path / "old").stdout
    assert json.loads(run("verify", "--store", tmp_path / "old", "--json").stdout)["entries"] == 0
    assert run("verify", "--store", tmp_path / "old", "--head", "5" * 64).exit_code == 1
    with pytest.raises(StoreNotFound):
        run("list", "--store", tmp_path / "none")


def test_the_names_of_the_commands_are_fixed() -> None:
    group = typer.main.get_command(audit_app)
    options = {
        name: sorted(o for p in command.params for o in p.opts if o.startswith("--"))
        for name, command in group.commands.items()  # type: ignore[attr-defined]
    }
    assert options == {"list": ["--before", "--json", "--last", "--store"], "verify": ["--head", "--json", "--store"]}
