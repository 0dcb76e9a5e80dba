"""A federation over mutual TLS whose server is renewed, and one of whose plants is revoked, while a run goes on."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.rounds import RoundRecord
from tests.support.command import crossplant_here
from tests.support.network import Network, network

pytestmark = pytest.mark.network

ROUNDS = 200
"""More than there is time for: the federation is ended when the tests are over."""


@pytest.fixture(scope="module")
def mutual(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """Three plants in a run, behind a gateway that asks for certificates."""
    flags = ("--mutual-tls", "--set", "rounds.grace_s=5", "--set", "rounds.deadline_s=40")
    with network(tmp_path_factory.mktemp("mutual"), 3, ROUNDS, *flags) as there:
        there.wait_for_round(2)
        yield there


def federation(there: Network) -> Path:
    return there.out / "federation"


def gateway_log(there: Network) -> str:
    return (federation(there) / "run/log/gateway.log").read_text()


def accepted(record: RoundRecord) -> set[str]:
    return {report.plant for report in record.plants if report.accepted}


def go_on(there: Network, plants: set[str], rounds: int = 2) -> None:
    """Wait until so many more rounds are committed with these plants."""
    begun = len(there.records()) + 1  # one is under way
    there.wait(
        lambda: sum(accepted(one) >= plants for one in there.records()[begun:]) >= rounds, 90, f"round of {plants}"
    )


def test_rounds_are_committed_over_mutual_tls(mutual: Network) -> None:
    go_on(mutual, {"plant-1", "plant-2", "plant-3"}, 1)
    assert "refused" not in gateway_log(mutual)


def test_a_renewed_server_certificate_is_shown_and_the_run_goes_on(mutual: Network) -> None:
    port = json.loads((mutual.out / "poc.json").read_text())["port"]
    before = ssl.get_server_certificate(("127.0.0.1", port), timeout=10)
    done = crossplant_here("provision", "renew", federation(mutual), "server")
    assert done.returncode == 0, done.stderr
    new = (federation(mutual) / "server/server.crt").read_text().strip()
    assert before.strip() != new

    def shown() -> bool:
        try:
            return ssl.get_server_certificate(("127.0.0.1", port), timeout=10).strip() == new
        except OSError:
            return False

    mutual.wait(shown, 20, "new certificate")
    go_on(mutual, {"plant-1", "plant-2", "plant-3"})
    assert "was started anew" in (mutual.out / "log/server.log").read_text()


def test_a_plant_revoked_during_a_run_is_shut_out_and_the_others_go_on(mutual: Network) -> None:
    gone = mutual.out / "plants/plant-2"
    done = crossplant_here("provision", "site", "revoke", federation(mutual), "plant-2")
    assert done.returncode == 0, done.stderr
    begin = time.monotonic()
    mutual.wait(lambda: "'plant-2' is shut out" in (mutual.out / "log/server.log").read_text(), 20, "unregistration")
    mutual.wait(lambda: "in the name of 'plant-2'" in gateway_log(mutual), 30, "refusal at the gateway")
    assert time.monotonic() - begin < 30
    last = len(mutual.records()) + 1  # the round under way may have its answer from before
    says = "this plant's certificate is revoked"
    log = gone / "home/log/supernode.log"
    mutual.wait(lambda: says in log.read_text(), 40, "a reason in the plant's log")
    go_on(mutual, {"plant-1", "plant-3"})
    assert not any("plant-2" in accepted(one) for one in mutual.records()[last:])
    assert says in crossplant_here("client", "status", "--config", gone / "plant.toml").stdout
    assert says in (mutual.out / "log/plant-2.log").read_text()
