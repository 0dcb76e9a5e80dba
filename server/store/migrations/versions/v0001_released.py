"""The tables of the releases that did not count versions; the oldest of them had no signatures."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_JSON = sa.JSON(none_as_null=True)


def upgrade() -> None:
    """Make those that are missing."""
    op.create_table(
        "runs",
        sa.Column("name", sa.String(255), primary_key=True),
        sa.Column("ordinal", sa.BigInteger(), nullable=False, unique=True),
        sa.Column("created", sa.Text(), nullable=False),
        sa.Column("config_digest", sa.Text(), nullable=False),
        sa.Column("config", _JSON, nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("models_dir", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "signatures",
        sa.Column("run", sa.String(255), sa.ForeignKey("runs.name"), primary_key=True),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("made", sa.Text(), nullable=False),
        if_not_exists=True,
    )
    _rounds()


def _rounds() -> None:
    op.create_table(
        "rounds",
        sa.Column("run", sa.String(255), sa.ForeignKey("runs.name"), primary_key=True),
        sa.Column("number", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("phase", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("started", sa.Text(), nullable=False),
        sa.Column("seconds", sa.Double()),
        sa.Column("metrics", _JSON, nullable=False),
        sa.Column("clusters", _JSON),
        sa.Column("model", sa.Text()),
        sa.Column("config", sa.Text(), nullable=False),
        sa.Column("timings", _JSON, nullable=False),
        sa.Column("state", _JSON, nullable=False),
        sa.Column("optimizer", sa.Text()),
        if_not_exists=True,
    )
    op.create_table(
        "updates",
        sa.Column("run", sa.String(255), primary_key=True),
        sa.Column("number", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("plant", sa.String(255), primary_key=True),
        sa.Column("accepted", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("metrics", _JSON, nullable=False),
        sa.Column("examples", sa.BigInteger()),
        sa.Column("bytes_down", sa.BigInteger(), nullable=False),
        sa.Column("bytes_up", sa.BigInteger(), nullable=False),
        sa.Column("seconds", sa.Double()),
        sa.Column("timings", _JSON, nullable=False),
        sa.ForeignKeyConstraint(["run", "number"], ["rounds.run", "rounds.number"]),
        if_not_exists=True,
    )
