"""A whole simulated run: gather sites, open a store, carry the rounds, measure, report. A killed run can be resumed."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from client.agent.local import plant_folders
from client.training.tensors import resolve_device
from server.channel import Observer
from server.phases import Step, plan
from server.store.store import RoundStore
from shared import detectors, thresholds
from shared.config import EngineConfig, RunConfig
from shared.errors import InvalidConfig, RoundError, RunDirectoryInUse, UnknownName
from shared.metrics.summary import macro
from shared.model import GlobalModel
from simulations.engines import Job, carry
from simulations.evaluate import SiteResult, evaluate_sites, evaluations, pooled_evaluation, result_rows
from simulations.gather import Gathered, gather_fitted
from simulations.given import shares
from simulations.kept import kept_lines
from simulations.private import private_sites
from simulations.rundir import RunFolder, RunIndex, note_lines, write_json
from simulations.spent import Spent, spent


@dataclass(frozen=True)
class Finished:
    """What a finished run leaves in hand.

    Attributes:
        run: its name in the store.
        config: its settings.
        results: one a site.
        unmeasured: sites without a usable bundle, and why, in words.
        seconds: training and evaluation, this time.
        spent: of the privacy budget; None for a run that claims none.
        kept: a sentence for each site that chose between models.
    """

    run: str
    config: RunConfig
    results: tuple[SiteResult, ...]
    unmeasured: tuple[str, ...]
    seconds: float
    spent: Spent | None = None
    kept: tuple[str, ...] = ()


def begin(
    config: RunConfig,
    origin: Mapping[str, str],
    folder: RunFolder,
    store: str = ".",
    public: str = "",
    gathered: Gathered | None = None,
) -> RunIndex:
    """Prepare a run: data first, so that nothing is written when there is something wrong with it.

    Args:
        config, origin: the settings, and where each came from.
        folder: to make.
        store: where rounds are kept; `.` means in the folder.
        public: made plants to train the first weights on, see `simulations.public_start`; empty: none.
        gathered: sites that are at hand and checked (`check_sites`); None: those that the settings name, which then
            follow from the sites where nobody set them (`simulations.chosen`).

    Raises:
        CrossplantError: the folder is in use, or the data cannot be used.
    """
    folder.check_free()
    check_names(config)
    resolve_device(config.engine.device)
    if store != "." and "://" not in store:
        cure = (
            "Leave --store out to keep rounds in the run folder, or give a URL such as sqlite:////data/rounds.sqlite."
        )
        raise InvalidConfig(f"--store {store!r} is no database URL.", cure)
    if gathered is None:
        chosen, gathered = gather_fitted(config, origin)
        config, origin = chosen.config, chosen.origin
    start = _start(config, gathered, public)
    models = None if store == "." else folder.root / "models"
    location = str(folder.root) if store == "." else store
    with RoundStore.create(location, models) as opened, opened.lock():
        if folder.complete:
            raise RunDirectoryInUse(f"{folder.root} was taken by another run just now.")
        with folder.undone_on_failure():
            if start is not None:
                config = config.model_copy(
                    update={"rounds": config.rounds.model_copy(update={"start": opened.keep_start(start)})}
                )
                origin = {**origin, "rounds.start": f"made plants: {public}"}
            return _fill(folder, opened, config, dict(origin), store, gathered)


def _start(config: RunConfig, gathered: Gathered, public: str) -> GlobalModel | None:
    """Weights trained on made plants, where these have the tags of the run's."""
    if not public:
        return None
    from simulations.public_start import pretrained, public_plants

    plants = public_plants(public, config)
    if plants[0].schema.tags != gathered.sites[0].schema.tags:
        raise InvalidConfig(
            f"--public-start {public}: these plants have other tags than the run's.", "Choose others, or none."
        )
    return pretrained(plants, config, resolve_device(config.engine.device))


def _fill(
    folder: RunFolder, opened: RoundStore, config: RunConfig, origin: dict[str, str], store: str, gathered: Gathered
) -> RunIndex:
    """Plants, then the store's entry, then the index: a folder that has one is complete."""
    data = folder.write_plants(gathered.sites)
    run = f"{config.data.dataset}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    opened.start_run(run, config)
    index = RunIndex(
        run=run,
        store=store,
        origin=origin,
        notes=note_lines(gathered.notes),
        data=data,
        given=shares(gathered.sites),
        private=private_sites(gathered.sites, config),
        left_out=gathered.left_out,
    )
    folder.write_index(index)
    return index


def check_names(config: RunConfig) -> None:
    """Refuse a detector or threshold rule that nobody has registered, before anything is trained.

    Raises:
        UnknownName: with the names that there are.
        InvalidConfig: an ensemble of threshold rules is its own member.
    """
    for kind, name, known in (
        ("detector", config.recipe.detector.name, detectors.known()),
        ("threshold rule", config.recipe.threshold.rule, thresholds.known()),
        *(("threshold rule", member, thresholds.known()) for member in config.recipe.threshold.members),
    ):
        if name not in known:
            raise UnknownName(kind, name, known)
    if "ensemble" in config.recipe.threshold.members:
        raise InvalidConfig("recipe.threshold.members: an ensemble cannot be its own member.", "Name other rules.")


def proceed(folder: RunFolder, observer: Observer, engine_flags: Mapping[str, Any] | None = None) -> Finished:
    """Carry a prepared run to its end, measure it and write the results.

    Args:
        folder: what `begin` prepared, wherever its run stands.
        observer: who watches.
        engine_flags: `engine.*` settings that differ this time; they change no result.

    Raises:
        CrossplantError: the run failed, or the folder holds none.
        KeyboardInterrupt: the user ended it; the run is marked and can be resumed.
    """
    started = time.monotonic()
    index = folder.read_index()
    location = folder.store_location(index)
    with RoundStore.open(location) as store:
        config = store.config(index.run)
    chosen = _engine(config.engine, engine_flags or {})
    folder.check_data(index)
    plants = folder.plants.resolve()
    job = Job(location, index.run, plants, len(plant_folders(plants)), chosen)
    try:
        carry(job, observer)
    except KeyboardInterrupt:
        _mark(location, index.run, "interrupted")
        raise
    except RoundError:
        _mark(location, index.run, "failed")
        raise
    results, unmeasured = evaluate_sites(plants, folder.bundles, resolve_device(chosen.device), job.workers)
    with RoundStore.open(location) as store:
        records = store.rounds(index.run)
        spends = spent(folder.root, index.run, config, records, index.private, index.left_out)
    _write_results(folder, index.run, config, results, spends)
    from simulations.report import Material, write_report  # Imports matplotlib, which nothing before needs.

    seconds = time.monotonic() - started
    kept = kept_lines(results)
    notes = (*unmeasured, *kept, *index.notes)
    write_report(
        folder.report, Material(index.run, config, index.origin, notes, records, results, seconds, index.given, spends)
    )
    return Finished(index.run, config, results, unmeasured, seconds, spends, kept)


def _engine(engine: EngineConfig, flags: Mapping[str, Any]) -> EngineConfig:
    changes = {name.removeprefix("engine."): value for name, value in flags.items() if value is not None}
    try:
        return EngineConfig.model_validate({**engine.model_dump(), **changes})
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidConfig(f"engine.{first['loc'][0]} = {first['input']!r}: {first['msg']}.") from error


def _mark(location: str, run: str, status: str) -> None:
    with RoundStore.open(location) as store:
        store.finish_run(run, status)


def _write_results(
    folder: RunFolder, run: str, config: RunConfig, results: tuple[SiteResult, ...], spends: Spent | None
) -> None:
    means = {name: _json_number(value) for name, value in macro(evaluations(results)).items()}
    together = pooled_evaluation(results)
    content: dict[str, Any] = {
        "run": run,
        "config": config.digest,
        "macro": means,
        "pooled": together.to_dict() if together else None,
        "privacy": spends.to_dict() if spends else None,
        "sites": result_rows(results),
    }
    write_json(folder.results, content)


def _json_number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def rounds_left(folder: RunFolder) -> tuple[int, tuple[Step, ...]]:
    """How many steps a run has done, and its plan."""
    index = folder.read_index()
    with RoundStore.open(folder.store_location(index)) as store:
        state, config = store.latest_state(index.run), store.config(index.run)
    return (state.step if state else 0), plan(config)
