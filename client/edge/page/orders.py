"""What people order on the page: acknowledge, shelve, unshelve, go back to another model. Files in the state folder."""

from __future__ import annotations

import math
from http import HTTPStatus
from pathlib import Path
from typing import Any

from client.edge.alarm_files import place_order
from client.edge.alarm_values import Ack, Shelve, Unshelve
from client.edge.alarm_values import Order as AlarmOrder
from client.edge.swap_cli import asked

_LONGEST_S = 7 * 86_400.0


class Wrong(Exception):
    """A request that is none; `told` and `status` are the answer."""

    def __init__(self, told: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(told)
        self.told, self.status = told, status


class Ordering:
    """Orders for one state folder.

    Args:
        folder: the scorer's.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def obey(self, path: str, body: dict[str, Any]) -> str:
        """Leave an order for the scorer; what was done, for a person.

        Raises:
            Wrong: it is no order.
            CrossplantError: the state folder does not take it.
        """
        if path == "/api/rollback":
            digest = asked(self._folder, _text(body, "to", 64, least=0))
            return f"asked for {digest[:12]}"
        makers = {"/api/ack": _ack, "/api/shelve": _shelve, "/api/unshelve": _unshelve}
        if path not in makers:
            raise Wrong("there is nothing here", HTTPStatus.NOT_FOUND)
        order = makers[path](body)
        try:
            place_order(self._folder, order)
        except ValueError as error:
            raise Wrong(str(error)[:200]) from error
        return "the scorer takes it within a second"


def _ack(body: dict[str, Any]) -> AlarmOrder:
    return Ack(_text(body, "id", 200), _text(body, "by", 100), _text(body, "note", 500, least=0))


def _shelve(body: dict[str, Any]) -> AlarmOrder:
    seconds = body.get("seconds")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not math.isfinite(seconds):
        raise Wrong("seconds is no number")
    if not 0 < seconds <= _LONGEST_S:
        raise Wrong(f"a shelf lasts at most {_LONGEST_S / 86_400:g} days")
    return Shelve(_text(body, "tag", 128), _text(body, "by", 100), _text(body, "note", 500), for_s=float(seconds))


def _unshelve(body: dict[str, Any]) -> AlarmOrder:
    return Unshelve(_text(body, "tag", 128), _text(body, "by", 100), _text(body, "note", 500, least=0))


def _text(body: dict[str, Any], name: str, most: int, least: int = 1) -> str:
    """A text of an order: printable, on one line.

    Example:
        >>> _text({"by": " ann "}, "by", 100)
        'ann'
    """
    found = body.get(name, "")
    if not isinstance(found, str):
        raise Wrong(f"{name} is no text")
    text = " ".join(found.split())
    if not least <= len(text) <= most or not (text.isprintable() or not text):
        raise Wrong(f"{name} needs {least} to {most} printable characters")
    return text
