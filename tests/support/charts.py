"""Helm charts, rendered by Helm's own library. It has wheels for some platforms only."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import yaml

from tests.support.deploy import DEPLOY, Tree

CHARTS = ("crossplant-server", "crossplant-plant")


@cache
def _helm() -> Any:
    why = "helm-python-sdk has no wheel for this platform"
    return pytest.importorskip("helm_python", reason=why, exc_type=ImportError)


def lint(chart: str) -> list[dict[str, Any]]:
    """What `helm lint --strict` says."""
    messages: list[dict[str, Any]] = _helm().lint(DEPLOY / "helm" / chart, strict=True)["messages"]
    return messages


def objects(chart: str, values: Tree | None = None) -> list[Tree]:
    """What `helm template fed CHART` gives."""
    texts = _helm().Chart.load(DEPLOY / "helm" / chart).render(values or {}, name="fed", namespace="plants")
    return [one for text in texts.values() for one in yaml.safe_load_all(text) if one]


def one(found: list[Tree], kind: str) -> Tree:
    """The only object of a kind."""
    (match,) = [each for each in found if each["kind"] == kind]
    return match
