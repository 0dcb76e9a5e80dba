"""Flower's SuperNode with shorter pauses: `python -m client.run.node`, with the options of `flower-supernode`.

Flower 1.41 asks the coordinator every 3 s and looks for its own app's answer every 0.5 s; neither can be set. In a
round of a small model these pauses are most of the time.
"""

from __future__ import annotations

import time
import types

from flwr.supernode import start_client_internal
from flwr.supernode.cli import flower_supernode

PAUSES_S: dict[float, float] = {3: 1.0, 0.5: 0.1}
"""Flower's pause to ours."""


def quicken() -> None:
    """Shorten the pauses of the SuperNode's loop, and of nothing else."""

    def sleep(seconds: float) -> None:
        time.sleep(PAUSES_S.get(seconds, seconds))

    start_client_internal.time = types.SimpleNamespace(sleep=sleep)  # type: ignore[attr-defined,assignment]


if __name__ == "__main__":
    quicken()
    flower_supernode()
