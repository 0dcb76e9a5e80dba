"""The Grafana board and the alert rules speak of nothing that the program does not export, and docs tell all of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from client.agent import metrics as agent
from client.edge.sinks import prometheus as edge
from server.console.exported import FAMILIES
from tests.conftest import REPOSITORY
from tests.support import pki, promql
from tests.support.deploy import DEPLOY
from tests.unit.test_agent_metrics import entry, metrics
from tests.unit.test_edge_metrics import everything

FOREIGN = {"up": {"job", "instance"}}
"""What Prometheus itself knows."""
TARGET = frozenset({"job", "instance"})
AGENT_LABELS = {
    "requests_total": {"kind", "verdict"},
    "refusals_total": {"code"},
    "busy_seconds_total": {"kind"},
    "info": {"version", "policy"},
    "round": {"run"},
    "certificate_expiry_timestamp_seconds": {"certificate"},
}
EDGE_LABELS = {
    "alarm_state": {"state"},
    "alarms_total": {"what"},
    "anomalous_total": {"model"},
    "bundle_info": {"bundle"},
    "drift": {"tag"},
    "notices_total": {"kind"},
    "sensor_fault": {"tag", "kind"},
    "swaps_total": {"event"},
    "latency_seconds": {"le"},
    "delivered_total": {"sink"},
    "dropped_total": {"sink"},
    "waiting": {"sink"},
    "sink_up": {"sink"},
}


def exported() -> dict[str, set[str]]:
    """Labels by metric, of all that the program exports; of a histogram the names that are asked for."""
    found = {name: set(family.labels) for name, family in FAMILIES.items()}
    found |= {agent.PREFIX + name: {"plant"} | AGENT_LABELS.get(name, set()) for name in agent.HELP}
    for name, (kind, _) in edge.HELP.items():
        labels = EDGE_LABELS.get(name.removeprefix("crossplant_edge_"), set())
        ends = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
        found |= {f"{name}{end}": labels for end in ends}
    return found | FOREIGN


def check(expression: str) -> promql.Spoken:
    known, spoken = exported(), promql.read(re.sub(r"\$\{?\w+\}?", "x", expression))
    assert spoken.metrics, expression
    assert spoken.metrics <= set(known), spoken.metrics - set(known)
    for metric, label in spoken.pairs:
        assert label in known[metric] | TARGET, (metric, label)
    assert spoken.labels <= TARGET.union(*(known[metric] for metric in spoken.metrics)), expression
    return spoken


# ---- alerts ----


def rules() -> list[dict[str, Any]]:
    whole = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yaml").read_text(encoding="utf-8"))
    assert set(whole) == {"groups"}
    assert all(set(group) == {"name", "rules"} for group in whole["groups"])
    return [rule for group in whole["groups"] for rule in group["rules"]]


def test_the_alerts_that_were_promised_are_there() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names))
    assert set(names) >= {
        "CrossplantRoundOverdue", "CrossplantPlantMissing", "CrossplantPrivacyBudgetNearlySpent",
        "CrossplantCertificateExpiring", "CrossplantDrift", "CrossplantEdgeSilent",
    }  # fmt: skip


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: str(rule["alert"]))
def test_an_alert_speaks_of_what_is_exported_and_says_what_to_do(rule: dict[str, Any]) -> None:
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert re.fullmatch(r"Crossplant[A-Za-z]+", rule["alert"])
    assert re.fullmatch(r"\d+[smhd]", rule.get("for", "1m"))
    assert rule["labels"]["severity"] in ("info", "warning", "critical")
    assert set(rule["annotations"]) == {"summary", "cure"}
    spoken = check(rule["expr"])
    known = exported()
    carried = TARGET.union(*(known[metric] for metric in spoken.metrics))
    for label in re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())):
        assert label in carried, label
    assert rule["annotations"]["summary"].count("{{") == rule["annotations"]["summary"].count("}}")


@pytest.mark.parametrize(
    "wrong",
    [
        "crossplant_run_rond > 1", 'crossplant_run_round{plant="a"} > 1', "crossplant_run_round > (1", "rat(up[5m])",
        "sum by (nobody) (crossplant_run_round)", "1 > 0", "crossplant_run_round @ 1",
    ],
)  # fmt: skip
def test_an_expression_that_is_wrong_is_found(wrong: str) -> None:
    with pytest.raises((AssertionError, ValueError)):
        check(wrong)


def test_the_example_asks_the_jobs_that_the_alerts_speak_of() -> None:
    asked = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yaml").read_text(encoding="utf-8"))
    jobs = {job["job_name"] for job in asked["scrape_configs"]}
    assert jobs == {"crossplant-console", "crossplant-edge", "crossplant-agent"}
    assert asked["rule_files"][0].endswith("/alerts.yaml")
    for rule in rules():
        assert set(re.findall(r'job="([^"]+)"', rule["expr"])) <= jobs


# ---- the board ----


def board() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DEPLOY / "grafana" / "crossplant.json").read_text(encoding="utf-8"))
    return found


def expressions() -> Iterator[tuple[str, str]]:
    for panel in board()["panels"]:
        for target in panel.get("targets", ()):
            yield f"{panel['title']} {target['refId']}", target["expr"]


@pytest.mark.parametrize(("where", "expression"), list(expressions()), ids=lambda text: str(text)[:40])
def test_a_panel_speaks_of_what_is_exported(where: str, expression: str) -> None:
    assert where
    check(expression)


def test_the_boards_variables_speak_of_what_is_exported() -> None:
    variables = {one["name"]: one for one in board()["templating"]["list"]}
    assert set(variables) == {"datasource", "run", "plant"}
    for name in ("run", "plant"):
        found = re.fullmatch(r"label_values\((\w+), (\w+)\)", variables[name]["definition"])
        assert found
        assert found[2] in exported()[found[1]]
        assert variables[name]["query"]["query"] == variables[name]["definition"]


def test_every_panel_has_a_place_a_title_and_the_chosen_source() -> None:
    panels, taken = board()["panels"], set[tuple[int, int]]()
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert panel["title"]
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
        if panel["type"] == "row":
            continue
        assert panel["type"] in ("stat", "timeseries", "table")
        assert panel["description"]
        assert {target["refId"] for target in panel["targets"]} == set("ABCDE"[: len(panel["targets"])])
        for one in (panel, *panel["targets"]):
            assert one["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_the_board_is_one_that_grafana_reads() -> None:
    found = board()
    assert (found["id"], found["uid"], found["title"]) == (None, "crossplant", "Crossplant")
    assert found["schemaVersion"] >= 36
    rows = [panel["title"] for panel in found["panels"] if panel["type"] == "row"]
    assert rows == ["Runs", "Rounds", "Plants", "Privacy", "Certificates", "Edge"]
    assert "http" not in json.dumps(found)  # nothing outside


# ---- the document ----

DOCUMENT = REPOSITORY / "docs" / "metrics-prometheus.md"


def told() -> dict[str, tuple[str, str, str]]:
    """Kind, labels and words of each metric, as the document has them."""
    found = {}
    for line in DOCUMENT.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) == 4 and cells[0].startswith("`crossplant_"):
            assert cells[0].strip("`") not in found, cells[0]
            found[cells[0].strip("`")] = (cells[1], cells[2], cells[3])
    return found


def due() -> dict[str, tuple[str, str, str]]:
    """The same, as the program has them."""
    rows: dict[str, tuple[str, tuple[str, ...], str]] = {
        name: (family.kind, family.labels, family.help) for name, family in FAMILIES.items()
    }
    for name, (kind, words) in agent.HELP.items():
        rows[agent.PREFIX + name] = (kind, ("plant", *sorted(AGENT_LABELS.get(name, ()))), words)
    for name, (kind, words) in edge.HELP.items():
        rows[name] = (kind, tuple(sorted(EDGE_LABELS.get(name.removeprefix("crossplant_edge_"), ()))), words)
    return {
        name: (kind, ", ".join(f"`{label}`" for label in labels) or "–", words)
        for name, (kind, labels, words) in rows.items()
    }


def test_the_document_tells_every_metric_as_it_is() -> None:
    assert told() == due()


def labels_of(text: str, prefix: str) -> dict[str, set[str]]:
    """Labels by metric in a text that Prometheus would scrape."""
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            name = re.sub(r"_(bucket|sum|count)$", "", sample.name.removeprefix(prefix))
            found.setdefault(name, set()).update(sample.labels)
    return found


def test_the_labels_are_those_that_samples_have(tmp_path: Path) -> None:
    at_the_edge = labels_of(everything().text(), "crossplant_edge_")
    assert {name: labels for name, labels in at_the_edge.items() if labels} == EDGE_LABELS
    one = metrics(tmp_path, certificates={"authority": pki.make(tmp_path, pki.NOW) / "ca" / "ca.crt"})
    one.begin()
    one.take(entry(), {})
    one.take(entry(verdict="refused", code="CP-603 kind"), {})
    at_a_plant = labels_of(one.text(), agent.PREFIX)
    more = {name: labels - {"plant"} for name, labels in at_a_plant.items()}
    assert all("plant" in labels for labels in at_a_plant.values())
    assert {name: labels for name, labels in more.items() if labels} == AGENT_LABELS


def test_names_keep_to_prometheus_own_conventions() -> None:
    for name, (kind, _, words) in due().items():
        assert re.fullmatch(r"crossplant_[a-z]+(_[a-z]+)*", name)
        assert name.endswith("_total") == (kind == "counter"), name
        assert not re.search(r"_(ms|milliseconds|minutes|hours|kb|mb)(_|$)", name), name
        assert words.endswith("."), name
