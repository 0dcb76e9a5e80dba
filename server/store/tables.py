"""The tables of the round store. A column is named like the field of the value that it keeps."""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import JSON, BigInteger, Double, ForeignKey, ForeignKeyConstraint, Index, Integer, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

JsonObject = dict[str, Any]


class Base(DeclarativeBase):
    """Parent of all tables; says which column type stands for which Python type."""

    type_annotation_map: ClassVar[dict[Any, Any]] = {
        JsonObject: JSON(none_as_null=True),
        str: Text(),
        int: BigInteger(),
        float: Double(),
    }


class RunRow(Base):
    """One run: what it was asked to do and how it stands."""

    __tablename__ = "runs"

    name: Mapped[str] = mapped_column(String(255), primary_key=True)
    ordinal: Mapped[int] = mapped_column(unique=True)  # runs in the order they were started, whatever the clock did
    created: Mapped[str]
    config_digest: Mapped[str]
    config: Mapped[JsonObject]
    status: Mapped[str]
    models_dir: Mapped[str]
    note: Mapped[str]


class SignatureRow(Base):
    """The operator's signature over a run. A table of its own: stores that are older than signatures open without."""

    __tablename__ = "signatures"

    run: Mapped[str] = mapped_column(String(255), ForeignKey("runs.name"), primary_key=True)
    text: Mapped[str]
    made: Mapped[str]


class RoundRow(Base):
    """One finished round, and the state that the next round starts from."""

    __tablename__ = "rounds"
    __table_args__ = (
        Index("rounds_by_status", "run", "status", "number", "phase"),
        Index("rounds_by_model", "run", "model", "number"),
    )

    run: Mapped[str] = mapped_column(String(255), ForeignKey("runs.name"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    phase: Mapped[str]
    label: Mapped[str]
    status: Mapped[str]
    reason: Mapped[str | None]
    started: Mapped[str]
    seconds: Mapped[float | None]
    metrics: Mapped[JsonObject]
    clusters: Mapped[JsonObject | None]
    model: Mapped[str | None]
    config: Mapped[str]
    timings: Mapped[JsonObject]
    state: Mapped[JsonObject]
    optimizer: Mapped[str | None]
    updates: Mapped[list[UpdateRow]] = relationship(lazy="selectin")


class UpdateRow(Base):
    """One plant's part in one round."""

    __tablename__ = "updates"
    __table_args__ = (
        ForeignKeyConstraint(["run", "number"], ["rounds.run", "rounds.number"]),
        Index("updates_by_plant", "run", "plant", "number"),
    )

    run: Mapped[str] = mapped_column(String(255), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    plant: Mapped[str] = mapped_column(String(255), primary_key=True)
    accepted: Mapped[bool]
    reason: Mapped[str | None]
    metrics: Mapped[JsonObject]
    examples: Mapped[int | None]
    bytes_down: Mapped[int]
    bytes_up: Mapped[int]
    seconds: Mapped[float | None]
    timings: Mapped[JsonObject]


class TallyRow(Base):
    """What the plants of a round amount to, so that a list of rounds need not read each plant's part.

    Not columns of `rounds`: behind the state, which fills pages, each would cost as much to read as the state.
    """

    __tablename__ = "tallies"
    __table_args__ = (ForeignKeyConstraint(["run", "number"], ["rounds.run", "rounds.number"], ondelete="CASCADE"),)

    run: Mapped[str] = mapped_column(String(255), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    asked: Mapped[int]  # in its cohort, without those that joined
    accepted: Mapped[int]
    joined: Mapped[int]
    bytes: Mapped[int]  # payload in both directions


class PlantRow(Base):
    """What a plant's rounds in a run amount to; written in the transaction of each round, derivable from `updates`."""

    __tablename__ = "plants"

    run: Mapped[str] = mapped_column(String(255), ForeignKey("runs.name"), primary_key=True)
    plant: Mapped[str] = mapped_column(String(255), primary_key=True)
    rounds: Mapped[int]  # in whose cohort it was
    accepted: Mapped[int]
    bytes_down: Mapped[int]
    bytes_up: Mapped[int]
    last_round: Mapped[int]  # the last that tells of it, also when it joined there
    last_reason: Mapped[str | None]  # why it did not count there; None when it did
    seen_round: Mapped[int | None]  # the last in which it counted
    seen: Mapped[str | None]  # when that began, ISO 8601
    live_round: Mapped[int | None]  # the last in which it calibrated, and published a bundle
    live_model: Mapped[str | None]  # by which model


class OrderRow(Base):
    """What an operator wants plants to score by (`server.store.registry`)."""

    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    run: Mapped[str] = mapped_column(String(255), ForeignKey("runs.name"), index=True)
    action: Mapped[str]
    target: Mapped[int | None]  # round whose model plants shall score by; None: each newest one
    model: Mapped[str | None]
    made: Mapped[str]
    who: Mapped[str]
    why: Mapped[str]
    state: Mapped[str]
    round: Mapped[int | None]  # that carried it out


class AuditRow(Base):
    """One entry of the audit log; never changed, never removed: triggers see to it (`server.store.auditlog`)."""

    __tablename__ = "audit"

    seq: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False
    )
    at: Mapped[str]
    who: Mapped[str]
    role: Mapped[str]
    action: Mapped[str]
    target: Mapped[str]
    detail: Mapped[JsonObject]
    previous: Mapped[str]
    digest: Mapped[str]


class AccountRow(Base):
    """Who may log in to the console."""

    __tablename__ = "accounts"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    role: Mapped[str]
    secret: Mapped[str]  # argon2id, encoded; empty: no password, another issuer vouches
    subject: Mapped[str | None] = mapped_column(String(512), unique=True)  # `issuer sub` of OpenID Connect
    created: Mapped[str]
    changed: Mapped[str]  # sessions from before do not hold
    disabled: Mapped[bool]


class SessionRow(Base):
    """A login to the console; the token itself is only in the browser."""

    __tablename__ = "sessions"

    token: Mapped[str] = mapped_column(String(64), primary_key=True)  # SHA-256
    account: Mapped[str] = mapped_column(String(64), ForeignKey("accounts.name"))
    csrf: Mapped[str]
    created: Mapped[str]
    seen: Mapped[str]
    expires: Mapped[str]
