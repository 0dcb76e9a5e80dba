"""Can this plant start? Everything that a plant can find out about itself and its way to the coordinator."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from client.agent.config import Plant, read_plant
from shared.errors import DataNotFound, FileTrouble, InvalidConfig
from shared.pki import files
from shared.pki.certificates import utc_now
from shared.pki.kit import CARD, Card
from shared.preflight import credentials, machine, network
from shared.preflight.verdict import Verdict, fail, judged, ok, skip, warn
from shared.schema import SensorSchema

_NEW_KIT = "Ask the operator for a new kit: `crossplant provision renew FED_DIR NAME`, then `provision kit`."


def checks(config: Path, quick: bool = False, now: datetime | None = None) -> Iterator[Verdict]:
    """Every check of a plant, one after the other; none of them changes anything.

    Args:
        config: the plant's `plant.toml`.
        quick: recognise the data, but do not read it whole.
        now: the time; None: this machine's.
    """
    moment = now or utc_now()
    try:
        plant = read_plant(config)
    except InvalidConfig as error:
        yield fail("settings", error.cause, error.cure)
        return
    yield ok("settings", f"{config.name} of the plant {plant.config.name}")
    card = _card(plant)
    yield from judged("policy", lambda: _policy(plant, card))
    yield from judged("version", lambda: machine.versions(_versions(card)))
    yield from judged("node key", lambda: _node_key(plant))
    yield from judged("certificate", lambda: _certificates(plant, moment))
    yield from judged("network", lambda: _network(plant))
    yield from judged("coordinator", lambda: _coordinator(plant))
    yield from judged("disk", lambda: machine.disk(plant.home))
    yield from judged("socket", lambda: machine.socket_free(plant.socket))
    yield from judged("data", lambda: _data(plant, card, quick))


def _policy(plant: Plant, card: Card | None) -> Verdict:
    from client.agent.policy import read_policy

    signers, kits = read_policy(plant.policy).signers, None if card is None else card.signer
    if kits is None or kits in signers:
        return ok("policy", f"{plant.policy.name} can be read")
    does = "runs of other signers only are served" if signers else "runs that nobody signed are served too"
    mend = f'Let the operator read out `crossplant provision signer FED_DIR`; if it is this one: signers = ["{kits}"]'
    return warn("policy", f"{plant.policy.name} does not name the kit's signer {kits}: {does}.", mend)


def _card(plant: Plant) -> Card | None:
    """What the kit said of the federation; None when there is no kit, or it cannot be read."""
    path = plant.folder / CARD
    try:
        return Card.model_validate_json(files.read_bytes(path))
    except (ValidationError, FileTrouble):
        return None


def _versions(card: Card | None) -> dict[str, str]:
    return {} if card is None else {"crossplant": card.crossplant, "flwr": card.flower}


def _coordinator(plant: Plant) -> Iterator[Verdict]:
    """Whether it refused this plant when the plant last dialled: only a SuperNode learns that."""
    from client.run.note import read_note
    from client.run.supernode import NOTE

    line = read_note(plant.home / NOTE) or ""
    if line.startswith("refused"):
        mend = "Ask the operator: `crossplant provision site list` shows who is revoked. `client run` tries again."
        yield warn("coordinator", line, mend)


def _node_key(plant: Plant) -> Iterator[Verdict]:
    private = plant.node_key
    yield from credentials.node_key(private, private.with_name(f"{private.name}.pub"))


def _certificates(plant: Plant, now: datetime) -> Iterator[Verdict]:
    authorities, verdicts = credentials.bundle(plant.authority, now, _NEW_KIT)
    yield from verdicts
    if plant.shown is None:
        yield skip("certificate", "the plant shows none to the gateway (client_certificate, client_key)")
        return
    shown, key = plant.shown
    yield from judged("certificate", lambda: credentials.pair(shown, key, authorities, now, _NEW_KIT))


def _network(plant: Plant) -> list[Verdict]:
    superlink = plant.config.superlink
    if superlink is None:
        return [fail("network", "no `superlink` is set.", "Write it as in the operator's kit: host:port.")]
    host, port = network.parse_address(superlink)
    certificate, key = plant.shown or (None, None)
    return network.reach(network.Peer(host, port, plant.authority, certificate, key))


def _data(plant: Plant, card: Card | None, quick: bool) -> Iterator[Verdict]:
    path, dataset = plant.folder / plant.config.data.path, plant.config.data.dataset
    if quick and dataset is not None:
        yield _recognised(path, dataset)
        yield skip("schema", "not read (--quick)")
        return
    from client.agent.site import load_site

    site = load_site(plant)
    yield ok("data", f"{len(site.train_TD)} rows of {site.schema.dim} tags can be read")
    yield _schema(site.schema, None if card is None else card.tags)


def _recognised(path: Path, dataset: str) -> Verdict:
    from client.ingest.base import find

    if not path.exists():
        raise DataNotFound(f"there is no {path}.", "Set data.path in plant.toml.")
    found = find(dataset).recognise(path)
    if found is None:
        mend = f"`crossplant data check {path}` says what it is."
        return fail("data", f"{path} is not recognised as {dataset}.", mend)
    missing = f"; missing: {', '.join(found.missing)}" if found.missing else ""
    return ok("data", f"{found.version}, {len(found.files)} files{missing}")


def _schema(schema: SensorSchema, expected: str | None) -> Verdict:
    says = f"fingerprint {schema.fingerprint}, {schema.dim} tags every {schema.period_s:g} s"
    if expected is None:
        return ok("schema", f"{says}; the federation has fixed none")
    if expected != schema.fingerprint:
        mend = "Compare tags, their order and the sampling period with the operator's (docs/data.md)."
        return fail("schema", f"{says}; the federation expects {expected}.", mend)
    return ok("schema", f"{says}, as the federation expects")
