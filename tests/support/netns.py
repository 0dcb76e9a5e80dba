"""Network namespaces for tests: a hub, places around it, and a line to each that can be slowed down and cut.

with star(["north", "south"]) as net:
    net.inside("north")            # what goes before a command to run it there
    net.lines["north"].cut = True  # from now on every packet vanishes, and nobody is told

A place reaches the hub at `HUB` and nothing else. The line is two TUN devices and a thread between them, because the
kernel's own way to delay packets (netem) is a module that many machines do not have. A namespace is held by a process
that the kernel ends with this one: nothing is left even of a test that is killed.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import shutil
import signal
import struct
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import pytest

T = TypeVar("T")
HUB = "10.77.0.1"
"""The hub's address. Namespaces are private: it can be nobody else's."""

_PR_SET_PDEATHSIG, _CLONE_NEWNET = 1, 0x40000000
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_LARGEST_PACKET = 65536
_LONGEST_QUEUE = 256 * 1024
_TICK_S = 0.2
_libc = ctypes.CDLL(None, use_errno=True)


class Line(threading.Thread):
    """Carries packets between two devices, each direction by itself.

    Attributes:
        delay_s: one way.
        bytes_per_s: 0 knows no limit; what waits for its turn beyond 256 KiB is dropped, as a router does.
        cut: every packet vanishes.
    """

    def __init__(self, ends: tuple[int, int]) -> None:
        super().__init__(daemon=True)
        self.delay_s, self.bytes_per_s, self.cut = 0.0, 0.0, False
        self.carried = 0
        self._ends, self._over, self._switched = ends, False, False
        self._free = [0.0, 0.0]
        self._under_way: tuple[deque[tuple[float, bytes]], ...] = (deque(), deque())

    def shape(self, delay_s: float = 0.0, bytes_per_s: float = 0.0) -> None:
        """Make it slow, or quick again; what is under way is lost, as when a line is switched over."""
        self.delay_s, self.bytes_per_s, self._switched = delay_s, bytes_per_s, True

    def run(self) -> None:
        """Carry until `close`."""
        while not self._over:
            ready, _, _ = select.select(self._ends, [], [], self._patience())
            if self._switched:
                self._switched, self._free = False, [0.0, 0.0]
                self._under_way = (deque(), deque())
            for end in ready:
                self._take(self._ends.index(end), os.read(end, _LARGEST_PACKET))
            for side in (0, 1):
                self._hand_over(side)

    def close(self) -> None:
        """Stop, and remove the devices."""
        self._over = True
        self.join(5.0)
        for end in self._ends:
            os.close(end)

    def _patience(self) -> float:
        due = [waiting[0][0] for waiting in self._under_way if waiting]
        return max(0.0, min([_TICK_S, *(at - time.monotonic() for at in due)]))

    def _take(self, side: int, packet: bytes) -> None:
        now, rate = time.monotonic(), self.bytes_per_s
        if self.cut or (rate and (self._free[side] - now) * rate > _LONGEST_QUEUE):
            return
        self._free[side] = max(now, self._free[side]) + (len(packet) / rate if rate else 0.0)
        self._under_way[side].append((self._free[side] + self.delay_s, packet))

    def _hand_over(self, side: int) -> None:
        waiting = self._under_way[side]
        while waiting and waiting[0][0] <= time.monotonic():
            _, packet = waiting.popleft()
            if not self.cut:
                with suppress(OSError):  # the device at the other end is down
                    self.carried += os.write(self._ends[1 - side], packet)


@dataclass(frozen=True)
class Star:
    """A hub and the places around it.

    Attributes:
        holders: process id that holds each namespace open; `hub` is the hub's.
        lines: one a place.
    """

    holders: dict[str, int]
    lines: dict[str, Line]

    def inside(self, name: str = "hub") -> tuple[str, ...]:
        """What to put before a command; the command keeps the process id."""
        return ("nsenter", f"--net=/proc/{self.holders[name]}/ns/net")

    def call(self, what: Callable[[], T], name: str = "hub") -> T:
        """Call a function whose sockets are in a namespace (in a thread of its own: namespaces belong to threads)."""
        with ThreadPoolExecutor(1, initializer=_enter, initargs=(self.holders[name],)) as pool:
            return pool.submit(what).result()

    def unplug(self, name: str) -> None:
        """Take the hub's end of a line down: unlike with `cut`, the hub knows at once."""
        _do(*self.inside(), "ip", "link", "set", _device(name, self, "h"), "down")

    def plug(self, name: str) -> None:
        """The end of `unplug`."""
        _do(*self.inside(), "ip", "link", "set", _device(name, self, "h"), "up")


@contextmanager
def star(names: Sequence[str]) -> Iterator[Star]:
    """Make a hub and places, all gone afterwards. Where there can be none, the test is skipped and says why."""
    if reason := why_not():
        pytest.skip(reason)
    with _star(names) as net:
        yield net


@contextmanager
def _star(names: Sequence[str]) -> Iterator[Star]:
    with ExitStack() as stack:
        holders = {name: stack.enter_context(_namespace()) for name in ("hub", *names)}
        net = Star(holders, {})
        _do(*net.inside(), "ip", "link", "set", "lo", "up")
        _do(*net.inside(), "ip", "addr", "add", f"{HUB}/32", "dev", "lo")
        for number, name in enumerate(names, 1):
            net.lines[name] = line = Line(_wire(net, name, number))
            line.start()
            stack.callback(line.close)
        yield net


@cache
def why_not() -> str:
    """Why there can be no namespaces on this machine; empty when there can."""
    missing = [tool for tool in ("ip", "unshare", "nsenter") if shutil.which(tool) is None]
    if missing:
        return f"network namespaces need {', '.join(missing)}"
    try:
        with _star(["probe"]):
            return ""
    except (OSError, subprocess.SubprocessError, AssertionError) as error:
        return f"no network namespaces here (they need root and /dev/net/tun): {error}"


@contextmanager
def _namespace() -> Iterator[int]:
    command = ["unshare", "--net", "sleep", "infinity"]
    holder = subprocess.Popen(command, preexec_fn=_die_with_parent, stderr=subprocess.DEVNULL)
    try:
        ours, ends = os.readlink("/proc/self/ns/net"), time.monotonic() + 5
        while os.readlink(f"/proc/{holder.pid}/ns/net") == ours:
            assert holder.poll() is None, "unshare --net is refused"
            assert time.monotonic() < ends, "unshare --net does nothing"
            time.sleep(0.01)
        yield holder.pid
    finally:
        holder.kill()
        holder.wait()


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _enter(holder: int) -> None:
    file = os.open(f"/proc/{holder}/ns/net", os.O_RDONLY)
    try:
        if _libc.setns(file, _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "cannot enter a network namespace")
    finally:
        os.close(file)


def _wire(net: Star, name: str, number: int) -> tuple[int, int]:
    """Two devices, at the hub and at the place; what is written to one's file comes out of its device."""
    near, far = (_tun(_device(name, net, end)) for end in "hp")
    here, there = f"10.77.{number}.1", f"10.77.{number}.2"
    for who, end, mine, others in (("hub", "h", here, there), (name, "p", there, here)):
        device, inside = _device(name, net, end), net.inside(who)
        _do("ip", "link", "set", device, "netns", str(net.holders[who]))
        _do(*inside, "ip", "addr", "add", mine, "peer", others, "dev", device)
        _do(*inside, "ip", "link", "set", device, "up")
    _do(*net.inside(name), "ip", "link", "set", "lo", "up")
    _do(*net.inside(name), "ip", "route", "add", HUB, "dev", _device(name, net, "p"))
    return near, far


def _device(name: str, net: Star, end: str) -> str:
    """Unique on this machine: the holder's process id is in it."""
    return f"cp{net.holders[name]}{end}"


def _tun(device: str) -> int:
    file = os.open("/dev/net/tun", os.O_RDWR)
    try:
        fcntl.ioctl(file, _TUNSETIFF, struct.pack("16sH22x", device.encode(), _IFF_TUN | _IFF_NO_PI))
    except OSError:
        os.close(file)
        raise
    return file


def _do(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=10)
