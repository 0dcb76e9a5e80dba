"""What a plant's policy says to models of its own, adapters and sampling that a run asks for."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from client.agent.claim import check_claim
from client.agent.policy import Facts, Policy, judge
from shared.config import Recipe
from shared.errors import NotAllowed, PrivacyUnmet
from shared.wire.inventory import Kind
from shared.wire.messages import Request, encode_request
from tests.unit.test_policy import private

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
FACTS = Facts(rows=1000, schema="0123456789abcdef", plant="north", period_s=0.5)


def word(caps: dict[str, int], **groups: Any) -> str:
    """Why a recipe is refused; empty when it is not."""
    packet = encode_request(Request(Kind.DESCRIBE, "r", 1, Recipe.model_validate(groups)))
    try:
        judge(Policy.model_validate({"caps": caps}), packet, FACTS, NOW)
    except NotAllowed as error:
        return error.cause
    return ""


@pytest.mark.parametrize(
    ("sharing", "refused"),
    [
        ({"personal_epochs": 11}, True),
        ({"personal_epochs": 10}, False),
        ({"keep": "better", "alone_epochs": 11}, True),
        ({"keep": "better", "alone_epochs": 10}, False),
        ({"alone_epochs": 11}, False),  # nobody trains it
    ],
)
def test_epochs_of_a_model_of_its_own_count_like_any(sharing: dict[str, object], refused: bool) -> None:
    assert ("local_epochs would be 11" in word({"local_epochs": 10}, sharing=sharing)) == refused


def test_a_trunk_is_no_wider_than_a_network_may_be() -> None:
    assert "hidden would be 65" in word({"hidden": 64}, sharing={"share": "trunk", "adapter": 65})
    assert word({"hidden": 64}, sharing={"adapter": 65}) == ""


def test_windows_are_counted_in_the_rows_that_the_run_joins() -> None:
    assert word({"windows": 100}, preprocess={"period_s": 5.0}) == ""
    assert "windows would be 1,000" in word({"windows": 100})


def test_no_claim_covers_an_adapter() -> None:
    recipe = private()
    check_claim(recipe)
    trunk = recipe.model_copy(update={"sharing": recipe.sharing.model_copy(update={"share": "trunk"})})
    with pytest.raises(PrivacyUnmet, match="no noise protects an adapter"):
        check_claim(trunk)
