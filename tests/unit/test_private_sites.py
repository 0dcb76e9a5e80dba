"""Which sites a claim of differential privacy bears, and what a plan says of them before anything is spent."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from shared.config import RunConfig
from shared.errors import TooFewRecords
from shared.series import SiteData
from simulations import gather as module
from simulations.gather import gather
from simulations.generate import generate
from simulations.private import PrivatePlan, plan_lines, print_plan, private_plan
from simulations.settings import layered
from tests.unit.test_spent import NOISE, PRIVATE_CONFIG

LENGTHS = {"north": 60 * 2100, "south": 60 * 2000, "west": 60 * 800}
RECORDS = {"north": 1680, "south": 1600, "west": 640}


def site(name: str) -> SiteData:
    """A plant of as many rows as it is to have: one made row after the other, again and again."""
    made = generate(1, 400, 0)[0]
    return replace(made, name=name, train_TD=made.train_TD[:1].repeat(LENGTHS[name], axis=0))


def gathered(monkeypatch: pytest.MonkeyPatch, *names: str) -> module.Gathered:
    monkeypatch.setattr(module, "_partitioned", lambda config: ("given", tuple(map(site, names))))
    return gather(PRIVATE_CONFIG)


def test_a_site_with_too_few_records_is_left_out_with_what_it_could_offer(monkeypatch: pytest.MonkeyPatch) -> None:
    found = gathered(monkeypatch, *LENGTHS)
    assert [one.name for one in found.sites] == ["north", "south"]
    (out,) = found.left_out
    assert (out.site, out.records, out.epsilon) == ("west", RECORDS["west"], 8.0)
    assert "'west' has 640 records, too few for epsilon 3: the least it can honestly offer is 8" in out.why
    assert any(out.why in str(note) for note in found.notes)


def test_with_fewer_than_two_left_the_run_does_not_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TooFewRecords, match=r"1 of 2 sites can take part.*'west' has 640 records"):
        gathered(monkeypatch, "north", "west")


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> PrivatePlan:
    found = gathered(monkeypatch, *LENGTHS)
    made = private_plan(PRIVATE_CONFIG, found.sites, found.left_out)
    assert made is not None
    return made


def test_a_plan_tells_what_each_site_has_and_says(plan: PrivatePlan) -> None:
    assert {one.site: one.records for one in plan.sites} == {name: RECORDS[name] for name in ("north", "south")}
    assert {one.declared for one in plan.sites} == {1024}
    assert [one.sampled for one in plan.sites] == pytest.approx([102.4, 102.4])
    assert plan.noise == NOISE
    assert [one.site for one in plan.left_out] == ["west"]


def test_a_plan_fits_eighty_columns_where_it_is_a_table_and_names_all_that_matters(plan: PrivatePlan) -> None:
    told = io.StringIO()
    print_plan(Console(file=told, width=80), plan)
    table = told.getvalue().split("\n\n")[-1].splitlines()
    assert max(map(len, table)) <= 80
    said = "\n".join(plan_lines(plan))
    assert max(len(line) for line in plan_lines(plan) if "left out" not in line) <= 80
    for part in (
        "delta 1e-05",
        "chance of 0.1",
        "gradient 2",
        "loss 10",
        "noise multiplier: 20",
        "left out: plant 'west'",
    ):
        assert part in said


def test_without_a_claim_there_is_no_plan() -> None:
    assert private_plan(RunConfig(), [site("west")], ()) is None


def test_a_preset_that_asks_for_privacy_lies_over_what_privacy_begins_with() -> None:
    config, origin = layered("private", {}, None, ["rounds.pretrain=1", "rounds.joint=1"])
    assert (config.recipe.privacy.mode, config.data.dataset, config.recipe.detector.hidden) == (
        "local",
        "twin-swat",
        32,
    )
    assert origin["recipe.privacy.noise.weights"] == "the plan for epsilon"


@pytest.mark.parametrize("way", ["flag", "set"])
def test_a_flag_and_a_setting_ask_for_privacy_alike(way: str) -> None:
    flags = {"recipe.privacy.epsilon": 3.0} if way == "flag" else {}
    given = [] if way == "flag" else ["recipe.privacy.epsilon=3.0"]
    config, _ = layered("demo", flags, 2, given)
    assert (config.recipe.privacy.mode, config.rounds.server_optimizer) == ("local", "adam")
    assert config.recipe.privacy.noise.weights > 0
