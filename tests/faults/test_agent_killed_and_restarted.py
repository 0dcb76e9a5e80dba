"""An agent is killed, idle and in the middle of a task: the next one takes its place and gives the same answers."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

from client.agent.audit import NEWEST, lines, verify
from shared.errors import AgentUnreachable
from tests.support import agents
from tests.support.command import crossplant_here


def test_the_next_agent_answers_alike_and_goes_on_with_log_and_budget(tmp_path: Path) -> None:
    config = agents.make_plant(tmp_path, "[budget]\nrounds_a_run = 2\n[caps]\nlocal_epochs = 10_000\n")
    with agents.running(config) as agent:
        before = agent.ask(agents.describe()).texts, agent.ask(agents.train("r", 2)).arrays
        _ask_for_ever_and_kill(agent)
        assert agent.socket.exists()  # nobody listens on it any more
        with pytest.raises(AgentUnreachable):
            agent.ask(agents.describe())

    with agents.running(config) as agent:
        assert (agent.ask(agents.describe()).texts, agent.ask(agents.train("r", 2)).arrays) == before
        agent.ask(agents.train("r", 3))
        assert agent.ask(agents.train("r", 4)).texts["refused"] == "CP-603 budget"  # the dead agent's round counts
        code, _ = agent.end()
    assert code == 0
    verify(agent.audit)
    entries = [json.loads(line) for _, line in lines(agent.audit)]
    assert [e.get("event") for e in entries].count("start") == 2
    assert all(e.get("run") != "endless" for e in entries)  # never answered


def _ask_for_ever_and_kill(agent: agents.RunningAgent) -> None:
    """Kill the agent as soon as it has begun to train."""
    endless = agents.train("endless", 2, agents.with_training(local_epochs=10_000, batch_size=1))
    ledger, failed = agent.config.parent / "home" / "ledger.json", threading.Event()

    def go() -> None:
        try:
            agent.ask(endless)
        except AgentUnreachable:
            failed.set()

    asker = threading.Thread(target=go)
    asker.start()
    while "endless" not in ledger.read_text():
        time.sleep(0.01)
    agent.kill()
    asker.join()
    assert failed.is_set()


def test_a_log_that_was_changed_meanwhile_is_named_and_not_continued(tmp_path: Path) -> None:
    config = agents.make_plant(tmp_path)
    with agents.running(config) as agent:
        agent.ask(agents.describe("secret-run"))
        agent.kill()
    newest = agent.audit / NEWEST
    newest.write_bytes(newest.read_bytes().replace(b"secret-run", b"public-run"))
    checked = crossplant_here("client", "audit", "--verify", "--config", config)
    assert (checked.returncode, checked.stderr.split(":")[0]) == (1, "CP-605 AuditBroken")
    again = agents.start(config, wait=False)
    _, log = again.process.communicate(timeout=60)
    assert (again.process.returncode, log.split(":")[0]) == (1, "CP-605 AuditBroken")
