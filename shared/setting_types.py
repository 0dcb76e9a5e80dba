"""What a setting may be: numbers within bounds, printable texts, and the groups that they stand in."""

from __future__ import annotations

import unicodedata
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Fraction = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[int, Field(ge=1, le=10**9)]
ALPHA_MOST = 1e6
PositiveFloat = Annotated[float, Field(gt=0)]
Rate = Annotated[float, Field(gt=0, le=10)]
Multiplier = Annotated[float, Field(ge=0, le=1e9)]
Steps = Annotated[int, Field(ge=1, le=100)]
MOST_ROUNDS = 100_000
Rounds = Annotated[int, Field(ge=0, le=MOST_ROUNDS)]
Seconds = Annotated[float, Field(gt=0, le=30 * 24 * 3600)]
Late = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}:0?\.\d{1,6}$")]


def _printable(value: object) -> object:
    """Refuse what no name or path holds, and what UTF-8 cannot carry."""
    if isinstance(value, str) and any(unicodedata.category(sign) in ("Cc", "Cs") for sign in value[:5000]):
        raise ValueError("control characters and undecodable bytes are not allowed")
    return value


Text = Annotated[str, Field(max_length=4096), BeforeValidator(_printable)]


class Group(BaseModel):
    """Settings that stand together; nothing unknown, nothing changed later."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
