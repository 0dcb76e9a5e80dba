"""What the fault tests' lines do to packets: without this, a test of a slow line could pass on a quick one."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from functools import partial

import pytest

from tests.support import netns


@pytest.fixture(scope="module")
def net() -> Iterator[netns.Star]:
    with netns.star(["north", "south"]) as made:
        yield made


@pytest.fixture
def echo(net: netns.Star) -> Iterator[int]:
    """A port at the hub that answers every connection with what it sends first."""
    listener = net.call(lambda: socket.create_server((netns.HUB, 0)))

    def serve() -> None:
        with listener:
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                with peer:
                    peer.sendall(peer.recv(65536))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def ask(net: netns.Star, name: str, port: int, longest_s: float = 5.0) -> float:
    """Seconds for a connection and an answer."""

    def talk() -> float:
        begin = time.monotonic()
        with socket.create_connection((netns.HUB, port), timeout=longest_s) as connection:
            connection.sendall(b"x")
            assert connection.recv(1) == b"x"
        return time.monotonic() - begin

    return net.call(talk, name)


def test_a_delay_is_paid_in_both_directions(net: netns.Star, echo: int) -> None:
    net.lines["north"].shape(0.25)
    took = ask(net, "north", echo)
    net.lines["north"].shape()
    assert 1.0 <= took < 3  # a round trip for the connection, one for the answer
    assert ask(net, "north", echo) < 0.9
    assert ask(net, "south", echo) < 0.9


def test_a_narrow_line_takes_its_time(net: netns.Star, echo: int) -> None:
    net.lines["north"].shape(bytes_per_s=1000)  # a handshake and an answer: about 8 headers of 52 to 60 bytes
    took = ask(net, "north", echo)
    net.lines["north"].shape()
    assert 0.15 <= took < 4


@pytest.mark.parametrize("how", ["cut", "unplug"])
def test_nothing_passes_a_line_that_is_cut(how: str, net: netns.Star, echo: int) -> None:
    if how == "cut":
        net.lines["north"].cut = True
    else:
        net.unplug("north")
    with pytest.raises(TimeoutError):
        ask(net, "north", echo, 0.5)
    assert ask(net, "south", echo) < 2.0
    net.lines["north"].cut = False
    net.plug("north")
    assert ask(net, "north", echo) < 2.0


def test_a_place_reaches_the_hub_and_nothing_else(net: netns.Star) -> None:
    def dial(address: str) -> None:
        socket.create_connection((address, 9), timeout=1).close()

    with pytest.raises(ConnectionRefusedError):  # it is there, and nobody listens
        net.call(partial(dial, netns.HUB), "north")
    for elsewhere in ("10.77.2.2", "192.0.2.1"):  # another place, the world
        with pytest.raises(OSError, match=r"unreachable|timed out"):
            net.call(partial(dial, elsewhere), "north")


def test_nothing_is_left_of_it() -> None:
    with netns.star(["north"]) as net:
        holders, line = list(net.holders.values()), net.lines["north"]
    assert not line.is_alive()
    assert not any(os.path.exists(f"/proc/{pid}") for pid in holders)
    assert not any(device.startswith(f"cp{pid}") for pid in holders for device in os.listdir("/sys/class/net"))
