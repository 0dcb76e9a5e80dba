"""`deploy/` is hardened, and a line that is taken away is missed: every test here takes each of them away."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest

from tests.support.charts import CHARTS, objects, one
from tests.support.deploy import (
    ALWAYS,
    DEPLOY,
    FREE,
    LIMITS,
    UNITS,
    USERS,
    Tree,
    compose_gaps,
    image_gaps,
    pod_gaps,
    read_compose,
    read_unit,
    unit_gaps,
)

# ---- systemd ----


def unit(name: str) -> str:
    return (DEPLOY / "systemd" / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(UNITS))
def test_a_unit_lacks_nothing(name: str) -> None:
    assert unit_gaps(name, read_unit(unit(name))) == []


@pytest.mark.parametrize("name", sorted(UNITS))
def test_a_line_that_a_unit_loses_is_missed(name: str) -> None:
    lines = unit(name).splitlines()
    start, end = lines.index("[Service]") + 1, lines.index("[Install]")
    for number in range(start, end):
        key = lines[number].partition("=")[0]
        if not lines[number] or key.startswith("#") or key in FREE:
            continue
        less = "\n".join(lines[:number] + lines[number + 1 :])
        assert unit_gaps(name, read_unit(less)), lines[number]


@pytest.mark.parametrize("name", sorted(UNITS))
def test_a_unit_says_nothing_that_nobody_looked_at(name: str) -> None:
    assert set(read_unit(unit(name))) <= set(ALWAYS) | set(UNITS[name]) | set(LIMITS) | FREE


def test_a_unit_starts_again_for_as_long_as_flower_refuses_a_returning_node() -> None:
    """Up to a minute, which is longer than systemd's own patience: five starts in ten seconds."""
    for name in UNITS:
        assert "\nStartLimitIntervalSec=0\n" in unit(name).partition("[Service]")[0]


def test_the_relay_and_the_agent_are_two_users_that_share_one_group() -> None:
    agent, relay = (read_unit(unit(f"crossplant-{part}@.service")) for part in ("agent", "relay"))
    assert agent["User"] != relay["User"]
    assert agent["SupplementaryGroups"] == relay["Group"]
    users = (DEPLOY / "systemd" / "crossplant.sysusers").read_text(encoding="utf-8")
    assert "m crossplant-agent crossplant-relay" in users
    assert "m crossplant-relay" not in users


def test_what_the_units_hide_is_there_before_they_start() -> None:
    """systemd passes over a path to hide that is not there (the minus sign), and it could be made later."""
    made = (DEPLOY / "systemd" / "crossplant.tmpfiles").read_text(encoding="utf-8").split()
    for name in ("crossplant-agent@.service", "crossplant-relay@.service"):
        for path in read_unit(unit(name))["InaccessiblePaths"][0].replace("-/", "/").split():
            assert path in made or path.startswith("/etc/crossplant/%i/"), path


# ---- compose ----

SERVICES = [("server", "server"), ("server", "console"), ("server", "operator"), ("plant", "agent"), ("plant", "relay")]
HARMLESS = frozenset({"command", "depends_on", "stop_grace_period", "environment"})


@pytest.mark.parametrize(("file", "name"), SERVICES)
def test_a_service_lacks_nothing(file: str, name: str) -> None:
    assert compose_gaps(name, read_compose(file)["services"][name]) == []


@pytest.mark.parametrize(("file", "name"), SERVICES)
def test_a_key_that_a_service_loses_is_missed(file: str, name: str) -> None:
    whole = read_compose(file)["services"][name]
    for key in set(whole) - HARMLESS:
        less = {other: value for other, value in whole.items() if other != key}
        assert compose_gaps(name, less), key


def test_a_service_that_gains_a_right_is_noticed() -> None:
    relay = read_compose("plant")["services"]["relay"]
    data = {"type": "bind", "source": "/srv/data", "target": "/data", "read_only": True}
    for more in (
        {"volumes": [*relay["volumes"], data]},
        {"cap_add": ["NET_ADMIN"]},
        {"privileged": True},
        {"ports": ["9094:9094"]},
        {"network_mode": "host"},
        {"user": "0:0"},
        {"user": "10001:10001"},
        {"image": "crossplant:latest"},
        {"image": "crossplant"},
        {"security_opt": ["no-new-privileges:true", "seccomp:unconfined"]},
    ):
        assert compose_gaps("relay", relay | more), more


def test_the_gateways_port_is_all_that_compose_publishes_beyond_the_machine() -> None:
    services = read_compose("server")["services"] | read_compose("plant")["services"]
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert published == {"server": ["9443:9443"], "console": ["127.0.0.1:8321:8321"]}
    assert not set(services["console"]["networks"]) & set(services["server"]["networks"])


def test_the_coordinators_processes_have_no_key_that_makes_plants_or_signs_runs() -> None:
    mounts = {mount["target"]: mount["source"] for mount in read_compose("server")["services"]["server"]["volumes"]}
    assert mounts["/federation/ca/ca.key"] == mounts["/federation/signing/run.key"] == "./no-key"
    assert "CROSSPLANT_CA_PASSPHRASE" not in str(read_compose("server")["services"]["server"])


def test_the_socket_is_the_agents_and_its_folder_the_relays_to_enter() -> None:
    plant = read_compose("plant")
    options = plant["volumes"]["socket"]["driver_opts"]["o"].split(",")
    assert {"uid=10001", "gid=10002", "mode=0750"} <= set(options)
    assert USERS["relay"].partition(":")[2] == "10002" == plant["services"]["agent"]["group_add"][0]


# ---- the image ----


def test_the_image_lacks_nothing() -> None:
    assert image_gaps((DEPLOY / "Dockerfile").read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("before", "after", "gap"),
    [
        ("USER 10002:10002\n", "", "USER"),
        ("USER 10002:10002\n", "USER root\n", "USER"),
        ("USER 10002:10002\n", "USER 10002:10002\nUSER 0\n", "USER"),
        ("3.11-slim-bookworm", "latest", "FROM"),
        (":3.11-slim-bookworm", "", "FROM"),
        (" --constraint constraints.txt", "", "constraints"),
        (" --without-pip", "", "without-pip"),
        ("RUN python -m pip uninstall --yes pip setuptools wheel", "RUN true", "no pip at run time"),
        ("USER 10002:10002\n", "RUN pip install x\nUSER 10002:10002\n", "no pip in the last stage"),
        ("FLWR_TELEMETRY_ENABLED=0", "A=0", "telemetry"),
        ("FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION=1", "A=1", "run time installation"),
        ("COPY --from=build", "COPY . /src\nCOPY --from=build", "COPY"),
    ],
)
def test_what_the_image_loses_is_missed(before: str, after: str, gap: str) -> None:
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    assert before in text
    assert gap in image_gaps(text.replace(before, after))


def test_the_image_is_made_of_nothing_but_the_program() -> None:
    """No key, no data, no history reaches the builder: everything is left out, and then some is let in."""
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    wanted = {line[1:] for line in lines if line.startswith("!")}
    assert lines[1] == "*"
    program = {"pyproject.toml", "constraints.txt", "README.md", "LICENSE"}
    assert wanted == program | {"shared", "server", "client", "simulations"}


def test_the_images_users_are_those_of_compose() -> None:
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    for name, ids in USERS.items():
        user = ids.partition(":")[0]
        assert f"useradd --uid {user} " in text, name
    assert "--groups crossplant-relay --no-create-home --shell /usr/sbin/nologin crossplant-agent" in text


# ---- Kubernetes ----


def pod(chart: str, values: Tree | None = None) -> Tree:
    spec: Tree = one(objects(chart, values), "StatefulSet")["spec"]["template"]["spec"]
    return spec


PODS: list[tuple[str, Tree]] = [(chart, {}) for chart in CHARTS] + [(CHARTS[0], {"console": {"enabled": True}})]


@pytest.mark.parametrize(("chart", "values"), PODS)
def test_a_pod_lacks_nothing(chart: str, values: Tree) -> None:
    assert pod_gaps(pod(chart, values)) == []


def leaves(tree: Tree, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in tree.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))


def without(tree: Tree, path: tuple[str, ...]) -> None:
    for key in path[:-1]:
        tree = tree[key]
    del tree[path[-1]]


@pytest.mark.parametrize(("chart", "values"), PODS)
def test_a_setting_that_a_pod_loses_is_missed(chart: str, values: Tree) -> None:
    whole = pod(chart, values)
    groups = {"fsGroup", "fsGroupChangePolicy"}  # who owns the volumes: without them nothing starts
    paths = [path for path in leaves(whole["securityContext"], ("securityContext",)) if path[-1] not in groups]
    paths += [("automountServiceAccountToken",), ("enableServiceLinks",)]
    for path in paths:
        less = copy.deepcopy(whole)
        without(less, path)
        assert pod_gaps(less), path
    for number, container in enumerate(whole["containers"]):
        for path in leaves({key: container[key] for key in ("securityContext", "readinessProbe")}):
            if path[0] == "readinessProbe" and len(path) > 1:
                continue
            less = copy.deepcopy(whole)
            without(less["containers"][number], path)
            assert pod_gaps(less), path
        for limit in ("cpu", "memory", "ephemeral-storage"):
            less = copy.deepcopy(whole)
            without(less["containers"][number], ("resources", "limits", limit))
            assert pod_gaps(less), limit


def mounts(container: Tree) -> dict[str, bool]:
    return {mount["name"]: mount.get("readOnly", False) for mount in container["volumeMounts"]}


def test_in_a_pod_the_relay_has_no_data_and_the_agent_no_key() -> None:
    agent, relay = pod("crossplant-plant")["containers"]
    assert (agent["name"], relay["name"]) == ("agent", "relay")
    assert mounts(agent) == {"config": True, "data": True, "books": False, "socket": False, "agent-tmp": False}
    assert mounts(relay) == {"config": True, "keys": True, "relay": False, "socket": True, "relay-tmp": False}
    users = {part["name"]: part["securityContext"]["runAsUser"] for part in (agent, relay)}
    assert users == {"agent": 10001, "relay": 10002}


def test_in_a_pod_the_console_has_the_store_and_nothing_of_the_federation() -> None:
    server, console = pod(CHARTS[0], {"console": {"enabled": True}})["containers"]
    assert mounts(console) == {"state": False, "console-tmp": False}
    (state,) = [mount for mount in console["volumeMounts"] if mount["name"] == "state"]
    assert (state["mountPath"], state["subPath"]) == ("/store", "store")
    assert "--store=/state/store" in server["args"]
    assert [port["containerPort"] for port in console["ports"]] == [8321]


def test_a_pod_that_sleeps_has_no_console() -> None:
    sleeping = pod(CHARTS[0], {"console": {"enabled": True}, "maintenance": True})
    assert [container["name"] for container in sleeping["containers"]] == ["server"]


def test_a_cluster_lets_in_to_the_console_only_whom_its_values_name() -> None:
    values = {"console": {"enabled": True, "proxy": [{"podSelector": {"matchLabels": {"app": "ingress"}}}]}}
    gateway, console = one(objects(CHARTS[0], values), "NetworkPolicy")["spec"]["ingress"]
    assert gateway == {"ports": [{"port": "gateway"}]}
    assert console == {"ports": [{"port": "console"}], "from": values["console"]["proxy"]}
    services = {
        each["metadata"]["name"]: each["spec"] for each in objects(CHARTS[0], values) if each["kind"] == "Service"
    }
    assert services["fed-console"]["type"] == "ClusterIP"
    assert [port["targetPort"] for port in services["fed"]["ports"]] == ["gateway"]


def test_a_cluster_lets_in_to_the_gateway_and_nowhere_else() -> None:
    server, plant = (one(objects(chart), "NetworkPolicy")["spec"] for chart in CHARTS)
    assert server["policyTypes"] == plant["policyTypes"] == ["Ingress", "Egress"]
    assert server["ingress"] == [{"ports": [{"port": "gateway"}]}]
    assert server["egress"] == plant["ingress"] == []
    gateway, names = plant["egress"]
    assert gateway == {"to": [{"ipBlock": {"cidr": "192.0.2.10/32"}}], "ports": [{"port": 9443}]}
    assert {port["port"] for port in names["ports"]} == {53}
    assert [port["targetPort"] for port in one(objects(CHARTS[0]), "Service")["spec"]["ports"]] == ["gateway"]


def test_a_chart_without_a_version_of_the_image_is_refused() -> None:
    import helm_python

    with pytest.raises(helm_python.HelmRenderError, match="name a version"):
        objects("crossplant-server", {"image": {"tag": ""}})
