"""Every page of the console, on stores that are full, empty and hostile."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from server.console import (
    compare_page,
    events,
    figures,
    log_page,
    pages,
    plant_page,
    registry_page,
    round_page,
    templating,
)
from server.console.app import create_app
from server.console.settings import ConsoleSettings
from server.rounds import PlantReport
from server.store.auditlog import Actor
from server.store.rows import RunStatus
from server.store.store import RoundStore
from tests.support.console_html import checked, seen
from tests.support.console_runs import Visitor, console, rich, round_of
from tests.support.stores import CONFIG, state

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'-alert(1)-'",
    "../..",
    "a\u202egnp.exe",
    "\u05e9\u05dc\u05d5\u05dd",
    "a/b?c=d#e%2Ff",
    "{{ 7 * 7 }}`<b>`",
    "javascript:alert(1)",
    "line\r\nSet-Cookie: a=b\x00\x1b[2J",
    "x" * 255,
    "n" * 10_000,
)
PAGES = (
    "/",
    "/runs/a",
    "/runs/a?plant=north",
    "/runs/a?status=skipped",
    "/runs/a?before=5",
    "/runs/a/rounds/1",
    "/runs/a/rounds/12",
    "/runs/a/rounds/15",
    "/runs/a/plants",
    "/runs/a/plants/harbour",
    "/runs/a/plants/harbour?before=9",
    "/runs/a/compare",
    "/runs/a/compare?a=11&b=15",
    "/runs/a/compare?a=1&b=15",
    "/runs/a/matrix",
    "/runs/a/matrix?metric=update_cosine",
    "/runs/a/registry",
    "/runs/a/registry?keep=3",
    "/audit",
    "/accounts",
    "/account/password",
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> RoundStore:
    return rich(tmp_path_factory.mktemp("console") / "store", 16)


@pytest.fixture(scope="module")
def visitor(store: RoundStore) -> Visitor:
    app = console(store.folder)
    app.state.console.registry.promote("a", 14, Actor("olaf", "operator"), "plants agreed")
    return Visitor(app).log_in()


@pytest.mark.parametrize("path", PAGES)
def test_every_page_is_well_formed_and_has_neither_script_nor_style_in_it(visitor: Visitor, path: str) -> None:
    page = seen(visitor, path)
    assert "Crossplant" in page.text
    assert len(page.every("nav")) >= 1


def test_login_is_a_page_like_the_others(store: RoundStore) -> None:
    page = seen(Visitor(console_without_people(store)), "/login?next=/runs/a")
    assert {"name": "next", "type": "hidden", "value": "/runs/a"} in page.every("input")


def console_without_people(store: RoundStore) -> FastAPI:
    return create_app(str(store.folder), ConsoleSettings())


def test_a_round_says_why_a_plant_did_not_count_and_what_to_do(visitor: Visitor) -> None:
    text = seen(visitor, "/runs/a/rounds/15").text
    told = "schema: CP-203" in text or "late:" in text or "refused by the plant" in text
    assert told or "NaN" in text or "absent" in text
    assert "What to do" in text


def test_a_round_has_its_durations_and_its_clusters_and_its_privacy(visitor: Visitor) -> None:
    text = seen(visitor, "/runs/a/rounds/15").text
    for words in (
        "Transfer",
        "Training and measuring",
        "Aggregation",
        "4.3 clusters are really used",
        "by one plant only",
    ):
        assert words in text
    assert "promises no differential privacy" in text


def test_the_matrix_marks_the_best_candidate_of_each_plant_in_words(visitor: Visitor) -> None:
    page = seen(visitor, "/runs/a/matrix")
    best = [one for one in page.every("td") if "best" in one.get("class", "")]
    assert len(best) == 5
    assert page.text.count("best") >= 6


def test_compare_names_the_tensors_that_moved_most_and_the_centroids(visitor: Visitor) -> None:
    text = seen(visitor, "/runs/a/compare?a=11&b=15").text
    assert "head.weight" in text
    assert "Centroid that moved most" in text
    assert "better" in text


def test_rounds_that_are_not_there_and_words_that_are_none_are_errors_with_a_cure(visitor: Visitor) -> None:
    for path, status, code in (
        ("/runs/zz", 404, "CP-403"),
        ("/runs/a/rounds/99", 404, "CP-403"),
        ("/runs/a/rounds/x", 422, "CP-101"),
        ("/runs/a/rounds/" + "9" * 400, 422, "CP-101"),
        ("/runs/a?before=-1", 422, "CP-101"),
        ("/runs/a?status=lost", 422, "CP-101"),
        ("/runs/a/plants/nobody", 404, "CP-403"),
        ("/runs/a/compare?a=1&b=99", 404, "CP-403"),
        ("/runs/a/compare?a=%00", 422, "CP-101"),
        ("/runs/a/matrix?metric=nothing", 422, "CP-101"),
        ("/runs/a/registry?keep=0", 422, "CP-101"),
        ("/nothing/here", 404, ""),
    ):
        page = seen(visitor, path, status)
        assert code in page.text, path
        assert "What to do" in page.text


def test_an_empty_store_says_what_to_do_next(tmp_path: Path) -> None:
    RoundStore.create(str(tmp_path)).start_run("new", CONFIG)
    there = Visitor(console(tmp_path)).log_in()
    for path in ("", "/plants", "/compare", "/matrix", "/registry"):
        page = seen(there, f"/runs/new{path}")
        assert re.search(r"yet|no two rounds|ever given", page.text), path
    assert "Round 1 is under way" in seen(there, "/runs/new").text
    empty = tmp_path / "empty"
    RoundStore.create(str(empty))
    assert "crossplant simulate" in seen(Visitor(console(empty)).log_in(), "/").text


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Visitor, str]:
    """A store whose run, plants, reasons, labels, metrics and notes all mean harm."""
    folder = tmp_path_factory.mktemp("hostile") / "store"
    store, run = RoundStore.create(str(folder)), HOSTILE[1]
    store.start_run(run, CONFIG, note=HOSTILE[0])
    for number in range(1, 4):
        plants = [
            PlantReport(name, i % 2 == 0, None if i % 2 == 0 else HOSTILE[i], {HOSTILE[0]: 1.0, "holdout_loss": 0.5})
            for i, name in enumerate(HOSTILE)
        ]
        plants.append(PlantReport("long reason", False, "y" * 10_000 + HOSTILE[0]))
        made = round_of(run, number, ("north",))
        whole = replace(made, plants=tuple(sorted(plants, key=lambda p: p.plant)), label=HOSTILE[0], reason=HOSTILE[9])
        store.commit(replace(whole, metrics={HOSTILE[0]: 2.0, "holdout_loss": 0.5}), state(run, number))
    store.finish_run(run, RunStatus.FAILED, HOSTILE[0] + HOSTILE[9])
    app = console(folder)
    app.state.console.registry.promote(run, 3, Actor(HOSTILE[0], HOSTILE[1][:20]), HOSTILE[0])
    (folder / "results.json").write_text(json.dumps({"run": run, "sites": [{"site": HOSTILE[0], "metrics": {}}, 7]}))
    return Visitor(app).log_in(), run


def hostile_paths(run: str) -> Iterator[str]:
    yield from ("/", "/audit", templating.path("runs", run))
    for place in ("plants", "compare", "matrix", "registry"):
        yield templating.path("runs", run, place)
    yield templating.path("runs", run, "rounds", 3)
    yield templating.path("runs", run, "matrix", metric=HOSTILE[0])
    for plant in HOSTILE:
        yield templating.path("runs", run, "plants", plant)
        yield templating.path("runs", run, plant=templating.quoted(plant))
    yield templating.path("runs", HOSTILE[0])
    yield templating.path("runs", run, "plants", HOSTILE[0] + "x")


def test_whatever_a_plant_or_a_run_is_called_is_text_on_every_page(hostile: tuple[Visitor, str]) -> None:
    visitor, run = hostile
    for path in hostile_paths(run):
        answer = visitor.get(path)
        assert answer.status_code in (200, 404), (path, answer.text[:1000])
        page = checked(answer.text)
        assert not [one for one in page.every("img") if one.get("src", "").startswith("x")], path
        assert "onerror" not in {name for _, attributes in page.tags for name in attributes}, path
        assert "\u202e" not in answer.text, path
        assert "\x1b" not in answer.text, path
        assert "Set-Cookie" not in answer.headers.get("x", "")
        assert len(answer.content) < 400_000, path


def test_a_name_is_shown_and_its_link_leads_to_it(hostile: tuple[Visitor, str]) -> None:
    visitor, run = hostile
    for link in [one["href"] for one in seen(visitor, templating.path("runs", run, "plants")).every("a")]:
        if "/plants/" in link:
            assert visitor.get(link).status_code == 200, link


def test_exports_have_a_plain_file_name_whatever_the_run_is_called(hostile: tuple[Visitor, str]) -> None:
    visitor, run = hostile
    answer = visitor.get(templating.path("runs", run, "rounds", 3, "export"))
    assert answer.status_code == 200
    assert re.fullmatch(r'attachment; filename="[A-Za-z0-9._-]+\.zip"', answer.headers["content-disposition"])


def test_an_export_without_room_for_it_is_told(
    visitor: Visitor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container whose file system is read-only."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    answer = visitor.get("/runs/a/rounds/14/export")
    assert answer.status_code == 409
    assert "the folder for temporary files" in answer.text


def test_an_exported_zip_has_the_model_and_its_card(visitor: Visitor) -> None:
    import io
    import zipfile

    archive = zipfile.ZipFile(io.BytesIO(visitor.get("/runs/a/rounds/14/export").content))
    assert sorted(archive.namelist()) == ["model.json", "model.safetensors"]
    assert json.loads(archive.read("model.json"))["round"] == 14
    assert visitor.get("/runs/a/rounds/1/export").status_code == 404


def test_addresses_of_pages_stay_what_they_are() -> None:
    modules = (pages, round_page, plant_page, compare_page, registry_page, log_page, events)
    routes = [route for module in modules for route in module.router.routes if isinstance(route, APIRoute)]
    assert sorted(f"{' '.join(sorted(route.methods or ()))} {route.path}" for route in routes) == [
        "GET /",
        "GET /audit",
        "GET /events/{run}",
        "GET /runs/{run}",
        "GET /runs/{run}/compare",
        "GET /runs/{run}/matrix",
        "GET /runs/{run}/plants",
        "GET /runs/{run}/plants/{plant:anything}",
        "GET /runs/{run}/registry",
        "GET /runs/{run}/rounds/{number}",
        "GET /runs/{run}/rounds/{number}/export",
        "POST /runs/{run}/follow",
        "POST /runs/{run}/promote",
        "POST /runs/{run}/prune",
        "POST /runs/{run}/rollback",
    ]


def test_static_files_and_templates_are_where_the_wheel_takes_them_from() -> None:
    assert (templating.STATIC / "console.css").is_file()
    for name in ("charts.js", "live.js", "icon.svg", "vendor/htmx-2.0.4.min.js"):
        assert templating.asset(name).startswith(f"/static/{name}?v=")
    assert figures.number(1e-9) == "1e-09"
