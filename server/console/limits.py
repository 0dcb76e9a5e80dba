"""How often somebody may ask, and how long to wait after a failed login. Memory is bounded: the oldest is forgotten."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

Clock = Callable[[], float]


@dataclass
class _Bucket:
    level: float
    at: float


class Buckets:
    """A token bucket for each key.

    Args:
        rate_per_s: tokens that come back each second.
        burst: tokens of a full bucket.
        keys: how many are remembered.
        clock: monotonic seconds.
    """

    def __init__(self, rate_per_s: float, burst: int, keys: int, clock: Clock = time.monotonic) -> None:
        self._rate, self._burst, self._keys, self._clock = rate_per_s, burst, keys, clock
        self._known: OrderedDict[str, _Bucket] = OrderedDict()
        self._lock = threading.Lock()

    def wait(self, key: str) -> float:
        """Take a token; seconds until there is one, 0.0 when it was taken."""
        now = self._clock()
        with self._lock:
            bucket = self._known.setdefault(key, _Bucket(float(self._burst), now))
            self._known.move_to_end(key)
            bucket.level = min(self._burst, bucket.level + (now - bucket.at) * self._rate)
            bucket.at = now
            if len(self._known) > self._keys:
                self._known.popitem(last=False)
            if bucket.level < 1:
                return (1 - bucket.level) / self._rate
            bucket.level -= 1
            return 0.0


@dataclass
class _Failures:
    count: int
    until: float
    at: float


class Backoff:
    """Longer and longer waits after failures in a row.

    Args:
        free: failures without a wait.
        first_s: the first wait; each further failure doubles it.
        longest_s: the longest.
        keys: how many are remembered.
        clock: monotonic seconds.
    """

    FORGET_S = 3600.0

    def __init__(self, free: int, first_s: float, longest_s: float, keys: int, clock: Clock = time.monotonic) -> None:
        self._free, self._first_s, self._longest_s = free, first_s, longest_s
        self._keys, self._clock = keys, clock
        self._known: OrderedDict[str, _Failures] = OrderedDict()
        self._lock = threading.RLock()

    def wait(self, key: str) -> float:
        """Seconds until the key may try again; 0.0: now."""
        with self._lock:
            found = self._known.get(key)
            return 0.0 if found is None else max(0.0, found.until - self._clock())

    def fail(self, key: str) -> None:
        """The key failed once more."""
        now = self._clock()
        with self._lock:
            found = self._known.pop(key, None)
            if found is None or now - found.at > self.FORGET_S:
                found = _Failures(0, now, now)
            found.count, found.at = found.count + 1, now
            over = min(found.count - self._free, 30)
            found.until = now + min(self._longest_s, self._first_s * 2.0 ** (over - 1)) if over > 0 else now
            self._known[key] = found
            if len(self._known) > self._keys:
                self._known.popitem(last=False)

    def begin(self, key: str) -> float:
        """A try that counts as failed until `undo` or `clear`, so that tries at the same time count too.

        Returns:
            Seconds until the key may try; 0.0: it does now.
        """
        with self._lock:
            if (wait := self.wait(key)) == 0:
                self.fail(key)
            return wait

    def undo(self, key: str) -> None:
        """The last try did not fail; those before it did."""
        with self._lock:
            found = self._known.get(key)
            if found is not None:
                found.count, found.until = found.count - 1, self._clock()

    def clear(self, key: str) -> None:
        """The key did not fail."""
        with self._lock:
            self._known.pop(key, None)


def block_of(address: str) -> str:
    """What an address is counted by: an IPv4 address, or the /64 that one customer has of IPv6.

    Example:
        >>> block_of("2001:db8::1"), block_of("10.0.0.1"), block_of("?")
        ('2001:db8::/64', '10.0.0.1', '?')
    """
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(known, ipaddress.IPv6Address):
        mapped = known.ipv4_mapped
        return str(mapped) if mapped else str(ipaddress.ip_network((known, 64), strict=False))
    return str(known)
