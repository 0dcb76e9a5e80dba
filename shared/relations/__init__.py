"""Relations by operating mode: a detector for plants whose valves and pumps tell what everything else should do.

It is fitted once, at the plant, on the plant's own raw normal rows, and never leaves it; it knows no tag's name and no
physics. An edge box imports what scores; fitting, which needs scikit-learn, is imported at its first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from shared.relations.file import from_bytes, to_bytes
from shared.relations.model import Relations, RelationStream

if TYPE_CHECKING:
    from shared.relations.fitting import Fitted, Unfit, fit

__all__ = ["Fitted", "RelationStream", "Relations", "Unfit", "fit", "from_bytes", "to_bytes"]


def __getattr__(name: str) -> Any:
    if name in ("Fitted", "Unfit", "fit"):
        return getattr(importlib.import_module("shared.relations.fitting"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
