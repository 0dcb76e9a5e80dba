"""The coordinator knows its own gateway, whatever names plants dial."""

from __future__ import annotations

from pathlib import Path

from server.provision.federation import create
from server.run.doorstep import tls
from server.run.gateway import gateway
from server.run.place import Endpoint, ServerPlace
from shared.pki import certificates
from tests.support.pki import healthy_answer, served


def federation(tmp_path: Path, name: str) -> ServerPlace:
    return ServerPlace.of(create(tmp_path / name, name, ["fl.example.org"], 9443, certificates.utc_now()).folder)


def ready(place: ServerPlace, shown: ServerPlace) -> bool:
    """Whether the supervisor of `place` takes what answers with the certificate of `shown` for its gateway."""
    with served(tls(shown.certificate, shown.key), healthy_answer()) as seen:
        spec = gateway(place, Endpoint("127.0.0.1:1", place.loopback_certificate, seen.port, 1), "0.0.0.0")
        return spec.ready is not None and spec.ready()


def test_a_certificate_without_the_loopback_address_will_do(tmp_path: Path) -> None:
    place = federation(tmp_path, "water")
    assert ready(place, place)


def test_another_authoritys_will_not(tmp_path: Path) -> None:
    assert not ready(federation(tmp_path, "water"), federation(tmp_path, "power"))
