"""The example settings are read by what will read them, and nginx lets through what the embedded gateway does."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from pathlib import Path
from typing import Any

import crossplane
import pytest
import typer
from flwr.common.constant import TIMESTAMP_HEADER
from flwr.supercore import constant

from client.agent.config import Plant, read_plant
from client.agent.policy import Policy, read_policy
from client.agent.wire import LONGEST_PATH
from client.cli import client_app
from server.console.cli import console_app
from server.console.serve import Listening
from server.console.settings import PORT
from server.run.cli import server_app
from server.run.gateway import _PASSED_IN, FLEET, LARGEST_BODY, LARGEST_CALL, OBJECT, _passes, allowed
from shared.config import TRUSTED, RunConfig, build, read_toml
from shared.preflight.network import REFUSED_HEADER, VERSION_HEADER
from tests.support.charts import objects, one
from tests.support.deploy import DEPLOY, VOLUMES, read_compose

EXAMPLES = DEPLOY / "examples"


def run_of(path: Path) -> RunConfig:
    """As `crossplant server start-run` reads it."""
    return build({"federation": TRUSTED, str(path): read_toml(path)})[0]


def test_the_run_keeps_what_plants_may_trust() -> None:
    rounds = run_of(EXAMPLES / "run.toml").rounds
    assert (rounds.aggregation, rounds.weighting, rounds.vote_every) == ("robust", "uniform", 5)
    assert rounds.grace_s is not None
    assert rounds.grace_s < rounds.deadline_s


def test_the_policy_allows_the_run() -> None:
    policy, run = read_policy(EXAMPLES / "policy.toml"), run_of(EXAMPLES / "run.toml")
    assert policy.detectors is not None
    assert run.recipe.detector.name in policy.detectors
    for cap, asked in {
        "local_epochs": run.recipe.training.local_epochs,
        "batch_size": run.recipe.training.batch_size,
        "window": run.recipe.detector.window,
        "hidden": run.recipe.detector.hidden,
        "layers": run.recipe.detector.layers,
        "latent": run.recipe.detector.latent,
    }.items():
        assert asked <= getattr(policy.caps, cap), cap
    assert run.rounds.pretrain + run.rounds.joint <= policy.budget.rounds_a_run


def test_every_setting_of_the_policy_is_shown() -> None:
    """A setting that an engineer cannot find is one that is not set."""
    text = (EXAMPLES / "policy.toml").read_text(encoding="utf-8")
    for name, field in Policy.model_fields.items():
        written = field.alias or name
        assert re.search(rf"^(# )?\[?{written}\b", text, re.MULTILINE), written


def fits_compose(plant: Plant, part: str) -> None:
    mounted = VOLUMES[part]
    assert str(plant.socket.parent) in mounted
    for path in {"agent": [plant.home, Path(plant.config.data.path)], "relay": []}[part]:
        assert any(path.is_relative_to(target) for target in mounted), path


def test_the_plants_paths_are_mounted_by_compose() -> None:
    plant = read_plant(EXAMPLES / "plant.toml")
    fits_compose(plant, "agent")
    fits_compose(plant, "relay")
    settings = plant.config
    for name in (settings.root_certificates, settings.node_key, settings.client_certificate, settings.client_key):
        assert f"/plant/{name}" in VOLUMES["relay"]
        assert f"/plant/{name}" not in VOLUMES["agent"]
    assert "/plant/policy.toml" in VOLUMES["agent"]
    assert plant.config.group == "crossplant-relay"


@pytest.mark.parametrize("part", ["server", "console", "agent", "relay"])
def test_compose_starts_commands_that_exist(part: str) -> None:
    words = read_compose("server" if part in ("server", "console") else "plant")["services"][part]["command"]
    check_program(words)


@pytest.mark.parametrize("part", ["agent", "relay"])
def test_health_is_asked_with_a_command_that_exists(part: str) -> None:
    _, program, *words = read_compose("plant")["services"][part]["healthcheck"]["test"]
    assert program == "crossplant"
    check_program(words)
    containers = one(objects("crossplant-plant"), "StatefulSet")["spec"]["template"]["spec"]["containers"]
    (mine,) = [container for container in containers if container["name"] == part]
    assert mine["readinessProbe"]["exec"]["command"] == [program, *words]


@pytest.mark.parametrize("name", ["crossplant-server", "crossplant-console", "crossplant-agent@", "crossplant-relay@"])
def test_units_start_commands_that_exist(name: str) -> None:
    text = (DEPLOY / "systemd" / f"{name}.service").read_text(encoding="utf-8")
    words = re.findall(r"^ExecStart=/opt/crossplant/bin/crossplant (.*)$", text, re.MULTILINE)[0].split()
    check_program(words)


@pytest.mark.parametrize("chart", ["crossplant-server", "crossplant-plant"])
def test_charts_start_commands_that_exist(chart: str) -> None:
    values = {"mutualTls": True, "console": {"enabled": True}} if "server" in chart else {}
    pod = one(objects(chart, values), "StatefulSet")["spec"]["template"]
    for container in pod["spec"]["containers"]:
        words = container["args"]
        check_program(words)


def check_program(words: list[str]) -> None:
    """A command line without the program's name, as the program itself would read it."""
    if words[0] == "console":  # it serves without a word more
        typer.main.get_command(console_app).make_context("console", list(words[1:]))
        return
    check_command(typer.main.get_command({"server": server_app, "client": client_app}[words[0]]), words[1:])


@pytest.mark.parametrize("way", ["unit", "compose", "chart"])
def test_a_console_that_others_reach_has_tls_in_front_of_it_and_believes_one_proxy(way: str) -> None:
    """By the console's own rule: it refuses to listen beyond the machine without."""
    chart = one(objects("crossplant-server", {"console": {"enabled": True}}), "StatefulSet")["spec"]["template"]
    text = (DEPLOY / "systemd" / "crossplant-console.service").read_text(encoding="utf-8")
    words = {
        "unit": re.findall(r"^ExecStart=/opt/crossplant/bin/crossplant (.*)$", text, re.MULTILINE)[0].split(),
        "compose": read_compose("server")["services"]["console"]["command"],
        "chart": chart["spec"]["containers"][1]["args"],
    }[way]
    given = typer.main.get_command(console_app).make_context("console", list(words[1:])).params
    names = tuple(given["allow_host"] or ())
    listening = Listening(
        given["host"], given["port"], proxies=tuple(given["behind_proxy"] or ()), names=names
    ).checked()
    assert listening.secure == (way != "unit")
    assert listening.port == PORT
    if way == "compose":
        (network,) = read_compose("server")["networks"]["console"]["ipam"]["config"]
        assert listening.proxies == (network["gateway"],)


def check_command(group: Any, words: list[str]) -> None:
    """Parse a command line as the program does, without doing what it says."""
    name, command, rest = group.resolve_command(
        group.make_context("crossplant", list(words), resilient_parsing=True), words
    )
    assert name
    command.make_context(name, list(rest))


def test_the_charts_settings_are_read_by_what_will_read_them(tmp_path: Path) -> None:
    for chart in ("crossplant-server", "crossplant-plant"):
        for name, text in one(objects(chart), "ConfigMap")["data"].items():
            (tmp_path / name).write_text(text, encoding="utf-8")
    plant = read_plant(tmp_path / "plant.toml")
    assert plant.policy == Path("/plant/policy.toml")
    assert len(str(plant.socket)) <= LONGEST_PATH
    read_policy(tmp_path / "policy.toml")
    assert run_of(tmp_path / "run.toml").rounds.aggregation == "robust"


def test_a_plants_name_cannot_break_out_of_its_settings() -> None:
    text = one(objects("crossplant-plant", {"plant": 'n"\ndata = "/etc'}), "ConfigMap")["data"]["plant.toml"]
    assert tomllib.loads(text)["data"] == {"path": "/data"}


# ---- nginx ----


def directives(name: str) -> list[dict[str, Any]]:
    """Every directive of that name in nginx.conf, wherever it stands."""
    parsed = crossplane.parse(str(DEPLOY / "nginx.conf"), strict=False, check_ctx=False)["config"][0]["parsed"]

    def walk(block: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [
            one for each in block for one in ([each] if each["directive"] == name else []) + walk(each.get("block", []))
        ]

    return walk(parsed)


def nginx_paths() -> frozenset[str]:
    """The Fleet paths that nginx passes on."""
    (pattern,) = [one["args"][2] for one in directives("if") if one["args"][:2] == ["$request_uri", "!~"]]
    calls = re.fullmatch(r"\^/v1/fleet/\(([a-z|-]+)\)\$", pattern)
    assert calls, pattern
    return frozenset(f"/v1/fleet/{call}" for call in calls[1].split("|"))


def test_nginx_passes_the_gateways_paths_and_no_others() -> None:
    assert nginx_paths() == FLEET
    assert [one["args"] for one in directives("location")] == [
        ["=", "/health"], ["/v1/fleet/"], ["=", OBJECT], ["/"], ["@refused"], ["@down"]
    ]  # fmt: skip
    assert all(allowed("POST", path.encode()) for path in nginx_paths())


def test_nginx_takes_no_larger_body_than_the_gateway() -> None:
    call, content = (one["args"] for one in directives("client_max_body_size"))
    assert (call, content) == ([f"{LARGEST_CALL // 2**10}k"], [f"{LARGEST_BODY // 2**20}m"])


def test_nginx_says_the_version_as_the_gateway_does() -> None:
    told = {one["args"][0].lower(): one["args"][1:] for one in directives("add_header")}
    assert told == {
        VERSION_HEADER: [importlib.metadata.version("crossplant")],
        REFUSED_HEADER: ["$ssl_client_verify", "always"],
    }


def test_nginx_passes_the_headers_that_the_gateway_passes() -> None:
    """Flower's names are those that its SuperNode sends; the gateway knows them by their beginning."""
    named = {one["args"][0].lower(): one["args"][1] for one in directives("proxy_set_header")}
    assert named.pop("connection") == ""
    assert named == {name: f"$http_{name.replace('-', '_')}" for name in named}
    assert all(_passes(name.encode(), _PASSED_IN) for name in named)
    ours = {name for name in named if not name.startswith("flwr-")}
    assert ours == {name.decode() for name in _PASSED_IN} - {"content-length"}
    assert named.keys() - ours == {
        constant.FLEET_HTTP_PUBLIC_KEY_HEADER,
        constant.FLEET_HTTP_SIGNATURE_HEADER,
        TIMESTAMP_HEADER,
        constant.FLWR_PACKAGE_NAME_METADATA_KEY,
        constant.FLWR_PACKAGE_VERSION_METADATA_KEY,
        constant.FLWR_COMPONENT_NAME_METADATA_KEY,
    }


def test_nginx_talks_to_the_superlink_over_tls_and_checks_it() -> None:
    assert {one["args"][0] for one in directives("proxy_pass")} == {"https://superlink"}
    assert [one["args"] for one in directives("proxy_ssl_verify")] == [["on"]]
    assert [one["args"] for one in directives("ssl_protocols")] == [["TLSv1.2", "TLSv1.3"]]
