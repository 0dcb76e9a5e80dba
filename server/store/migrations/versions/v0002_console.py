"""What the console needs: totals, orders, the audit log with its guards, accounts, and the indexes for its pages.

The totals of the rounds that are there already are written after it, by `server.store.totals.mend`.
"""

import sqlalchemy as sa
from alembic import op

from server.store.guards import guard_audit

revision = "0002"
down_revision = "0001"

_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make what is missing."""
    _indexes()
    _totals()
    _orders()
    _audit()
    _accounts()


def _indexes() -> None:
    op.create_index("rounds_by_status", "rounds", ["run", "status", "number", "phase"], if_not_exists=True)
    op.create_index("rounds_by_model", "rounds", ["run", "model", "number"], if_not_exists=True)
    op.create_index("updates_by_plant", "updates", ["run", "plant", "number"], if_not_exists=True)


def _totals() -> None:
    op.create_table(
        "tallies",
        sa.Column("run", sa.String(255), primary_key=True),
        sa.Column("number", sa.BigInteger(), primary_key=True, autoincrement=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in ("asked", "accepted", "joined", "bytes")),
        sa.ForeignKeyConstraint(["run", "number"], ["rounds.run", "rounds.number"], ondelete="CASCADE"),
        if_not_exists=True,
    )
    counts = ("rounds", "accepted", "bytes_down", "bytes_up", "last_round")
    op.create_table(
        "plants",
        sa.Column("run", sa.String(255), sa.ForeignKey("runs.name"), primary_key=True),
        sa.Column("plant", sa.String(255), primary_key=True),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in counts),
        sa.Column("last_reason", sa.Text()),
        sa.Column("seen_round", sa.BigInteger()),
        sa.Column("seen", sa.Text()),
        sa.Column("live_round", sa.BigInteger()),
        sa.Column("live_model", sa.Text()),
        if_not_exists=True,
    )


def _orders() -> None:
    op.create_table(
        "orders",
        sa.Column("id", _SERIAL, primary_key=True),
        sa.Column("run", sa.String(255), sa.ForeignKey("runs.name"), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("target", sa.BigInteger()),
        sa.Column("model", sa.Text()),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("made", "who", "why", "state")),
        sa.Column("round", sa.BigInteger()),
        if_not_exists=True,
    )
    op.create_index("ix_orders_run", "orders", ["run"], if_not_exists=True)


def _audit() -> None:
    op.create_table(
        "audit",
        sa.Column("seq", _SERIAL, primary_key=True, autoincrement=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("at", "who", "role", "action", "target")),
        sa.Column("detail", sa.JSON(none_as_null=True), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("previous", "digest")),
        if_not_exists=True,
    )
    guard_audit(op.get_bind())


def _accounts() -> None:
    op.create_table(
        "accounts",
        sa.Column("name", sa.String(64), primary_key=True),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("role", "secret")),
        sa.Column("subject", sa.String(512), unique=True),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("created", "changed")),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "sessions",
        sa.Column("token", sa.String(64), primary_key=True),
        sa.Column("account", sa.String(64), sa.ForeignKey("accounts.name"), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("csrf", "created", "seen", "expires")),
        if_not_exists=True,
    )
