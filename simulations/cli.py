"""`crossplant simulate` and `crossplant config`. Heavy imports wait until the options are parsed."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shared.cli import INTERRUPTED, silence

if TYPE_CHECKING:
    from rich.console import Console

    from shared.config import RunConfig
    from simulations.rundir import RunFolder

simulate_app = typer.Typer(add_completion=False)
config_app = typer.Typer(add_completion=False, no_args_is_help=True, help="Show the effective settings.")

_DATA, _TRAIN, _ROUNDS, _ENGINE = "Data", "Training", "Rounds", "Engine"

Preset = Annotated[str | None, typer.Option(help="Settings to start from: a name, or a .toml file.", metavar="NAME")]
Set = Annotated[list[str] | None, typer.Option("--set", help="Any setting, as NAME=VALUE.", metavar="NAME=VALUE")]
Dataset = Annotated[
    str | None,
    typer.Option(
        help="swat, wadi, msl, smap, batadal, skab, smd, tep, secom, historian (a plant's own export); or plants "
        "that are made: generated (default; small), twin-swat, twin-wadi.",
        rich_help_panel=_DATA,
    ),
]
Datasets = Annotated[
    str | None,
    typer.Option(
        help="Several data sets in one federation that shares a trunk, separated by commas; --data then holds their "
        "folders, --sites counts the sites of each.",
        metavar="A,B",
        rich_help_panel=_DATA,
    ),
]
Data = Annotated[Path | None, typer.Option(help="Folder of the data set.", metavar="DIR", rich_help_panel=_DATA)]
Sites = Annotated[int | None, typer.Option(help="How many sites.", rich_help_panel=_DATA)]
Days = Annotated[
    float | None, typer.Option(help="Days of normal operation of a twin plant; default 2.", rich_help_panel=_DATA)
]
Partition = Annotated[
    str | None,
    typer.Option(
        help="How the data becomes sites: by-channel, by-subsystem, by-stage, by-machine, by-time or by-mode.",
        rich_help_panel=_DATA,
    ),
]
Concentration = Annotated[
    float | None,
    typer.Option(help="by-mode: small makes sites unlike, large alike; default 0.5.", rich_help_panel=_DATA),
]
Modes = Annotated[int | None, typer.Option(help="by-mode: operating modes to tell apart.", rich_help_panel=_DATA)]
Late = Annotated[
    list[str] | None,
    typer.Option(
        help="A site that joins with this share of its training rows only, such as plant-2:0.05; may be given again.",
        metavar="SITE:SHARE",
        rich_help_panel=_DATA,
    ),
]
Seed = Annotated[int | None, typer.Option(help="Seed of everything that is drawn.")]
Rounds = Annotated[
    int | None,
    typer.Option(min=1, max=100_000, help="Training rounds; three tenths of them pretrain.", rich_help_panel=_ROUNDS),
]
Weighting = Annotated[str | None, typer.Option(help="examples, bucket or uniform.", rich_help_panel=_ROUNDS)]
Optimizer = Annotated[
    str | None,
    typer.Option(
        help="avg, adam on one gradient a round, fedavgm, fedadam, fedyogi or fedadagrad.", rich_help_panel=_ROUNDS
    ),
]
LocalEpochs = Annotated[int | None, typer.Option(help="Epochs at each site in a round.", rich_help_panel=_TRAIN)]
Window = Annotated[int | None, typer.Option(help="Window length, in samples.", rich_help_panel=_TRAIN)]
Stride = Annotated[int | None, typer.Option(help="Step between training windows.", rich_help_panel=_TRAIN)]
Batch = Annotated[int | None, typer.Option(help="Batch size; 0: the whole local set.", rich_help_panel=_TRAIN)]
Clusters = Annotated[int | None, typer.Option(help="Number of clusters.", rich_help_panel=_TRAIN)]
_PRIVACY = "Differential privacy"
SecureAggregation = Annotated[
    bool,
    typer.Option("--secure-aggregation", help="Refused, with the reason.", rich_help_panel=_PRIVACY, hidden=True),
]
Epsilon = Annotated[
    float | None,
    typer.Option(
        help="Train under differential privacy with this budget for the whole run.", rich_help_panel=_PRIVACY, min=0.0
    ),
]
Delta = Annotated[float | None, typer.Option(help="Default 1e-5.", rich_help_panel=_PRIVACY)]
Unit = Annotated[
    str | None,
    typer.Option(
        help="Record that is protected: a segment of so many samples (default 60), or of a time such as 10min or 8h.",
        rich_help_panel=_PRIVACY,
    ),
]
Dp = Annotated[
    str | None,
    typer.Option(
        help="local (default): each site adds its own noise; central: the server does, for whole sites.",
        rich_help_panel=_PRIVACY,
    ),
]
PublicStart = Annotated[
    str | None,
    typer.Option(
        help="Under local privacy, begin with weights trained on made plants: auto (default), none, or generated, "
        "twin-swat, twin-wadi.",
        rich_help_panel=_PRIVACY,
    ),
]
DpEngine = Annotated[
    str | None, typer.Option(help="ghost (default), or opacus: slow, to compare.", rich_help_panel=_PRIVACY)
]
Engine = Annotated[str | None, typer.Option(help="inprocess (default) or ray.", rich_help_panel=_ENGINE)]
Workers = Annotated[
    int | None, typer.Option(help="Sites at the same time; default one a core.", rich_help_panel=_ENGINE)
]
Device = Annotated[str | None, typer.Option(help="auto, cpu or cuda.", rich_help_panel=_ENGINE)]
Out = Annotated[Path | None, typer.Option(help="Run folder to make.", metavar="DIR")]
StoreUrl = Annotated[str | None, typer.Option("--store", help="Round store elsewhere: a database URL.", metavar="URL")]
Resume = Annotated[Path | None, typer.Option(help="Continue the run in this folder.", metavar="DIR")]
Plan = Annotated[bool, typer.Option("--plan", help="Print what each site would get, and write and train nothing.")]
Json = Annotated[bool, typer.Option("--json", help="With --plan: print JSON.")]


@simulate_app.command("simulate")
def simulate(
    out: Out = None,
    resume: Resume = None,
    preset: Preset = None,
    dataset: Dataset = None,
    datasets: Datasets = None,
    data: Data = None,
    sites: Sites = None,
    days: Days = None,
    partition: Partition = None,
    late: Late = None,
    concentration: Concentration = None,
    modes: Modes = None,
    rounds: Rounds = None,
    local_epochs: LocalEpochs = None,
    seed: Seed = None,
    window: Window = None,
    stride: Stride = None,
    batch_size: Batch = None,
    clusters: Clusters = None,
    weighting: Weighting = None,
    server_optimizer: Optimizer = None,
    epsilon: Epsilon = None,
    delta: Delta = None,
    unit: Unit = None,
    dp: Dp = None,
    dp_engine: DpEngine = None,
    public_start: PublicStart = None,
    secure_aggregation: SecureAggregation = False,
    engine: Engine = None,
    workers: Workers = None,
    device: Device = None,
    store: StoreUrl = None,
    setting: Set = None,
    plan: Plan = False,
    as_json: Json = False,
) -> None:
    """Train one detector across sites on this machine, then score every site's test data with its own bundle.

    The run folder gets the round store, the models, one bundle a site, results.json and report.html.
    """
    given = {
        "data.dataset": dataset,
        **_mixed(dataset, datasets),
        "data.path": None if data is None else str(data.expanduser().resolve()),
        "data.sites": sites,
        "data.days": days,
        "data.partition": partition,
        "data.shrink": tuple(late) if late else None,
        "data.concentration": concentration,
        "data.modes": modes,
        "recipe.training.local_epochs": local_epochs,
        "recipe.training.stride": stride,
        "recipe.training.batch_size": batch_size,
        "recipe.detector.window": window,
        "recipe.clustering.clusters": clusters,
        "rounds.weighting": weighting,
        "rounds.server_optimizer": server_optimizer,
        "recipe.privacy.epsilon": epsilon,
        "recipe.privacy.delta": delta,
        "recipe.privacy.mode": dp,
        "recipe.privacy.engine": dp_engine,
        "seed": seed,
    }
    if unit is not None:
        from simulations.settings import parse_unit

        given |= parse_unit(unit)
    if secure_aggregation:
        from shared.errors import SecureAggregationRefused

        raise SecureAggregationRefused("secure aggregation through Flower 1.41 hides nothing that has to be hidden.")
    engine_flags = {"engine.name": engine, "engine.workers": workers, "engine.device": device}
    others = (preset, rounds, store, out, public_start)
    changing = any(value is not None for value in (*given.values(), *others)) or bool(setting)
    if resume is not None and changing:
        raise typer.BadParameter("a resumed run keeps its settings; only --engine, --workers and --device may be given")
    if as_json and not plan:
        raise typer.BadParameter("--json goes with --plan; a run leaves its figures in results.json")
    if plan:
        if resume is not None or store is not None:  # --out does no harm: the doctor's next command has one
            raise typer.BadParameter("--plan writes nothing: leave out --resume and --store")
        _plan(preset, {**given, **engine_flags}, rounds, setting or [], as_json)
        return
    if resume is None and out is None:
        raise typer.BadParameter("give --out DIR for a new run, --resume DIR to continue one, or --plan to look first")
    from simulations.rundir import RunFolder

    if resume is not None:
        _run(RunFolder(resume), engine_flags)
        return
    assert out is not None
    _start(RunFolder(out), preset, {**given, **engine_flags}, rounds, setting or [], store, public_start or "auto")


def _mixed(dataset: str | None, datasets: str | None) -> dict[str, Any]:
    """What `--datasets` sets."""
    if datasets is None:
        return {}
    if dataset not in (None, "mixed"):
        raise typer.BadParameter("give --dataset or --datasets, not both")
    names = tuple(name.strip() for name in datasets.split(",") if name.strip())
    return {"data.dataset": "mixed", "data.datasets": names, "recipe.sharing.share": "trunk"}


def _plan(preset: str | None, flags: dict[str, Any], rounds: int | None, setting: list[str], as_json: bool) -> None:
    """What each site would get."""
    from simulations.settings import layered

    config, origin = layered(preset, flags, rounds, setting)
    from simulations.gather import gather_fitted
    from simulations.given import print_shares, shares
    from simulations.private import print_plan, private_plan

    chosen, gathered = gather_fitted(config, origin)
    config = chosen.config
    given, notes = shares(gathered.sites), [str(note) for note in gathered.notes]
    private = private_plan(config, gathered.sites, gathered.left_out)
    if as_json:
        head: dict[str, Any] = {"dataset": config.data.dataset, "partition": gathered.partition}
        if private is not None:
            head["privacy"] = private.model_dump(mode="json")
        typer.echo(json.dumps({**head, **given.model_dump(mode="json"), "notes": notes}, indent=1, allow_nan=False))
        return
    console = lasting_console()
    _print_notes(console, notes, "use --json for all of them")
    print_shares(console, given)
    if private is not None:
        print_plan(console, private)


def _print_notes(console: Console, notes: Sequence[str], rest: str) -> None:
    for note in notes[:12]:
        console.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)
    if len(notes) > 12:
        console.print(f"note: {len(notes) - 12} more, {rest}", highlight=False)


def _start(
    folder: RunFolder,
    preset: str | None,
    flags: dict[str, Any],
    rounds: int | None,
    setting: list[str],
    store: str | None,
    public_start: str,
) -> None:
    from simulations.public_start import check_source
    from simulations.settings import layered

    config, origin = layered(preset, flags, rounds, setting)
    source = check_source(public_start, config)
    from simulations.simulate import begin  # Imports torch: seconds that a wrong option should not cost.

    if source:
        line = f"First weights: from made plants ({source}), at no epsilon; none: --public-start none"
        lasting_console().print(line, highlight=False, markup=False, soft_wrap=True)
    begin(config, origin, folder, store or ".", source)
    _run(folder, {})


def _run(folder: RunFolder, engine_flags: dict[str, Any]) -> None:
    from simulations.given import print_shares
    from simulations.progress import RichObserver, site_table
    from simulations.simulate import proceed, rounds_left

    console = lasting_console()
    index = folder.read_index()
    _print_notes(console, index.notes, "in the report")
    if index.given is not None:
        print_shares(console, index.given)
    done, plan = rounds_left(folder)
    try:
        with RichObserver(console, done, plan) as observer:
            finished = proceed(folder, observer, engine_flags)
    except KeyboardInterrupt:
        console.print(
            f"Interrupted. Continue with: crossplant simulate --resume {folder.root}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
        raise typer.Exit(INTERRUPTED) from None
    console.print(site_table(finished.results))
    for line in (*finished.unmeasured, *finished.kept):
        console.print(f"note: {line}", highlight=False, markup=False, soft_wrap=True)
    for line in finished.spent.short if finished.spent else ():
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    console.print(f"report: {folder.report}", highlight=False, markup=False, soft_wrap=True)


def lasting_console() -> Console:
    """A console that falls silent when its reader goes away, as `| head` does: a run is worth more than its lines."""
    from rich.console import Console

    class Lasting(Console):
        def on_broken_pipe(self) -> None:
            silence(sys.stdout)

    return Lasting()


@config_app.callback()
def config_group() -> None:
    """Show the effective settings and where each came from."""


@config_app.command("show")
def show(
    preset: Preset = None,
    run: Annotated[Path | None, typer.Option(help="Settings of the run in this folder.", metavar="DIR")] = None,
    setting: Set = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print every setting with its effective value and its source."""
    if run is not None and (preset is not None or setting):
        raise typer.BadParameter("--run shows the settings that a run has; leave out --preset and --set")
    from shared.config import flatten

    config, origin = _run_settings(run) if run is not None else _layered_settings(preset, setting or [])
    rows = [(name, value, origin.get(name, "default")) for name, value in flatten(config.model_dump(mode="json"))]
    if as_json:
        settings = [{"name": name, "value": value, "source": source} for name, value, source in rows]
        typer.echo(json.dumps({"digest": config.digest, "settings": settings}, indent=1))
        return
    width = max(len(name) for name, _, _ in rows)
    for name, value, source in rows:
        typer.echo(f"{name:<{width}}  {json.dumps(value):<14}  {source}")
    typer.echo(f"{'digest':<{width}}  {config.digest}")


def _layered_settings(preset: str | None, setting: list[str]) -> tuple[RunConfig, dict[str, str]]:
    from simulations.settings import layered

    return layered(preset, {}, None, setting)


def _run_settings(folder: Path) -> tuple[RunConfig, dict[str, str]]:
    from server.store.store import RoundStore
    from simulations.rundir import RunFolder

    run = RunFolder(folder)
    index = run.read_index()
    with RoundStore.open(run.store_location(index)) as store:
        return store.config(index.run), index.origin
