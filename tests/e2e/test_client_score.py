"""`crossplant client score` as a user runs it: a process, real files, pipes and signals."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from client.agent.service import PlantAgent
from client.training.calibrate import window_entropy
from client.training.infer import score_all
from client.training.judged import judge_scores
from client.training.tensors import TensorWindows
from client.training.workspace import Part
from server.coordinator import Coordinator
from server.rounds import RunState
from shared.bundle.whole import read_bundle
from shared.detectors import build
from shared.schema import SensorSchema
from shared.series import FloatArray, SiteData
from shared.windows import window_starts
from tests.conftest import real
from tests.support.edge import Made, trained
from tests.support.plants import Loopback, Memory, settings

CROSSPLANT = str(Path(sys.executable).with_name("crossplant"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return trained(tmp_path_factory.mktemp("home"))


def command(folder: Path, *more: str | Path) -> list[str]:
    return [CROSSPLANT, "client", "score", "--bundle", str(folder), *map(str, more)]


def score(folder: Path, *more: str | Path, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(folder, *more), input=text, capture_output=True, text=True, timeout=120)


def scores(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


def write_csv(path: Path, rows_TD: FloatArray, tags: Sequence[str]) -> Path:
    """Columns in the reverse order; every digit of a float32."""
    lines = [",".join(reversed(tags))]
    lines += [",".join("" if np.isnan(x) else repr(float(x)) for x in reversed(row)) for row in rows_TD]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def in_batch(folder: Path, rows_TD: FloatArray) -> np.ndarray:
    """Scores of all windows by PyTorch, as calibration computes them."""
    whole = read_bundle(folder)
    window = whole.recipe.detector.window
    detector = build(whole.recipe.detector, whole.schema.dim)
    detector.load_weights(whole.model.weights)
    values_TD = whole.preprocessor.live(rows_TD).values_TD
    part = Part(values_TD, window_starts(len(values_TD), window, 1))
    if whole.judge is not None:
        own = (whole.judge, detector, whole.model.clusters, values_TD, (0,), part.starts_N, whole.recipe)
        return judge_scores(*own)[0][part.starts_N + window - 1]
    found = score_all(detector, TensorWindows(part, window, torch.device("cpu")), whole.recipe.scoring.tail)
    return whole.score.combine(found.error_N, window_entropy(found, whole.model.clusters))


def agrees(folder: Path, site: SiteData, tmp_path: Path, rows_TD: FloatArray) -> None:
    done = score(folder, "--source", write_csv(tmp_path / "rows.csv", rows_TD, site.schema.tags), "--speed", "max")
    assert done.returncode == 0, done.stderr
    found, due_N = scores(done.stdout), in_batch(folder, rows_TD)
    assert len(found) == len(due_N)
    np.testing.assert_allclose([one["score"] for one in found], due_N, rtol=1e-5, atol=1e-5)


def msl(data_root: Path) -> SiteData:
    """A channel of NASA's rover, 55 tags."""
    found = {path.parent.name: path for path in real(data_root, "telemanom").glob("**/M-6.npy")}
    train_TD, test_TD = (np.load(found[part]).astype(np.float32) for part in ("train", "test"))
    tags = tuple(f"T{at:02d}" for at in range(train_TD.shape[1]))
    return SiteData("M-6", SensorSchema(tags=tags, period_s=60.0), train_TD, test_TD, None)


def test_the_command_scores_a_generated_plant_as_training_does(made: Made, tmp_path: Path) -> None:
    agrees(made.folder, made.site, tmp_path, made.site.test_TD)


def test_the_command_scores_real_msl_data_as_training_does(data_root: Path, tmp_path: Path) -> None:
    site = msl(data_root)
    config = settings(rounds={"pretrain": 1, "joint": 1})
    agents = [PlantAgent(site, tmp_path), PlantAgent(replace(site, name="M-6 again"))]
    Coordinator(config, Loopback(agents), Memory()).run(RunState("test", config.digest))
    agrees(tmp_path / f"{site.name}.bundle", site, tmp_path, site.test_TD[:800])


def test_scores_are_one_json_object_a_line_and_the_log_is_elsewhere(made: Made, tmp_path: Path) -> None:
    rows = write_csv(tmp_path / "rows.csv", made.site.test_TD[:40], made.site.schema.tags)
    done = score(made.folder, "--source", rows, "--limit", "5", "--top", "2", "--trust", made.key)
    assert done.returncode == 0
    found = scores(done.stdout)
    assert [one["number"] for one in found] == [7, 8, 9, 10, 11]
    assert {one["type"] for one in found} == {"score"}
    assert all(len(one["sensors"]) == 2 for one in found)
    assert "Scoring needs no server" in done.stderr
    assert done.stderr.splitlines()[-1] == "12 samples, 5 scores"


def test_standard_input_is_scored_and_hostile_lines_do_not_stop_it(made: Made) -> None:
    tags = made.site.schema.tags
    good = [
        json.dumps({"time": 60.0 * at, "values": dict(zip(tags, map(float, row), strict=True))})
        for at, row in enumerate(made.site.test_TD[:20])
    ]
    hostile = ["junk", "[" * 10_000, '{"time": NaN}', '{"LIT101": "high"}', "\x00", "[1, 2]", '{"a": 1, "a": 2}']
    mixed = [line for pair in zip(good, [*hostile, *[""] * 20], strict=False) for line in pair]
    done = score(made.folder, "--source", "-", text="\n".join(mixed))
    assert done.returncode == 0
    clean = score(made.folder, "--source", "-", text="\n".join(good))
    assert scores(done.stdout) == scores(clean.stdout)
    assert len(scores(done.stdout)) == 13
    assert "7 rejected" in done.stderr
    assert "Traceback" not in done.stderr


def test_records_go_to_a_file_as_the_edge_toml_says(made: Made, tmp_path: Path) -> None:
    rows = write_csv(tmp_path / "rows.csv", made.site.test_TD[:30], made.site.schema.tags)
    toml = tmp_path / "edge.toml"
    out = tmp_path / "out.jsonl"
    toml.write_text(
        f'state = "state"\ntop = 1\n[source]\nlocation = "{rows}"\n[sinks.file]\nlocation = "{out}"\n'
        'types = ["score", "notice"]\n'
    )
    done = score(made.folder, "--config", toml)
    assert (done.returncode, done.stdout) == (0, "")
    written = scores(out.read_text())
    assert [one["type"] for one in written[:2]] == ["notice", "score"]
    assert len([one for one in written if one["type"] == "score"]) == 23
    assert (tmp_path / "state" / "trusted.pub").exists()


@pytest.mark.parametrize(
    ("arguments", "telling"),
    [
        (("--source", "/nowhere.csv"), "CP-201"),
        (("--source", "ftp://a"), "CP-102"),
        ((), "CP-101"),
        (("--source", "-", "--speed", "fast"), "CP-101"),
        (("--source", "-", "--source-set", "a"), "CP-101"),
        (("--source", "-", "--config", "/nowhere.toml"), "CP-106"),
        (("--source", "-", "--sink", "a.xyz"), "CP-102"),
        (("--source", "-", "--sink", "/nowhere/a.jsonl"), "CP-106"),
        (("--source", "-", "--trust", "/nowhere.pub"), "CP-106"),
        (("--source", "-", "--state", "/dev/null/a"), "CP-106"),
    ],
)
def test_what_cannot_start_says_why_in_one_line(made: Made, arguments: tuple[str, ...], telling: str) -> None:
    done = score(made.folder, *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(telling)
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", ["graph.onnx", "threshold.json", "signature.json", "bundle.json", "guard.bin"])
def test_a_damaged_bundle_is_refused(made: Made, tmp_path: Path, name: str) -> None:
    shutil.copytree(made.folder, tmp_path / "copy")
    (path,) = (tmp_path / "copy").glob(f"*/{name}")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    done = score(tmp_path / "copy", "--source", "-")
    assert done.returncode == 1
    assert done.stderr.startswith("CP-601")
    assert done.stdout == ""


def test_a_reader_that_leaves_ends_it_without_a_word_of_trouble(made: Made, tmp_path: Path) -> None:
    rows = write_csv(tmp_path / "rows.csv", np.tile(made.site.test_TD, (20, 1)), made.site.schema.tags)
    process = subprocess.Popen(
        command(made.folder, "--source", rows), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == 0
    assert "Traceback" not in errors
    assert "CP-" not in errors


@contextmanager
def running(made: Made, *more: str | Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command(made.folder, "--source", "-", *more),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def feed(process: subprocess.Popen[str], made: Made, count: int) -> None:
    assert process.stdin is not None
    for at, row in enumerate(made.site.test_TD[:count]):
        line = {"time": 60.0 * at, **dict(zip(made.site.schema.tags, map(float, row), strict=True))}
        process.stdin.write(json.dumps(line) + "\n")
    process.stdin.flush()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly_with_all_it_has_written(made: Made, tmp_path: Path, number: signal.Signals) -> None:
    out = tmp_path / "out.jsonl"
    with running(made, "--sink", "-", "--sink", out) as process:
        feed(process, made, 10)
        assert process.stdout is not None
        lines = [json.loads(process.stdout.readline()) for _ in range(4)]  # Each comes in the moment it is made.
        assert [one["type"] for one in lines] == ["notice", "score", "score", "score"]
        process.send_signal(number)
        process.wait(30)  # Its standard input is still open: only the signal can have ended it.
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 0, errors
    assert "Traceback" not in errors
    assert "stopped: asked to stop" in errors
    assert [one["type"] for one in scores(out.read_text())] == ["notice", "score", "score", "score", "notice"]


def test_a_scorers_process_holds_neither_typer_nor_click_nor_torch(made: Made) -> None:
    if not Path("/proc/self/maps").exists():
        pytest.skip("needs /proc")
    with running(made, "--trust", made.key) as process:
        feed(process, made, 10)
        assert process.stdout is not None
        process.stdout.readline()
        maps = Path(f"/proc/{process.pid}/maps").read_text()
        line = Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")
    assert b"client.edge.main" in line
    assert "onnxruntime" in maps
    for absent in ("libtorch", "pydantic", "polars", "cryptography"):
        assert absent not in maps


def test_a_full_standard_output_does_not_end_it(made: Made, tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    rows = write_csv(tmp_path / "rows.csv", made.site.test_TD[:40], made.site.schema.tags)
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command(made.folder, "--source", rows, "--sink", "-", "--sink", tmp_path / "out.jsonl"),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert done.returncode == 0
    assert len([one for one in scores((tmp_path / "out.jsonl").read_text()) if one["type"] == "score"]) == 33
    assert "records dropped" in done.stderr


@pytest.mark.parametrize(("end", "telling"), [("--source - <&-", "standard input"), (">&-", "standard output")])
def test_a_closed_stream_that_is_needed_is_one_clear_error(made: Made, tmp_path: Path, end: str, telling: str) -> None:
    rows = write_csv(tmp_path / "rows.csv", made.site.test_TD, made.site.schema.tags)
    source = "" if "--source" in end else f"--source {rows}"
    line = f"{' '.join(command(made.folder))} {source} {end}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr.startswith(f"CP-106 FileTrouble: {telling} is closed.")


def test_a_second_scorer_on_a_state_folder_is_refused(made: Made, tmp_path: Path) -> None:
    arguments = command(made.folder, "--source", "-", "--state", tmp_path / "edge")
    first = subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert first.stderr is not None
        assert " started: " in first.stderr.readline()
        second = score(made.folder, "--source", "-", "--state", tmp_path / "edge")
        assert (second.returncode, second.stdout) == (1, "")
        assert second.stderr.startswith(f"CP-805 AlreadyRunning: process {first.pid} scores with")
    finally:
        _, rest = first.communicate(timeout=60)
    assert first.returncode == 0, rest
