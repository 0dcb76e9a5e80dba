"""The HTML report: complete, safe with hostile text, honest about what is missing, and small."""

from __future__ import annotations

import dataclasses
import math
import re
import tomllib
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from server.rounds import ClusterReport, Phase, PlantReport, RoundRecord, Status
from shared.bundle.parts import Provenance
from shared.bundle.whole import Bundle
from shared.config import RunConfig, build
from shared.metrics.summary import evaluate
from shared.model import GlobalModel
from shared.preprocess import Preprocessor, Scaler
from shared.schema import SensorSchema
from shared.scoring import ScoreScale
from shared.thresholds import Threshold
from simulations.evaluate import SiteResult
from simulations.report import Material, write, write_report
from simulations.report.material import SHOWN
from simulations.report.movement import last_move, movements
from simulations.report.reproduce import preset
from simulations.report.sites import buckets, downsample
from simulations.report.summary import sentences

HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=1> $\\frac{1}$ {{ 7*7 }} \u202e\x00\ud800 –名"
CONFIG, ORIGIN = build({"preset tiny": {"rounds": {"joint": 3}, "data": {"path": "/d & <b>"}}, "--seed": {"seed": 4}})


def site(name: str = "north", rows: int = 400, labelled: bool = True, seed: int = 0, weak: bool = True) -> SiteResult:
    rng = np.random.default_rng(seed)
    labels_T = np.zeros(rows, bool)
    labels_T[rows // 2 : rows // 2 + rows // 10] = True
    scores_T = rng.normal(size=rows) + 2.0 * labels_T
    scores_T[:29] = np.nan
    return SiteResult(
        site=name,
        group="",
        train_rows=rows,
        test_rows=rows,
        bundle=bundle(name, weak),
        scores_T=scores_T,
        thresholds_T=np.full(rows, 1.5),
        labels_T=labels_T if labelled else None,
        starts=(0,),
        evaluation=evaluate(scores_T, labels_T, 1.5, 60.0) if labelled and rows else None,
        period_s=60.0,
    )


def bundle(name: str, weak: bool) -> Bundle:
    threshold = Threshold(
        value=1.5,
        rule="conformal",
        fitted_on="holdout",
        calibration_size=80,
        effective_size=12.5,
        false_alarm_rate=0.01,
        supported_rate=0.0099,
        status="weak" if weak else "ok",
        note="The 80 windows are worth 12." if weak else "",
    )
    return Bundle(
        provenance=Provenance(site=name, run="a", round=9, model="0" * 64, holdout_loss=0.5),
        model=GlobalModel({}),
        recipe=CONFIG.recipe,
        schema=SensorSchema(tags=("LIT101",), period_s=60.0),
        preprocessor=Preprocessor(scaler=Scaler(kind="standard", shift=(0.0,), scale=(1.0,), centre=(0.0,))),
        score=ScoreScale(entropy_weight=0.1),
        threshold=threshold,
    )


def finished(number: int, phase: Phase = Phase.JOINT, plants: tuple[PlantReport, ...] = (), k: int = 3) -> RoundRecord:
    loss = 1.0 / number
    accepted = PlantReport("north", True, None, {"holdout_loss": loss}, 100, 900, 800, 1.0)
    moved = ClusterReport((1 / k,) * k, (0.5 / number,) * k, (True,) * k, float(k))
    return RoundRecord(
        run="a",
        number=number,
        phase=phase,
        label=f"train {number}",
        status=Status.COMMITTED,
        reason=None,
        started="2024-05-01T10:00:00.000+00:00",
        seconds=2.5,
        plants=(accepted, *plants),
        metrics={"train_loss": loss, "holdout_loss": loss, "cluster_loss": loss},
        clusters=moved if phase is Phase.JOINT else None,
        model="0" * 64,
        config=CONFIG.digest,
    )


def whole() -> Material:
    records = [finished(1, Phase.DESCRIBE), *(finished(n, Phase.PRETRAIN) for n in (2, 3))]
    records += [finished(n) for n in range(4, 9)]
    sites = (site("north"), site("south", seed=1, weak=False))
    return Material("a", CONFIG, ORIGIN, ("north/FIT101: 3 gaps filled (3)",), records, sites, 12.0)


class Page(HTMLParser):
    """A parsed report: every element must be closed, attributes are collected."""

    void = frozenset({"meta", "br", "img", "link", "col", "input"})

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.html = html
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes |= {name for name, _ in attrs}
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "xlink:href")]
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.void:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def report(tmp_path: Path, material: Material) -> Page:
    path = tmp_path / "report.html"
    write_report(path, material)
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]
    return Page(path.read_text(encoding="utf-8"))


def changed(record: RoundRecord, **changes: object) -> RoundRecord:
    return dataclasses.replace(record, **changes)  # type: ignore[arg-type]


def test_whole_run_has_every_part(tmp_path: Path) -> None:
    page = report(tmp_path, whole())
    for heading in ("Summary", "Sites", "Timelines", "Thresholds", "Losses", "Clusters", "Rounds", "Notes", "Settings"):
        assert heading in page.text
    assert page.tags["svg"] == 5  # ranking, two timelines, losses, clusters
    assert page.tags["figcaption"] == page.tags["svg"]
    assert page.html.count('role="img" aria-label="') == 5
    assert CONFIG.digest in page.text
    assert "north/FIT101: 3 gaps filled (3)" in page.text
    assert "The 80 windows are worth 12." in page.text
    assert "1 of 2 thresholds are weak" in page.text


def test_page_needs_nothing_from_outside(tmp_path: Path) -> None:
    page = report(tmp_path, whole())
    assert not re.search(r"https?:|//[a-z]|@import|\bsrc=|xmlns|javascript:", page.html)
    assert page.links
    assert all(link.startswith("#") for link in page.links)
    assert not page.tags["script"] + page.tags["link"] + page.tags["img"] + page.tags["iframe"]


def test_ids_are_unique_and_every_reference_leads_somewhere(tmp_path: Path) -> None:
    page = report(tmp_path, whole())
    assert [name for name, times in Counter(page.ids).items() if times > 1] == []
    named = {link[1:] for link in page.links} | set(re.findall(r"url\(#([^)]+)\)", page.html))
    assert named <= set(page.ids)


def test_tables_name_their_rows_and_columns(tmp_path: Path) -> None:
    page = report(tmp_path, whole())
    assert page.tags["caption"] == page.tags["table"]
    assert page.tags["th"] == len(re.findall(r'<th scope="(?:col|colgroup|row)"', page.html))


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    rejected = PlantReport(HOSTILE, False, HOSTILE)
    record = changed(finished(3, plants=(rejected,)), label=HOSTILE, reason=HOSTILE, status=Status.SKIPPED)
    sites = [dataclasses.replace(site(HOSTILE), group=HOSTILE), dataclasses.replace(site("b"), site=HOSTILE * 9)]
    plain = HOSTILE.replace("\ud800", "")  # pydantic cannot serialise a lone surrogate
    config = CONFIG.model_copy(update={"data": CONFIG.data.model_copy(update={"path": plain, "dataset": plain})})
    origin = dict.fromkeys(ORIGIN, HOSTILE)
    records = [finished(1, Phase.DESCRIBE, (rejected,)), finished(2), record, finished(4)]
    page = report(tmp_path, Material(HOSTILE, config, origin, (HOSTILE,), records, sites, 1.0))
    assert "script" not in page.tags
    assert "img" not in page.tags
    assert not {name for name in page.attributes if name.startswith("on") or name == "src"}
    assert "alert('x')" in page.text
    assert "{{ 7*7 }}" in page.text


def test_point_adjusted_f1_never_stands_alone(tmp_path: Path) -> None:
    material = whole()
    (adjusted,) = [text for text in sentences(material) if "Point-adjusted" in text]
    assert "random score" in adjusted
    page = report(tmp_path, material)
    cells = re.findall(r'<td class="n quiet"><bdi>([^<]+)</bdi>', page.html)
    assert len(cells) == 4  # two sites, their mean, and all as one
    assert all(re.fullmatch(r"\d\.\d{3} \(\d\.\d{3}\)", cell) for cell in cells)


def test_all_sites_as_one_stand_beside_their_mean(tmp_path: Path) -> None:
    sites = tuple(site(f"s{i}", seed=i) for i in range(6))
    material = dataclasses.replace(whole(), results=sites)
    (together,) = [text for text in sentences(material) if "end to end" in text]
    assert "95 % interval" in together
    assert "are raw" not in together
    page = report(tmp_path, material)
    assert re.search(r"Mean over sites.*All sites as one", page.text, re.DOTALL)
    assert "no interval" not in " ".join(sentences(material))
    alone = dataclasses.replace(material, results=sites[:1])
    assert not [text for text in sentences(alone) if "end to end" in text]
    assert "no interval: too few events" in " ".join(sentences(alone))


def test_raw_scores_are_not_pooled_unsaid() -> None:
    scoring = CONFIG.recipe.scoring.model_copy(update={"standardise": False})
    recipe = CONFIG.recipe.model_copy(update={"scoring": scoring})
    material = dataclasses.replace(whole(), config=CONFIG.model_copy(update={"recipe": recipe}))
    assert any("Scores are raw" in text for text in sentences(material))


@pytest.mark.parametrize("rows", [0, 20, 400])
def test_without_labels_nothing_is_claimed(tmp_path: Path, rows: int) -> None:
    bare = dataclasses.replace(site(rows=rows, labelled=False), labels_T=None)
    page = report(tmp_path, dataclasses.replace(whole(), results=(bare,)))
    assert "nothing was measured, and nothing is claimed" in page.text
    assert "AUPRC by site" not in page.html
    assert ("There is no score to draw." in page.text) == (rows < 30)
    assert "nan" not in page.text.lower().split()


def test_undefined_figures_are_dashes(tmp_path: Path) -> None:
    eventless = site()
    scores_T, labels_T = eventless.scores_T, np.zeros(400, bool)
    found = evaluate(scores_T, labels_T, 1.5, 60.0)
    assert math.isnan(found.event_recall)
    quiet = dataclasses.replace(eventless, labels_T=labels_T, evaluation=found)
    metrics = {"train_loss": math.nan, "holdout_loss": math.inf, "cluster_loss": math.nan}
    records = [changed(finished(2), metrics=metrics), changed(finished(3), metrics=metrics), finished(4)]
    page = report(tmp_path, dataclasses.replace(whole(), results=(quiet,), records=records))
    assert not re.search(r"\bnan\b", page.text, re.IGNORECASE)
    assert "–" in page.text
    assert "∞" in page.text


def test_infinite_scores_and_bent_axes_are_drawn(tmp_path: Path) -> None:
    wild = site()
    scores_T = wild.scores_T.copy()
    scores_T[100], scores_T[200] = np.inf, 1e6
    unknown = dataclasses.replace(site("east"), scores_T=np.full(400, np.inf))
    page = report(
        tmp_path, dataclasses.replace(whole(), results=(dataclasses.replace(wild, scores_T=scores_T), unknown))
    )
    assert "1 row with an infinite score" in page.text
    assert "mathdefault" not in page.html


def test_no_rounds_no_sites(tmp_path: Path) -> None:
    page = report(tmp_path, Material("a", RunConfig(), {}, (), (), (), 0.0))
    assert "No round reported a loss." in page.text
    assert "No round refreshed the clusters." in page.text
    assert "Every setting is at its default." in page.text
    assert "Nothing was repaired" in page.text


def test_one_site_one_round_one_cluster(tmp_path: Path) -> None:
    records = [finished(1, k=1), finished(2, k=1)]
    page = report(tmp_path, dataclasses.replace(whole(), records=records, results=(site(),)))
    assert page.tags["svg"] == 4


def test_halted_rounds_are_named_with_their_reasons(tmp_path: Path) -> None:
    late = tuple(PlantReport(f"p{i}", False, "late: no reply within 60 s") for i in range(8))
    skipped = changed(finished(5, plants=late), status=Status.SKIPPED, reason="1 of 9 plants counted, the quorum is 5")
    failed = changed(skipped, number=6, status=Status.FAILED)
    page = report(tmp_path, dataclasses.replace(whole(), records=[finished(4), skipped, failed]))
    assert "The run failed in round 6: 1 of 9 plants counted" in page.text
    assert "p0: late: no reply within 60 s" in page.text
    assert "and 3 more plants" in page.text
    assert "2 rounds skipped or failed" in page.text


def test_refused_plants_are_a_caution(tmp_path: Path) -> None:
    refused = PlantReport("west", False, "schema: CP-203 SchemaMismatch: plant 'west' lacks LIT101")
    page = report(tmp_path, dataclasses.replace(whole(), records=[finished(1, Phase.DESCRIBE, (refused,))]))
    assert "1 site is refused in the describe round" in page.text
    assert "lacks LIT101" in page.text


def test_seeding_is_no_movement() -> None:
    seeding = [finished(1, k=1), finished(2, k=32), finished(3, k=32), finished(4, k=3)]
    assert movements(seeding) == []
    assert math.isnan(last_move(seeding))
    refreshed = [*seeding, finished(5, k=3), changed(finished(6, k=3), status=Status.SKIPPED), finished(8, k=3)]
    assert [number for number, _ in movements(refreshed)] == [5, 8]
    assert last_move(refreshed) == 0.5 / 8


def test_many_clusters_are_grouped(tmp_path: Path) -> None:
    records = [finished(n, k=256) for n in range(1, 5)]
    page = report(tmp_path, dataclasses.replace(whole(), records=records))
    assert "others" in page.text


def test_size_and_peaks_with_27_sites(tmp_path: Path) -> None:
    sites = [site(f"channel-{i}", rows=6000, seed=i) for i in range(27)]
    page = report(tmp_path, dataclasses.replace(whole(), results=sites))
    assert len(page.html.encode()) < 5_000_000
    assert page.tags["details"] == 29


def test_a_thousand_rounds_stay_small(tmp_path: Path) -> None:
    records = [finished(n, k=8) for n in range(1, 1001)]
    page = report(tmp_path, dataclasses.replace(whole(), records=records))
    assert len(page.html.encode()) < 2_000_000


def test_more_sites_than_can_be_drawn_are_in_the_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "timeline", lambda *given: None)
    few = site(rows=60)
    sites = [dataclasses.replace(few, site=f"s{i}") for i in range(SHOWN + 30)]
    page = report(tmp_path, dataclasses.replace(whole(), results=sites))
    assert "30 more sites are in the tables only." in page.text
    assert f"The {SHOWN} best of {SHOWN + 30} sites." in page.text
    assert f"s{SHOWN + 29}" in page.text


def test_downsampling_keeps_every_peak() -> None:
    rng = np.random.default_rng(0)
    scores_T = rng.normal(size=10_000)
    scores_T[[17, 5_000, 9_999]] = 50.0, -50.0, 60.0
    scores_T[100:400] = np.nan
    rows, drawn = downsample(scores_T, buckets(len(scores_T), sites=1))
    assert len(drawn) <= 1_800
    assert np.nanmax(drawn) == 60.0
    assert np.nanmin(drawn) == -50.0
    assert np.isnan(drawn).any()
    assert (np.diff(rows) >= 0).all()
    assert 50.0 in drawn


def test_preset_reproduces_the_run(tmp_path: Path) -> None:
    settings = tomllib.loads(preset(CONFIG))
    again, _ = build({"preset again.toml": settings})
    assert again.digest == CONFIG.digest
    odd = CONFIG.model_copy(update={"data": CONFIG.data.model_copy(update={"path": 'a"\\é😀'})})
    assert build({"again": tomllib.loads(preset(odd))})[0] == odd


def test_settings_say_where_they_came_from(tmp_path: Path) -> None:
    page = report(tmp_path, whole())
    assert re.search(
        r"rounds\.joint</bdi></th>.*\s.*<bdi>3</bdi></td>.*\s.*<bdi>14</bdi>.*\s.*<bdi>preset tiny", page.html
    )
    assert "--seed" in page.text


def test_writing_again_replaces_the_old_report(tmp_path: Path) -> None:
    report(tmp_path, whole())
    page = report(tmp_path, dataclasses.replace(whole(), run="second"))
    assert "Crossplant run second" in page.text


def test_drawings_depend_on_the_run_alone(tmp_path: Path) -> None:
    first, second = (re.findall(r"<svg.*?</svg>", report(tmp_path, whole()).html, re.DOTALL) for _ in range(2))
    assert first == second
