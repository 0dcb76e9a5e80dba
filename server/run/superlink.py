"""The SuperLink and the executor of its ServerApps: on loopback, with TLS, node keys and a secret for claiming tasks.

Open-source Flower knows no users: whoever reaches the SuperLink's port submits code, registers keys and claims tasks.
So it binds loopback, and plants reach `server.run.gateway` only. ServerApps run under an executor of their own
("process isolation"): with the SuperLink's database this is what lets a run outlive a SuperLink that was killed.
"""

from __future__ import annotations

import secrets
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from server.notice import WAITS
from server.run.place import Endpoint, ServerPlace
from server.run.runs import NOTES
from shared.disk import replace_file
from shared.flower_process import LOOPBACK, environment, healthy, script
from shared.service_errors import ServerStateDamaged
from shared.supervise import Spec

_LOOPBACK_DAYS = 3650  # made anew at every start, which may be years apart
_MOVE_AWAY = (
    "Move it and its -wal and -shm away (mv {path}* /elsewhere) and start again: plants are let in anew by themselves, "
    "and runs go on at their last committed round, which is in the round store."
)


def superlink(place: ServerPlace, endpoint: Endpoint) -> Spec:
    """The SuperLink on `endpoint.address`."""
    port = endpoint.address.rpartition(":")[2]
    command = (script("flower-superlink"), "--host", LOOPBACK, "--port", port, "--database", str(place.database))
    isolation = ("--isolation", "process", "--superexec-auth-secret-file", str(place.secret))
    return Spec(
        "superlink",
        (*command, *isolation, "--disable-runtime-dependency-installation", *_tls(place, endpoint)),
        place.logs / "superlink.log",
        environment(place.run / "flower-superlink"),
        place.run,
        ready=healthy(f"{endpoint.url}/health", endpoint.root),
    )


def _tls(place: ServerPlace, endpoint: Endpoint) -> tuple[str, ...]:
    if endpoint.root is None:
        return ("--insecure",)
    files = ("--ssl-certfile", str(place.loopback_certificate), "--ssl-keyfile", str(place.loopback_key))
    return (*files, "--ssl-ca-certfile", str(endpoint.root), "--enable-supernode-auth")


def executor(place: ServerPlace, endpoint: Endpoint, store: str) -> Spec:
    """What starts a ServerApp process for every run. The store is the server's choice, never a run's.

    Without TLS there are no keys that plants are known by, and a run goes to whoever is connected.
    """
    trust = ("--insecure",) if endpoint.root is None else ("--root-certificates", str(endpoint.root))
    command = (script("flower-superexec"), "--runtime-api-address", endpoint.address, *trust)
    mine = {"CROSSPLANT_STORE": store, "CROSSPLANT_CARRIER": str(place.carrier)} | {WAITS: str(place.waits)}
    mine |= {} if endpoint.root is None else {NOTES: str(place.runs)}
    return Spec(
        "executor",
        (*command, "--superexec-auth-secret-file", str(place.secret)),
        place.logs / "executor.log",
        environment(place.run / "flower-executor") | mine,
        place.run,
    )


def check_database(path: Path) -> None:
    """See that the SuperLink's database is whole, or not there yet: Flower would end with a traceback.

    Raises:
        ServerStateDamaged: it is not. What a federation must keep is in the round store and in the roster.
    """
    if not path.exists():
        return
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=10.0)) as connection:
            said = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.Error as error:
        said = str(error)
    if said != "ok":
        raise ServerStateDamaged(f"{path}: {said.splitlines()[0][:200]}.", _MOVE_AWAY.format(path=path))


def make_private_files(place: ServerPlace) -> None:
    """The executor's secret and the loopback certificate: made anew at every start, they leave this machine never."""
    replace_file(place.secret, secrets.token_hex(32).encode(), 0o600)
    key = ec.generate_private_key(ec.SECP384R1())
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    replace_file(place.loopback_key, key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain), 0o600)
    replace_file(place.loopback_certificate, _self_signed(key).public_bytes(pem), 0o600)


def _self_signed(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "crossplant loopback")])
    names = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address(LOOPBACK)), x509.DNSName("localhost")])
    now, public = datetime.now(UTC), key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=_LOOPBACK_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(names, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(key, hashes.SHA384())
    )
