"""Every page of the console, on stores that are full, empty and hostile."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import ClassVar

import pytest

from server.console import figures, templating
from server.console.advice import advise
from server.console.charts import charts_of
from server.console.compare_page import cells
from server.console.plant_page import drift_of
from server.console.round_page import durations
from server.rounds import PlantReport, Status
from server.store.auditlog import Actor
from server.store.reading import Candidate, Series
from server.store.rows import RunStatus
from server.store.store import RoundStore
from tests.support.console_runs import Visitor, commit, console, rich, round_of
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
    "/runs/a/matrix?metric=cosine",
    "/runs/a/registry",
    "/runs/a/registry?keep=3",
    "/audit",
    "/accounts",
    "/account/password",
)


class Checked(HTMLParser):
    """A page, read strictly: every element is closed, ids are unique, nothing runs or is styled in the page itself."""

    VOID: ClassVar = {"meta", "link", "input", "img", "br"}

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.faults: list[str] = []
        self.ids: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        self.faults += [f"<{tag}> is not closed" for tag in self.open]
        self.faults += [f"id {one} twice" for one in set(self.ids) if self.ids.count(one) > 1]
        targets = {attributes["href"][1:] for _, attributes in self.tags if attributes.get("href", "").startswith("#")}
        named = {attributes[name] for _, attributes in self.tags for name in ("aria-labelledby",) if name in attributes}
        self.faults += [f"no element {one}" for one in (targets | named) - set(self.ids)]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.tags.append((tag, attributes))
        if tag not in self.VOID:
            self.open.append(tag)
        if len(attributes) != len(attrs):
            self.faults.append(f"<{tag}> has an attribute twice")
        if "id" in attributes:
            self.ids.append(attributes["id"])
        if tag == "style" or "style" in attributes or any(name.startswith("on") for name in attributes):
            self.faults.append(f"<{tag} {attributes}> has style or script in it")
        if tag == "script" and not attributes.get("src", "").startswith("/static/"):
            self.faults.append("a script in the page")
        for name in ("href", "src", "action", "hx-get", "sse-connect"):
            if not attributes.get(name, "/").startswith(("/", "#")) or attributes.get(name, "").startswith("//"):
                self.faults.append(f"{name}={attributes[name]!r} leads elsewhere")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> closes nothing of its own")

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.faults.append("a script in the page")
        self.text += data

    def every(self, tag: str) -> list[dict[str, str]]:
        """The attributes of all elements of a kind."""
        return [attributes for found, attributes in self.tags if found == tag]


def checked(text: str) -> Checked:
    page = Checked(text)
    assert page.faults == []
    assert len(page.every("h1")) == 1
    assert len(page.every("caption")) == len(page.every("table"))
    assert all(heading.get("scope") in ("col", "row") for heading in page.every("th"))
    regions = [one for one in page.every("div") if one.get("role") == "region"]
    assert all(one.get("tabindex") == "0" and one.get("aria-label") for one in regions)
    assert all(one.get("alt") is not None for one in page.every("img"))
    return page


def seen(visitor: Visitor, path: str, status: int = 200) -> Checked:
    answer = visitor.get(path)
    assert answer.status_code == status, answer.text[:2000]
    return checked(answer.text)


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


def console_without_people(store: RoundStore) -> object:
    from server.console.app import create_app
    from server.console.settings import ConsoleSettings

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


def test_an_exported_zip_has_the_model_and_its_card(visitor: Visitor) -> None:
    import io
    import zipfile

    archive = zipfile.ZipFile(io.BytesIO(visitor.get("/runs/a/rounds/14/export").content))
    assert sorted(archive.namelist()) == ["model.json", "model.safetensors"]
    assert json.loads(archive.read("model.json"))["round"] == 14
    assert visitor.get("/runs/a/rounds/1/export").status_code == 404


# ---- changes ----


def token(visitor: Visitor, path: str = "/runs/a/registry") -> str:
    found = [one["value"] for one in seen(visitor, path).every("input") if one.get("name") == "csrf"]
    return found[0]


@pytest.fixture
def own(tmp_path: Path) -> Visitor:
    rich(tmp_path / "store", 14)
    return Visitor(console(tmp_path / "store"))


def test_an_operator_promotes_rolls_back_and_follows_with_a_reason(own: Visitor) -> None:
    own.log_in("olaf")
    csrf = token(own)
    for action, form in (
        ("promote", {"number": "13", "why": "best at all plants"}),
        ("rollback", {"to": "12", "why": "alarms at north"}),
        ("follow", {"why": "solved"}),
    ):
        answer = own.post(f"/runs/a/{action}", {"csrf": csrf} | form)
        assert answer.status_code == 303, answer.text
        assert answer.headers["location"].startswith("/runs/a/registry?ordered=")
        text = seen(own, answer.headers["location"]).text
        assert form["why"] in text
        assert "is written down" in text
    log = seen(own, "/audit").text
    assert all(why in log for why in ("best at all plants", "alarms at north", "solved"))
    states = [order.state.value for order in own.app.state.console.registry.orders("a")]
    assert states == ["open", "replaced", "replaced"]


def test_an_order_without_a_reason_or_for_a_round_without_clusters_is_an_error_page(own: Visitor) -> None:
    own.log_in("olaf")
    csrf = token(own)
    for form, status in (
        ({"number": "13", "why": ""}, 422),
        ({"number": "13"}, 422),
        ({"number": "x", "why": "a"}, 422),
        ({"number": "999", "why": "a"}, 404),
        ({"number": "1", "why": "a"}, 404),
        ({"number": "13", "why": "a\x00b"}, 422),
    ):
        answer = own.post("/runs/a/promote", {"csrf": csrf} | form)
        assert answer.status_code == status, form
        checked(answer.text)
    assert own.app.state.console.registry.orders("a") == []


def test_a_viewer_sees_no_forms_and_changes_nothing_by_them(own: Visitor) -> None:
    own.log_in("vera")
    page = seen(own, "/runs/a/registry")
    assert [one["action"] for one in page.every("form")] == ["/logout"]
    csrf = token(own)
    for action in ("promote", "rollback", "follow", "prune"):
        answer = own.post(f"/runs/a/{action}", {"csrf": csrf, "number": "13", "why": "a", "keep": "1"})
        assert answer.status_code == 403
        checked(answer.text)
    assert own.app.state.console.registry.orders("a") == []


def test_an_admin_sees_what_pruning_would_remove_before_it_does(own: Visitor) -> None:
    own.log_in("ann")
    page = seen(own, "/runs/a/registry?keep=4")
    assert "would be pruned" in page.text
    assert {"type": "hidden", "name": "keep", "value": "4"} in page.every("input")
    assert own.app.state.console.store.model("a", 2) is not None
    answer = own.post("/runs/a/prune", {"csrf": token(own), "keep": "4"})
    assert answer.status_code == 303, answer.text
    assert "10 rounds pruned" in seen(own, answer.headers["location"]).text
    assert seen(own, "/runs/a/rounds/2").text


def test_an_operator_may_not_prune(own: Visitor) -> None:
    own.log_in("olaf")
    assert own.post("/runs/a/prune", {"csrf": token(own), "keep": "4"}).status_code == 403


def test_a_read_only_console_has_no_forms_that_change_anything(tmp_path: Path) -> None:
    rich(tmp_path / "store", 14)
    console(tmp_path / "store")  # makes the people
    there = Visitor(console(tmp_path / "store", read_only=True)).log_in("ann")
    for path in ("/runs/a/registry?keep=3", "/runs/a/rounds/14", "/accounts"):
        page = seen(there, path)
        assert [one["action"] for one in page.every("form") if one.get("method") == "post"] == ["/logout"], path


# ---- live part ----


def test_htmx_gets_the_live_part_alone(own: Visitor) -> None:
    own.log_in("vera")
    part = own.get("/runs/a", **{"hx-request": "true"})
    assert part.status_code == 200
    assert "<html" not in part.text
    assert "data-said=" in part.text
    assert "Round 14" in part.text
    commit(own.app.state.console.store, 15)
    assert "Round 15" in own.get("/runs/a", **{"hx-request": "true"}).text


def test_a_run_that_stands_still_says_so(tmp_path: Path) -> None:
    store = RoundStore.create(str(tmp_path))
    store.start_run("a", CONFIG)
    made = replace(round_of("a", 1), started="2024-05-01T10:00:00+00:00")
    store.commit(made, state("a", 1))
    there = Visitor(console(tmp_path)).log_in()
    assert "Nothing has been finished for long" in seen(there, "/runs/a").text
    store.finish_run("a", RunStatus.FAILED, "too few plants")
    text = seen(there, "/runs/a").text
    assert "The run failed" in text
    assert "too few plants" in text
    store.finish_run("a", RunStatus.INTERRUPTED)
    assert "when it is resumed" in seen(there, "/runs/a").text
    store.finish_run("a", RunStatus.FINISHED)
    assert "The run is finished" in seen(there, "/runs/a").text


def test_figures_on_labelled_data_are_those_of_results_json_beside_the_store(own: Visitor) -> None:
    own.log_in("vera")
    figures_ = {"auprc": 0.4572, "false_alarms_per_day": 5.62, "delay_s": None, "vus_pr": "much"}
    spent = {"mode": "local", "epsilon": 2.5, "budget": 3.0, "delta": 1e-5, "plants": [], "claim": "Whoever sees all"}
    content = {"run": "a", "sites": [{"site": "north", "metrics": figures_}], "macro": figures_, "privacy": spent}
    file = own.app.state.console.store.folder / "results.json"
    file.write_text(json.dumps(content))
    text = seen(own, "/runs/a").text
    assert "0.4572" in text
    assert "5.62" in text
    assert "2.5 of 3" in text
    file.write_text(json.dumps(content | {"run": "another"}))
    assert "0.4572" not in seen(own, "/runs/a").text
    for damaged in ("{", "[]", json.dumps({"run": "a", "sites": 7, "macro": [], "privacy": "x"}), "[" * 10_000):
        file.write_text(damaged)
        assert "No labelled test data here" in seen(own, "/runs/a").text


# ---- small parts ----


def test_the_parts_of_a_round_add_up_to_its_duration() -> None:
    for number in (3, 11, 12):
        record = round_of("a", number)
        parts = durations(record)
        assert sum(part.seconds for part in parts) == pytest.approx(record.seconds)
        assert sum(part.width for part in parts) == pytest.approx(100, abs=0.01)
    odd = replace(record, seconds=float("nan"), timings={"wait": float("inf")}, status=Status.FAILED)
    assert durations(odd) == ()


def test_a_plant_that_is_far_off_its_best_is_told_to_drift() -> None:
    drift = drift_of(Series("holdout_loss", "north", (1, 2, 3, 4), (0.4, 0.1, None, 0.3)))
    assert drift.ratio == pytest.approx(3.0)
    assert (drift.best_round, drift.newest_round, drift.tone) == (2, 4, "bad")
    assert drift_of(Series("holdout_loss", "north", (1, 2), (0.2, 0.21))).tone == "ok"
    assert drift_of(Series("holdout_loss", "north", (1, 2), (0.2, 0.28))).tone == "warn"
    assert drift_of(Series("holdout_loss", "north", (1,), (0.2,))).ratio is None
    assert drift_of(Series("holdout_loss", "north", (1, 2), (0.0, 0.2))).ratio is None


def test_candidates_are_ranked_plant_by_plant() -> None:
    rows = [Candidate(9, "a" * 64, {"north": 0.1, "south": 0.3}), Candidate(7, "b" * 64, {"north": 0.2, "south": 0.1})]
    found = cells(rows, ["north", "south"], higher=False)
    assert (found[0, "north"].rank, found[0, "north"].best, found[0, "south"].rank) == (1, True, 2)
    assert found[1, "south"].best
    assert cells(rows, ["north"], higher=True)[1, "north"].best
    alone = cells([rows[0]], ["north"], higher=False)[0, "north"]
    assert not alone.best


@pytest.mark.parametrize(
    ("reason", "kind", "says"),
    [
        ("late: no reply within 40 s", "late", "deadline"),
        ("absent: not connected", "absent", "preflight"),
        ("refused by the plant: CP-903 BudgetSpent", "refused", "budget"),
        ("refused by the plant: CP-603 kind", "refused", "policy.toml"),
        ("refused by the plant: CP-999 Odd", "refused", "client audit"),
        ("NaN: 3 values of head.bias", "bad values", "gaps"),
        ("schema: CP-203", "other sensors", "tag map"),
        ("replay: bit for bit the update that this plant sent in round 3.", "replay", "keys"),
        ("round 3, expected 4: a stale reply.", "stale", "again"),
        ("something new", "invalid", "version"),
        (None, "invalid", "version"),
    ],
)
def test_every_reason_comes_with_something_to_do(reason: str | None, kind: str, says: str) -> None:
    told = advise(reason)
    assert told.kind == kind
    assert says in f"{told.meaning} {told.cure}"


def test_a_run_of_many_plants_draws_only_those_that_are_asked_for(tmp_path: Path) -> None:
    plants = [f"p{i:02}" for i in range(12)]
    rich(tmp_path / "store", 12, plants=plants)
    reader = console(tmp_path / "store").state.console.reader
    page = reader.page("a")
    few = charts_of(reader, page, plants, None)
    assert [line["label"] for line in few[0].lines] == ["all plants"]
    one = charts_of(reader, page, plants, "p03")
    assert [line["label"] for line in one[0].lines] == ["all plants", "p03"]
    assert "plant=p03" in one[0].lines[1]["url"]
    assert one[0].labels == ("all plants", "p03")


def test_static_files_and_templates_are_where_the_wheel_takes_them_from() -> None:
    assert (templating.STATIC / "console.css").is_file()
    for name in ("charts.js", "live.js", "icon.svg", "vendor/htmx-2.0.4.min.js"):
        assert templating.asset(name).startswith(f"/static/{name}?v=")
    assert figures.number(1e-9) == "1e-09"
