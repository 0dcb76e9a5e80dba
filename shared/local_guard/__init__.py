"""A plant's own detector, which no federation can reach: linear, fitted once on the plant's own normal rows.

An attack that a poisoner taught a federated model to call normal passes every rule of aggregation
(docs/decisions/0007). What sees it is a model that learnt at the plant alone. It is used beside the federated detector:
an alarm of either counts, and each has half of the false alarms.

This package imports nothing of models, messages or networks, and its preparation of rows is its own: a recipe that came
from a server could blind it.
"""

from __future__ import annotations

from shared.local_guard.file import from_bytes, to_bytes
from shared.local_guard.guard import GuardConfig, GuardStream, LocalGuard, fit
from shared.local_guard.lagged import Explanation, LagModel, learn, shrunk

__all__ = [
    "Explanation",
    "GuardConfig",
    "GuardStream",
    "LagModel",
    "LocalGuard",
    "fit",
    "from_bytes",
    "learn",
    "shrunk",
    "to_bytes",
]
