"""Numbers, times and digests as people read them: the one formatter of the console. What is not there is a dash."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

DASH = "–"
NARROW = "\N{NO-BREAK SPACE}"
LONGEST = 200
"""Characters of a name that a plant chose, and of a reason, before it is cut in a table."""

_SIZES = ("B", "kB", "MB", "GB", "TB")
_SPANS = ((60, 1, "s"), (3600, 60, "min"), (172_800, 3600, "h"), (math.inf, 86_400, "days"))


@dataclass(frozen=True)
class Metric:
    """What a figure that plants report is.

    Attributes:
        name: in the store.
        title: for people.
        unit: what it is counted in.
        better: `lower`, `higher` or nothing.
        help: a sentence.
    """

    name: str
    title: str
    unit: str
    better: str = ""
    help: str = ""


_KNOWN = (
    Metric(
        "holdout_loss",
        "Loss on held-out normal data",
        "MSE, scaled units",
        "lower",
        "Of the global model that a round sends out",
    ),
    Metric("train_loss", "Training loss", "MSE, scaled units", "lower"),
    Metric("cluster_loss", "Clustering loss", "nats", "lower"),
    Metric("auprc", "AUPRC", "0 to 1", "higher"),
    Metric("vus_pr", "VUS-PR", "0 to 1", "higher"),
    Metric("event_recall", "Events noticed", "share", "higher"),
    Metric("delay_s", "Delay until an event is noticed", "s", "lower"),
    Metric("false_alarms_per_day", "False alarms a day", "a day", "lower"),
    Metric("update_norm", "Size of the update", "L2 norm", "", "How far a plant's weights moved from those sent"),
    Metric(
        "update_cosine", "Cosine to the mean update", "-1 to 1", "", "1: the way of all others; below 0: against it"
    ),
    Metric("clipped", "Update shortened to", "share of its length", "", "1 or missing: it was not"),
    Metric("epsilon", "Epsilon spent", "epsilon", "lower", "Of the plant's privacy ledger"),
    Metric("clip", "Clip of each record's gradient", "L2 norm"),
    Metric("below", "Records below the clip", "share"),
    Metric("own_model", "Keeps its own model", "1: yes; share of plants"),
    Metric("calibrated", "Calibrated", "1: yes; share of plants"),
)
METRICS: Mapping[str, Metric] = {metric.name: metric for metric in _KNOWN}


@lru_cache(1024)
def metric(name: str) -> Metric:
    """What a figure is; one that nobody described has its name for a title.

    Example:
        >>> metric("auprc").better, metric("x").unit
        ('higher', 'no unit told')
    """
    return METRICS.get(name) or Metric(name, cut(name, 60), "no unit told")


def number(value: float | None) -> str:
    """Four significant digits.

    Example:
        >>> number(0.123456), number(12345.6), number(None), number(float("nan")), number(-2.0), number(float("inf"))
        ('0.1235', '12,346', '–', '–', '−2', '∞')
    """
    if value is None or math.isnan(value):
        return DASH
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    size = abs(value)
    shown = f"{size:,.0f}" if 1e4 <= size < 1e15 else f"{size:.4g}"
    return shown if value >= 0 else f"−{shown}"


def signed(value: float | None) -> str:
    """A difference, with its sign.

    Example:
        >>> signed(0.5), signed(-0.5), signed(0.0), signed(None)
        ('+0.5', '−0.5', '0', '–')
    """
    return f"+{number(value)}" if value is not None and value > 0 else number(value)


def percent(share: float | None) -> str:
    """A share.

    Example:
        >>> percent(0.123).replace(NARROW, " "), percent(None)
        ('12.3 %', '–')
    """
    return DASH if share is None or not math.isfinite(share) else f"{100 * share:.1f}{NARROW}%"


def duration(seconds: float | None) -> str:
    """Seconds in the unit that suits them.

    Example:
        >>> [duration(s).replace(NARROW, " ") for s in (0, 0.0004, 0.034, 42, 630, 9000, 2e5)]
        ['0 s', '0.4 ms', '34 ms', '42 s', '10.5 min', '2.5 h', '2.3 days']
    """
    if seconds is None or not math.isfinite(seconds):
        return number(seconds)
    if 0 < seconds < 1:
        return f"{1000 * seconds:.3g}{NARROW}ms"
    _limit, unit, name = next(span for span in _SPANS if seconds < span[0])
    value = seconds / unit
    shown = f"{value:.1f}".removesuffix(".0") if value < 100 else f"{value:,.0f}"
    return f"{shown}{NARROW}{name}"


def size(count: float | None) -> str:
    """Bytes in decimal units.

    Example:
        >>> size(900).replace(NARROW, " "), size(1_234_567).replace(NARROW, " ")
        ('900 B', '1.23 MB')
    """
    if count is None:
        return DASH
    step = min(int(math.log10(count) // 3), len(_SIZES) - 1) if count >= 1 else 0
    return f"{count / 1000**step:.3g}{NARROW}{_SIZES[step]}" if step else f"{count:.0f}{NARROW}B"


def amount(count: int, noun: str, plural: str = "") -> str:
    """A number with its noun.

    Example:
        >>> amount(1, "round"), amount(1234, "plant")
        ('1 round', '1,234 plants')
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def cut(text: str | None, most: int = LONGEST) -> str:
    """The beginning of a text.

    Example:
        >>> cut("abcdef", 4), cut(None)
        ('abc…', '')
    """
    text = visible(text or "")
    return text if len(text) <= most else f"{text[: most - 1]}…"


def visible(text: str) -> str:
    """Text in which nothing steers: control characters and marks that turn the direction are shown as their codes.

    Example:
        >>> visible("a" + chr(0x202E) + "b"), visible("a" + chr(0))
        ('a[U+202E]b', 'a[U+0000]')
    """
    return "".join(c if c.isprintable() else f"[U+{ord(c):04X}]" for c in text)


def digest(text: str | None) -> str:
    """The first digits of a digest."""
    return cut(text[:10]) if text else DASH


def moment(text: str | None) -> datetime | None:
    """An ISO 8601 time; None where there is none, or it cannot be read.

    Example:
        >>> moment("2026-01-02T03:04:05+00:00").year, moment("yesterday")
        (2026, None)
    """
    try:
        found = datetime.fromisoformat(text or "")
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def when(time: datetime | str | None) -> str:
    """A time in UTC.

    Example:
        >>> when("2026-01-02T03:04:05.678+00:00").replace(NARROW, " ")
        '2026-01-02 03:04:05 UTC'
    """
    found = moment(time) if isinstance(time, str) else time
    return DASH if found is None else f"{found.astimezone(UTC):%Y-%m-%d %H:%M:%S}{NARROW}UTC"


def ago(time: datetime | str | None, now: datetime) -> str:
    """How far a time is from now.

    Example:
        >>> now = datetime(2026, 1, 2, tzinfo=UTC)
        >>> ago("2026-01-01T23:00:00Z", now).replace(NARROW, " "), ago("2026-01-04T12:00:00Z", now).replace(NARROW, " ")
        ('1 h ago', 'in 2.5 days')
    """
    found = moment(time) if isinstance(time, str) else time
    if found is None:
        return "at a time that cannot be read" if time else "never"
    seconds = (now - found).total_seconds()
    if abs(seconds) < 1:
        return "now"
    return f"{duration(round(seconds))} ago" if seconds > 0 else f"in {duration(round(-seconds))}"
