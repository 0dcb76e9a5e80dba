"""The whole HTTP API against its own description: whatever is asked, the answer is one that it tells of, and no 5xx."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

from server.console import api
from server.console.roles import Role
from tests.support.console import HOSTILE, Site, hostile_site, served

PATIENCE = settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)


@dataclass
class Served:
    """A console that somebody is logged in to."""

    site: Site
    url: str
    headers: dict[str, str]

    @property
    def description(self) -> dict[str, Any]:
        found: dict[str, Any] = httpx.get(f"{self.url}/openapi.json", headers=self.headers).json()
        return found


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    site = hostile_site(tmp_path_factory.mktemp("console"))
    ticket = site.log_in("olga", Role.OPERATOR)
    headers = {"Cookie": f"{site.app.state.cookie}={ticket.token}", "X-CSRF-Token": ticket.csrf}
    with served(site.app) as url:
        yield Served(site, url, headers)


@pytest.fixture(scope="module")
def schema(console: Served) -> schemathesis.BaseSchema:
    return schemathesis.openapi.from_dict(console.description)


OPERATIONS = [(route.path, method) for route in api.router.routes for method in sorted(route.methods)]


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_every_answer_is_one_that_the_description_tells_of(
    path: str, method: str, mode: GenerationMode, console: Served, schema: schemathesis.BaseSchema
) -> None:
    operation = schema[path.replace(":path", "")][method]
    try:
        strategy = operation.as_strategy(generation_mode=mode)
    except Unsatisfiable:  # what takes nothing cannot be asked wrongly
        return

    @PATIENCE
    @given(case=strategy, run=st.sampled_from([None, "a", *HOSTILE]))
    def ask(case: schemathesis.Case, run: str | None) -> None:
        if run is not None and "run" in case.path_parameters and mode is GenerationMode.POSITIVE:
            case.path_parameters["run"] = quote(run, safe="")
        if isinstance(case.body, dict) and isinstance(case.body.get("why"), str) and mode is GenerationMode.POSITIVE:
            case.body["why"] = "".join(filter(str.isprintable, case.body["why"])).strip() or "x"  # beyond JSON Schema
        case.validate_response(case.call(base_url=console.url, headers=console.headers))

    ask()


@pytest.mark.parametrize("name", ["a", *(name for name in HOSTILE if "/" not in name)])
def test_whatever_a_run_and_its_plants_are_called_they_are_found_and_told_as_they_are(
    name: str, console: Served, schema: schemathesis.BaseSchema
) -> None:
    plant = "north" if name == "a" else name
    wanted = {"run": name, "number": "2", "plant": plant}
    asked = {"metric": "holdout_loss" if name == "a" else name, "a": "2", "b": "3", "plant": plant}
    for path, method in OPERATIONS:
        if method != "GET":
            continue
        operation = schema[path.replace(":path", "")][method]
        parts = {part: quote(wanted[part], safe="") for part in wanted if f"{{{part}" in path}
        query = {part.name: asked[part.name] for part in operation.query if part.name in asked}
        case = operation.Case(path_parameters=parts, query=query)
        response = case.call(base_url=console.url, headers=console.headers)
        assert response.status_code == 200, (path, response.text)
        case.validate_response(response)
    told = httpx.get(f"{console.url}/api/v1/runs/{quote(name, safe='')}/plants", headers=console.headers).json()
    assert plant in [line["plant"] for line in told["items"]]
