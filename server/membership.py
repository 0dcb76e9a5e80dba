"""Who belongs to a run: found compatible, joined late, left out, back again. Pure functions; who is behind which node
is what `server.attendance` keeps. Why it is like this: docs/decisions/0010-who-takes-part-in-a-round.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace

from server.aggregate import site_weights
from server.rounds import Member, RunState
from shared.config import RunConfig
from shared.model import TensorSpec
from shared.schema import SensorSchema, difference
from shared.wire.gate import Description, encode_manifest


def fingerprint(manifest: tuple[TensorSpec, ...]) -> str:
    """16 hexadecimal digits of a detector's tensors, as a schema's fingerprint has them.

    Example:
        >>> fingerprint((TensorSpec("w", (2,), 0.5),)) == fingerprint((TensorSpec("w", (3,), 0.5),))
        False
    """
    return hashlib.sha256(encode_manifest(manifest).encode()).hexdigest()[:16]


def misfit(plant: str, said: Description, schema: SensorSchema | None, manifest: tuple[TensorSpec, ...]) -> str | None:
    """Why a plant cannot be in a federation, with both fingerprints; None when it can.

    Args:
        plant, said: what calls itself what, and says what of itself.
        schema: of the federation's sensors; None where plants share a trunk only, and each has its own.
        manifest: the tensors that all must have.
    """
    if schema is not None and said.schema.fingerprint != schema.fingerprint:
        told = f"schema: CP-203 SchemaMismatch: plant {plant!r} {difference(schema, said.schema)}"
        return f"{told}; its schema is {said.schema.fingerprint}, the federation's {schema.fingerprint}"
    if said.manifest != manifest:
        told = f"detector: plant {plant!r} builds another network from the same recipe; update Crossplant"
        return f"{told}; its manifest is {fingerprint(said.manifest)}, the federation's {fingerprint(manifest)}"
    return None


def change(said: Description, member: Member, state: RunState) -> str | None:
    """Why a plant that calls itself a member is not as that member joined the run; None when it is."""
    if state.manifest and (told := misfit(member.plant, said, state.schema, state.manifest)):
        return told
    if member.schema and said.schema.fingerprint != member.schema:
        return f"schema: its sensors were changed: {said.schema.fingerprint}, {member.schema} when it joined the run"
    if said.examples != member.examples:
        return f"changed: {said.examples} windows, {member.examples} when it joined the run"
    if said.segments != member.segments:
        return f"changed: {said.segments} segments, {member.segments} when it joined the run"
    return None


def found(described: Mapping[str, Description], config: RunConfig) -> tuple[Member, ...]:
    """Members of what plants said of themselves, sorted by name."""
    return _weighed({plant: _member(plant, said, config) for plant, said in described.items()}, config)


def admit(state: RunState, joined: Mapping[str, Description], config: RunConfig) -> RunState:
    """The state in which plants that were found to fit are members, too: from the next round on.

    Weights are set anew for all, for the cap on one plant's weight follows the median plant.
    """
    if not joined:
        return state
    newcomers = {plant: _member(plant, said, config) for plant, said in joined.items()}
    return replace(state, members=_weighed({**newcomers, **{m.plant: m for m in state.members}}, config))


def _member(plant: str, said: Description, config: RunConfig) -> Member:
    own = said.schema.fingerprint if config.recipe.sharing.share == "trunk" else ""
    return Member(plant, said.examples, said.segments, 0.0, own)


def _weighed(members: Mapping[str, Member], config: RunConfig) -> tuple[Member, ...]:
    examples = {plant: member.examples for plant, member in members.items()}
    weights = site_weights(examples, config.rounds.weighting, config.rounds.weight_cap)
    return tuple(replace(members[plant], weight=weight) for plant, weight in weights.items())
