"""How to run the same thing again: the settings as a preset file, and what they ran on."""

from __future__ import annotations

import json
import platform
from importlib import metadata

from shared.config import RunConfig, flatten
from simulations.report.words import DASH

_DERIVED = ("recipe.privacy.noise.", "rounds.start")  # follow from epsilon, and from --public-start
_PACKAGES = ("crossplant", "flwr", "torch", "numpy")


def preset(config: RunConfig) -> str:
    """Every setting that differs from its default, as a TOML preset for `crossplant simulate --preset FILE.toml`.

    Example:
        >>> print(preset(RunConfig(seed=3)))
        seed = 3
    """
    defaults = dict(flatten(RunConfig().model_dump(mode="json")))
    groups: dict[str, list[str]] = {"": []}
    for name, value in flatten(config.model_dump(mode="json")):
        if value != defaults[name] and not name.startswith(_DERIVED):
            group, _, key = name.rpartition(".")
            groups.setdefault(group, []).append(_line(key, value))
    blocks = ["\n".join([f"[{group}]", *lines] if group else lines) for group, lines in groups.items() if lines]
    return "\n\n".join(blocks) or "# every setting at its default"


def _line(key: str, value: object) -> str:
    if value is None:
        return f"# {key} = none, which TOML cannot say"
    return f"{key} = {json.dumps(value, ensure_ascii=False)}".replace("\x7f", "\\u007f")


def versions() -> str:
    """What the report was written with."""
    return ", ".join([f"Python {platform.python_version()}", *(f"{name} {_version(name)}" for name in _PACKAGES)])


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return DASH
