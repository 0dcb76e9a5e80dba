"""What goes into a plant's kit: certificates, settings to fill in, and how to start. Nothing secret."""

from __future__ import annotations

import importlib.metadata
from datetime import datetime

from cryptography import x509

from server.provision.federation import Federation
from server.provision.site import CLIENT_CERT, Site
from shared.pki import certificates, files
from shared.pki.kit import CA, CARD, CLIENT, CROSS, PLANT, POLICY, README, SCRIPTS, Card, render_card
from shared.pki.trouble import CertificateUnusable, RequestRefused

_PLANT = """\
# {plant}: the plant's own settings. Relative paths are relative to this file. Yours to edit: `crossplant provision
# install` never overwrites it. Try it with `crossplant preflight --config plant.toml`.
name = {name}

# Where the coordinator's gateway answers, and whom to trust there. The plant only dials out.
superlink = {superlink}
root_certificates = "ca.crt"

# This plant's keys, made here; they never leave this machine.
node_key = "node"
client_certificate = "client.crt"
client_key = "client.key"

# What the plant agent keeps (bundles, ledger, audit log), and the socket that the relay finds it by.
home = "home"
socket = "run/agent.sock"
policy = "policy.toml"

# The plant's data: an export of its historian, or another data set that `crossplant data check PATH` recognises.
# (Without `dataset` the path is a folder with Crossplant's own site.json and arrays.)
[data]
path = "data"
# dataset = "historian"
# site = "line-1"              # of a data set with several sites

[agent]
threads = 1                    # of torch
"""

_POLICY = """\
# {plant}: what this plant takes part in. Nothing that a server sends can change it; what stands here as a comment is
# the default. Yours to edit: `crossplant provision install` never overwrites it.

# kinds = ["describe", "train", "cluster", "moments", "calibrate"]
# detectors = ["hac-uml"]      # default: any that is built in
schema = {schema}
# Who may sign runs; none: runs need no signature. This is the operator's key as the kit names it: let the operator read
# out what `crossplant provision signer` prints, and compare.
{signers}
# largest_message = 268435456  # bytes

[dp]
required = false               # true: only runs with differential privacy
max_epsilon = 8.0

[budget]
# rounds_a_day = 10000
# rounds_a_run = 10000

[hours]
zone = "UTC"
# windows = ["Mon-Fri 18:00-06:00", "Sat-Sun 00:00-24:00"]    # none: always

[caps]
# local_epochs = 50
# batch_size = 4096
"""

_README = """\
Kit of the plant {plant} in the federation {federation}.

It holds no secret: the plant's private keys were made at the plant and are still there. In the folder of those keys:

    crossplant provision install KIT FOLDER

Let the operator read out the authority's fingerprint on the telephone, and compare it with the one that this prints.
Then fill in plant.toml (where the data lies) and policy.toml (what the plant allows), and run

    ./preflight.sh
    ./start.sh

The certificate is valid until {until}; the operator sends a new kit before, which is installed the same way.
"""

_SCRIPT = """\
#!/bin/sh
# {why}
set -eu
cd "$(dirname "$0")"
export FLWR_TELEMETRY_ENABLED=0 FLWR_DISABLE_UPDATE_CHECK=1
exec "${{CROSSPLANT:-crossplant}}" {command}
"""

_COMMANDS = {
    "start.sh": (
        "Starts this plant and stays; CROSSPLANT names another crossplant command.",
        "client run --config plant.toml",
    ),
    "preflight.sh": ("Checks whether this plant can start.", "preflight --config plant.toml"),
}


def build_kit(federation: Federation, site: Site, now: datetime) -> dict[str, bytes]:
    """A plant's kit as files by name.

    Raises:
        RequestRefused: the plant is revoked.
        CertificateUnusable: its certificate is damaged, lapsed, or not signed by a trusted authority.
    """
    if site.status != "approved":
        raise RequestRefused(f"{site.name} is {site.status}: there is no kit for it.", "Approve it first.")
    leaf = _checked(federation, site, now)
    cross = federation.crossed(now)
    texts = _texts(federation, site, leaf.not_valid_after_utc)
    card = Card(
        federation=federation.settings.name,
        plant=site.name,
        crossplant=importlib.metadata.version("crossplant"),
        flower=importlib.metadata.version("flwr"),
        tags=federation.settings.tags,
        signer=federation.signer,
    )
    return {
        **{name: text.encode() for name, text in texts.items()},
        CARD: render_card(card),
        CA: certificates.pem(*federation.trusted(now)),
        CLIENT: certificates.pem(leaf),
        **({CROSS: certificates.pem(cross)} if cross is not None else {}),
    }


def _checked(federation: Federation, site: Site, now: datetime) -> x509.Certificate:
    leaf, where = site.certificate(), str(site.folder / CLIENT_CERT)
    mend = f"`crossplant provision renew {federation.folder} {site.name}` issues a new one."
    try:
        certificates.issuer_among(leaf, federation.trusted(now), where)
        certificates.check_time(leaf, now, where)
    except CertificateUnusable as error:
        raise CertificateUnusable(error.cause, mend) from error
    return leaf


def _texts(federation: Federation, site: Site, until: datetime) -> dict[str, str]:
    settings = federation.settings
    host = settings.hosts[0]
    address = f"[{host}]:{settings.port}" if ":" in host else f"{host}:{settings.port}"
    return {
        PLANT: _PLANT.format(plant=site.name, name=files.quoted(site.name), superlink=files.quoted(address)),
        POLICY: _POLICY.format(
            plant=site.name, schema=files.quoted(settings.tags or "own"), signers=_signers(federation.signer)
        ),
        README: _README.format(plant=site.name, federation=settings.name, until=f"{until:%Y-%m-%d}"),
        **{name: _SCRIPT.format(why=_COMMANDS[name][0], command=_COMMANDS[name][1]) for name in SCRIPTS},
    }


def _signers(signer: str | None) -> str:
    return '# signers = ["SHA256:..."]' if signer is None else f"signers = [{files.quoted(signer)}]"
