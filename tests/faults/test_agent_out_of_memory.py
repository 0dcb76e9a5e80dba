"""A request needs more memory than the plant's policy gives the agent: it fails alone, and the agent goes on."""

from __future__ import annotations

from pathlib import Path

from shared.wire.inventory import Kind
from shared.wire.messages import Request, encode_request
from tests.support import agents

POLICY = "[caps]\nhidden = 4096\nmemory_mb = 1800\n"


def test_a_model_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    wide = agents.RECIPE.detector.model_copy(update={"hidden": 4096})
    request = encode_request(Request(Kind.DESCRIBE, "wide", 1, agents.RECIPE.model_copy(update={"detector": wide})))
    with agents.running(agents.make_plant(tmp_path, POLICY)) as agent:
        assert agent.ask(request).texts["refused"] == "CP-603 resources"
        assert "refused" not in agent.ask(agents.train()).texts
        assert agent.end()[0] == 0
