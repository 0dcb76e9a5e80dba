"""The agent's disk fills up: nothing is answered that cannot be logged, and with room it goes on."""

from __future__ import annotations

import resource
from pathlib import Path

from client.agent.audit import NEWEST, verify
from tests.support import agents


def test_what_cannot_be_logged_is_refused_and_the_chain_holds(tmp_path: Path) -> None:
    with agents.running(agents.make_plant(tmp_path)) as agent:
        assert "refused" not in agent.ask(agents.describe()).texts
        size = (agent.audit / NEWEST).stat().st_size
        pid, free = agent.process.pid, resource.prlimit(agent.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size + 100, free[1]))  # a third of a line fits
        for _ in range(3):
            assert agent.ask(agents.describe()).texts["refused"] == "CP-605 AuditBroken"
        assert (agent.audit / NEWEST).stat().st_size == size
        verify(agent.audit)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, free)
        assert "refused" not in agent.ask(agents.describe()).texts
        assert agent.end()[0] == 0
    assert verify(agent.audit).number == 4  # start, two answers, stop
