"""What somebody may do in the console."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """What somebody may do. Each covers those before it."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    def covers(self, other: Role) -> bool:
        """Whether whoever has this role may do what the other one may.

        Example:
            >>> Role.ADMIN.covers(Role.OPERATOR), Role.VIEWER.covers(Role.OPERATOR)
            (True, False)
        """
        order = list(Role)
        return order.index(self) >= order.index(other)
