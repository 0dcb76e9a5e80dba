from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from shared.config import RunConfig, build, flatten, read_toml, split_rounds
from shared.errors import InvalidConfig
from shared.privacy.defaults import PRIVATE


def test_later_layers_win_and_say_so() -> None:
    config, origin = build(
        {
            "preset demo": {"seed": 3, "recipe": {"training": {"local_epochs": 2, "stride": 4}}},
            "file run.toml": {"recipe": {"training": {"stride": 5}}},
            "--rounds": {"rounds": {"pretrain": 1, "joint": 2}},
        }
    )
    assert (config.seed, config.recipe.training.local_epochs, config.recipe.training.stride) == (3, 2, 5)
    assert config.rounds.joint == 2
    told = {name: source for name, source in origin.items() if source != "default"}
    assert told == {
        "seed": "preset demo",
        "recipe.training.seed": "preset demo",
        "recipe.training.local_epochs": "preset demo",
        "recipe.training.stride": "file run.toml",
        "rounds.pretrain": "--rounds",
        "rounds.joint": "--rounds",
    }


def test_every_effective_setting_has_an_origin() -> None:
    config, origin = build({"a": {"rounds": {"grace_s": 1.5}}})
    assert list(origin) == [name for name, _ in flatten(config.model_dump())]


def test_the_seed_of_the_run_is_the_seed_of_the_plants_unless_that_is_set() -> None:
    config, origin = build({"--seed": {"seed": 5}})
    assert (config.recipe.training.seed, origin["recipe.training.seed"]) == (5, "--seed")
    config, origin = build({"file": {"recipe": {"training": {"seed": 9}}}, "--seed": {"seed": 5}})
    assert (config.seed, config.recipe.training.seed, origin["recipe.training.seed"]) == (5, 9, "file")


def test_layers_are_left_as_they_were() -> None:
    layers: dict[str, Any] = {
        "preset": {"recipe": {"training": {"stride": 4}}},
        "flag": {"recipe": {"training": {"stride": 5}}},
    }
    before = copy.deepcopy(layers)
    build(layers)
    assert layers == before


@pytest.mark.parametrize(
    ("layer", "telling"),
    [
        ({"rounds": {"pretrain": -1}}, r"rounds.pretrain = -1 \(from --flag\): .*greater than or equal to 0"),
        ({"recipe": {"training": {"optimizer": "lion"}}}, r"recipe.training.optimizer = 'lion' \(from --flag\)"),
        ({"recipe": {"training": {"epochs": 3}}}, r"recipe.training.epochs = 3 \(from --flag\): Extra inputs"),
        ({"speed": 3}, r"speed = 3 \(from --flag\): Extra inputs"),
        ({"recipe": {"training": {"learning_rate": float("nan")}}}, "recipe.training.learning_rate = nan"),
        ({"recipe": 3}, r"recipe = 3 \(from --flag\)"),
        ({"rounds": {"pretrain": 0, "joint": 0}}, "the settings: .*must be at least 1"),
        ({"rounds": {"quorum": 1.1}}, "rounds.quorum = 1.1"),
        ({"seed": "many"}, "seed = 'many'"),
        ({"engine": {"device": "gpu"}}, "engine.device = 'gpu'"),
        ({"recipe": {"training": {"stride": 10**30}}}, "recipe.training.stride = "),
        ({"recipe": {"clustering": {"unit": 10**30}}}, "recipe.clustering.unit = "),
        ({"recipe": {"training": {"batch_size": 10**30}}}, "recipe.training.batch_size = "),
        ({"recipe": {"training": {"seed": 10**30}}}, "recipe.training.seed = "),
        ({"seed": 10**5000}, "seed = a number of thousands of digits"),
        (
            {"recipe": {"clustering": {"clusters": 200, "oversampling": 21}}},
            r"clusters \* oversampling must be at most",
        ),
        ({"data": {"path": "a\x00b"}}, "data.path = .*control characters"),
        ({"data": {"dataset": "a\udcff"}}, "data.dataset = .*undecodable"),
        ({"data": {"partition": "x" * 4097}}, r"data.partition = 'x{199}\.\.\..*at most 4096 characters"),
        ({"recipe": {"detector": {"name": "\x1b[31m"}}}, "recipe.detector.name = .*control characters"),
        ({"recipe": {"threshold": {"rule": "a\nb"}}}, "recipe.threshold.rule = .*control characters"),
    ],
)
def test_a_wrong_setting_is_named_with_its_value_and_source(layer: dict[str, Any], telling: str) -> None:
    with pytest.raises(InvalidConfig, match=telling) as caught:
        build({"preset": {"seed": 1}, "--flag": layer})
    assert str(caught.value).startswith("CP-101 InvalidConfig: ")
    assert "crossplant config show" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("recipe.training.holdout", 0.01, 0.9),
        ("recipe.training.stride", 1, 1_000_000),
        ("recipe.training.local_epochs", 1, 10_000),
        ("recipe.training.batch_size", 0, 1_000_000),
        ("recipe.training.learning_rate", 1e-9, 10.0),
        ("recipe.preprocess.guard", 1e-9, 1e4),
        ("recipe.clustering.oversampling", 1, 512),  # of 8 clusters
        ("recipe.clustering.seed_steps", 1, 100),
        ("recipe.clustering.refine_steps", 1, 100),
        ("recipe.clustering.refresh_steps", 1, 100),
        ("rounds.pretrain", 0, 100_000),
        ("rounds.joint", 0, 100_000),
        ("rounds.deadline_s", 1e-9, 30 * 86_400.0),
        ("rounds.grace_s", 1e-9, 30 * 86_400.0),
        ("rounds.server_learning_rate", 1e-9, 10.0),
        ("data.sites", 1, 10_000),
    ],
)
def test_every_amount_of_work_has_bounds(name: str, least: float, most: float) -> None:
    assert _with(name, least)
    assert _with(name, most)
    assert _with(name, most * 1.001 if isinstance(most, float) else most + 1) is None
    assert _with(name, least * 0.99 - 1e-9 if isinstance(least, float) else least - 1) is None


def test_settings_nested_without_end_are_refused(tmp_path: Path) -> None:
    deep: dict[str, Any] = {}
    for _ in range(5000):
        deep = {"a": deep}
    with pytest.raises(InvalidConfig, match="nested too deeply"):
        build({"file": deep})
    for number, text in enumerate((f"a = {'[' * 5000}{']' * 5000}", f"a = {'9' * 5000}")):
        path = tmp_path / f"{number}.toml"
        path.write_text(text, encoding="utf-8")
        with pytest.raises(InvalidConfig):
            read_toml(path)


@pytest.mark.parametrize(
    ("total", "expected"),
    [(1, (1, 0)), (2, (1, 1)), (3, (1, 2)), (5, (2, 3)), (10, (3, 7)), (20, (6, 14)), (100, (30, 70))],
)
def test_split_rounds(total: int, expected: tuple[int, int]) -> None:
    assert split_rounds(total) == expected


@pytest.mark.parametrize("total", range(1, 60))
def test_split_rounds_loses_none_and_leaves_a_warm_up(total: int) -> None:
    pretrain, joint = split_rounds(total)
    assert pretrain + joint == total
    assert pretrain >= 1
    assert joint >= 0
    RunConfig.model_validate({"rounds": {"pretrain": pretrain, "joint": joint}})


# ---- the digest ------------------------------------------------------------------------------------------------------


def test_the_digest_depends_on_values_not_on_how_they_were_given() -> None:
    plain = RunConfig()
    spelt = build({"a": plain.model_dump(), "b": {"rounds": {"deadline_s": 3600}}})[0]
    ordered = build({"a": {"seed": 0, "rounds": {"joint": 14, "pretrain": 6}}})[0]
    again = RunConfig.model_validate_json(plain.model_dump_json())
    assert len({plain.digest, spelt.digest, ordered.digest, again.digest}) == 1


@pytest.mark.parametrize(
    "engine", [{"name": "ray"}, {"workers": 7}, {"threads": 2}, {"device": "cpu"}], ids=lambda e: next(iter(e))
)
def test_the_engine_is_not_part_of_the_digest(engine: dict[str, Any]) -> None:
    assert build({"a": {"engine": engine}})[0].digest == RunConfig().digest


OTHER_TEXTS = {
    "recipe.detector.bottleneck": "linear",
    "recipe.preprocess.join": "mean",
    "recipe.preprocess.scaling": "ranges",
    "recipe.training.optimizer": "sgd",
    "recipe.clustering.anneal_from": "start",
    "recipe.clustering.target": "local",
    "recipe.clustering.clip": "cloud",
    "recipe.clustering.choose": "fixed",
    "recipe.preprocess.impute": "knn",
    "recipe.threshold.fit_on": "train",
    "recipe.privacy.engine": "opacus",
    "recipe.sharing.share": "trunk",
    "recipe.sharing.keep": "better",
    "data.datasets": ("skab", "batadal"),
    "data.shrink": ("north:0.5",),
    "recipe.privacy.ranges": "quantiles",
    "recipe.threshold.members": ("pot",),
    "recipe.evidence.lengths": (5, 10),
    "rounds.aggregation": "robust",
    "rounds.fewest": 1,
    "rounds.start": "0" * 64,
    "rounds.weighting": "uniform",
    "rounds.wire": "int8",
    "rounds.server_optimizer": "adam",
}


def _others(name: str, value: object) -> list[object]:
    """Values that differ a little; the first that the setting allows will do."""
    if name in OTHER_TEXTS:
        return [OTHER_TEXTS[name]]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1]
    if isinstance(value, float):
        return [value * 1.001 + 1e-9]
    return [f"{value}x"] if isinstance(value, str) else [4, 0.75, "text"]


def _with(name: str, value: object) -> RunConfig | None:
    layer: Any = value
    for part in reversed(name.split(".")):
        layer = {part: layer}
    try:
        return build({"a": layer})[0]
    except InvalidConfig:
        return None


_CLAIM = ("recipe.privacy.mode", "recipe.privacy.epsilon")  # neither goes without the other
EVERY = [pair for pair in flatten(RunConfig().model_dump(exclude={"engine"})) if pair[0] not in _CLAIM]


def test_mode_and_epsilon_of_privacy_are_part_of_the_digest() -> None:
    claims = [{"mode": "local", "epsilon": 1.0}, {"mode": "local", "epsilon": 2.0}, {"mode": "central", "epsilon": 1.0}]
    runs = [build({"a": PRIVATE, "b": {"recipe": {"privacy": claim}}})[0] for claim in claims]
    assert len({run.digest for run in runs}) == 3


def test_an_epsilon_that_no_mode_keeps_is_refused() -> None:
    with pytest.raises(InvalidConfig, match=r"epsilon is set, but .* none claims nothing"):
        build({"a": {"recipe": {"privacy": {"epsilon": 3.0}}}})


CONTRADICTIONS: list[tuple[dict[str, Any], str]] = [
    ({"recipe": {"privacy": {"epsilon": None}}}, "epsilon must be set"),
    ({"rounds": {"server_optimizer": "avg"}}, "server_optimizer must be adam"),
    ({"rounds": {"weighting": "examples"}}, "weighting must be uniform"),
    ({"rounds": {"vote_every": 2}}, "vote_every must be 0"),
    ({"recipe": {"detector": {"dropout": 0.1}}}, "dropout must be 0"),
    ({"recipe": {"detector": {"bottleneck": "linear"}}}, "bottleneck must be tanh"),
    ({"recipe": {"clustering": {"target": "local"}}}, "target must be released"),
    ({"recipe": {"clustering": {"clip": "public"}}}, "clip must be cloud"),
    ({"recipe": {"clustering": {"unit": 20}}}, "must be at least recipe.detector.window"),
    ({"recipe": {"preprocess": {"rolling": 50}}}, "must be unset"),
    ({"recipe": {"preprocess": {"min_variance": 0.1}}}, "must be unset"),
]
LOCAL = {"recipe": {"privacy": {"mode": "local", "epsilon": 3.0}}}


@pytest.mark.parametrize(("layer", "telling"), CONTRADICTIONS, ids=[telling for _, telling in CONTRADICTIONS])
def test_settings_that_contradict_the_claim_of_privacy(layer: dict[str, Any], telling: str) -> None:
    build({"a": PRIVATE, "b": LOCAL})
    with pytest.raises(InvalidConfig, match=telling):
        build({"a": PRIVATE, "b": LOCAL, "c": layer})


@pytest.mark.parametrize(("name", "value"), EVERY)
def test_every_other_setting_is_part_of_the_digest(name: str, value: object) -> None:
    allowed = [config for other in _others(name, value) if (config := _with(name, other)) is not None]
    assert allowed
    assert allowed[0].digest != RunConfig().digest


# ---- settings files --------------------------------------------------------------------------------------------------


def test_a_settings_file(tmp_path: Path) -> None:
    path = tmp_path / "preset.toml"
    path.write_text("seed = 4\n[recipe.detector]\nwindow = 12\n", encoding="utf-8")
    assert build({"preset": read_toml(path)})[0].recipe.detector.window == 12


@pytest.mark.parametrize(
    ("content", "telling"),
    [(None, "cannot read the preset"), (b"seed = = 3", "not valid TOML"), (b"seed = '\xff'", "cannot read the preset")],
)
def test_a_settings_file_that_is_none(tmp_path: Path, content: bytes | None, telling: str) -> None:
    path = tmp_path / "preset.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidConfig, match=telling) as caught:
        read_toml(path)
    assert "preset.toml" in str(caught.value)


def test_a_folder_is_no_settings_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="cannot read the preset"):
        read_toml(tmp_path)
