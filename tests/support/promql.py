"""What an expression of Prometheus' language speaks of: metrics, the labels that it filters and joins by, durations.

No parser of the whole language: enough to find a name that nobody exports, and a parenthesis that is not closed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

FUNCTIONS = frozenset(
    {"rate", "increase", "sum", "min", "max", "avg", "count", "time", "clamp_max", "histogram_quantile"}
    | {"min_over_time", "max_over_time", "avg_over_time"}
)
WORDS = frozenset({"and", "or", "unless", "bool", "offset"})
_LISTS = frozenset({"on", "ignoring", "by", "without", "group_left", "group_right"})
_TOKEN = re.compile(
    r'(?P<string>"(?:[^"\\]|\\.)*")|(?P<name>[A-Za-z_:][A-Za-z0-9_:]*)|(?P<range>\[\d+[smhd]\])|(?P<number>\d+(?:\.\d+)?)'
    r"|(?P<sign>=~|!~|!=|==|<=|>=|[-+*/^<>=(){},])|(?P<space>\s+)"
)


@dataclass(frozen=True)
class Spoken:
    """Attributes: metrics, labels: by name; pairs: which label is asked of which metric."""

    metrics: frozenset[str]
    labels: frozenset[str]
    pairs: frozenset[tuple[str, str]]


def read(expression: str) -> Spoken:
    """Names in an expression.

    Raises:
        ValueError: it is none.

    Example:
        >>> sorted(read('sum by (run) (rate(a_total{b="c"}[5m])) > 0').metrics)
        ['a_total']
    """
    tokens = _tokens(expression)
    _check_nesting(tokens)
    metrics, labels, pairs = set(), set(), set()
    position, last = 0, ""
    while position < len(tokens):
        kind, text = tokens[position]
        following = tokens[position + 1][1] if position + 1 < len(tokens) else ""
        if text == "{" or (kind == "name" and text in _LISTS):
            names, position = _listed(tokens, position + (text != "{"))
            labels |= names
            pairs |= {(last, name) for name in names} if text == "{" else set()
            continue
        if kind == "name" and text not in WORDS:
            if following == "(":
                _check_function(text)
            elif not (text in FUNCTIONS and following in ("by", "without")):
                metrics.add(text)
                last = text
        position += 1
    return Spoken(frozenset(metrics), frozenset(labels), frozenset(pairs))


def _tokens(expression: str) -> list[tuple[str, str]]:
    found, position = [], 0
    while position < len(expression):
        match = _TOKEN.match(expression, position)
        if match is None:
            raise ValueError(f"cannot read {expression[position:][:20]!r}")
        if match.lastgroup != "space":
            found.append((str(match.lastgroup), match[0]))
        position = match.end()
    return found


def _check_nesting(tokens: list[tuple[str, str]]) -> None:
    closes, open_ = {")": "(", "}": "{"}, []
    for _, text in tokens:
        if text in ("(", "{"):
            open_.append(text)
        elif text in closes and (not open_ or open_.pop() != closes[text]):
            raise ValueError(f"{text} closes nothing")
    if open_:
        raise ValueError(f"{open_[-1]} is not closed")


def _check_function(name: str) -> None:
    if name not in FUNCTIONS:
        raise ValueError(f"{name}() is not among the functions that are used here")


def _listed(tokens: list[tuple[str, str]], position: int) -> tuple[set[str], int]:
    """Names between the parentheses that open at `position`, and where it goes on."""
    if tokens[position][1] not in ("(", "{"):
        raise ValueError("a list of labels is missing")
    names = set()
    while tokens[position][1] not in (")", "}"):
        if tokens[position][0] == "name":
            names.add(tokens[position][1])
        position += 1
    return names, position + 1
