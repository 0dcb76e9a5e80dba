"""The agent as a process behind its socket, and the relay before it."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.agent import wire
from client.agent.audit import lines, verify
from shared.errors import AgentUnreachable, BadPayload, NotAllowed
from shared.wire.envelope import Packet, RawArray
from tests.conftest import REPOSITORY
from tests.support import agents
from tests.support.agents import RunningAgent
from tests.support.command import crossplant_here

POLICY = """
largest_message = 200_000
[caps]
local_epochs = 10_000
"""


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAgent]:
    with agents.running(agents.make_plant(tmp_path_factory.mktemp("plant"), POLICY)) as running:
        yield running


def entries(agent: RunningAgent) -> list[dict[str, object]]:
    return [json.loads(line) for _, line in lines(agent.audit)]


def codes(agent: RunningAgent, run: str, count: int) -> list[str]:
    """The codes of a run's lines, sorted. A caller that no longer waits is gone before its line is written."""
    ends = time.monotonic() + 30
    while time.monotonic() < ends:
        found = [str(entry["code"]) for entry in entries(agent) if entry.get("run") == run]
        if len(found) >= count:
            return sorted(found)
        time.sleep(0.02)
    raise AssertionError(f"only {found} were logged")


def raw(agent: RunningAgent, data: bytes) -> bytes:
    with wire.channel(agent.socket) as opened:
        answer: bytes = opened.unary_unary(wire.METHOD)(data, timeout=60)
        return answer


def test_it_describes_and_trains_and_says_the_same_again(agent: RunningAgent) -> None:
    described = agent.ask(agents.describe())
    assert described.texts["plant"] == "north"
    assert described.numbers["examples"] > 0
    first, second = agent.ask(agents.train()), agent.ask(agents.train())
    assert any(name.startswith("weights/") for name in first.arrays)
    assert first.arrays == second.arrays
    verify(agent.audit)


def test_a_request_is_one_line_in_the_log(agent: RunningAgent) -> None:
    before = len(entries(agent))
    request = agents.train("logged", 7)
    answer = agent.ask(request)
    (entry,) = entries(agent)[before:]
    assert (entry["run"], entry["round"], entry["kind"]) == ("logged", 7, "train")
    assert (entry["verdict"], entry["code"], entry["signer"]) == ("answered", "", "")
    assert entry["model"] == request.texts["model"]
    assert int(str(entry["bytes_in"])) > request.payload_bytes
    assert int(str(entry["bytes_out"])) > answer.payload_bytes
    assert float(str(entry["seconds"])) >= 0


def test_a_packet_beyond_the_policys_size_is_refused_and_logged(agent: RunningAgent) -> None:
    big = Packet({"weights/x": RawArray("float32", (1,), b"x" * 250_000)}, {}, {"run": "big"})
    assert agent.ask(big).texts["refused"] == "CP-603 size"
    assert entries(agent)[-1]["code"] == "CP-603 size"
    assert "policy allows 200,000" in str(entries(agent)[-1]["reason"])


def test_a_packet_that_is_not_even_received_is_named_as_such(agent: RunningAgent) -> None:
    huge = Packet({"weights/x": RawArray("float32", (1,), b"x" * 2_000_000)})
    with pytest.raises(NotAllowed) as caught:
        agent.ask(huge)
    assert wire.refused_text(caught.value) == "CP-603 size"


@pytest.mark.parametrize("data", [b"", b"\x80\x04garbage", b"CPF1\xff\xff\xff\xff{}", b"CPF1\x02\x00\x00\x00{}"])
def test_garbage_is_refused(agent: RunningAgent, data: bytes) -> None:
    answer = wire.decode_frame(raw(agent, data))
    assert answer.texts == {"plant": "north", "refused": "CP-501 BadPayload"}
    assert entries(agent)[-1]["bytes_in"] == len(data)


def test_a_task_is_given_up_when_its_deadline_passes(agent: RunningAgent) -> None:
    endless = agents.train("endless", 2, agents.with_training(local_epochs=10_000, batch_size=1))
    with pytest.raises(AgentUnreachable, match="in time"):
        agent.ask(endless, timeout_s=1.5)
    assert agent.ask(agents.describe(), 30).texts.get("refused") is None  # the next one is served, long before
    assert codes(agent, "endless", 1) == ["CP-602 TaskGivenUp"]


def test_one_task_runs_one_waits_and_no_third(agent: RunningAgent) -> None:
    endless = agents.train("crowd", 2, agents.with_training(local_epochs=10_000, batch_size=1))
    answers: list[str] = []

    def go() -> None:
        try:
            answers.append(agent.ask(endless, timeout_s=4).texts.get("refused", ""))
        except AgentUnreachable:
            answers.append("late")

    threads = [threading.Thread(target=go) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == ["CP-606 AgentBusy", "late", "late"]
    # The one that waits gets its turn just when nobody waits for its answer any more, or not at all.
    first, second, third = codes(agent, "crowd", 3)
    assert (first, third) == ("CP-602 TaskGivenUp", "CP-606 AgentBusy")
    assert second in ("CP-602 TaskGivenUp", "CP-606 AgentBusy")


def test_the_socket_is_for_the_owner_and_the_group(agent: RunningAgent) -> None:
    assert stat.S_IMODE(agent.socket.stat().st_mode) == 0o660
    assert stat.S_IMODE(agent.socket.parent.stat().st_mode) == 0o750
    assert stat.S_IMODE(agent.audit.stat().st_mode) == 0o700


def test_a_second_agent_is_refused(agent: RunningAgent) -> None:
    second = agents.start(agent.config, wait=False)
    _, log = second.process.communicate(timeout=60)
    assert second.process.returncode == 1
    assert log.startswith("CP-606 AgentBusy: another agent uses ")
    assert agent.ask(agents.describe()).texts.get("refused") is None


def test_a_second_agent_with_another_home_does_not_take_the_socket(agent: RunningAgent, tmp_path: Path) -> None:
    other = agents.make_plant(tmp_path / "other", "", f'socket = "{agent.socket}"\n')
    done = crossplant_here("client", "agent", "--config", other)
    assert (done.returncode, done.stderr.split(":")[0]) == (1, "CP-606 AgentBusy")
    assert agent.ask(agents.describe()).texts.get("refused") is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly_in_the_middle_of_a_task(tmp_path: Path, number: int) -> None:
    config = agents.make_plant(tmp_path, POLICY, '[agent]\nlog = "json"\n')
    with agents.running(config) as agent:
        endless = agents.train("endless", 2, agents.with_training(local_epochs=10_000, batch_size=1))
        answers: list[str] = []
        asker = threading.Thread(target=lambda: answers.append(agent.ask(endless).texts["refused"]))
        asker.start()
        while not (tmp_path / "home" / "ledger.json").exists():  # written when the task begins
            time.sleep(0.01)
        code, log = agent.end(number)
        asker.join()
    assert code == 0
    assert answers == ["CP-602 TaskGivenUp"]
    assert not agent.socket.exists()
    lines = [json.loads(line) for line in log.splitlines()]
    ready = next(
        i for i, line in enumerate(lines) if "ready at" in str(line)
    )  # before it, the plant's own model is fitted
    assert [line["level"] for line in lines[ready:]] == ["info", "info", "warning"]
    assert [e.get("event") for e in entries(agent)] == ["start", None, "stop"]
    verify(agent.audit)


def test_the_command_line_reads_the_log_and_asks_for_readiness(agent: RunningAgent) -> None:
    agent.ask(agents.describe("seen"))
    shown = crossplant_here("client", "audit", "--config", agent.config)
    assert json.loads(shown.stdout.splitlines()[-1])["run"] == "seen"
    checked = crossplant_here("client", "audit", "--verify", "--config", agent.config)
    assert "the chain holds" in checked.stdout
    assert crossplant_here("client", "status", "--config", agent.config).returncode == 0
    policy = crossplant_here("client", "policy", "--config", agent.config)
    assert json.loads(policy.stdout)["largest_message"] == 200_000
    assert policy.stderr.split()[-1] == entries(agent)[0]["policy"]


def test_without_an_agent_the_status_is_an_error(tmp_path: Path) -> None:
    done = crossplant_here("client", "status", "--config", agents.make_plant(tmp_path))
    assert (done.returncode, done.stderr.split(":")[0]) == (1, "CP-604 AgentUnreachable")


@pytest.mark.parametrize(
    ("policy", "extra", "told"),
    [
        ("", "colour = 1\n", "plant.toml: colour: Extra inputs"),
        ("", "home = 7\n", "plant.toml: home = 7: "),
        ("", "home = [\n", "plant.toml is not valid TOML"),
        ("", '[agent]\nthreads = "2"\n', "plant.toml: agent.threads = '2'"),
        ("", 'socket = "' + "x" * 120 + '/agent.sock"\n', "more than 107 bytes"),
        ("", 'group = "no-such-group"\n', "there is no such group"),
        ("kinds = ['spy']\n", "", "policy.toml: kinds = ['spy']: there is no kind 'spy'"),
        ("[hours]\nwindows = ['nights']\n", "", "policy.toml: hours.windows"),
        ("[hours]\nzone = 'Mars/Base'\n", "", "policy.toml: hours.zone = 'Mars/Base': there is no such time zone"),
        ("[caps]\nlocal_epochs = 0\n", "", "policy.toml: caps.local_epochs = 0"),
    ],
)
def test_settings_that_cannot_be_are_one_line(tmp_path: Path, policy: str, extra: str, told: str) -> None:
    done = crossplant_here("client", "agent", "--config", agents.make_plant(tmp_path, policy, extra))
    assert done.returncode == 1
    assert done.stderr.startswith("CP-101 InvalidConfig: ")
    assert told in done.stderr
    assert not (tmp_path / "run").exists()


def test_no_policy_no_agent(tmp_path: Path) -> None:
    config = agents.make_plant(tmp_path)
    (tmp_path / "policy.toml").unlink()
    done = crossplant_here("client", "agent", "--config", config)
    assert (done.returncode, "policy.toml" in done.stderr) == (1, True)


def test_a_folder_that_others_may_enter_holds_no_socket(tmp_path: Path) -> None:
    config = agents.make_plant(tmp_path)
    (tmp_path / "run").mkdir(mode=0o755)
    (tmp_path / "run").chmod(0o755)
    done = crossplant_here("client", "agent", "--config", config)
    assert (done.returncode, "chmod 750" in done.stderr) == (1, True)


def test_a_file_in_the_sockets_place_is_not_removed(tmp_path: Path) -> None:
    config = agents.make_plant(tmp_path)
    (tmp_path / "run").mkdir(mode=0o750)
    (tmp_path / "run" / "agent.sock").write_text("precious")
    done = crossplant_here("client", "agent", "--config", config)
    assert (done.returncode, done.stderr.split(":")[0]) == (1, "CP-106 FileTrouble")
    assert (tmp_path / "run" / "agent.sock").read_text() == "precious"


RELAY = """
import sys
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity
TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = 1, 1, 1
from client.app import app
from tests.support.relay_message import describe
context = Context(run_id=1, node_id=2, node_config={"site": "north"}, state=RecordDict(), run_config={})
reply = app(describe(), context)
print(dict(reply.content["texts"]))
print(sorted(name for name in sys.modules if name.split(".")[0] in ("torch", "polars") or
             name.startswith(("client.ingest", "client.training", "client.agent.service"))))
"""


def relayed(socket_path: Path) -> tuple[dict[str, str], list[str], str]:
    environment = {**os.environ, "CROSSPLANT_AGENT": str(socket_path), "FLWR_TELEMETRY_ENABLED": "0"}
    done = subprocess.run(
        [sys.executable, "-c", RELAY],
        cwd=REPOSITORY,
        env={**environment, "FLWR_DISABLE_UPDATE_CHECK": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    texts, modules = done.stdout.splitlines()[-2:]
    return eval(texts), eval(modules), done.stderr


def test_the_relay_imports_neither_torch_nor_what_reads_data(agent: RunningAgent) -> None:
    texts, modules, _ = relayed(agent.socket)
    assert modules == []
    assert texts["plant"] == "north"
    assert "refused" not in texts
    assert "schema" in texts


def test_a_relay_without_its_agent_refuses_with_a_code_and_nothing_else(tmp_path: Path) -> None:
    texts, _, log = relayed(tmp_path / "agent.sock")
    assert texts == {"run": "r", "kind": "describe", "plant": "north", "refused": "CP-604 AgentUnreachable"}
    assert str(tmp_path) in log  # here, and only here


def test_a_socket_nobody_reads_is_no_agent(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(tmp_path / "s"))
        deaf.listen()
        with pytest.raises((AgentUnreachable, BadPayload)):
            wire.ask(tmp_path / "s", agents.describe(), 1.0)
