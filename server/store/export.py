"""Takes one round's model out of the store: `model.safetensors`, and `model.json` that says what it is."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from server.rounds import RunState
from server.store.models import MODEL, file_errors, publish, read_checked, stage, staged
from server.store.store import RoundStore
from shared.config import RunConfig
from shared.errors import RunDirectoryInUse
from shared.model import GlobalModel, parse_model

WEIGHTS = f"model{MODEL}"
CARD = "model.json"
_CURE = "Choose another --to."


def export_round(store: RoundStore, run: str, number: int, folder: Path) -> dict[str, Any]:
    """Write a round's model and its card to a folder; the weights are byte for byte the store's file.

    Returns:
        the card.

    Raises:
        RunDirectoryInUse: the folder holds other files.
        RoundNotFound: no such run or round, or it has no model.
        ModelCorrupt: the store's file is missing or changed.
        StoreError: the folder cannot be written.
    """
    folder = folder.absolute()
    _refuse_other_files(folder)
    models, digest = store.model_file(run, number)
    path = models.path(digest)
    data = read_checked(path, digest)
    card = model_card(store.state_at(run, number), store.config(run), store.round(run, number).phase, digest)
    card["tensors"], card["parameters"] = _tensors(model := parse_model(data, str(path))), model.parameter_count
    _write(folder, {WEIGHTS: data, CARD: json.dumps(card, indent=2, allow_nan=False).encode() + b"\n"})
    return card


def model_card(state: RunState, config: RunConfig, phase: str, digest: str) -> dict[str, Any]:
    """What a model is, apart from its tensors."""
    schema = None if state.schema is None else state.schema.as_dict()
    return {
        "format": 1,
        "run": state.run,
        "round": state.finished,
        "phase": str(phase),
        "digest": digest,
        "config": state.config_digest,
        "detector": config.recipe.detector.model_dump(mode="json"),
        "schema": schema,
        "clusters": state.model.clusters.count if state.model and state.model.clusters else None,
    }


def _tensors(model: GlobalModel) -> list[dict[str, Any]]:
    return [{"name": name, "shape": list(value.shape)} for name, value in model.weights.items()]


def _refuse_other_files(folder: Path) -> None:
    ours = {WEIGHTS, CARD, staged(folder / WEIGHTS).name, staged(folder / CARD).name}
    try:
        others = sorted(set(os.listdir(folder)) - ours)
    except FileNotFoundError:
        return
    except OSError as error:
        raise RunDirectoryInUse(f"{folder} cannot be used as a folder: {error.strerror}.", _CURE) from error
    if others:
        raise RunDirectoryInUse(f"{folder} holds other files already, such as {others[0]!r}.", _CURE)


def _write(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Both files are whole on disk before either gets its name; the card comes last, and never beside other weights."""
    with file_errors(folder):
        made = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        try:
            for name, data in contents.items():
                stage(folder / name, data)
        except OSError:
            _withdraw(folder, contents, made)
            raise
        (folder / CARD).unlink(missing_ok=True)
        for name in contents:
            publish(folder / name)


def _withdraw(folder: Path, contents: Mapping[str, bytes], made: bool) -> None:
    with suppress(OSError):
        for name in contents:
            staged(folder / name).unlink(missing_ok=True)
        if made:
            folder.rmdir()
