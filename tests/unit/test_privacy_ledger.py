"""The privacy ledger: what is written down stays, what was tampered with shows, a budget is never passed."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import threading
import time
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import pytest

from shared.errors import BudgetSpent, LedgerBroken, PrivacyUnmet
from shared.privacy import ledger as module
from shared.privacy.accounting import Event, epsilon
from shared.privacy.ledger import PrivacyLedger, Purpose, Release, read_balance

UNIT = "segment of 60 samples (60 s)"
WHOLE = Event(20.0, 1.0, 1)


def release(request: str, event: Event = WHOLE, purpose: Purpose = "weights", unit: str = UNIT) -> Release:
    return Release("run", 1, purpose, request, event, 1e-5, unit, "2026-01-01T00:00:00+00:00")


def filled(folder: Path, lines: int = 5) -> PrivacyLedger:
    opened = PrivacyLedger(folder)
    for number in range(lines):
        opened.charge(release(f"{number}"), 3.0)
    return opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "privacy" / "north"


def lines_of(folder: Path) -> list[bytes]:
    return (folder / "ledger.jsonl").read_bytes().splitlines()


def test_what_was_charged_is_the_same_after_opening_again_and_for_a_reader(folder: Path) -> None:
    opened = filled(folder)
    found = opened.balance()
    assert found.epsilon == epsilon([Event(20.0, 1.0, 5)], 1e-5) > 0
    assert (found.plant, found.delta, found.unit, found.releases, found.budget) == ("north", 1e-5, UNIT, 5, 3.0)
    assert PrivacyLedger(folder).balance() == read_balance(folder) == found


def test_each_purpose_has_an_epsilon_of_its_own(folder: Path) -> None:
    opened = filled(folder, 2)
    opened.charge(release("a", Event(5.0, 1.0, 1), "centroids"), 3.0)
    found = opened.balance()
    assert found.by_purpose["centroids"] == epsilon([Event(5.0, 1.0, 1)], 1e-5)
    assert found.by_purpose["weights"] == epsilon([Event(20.0, 1.0, 2)], 1e-5)
    assert found.epsilon < sum(found.by_purpose.values())


def test_the_same_request_is_charged_once_for_each_purpose(folder: Path) -> None:
    opened = filled(folder, 3)
    before = (folder / "ledger.jsonl").read_bytes()
    for _ in range(3):
        opened.charge(release("1"), 3.0)
    PrivacyLedger(folder).charge(release("2"), 3.0)
    assert (folder / "ledger.jsonl").read_bytes() == before
    opened.charge(release("1", purpose="centroids"), 3.0)
    assert opened.balance().releases == 4


def test_the_same_request_with_other_noise_is_refused(folder: Path) -> None:
    """Both answers use the same draw: together they would show what it hides."""
    opened = filled(folder)
    with pytest.raises(PrivacyUnmet, match="charged with noise 20 before and asks for 21 now"):
        opened.charge(release("1", Event(21.0, 1.0, 1)), 3.0)


def test_records_of_another_length_do_not_add_up(folder: Path) -> None:
    with pytest.raises(PrivacyUnmet, match="do not add up"):
        filled(folder).charge(release("x", unit="segment of 600 samples (600 s)"), 3.0)


@pytest.mark.parametrize("event", [Event(float("nan"), 1, 1), Event(float("inf"), 1, 1), Event(-1.0, 1, 1)])
def test_what_cannot_be_accounted_for_is_refused(folder: Path, event: Event) -> None:
    with pytest.raises(PrivacyUnmet):
        filled(folder).charge(release("x", event), 3.0)


def test_the_release_that_would_pass_the_budget_is_refused_and_not_written(folder: Path) -> None:
    opened, budget = PrivacyLedger(folder), 0.5
    fit = next(n for n in range(100) if epsilon([Event(20.0, 1.0, n + 1)], 1e-5) > budget)
    for number in range(fit):
        opened.charge(release(f"{number}"), budget)
    before = opened.balance()
    with pytest.raises(BudgetSpent, match=r"has spent epsilon 0\.\d+ of 0\.5 at delta 1e-05; 0\.0\d+ is left"):
        opened.charge(release("other"), budget)
    opened.charge(release("0"), budget)
    assert PrivacyLedger(folder).balance() == before
    opened.charge(release("other"), 2 * budget)


def test_no_noise_costs_more_than_any_budget(folder: Path) -> None:
    with pytest.raises(BudgetSpent, match="to inf"):
        filled(folder).charge(release("x", Event(0.0, 1.0, 1)), 1e9)


def test_a_plan_is_spent_to_its_end_and_no_further(folder: Path) -> None:
    """RDP alone would stop before the plan's last rounds: the tighter bound is asked where it is needed."""
    from shared.privacy.accounting import multiplier_for, upper

    sampled = Event(multiplier_for(1.0, 1e-5, 0.2, 20), 0.2, 1)
    assert upper([Event(sampled.multiplier, 0.2, 20)], 1e-5) > 1.0
    opened = PrivacyLedger(folder)
    for number in range(20):
        opened.charge(release(f"{number}", sampled), 1.0)
    with pytest.raises(BudgetSpent):
        opened.charge(release("21", sampled), 1.0)


def test_the_key_is_made_once_for_its_owner_only_and_stands_nowhere_else(folder: Path) -> None:
    opened = filled(folder)
    key = folder / "key"
    assert stat.S_IMODE(key.stat().st_mode) == stat.S_IMODE((folder / "ledger.jsonl").stat().st_mode) == 0o600
    assert len(opened.secret) == 32
    assert opened.secret == key.read_bytes() == PrivacyLedger(folder).secret
    others = [path.read_bytes() for path in folder.iterdir() if path != key]
    assert all(opened.secret not in data and opened.secret.hex().encode() not in data for data in others)
    assert PrivacyLedger(folder.with_name("south")).secret != opened.secret


def test_each_line_holds_the_digest_of_the_one_before(folder: Path) -> None:
    filled(folder)
    lines = lines_of(folder)
    for before, line in pairwise(lines):
        assert json.loads(line)["previous"] == hashlib.sha256(before).hexdigest()


def _drop(folder: Path, *which: int) -> None:
    kept = [line for number, line in enumerate(lines_of(folder)) if number not in which]
    (folder / "ledger.jsonl").write_bytes(b"".join(line + b"\n" for line in kept))


def _change(folder: Path, which: int, old: bytes, new: bytes) -> None:
    lines = lines_of(folder)
    assert old in lines[which]
    lines[which] = lines[which].replace(old, new)
    (folder / "ledger.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))


TAMPERED = {
    "a changed line": lambda f: _change(f, 2, b"20.0", b"90.0"),
    "the newest line changed": lambda f: _change(f, 5, b"20.0", b"90.0"),
    "a line of rubbish": lambda f: _change(f, 3, b'{"previous"', b"\0\0\0\0"),
    "a line passed off as torn": lambda f: _change(f, 3, b"}", b"#torn"),
    "the newest line passed off as torn": lambda f: _change(f, 5, b"}", b"#torn"),
    "a middle line removed": lambda f: _drop(f, 3),
    "the newest line removed": lambda f: _drop(f, 5),
    "all lines but the first removed": lambda f: _drop(f, 1, 2, 3, 4, 5),
    "an empty file": lambda f: (f / "ledger.jsonl").write_bytes(b""),
    "no file": lambda f: (f / "ledger.jsonl").unlink(),
    "no key": lambda f: (f / "key").unlink(),
    "another key": lambda f: (f / "key").write_bytes(bytes(32)),
    "a short key": lambda f: (f / "key").write_bytes(bytes(31)),
    "no head": lambda f: (f / "head.json").unlink(),
    "a broken head": lambda f: (f / "head.json").write_bytes(b"{"),
    "a negative count": lambda f: _change(f, 5, b'"count":1', b'"count":-9'),
}


@pytest.mark.parametrize("tamper", TAMPERED.values(), ids=TAMPERED)
def test_what_was_tampered_with_shows_and_says_what_to_do(folder: Path, tamper: object) -> None:
    filled(folder)
    tamper(folder)  # type: ignore[operator]
    for opens in (PrivacyLedger, read_balance):
        with pytest.raises(LedgerBroken) as caught:
            opens(folder)
        assert str(folder) in caught.value.cause
        assert "backup" in caught.value.cure


def test_a_file_of_another_plant_or_an_old_one_in_its_place_shows(folder: Path) -> None:
    filled(folder)
    old = (folder / "ledger.jsonl").read_bytes()
    filled(folder, 7)
    south = folder.with_name("south")
    filled(south, 7)
    good = (folder / "ledger.jsonl").read_bytes()
    for other in (old, (south / "ledger.jsonl").read_bytes()):
        (folder / "ledger.jsonl").write_bytes(other)
        with pytest.raises(LedgerBroken):
            PrivacyLedger(folder)
    (folder / "ledger.jsonl").write_bytes(good)
    folder.rename(folder.with_name("west"))
    with pytest.raises(LedgerBroken, match="is the ledger of 'north', not of 'west'"):
        PrivacyLedger(folder.with_name("west"))


@pytest.mark.parametrize("how", ["unlinked", "shortened"])
def test_a_file_that_goes_while_it_is_open_is_noticed(folder: Path, how: str) -> None:
    opened = filled(folder)
    if how == "unlinked":
        (folder / "ledger.jsonl").unlink()
    else:
        os.truncate(folder / "ledger.jsonl", 300)
    with pytest.raises(LedgerBroken, match=r"missing|shorter"):
        opened.charge(release("x"), 3.0)


@pytest.mark.parametrize("cut", [1, 60, 200, -1])
def test_a_torn_line_is_kept_closed_and_counted_as_the_costliest(folder: Path, cut: int) -> None:
    opened = filled(folder)
    opened.charge(release("dear", Event(10.0, 1.0, 1)), 3.0)
    whole = (folder / "ledger.jsonl").read_bytes()
    begun = lines_of(folder)[-1][:cut]
    (folder / "ledger.jsonl").write_bytes(whole + begun)
    after = [Event(20.0, 1.0, 5), Event(10.0, 1.0, 2)]
    assert read_balance(folder).epsilon == PrivacyLedger(folder).balance().epsilon == epsilon(after, 1e-5)
    for number in ("next", "one more"):
        opened = PrivacyLedger(folder)
        opened.charge(release(number), 3.0)
        after.append(WHOLE)
        assert (folder / "ledger.jsonl").read_bytes().startswith(whole + begun + b"#torn\n")
        assert PrivacyLedger(folder).balance() == opened.balance() == read_balance(folder)
        assert opened.balance().epsilon == epsilon(after, 1e-5)
        assert opened.balance().torn == 1


def test_a_torn_line_counts_against_the_budget(folder: Path) -> None:
    opened, budget = filled(folder, 3), epsilon([Event(20.0, 1.0, 4)], 1e-5)
    with (folder / "ledger.jsonl").open("ab") as file:
        file.write(b'{"previous"')
    with pytest.raises(BudgetSpent):
        opened.charge(release("x"), budget)


def test_two_that_have_it_open_count_together(folder: Path) -> None:
    first, second = PrivacyLedger(folder), PrivacyLedger(folder)
    for number in range(6):
        (first, second)[number % 2].charge(release(f"{number}"), 3.0)
    first.charge(release("5"), 3.0)
    assert first.balance().releases == 6
    assert PrivacyLedger(folder).balance() == first.balance()
    budget = epsilon([Event(20.0, 1.0, 7)], 1e-5)
    second.charge(release("a"), budget)
    with pytest.raises(BudgetSpent):
        first.charge(release("b"), budget)


def test_threads_that_share_it_lose_nothing(folder: Path) -> None:
    opened = PrivacyLedger(folder)

    def work(name: int) -> None:
        for number in range(5):
            opened.charge(release(f"{name} {number}"), 9.0)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert PrivacyLedger(folder).balance().releases == 20


def test_a_release_is_on_the_disk_before_charge_returns(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = filled(folder)
    synced: list[int] = []
    real = os.fsync

    def noted(file: int) -> None:
        real(file)
        if os.path.realpath(f"/proc/self/fd/{file}") == str((folder / "ledger.jsonl").resolve()):
            synced.append((folder / "ledger.jsonl").stat().st_size)

    monkeypatch.setattr(os, "fsync", noted)
    opened.charge(release("x"), 3.0)
    assert synced[-1] == (folder / "ledger.jsonl").stat().st_size


def test_after_a_failed_fsync_nothing_is_released_until_it_is_opened_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = filled(folder)

    def fails(_: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fails)
        with pytest.raises(LedgerBroken, match="Input/output error"):
            opened.charge(release("x"), 3.0)
    with pytest.raises(LedgerBroken, match="may be lost"):
        opened.charge(release("x"), 3.0)
    assert PrivacyLedger(folder).balance().releases == 6


def test_a_head_that_could_not_be_written_is_written_later(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = filled(folder)

    def fails(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(module, "replace_file", fails)
        with pytest.raises(LedgerBroken, match="No space left"):
            opened.charge(release("x"), 3.0)
    assert PrivacyLedger(folder).balance().releases == 6
    opened.charge(release("x"), 3.0)
    assert json.loads((folder / "head.json").read_bytes())["lines"] == 7


def test_a_ledger_without_a_key_that_was_never_used_begins_anew(folder: Path) -> None:
    """The process was stopped between the two."""
    PrivacyLedger(folder)
    (folder / "key").unlink()
    opened = PrivacyLedger(folder)
    opened.charge(release("x"), 3.0)
    assert PrivacyLedger(folder).balance().releases == 1


def test_a_folder_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "privacy").write_text("")
    with pytest.raises(LedgerBroken, match="cannot be written"):
        PrivacyLedger(tmp_path / "privacy" / "north")


def test_names_that_utf8_cannot_carry_make_no_line_that_cannot_be_read(folder: Path) -> None:
    opened = PrivacyLedger(folder)
    name = "r\ud800\n\x1b[2J\N{SNOWMAN}"
    opened.charge(Release(name, 1, "weights", "x", WHOLE, 1e-5, UNIT, ""), 3.0)
    assert PrivacyLedger(folder).balance().releases == 1
    assert len(lines_of(folder)) == 2


def _many(folder: Path, count: int, events: tuple[Event, ...]) -> None:
    """What so many charges write, without their fsyncs."""
    PrivacyLedger(folder)
    lines = lines_of(folder)
    for number in range(count):
        said = asdict(release(f"{number}", events[number % len(events)]))
        previous = {"previous": hashlib.sha256(lines[-1]).hexdigest()}
        lines.append(json.dumps(previous | said | {"budget": 30.0}).encode())
    (folder / "ledger.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
    head = {"lines": len(lines), "digest": hashlib.sha256(lines[-1]).hexdigest()}
    (folder / "head.json").write_text(json.dumps(head))


def test_five_thousand_lines_open_and_are_charged_at_once(folder: Path) -> None:
    events = (Event(30.0, 0.1, 1), Event(500.0, 1.0, 1), Event(40.0, 0.05, 1))
    _many(folder, 5000, events)
    began = time.process_time()
    opened = PrivacyLedger(folder)
    assert time.process_time() - began < 1.0
    opened.charge(release("the divergences are computed once"), 30.0)
    began = time.process_time()
    for number in range(10):
        opened.charge(release(f"new {number}", events[0]), 30.0)
    assert (time.process_time() - began) / 10 < 0.02
