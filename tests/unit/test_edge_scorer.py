"""The scorer against training: the same numbers, sample by sample, whatever the preparation."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from client.edge.explain import Explainer
from client.edge.guard import Guard, guard_of, halved
from client.edge.loading import INT8_TOLERANCE, check_probe, load_edge, make_model
from client.edge.records import Sample, Scored
from client.edge.scorer import Scorer
from client.training.calibrate import window_entropy
from client.training.infer import score_all
from client.training.judged import judge_scores
from client.training.tensors import TensorWindows
from client.training.workspace import Part
from shared.bundle.edge import EdgeBundle
from shared.bundle.whole import read_bundle
from shared.clustering import nearest
from shared.detectors import build
from shared.errors import BundleInvalid, SchemaMismatch
from shared.local_guard import from_bytes
from shared.preprocess import Preprocessor, Rolling, Scaler
from shared.scoring import entropy, student_t_assignments
from shared.series import FloatArray
from shared.windows import window_starts
from tests.support.edge import Made, samples, trained

PREPARED = ["{}", '{"every": 3, "join": "mean"}', '{"rolling": 20}', '{"scaling": "minmax", "clip_live": true}']


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return trained(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def bundle(made: Made) -> EdgeBundle:
    return made.read()


def gappy(made: Made) -> FloatArray:
    """The plant's test rows with one reading in ten missing, some infinite, and a tag that is gone for a while."""
    rows_TD = made.site.test_TD.copy()
    rng = np.random.default_rng(0)
    rows_TD[rng.random(rows_TD.shape) < 0.1] = np.nan
    rows_TD[rng.random(rows_TD.shape) < 0.01] = np.inf
    rows_TD[50:90, 2] = np.nan
    return rows_TD


def in_batch(folder: Path, rows_TD: FloatArray, starts: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Score, error and mode of every window, as training computes them, with PyTorch."""
    whole = read_bundle(folder)
    window = whole.recipe.detector.window
    detector = build(whole.recipe.detector, whole.schema.dim)
    detector.load_weights(whole.model.weights)
    rows = whole.preprocessor.live(rows_TD, starts)
    starts_N = window_starts(len(rows.values_TD), window, 1, rows.starts)
    windows = TensorWindows(Part(rows.values_TD, starts_N), window, torch.device("cpu"))
    found = score_all(detector, windows, whole.recipe.scoring.tail)
    clusters = whole.model.clusters
    scores_N = whole.score.combine(found.error_N, window_entropy(found, clusters))
    if whole.judge is not None:
        own = (whole.judge, detector, clusters, rows.values_TD, rows.starts, starts_N, whole.recipe)
        scores_N = judge_scores(*own)[0][starts_N + window - 1]
    assert clusters is not None
    active_K = np.flatnonzero(clusters.active_K)
    return scores_N, found.error_N, active_K[nearest(found.latent_NZ, clusters.centroids_KZ[active_K])[0]]


@pytest.mark.parametrize("evidence", [True, False], ids=["judge", "network alone"])
@pytest.mark.parametrize("preprocess", PREPARED)
def test_live_scores_are_those_of_training_to_1e_5(tmp_path: Path, preprocess: str, evidence: bool) -> None:
    made = trained(tmp_path, preprocess=preprocess, evidence=evidence)
    assert (made.read().judge is not None) is evidence
    rows_TD, starts = gappy(made), (0, 150, 155, 300)
    scorer, found = Scorer(made.read()), []
    for sample in samples(rows_TD):
        if sample.number in starts:
            scorer.restart()
        found.append(scorer.feed(sample))
    scored = [one for one in found if one is not None]
    scores_N, errors_N, modes_N = in_batch(made.folder, rows_TD, starts)
    assert len(scored) == len(scores_N) > 50
    np.testing.assert_allclose([one.score for one in scored], scores_N, rtol=0, atol=1e-5)
    np.testing.assert_allclose([one.error for one in scored], errors_N, rtol=1e-5, atol=1e-7)
    assert [one.mode for one in scored] == modes_N.tolist()


def test_nothing_is_said_before_the_window_is_full_and_again_after_a_restart(bundle: EdgeBundle) -> None:
    scorer = Scorer(bundle)
    rows = samples(bundle.probe.rows_RD[:20])
    assert [scorer.feed(one) is None for one in rows] == [True] * 7 + [False] * 13
    scorer.restart()
    assert [scorer.feed(one) is None for one in rows[:9]] == [True] * 7 + [False] * 2


def test_a_score_tells_where_it_comes_from_in_the_plants_units(made: Made, bundle: EdgeBundle) -> None:
    scorer = Scorer(bundle, top=3)
    rows_TD = bundle.probe.rows_RD.copy()
    for sample in samples(rows_TD):
        before = scorer.feed(sample)
    scorer = Scorer(bundle, top=3)
    tag = made.site.schema.tags.index("LIT301")
    rows_TD[-1, tag] += 30.0
    for sample in samples(rows_TD):
        after = scorer.feed(sample)
    assert before is not None
    assert after is not None
    assert after.score > before.score
    assert after.p_value <= before.p_value
    first = after.parts[0]
    assert (first.tag, first.direction) == ("LIT301", 1)
    assert first.reading == pytest.approx(float(rows_TD[-1, tag]))
    assert first.reading - first.expected > 20
    shares = [part.share for part in after.parts]
    assert len(shares) == 3
    assert shares[0] == max(shares)
    assert 0 < sum(shares) <= 1


def test_what_is_expected_is_the_inverse_of_the_preparation() -> None:
    """Of a rolling one too: prepared readings given back are the readings."""
    rng = np.random.default_rng(1)
    scaler = Scaler(kind="standard", shift=(1.0, -2.0), scale=(3.0, 0.5), centre=(1.0, -2.0), guard=1e6)
    rolling = Rolling(rows=5, shift=(10.0, 0.0), scale=(2.0, 7.0), first=(10.0, 0.0))
    for fitted in (Preprocessor(scaler=scaler), Preprocessor(scaler=scaler, rolling=rolling)):
        stream = fitted.stream()
        explain = Explainer(("a", "b"), fitted, top=2)
        for row_D in rng.normal(5, 3, (12, 2)).astype(np.float32):
            prepared_D = stream.step(row_D)
            assert prepared_D is not None
            parts = explain(np.ones(2), row_D, prepared_D, np.zeros(2, np.float32), stream)
            for part in parts:
                assert part.expected == pytest.approx(part.reading, rel=1e-4, abs=1e-4)
                assert part.direction == 0


def test_a_missing_reading_has_no_value_and_its_json_no_nan(bundle: EdgeBundle) -> None:
    scorer, found = Scorer(bundle, top=11), None
    rows_TD = bundle.probe.rows_RD[:20].copy()
    rows_TD[-1] = np.nan
    for sample in samples(rows_TD):
        found = scorer.feed(sample)
    assert found is not None
    assert {part["reading"] for part in found.as_json()["sensors"]} == {"nan"}


def test_entropy_and_mode_are_those_of_the_shared_formula(bundle: EdgeBundle) -> None:
    scorer, clusters = Scorer(bundle), bundle.clusters
    assert clusters is not None
    rng = np.random.default_rng(2)
    for latents in rng.normal(0, 1, (50, 1, 4)).astype(np.float32):
        assert scorer._clusters is not None
        mode, found = scorer._clusters(latents)
        due = entropy(student_t_assignments(latents, clusters.centroids_KZ, clusters.active_K))
        np.testing.assert_allclose(found, due, rtol=1e-6)
        distance = ((clusters.centroids_KZ - latents) ** 2).sum(1)
        assert mode == int(np.where(clusters.active_K, distance, np.inf).argmin())


def test_a_row_of_another_width_is_refused_and_changes_nothing(bundle: EdgeBundle) -> None:
    scorer = Scorer(bundle)
    rows = samples(bundle.probe.rows_RD[:20])
    for sample in rows[:10]:
        scorer.feed(sample)
    before = scorer.window_WD
    with pytest.raises(SchemaMismatch):
        scorer.feed(replace(rows[10], values_D=np.zeros(3, np.float32)))
    np.testing.assert_array_equal(scorer.window_WD, before)


# ---- loading ---------------------------------------------------------------------------------------------------------


def test_a_bundle_scores_its_own_probe_before_it_is_used(made: Made, bundle: EdgeBundle) -> None:
    model = make_model(load_edge(made.folder, made.key))
    assert model.scorer.digest == bundle.digest
    scores_M = check_probe(bundle, Scorer(bundle))
    np.testing.assert_allclose(scores_M, bundle.probe.scores_M, rtol=0, atol=1e-5)


@pytest.mark.parametrize("rounds", [1, 2])
def test_a_graph_of_another_model_is_found_out(tmp_path: Path, bundle: EdgeBundle, rounds: int) -> None:
    """Also where the judge hardly listens to the network, and the scores are as due."""
    other = trained(tmp_path, rounds=rounds).read()
    with pytest.raises(BundleInvalid, match=r"does not score its own probe.*by what its network leaves"):
        make_model(replace(bundle, graph=other.graph))


def test_a_probe_that_was_scored_otherwise_is_found_out(bundle: EdgeBundle) -> None:
    probe = bundle.probe
    for other in (
        replace(probe, scores_M=probe.scores_M + 0.001),
        replace(probe, errors_M=probe.errors_M * 1.001),
        replace(probe, errors_M=-probe.errors_M),
        replace(probe, errors_M=np.full_like(probe.errors_M, np.nan)),
    ):
        with pytest.raises(BundleInvalid, match="does not score its own probe"):
            make_model(replace(bundle, probe=other))


@pytest.mark.parametrize("graph", [b"", b"no graph", b"\x08\x09" * 50])
def test_a_graph_that_is_none_is_refused(bundle: EdgeBundle, graph: bytes) -> None:
    with pytest.raises(BundleInvalid, match="the graph"):
        make_model(replace(bundle, graph=graph))


def test_eight_bits_are_only_used_where_the_bundle_has_them(bundle: EdgeBundle) -> None:
    with pytest.raises(BundleInvalid, match="8 bits"):
        make_model(replace(bundle, graph_int8=None), int8=True)
    assert make_model(replace(bundle, graph_int8=bundle.graph), int8=True)
    assert INT8_TOLERANCE > 0


def test_the_first_key_is_kept_in_the_state_folder_and_asked_for_from_then_on(tmp_path: Path) -> None:
    one, other = trained(tmp_path / "a"), trained(tmp_path / "b", rounds=1)
    state = tmp_path / "state"
    signer = load_edge(one.folder, state=state).signer
    assert load_edge(one.folder, state=state).signer == signer
    with pytest.raises(BundleInvalid, match="is signed by"):
        load_edge(other.folder, state=state)
    assert load_edge(other.folder).signer != signer


# ---- the guard -------------------------------------------------------------------------------------------------------


def test_the_guard_scores_a_stream_as_it_scores_rows(made: Made, bundle: EdgeBundle) -> None:
    assert bundle.guard is not None
    guard, rows_TD = from_bytes(bundle.guard), gappy(made)
    due_T = guard.score_rows(rows_TD)
    stage = Guard(guard)
    found = [stage.feed(sample) for sample in samples(rows_TD)]
    got_T = np.array([np.nan if one is None else one.score for one in found])
    np.testing.assert_allclose(got_T, due_T, rtol=1e-6)
    loud = [one for one in found if one is not None and one.score > one.threshold]
    assert loud
    assert all(one.parts for one in loud)
    assert all(not one.parts for one in found if one is not None and one.score <= one.threshold)


def test_the_guard_names_the_tag_that_left_the_others(made: Made, bundle: EdgeBundle) -> None:
    stage, tag = guard_of(bundle), made.site.schema.tags.index("PIT301")
    assert stage is not None
    rows_TD = made.site.train_TD[-60:].copy()
    rows_TD[-5:, tag] += 0.5
    heard = [stage.feed(sample) for sample in samples(rows_TD)][-1]
    assert heard is not None
    first = heard.parts[0]
    assert (first.tag, first.direction) == ("PIT301", 1)
    assert first.reading - first.expected == pytest.approx(0.5, abs=0.25)


def test_beside_a_guard_the_federated_model_has_half_of_the_false_alarms(bundle: EdgeBundle) -> None:
    normal, alpha = bundle.calibration.distribution, 0.04
    asked = replace(bundle, setup=bundle.setup.__class__(**{**bundle.setup.as_dict(), "false_alarm_rate": alpha}))
    own = bundle.threshold.__class__(**{**bundle.threshold.as_dict(), "value": normal.quantile(1 - alpha)})
    found = halved(replace(asked, threshold=own))
    above = sum(score > found.value for score in normal.scores)
    assert above <= (normal.size + 1) * alpha / 2 < above + 2
    assert found.value > own.value
    assert found.false_alarm_rate == alpha / 2
    high = own.__class__(**{**own.as_dict(), "value": 1e3})
    assert halved(replace(asked, threshold=high)).value == 1e3


def test_a_guard_for_other_tags_is_refused(tmp_path: Path, bundle: EdgeBundle) -> None:
    schema = bundle.schema.__class__(tags=tuple(reversed(bundle.schema.tags)), period_s=bundle.schema.period_s)
    with pytest.raises(BundleInvalid, match=r"guard\.bin is for other columns"):
        guard_of(replace(bundle, schema=schema))
    with pytest.raises(BundleInvalid, match=r"guard\.bin"):
        guard_of(replace(bundle, guard=b"no guard"))


# ---- what is imported ------------------------------------------------------------------------------------------------

_WHOLE_RUN = """
import sys
sys.argv = ["crossplant"]
import client.edge.cli, client.edge.main, client.edge.runtime
from client.edge.main import Parameters, score
score(Parameters(bundle={bundle!r}, source={source!r}, trust={trust!r}, sinks=({sink!r},)))
heavy = {{"torch", "flwr", "opacus", "pydantic", "polars", "river", "cryptography", "onnx", "scipy", "matplotlib"}}
found = sorted(heavy & {{name.partition(".")[0] for name in sys.modules}})
assert not found, found
"""


def test_a_whole_run_imports_nothing_heavy(tmp_path: Path) -> None:
    made = trained(tmp_path / "home")
    source, sink = tmp_path / "rows.csv", tmp_path / "out.jsonl"
    lines = [",".join(made.site.schema.tags), *(",".join(map(repr, row)) for row in made.site.test_TD[:30].tolist())]
    source.write_text("\n".join(lines))
    code = _WHOLE_RUN.format(bundle=str(made.folder), source=str(source), trust=str(made.key), sink=str(sink))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert sum('"type":"score"' in line for line in sink.read_text().splitlines()) == 23


def test_a_score_beyond_all_numbers_is_written_as_text() -> None:
    found = Scored(0.0, 0, float("inf"), 1.0, 0.5, float("nan"), None, (), "0" * 12)
    assert (found.as_json()["score"], found.as_json()["error"], found.raised_by) == ("inf", "nan", ("federated",))


@pytest.mark.parametrize("evidence", [True, False], ids=["judge", "network alone"])
def test_windows_that_are_only_followed_are_the_same_windows(tmp_path: Path, evidence: bool) -> None:
    """What a judge's trailing means remember of scores fills up again with the rows that are scored."""
    bundle = trained(tmp_path, evidence=evidence).read()
    one, other = Scorer(bundle), Scorer(bundle)
    rows = samples(bundle.probe.rows_RD[:50])
    for sample in rows[:30]:
        one.feed(sample)
        other.follow(sample)
    memory = 1 if bundle.judge is None else int(bundle.judge.trail_C.max()) + bundle.judge.trail - 1
    found = [(scored_by(one, sample), scored_by(other, sample)) for sample in rows[30:]]
    assert [before == after for before, after in found[memory - 1 :]] == [True] * (21 - memory)


def scored_by(scorer: Scorer, sample: Sample) -> Scored:
    """What a scorer says, without its threshold: that follows the scores, of which one scorer has seen more."""
    found = scorer.feed(sample)
    assert found is not None
    return replace(found, threshold=0.0)
