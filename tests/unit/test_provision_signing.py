"""Runs are signed with the operator's key: by the command that starts them, for its plants, and for a time."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from server.app import _signature
from server.provision.federation import opened, read
from server.provision.signing import make_key, sign_run, signing_key
from server.run.place import Endpoint, ServerPlace
from server.run.runs import Submission, ask_for
from server.store.store import RoundStore
from shared.alone import alone
from shared.config import RunConfig
from shared.errors import BadPayload, InvalidConfig
from shared.pki import keys
from shared.pki.trouble import FederationUnreadable, KeyUnusable
from shared.wire.messages import recipe_text
from shared.wire.signature import Due, fingerprint, verify
from tests.support.command import crossplant_here
from tests.support.pki import DAY, NOW, make, take_in

RECIPE = recipe_text(RunConfig().recipe)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Path]:
    """A federation of two plants whose server says that it runs, and a file of settings."""
    fed = make(tmp_path, NOW)
    for name in ("north", "south"):
        take_in(fed, name, NOW)
    place = ServerPlace.of(fed)
    place.prepare()
    place.write_endpoint(Endpoint("127.0.0.1:1", None, 2, os.getpid()))
    (tmp_path / "run.toml").write_text("[rounds]\njoint = 1\n")
    with alone(place.lock, "this test"):
        yield fed


def start_run(fed: Path, *flags: str) -> str:
    """What the command says when it ends well."""
    settings = fed.parent / "run.toml"
    done = crossplant_here("server", "start-run", "--federation", fed, "--settings", settings, "--name", "r", *flags)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(*arguments: str | Path) -> str:
    done = crossplant_here("server", *arguments)
    assert done.returncode == 1
    return done.stderr


def signature(fed: Path) -> str:
    with RoundStore.open(str(fed)) as store:
        return store.signature("r")


def recipe(fed: Path) -> str:
    with RoundStore.open(str(fed)) as store:
        return recipe_text(store.config("r").recipe)


def test_what_start_run_signs_holds_for_its_plants_for_thirty_days(running: Path) -> None:
    assert "given to 2 plants: north, south" in start_run(running)
    signer = read(running).signer
    assert verify(signature(running), Due("r", recipe(running), "north"), NOW + 29 * DAY) == signer
    with pytest.raises(BadPayload, match="other plants"):
        verify(signature(running), Due("r", recipe(running), "west"), NOW)
    with pytest.raises(BadPayload, match="ended at"):
        verify(signature(running), Due("r", recipe(running), "north"), NOW + 31 * DAY)


def test_a_run_is_unsigned_only_when_that_is_said(running: Path) -> None:
    start_run(running, "--unsigned")
    assert signature(running) == ""


def test_a_federation_without_a_key_says_how_to_make_one(running: Path) -> None:
    for name in ("run.key", "run.pub"):
        (running / "signing" / name).unlink()
    said = refused("start-run", "--federation", running, "--settings", running.parent / "run.toml", "--name", "r")
    assert said.startswith("CP-101 InvalidConfig")
    assert f"`crossplant provision signer {running} --new` makes one." in said
    assert not (running / "rounds.sqlite").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("x = 1", "Extra inputs"),
        ("=", "is not valid TOML"),
        (None, "cannot read"),
        ("[rounds]\njoint = -1", "joint = -1"),
    ],
)
def test_settings_that_are_none_start_nothing(running: Path, content: str | None, said: str) -> None:
    settings = running.parent / "bad.toml"
    if content is not None:
        settings.write_text(content)
    answer = refused("start-run", "--federation", running, "--settings", settings)
    assert answer.startswith("CP-101")
    assert said in answer
    assert "preset" not in answer
    assert not (running / "rounds.sqlite").exists()


def test_a_run_is_signed_anew_with_the_key_of_now_for_the_same_plants(running: Path) -> None:
    start_run(running, "--valid-days", "1")
    before = read(running).signer
    with opened(running) as federation:
        after = make_key(federation, replace=True)
    assert verify(signature(running), Due("r", recipe(running), "north"), NOW) == before != after
    again = crossplant_here("server", "sign-run", "--federation", running, "--name", "r", "--valid-days", "90")
    assert again.returncode == 0, again.stderr
    assert verify(signature(running), Due("r", recipe(running), "south"), NOW + 89 * DAY) == after
    (running / "run/runs/r.json").rename(running / "run/runs/r.failed")  # failed, as its signature had ended
    again = crossplant_here("server", "sign-run", "--federation", running, "--name", "r", "--valid-days", "120")
    assert verify(signature(running), Due("r", recipe(running), "south"), NOW + 119 * DAY) == after
    for name in ("none", "../r"):
        assert "is under way" in refused("sign-run", "--federation", running, "--name", name)


def test_a_run_of_a_store_that_is_older_than_signatures_can_be_signed(running: Path) -> None:
    place = ServerPlace.of(running)
    ask_for(place, str(running), "r", RunConfig(), ("north", "south"))
    connection = sqlite3.connect(running / "rounds.sqlite")
    connection.execute("DROP TABLE signatures")
    connection.close()
    assert crossplant_here("server", "sign-run", "--federation", running, "--name", "r").returncode == 0
    assert verify(signature(running), Due("r", RECIPE, "north"), NOW) == read(running).signer
    assert Submission.read(place.runs / "r.json").roster == ("north", "south")


def test_the_key_is_locked_by_the_authoritys_passphrase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(keys.PASSPHRASE, "correct horse")
    fed = make(tmp_path, NOW)
    signer = fingerprint(signing_key(fed).public_key())
    assert read(fed).signer == signer
    monkeypatch.setenv(keys.PASSPHRASE, "wrong")
    with pytest.raises(KeyUnusable, match="does not open"):
        sign_run(fed, "r", RunConfig(), ("north",), NOW)
    monkeypatch.delenv(keys.PASSPHRASE)
    with pytest.raises(KeyUnusable, match="locked by a passphrase"):
        sign_run(fed, "r", RunConfig(), ("north",), NOW)
    assert read(fed).signer == signer  # what kits say needs no passphrase


def test_a_key_that_is_not_that_of_its_public_line_signs_nothing(tmp_path: Path) -> None:
    fed, other = make(tmp_path, NOW), make(tmp_path, NOW, "other")
    (fed / "signing/run.key").write_bytes((other / "signing/run.key").read_bytes())
    with pytest.raises(FederationUnreadable, match="is not the key of"):
        sign_run(fed, "r", RunConfig(), ("north",), NOW + timedelta(days=1))


def test_an_old_folder_gets_its_first_key(tmp_path: Path) -> None:
    fed = make(tmp_path, NOW)
    for name in ("run.key", "run.pub"):
        (fed / "signing" / name).unlink()
    (fed / "signing").rmdir()
    with pytest.raises(InvalidConfig, match="no key to sign runs with"):
        signing_key(fed)
    with opened(fed) as federation:
        assert federation.signer is None
        made = make_key(federation, replace=False)
    assert read(fed).signer == made
    assert (fed / "signing").stat().st_mode & 0o077 == 0


def test_the_coordinators_processes_never_see_the_passphrase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(keys.PASSPHRASE, "correct horse")
    seen: list[str | None] = []
    fed = make(tmp_path, NOW)
    monkeypatch.setattr("server.run.serve.serve", lambda *_: seen.append(os.environ.get(keys.PASSPHRASE)))
    done = crossplant_here("server", "run", "--federation", fed)
    assert done.returncode == 0, done.stderr
    assert seen == [None]


def test_a_run_is_carried_with_the_signature_of_now_and_an_unreadable_store_ends_no_round(tmp_path: Path) -> None:
    with RoundStore.create(str(tmp_path)) as store:
        store.start_run("r", RunConfig(), signature="v1.first")
        ask = _signature(store, "r")
        assert ask() == "v1.first"
        with RoundStore.open(str(tmp_path)) as other:
            other.sign_run("r", "v1.second")
        assert ask() == "v1.second"
        (tmp_path / "rounds.sqlite").rename(tmp_path / "away")
        assert ask() == "v1.second"
