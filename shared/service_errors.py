"""What can go wrong with processes that run for years, and with what they listen on.

ServiceError           CP-8xx  processes that run for years
├── ProcessFailed      CP-801
├── ServerUnreachable  CP-802
├── ServerRefused      CP-803
├── PortTaken          CP-804
├── AlreadyRunning     CP-805
├── NotRunning         CP-806
├── ServerStateDamaged CP-807
└── AccessDenied       CP-808
"""

from __future__ import annotations

from shared.errors import CrossplantError


class ServiceError(CrossplantError):
    """A long-lived process, or what it listens on, cannot be used."""

    code = "CP-800"


class ProcessFailed(ServiceError):
    """A process does not start, does not serve, or does not end."""

    code = "CP-801"
    cure = "Its log says why."


class ServerUnreachable(ServiceError):
    """The coordinator's SuperLink does not answer."""

    code = "CP-802"
    cure = "`crossplant server run` starts it again by itself; its log is in the federation's run/log."


class ServerRefused(ServiceError):
    """The coordinator's SuperLink refuses what it was asked for."""

    code = "CP-803"
    cure = "Its log is in the federation's run/log."


class PortTaken(ServiceError):
    """Nothing can listen on the address and port that were asked for."""

    code = "CP-804"
    cure = "End what listens there, or choose another --port."


class AlreadyRunning(ServiceError):
    """Another process serves this folder already."""

    code = "CP-805"
    cure = "End the other one first, or leave it running."


class NotRunning(ServiceError):
    """Nothing serves this folder now."""

    code = "CP-806"
    cure = "Start it with `crossplant server run`."


class ServerStateDamaged(ServiceError):
    """The SuperLink's own database cannot be read; the round store is another one."""

    code = "CP-807"
    cure = "Move it away and start again: rounds, models and keys are kept elsewhere."


class AccessDenied(ServiceError):
    """The console does not carry out what it was asked for: by whom, how often, or in which manner."""

    code = "CP-808"
    cure = "Log in with an account that may; docs/console.md says which role may do what."
