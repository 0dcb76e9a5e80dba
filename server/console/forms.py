"""Forms: `application/x-www-form-urlencoded`, bounded, read by the standard library."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated
from urllib.parse import parse_qsl

from fastapi import Depends
from starlette.requests import Request

from server.console.problems import Denied

KIND = "application/x-www-form-urlencoded"
_MOST_FIELDS = 64
_CURE = "Send the form as the page has it."


async def form_of(request: Request) -> Mapping[str, str]:
    """The fields of a form; of one that is there twice, the last. A dependency, too.

    Raises:
        Denied: 415: it is no form; 422: it has too many fields, or is no text.
    """
    return parsed(request.headers.get("content-type", ""), await request.body())


Form = Annotated[Mapping[str, str], Depends(form_of)]
"""The fields of a form, in a route."""


def parsed(kind: str, body: bytes) -> Mapping[str, str]:
    """The fields of a form.

    Args:
        kind: its Content-Type.
        body: as it came; the gate has bounded it.

    Raises:
        Denied: as for `form_of`.
    """
    if not is_form(kind):
        raise Denied(415, f"A form was expected, not {kind[:60]!r}.", _CURE)
    try:
        pairs = parse_qsl(body.decode("ascii"), True, encoding="utf-8", errors="strict", max_num_fields=_MOST_FIELDS)
    except ValueError as error:
        raise Denied(422, "The form has too many fields, or holds what is no text.", _CURE) from error
    return dict(pairs)


def is_form(kind: str) -> bool:
    """Whether a Content-Type is that of a form."""
    return kind.partition(";")[0].strip().lower() == KIND
