"""`policy.toml`: what a plant takes part in. Nothing that a server sends can change it.

`judge` is a pure function of policy, request, plant and time; the budget is kept by `client.agent.ledger`. A refusal
carries a category, one of `WORDS`: that and the code are all that the server hears. The reason stands in the audit log.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator

from client.agent.claim import check_claim
from client.agent.config import Group, read_strict
from client.agent.hours import Window, next_opening, parse_window
from client.training.segments import record_rows
from shared.config import Recipe, SharingConfig, Text
from shared.errors import BadPayload, NotAllowed, PrivacyUnmet
from shared.sampling import own_recipe
from shared.wire.envelope import Packet
from shared.wire.inventory import Kind
from shared.wire.messages import shown
from shared.wire.signature import SIGNATURE, Due, verify

WORDS = ("kind", "detector", "schema", "signer", "privacy", "budget", "hours", "resources", "size")

Fingerprint = Annotated[str, Field(pattern=r"\ASHA256:[A-Za-z0-9+/]{43}\z")]
Cap = Annotated[int, Field(ge=1, le=10**9)]


class PrivacyFloor(Group):
    """Differential privacy that a run must offer, and what all runs together may spend of it.

    A run without any is refused where it is `required`, and so is a central one: there the plant's data leave it
    unprotected. What a run claims is held to the limits in any case; what it really spends, the ledger counts.
    """

    required: bool = False
    max_epsilon: Annotated[float, Field(gt=0, le=1e6)] = 8.0  # of one run
    budget_epsilon: Annotated[float, Field(gt=0, le=1e6)] | None = None  # of the ledger, for ever; None: max_epsilon
    delta: Annotated[float, Field(gt=0, lt=1)] = 1e-5  # at most
    unit: Cap = 1  # samples that a record must have at least
    mixed: bool = False  # whether runs without it are served after private ones, whose claim then covers less

    @property
    def budget(self) -> float:
        """Epsilon that all releases of the plant's ledger may cost together, over all runs."""
        return self.max_epsilon if self.budget_epsilon is None else self.budget_epsilon


class Budget(Group):
    """Requests that compute on the plant's data (all but `describe`), each a round of the federation."""

    rounds_a_day: Cap = 10_000
    rounds_a_run: Cap = 10_000


class Hours(Group):
    """When such a request may begin; what has begun may end later. No windows: always."""

    zone: Text = "UTC"
    windows: Annotated[tuple[str, ...], Field(strict=False, max_length=50)] = ()
    announce: bool = False  # tell the server the next opening

    @field_validator("zone")
    @classmethod
    def _known(cls, zone: str) -> str:
        try:
            ZoneInfo(zone)
        except (ValueError, OSError) as error:  # ZoneInfoNotFoundError is a KeyError
            raise ValueError("there is no such time zone; write one like Europe/Vienna") from error
        except KeyError as error:
            raise ValueError("there is no such time zone; write one like Europe/Vienna") from error
        return zone

    @field_validator("windows")
    @classmethod
    def _readable(cls, windows: tuple[str, ...]) -> tuple[str, ...]:
        for window in windows:
            parse_window(window)
        return windows

    @property
    def spans(self) -> tuple[Window, ...]:
        """The windows, read."""
        return tuple(map(parse_window, self.windows))


class Caps(Group):
    """The most that a request may ask of the machine."""

    local_epochs: Cap = 50
    batch_size: Cap = 4096
    windows: Cap = 5_000_000  # of training, counted from above: rows / stride
    window: Cap = 1000
    hidden: Cap = 512
    layers: Cap = 4
    latent: Cap = 128
    threads: Annotated[int, Field(ge=1, le=256)] = 256
    memory_mb: Annotated[int, Field(ge=1024, le=10**7)] | None = None  # address space of the agent (RLIMIT_AS)


class Policy(Group):
    """What a plant allows. The defaults are what a file without a line allows.

    Example:
        >>> Policy().kinds
        ('describe', 'train', 'cluster', 'moments', 'calibrate')
    """

    kinds: Annotated[tuple[Text, ...], Field(strict=False)] = tuple(kind.value for kind in Kind)
    detectors: Annotated[tuple[Text, ...], Field(strict=False)] | None = None  # None: any that is built in
    schema_fingerprint: Annotated[str, Field(alias="schema", pattern=r"\A(own|[0-9a-f]{16})\z")] = "own"
    signers: Annotated[
        tuple[Annotated[str, Field(pattern=r"\ASHA256:[A-Za-z0-9+/]{43}\z")], ...], Field(strict=False)
    ] = ()
    largest_message: Annotated[int, Field(ge=1024, le=2**31 - 1)] = 256 * 2**20  # bytes
    dp: PrivacyFloor = PrivacyFloor()
    budget: Budget = Budget()
    hours: Hours = Hours()
    caps: Caps = Caps()

    @field_validator("kinds")
    @classmethod
    def _kinds_exist(cls, kinds: tuple[str, ...]) -> tuple[str, ...]:
        unknown = sorted(set(kinds) - {kind.value for kind in Kind})
        if unknown:
            raise ValueError(f"there is no kind {unknown[0]!r}; kinds are {', '.join(Kind)}")
        return kinds

    @property
    def digest(self) -> str:
        """Which policy was in force: it stands in the audit log at every start."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


def read_policy(path: Path) -> Policy:
    """Read `policy.toml`.

    Raises:
        InvalidConfig: the file is missing or broken. A plant without a policy does not start.
    """
    return read_strict(path, Policy)


@dataclass(frozen=True)
class Facts:
    """What the policy needs to know of the plant.

    Attributes:
        rows: of training data.
        schema: fingerprint of its sensors.
        plant: its name, which a signed run must be meant for.
        period_s: between two of its samples.
    """

    rows: int
    schema: str
    plant: str
    period_s: float = 1.0


@dataclass(frozen=True)
class Allowed:
    """A request that the policy lets through.

    Attributes:
        kind: what it asks for.
        signer: fingerprint of the key that signed its run, empty when nobody had to.
        packet: the request without what was for the policy only.
    """

    kind: Kind
    signer: str
    packet: Packet


def judge(policy: Policy, packet: Packet, facts: Facts, now: datetime) -> Allowed:
    """Judge one request.

    Args:
        policy: the plant's.
        packet: what came, believed in nothing.
        facts: of the plant.
        now: with a time zone.

    Raises:
        NotAllowed: the policy forbids it; `word` says which part.
        BadPayload: the request is none.
    """
    kind, recipe = _kind(policy, packet), own_recipe(_recipe(packet), facts.period_s)
    signer = _signer(policy, packet, facts.plant, now)
    _check_privacy(policy.dp, recipe, facts)
    _check_recipe(policy, recipe, facts)
    if policy.schema_fingerprint not in ("own", facts.schema):
        cause = f"the data has schema {facts.schema}, the policy allows {policy.schema_fingerprint}."
        raise NotAllowed(cause, word="schema")
    if kind is not Kind.DESCRIBE:
        _check_hours(policy.hours, now)
    texts = {name: text for name, text in packet.texts.items() if name != SIGNATURE}
    return Allowed(kind, signer, Packet(packet.arrays, packet.numbers, texts))


def _kind(policy: Policy, packet: Packet) -> Kind:
    try:
        kind = Kind(packet.texts.get("kind", ""))
    except ValueError as error:
        raise BadPayload(f"a request of the kind {shown(packet.texts.get('kind'))}.") from error
    if kind.value not in policy.kinds:
        raise NotAllowed(f"requests of the kind {kind.value} are not allowed.", word="kind")
    return kind


def _recipe(packet: Packet) -> Recipe:
    try:
        return Recipe.model_validate_json(packet.texts["recipe"])
    except (KeyError, ValueError) as error:
        raise BadPayload("a request without a valid recipe.") from error


def _signer(policy: Policy, packet: Packet, plant: str, now: datetime) -> str:
    """Who signed the run; with a list of signers, nobody else's run is served."""
    if not policy.signers:
        return ""
    if SIGNATURE not in packet.texts:
        raise NotAllowed("the run is not signed.", word="signer")
    due = Due(packet.texts.get("run", ""), packet.texts["recipe"], plant)
    try:
        signer = verify(packet.texts[SIGNATURE], due, now)
    except BadPayload as error:
        raise NotAllowed(error.cause, word="signer") from error
    if signer not in policy.signers:
        raise NotAllowed(f"the run is signed by {signer}, who is not among the signers.", word="signer")
    return signer


def _check_privacy(floor: PrivacyFloor, recipe: Recipe, facts: Facts) -> None:
    privacy = recipe.privacy
    if privacy.mode != "local":
        if floor.required:
            what = "no differential privacy" if privacy.mode == "none" else "central differential privacy only"
            raise NotAllowed(f"the run offers {what}.", word="privacy")
        return
    try:
        check_claim(recipe)
    except PrivacyUnmet as error:
        raise NotAllowed(error.cause, word="privacy") from error
    samples = record_rows(recipe, facts.period_s) * recipe.preprocess.every
    if privacy.epsilon is None or privacy.epsilon > floor.max_epsilon:
        raise NotAllowed(f"epsilon {privacy.epsilon}, at most {floor.max_epsilon:g} is allowed.", word="privacy")
    if privacy.delta > floor.delta:
        raise NotAllowed(f"delta {privacy.delta:g}, at most {floor.delta:g} is allowed.", word="privacy")
    if samples < floor.unit:
        cause = f"the run protects records of {samples:,} samples, at least {floor.unit:,} are asked for."
        raise NotAllowed(cause, word="privacy")


def _check_recipe(policy: Policy, recipe: Recipe, facts: Facts) -> None:
    detector, training, caps = recipe.detector, recipe.training, policy.caps
    if policy.detectors is not None and detector.name not in policy.detectors:
        raise NotAllowed(f"the detector {shown(detector.name)} is not allowed.", word="detector")
    windows = -(-facts.rows // (training.stride * recipe.preprocess.every))
    asked = {
        "local_epochs": max(training.local_epochs, *_own_epochs(recipe.sharing)),
        "batch_size": training.batch_size or windows,  # 0 stands for all
        "windows": windows,
        "window": detector.window,
        "hidden": max(detector.hidden * (detector.members if detector.name == "ewad" else 1), _width(recipe.sharing)),
        "layers": detector.layers,
        "latent": detector.latent,
    }
    for name, value in asked.items():
        most = getattr(caps, name)
        if value > most:
            raise NotAllowed(f"{name} would be {value:,}, at most {most:,} are allowed.", word="resources")


def _width(sharing: SharingConfig) -> int:
    """Channels of the trunk; 0 where the whole network is shared."""
    return sharing.adapter if sharing.share == "trunk" else 0


def _own_epochs(sharing: SharingConfig) -> tuple[int, int]:
    """Epochs of the models that a plant makes for itself before it calibrates."""
    return sharing.personal_epochs, sharing.alone_epochs if sharing.keep == "better" else 0


def _check_hours(hours: Hours, now: datetime) -> None:
    if not hours.windows:
        return
    opening = next_opening(hours.spans, ZoneInfo(hours.zone), now)
    if opening is not None:
        when = f"{opening.astimezone(UTC):%Y-%m-%dT%H:%MZ}"
        word = f"hours until {when}" if hours.announce else "hours"
        raise NotAllowed(f"the plant trains again from {when} on.", word=word)
