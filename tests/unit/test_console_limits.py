"""How often somebody may ask: buckets, growing waits, and memory that strangers cannot fill."""

from __future__ import annotations

from server.console.limits import Backoff, Buckets, block_of


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_gives_its_burst_at_once_and_then_its_rate() -> None:
    clock = Time()
    buckets = Buckets(rate_per_s=2.0, burst=3, keys=10, clock=clock)
    assert [buckets.wait("a") for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert buckets.wait("b") == 0.0, "each key has a bucket of its own"
    clock.now = 0.5
    assert [buckets.wait("a"), buckets.wait("a")] == [0.0, 0.5]
    clock.now = 1000.0
    assert [buckets.wait("a") for _ in range(4)] == [0.0, 0.0, 0.0, 0.5], "it holds no more than its burst"


def test_waits_double_up_to_the_longest_and_end_with_a_success() -> None:
    clock = Time()
    backoff = Backoff(free=2, first_s=1.0, longest_s=8.0, keys=10, clock=clock)
    waits = []
    for _ in range(8):
        backoff.fail("a")
        waits.append(backoff.wait("a"))
    assert waits == [0.0, 0.0, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]
    clock.now = 3.0
    assert backoff.wait("a") == 5.0
    backoff.clear("a")
    assert backoff.wait("a") == 0.0
    backoff.fail("a")
    assert backoff.wait("a") == 0.0, "it begins anew"


def test_failures_are_forgotten_after_an_hour_and_never_overflow() -> None:
    clock = Time()
    backoff = Backoff(free=1, first_s=1.0, longest_s=900.0, keys=10, clock=clock)
    for _ in range(5000):
        backoff.fail("a")
    assert backoff.wait("a") == 900.0
    clock.now = 3600.0
    backoff.fail("a")
    assert backoff.wait("a") == 900.0, "the hour is that since the last"
    clock.now = 7201.0
    backoff.fail("a")
    assert backoff.wait("a") == 0.0


def test_what_is_remembered_is_bounded_and_the_oldest_goes() -> None:
    clock = Time()
    buckets, backoff = Buckets(1.0, 1, 100, clock), Backoff(0, 60.0, 60.0, 100, clock)
    for number in range(1000):
        buckets.wait(str(number))
        backoff.fail(str(number))
    assert len(buckets._known) == len(backoff._known) == 100
    assert backoff.wait("999") == 60.0
    assert backoff.wait("0") == 0.0


def test_who_came_lately_is_remembered_whoever_comes_besides() -> None:
    buckets, backoff = Buckets(0.001, 1, 2, Time()), Backoff(0, 60.0, 60.0, 2, Time())
    for key in ("a", "b", "a", "c"):
        buckets.wait(key)
        backoff.fail(key)
    assert buckets.wait("a") > 0
    assert (backoff.wait("a"), backoff.wait("b")) == (60.0, 0.0)


def test_an_ipv6_customer_is_one_address() -> None:
    assert block_of("2001:db8:1:2::3") == block_of("2001:db8:1:2:ffff::1") != block_of("2001:db8:1:3::3")
    assert block_of("::ffff:10.0.0.1") == block_of("10.0.0.1") == "10.0.0.1"
    assert len(block_of("x" * 500)) == 64
