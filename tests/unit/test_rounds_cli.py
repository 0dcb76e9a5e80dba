"""`crossplant rounds`: what it prints, what it writes, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from server.cli import rounds_app
from server.rounds import ClusterReport, PlantReport, Status
from server.store.compare import compare_models
from server.store.models import ModelFiles
from server.store.store import RoundStore
from shared.errors import CrossplantError, ModelCorrupt, RoundNotFound, RunDirectoryInUse, StoreError, StoreNotFound
from shared.model import GlobalModel, read_model
from tests.support.stores import CONFIG, NORTH, SCHEMA, filled, model, record, state


def call(*words: str) -> str:
    """What a command prints; its error, if it raises one."""
    result = CliRunner().invoke(rounds_app, list(words))
    if isinstance(result.exception, CrossplantError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def call_json(*words: str) -> Any:
    return json.loads(call(*words, "--json"), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


@pytest.fixture
def store(tmp_path: Path) -> str:
    filled(tmp_path / "store")
    return str(tmp_path / "store")


def test_the_names_of_the_commands_are_fixed() -> None:
    group = typer.main.get_command(rounds_app)
    options = {
        name: sorted(o for p in command.params for o in p.opts if o.startswith("--"))
        for name, command in group.commands.items()  # type: ignore[attr-defined]
    }
    common = ["--json", "--run", "--store"]
    assert options == {
        "list": ["--all", "--before", "--json", "--last", "--run", "--status", "--store"],
        "runs": ["--json", "--last", "--store"],
        "show": common,
        "compare": common,
        "watch": [*common, "--until-round"],
        "promote": [*common, "--why"],
        "rollback": [*common, "--to", "--why"],
        "follow": [*common, "--why"],
        "orders": ["--json", "--last", "--run", "--store"],
        "export": [*common, "--to"],
        "prune": ["--dry-run", "--json", "--keep", "--older-than", "--run", "--store", "--yes"],
    }


def test_list_as_json(store: str) -> None:
    rounds = call_json("list", "--store", store)["rounds"]
    assert [r["number"] for r in rounds] == [1, 2, 3]
    assert rounds[0]["model"] is None
    assert rounds[1] == {
        "run": "a",
        "number": 2,
        "phase": "joint",
        "label": "train 2/9",
        "status": "committed",
        "reason": None,
        "plants": ["north"],
        "rejected": [{"plant": "south", "reason": "NaN: 3 values of head.bias"}],
        "joined": [],
        "metrics": {"holdout_loss": 0.35, "train_loss": 0.5},
        "model": model(2).digest,
        "started": "2024-05-01T10:00:00.000+00:00",
        "seconds": 2.5,
        "bytes": 3400,
    }


def test_list_fits_eighty_columns(store: str) -> None:
    long = dataclasses.replace(record(state("a", 4)), label="train 100/100", seconds=99999.9)
    RoundStore.open(store).commit(dataclasses.replace(long, metrics={"holdout_loss": 1.234e-12}), state("a", 4))
    text = call("list", "--store", store)
    assert max(map(len, text.splitlines())) <= 80
    assert "1.234e-12" in text
    assert "train 100/100" in text
    assert model(4).digest[:8] in text
    assert text.splitlines()[1].split() == ["#", "phase", "step", "status", "plants", "holdout", "train", "model", "s"]


def test_list_says_why_a_round_was_skipped(store: str) -> None:
    after = dataclasses.replace(state("a", 4), model=model(3))
    skipped = dataclasses.replace(record(after), status=Status.SKIPPED, reason="1 of 3 plants counted, the quorum is 2")
    RoundStore.open(store).commit(skipped, after)
    assert "Round 4 skipped: 1 of 3 plants counted, the quorum is 2" in call("list", "--store", store)
    assert call_json("list", "--store", store)["rounds"][3]["status"] == "skipped"


def test_the_newest_run_is_meant_unless_another_is_named(store: str) -> None:
    RoundStore.open(store).start_run("b", CONFIG)
    assert call_json("list", "--store", store)["rounds"] == []
    assert "no rounds yet" in call("list", "--store", store)
    assert len(call_json("list", "--store", store, "--run", "a")["rounds"]) == 3
    with pytest.raises(RoundNotFound):
        call("list", "--store", store, "--run", "c")


def test_show(store: str) -> None:
    shown = call_json("show", "3", "--store", store)
    assert shown["cohort"] == ["north", "south"]
    assert shown["updates"][0]["metrics"] == {"holdout_loss": 0.7, "train_loss": 0.5}
    assert shown["updates"][1]["reason"] == "NaN: 3 values of head.bias"
    assert shown["clusters"] == {
        "mass": [0.75, 0.25],
        "displacement": [0.1, None],
        "active": [True, False],
        "effective": 1.75,
        "plants": [],
    }
    text = call("show", "3", "--store", store)
    assert "south did not count: NaN: 3 values of head.bias" in text
    assert "1.75 effective clusters of 2" in text
    assert "train 1.25" in text


def test_show_tells_who_joined(store: str) -> None:
    after = state("a", 4)
    told = (PlantReport("north", True), PlantReport("west", False, "joined: takes part from round 5 on"))
    RoundStore.open(store).commit(record(after, told), after)
    shown = call_json("show", "4", "--store", store)
    assert (shown["joined"], shown["rejected"], shown["cohort"]) == (["west"], [], ["north", "west"])
    text = call("show", "4", "--store", store)
    assert "west joined: takes part from round 5 on" in text
    assert "did not count" not in text
    assert ["west", "joins"] in [line.split()[:2] for line in text.splitlines()]
    assert call("list", "--store", store).splitlines()[5].split()[-5] == "1/1"  # it was not asked yet


def test_show_tells_how_many_plants_populate_a_cluster(store: str) -> None:
    after, counted = state("a", 4), ClusterReport((0.5, 0.3, 0.2), (0.0, 0.1, 0.2), (True, True, False), 2.0, (3, 1, 1))
    RoundStore.open(store).commit(dataclasses.replace(record(after, ()), clusters=counted), after)
    assert call_json("show", "4", "--store", store)["clusters"]["plants"] == [3, 1, 1]
    text = call("show", "4", "--store", store)
    assert "populated by one plant only: cluster 1\n" in text  # the third is not active
    lines = [line.split() for line in text.splitlines()]
    assert ["cluster", "mass", "displacement", "active", "plants"] in lines
    assert ["1", "0.3", "0.1", "yes", "1"] in lines


def test_hostile_names_cannot_steer_the_terminal(store: str) -> None:
    after = state("a", 4)
    wild = PlantReport("[red]x[/red]\x1b[2J", True, None, {"[/bold]": 1.0})
    mute = PlantReport("z\u202ey", False, "late:\nfaked line [link=http://x]y[/link]")
    RoundStore.open(store).commit(record(after, (wild, mute)), after)
    for words in (("list",), ("show", "4"), ("compare", "3", "4")):
        text = call(*words, "--store", store)
        assert "\x1b" not in text
        assert "\u202e" not in text
    text = call("show", "4", "--store", store)
    assert "[red]x[/red]\\x1b[2J" in text
    assert "late:\\nfaked line [link=http://x]y[/link]" in text
    assert call_json("list", "--store", store)["rounds"][3]["plants"] == ["[red]x[/red]\x1b[2J"]


def test_compare(store: str) -> None:
    result = call_json("compare", "2", "3", "--store", store)
    a, b = (np.concatenate([w.ravel() for w in model(n).weights.values()]).astype(float) for n in (2, 3))
    assert result["weights"]["relative"] == pytest.approx(np.linalg.norm(b - a) / np.linalg.norm(a))
    assert result["weights"]["cosine"] == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    old, new = model(2).clusters, model(3).clusters
    assert old is not None
    assert new is not None
    moved = np.linalg.norm(new.centroids_KZ - old.centroids_KZ, axis=1) / 2.0
    assert result["centroids"]["displacement"] == pytest.approx(moved.tolist())
    assert result["metrics"]["holdout_loss"]["difference"] == pytest.approx(0.7 / 3 - 0.35)
    assert result["plants"]["north"]["train_loss"] == {"a": 0.5, "b": 0.5, "difference": 0.0}
    moves = [t["relative"] for t in result["tensors"]]
    assert moves == sorted(moves, reverse=True)
    text = call("compare", "2", "3", "--store", store)
    assert "head.weight" in text
    assert "radii" in text


def test_compare_with_a_round_that_has_no_model(store: str) -> None:
    result = call_json("compare", "1", "2", "--store", store)
    assert (result["weights"], result["centroids"]) == (None, None)
    assert "no model" in call("compare", "1", "2", "--store", store)


def test_models_that_do_not_move_or_are_zero() -> None:
    zero = GlobalModel({"w": np.zeros(3, np.float32)})
    assert compare_models(zero, zero)["weights"] == {"distance": 0.0, "relative": 0.0, "cosine": None}
    one = GlobalModel({"w": np.ones(3, np.float32), "v": np.ones(2, np.float32)}, model(1).clusters)
    result = compare_models(zero, one)
    assert result["weights"] == {"distance": pytest.approx(3**0.5), "relative": None, "cosine": None}
    assert (result["unmatched"], result["centroids"]) == (["v"], None)
    assert compare_models(one, one)["weights"]["cosine"] == pytest.approx(1.0)


def test_export(store: str, tmp_path: Path) -> None:
    to = tmp_path / "out/model"
    text = call("export", "3", "--store", store, "--to", str(to))
    digest = model(3).digest
    assert "read_model" in text
    assert (to / "model.safetensors").read_bytes() == (Path(store) / f"models/{digest}.safetensors").read_bytes()
    assert read_model(to / "model.safetensors", digest).digest == digest
    card = json.loads((to / "model.json").read_text())
    assert (card["run"], card["round"], card["phase"], card["digest"]) == ("a", 3, "joint", digest)
    assert card["schema"] == {"tags": list(SCHEMA.tags), "period_s": 0.1}
    assert card["tensors"] == [{"name": "head.bias", "shape": [3]}, {"name": "head.weight", "shape": [3, 4]}]
    assert (card["parameters"], card["config"], card["clusters"]) == (21, CONFIG.digest, 2)
    assert card["detector"]["name"] == "hac-uml"
    assert sorted(p.name for p in to.iterdir()) == ["model.json", "model.safetensors"]


def test_export_again_replaces_an_export_and_nothing_else(store: str, tmp_path: Path) -> None:
    to = tmp_path / "out"
    for number in (2, 3):
        card = call_json("export", str(number), "--store", store, "--to", str(to))
    assert read_model(to / "model.safetensors", card["digest"]).digest == model(3).digest
    assert card["files"] == [str(to / "model.safetensors"), str(to / "model.json")]
    (to / "notes.txt").write_text("mine")
    with pytest.raises(RunDirectoryInUse, match="notes"):
        call("export", "2", "--store", store, "--to", str(to))
    with pytest.raises(RunDirectoryInUse, match="cannot be used as a folder"):
        call("export", "2", "--store", store, "--to", str(to / "notes.txt"))
    assert json.loads((to / "model.json").read_text())["round"] == 3


def test_an_export_that_fails_leaves_no_folder(store: str, tmp_path: Path) -> None:
    with pytest.raises(RoundNotFound):
        call("export", "1", "--store", store, "--to", str(tmp_path / "out"))
    ModelFiles(Path(store) / "models").path(model(3).digest).write_bytes(b"cut short")
    with pytest.raises(ModelCorrupt):
        call("export", "3", "--store", store, "--to", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_store_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFound):
        call("list", "--store", str(tmp_path / "none"))
    with pytest.raises(StoreError):
        call("show", "1", "--store", "postgresql+nosuchdriver://h/x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words", [["list"], ["show", "0", "--store", "x"], ["show", "one", "--store", "x"], ["compare", "1"]]
)
def test_wrong_usage(words: list[str]) -> None:
    assert CliRunner().invoke(rounds_app, words).exit_code == 2


def test_a_plant_that_left_is_compared_with_nothing(store: str) -> None:
    after = state("a", 4)
    RoundStore.open(store).commit(record(after, (NORTH,)), after)
    assert "south" in call_json("compare", "3", "4", "--store", store)["plants"]
