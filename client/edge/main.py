"""A scorer's process: `python -m client.edge.main PARAMETERS`, with what the command line said as one JSON object.

`crossplant client score` parses its options with typer and then becomes this process (`os.execv`: the same process id,
the same streams), for typer and click would cost it 9 MB as long as it runs.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shared.cli import open_missing_streams, report
from shared.errors import InvalidConfig

if TYPE_CHECKING:
    from client.edge.runtime import Job, Outcome
    from client.edge.settings import Settings
    from client.edge.sinks.base import SinkSettings


_LEAN = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",  # A thread of OpenBLAS costs memory, and one window needs none.
    "PYTHONNODEBUGRANGES": "1",  # Tables for the carets in tracebacks.
    "MALLOC_TRIM_THRESHOLD_": "131072",  # Freed memory goes back to the system.
    "MALLOC_MMAP_THRESHOLD_": "131072",
    "MALLOC_ARENA_MAX": "2",  # Threads that wait for a disk need no heap of their own.
}
"""What keeps the process small; what the user's own environment says counts."""
_SPOOLED = ("mqtt://", "mqtts://", "http://", "https://")  # sinks that keep records until the other side has them


@dataclass(frozen=True)
class Parameters:
    """The options of `crossplant client score`, as they were given."""

    bundle: str
    source: str = ""
    speed: str = "max"
    limit: int | None = None
    sinks: tuple[str, ...] = ()
    config: str | None = None
    state: str | None = None
    trust: str | None = None
    top: int | None = None
    source_set: tuple[str, ...] = ()
    int8: bool = False


def become(parameters: Parameters) -> None:
    """Score: in the place of this process if it is `crossplant`, else within it.

    Raises:
        CrossplantError: as for `client.edge.runtime.run`.
    """
    if os.name != "posix" or not Path(sys.argv[0]).name.startswith("crossplant"):
        score(parameters)
        return
    sys.stdout.flush()
    sys.stderr.flush()
    # -P: the current folder may hold a file called client.py.
    command = [sys.executable, "-P", "-m", "client.edge.main", json.dumps(asdict(parameters))]
    os.execve(sys.executable, command, {**_LEAN, **os.environ})  # noqa: S606


def score(parameters: Parameters) -> None:
    """Score to the end.

    Raises:
        CrossplantError: as for `client.edge.runtime.run`.
    """
    from client.edge.runtime import run

    found = job(parameters)
    if found.state is None and any(sink.location.startswith(_SPOOLED) for sink in found.sinks):
        done = _without_state(found)
    else:
        done = run(found, say)
    lost = sum(delivery.dropped for delivery in done.deliveries.values())
    say(f"{done.samples} samples, {done.scores} scores{f', {lost} records dropped' if lost else ''}")


def _without_state(found: Job) -> Outcome:
    """Run with spools in a temporary folder, and say what that means."""
    import tempfile
    from dataclasses import replace

    from client.edge.runtime import run

    with tempfile.TemporaryDirectory(prefix="cp-spool-") as folder:
        say("without --state, records that cannot be delivered before the scorer ends are lost")
        sinks = tuple(replace(sink, state=Path(folder) / str(at)) for at, sink in enumerate(found.sinks))
        return run(replace(found, sinks=sinks), say)


def job(given: Parameters) -> Job:
    """What is to be run; the command line counts before the edge.toml.

    Raises:
        FileTrouble, InvalidConfig: the edge.toml or an option is not what it must be.
    """
    from msgspec import structs

    from client.edge.runtime import Job
    from client.edge.settings import read_settings

    settings = read_settings(Path(given.config) if given.config else None)
    settings = structs.replace(settings, top=given.top) if given.top else settings
    state = Path(given.state or settings.state) if given.state or settings.state else None
    source = given.source or settings.source.location
    if not source:
        raise InvalidConfig("there is no --source.", "Give one, or [source] location = '...' in the edge.toml.")
    return Job(
        bundle=Path(given.bundle),
        source=source,
        sinks=_sinks(given.sinks, settings, state),
        settings=settings,
        source_options={**settings.source.options, **_pairs(given.source_set)},
        speed=read_speed(given.speed),
        limit=given.limit,
        state=state,
        trust=Path(given.trust) if given.trust else None,
        int8=given.int8 or settings.model.int8,
    )


def _sinks(given: tuple[str, ...], settings: Settings, state: Path | None) -> tuple[SinkSettings, ...]:
    """The sinks of the command line and of the edge.toml; without any, scores go to standard output."""
    from client.edge.sinks.base import SinkSettings

    spool = state or Path()
    named = [SinkSettings(location, spool) for location in given]
    named += [
        SinkSettings(group.location, spool / "sinks" / name, frozenset(group.types), group.options)
        for name, group in settings.sinks.items()
    ]
    return tuple(named) or (SinkSettings("-", spool, frozenset({"score"})),)


def read_speed(text: str) -> float | None:
    """A speed; None is as fast as it goes.

    Raises:
        InvalidConfig: it is none.

    Example:
        >>> read_speed("max"), read_speed("1x"), read_speed("100")
        (None, 1.0, 100.0)
    """
    if text == "max":
        return None
    try:
        found = float(text.removesuffix("x"))
    except ValueError:
        found = 0.0
    if not 0 < found < float("inf"):
        raise InvalidConfig(f"--speed {text!r:.40} is no speed.", "Say max, 1x or 100x.")
    return found


def _pairs(given: tuple[str, ...]) -> dict[str, str]:
    wrong = [pair for pair in given if not pair.partition("=")[0] or "=" not in pair]
    if wrong:
        raise InvalidConfig(f"--source-set {wrong[0]!r:.80} is not NAME=VALUE.", "See docs/edge/scoring.md.")
    return dict(pair.partition("=")[::2] for pair in given)


def say(line: str) -> None:
    """One line for a person, on standard error; that nobody reads it stops nothing."""
    try:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        return


def main() -> int:
    """The process; returns its exit code."""
    try:
        given = json.loads(sys.argv[1])
        score(Parameters(**{**given, "sinks": tuple(given["sinks"]), "source_set": tuple(given["source_set"])}))
    except BaseException as error:  # The last line of defence, as in `shared.cli.run`.
        return report(error)
    return 0


if __name__ == "__main__":
    open_missing_streams()
    sys.exit(main())
