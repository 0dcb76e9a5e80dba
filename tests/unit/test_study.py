"""The parts of `crossplant study`, each by itself."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from client.training.moments import own_moments
from client.training.workspace import prepare
from shared.config import RunConfig, build
from shared.errors import DataNotFound, InvalidConfig, RunDirectoryInUse, TooFewRows, UnknownName
from shared.lag.pooled import tag
from shared.metrics.bootstrap import resampled_average_precision
from shared.preprocess import join_rows
from shared.series import SiteData
from shared.wire.envelope import Packet
from shared.wire.messages import Request
from simulations.study import cells, effective, neural, plan, run
from simulations.study.contestant import contestant, spread
from simulations.study.datasets import Source, choose, load_sites
from simulations.study.disturb import DISTURBANCES, disturbed
from simulations.study.effective import Asked
from simulations.study.entrants import entrants
from simulations.study.judge import run as judge
from simulations.study.measure import Measured, end_to_end, labels_of
from simulations.study.neural import NeuralContestant, pooled_site, scaled_already, thinned
from simulations.study.plan import Cell, StudyPlan
from simulations.study.rows import prepared, recordings
from simulations.study.statistics import by_site, compare, ranks, summaries
from tests.conftest import write_telemanom
from tests.support.study import Witness, evaluation, sites, tiny

ASKED = Asked(("generated",), ("lag", "pca"), ("local", "central"), 2)


# ---- the plan --------------------------------------------------------------------------------------------------------


def test_the_digest_changes_with_every_setting_and_with_nothing_else() -> None:
    digests = {
        StudyPlan.of(asked).digest
        for asked in (
            ASKED,
            replace(ASKED, seeds=3),
            replace(ASKED, modes=("local",)),
            replace(ASKED, detectors=("lag",)),
            replace(ASKED, settings=("recipe.training.holdout=0.3",)),
            replace(ASKED, quick=True),
            replace(ASKED, with_robustness=True),
        )
    }
    assert len(digests) == 7
    assert StudyPlan.of(ASKED).digest == StudyPlan.of(replace(ASKED, modes=("central", "local"))).digest


def test_a_frozen_plan_is_read_back_and_another_one_is_refused(tmp_path: Path) -> None:
    mine, other = StudyPlan.of(ASKED), StudyPlan.of(replace(ASKED, seeds=1))
    plan.freeze(tmp_path / "s", mine, "command")
    assert plan.read(tmp_path / "s") == mine
    plan.freeze(tmp_path / "s", mine, "the same once more")
    with pytest.raises(RunDirectoryInUse, match="other settings"):
        plan.freeze(tmp_path / "s", other, "command")


def test_a_plan_that_was_changed_by_hand_is_refused(tmp_path: Path) -> None:
    plan.freeze(tmp_path / "s", StudyPlan.of(ASKED), "command")
    file = tmp_path / "s" / plan.FILE
    content = json.loads(file.read_text())
    content["study"]["seeds"] = 5
    file.write_text(json.dumps(content))
    with pytest.raises(RunDirectoryInUse, match="changed since"):
        plan.read(tmp_path / "s")


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(RunDirectoryInUse, match="holds no study"):
        plan.freeze(tmp_path, StudyPlan.of(ASKED), "command")
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_the_plan_stands_on_the_disk_before_any_data_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.support.command import crossplant_here

    seen: list[str] = []

    def opened(*_: object) -> tuple[SiteData, ...]:
        seen.append(json.loads((tmp_path / "s" / plan.FILE).read_text())["digest"])
        raise DataNotFound("enough seen.")

    monkeypatch.setattr(run, "load_sites", opened)
    done = crossplant_here("study", "--datasets", "generated", "--detectors", "lag", "--out", tmp_path / "s")
    assert seen == [seen[0]] * 3
    assert len(seen[0]) == 64
    assert done.returncode == 1
    assert "no cell of the study could be measured" in done.stderr


def test_each_contestant_has_its_own_settings_and_each_seed_its_seed() -> None:
    asked = Asked(("generated", "twin-swat"), ("crossplant", "paper", "vae", "lag"), ("local", "private"), 2, rounds=10)
    found = StudyPlan.of(asked)
    paper, vae, lag = (found.config(Cell("generated", name, "local", 1)) for name in ("paper", "vae", "lag"))
    assert (paper.recipe.scoring.entropy_weight, paper.recipe.preprocess.scaling) == (0.35, "minmax")
    assert vae.recipe.detector.name == "vae"
    assert (paper.seed, paper.recipe.training.seed) == (1, 1)
    assert (paper.rounds.pretrain, paper.rounds.joint) == (3, 7)
    assert lag.recipe.preprocess.clip_quantile is None
    assert found.config(Cell("twin-swat", "lag", "local", 0)).recipe.preprocess.every == effective.TWIN_EVERY
    private = found.config(Cell("generated", "crossplant", "private", 0))
    assert private.recipe.privacy.epsilon == 8.0
    assert private.recipe.privacy.noise.weights > 0
    assert found.config(Cell("generated", "crossplant", "local", 0)).recipe.privacy.mode == "none"
    told = {(one.detector, one.mode): one.why for one in found.cells()[1]}
    assert set(told) == {("paper", "private"), ("lag", "private")}
    assert "bottleneck must be tanh" in told["paper", "private"]


def test_cells_are_the_product_of_what_each_contestant_can_do() -> None:
    found, skipped = StudyPlan.of(replace(ASKED, modes=("local", "federated"))).cells()
    assert [str(cell) for cell in found[:3]] == [
        "generated lag local seed 0",
        "generated lag federated seed 0",
        "generated pca local seed 0",
    ]
    assert len(found) == 6
    assert [(one.detector, one.mode) for one in skipped] == [("pca", "federated")]


def test_names_that_nobody_knows_are_refused() -> None:
    with pytest.raises(UnknownName, match="no detector called 'oracle'"):
        StudyPlan.of(replace(ASKED, detectors=("oracle",)))
    with pytest.raises(InvalidConfig, match="no mode called 'telepathic'"):
        StudyPlan.of(replace(ASKED, modes=("telepathic",)))
    aliases = StudyPlan.of(replace(ASKED, detectors=("default", "iforest"), modes=("federated+dp", "local")))
    assert (aliases.detectors, aliases.modes) == (("crossplant", "isolation-forest"), ("local", "private"))


# ---- data sets and entrants ------------------------------------------------------------------------------------------


def historian(folder: Path, settings: str = "") -> Path:
    folder.mkdir(parents=True)
    lines = ["time,a,b,state", *(f"2024-03-05 {t // 60:02d}:{t % 60:02d}:00,{t % 7},{t % 5},0" for t in range(120))]
    (folder / "export.csv").write_text("\n".join(lines))
    if settings:
        (folder / "historian.toml").write_text(settings)
    return folder


def test_folders_are_data_sets_by_content_and_exports_by_their_name(tmp_path: Path) -> None:
    historian(tmp_path / "mill")
    write_telemanom(tmp_path / "nasa", {"C-1": "[[5, 9]]", "M-2": "[[7, 9]]"})
    (tmp_path / "empty").mkdir()
    assert [source.name for source in choose(["all"], tmp_path)] == ["twin-swat", "twin-wadi", "mill", "msl"]
    mill, msl, nasa = choose(["mill", "msl", "nasa"], tmp_path)
    assert (mill.loader, msl.path, nasa) == ("historian", tmp_path / "nasa", Source("nasa", "msl", tmp_path / "nasa"))
    assert [site.name for site in load_sites(msl, tiny())] == ["C-1", "M-2"]
    assert len(load_sites(mill, tiny())[0].train_TD) == 120


def test_a_site_can_be_left_little_data() -> None:
    config = build({"made": {"data": {"rows": 400, "sites": 2, "shrink": ["plant-1:0.25"]}}})[0]
    assert [len(site.train_TD) for site in load_sites(Source("generated", "generated"), config)] == [100, 400]


def test_a_data_set_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataNotFound, match="none of the folders"):
        choose(["skab"], tmp_path)
    with pytest.raises(DataNotFound, match="no folder was given"):
        choose(["skab"], None)
    with pytest.raises(UnknownName, match="Known: generated"):
        choose(["mill"], tmp_path)


def test_one_plant_is_cut_in_time_and_every_block_is_tested_on_the_whole_recording() -> None:
    (whole,) = sites(1, train=800)
    blocks = entrants([whole], "federated", tiny().recipe)
    assert [block.name for block in blocks] == [f"site-1-t{k}" for k in (1, 2, 3, 4)]
    assert np.array_equal(np.concatenate([block.train_TD for block in blocks]), whole.train_TD)
    assert all(block.test_TD is whole.test_TD and block.labels_T is whole.labels_T for block in blocks)
    assert entrants([whole], "local", tiny().recipe) == (whole,)
    assert len(entrants(sites(3), "central", tiny().recipe)) == 3
    with pytest.raises(TooFewRows, match="too few for two blocks"):
        entrants(sites(1, train=100), "federated", tiny().recipe)


def test_what_a_cells_process_reads_has_no_labels(tmp_path: Path) -> None:
    ready = run._laid_out(sites(1, train=800), tiny().recipe, tmp_path)
    assert len(ready) == 2
    names = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert names == {"site.json", "train.npy", "test.npy"}
    assert all(json.loads(path.read_text())["labelled"] is False for path in tmp_path.rglob("site.json"))


# ---- rows, central training, joined rows -----------------------------------------------------------------------------


def with_recordings(site: SiteData) -> SiteData:
    return replace(site, train_starts=(0, 90, 160))


def test_large_sites_train_on_as_many_windows_as_a_core_can_carry() -> None:
    small, config = sites(1)[0], RunConfig()
    large = replace(small, train_TD=np.zeros((70_000, small.schema.dim), np.float32))
    assert thinned(config, [small]) == config
    assert thinned(config, [small, large]).recipe.training.stride == 2
    every = {"preprocess": {"every": 2}, "training": {"stride": 5}}
    asked = RunConfig.model_validate({"recipe": every})
    assert thinned(asked, [small, large]).recipe.training.stride == 5, "what is asked for is not made finer"


@pytest.mark.parametrize("every", [1, 2])
def test_row_contestants_get_the_split_of_a_trained_detector(every: int) -> None:
    config = tiny()
    preprocess = config.recipe.preprocess.model_copy(update={"every": every})
    recipe = config.recipe.model_copy(update={"preprocess": preprocess})
    site = with_recordings(sites(1)[0])
    work, found = prepare(site, recipe), prepared(site, recipe)
    joined_TD, starts = join_rows(site.train_TD, site.train_starts, every, "median")
    spans = recordings(site, work, recipe)
    again = [site_rows for learnt, held in spans for site_rows in (learnt[1] - learnt[0], held[1] - held[0])]
    assert sum(again) == len(joined_TD)
    ends = [*starts[1:], len(joined_TD)]
    assert [a + b for a, b in zip(again[::2], again[1::2], strict=True)] == [
        end - begin for begin, end in zip(starts, ends, strict=True)
    ]
    assert found.learn_starts == tuple(np.cumsum([0, *again[:-2:2]]))
    assert np.array_equal(found.ends_N, work.holdout.starts_N + 7)


def test_the_pooled_plant_learns_from_and_holds_out_what_its_sites_do() -> None:
    config, given = tiny(), [with_recordings(site) for site in sites(2)]
    works = [(site, prepare(site, config.recipe)) for site in given]
    pooled = prepare(pooled_site(works, config), scaled_already(config).recipe)
    for part in ("train", "holdout"):
        rows_TD = np.concatenate([getattr(work, part).rows_TD for _, work in works])
        assert np.array_equal(getattr(pooled, part).rows_TD, rows_TD)
        assert len(getattr(pooled, part).starts_N) == sum(len(getattr(work, part).starts_N) for _, work in works)


def test_central_training_of_one_plant_is_local_training(tmp_path: Path) -> None:
    """Named like the pooled plant, for names go into the order of batches."""
    site, chosen = replace(sites(1)[0], name="pooled"), NeuralContestant("cnn-lstm", tiny())
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (alone,), _ = judge(chosen, [site], "local", 0, tmp_path / "a")
    (central,), _ = judge(chosen, [site], "central", 0, tmp_path / "b")
    assert np.array_equal(alone.scores_T, central.scores_T, equal_nan=True)
    assert np.array_equal(alone.thresholds_T, central.thresholds_T)


def test_the_pooled_model_is_calibrated_with_everybodys_moments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a federation's exchange would have it: the pooled plant is one, and has no others to sum with."""
    config, given = tiny(), sites(2)
    works = [(site, prepare(site, config.recipe)) for site in given]
    own = [own_moments(work, config.recipe) for _, work in works]
    total = neural.summed(works, "run", config)
    assert total is not None
    assert np.array_equal(total.vector_Q, (own[0] + own[1]).vector_Q)
    assert set(total.shares) == {tag("run", "site-1"), tag("run", "site-2")}
    sent: list[Request] = []
    plain = neural.encode_request

    def seen(request: Request) -> Packet:
        sent.append(request)
        return plain(request)

    monkeypatch.setattr(neural, "encode_request", seen)
    judged, _ = judge(NeuralContestant("cnn-lstm", config), given, "central", 0, tmp_path)
    assert len(judged) == len(sent) == 2
    assert all(request.lag is not None and len(request.lag.shares) == 2 for request in sent)


def test_federated_scores_are_those_of_a_simulated_run(tmp_path: Path) -> None:
    """The seam to `crossplant simulate`: same agents, same rounds, same scores."""
    from client.training.tensors import resolve_device
    from server.channel import Silent
    from simulations.evaluate import evaluate_sites
    from simulations.gather import check_sites
    from simulations.rundir import RunFolder
    from simulations.simulate import begin, proceed

    config, given = tiny(), sites()
    (tmp_path / "a").mkdir()
    judged, _ = judge(NeuralContestant("cnn-lstm", config), given, "federated", 0, tmp_path / "a")
    folder = RunFolder(tmp_path / "b")
    begin(config, {}, folder, gathered=check_sites(config, "given", given))
    proceed(folder, Silent())
    plain, _ = evaluate_sites(folder.plants, folder.bundles, resolve_device("cpu"), 1)
    for mine, theirs in zip(judged, plain, strict=True):
        assert mine.site == theirs.site
        assert np.array_equal(mine.scores_T, theirs.scores_T.astype(np.float64), equal_nan=True)
        assert mine.wire_bytes > 10_000


@pytest.mark.parametrize(
    ("every", "starts", "rows"), [(3, (0,), 10), (3, (0, 7), 16), (4, (0, 2, 9), 20), (1, (0,), 5)]
)
def test_a_joined_rows_value_holds_from_its_blocks_end_until_the_next(
    every: int, starts: tuple[int, ...], rows: int
) -> None:
    expected, taken = np.full(rows, np.nan), 0
    for begin, end in zip(starts, [*starts[1:], rows], strict=True):
        for row in range(begin, end):
            complete = (row - begin + 1) // every
            if complete:
                expected[row] = taken + complete - 1
        taken += (end - begin) // every
    found = spread(np.arange(max(taken, 1), dtype=np.float64), every, starts, rows, np.nan)
    assert np.array_equal(found, expected, equal_nan=True)


# ---- outcomes on disk ------------------------------------------------------------------------------------------------


def outcome(tmp_path: Path) -> cells.Outcome:
    judged, left = judge(Witness(), sites(), "local", 0, tmp_path, ("noise 20 dB",), portraits=True)
    return cells.Outcome(Cell("made", "witness", "local", 0), "digest", "code", tuple(judged), tuple(left), 12.5, 1.5)


def test_an_outcome_comes_back_as_it_was(tmp_path: Path) -> None:
    mine, at = outcome(tmp_path), tmp_path / "cells" / "one"
    cells.write(at, mine)
    cells.write(at, mine)
    back = cells.read(at, mine.cell, "digest")
    assert back is not None
    assert [path.name for path in at.parent.iterdir()] == ["one"]
    for a, b in zip(mine.judged, back.judged, strict=True):
        assert np.array_equal(a.scores_T, b.scores_T)
        assert np.array_equal(a.variants["noise 20 dB"][0], b.variants["noise 20 dB"][0])
        assert (a.site, a.starts, a.train_s, b.peak_mb, list(b.portrait)) == (
            b.site,
            b.starts,
            b.train_s,
            12.5,
            ["latents_NZ"],
        )


@pytest.mark.parametrize("harm", ["other data", "other cell", "cut", "not json", "gone"])
def test_an_outcome_that_is_damaged_or_of_other_data_is_measured_anew(harm: str, tmp_path: Path) -> None:
    mine, at = outcome(tmp_path), tmp_path / "cells" / "one"
    cells.write(at, mine)
    cell = replace(mine.cell, seed=1) if harm == "other cell" else mine.cell
    if harm == "cut":
        (at / "arrays.safetensors").write_bytes((at / "arrays.safetensors").read_bytes()[:100])
    if harm == "not json":
        (at / "outcome.json").write_text("{")
    if harm == "gone":
        (at / "arrays.safetensors").unlink()
    assert cells.read(at, cell, "others" if harm == "other data" else "digest") is None


def test_the_data_digest_sees_every_row(tmp_path: Path) -> None:
    given = sites(1, train=800)
    digests = set()
    for at, site in enumerate(
        (given[0], replace(given[0], train_TD=given[0].train_TD + 1), replace(given[0], name="b"))
    ):
        ready = run._laid_out([site], tiny().recipe, tmp_path / str(at))
        assert isinstance(ready["whole"], run._Ready)
        digests.add(ready["whole"].digest)
    assert len(digests) == 3


# ---- disturbances ----------------------------------------------------------------------------------------------------


def test_disturbances_are_as_strong_as_they_say_and_alike_for_everybody() -> None:
    rng = np.random.default_rng(0)
    train_TD = (rng.normal(0, 1, (4000, 3)) * [1, 10, 0]).astype(np.float32)
    train_TD[5, 1] = np.nan
    test_TD = np.zeros((4000, 3), np.float32)
    for name in DISTURBANCES:
        found_TD = disturbed(name, train_TD, test_TD, 1)
        assert found_TD.dtype == np.float32
        assert np.array_equal(found_TD, disturbed(name, train_TD, test_TD, 1), equal_nan=True)
        assert not np.array_equal(found_TD, test_TD, equal_nan=True)
    noisy_TD = disturbed("noise 20 dB", train_TD, test_TD, 1)
    assert np.allclose(noisy_TD.std(axis=0), [0.1, 1.0, 0.0], rtol=0.1)
    assert math.isclose(float(np.isnan(disturbed("missing 10 %", train_TD, test_TD, 1)).mean()), 0.1, rel_tol=0.1)
    assert np.allclose(np.abs(disturbed("drift 1.0 sd", train_TD, test_TD, 1)[-1]), [1, 10, 0], rtol=0.1)
    assert not test_TD.any()


# ---- figures ---------------------------------------------------------------------------------------------------------


def row(
    dataset: str, site: str, detector: str, mode: str, auprc: float, seed: int = 0, resampled: Sequence[float] = ()
) -> Measured:
    cell, cost = Cell(dataset, detector, mode, seed), {"train_s": 1.0, "peak_mb": 2.0, "score_us": 3.0}
    return Measured(cell, site, evaluation(auprc), {}, np.array(resampled), **cost, wire_bytes=4)


def test_means_are_over_seeds_first_and_then_over_sites() -> None:
    rows = [row("d", "a", "x", "local", 0.2), row("d", "a", "x", "local", 0.4, 1), row("d", "b", "x", "local", 0.9)]
    (found,) = summaries(rows)
    assert found.means["auprc"] == pytest.approx(0.6)
    assert (found.sites, found.seeds, found.means["train_s"]) == (2, 2, 1.0)


def test_intervals_come_from_sites_where_there_are_five() -> None:
    rows = [row("d", f"s{k}", "x", "local", 0.1 * k) for k in range(1, 8)]
    (found,) = summaries(rows)
    assert found.resampled == "sites"
    assert 0.2 < found.low < 0.4 < found.high < 0.6


def test_ranks_are_averages_over_the_data_sets_that_all_were_measured_on() -> None:
    values = {"d": (0.9, 0.5, 0.1), "e": (0.2, 0.8, 0.1), "f": (0.7, 0.6, 0.5)}
    rows = [row(d, "s", f"m{k}", "local", v) for d, all_ in values.items() for k, v in enumerate(all_)]
    rows.append(row("g", "s", "m0", "local", 0.0))
    found = ranks(summaries(rows), "local")
    assert found is not None
    assert found.datasets == ("d", "e", "f")
    assert found.ranks == {"m0": pytest.approx(4 / 3), "m1": pytest.approx(5 / 3), "m2": 3.0}
    assert 0.05 < found.p < 0.2


def test_sites_where_sharing_does_not_help_are_counted() -> None:
    gains = (0.1, 0.2, 0.3, 0.05, 0.15, 0.25, -0.2, 0.005)
    rows = [row("d", f"s{k}", "x", "local", 0.5) for k in range(8)]
    rows += [row("d", f"s{k}", "x", "federated", 0.5 + gain) for k, gain in enumerate(gains)]
    found = compare(by_site(rows, "x", "federated"), by_site(rows, "x", "local"), ("x federated", "x local"))
    assert found is not None
    assert (found.sites, found.better, found.worse) == (8, 6, 1)
    assert found.gain == pytest.approx(np.mean(gains))
    assert 0.01 < found.p < 0.2


def test_blocks_of_a_plant_are_compared_with_the_plant() -> None:
    rows = [row("d", "town", "x", "local", 0.5), row("d", "town-t1", "x", "central", 0.3)]
    found = compare(by_site(rows, "x", "central"), by_site(rows, "x", "local"), ("a", "b"))
    assert found is not None
    assert found.gain == pytest.approx(-0.2)


def test_few_sites_are_compared_over_the_same_resampled_events() -> None:
    """The values of each way vary by 0.8, their difference by 0.01: unpaired, the interval would hold 0."""
    common = np.linspace(0.1, 0.9, 200)
    rows = [
        row("d", "s", "x", "local", 0.5, resampled=common),
        row("d", "s", "y", "local", 0.45, resampled=common - np.tile([0.045, 0.055], 100)),
    ]
    found = compare(by_site(rows, "x", "local"), by_site(rows, "y", "local"), ("x", "y"))
    assert found is not None
    assert (found.resampled, math.isnan(found.p)) == ("events", True)
    assert (found.low, found.high) == (pytest.approx(0.045), pytest.approx(0.055))


def test_two_detectors_meet_the_same_draws() -> None:
    """What makes the differences those of a paired bootstrap: equal scores in another unit give equal values."""
    labels_T = np.arange(400) % 40 > 34
    scores_T = np.random.default_rng(0).normal(size=400) + labels_T
    one, other = (resampled_average_precision(scores, labels_T) for scores in (scores_T, 3 * scores_T - 1))
    assert len(one) == 200
    assert np.array_equal(one, other)
    assert one.std() > 0.01


def test_all_sites_as_one_rank_by_the_excess_over_each_threshold(tmp_path: Path) -> None:
    found = end_to_end(outcome(tmp_path), labels_of(sites()))
    assert found is not None
    assert found.events == 2
    assert found.auprc == pytest.approx(1.0)


def test_a_contestant_says_what_it_can_do() -> None:
    assert contestant("lag", tiny()).modes == ("local", "federated", "central")
    assert contestant("pca", tiny()).modes == ("local", "central")
    assert "private" in contestant("crossplant", tiny()).modes
