"""The tables of the round store. A column is named like the field of the value that it keeps."""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import JSON, BigInteger, Double, ForeignKey, ForeignKeyConstraint, String, Text
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
    __table_args__ = (ForeignKeyConstraint(["run", "number"], ["rounds.run", "rounds.number"]),)

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
