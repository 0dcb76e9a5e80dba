"""Can the operator start? The authority, the server's certificate, every plant's, and the machine."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from pathlib import Path

from server.provision import federation as place
from server.provision import signing
from server.provision.federation import Federation
from server.provision.site import CLIENT_CERT, Site
from shared.errors import CrossplantError
from shared.pki import certificates, files, keys
from shared.pki.request import NODE_PUBLIC
from shared.preflight import credentials, machine, network
from shared.preflight.verdict import Verdict, fail, judged, ok, skip, warn


def checks(folder: Path, quick: bool = False, now: datetime | None = None) -> Iterator[Verdict]:
    """Every check of the operator's side, one after the other; none of them changes anything.

    Args:
        folder: what `crossplant provision init` made.
        quick: do not ask whether the gateway answers.
        now: the time; None: this machine's.
    """
    moment = now or certificates.utc_now()
    try:
        federation = place.read(folder)
    except CrossplantError as error:
        yield fail("federation", error.cause, error.cure)
        return
    approved = sum(site.status == "approved" for site in federation.sites.values())
    yield ok("federation", f"{federation.settings.name}, {approved} of {len(federation.sites)} plants approved")
    yield from judged("clock", lambda: _clock(federation, moment))
    yield from judged("version", lambda: machine.versions({}))
    yield from judged("authority", lambda: _authority(federation, moment))
    yield from judged("signer", lambda: _signer(federation))
    yield from judged("server", lambda: _server(federation, moment), _renew(federation, "server"))
    yield from judged("revoked", lambda: _revoked(federation, moment))
    for site in federation.sites.values():
        yield from judged("plant", partial(_site, federation, site, moment), _renew(federation, site.name))
    yield from judged("disk", lambda: machine.disk(folder))
    yield from judged("gateway", lambda: skip("gateway", "not asked (--quick)") if quick else _gateway(federation))


def _renew(federation: Federation, what: str) -> str:
    after = "check again" if what == "server" else "write a new kit"
    return f"`crossplant provision renew {federation.folder} {what}`, then {after}."


def _clock(federation: Federation, now: datetime) -> Verdict:
    federation.check_clock(now)
    return ok("clock", "not behind anything that was issued here")


def _authority(federation: Federation, now: datetime) -> Iterator[Verdict]:
    mend = f"`crossplant provision renew {federation.folder} ca`, then new kits."
    yield credentials.lifetime("authority", "the authority", federation.authority, now, mend)
    for one in federation.bundle[1:]:
        left = certificates.days_left(one, now)
        if left >= 0:
            yield ok("authority", f"its predecessor is trusted for {left} days more: install new kits until then")
    key = federation.folder / place.CA_KEY
    yield machine.rights(key)
    if b"ENCRYPTED" in files.read_bytes(key) and keys.passphrase_from_environment() is None:
        yield skip("authority", f"its key is locked, and {keys.PASSPHRASE} is not set: not opened")
        return
    federation.key()
    yield ok("authority", "its key opens and is that of its certificate")


def _signer(federation: Federation) -> Iterator[Verdict]:
    make = f"`crossplant provision signer {federation.folder} --new`, then new kits."
    if federation.signer is None:
        yield warn("signer", "there is no key to sign runs with.", make)
        return
    key = federation.folder / signing.KEY
    yield machine.rights(key)
    if b"ENCRYPTED" in files.read_bytes(key) and keys.passphrase_from_environment() is None:
        yield skip("signer", f"the key that signs runs is locked, and {keys.PASSPHRASE} is not set: not opened")
        return
    signing.signing_key(federation.folder)
    yield ok("signer", f"runs are signed by {federation.signer}")


def _server(federation: Federation, now: datetime) -> Iterator[Verdict]:
    mend = _renew(federation, "server")
    certificate, key = federation.folder / place.SERVER_CERT, federation.folder / place.SERVER_KEY
    yield from credentials.pair(certificate, key, federation.bundle, now, mend)
    leaf = certificates.load_bundle(files.read_bytes(certificate), str(certificate))[0]
    lacking = sorted(set(federation.settings.hosts) - set(certificates.hosts_of(leaf)))
    if lacking:
        yield fail("server", f"its certificate is not for {', '.join(lacking)} of {place.SETTINGS}.", mend)
    else:
        yield ok("server", f"its certificate is for {', '.join(federation.settings.hosts)}")


def _revoked(federation: Federation, now: datetime) -> Verdict:
    """Whether the list is signed by every trusted authority and lists what the roster says is revoked."""
    path = federation.folder / place.CA_CRL
    lists = certificates.load_crls(files.read_bytes(path), str(path))
    mend = "Restore it from a backup; `crossplant provision renew FED_DIR ca` writes it anew."
    listed: set[tuple[str, int]] = set()
    for authority in federation.trusted(now):
        mine = [one for one in lists if certificates.crl_signed_by(one, authority)]
        if not mine:
            return fail("revoked", f"{path} holds no list of {certificates.common_name(authority)}.", mend)
        listed |= {(certificates.key_of(authority), entry.serial_number) for one in mine for entry in one}
    known = {certificates.key_of(one) for one in federation.trusted(now)}
    due = {
        (one.authority, int(one.serial, 16))
        for site in federation.sites.values()
        for one in site.certificates
        if one.revoked and one.authority in known
    }
    if due - listed:
        return fail("revoked", f"{path} lacks {len(due - listed)} certificates that were revoked.", mend)
    return ok("revoked", f"{len(listed)} certificates revoked")


def _site(federation: Federation, site: Site, now: datetime) -> Iterator[Verdict]:
    if site.status == "revoked":
        yield ok("plant", f"{site.name} is revoked")
        return
    mend = _renew(federation, site.name)
    public = keys.load_node_public(files.read_bytes(site.folder / NODE_PUBLIC), str(site.folder / NODE_PUBLIC))
    if keys.digest(public) not in site.keys:
        yield fail(
            "plant", f"{site.name}: {NODE_PUBLIC} is not the key that was approved.", "Restore it from a backup."
        )
    leaf = site.certificate()
    certificates.issuer_among(leaf, federation.trusted(now), str(site.folder / CLIENT_CERT))
    yield credentials.lifetime("plant", f"the certificate of {site.name}", leaf, now, mend)
    if not site.compared:
        says = f"nobody compared the fingerprint of {site.name}."
        yield warn(
            "plant", says, f"Let the plant read it out: {site.fingerprint}; `site approve` again, with --fingerprint."
        )


def _gateway(federation: Federation) -> Iterator[Verdict]:
    """Either the port is free, or our own gateway answers on it."""
    port, host = federation.settings.port, federation.settings.hosts[0]
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            if not taken:
                mend = "Choose a `port` above 1023, or give the right to bind it."
                yield fail("gateway", f"port {port} cannot be listened on: {error.strerror}.", mend)
        else:
            yield ok("gateway", f"port {port} is free")
            return
    if taken:
        roots = federation.folder / place.CA_CERT
        found = network.reach(network.Peer("127.0.0.1", port, roots, name=host))
        if any(network.asks_for_certificate(one) for one in found):
            yield ok("gateway", f"a gateway answers on port {port}, and asks plants for their certificates")
        else:
            yield from found
