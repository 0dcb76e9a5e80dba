"""An agent's metrics file: fixed names, counts that are right, and nothing from outside that makes it grow."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from client.agent.audit import AuditLog
from client.agent.config import read_plant
from client.agent.guard import CallStop, Guard
from client.agent.ledger import Ledger
from client.agent.metrics import HELP, PREFIX, AgentMetrics
from client.agent.policy import Facts, Policy
from client.agent.service import PlantAgent
from shared.privacy.accounting import Event
from shared.privacy.ledger import PrivacyLedger, Release, read_bound
from shared.wire.envelope import Packet, RawArray
from shared.wire.frame import decode_frame, encode_frame
from tests.support import agents, pki
from tests.support.tampering import sites

FROZEN = """
crossplant_agent_budget_rounds_day_limit gauge
crossplant_agent_budget_rounds_today gauge
crossplant_agent_busy_seconds_total counter
crossplant_agent_calibrated gauge
crossplant_agent_certificate_expiry_timestamp_seconds gauge
crossplant_agent_holdout_loss gauge
crossplant_agent_info gauge
crossplant_agent_last_answer_timestamp_seconds gauge
crossplant_agent_last_request_timestamp_seconds gauge
crossplant_agent_privacy_epsilon_budget gauge
crossplant_agent_privacy_epsilon_spent gauge
crossplant_agent_received_bytes_total counter
crossplant_agent_refusals_total counter
crossplant_agent_requests_total counter
crossplant_agent_round gauge
crossplant_agent_sent_bytes_total counter
crossplant_agent_start_timestamp_seconds gauge
crossplant_agent_train_loss gauge
"""
NOW_S = 1_795_000_000.0


def metrics(folder: Path, **more: object) -> AgentMetrics:
    ledger = Ledger(folder / "ledger.json", Policy().budget)
    given: dict[str, object] = {"privacy": folder / "privacy" / "north", "clock": lambda: NOW_S, **more}
    return AgentMetrics(folder / "metrics.prom", "north", "0123", ledger, **given)  # type: ignore[arg-type]


def entry(**changed: object) -> dict[str, object]:
    said = {"kind": "train", "verdict": "answered", "code": "", "run": "r", "round": 3}
    return {**said, "bytes_in": 100, "bytes_out": 50, "seconds": 0.25, **changed}


def read(folder: Path) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """The file as Prometheus' own parser reads it, without the label that every sample has."""
    found = {}
    for family in text_string_to_metric_families((folder / "metrics.prom").read_text(encoding="utf-8")):
        for sample in family.samples:
            labels = dict(sample.labels)
            assert labels.pop("plant") == "north"
            found[sample.name.removeprefix(PREFIX), tuple(sorted(labels.items()))] = sample.value
    return found


def test_the_names_are_frozen() -> None:
    assert sorted(f"{PREFIX}{name} {kind}" for name, (kind, _) in HELP.items()) == FROZEN.split("\n")[1:-1]


def test_requests_refusals_bytes_and_seconds_are_counted(tmp_path: Path) -> None:
    one = metrics(tmp_path)
    one.begin()
    one.take(entry(), {"holdout_loss": 0.5, "train_loss": 0.25})
    one.take(entry(round=4), {"holdout_loss": 0.4})
    one.take(entry(verdict="refused", code="CP-603 hours until 2026-11-22T18:00Z", round=5), {})
    found = read(tmp_path)
    assert found["requests_total", (("kind", "train"), ("verdict", "answered"))] == 2
    assert found["requests_total", (("kind", "train"), ("verdict", "refused"))] == 1
    assert found["refusals_total", (("code", "CP-603 hours"),)] == 1
    assert found["busy_seconds_total", (("kind", "train"),)] == 0.75
    assert (found["received_bytes_total", ()], found["sent_bytes_total", ()]) == (300, 150)
    assert found["round", (("run", "r"),)] == 4
    assert (found["holdout_loss", ()], found["train_loss", ()]) == (0.4, 0.25)
    assert found["last_request_timestamp_seconds", ()] == NOW_S
    assert found["start_timestamp_seconds", ()] == NOW_S


def test_what_a_server_invents_does_not_make_the_file_grow(tmp_path: Path) -> None:
    one = metrics(tmp_path)
    for i in range(300):
        one.take(entry(kind=f"k{i}", run=f'r{i}\n"}} 1'), {})
        one.take(entry(kind=f"k{i}", verdict="refused", code=f"CP-{i} x"), {})
    found = read(tmp_path)
    assert {labels for name, labels in found if name == "busy_seconds_total"} == {(("kind", "unknown"),)}
    assert [labels for name, labels in found if name == "round"] == [(("run", 'r299\n"} 1'),)]
    assert sum(name == "refusals_total" for name, _ in found) == 100
    one.take(entry(verdict="refused", code="CP-7 x"), {})
    assert read(tmp_path)["refusals_total", (("code", "CP-7 x"),)] == 2, "a code that is known counts on"
    assert (tmp_path / "metrics.prom").stat().st_size < 20_000


def test_a_figure_that_is_not_finite_is_left_out(tmp_path: Path) -> None:
    one = metrics(tmp_path)
    one.take(entry(), {"holdout_loss": float("nan"), "train_loss": float("inf")})
    assert not {name for name, _ in read(tmp_path)} & {"holdout_loss", "train_loss"}


def test_the_budgets_stand_beside_what_was_spent(tmp_path: Path) -> None:
    one = metrics(tmp_path)
    charged = PrivacyLedger(tmp_path / "privacy" / "north")
    charged.charge(Release("r", 1, "weights", "0" * 64, Event(9.0, 1.0, 1), 1e-5, "row", "2026-11-22"), 3.0)
    one.take(entry(), {})
    found = read(tmp_path)
    assert found["privacy_epsilon_budget", ()] == 3.0
    assert found["privacy_epsilon_spent", ()] == read_bound(tmp_path / "privacy" / "north")[0] > 0.1
    assert found["budget_rounds_today", ()] == 0
    assert found["budget_rounds_day_limit", ()] == Policy().budget.rounds_a_day


def test_a_broken_privacy_ledger_leaves_its_figures_out(tmp_path: Path) -> None:
    folder = tmp_path / "privacy" / "north"
    PrivacyLedger(folder)
    (folder / "ledger.jsonl").write_bytes(b"{}\n")
    metrics(tmp_path).take(entry(), {})
    assert not [name for name, _ in read(tmp_path) if name.startswith("privacy")]


def test_a_certificate_that_the_agent_may_read_has_its_end_in_the_file(tmp_path: Path) -> None:
    authority = pki.make(tmp_path, pki.NOW) / "ca" / "ca.crt"
    torn = tmp_path / "torn.crt"
    torn.write_bytes(b"-----BEGIN CERTIFICATE-----")
    more = {"authority": authority, "client": tmp_path / "none.crt", "torn": torn}
    metrics(tmp_path, certificates=more).begin()
    (found,) = [(labels, value) for (name, labels), value in read(tmp_path).items() if name.startswith("certificate")]
    assert found[0] == (("certificate", "authority"),)
    assert found[1] > pki.NOW.timestamp() + 86_400


def test_the_file_is_replaced_as_a_whole_and_can_be_read_by_others(tmp_path: Path) -> None:
    one = metrics(tmp_path)
    one.begin()
    before = (tmp_path / "metrics.prom").open("rb")
    one.take(entry(), {})
    with before:
        assert b"requests_total{" not in before.read()
    assert stat.S_IMODE((tmp_path / "metrics.prom").stat().st_mode) == 0o644
    assert {path.name for path in tmp_path.iterdir()} == {"metrics.prom"}


def guard(folder: Path, policy: dict[str, object], path: Path) -> Guard:
    found, stop = Policy.model_validate(policy), CallStop()
    ledger = Ledger(folder / "ledger.json", found.budget)
    one = AgentMetrics(path, "north", found.digest, ledger, folder / "privacy")
    facts = Facts(rows=110, schema="0123456789abcdef", plant="north")
    return Guard(PlantAgent(sites()[0], stop=stop), found, facts, ledger, AuditLog(folder / "audit"), stop, metrics=one)


def test_a_guard_tells_what_it_answered_and_refused(tmp_path: Path) -> None:
    keeper = guard(tmp_path, {"caps": {"hidden": 8}, "budget": {"rounds_a_run": 1}}, tmp_path / "metrics.prom")
    answer = decode_frame(keeper.handle(encode_frame(agents.train("r", 2))))
    keeper.handle(encode_frame(agents.train("r", 3)))
    keeper.handle(b"garbage")
    found = read(tmp_path)
    assert found["holdout_loss", ()] == answer.numbers["holdout_loss"]
    assert found["refusals_total", (("code", "CP-603 budget"),)] == 1
    assert found["refusals_total", (("code", "CP-501 BadPayload"),)] == 1
    assert found["requests_total", (("kind", "unknown"), ("verdict", "refused"))] == 1
    assert found["budget_rounds_today", ()] == 1
    assert found["round", (("run", "r"),)] == 2


def test_a_file_that_cannot_be_written_keeps_nobody_from_the_answer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keeper = guard(tmp_path, {}, tmp_path / "no" / "such" / "metrics.prom")
    for number in (2, 3):
        answer = decode_frame(keeper.handle(encode_frame(agents.train("r", number))))
        assert "weights" in "".join(answer.arrays)
    assert caplog.text.count("cannot write") == 1


def test_an_error_in_the_metrics_keeps_nobody_from_the_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(AgentMetrics, "take", fail)
    keeper = guard(tmp_path, {}, tmp_path / "metrics.prom")
    assert "refused" not in decode_frame(keeper.handle(encode_frame(agents.describe()))).texts


def test_an_agents_process_writes_the_file_before_it_is_ready_and_after_each_request(tmp_path: Path) -> None:
    shared = tmp_path / "textfile"
    shared.mkdir()
    config = agents.make_plant(tmp_path / "plant", extra='[agent]\nmetrics = "../textfile/metrics.prom"\n')
    with agents.running(config) as running:
        begun = read(shared)
        running.ask(agents.describe())
        running.ask(Packet({"weights/x": RawArray("float32", (1,), b"xxxx")}, {}, {"run": "odd"}))
        found = read(shared)
    assert [labels for name, labels in begun if name == "info"]
    assert not any(name == "requests_total" for name, _ in begun)
    assert found["requests_total", (("kind", "describe"), ("verdict", "answered"))] == 1
    assert found["requests_total", (("kind", "unknown"), ("verdict", "refused"))] == 1


def test_the_file_lies_in_the_home_unless_a_plant_says_otherwise(tmp_path: Path) -> None:
    assert read_plant(agents.make_plant(tmp_path)).metrics == tmp_path / "home" / "metrics.prom"
    elsewhere = agents.make_plant(tmp_path, extra='[agent]\nmetrics = "/var/lib/textfile/north.prom"\n')
    assert read_plant(elsewhere).metrics == Path("/var/lib/textfile/north.prom")
