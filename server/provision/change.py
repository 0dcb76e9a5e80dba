"""What changes a federation: approve, revoke, renew. Each is one change of the folder: whole, or not there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cryptography import x509

from server.provision.federation import (
    CA_CERT,
    CA_CRL,
    CA_KEY,
    CROSS,
    OLD,
    SERVER_CERT,
    SERVER_KEY,
    Federation,
    authority_id,
)
from server.provision.site import CLIENT_CERT, RECORD, SITES, Site
from shared.errors import FileTrouble
from shared.pki import certificates, files, keys
from shared.pki.files import Change, changing
from shared.pki.request import NODE_PUBLIC, TLS_REQUEST, SiteRequest, read_signing_request
from shared.pki.trouble import CertificateUnusable, RequestRefused


def approve(federation: Federation, request: SiteRequest, now: datetime, heard: str | None = None,
            replaces: bool = False) -> Site:  # fmt: skip
    """Give a plant its certificate and a place in the roster.

    Args:
        federation: held by `opened`.
        request: checked by `read_request`.
        now: the time.
        heard: the fingerprint that the plant read out; None when nobody compared it. The same request again, with
            it, makes up for that.
        replaces: the name was revoked and comes back with new keys.

    Raises:
        RequestRefused: the fingerprints differ, or the name or a key is taken.
        TrustError: the authority cannot issue.
    """
    if heard is not None and not keys.same_spoken(heard, request.fingerprint):
        cause = f"the fingerprint of {request.name}'s request is {request.fingerprint}, not {heard[:60]!r}."
        raise RequestRefused(cause, "If the plant reads out another one, somebody changed the request on its way.")
    if heard is not None and (known := _not_compared(federation, request)) is not None:
        site = replace(known, compared=True)
        with changing(federation.folder) as change:
            change.write(site.file(RECORD), site.render())
        return site
    before = _refuse_taken(federation, request, replaces)
    federation.check_issuing(now)
    key = federation.key()
    public = read_signing_request(request.csr, request.name)
    authority, name = federation.authority, federation.settings.name
    certificate = certificates.issue_client(public, request.name, name, authority, key, now)
    digests = (request.node_digest, request.tls_digest)
    known = replace(before, keys=(*before.keys, *digests)) if before else None
    fresh = known or Site(request.name, "approved", "", False, digests, (), federation.folder / SITES / request.name)
    site = replace(fresh, status="approved", fingerprint=request.fingerprint, compared=heard is not None)
    site = site.given(certificate, authority, now)
    with changing(federation.folder) as change:
        change.write(site.file(NODE_PUBLIC), f"{request.node_line}\n".encode())
        change.write(site.file(TLS_REQUEST), request.csr)
        _write_site(change, site, certificate)
    return site


def _not_compared(federation: Federation, request: SiteRequest) -> Site | None:
    """The plant that was approved by this very request, while nobody had compared its fingerprint."""
    site, digests = federation.sites.get(request.name), {request.node_digest, request.tls_digest}
    if site is None or site.status != "approved" or site.compared or site.fingerprint != request.fingerprint:
        return None
    return site if digests <= set(site.keys) else None


def _refuse_taken(federation: Federation, request: SiteRequest, replaces: bool) -> Site | None:
    """The revoked plant whose name is taken over, if any."""
    for site in federation.sites.values():
        if {request.node_digest, request.tls_digest} & set(site.keys):
            raise RequestRefused(f"a key of {request.name}'s request is already that of {site.name} ({site.status}).")
    same = [site for name, site in federation.sites.items() if name.lower() == request.name.lower()]
    if not same:
        return None
    if same[0].status == "revoked" and same[0].name == request.name and replaces:
        return same[0]
    cure = "Let the plant choose another name; a revoked plant comes back under its name with --replace."
    raise RequestRefused(f"there is a plant {same[0].name!r} already ({same[0].status}).", cure)


def _write_site(change: Change, site: Site, certificate: x509.Certificate) -> None:
    change.write(site.file(CLIENT_CERT), certificates.pem(certificate))
    change.write(site.file(RECORD), site.render())


def revoke(federation: Federation, name: str, now: datetime) -> Site:
    """Take a plant's certificates back: the coordinator shuts it out when it next looks.

    Raises:
        UnknownName: there is no such plant.
        TrustError: the authority cannot sign the list.
    """
    site = federation.site(name)
    if site.status == "revoked":
        raise FileTrouble(f"{name} is revoked already.", "`crossplant provision site list` shows every plant.")
    site = site.taken_back(now)
    after = replace(federation, sites=federation.sites | {name: site})
    authorities = federation.trusted(now)
    signers = [
        (one, federation.key() if one is federation.authority else federation.old_key(one)) for one in authorities
    ]
    with changing(federation.folder) as change:
        change.write(site.file(RECORD), site.render())
        change.write(CA_CRL, _crls(after, signers, now))
    return site


def _crls(federation: Federation, signers: Iterable[tuple[x509.Certificate, keys.PrivateKey]], now: datetime) -> bytes:
    lists = []
    for authority, key in signers:
        mine = certificates.key_of(authority)
        every = (one for site in federation.sites.values() for one in site.certificates)
        revoked = [(int(one.serial, 16), one.revoked) for one in every if one.revoked and one.authority == mine]
        lists.append(certificates.make_crl(authority, key, revoked, now))
    return certificates.pem_crl(lists)


# ---- renewal ----


@dataclass(frozen=True)
class _Issuer:
    """Who signs from now on, and what its server certificate needs beside itself."""

    federation: Federation
    authority: x509.Certificate
    key: keys.PrivateKey
    cross: x509.Certificate | None


def renew(federation: Federation, what: Iterable[str], now: datetime) -> list[str]:
    """Issue the server's and plants' certificates anew, for the keys they have.

    Args:
        federation: held by `opened`.
        what: `server` and names of plants.
        now: the time.

    Returns:
        what was renewed, in words.

    Raises:
        UnknownName: there is no such plant.
        CertificateUnusable: the plant is revoked.
        TrustError: the authority cannot issue.
    """
    names = list(dict.fromkeys(what))
    if not names:
        return []
    federation.check_issuing(now)
    issuer = _Issuer(federation, federation.authority, federation.key(), federation.crossed(now))
    with changing(federation.folder) as change:
        return [_renew_one(change, issuer, one, now) for one in names]


def _renew_one(change: Change, issuer: _Issuer, what: str, now: datetime) -> str:
    if what == "server":
        return _renew_server(change, issuer, now)
    site = issuer.federation.site(what)
    if site.status == "revoked":
        raise CertificateUnusable(f"{what} is revoked.", "Let it make new keys, and approve them with --replace.")
    public = read_signing_request(files.read_bytes(site.folder / TLS_REQUEST), what)
    if keys.digest(public) not in site.keys:
        cause = f"{site.folder / TLS_REQUEST} is not the request that was approved."
        raise RequestRefused(cause, "Restore it from a backup.")
    name = issuer.federation.settings.name
    certificate = certificates.issue_client(public, what, name, issuer.authority, issuer.key, now)
    _write_site(change, site.given(certificate, issuer.authority, now), certificate)
    return f"{what}: until {certificate.not_valid_after_utc:%Y-%m-%d}"


def _renew_server(change: Change, issuer: _Issuer, now: datetime) -> str:
    federation = issuer.federation
    path = federation.folder / SERVER_KEY
    public = keys.load_private(files.read_bytes(path), str(path)).public_key()
    hosts, name = federation.settings.hosts, federation.settings.name
    leaf = certificates.issue_server(public, hosts, name, issuer.authority, issuer.key, now)
    change.write(SERVER_CERT, certificates.pem(leaf, *([issuer.cross] if issuer.cross else [])))
    return f"server: until {leaf.not_valid_after_utc:%Y-%m-%d}, for {', '.join(hosts)}"


def due(federation: Federation, now: datetime) -> list[str]:
    """What lapses within 30 days: `server` and approved plants."""
    path = federation.folder / SERVER_CERT
    server = certificates.load_bundle(files.read_bytes(path), str(path))[0]
    soon = now + certificates.WARN_BEFORE
    plants = [site.name for site in federation.sites.values() if site.status == "approved" and site.until < soon]
    return (["server"] if server.not_valid_after_utc < soon else []) + plants


def renew_authority(federation: Federation, now: datetime, overlap: timedelta) -> list[str]:
    """Replace the authority: a new key and certificate, the server and every approved plant issued anew by it.

    While the two overlap, both are trusted: the bundle holds the new one and the old one, the latter in a copy that
    lapses by itself when the overlap ends; the server shows its new certificate with the new authority signed over by
    the old one, so plants that still have the old bundle accept it. Without an overlap every plant is cut off until it
    has installed a new kit: for a key that was stolen.

    Raises:
        CertificateUnusable: an earlier overlap has not ended.
        TrustError: the present authority cannot sign.
    """
    if len(federation.trusted(now)) > 1 and overlap:
        ends = federation.bundle[1].not_valid_after_utc
        cause = f"the authority was renewed already, and its predecessor is trusted until {ends:%Y-%m-%d}."
        raise CertificateUnusable(cause, "Wait until then, or cut every old kit off with --overlap-days 0.")
    federation.check_clock(now)
    name, key = federation.settings.name, keys.new_key()
    successor = certificates.make_authority(name, key, now)
    until = min(now + overlap, federation.authority.not_valid_after_utc)
    signers = [(successor, key)]
    cross = None
    with changing(federation.folder) as change:
        if overlap:
            federation.check_issuing(now)
            before = federation.key()
            short = certificates.shorten(federation.authority, before, now, until)
            cross = certificates.cross_sign(successor, short, before, now, until)
            signers.append((short, before))
            _keep_old(change, short, before)
            change.write(CROSS, certificates.pem(cross))
        change.write(CA_CERT, certificates.pem(*(one for one, _ in signers)))
        change.write(CA_KEY, keys.private_pem(key, keys.passphrase_from_environment()), files.PRIVATE)
        change.write(CA_CRL, _crls(federation, signers, now))
        issuer = _Issuer(federation, successor, key, cross)
        approved = [site.name for site in federation.sites.values() if site.status == "approved"]
        renewed = [_renew_one(change, issuer, one, now) for one in ("server", *approved)]
    _forget_old(federation, keep=authority_id(federation.authority) if overlap else None)
    return [f"authority: until {successor.not_valid_after_utc:%Y-%m-%d}", *renewed]


def _keep_old(change: Change, authority: x509.Certificate, key: keys.PrivateKey) -> None:
    """The old key signs what is revoked until the overlap ends."""
    locked = keys.private_pem(key, keys.passphrase_from_environment())
    change.write(f"{OLD}/{authority_id(authority)}.key", locked, files.PRIVATE)


def _forget_old(federation: Federation, keep: str | None) -> None:
    """Keys of earlier authorities that nobody trusts any more."""
    for path in (federation.folder / OLD).glob("*.key"):
        if path.stem != keep:
            path.unlink(missing_ok=True)
    if keep is None:
        (federation.folder / CROSS).unlink(missing_ok=True)
