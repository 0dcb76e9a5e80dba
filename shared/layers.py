"""Layers of settings: how they are laid over each other, flattened, read from files, and what to say of a bad one."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from shared.errors import InvalidConfig

Settings = dict[str, Any]


def overlay(under: Settings, over: Mapping[str, Any]) -> None:
    """Lay settings over others, in place."""
    for key, value in over.items():
        if isinstance(value, Mapping):
            # A new dict at every level: no layer is written into by the next one.
            if not isinstance(under.get(key), dict):
                under[key] = {}
            overlay(under[key], value)
        else:
            under[key] = value


def explain(error: ValidationError, origin: Mapping[str, str]) -> str:
    """The first thing that is wrong, with where it came from."""
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"]) or "the settings"
    source = f" (from {origin[name]})" if name in origin else ""
    value = "" if isinstance(first["input"], Mapping) else f" = {_shown(first['input'])}"
    return f"{name}{value}{source}: {first['msg'].removeprefix('Value error, ')}."


def _shown(value: object, most: int = 200) -> str:
    """A value as it would be written, cut when it is long."""
    try:
        text = repr(value)
    except ValueError:  # Python prints no integer of more than 4300 digits.
        return "a number of thousands of digits"
    return text if len(text) <= most else f"{text[:most]}..."


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values of a nested mapping."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def read_toml(path: Path) -> Settings:
    """Read a settings file.

    Raises:
        InvalidConfig: the file is missing or no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidConfig(f"cannot read the preset {path}: {error}.", "Check --preset.") from error
    except ValueError as error:  # Broken TOML, or a number of thousands of digits.
        raise InvalidConfig(f"{path} is not valid TOML: {error}.", "Correct the file.") from error
    except RecursionError as error:
        raise InvalidConfig(f"{path} is nested too deeply.", "Correct the file.") from error
