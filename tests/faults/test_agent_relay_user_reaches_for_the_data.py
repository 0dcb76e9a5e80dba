"""Code that a server sends runs as the relay's user: it may talk to the agent, and reach nothing else of the plant."""

from __future__ import annotations

import grp
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.support import agents

RELAY_USER = 61_234  # no such user need exist

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

# Everything is imported and then the user is changed: the interpreter itself may lie where only root can read.
REACH = """
import json, os, sys
from pathlib import Path
from client.agent.wire import ask
from shared.errors import AgentUnreachable
from tests.support.relay_message import packet
plant, user, groups = Path(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3])
request = packet()
with __import__("grpc").insecure_channel("unix:/nowhere"):  # which imports more of itself at the first channel
    pass
os.setgroups(groups); os.setgid(user); os.setuid(user)
def attempt(act):
    try:
        act()
    except (PermissionError, AgentUnreachable) as error:
        return type(error).__name__
    return "done"
agent = plant / "run" / "agent.sock"
print(json.dumps({
    "ask": attempt(lambda: ask(agent, request, 30.0)),
    "read data": attempt(lambda: (plant / "site" / "train.npy").read_bytes()),
    "list data": attempt(lambda: os.listdir(plant / "site")),
    "read audit": attempt(lambda: (plant / "home" / "audit" / "audit.jsonl").read_bytes()),
    "write audit": attempt(lambda: (plant / "home" / "audit" / "audit.jsonl").open("ab")),
    "write policy": attempt(lambda: (plant / "policy.toml").open("ab")),
    "replace socket": attempt(lambda: agent.unlink()),
    "signal agent": attempt(lambda: os.kill(int(sys.argv[4]), 0)),
    "trace agent": attempt(lambda: open(f"/proc/{sys.argv[4]}/mem", "rb")),
}))
"""


@pytest.fixture(scope="module")
def agent() -> Iterator[agents.RunningAgent]:
    """In a folder that every user may enter, as a plant's must be; pytest's own is root's alone."""
    folder = Path(tempfile.mkdtemp(prefix="crossplant-"))
    folder.chmod(0o755)
    try:
        config = agents.make_plant(folder, "", f'group = "{relay_group().gr_name}"\n')
        (folder / "site").chmod(0o700)
        with agents.running(config) as running:
            yield running
    finally:
        shutil.rmtree(folder)


def relay_group() -> grp.struct_group:
    return next(group for group in grp.getgrall() if group.gr_gid != 0)


def reach(agent: agents.RunningAgent, groups: list[int]) -> dict[str, str]:
    arguments = [str(agent.config.parent), str(RELAY_USER), json.dumps(groups), str(agent.process.pid)]
    done = subprocess.run(
        [sys.executable, "-c", REACH, *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


def test_the_relays_user_may_ask_the_agent_and_nothing_else(agent: agents.RunningAgent) -> None:
    found = reach(agent, [relay_group().gr_gid])
    assert found.pop("ask") == "done"
    assert set(found.values()) == {"PermissionError"}, found


def test_a_user_outside_the_group_may_not_even_ask(agent: agents.RunningAgent) -> None:
    found = reach(agent, [])
    assert found.pop("ask") == "AgentUnreachable"
    assert set(found.values()) == {"PermissionError"}, found


def test_the_socket_and_its_folder_belong_to_the_relays_group(agent: agents.RunningAgent) -> None:
    assert agent.socket.stat().st_gid == agent.socket.parent.stat().st_gid == relay_group().gr_gid
