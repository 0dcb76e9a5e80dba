"""`deploy/` as data, and what is wrong with it: each function names what a file lacks of its hardening.

The functions take what was read and not paths, so that a test can take something away and see that it is missed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
Tree = dict[str, Any]
Unit = dict[str, tuple[str, ...]]

# ---- systemd ----

ALWAYS: Unit = {
    "Type": ("exec",),
    "Restart": ("always",),
    "RestartSec": ("10",),
    "StateDirectoryMode": ("0700",),
    "LimitCORE": ("0",),
    "ProtectSystem": ("strict",),
    "ProtectHome": ("yes",),
    "PrivateTmp": ("yes",),
    "PrivateDevices": ("yes",),
    "UMask": ("0077",),
    "NoNewPrivileges": ("yes",),
    "CapabilityBoundingSet": ("",),
    "AmbientCapabilities": ("",),
    "RestrictNamespaces": ("yes",),
    "RestrictRealtime": ("yes",),
    "RestrictSUIDSGID": ("yes",),
    "LockPersonality": ("yes",),
    "SystemCallArchitectures": ("native",),
    "SystemCallErrorNumber": ("EPERM",),
    "ProtectKernelTunables": ("yes",),
    "ProtectKernelModules": ("yes",),
    "ProtectKernelLogs": ("yes",),
    "ProtectControlGroups": ("yes",),
    "ProtectClock": ("yes",),
    "ProtectHostname": ("yes",),
    "ProtectProc": ("invisible",),
    "RemoveIPC": ("yes",),
    "KeyringMode": ("private",),
}
_NETWORKED: Unit = {
    "RestrictAddressFamilies": ("AF_INET AF_INET6 AF_UNIX",),
    "MemoryDenyWriteExecute": ("yes",),
    "SystemCallFilter": ("@system-service", "~@privileged"),
    "KillMode": ("mixed",),
}
_FEDERATION = "/var/lib/crossplant-server/federation"
_SECRETS = (
    "ca/ca.key",
    "ca/old",
    "signing/run.key",
    "server/server.key",
    "run/loopback.key",
    "run/executor.secret",
)
UNITS: dict[str, Unit] = {
    "crossplant-server.service": {
        **_NETWORKED,
        "User": ("crossplant-server",),
        "Group": ("crossplant-server",),
        "ReadOnlyPaths": (_FEDERATION,),
        "ReadWritePaths": (f"-{_FEDERATION}/run",),
        "InaccessiblePaths": (f"-{_FEDERATION}/ca/ca.key -{_FEDERATION}/signing/run.key",),
    },
    "crossplant-console.service": {
        **_NETWORKED,
        "User": ("crossplant-server",),
        "Group": ("crossplant-server",),
        "ReadOnlyPaths": (_FEDERATION,),
        "InaccessiblePaths": (" ".join(f"-{_FEDERATION}/{name}" for name in _SECRETS),),
        "IPAddressDeny": ("any",),
        "IPAddressAllow": ("localhost",),
    },
    "crossplant-agent@.service": {
        "User": ("crossplant-agent",),
        "Group": ("crossplant-agent",),
        "SupplementaryGroups": ("crossplant-relay",),
        "RuntimeDirectoryMode": ("0755",),
        "RestrictAddressFamilies": ("AF_UNIX",),
        "PrivateNetwork": ("yes",),
        "IPAddressDeny": ("any",),
        "ReadOnlyPaths": ("/srv/crossplant/%i /etc/crossplant/%i",),
        "InaccessiblePaths": ("-/etc/crossplant/%i/node -/etc/crossplant/%i/client.key -/var/lib/crossplant-relay",),
        "SystemCallFilter": ("@system-service", "~@privileged", "@chown @resources"),
    },
    "crossplant-relay@.service": {
        **_NETWORKED,
        "User": ("crossplant-relay",),
        "Group": ("crossplant-relay",),
        "ReadOnlyPaths": ("/etc/crossplant/%i",),
        "InaccessiblePaths": ("-/srv/crossplant -/var/lib/crossplant-agent",),
    },
}
LIMITS = ("MemoryMax", "TasksMax", "CPUQuota", "LimitNOFILE", "TimeoutStopSec")
FREE = frozenset({"StateDirectory", "RuntimeDirectory", "ExecStartPre", "ExecStart", "Environment", "OOMPolicy"}) | {
    "CPUWeight"
}
"""What says where and how, and protects nothing."""


def read_unit(text: str) -> Unit:
    """The `[Service]` settings of a unit."""
    found: dict[str, list[str]] = {}
    for line in text.partition("[Service]")[2].partition("[Install]")[0].splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return {name: tuple(values) for name, values in found.items()}


def unit_gaps(name: str, service: Unit) -> list[str]:
    """What a unit lacks."""
    due = ALWAYS | UNITS[name]
    return [key for key, value in due.items() if service.get(key) != value] + [
        key for key in LIMITS if not service.get(key, ("",))[0]
    ]


# ---- compose ----

USERS = {
    "server": "10003:10003",
    "console": "10003:10003",
    "operator": "10003:10003",
    "agent": "10001:10001",
    "relay": "10002:10002",
}


PORTS = {"server": ["9443:9443"], "console": ["127.0.0.1:8321:8321"]}
"""What is published: the gateway to all, the console to the machine itself, where a proxy with TLS stands before it."""


def compose_gaps(name: str, service: Tree) -> list[str]:
    """What a service of a compose file lacks."""
    image, tmpfs = service.get("image", ""), service.get("tmpfs") or [""]
    ports = PORTS.get(name, [])
    due = {
        "user": service.get("user") == USERS[name],
        "image": image.startswith("${CROSSPLANT_IMAGE:?") or _pinned(image),
        "read_only": service.get("read_only") is True,
        "tmpfs": all({"noexec", "nosuid", "nodev"} <= set(mount.split(":")[-1].split(",")) for mount in tmpfs),
        "cap_drop": service.get("cap_drop") == ["ALL"],
        "cap_add": "cap_add" not in service and "privileged" not in service and "devices" not in service,
        "security_opt": service.get("security_opt") == ["no-new-privileges:true"],
        "ipc": service.get("ipc") == "private",
        "limits": all(key in service for key in ("mem_limit", "pids_limit", "cpus")),
        "memswap_limit": service.get("memswap_limit") == service.get("mem_limit"),
        "ulimits": service.get("ulimits", {}).get("core") == 0,
        "healthcheck": name == "operator" or bool(service.get("healthcheck", {}).get("test")),
        "restart": service.get("restart") == ("no" if name == "operator" else "unless-stopped"),
        "profiles": service.get("profiles", []) == (["operator"] if name == "operator" else []),
        "ports": service.get("ports", []) == ports,
        "expose": "expose" not in service,
        "network": _network(name, service),
        "init": service.get("init") is True,
        "logging": name == "operator" or "max-size" in service.get("logging", {}).get("options", {}),
        "volumes": _volumes(service) == VOLUMES[name],
        "group_add": service.get("group_add", []) == (["10002"] if name == "agent" else []),
    }
    return [key for key, kept in due.items() if not kept]


VOLUMES = {
    "server": {
        "/federation": True,
        "/federation/run": False,
        "/federation/ca/ca.key": True,
        "/federation/signing/run.key": True,
        "/store": False,
    },
    "console": {"/store": False},
    "operator": {"/federation": False, "/store": False, "/settings": True},
    "agent": {
        "/plant/plant.toml": True,
        "/plant/policy.toml": True,
        "/data": True,
        "/var/lib/crossplant-agent": False,
        "/run/crossplant": False,
    },
    "relay": {
        "/plant/plant.toml": True,
        "/plant/ca.crt": True,
        "/plant/node": True,
        "/plant/client.crt": True,
        "/plant/client.key": True,
        "/var/lib/crossplant-relay": False,
        "/run/crossplant": True,
    },
}
"""Where something is mounted, and whether it is read-only. The relay has no data, the agent no key."""


def _volumes(service: Tree) -> dict[str, bool]:
    return {mount["target"]: mount.get("read_only", False) for mount in service.get("volumes", [])}


def _network(name: str, service: Tree) -> bool:
    if name in ("agent", "operator"):
        return service.get("network_mode") == "none" and "networks" not in service
    return len(service.get("networks", [])) == 1 and "network_mode" not in service


def _pinned(image: str) -> bool:
    """Whether an image names a version or a digest."""
    tag = image.rpartition("/")[2].partition(":")[2]
    return "@sha256:" in image or tag not in ("", "latest")


# ---- Kubernetes ----


def pod_gaps(pod: Tree) -> list[str]:
    """What a pod's specification lacks, by container."""
    whole = pod.get("securityContext", {})
    gaps = [
        key
        for key, kept in {
            "runAsNonRoot": whole.get("runAsNonRoot") is True,
            "seccompProfile": whole.get("seccompProfile") == {"type": "RuntimeDefault"},
            "automountServiceAccountToken": pod.get("automountServiceAccountToken") is False,
            "enableServiceLinks": pod.get("enableServiceLinks") is False,
            "host": not {"hostNetwork", "hostPID", "hostIPC"} & set(pod) and not pod.get("shareProcessNamespace"),
            "hostPath": not any("hostPath" in volume for volume in pod.get("volumes", [])),
        }.items()
        if not kept
    ]
    for container in pod["containers"]:
        gaps += [f"{container['name']}: {gap}" for gap in _container_gaps(container, whole)]
    return gaps


def _container_gaps(container: Tree, pod: Mapping[str, Any]) -> list[str]:
    own = container.get("securityContext", {})
    limits = container.get("resources", {}).get("limits", {})
    due = {
        "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is False,
        "privileged": own.get("privileged") is False,
        "readOnlyRootFilesystem": own.get("readOnlyRootFilesystem") is True,
        "capabilities": own.get("capabilities") == {"drop": ["ALL"]},
        "runAsUser": (own.get("runAsUser") or pod.get("runAsUser") or 0) >= 10001,
        "runAsGroup": (own.get("runAsGroup") or pod.get("runAsGroup") or 0) >= 10001,
        "image": _pinned(container.get("image", "")),
        "limits": {"cpu", "memory", "ephemeral-storage"} <= set(limits),
        "readinessProbe": "readinessProbe" in container,
    }
    return [key for key, kept in due.items() if not kept]


# ---- Dockerfile ----


def image_gaps(text: str) -> list[str]:
    """What a Dockerfile lacks."""
    lines = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)).splitlines()
    steps = [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines if line.strip()]
    last = max(index for index, (word, _) in enumerate(steps) if word == "FROM")
    final, settings = steps[last:], " ".join(rest for word, rest in steps[last:] if word == "ENV")
    users = [rest for word, rest in final if word == "USER"]
    bases = [rest.partition("BASE=")[2] for word, rest in steps if word == "ARG" and rest.startswith("BASE=")]
    froms = [rest for word, rest in steps if word == "FROM"]
    installs = [rest for _, rest in steps if _INSTALL.search(rest)]
    due = {
        "USER": bool(users) and re.fullmatch(r"1000[123]:1000[123]", users[-1]) is not None,
        "FROM": bool(bases) and all(map(_pinned, bases)) and all(base.startswith("${BASE}") for base in froms),
        "constraints": bool(installs) and all("--constraint constraints.txt" in rest for rest in installs),
        "without-pip": any("--without-pip" in rest for _, rest in steps),
        "no pip at run time": any("pip uninstall --yes pip" in rest for _, rest in final),
        "no pip in the last stage": not any(_INSTALL.search(rest) for _, rest in final),
        "telemetry": "FLWR_TELEMETRY_ENABLED=0" in settings and "FLWR_DISABLE_UPDATE_CHECK=1" in settings,
        "run time installation": "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION=1" in settings,
        "ADD, EXPOSE": not any(word in ("ADD", "EXPOSE") for word, _ in steps),
        "COPY": not any(word == "COPY" and "--from=build" not in rest for word, rest in final),
    }
    return [key for key, kept in due.items() if not kept]


_INSTALL = re.compile(r"\bpip\b[^&|;]*\sinstall\s")


def read_compose(name: str) -> Tree:
    """A compose file."""
    found: Tree = yaml.safe_load((DEPLOY / "compose" / f"{name}.yaml").read_text(encoding="utf-8"))
    return found
