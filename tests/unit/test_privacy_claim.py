"""The paragraph that can be quoted: every number in it stands in the ledger or follows from one that does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from shared.privacy.accounting import Event
from shared.privacy.claim import CENTRAL_UNIT, claim, rounded_up
from shared.privacy.ledger import Balance, PrivacyLedger, Release

UNIT = "segment of 90 samples (900 s)"


def spent(folder: Path, unit: str = UNIT, sampling: float = 0.25) -> Balance:
    opened = PrivacyLedger(folder)
    for number, event in enumerate((Event(4.0, sampling, 1), Event(30.0, 1.0, 1))):
        opened.charge(Release("run", 1, "weights", f"{number}", event, 2e-6, unit, ""), 9.0)
    return opened.balance()


def test_each_number_in_the_paragraph_comes_from_the_ledger(tmp_path: Path) -> None:
    balance = spent(tmp_path / "north")
    text = claim(balance).text
    told = rounded_up(balance.epsilon)
    assert balance.epsilon <= told < balance.epsilon + 1e-3
    assert f"({told:g}, 2e-06)-differentially private for each disjoint {UNIT}" in text
    known = {f"{told:g}", "2e-06", "90", "900", "0.25", f"{2 * told:g}", "2", f"{2e-6 * (1 + 2.718281828**told):.1e}"}
    numbers = set(re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?:e-\d+)?(?![\w])", text))
    assert numbers == known


def test_the_paragraph_says_all_that_a_claim_must_say(tmp_path: Path) -> None:
    text = claim(spent(tmp_path / "north")).text
    for said in (
        "plant 'north'",
        "against anyone who sees all that the plant sends, the coordinator",
        "Neighbouring data sets differ by one such record, present or absent",
        "independently with probability 0.25",
        "Covered is everything that the plant sends in the runs of this ledger",
        "Not covered: the tags",
        "when, and how long",
        "data used outside the training part",
        "spans k records is protected k-fold less",
        "thresholds, alarms and local guard",
        "released client, unaltered",
        "not excluded by proof",
    ):
        assert said in text
    assert "\n" not in text


def test_a_coordinators_claim_is_about_plants_and_does_not_hold_against_it(tmp_path: Path) -> None:
    text = claim(spent(tmp_path / "all-plants", "one plant", 1.0)).text
    assert "the plants together" in text
    assert "for each plant" in text
    assert "not against the coordinator" in text
    assert "one plant, whole, present or absent" in text
    assert "no gain from sampling is assumed" in text
    assert "does not leave" not in text


def test_as_json_it_holds_the_parts_and_the_paragraph(tmp_path: Path) -> None:
    found = claim(spent(tmp_path / "north"))
    told = found.as_dict()
    assert told["text"] == found.text
    assert (told["plant"], told["epsilon"], told["delta"]) == ("north", found.epsilon, 2e-6)
    assert isinstance(told["not_covered"], list)


@pytest.mark.parametrize("value", [0.0, 0.0004, 1.0, 2.9990001, 3.0, 2.9999999, 12.3456])
def test_epsilon_is_rounded_up_never_down(value: float) -> None:
    assert value - 1e-9 <= rounded_up(value) < value + 1e-3


def test_a_central_claim_speaks_of_plants_only() -> None:
    central = claim(Balance("all-plants", 2.0, 1e-5, CENTRAL_UNIT, 3, {"weights": 2.0}))
    assert central.sampling.startswith("Every plant is in every release")
    assert "record" not in central.text
