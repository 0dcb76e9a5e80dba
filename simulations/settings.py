"""From presets, files and flags to one layered configuration."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from shared.config import RunConfig, Settings, build, read_toml, split_rounds
from shared.errors import InvalidConfig, UnknownName
from shared.privacy.defaults import PRIVATE, private_layers
from simulations.made import MADE, MIXED

PRIVACY = tuple(f"recipe.privacy.{name}" for name in ("epsilon", "delta", "mode", "unit_s", "engine"))
"""Flags of which one is enough to ask for differential privacy."""

_DEEPEST = 8  # dots in a setting's name


def presets() -> list[str]:
    """Names of the presets that come with Crossplant."""
    folder = files("simulations").joinpath("presets")
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_preset(name: str) -> Settings:
    """A preset by name, or by path when it ends in `.toml`.

    Raises:
        UnknownName: no preset of that name.
        InvalidConfig: the file cannot be read.
    """
    if name.endswith(".toml"):
        return read_toml(Path(name))
    if name not in presets():
        raise UnknownName("preset", name, presets())
    return read_toml(Path(str(files("simulations").joinpath("presets", f"{name}.toml"))))


def nested(dotted: str, value: Any) -> Settings:
    """A nested mapping that sets one dotted name.

    Example:
        >>> nested("rounds.joint", 3)
        {'rounds': {'joint': 3}}
    """
    head, _, rest = dotted.partition(".")
    return {head: nested(rest, value) if rest else value}


_UNITS_S = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def parse_unit(text: str) -> dict[str, Any]:
    """`--unit`: a number of samples, or a time with its unit.

    Raises:
        InvalidConfig: it is neither.

    Example:
        >>> parse_unit("60"), parse_unit("10min")
        ({'recipe.clustering.unit': 60}, {'recipe.privacy.unit_s': 600.0})
    """
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,6})?)(s|min|h|d)?", text.strip())
    if found is None or float(found[1]) <= 0 or (found[2] is None and "." in found[1]):
        raise InvalidConfig(f"--unit {text[:40]!r} is no length.", "Write 60 for samples, or 90s, 10min, 8h, 1d.")
    if found[2] is None:
        return {"recipe.clustering.unit": int(found[1])}
    return {"recipe.privacy.unit_s": float(found[1]) * _UNITS_S[found[2]]}


def parse_assignment(text: str) -> tuple[str, Any]:
    """`--set name=value`, the value in TOML's notation; a bare word counts as a text.

    Raises:
        InvalidConfig: there is no `=`.

    Example:
        >>> parse_assignment("recipe.training.stride=4"), parse_assignment("data.partition=by-time")
        (('recipe.training.stride', 4), ('data.partition', 'by-time'))
    """
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise InvalidConfig(f"--set {text[:80]!r} is not of the form NAME=VALUE.")
    if name.count(".") > _DEEPEST:
        raise InvalidConfig(f"--set {name[:80]!r}... names no setting: it has too many dots.")
    try:
        return name.strip(), tomllib.loads(f"v = {value}")["v"]
    except tomllib.TOMLDecodeError:
        return name.strip(), value.strip()
    except ValueError as error:
        raise InvalidConfig(f"--set {name.strip()[:80]} has a number of thousands of digits.") from error
    except RecursionError as error:
        raise InvalidConfig(f"--set {name.strip()[:80]} is nested too deeply.") from error


def layered(
    preset: str | None, flags: Mapping[str, Any], rounds: int | None, assignments: Sequence[str]
) -> tuple[RunConfig, dict[str, str]]:
    """Lay defaults, preset, flags and `--set` over each other.

    Args:
        preset: name or path, or None.
        flags: dotted name to value; None means that the flag was not given.
        rounds: training rounds in all, divided between pretrain and joint.
        assignments: `NAME=VALUE` texts.

    Raises:
        InvalidConfig, UnknownName: something in them is wrong.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    parsed = dict(map(parse_assignment, assignments))
    layers = _beginning(preset, any(name in PRIVACY for name in (*given, *parsed)))
    if rounds is not None:
        pretrain, joint = split_rounds(rounds)
        layers["--rounds"] = {"rounds": {"pretrain": pretrain, "joint": joint}}
    layers |= {f"flag {name}": nested(name, value) for name, value in given.items()}
    layers |= {f"--set {name}": nested(name, value) for name, value in parsed.items()}
    config, origin = build(layers)
    config, origin = _with_noise(config, origin)
    check_dataset(config.data.dataset)
    check_partition(config.data.partition)
    return config, origin


def _beginning(preset: str | None, private: bool) -> dict[str, Settings]:
    """A preset, with what local differential privacy begins with: below one that asks for it, above any other."""
    found = {} if preset is None else load_preset(preset)
    layers = private_layers(found)
    if preset is not None:
        layers[f"preset {preset}"] = found
    if private:
        layers.setdefault("differential privacy", PRIVATE)
        layers["--dp"] = nested("recipe.privacy.mode", "local")
    return layers


def _with_noise(config: RunConfig, origin: dict[str, str]) -> tuple[RunConfig, dict[str, str]]:
    """The settings with the noise that their budget asks for."""
    if not config.recipe.privacy.on:
        return config, origin
    from server.private import planned  # Imports the accountants.

    noised = planned(config)
    if noised is config:
        return config, origin
    names = (f"recipe.privacy.noise.{name}" for name in type(config.recipe.privacy.noise).model_fields)
    return noised, origin | dict.fromkeys(names, "the plan for epsilon")


def check_partition(name: str | None) -> None:
    """Refuse a partition that nobody has registered, before data is read for it.

    Raises:
        UnknownName: with all names that there are.
    """
    if name is None:
        return
    from simulations.partition import partitions  # Imports numpy, which most commands do without.

    if name not in partitions():
        raise UnknownName("partition", name, partitions())


def check_dataset(name: str) -> None:
    """Refuse a data set that nobody has registered.

    Raises:
        UnknownName: with all names that there are, those that are made among them.
    """
    if name in (*MADE, MIXED):
        return
    from client.ingest.base import known  # Imports every loader, which made plants do not need.

    if name not in known():
        raise UnknownName("data set", name, sorted([*MADE, MIXED, *known()]))
