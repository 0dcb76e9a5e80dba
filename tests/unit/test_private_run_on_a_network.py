"""A run under differential privacy from its settings file to the plant: what is signed, what a policy makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.agent.policy import Facts, Policy, judge, read_policy
from server.private import planned
from server.provision.federation import read
from shared.config import TRUSTED, NoiseConfig, RunConfig, build, read_toml
from shared.errors import NotAllowed
from shared.privacy.defaults import private_layers
from shared.wire.envelope import Packet
from shared.wire.messages import recipe_text
from shared.wire.signature import SIGNATURE
from tests.support.deploy import DEPLOY
from tests.support.pki import NOW
from tests.unit.test_provision_signing import recipe, running, signature, start_run

__all__ = ["running"]
EXAMPLE = DEPLOY / "examples" / "private.toml"
SHORT = '[recipe.privacy]\nmode = "local"\nepsilon = 3.0\n[rounds]\npretrain = 1\njoint = 2\n'
FACTS = Facts(rows=200_000, schema="0" * 16, plant="north")
REQUIRED = Policy.model_validate({"dp": {"required": True, "max_epsilon": 3.0, "unit": 60}})


def as_started(settings: str | Path) -> RunConfig:
    """As `crossplant server start-run` reads it."""
    asked = read_toml(Path(settings))
    return planned(build({"federation": TRUSTED, **private_layers(asked), str(settings): asked})[0])


def request(recipe: str, signed: str = "") -> Packet:
    texts = {"kind": "describe", "run": "r", "recipe": recipe}
    return Packet({}, {"round": 1.0}, texts | ({SIGNATURE: signed} if signed else {}))


def test_the_example_is_private_and_the_policy_that_asks_for_it_takes_it() -> None:
    run, policy = as_started(EXAMPLE), read_policy(DEPLOY / "examples" / "policy.toml")
    privacy = run.recipe.privacy
    assert (privacy.mode, privacy.epsilon) == ("local", 3.0)
    assert privacy.noise.weights > 1
    assert run.rounds.server_optimizer == "adam"
    asking = policy.model_copy(update={"dp": policy.dp.model_copy(update={"required": True})})
    outside_hours = asking.model_copy(update={"hours": Policy().hours})
    assert judge(outside_hours, request(recipe_text(run.recipe)), FACTS, NOW).kind == "describe"
    assert run.rounds.pretrain + run.rounds.joint <= policy.budget.rounds_a_run


def test_planned_noise_is_part_of_what_start_run_signs(running: Path) -> None:
    (running.parent / "run.toml").write_text(SHORT)
    start_run(running)
    text = recipe(running)
    noise = as_started(running.parent / "run.toml").recipe.privacy.noise
    assert noise != NoiseConfig()
    assert f'"weights":{noise.weights}' in text
    policy = REQUIRED.model_copy(update={"signers": (read(running).signer,)})
    assert judge(policy, request(text, signature(running)), FACTS, NOW).signer == read(running).signer
    weaker = text.replace(f'"weights":{noise.weights}', '"weights":0.5')
    with pytest.raises(NotAllowed, match="another recipe"):
        judge(policy, request(weaker, signature(running)), FACTS, NOW)


def test_a_plant_that_asks_for_privacy_refuses_a_run_without(running: Path) -> None:
    start_run(running)
    with pytest.raises(NotAllowed, match="no differential privacy") as refusal:
        judge(REQUIRED, request(recipe(running)), FACTS, NOW)
    assert refusal.value.word == "privacy"


@pytest.mark.parametrize(
    ("change", "telling"),
    [({"epsilon": 3.5}, "at most 3"), ({"delta": 1e-4}, "at most 1e-05"), ({"unit_s": 30.0}, "at least 60")],
)
def test_a_run_beyond_the_policy_is_refused(change: dict[str, float], telling: str) -> None:
    asked = as_started(EXAMPLE).recipe
    wrong = asked.model_copy(update={"privacy": asked.privacy.model_copy(update=change)})
    with pytest.raises(NotAllowed, match=telling):
        judge(REQUIRED, request(recipe_text(wrong)), FACTS, NOW)


def test_noise_that_somebody_names_is_not_planned_anew(tmp_path: Path) -> None:
    """The plant's ledger decides what it costs: a recipe with little noise spends the plant's budget sooner."""
    (tmp_path / "run.toml").write_text(SHORT + "[recipe.privacy.noise]\nweights = 2.0\nloss = 9.0\nstatistic = 9.0\n")
    assert as_started(tmp_path / "run.toml").recipe.privacy.noise.weights == 2.0
