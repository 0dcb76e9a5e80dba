"""What a person sees while a simulation runs: the bar over the run, also where training stops early."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from server import stopping
from server.phases import Step, plan
from server.rounds import Phase, RoundRecord, Status
from simulations.progress import RichObserver, done_after
from tests.support.plants import settings

CONFIG = settings(rounds={"pretrain": 5, "joint": 4})
PLAN = plan(CONFIG)


def record(step: Step, status: Status = Status.COMMITTED) -> RoundRecord:
    return RoundRecord("run", 1, step.phase, step.label, status, None, "2024-05-01", 1.0, (), {}, None, None, "digest")


def walked(steps: list[Step]) -> int:
    done = 0
    for step in steps:
        done = done_after(record(step), done, PLAN)
    return done


def test_step_by_step_a_whole_plan_is_done() -> None:
    for count in range(len(PLAN) + 1):
        assert walked(list(PLAN[:count])) == count


@pytest.mark.parametrize("phase", [Phase.PRETRAIN, Phase.JOINT])
def test_what_an_early_stop_leaves_out_is_behind_the_run(phase: Phase) -> None:
    first = next(i for i, step in enumerate(PLAN) if step.phase is phase)
    after = stopping.after_training(phase, CONFIG)
    assert after > first + 2
    assert walked([*PLAN[: first + 1], *PLAN[after : after + 1]]) == after + 1
    assert walked([*PLAN[: first + 1], *PLAN[after:]]) == len(PLAN)


def test_the_bar_is_full_at_the_end_of_a_run_that_stopped_early_and_waits_in_rounds_that_are_skipped() -> None:
    after = stopping.after_training(Phase.PRETRAIN, CONFIG)
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with RichObserver(console, 2, PLAN) as seen:
        bar = seen._progress.tasks[0]
        assert (bar.completed, bar.total) == (2, len(PLAN))
        seen.round_finished(record(PLAN[2]))
        seen.round_finished(record(PLAN[3], Status.SKIPPED))
        assert bar.completed == 3
        for step in PLAN[after:]:
            seen.round_finished(record(step))
        assert bar.completed == len(PLAN)
