"""What a running coordinator looks after: renewed and revoked certificates, plants' keys, certificates that lapse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from server.provision.change import renew, revoke
from server.provision.federation import opened
from server.run import serve as running
from server.run.gateway import gateway, main
from server.run.place import Endpoint, ServerPlace
from server.run.serve import ServeSettings, _Keeper
from shared.errors import InvalidConfig
from shared.service_errors import ProcessFailed, ServerUnreachable
from shared.supervise import Spec
from tests.support.pki import NOW, take_in


@dataclass
class FakeChildren:
    """A supervisor that remembers."""

    did: list[str] = field(default_factory=list)
    trouble: ProcessFailed | None = None

    def end(self, name: str) -> None:
        self.did.append(f"end {name}")

    def start(self, spec: Spec) -> None:
        self.did.append(f"start {spec.name}")
        if self.trouble is not None:
            raise self.trouble


@dataclass
class Desk:
    """A keeper, what it did and what it said."""

    keeper: _Keeper
    children: FakeChildren
    said: list[str]
    reconciled: list[int]

    def look(self) -> None:
        self.keeper._due = 0.0
        assert self.keeper.look() is False


@pytest.fixture
def desk(fed: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A coordinator of a federation with one plant; its SuperLink is made up."""
    take_in(fed, "north", NOW)
    said: list[str] = []
    reconciled: list[int] = []
    monkeypatch.setattr(running, "Control", lambda endpoint: cast("Any", _Closed()))

    def reconcile(control: object, sites: tuple[object, ...]) -> list[str]:
        reconciled.append(len(sites))
        return []

    monkeypatch.setattr(running, "reconcile", reconcile)
    monkeypatch.setattr(running, "build_bundle", lambda: b"")
    monkeypatch.setattr(running, "Reaper", lambda *_, **__: cast("Any", _Closed()))
    place = ServerPlace.of(fed)
    place.prepare()
    children = FakeChildren()
    endpoint = Endpoint("127.0.0.1:1", place.loopback_certificate, 9443, 1)
    settings = ServeSettings(place, "127.0.0.1", 9443, str(fed), mutual=True)
    return Desk(_Keeper(settings, endpoint, cast("Any", children), said.append), children, said, reconciled)


class _Closed:
    """Nothing to look at."""

    def close(self) -> None: ...

    def look(self, control: object) -> None: ...


def change(desk: Desk, what: Callable[[Any], object]) -> None:
    with opened(desk.keeper._settings.place.root) as federation:
        what(federation)


def test_nothing_is_done_while_nothing_changes(desk: Desk) -> None:
    desk.look()
    desk.look()
    assert desk.children.did == []
    assert desk.reconciled == [1, 1]


def test_a_renewed_server_certificate_starts_the_gateway_anew_once(desk: Desk) -> None:
    change(desk, lambda federation: renew(federation, ["server"], NOW))
    desk.look()
    desk.look()
    assert desk.children.did == ["end gateway", "start gateway"]
    assert desk.said == ["The gateway was started anew with the certificates of now."]


def test_a_revoked_plant_starts_the_gateway_anew_and_its_key_goes(desk: Desk) -> None:
    change(desk, lambda federation: revoke(federation, "north", NOW))
    desk.look()
    assert desk.children.did == ["end gateway", "start gateway"]
    assert desk.reconciled == [1]


def test_a_plants_renewed_certificate_cuts_nobody_off(desk: Desk) -> None:
    change(desk, lambda federation: renew(federation, ["north"], NOW))
    desk.look()
    assert desk.children.did == []


def test_a_gateway_that_does_not_start_keeps_keys_from_being_looked_at_once_only(desk: Desk) -> None:
    """Files may be half renewed at that moment; the supervisor goes on starting it."""
    desk.children.trouble = ProcessFailed("gateway ended before it served.", "See its log.")
    change(desk, lambda federation: renew(federation, ["server"], NOW))
    desk.look()
    assert (len(desk.said), desk.reconciled) == (1, [])
    desk.look()
    assert desk.reconciled == [1]
    assert desk.children.did == ["end gateway", "start gateway"]


def test_a_superlink_that_is_away_is_said_once_and_never_ends_the_watch(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(endpoint: Endpoint) -> object:
        raise ServerUnreachable("the SuperLink cannot be reached.")

    monkeypatch.setattr(running, "Control", away)
    for _ in range(3):
        desk.look()
    assert len(desk.said) == 1


def test_a_folder_of_plants_that_is_gone_shuts_nobody_out(desk: Desk) -> None:
    """It may be on a disk that is not mounted just now, and Flower takes no key again that it shut out."""
    sites = desk.keeper._settings.place.sites
    sites.rename(sites.with_name("elsewhere"))
    for _ in range(2):
        desk.look()
    assert desk.reconciled == []
    assert len(desk.said) == 1
    assert "is gone: plants stay as they are" in desk.said[0]


def test_runs_go_on_while_a_plants_record_is_damaged(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[object] = []
    monkeypatch.setattr(desk.keeper._reaper, "look", looked.append)
    (desk.keeper._settings.place.sites / "north" / "site.toml").write_text("damaged")
    desk.look()
    assert len(looked) == 1
    assert "site.toml says no status" in desk.said[0]


def test_what_cannot_be_done_for_a_plant_is_said_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["plant 'north' cannot be let in"]
    monkeypatch.setattr(running, "reconcile", lambda control, sites: lines)
    for _ in range(3):
        desk.look()
    assert desk.said == lines


def test_certificates_that_lapse_soon_are_said_once_a_day(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.look()
    assert desk.said == []
    clock = [0.0]
    monkeypatch.setattr(running, "utc_now", lambda: NOW + timedelta(days=340))
    monkeypatch.setattr("server.run.serve.time.monotonic", lambda: clock[0])
    for clock[0] in (1e6, 1e6 + 3600, 1e6 + 90_000):
        desk.look()
    assert len(desk.said) == 2
    assert "lapse soon: server, north" in desk.said[0]


def test_insecure_and_mutual_contradict_each_other(fed: Path) -> None:
    settings = ServeSettings(ServerPlace.of(fed), "127.0.0.1", 0, str(fed), insecure=True, mutual=True)
    with pytest.raises(InvalidConfig, match="contradict"):
        running.serve(settings, lambda: True, print)


def test_a_gateway_without_its_list_of_revoked_plants_does_not_start(
    fed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the list it would let everybody in who was ever approved."""
    place = ServerPlace.of(fed)
    place.revoked.unlink()
    spec = gateway(place, Endpoint("127.0.0.1:1", None, 0, 1), "127.0.0.1", mutual=True)
    assert str(place.revoked) in spec.command
    files = ["--certificate", str(place.certificate), "--key", str(place.key), "--client-ca", str(place.ca)]
    assert main(["--upstream", "http://x", "--port", "0", *files, "--revoked", str(place.revoked)]) == 1
    assert "the certificates cannot be used" in capsys.readouterr().err
