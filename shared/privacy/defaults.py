"""What a run under local differential privacy begins with."""

from __future__ import annotations

from shared.config import Settings

PRIVATE: Settings = {
    "recipe": {
        "detector": {"hidden": 32, "dropout": 0.0},
        "clustering": {"clip": "cloud", "kappa": 50.0, "refresh_every": 10},
    },
    "rounds": {"server_optimizer": "adam", "weighting": "uniform", "vote_every": 0, "pretrain": 45, "joint": 105},
}
"""What a run under local differential privacy begins with, laid under its own settings: one noisy gradient an exchange
and Adam at the server, a small network, nothing that couples records (docs/privacy.md)."""


def private_layers(asked: Settings) -> dict[str, Settings]:
    """What to lay under settings that ask for local differential privacy; nothing under others.

    Example:
        >>> list(private_layers({"recipe": {"privacy": {"mode": "local"}}})), private_layers({"seed": 1})
        (['differential privacy'], {})
    """
    recipe = asked.get("recipe")
    privacy = recipe.get("privacy") if isinstance(recipe, dict) else None
    local = isinstance(privacy, dict) and privacy.get("mode") == "local"
    return {"differential privacy": PRIVATE} if local else {}
