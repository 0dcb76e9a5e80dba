"""What one client task costs beyond training: the real ServerApp, the in-process grid, a no-op plant, a real store."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from flwr.app import Message

from benchmarks import noop
from benchmarks.federation import RUN, Watch, run_no_op, settings
from benchmarks.figures import Figure, median
from benchmarks.quiet import Neighbours
from server import phases
from server.aggregate import RunningMean
from server.app import _records as request_records
from server.rounds import RoundRecord, RunState
from shared.config import RunConfig
from shared.detectors import build
from shared.model import GlobalModel, initial_weights
from shared.wire.gate import Accepted, Expectation, Rejected, parse_reply
from shared.wire.inventory import Kind
from shared.wire.messages import encode_request
from shared.wire.records import packet_from_records

LIMIT_MS = 5.0
PLANTS = 20


def measure(scratch: Path, quick: bool) -> list[Figure]:
    """Wall and CPU time a client task, its parts measured alone, and training steps between rounds as the yardstick."""
    steps: list[float] = []
    step = _training_step()
    watch, others = Watch(lambda record: steps.append(step())), Neighbours()
    run_no_op(scratch / "run", PLANTS, 8 if quick else 30, watch)
    others.stop()
    rounds = watch.pretrain(PLANTS)
    wall = [1e3 * seconds / PLANTS for _, seconds, _ in rounds]
    cpu = [1e3 * seconds / PLANTS for _, _, seconds in rounds]
    ratio = statistics.median(wall) / (1e3 * statistics.median(steps))
    told = f"{PLANTS} plants, 1 worker, commit included, model unchanged"
    return [
        median("overhead a client task, wall", wall, "ms", others.limit(LIMIT_MS), told),
        median("overhead a client task, CPU of the process", cpu, "ms", LIMIT_MS),
        others.figure(),
        Figure("  wall, in training steps (batch 128, 1 thread)", ratio, "x", note="interleaved, same run"),
        *_parts(30 if quick else 200),
        *_commit(rounds),
    ]


def _training_step() -> Callable[[], float]:
    """One step of the default network; call it for the seconds it takes."""
    config = settings(1).recipe
    detector = build(config.detector, noop.DIM)
    optimizer = torch.optim.Adam(detector.parameters())
    batch_BWD = torch.randn(128, config.detector.window, noop.DIM)

    def step() -> float:
        begin = time.perf_counter()
        optimizer.zero_grad()
        torch.autograd.backward(detector.loss(batch_BWD, None, torch.Generator()).total)
        optimizer.step()
        return time.perf_counter() - begin

    step()
    return step


def _commit(rounds: list[tuple[RoundRecord, float, float]]) -> list[Figure]:
    """What a round takes beyond conducting it: settling, digest and the store's transaction, shared among its tasks."""
    beyond = [1e3 * (seconds - record.seconds) / PLANTS for record, seconds, _ in rounds]
    return [median("  part, round: settle and commit, a task", beyond, "ms")]


def _parts(times: int) -> list[Figure]:
    """Each activity alone, on one thread; together they may exceed the whole, since server and plant overlap."""
    state, step, config = _described()
    request = phases.request(step, state, config)
    sent = encode_request(request)
    assert request.model is not None
    packet = noop.answer(sent, 0)
    carried, back = request_records(sent), noop.records(packet)
    expect = Expectation(
        kind=Kind.TRAIN,
        run=RUN,
        round=request.round,
        digest=request.digest,
        plant="plant-00000",
        examples=noop.EXAMPLES,
        manifest=state.manifest,
        base=request.model.weights,
        max_update_norm=config.rounds.max_update_norm,
    )
    verdict = parse_reply(packet, expect)
    assert isinstance(verdict, Accepted)
    mean = RunningMean()
    mean.add(verdict, 1.0)
    alone: dict[str, Callable[[], object]] = {
        "server: encode the request, once a round": lambda: request_records(encode_request(request)),
        "server: a message a plant": lambda: Message(carried, dst_node_id=1, message_type="train", ttl=60.0),
        "plant: records to packet": lambda: packet_from_records(carried),
        "plant: decode, check, digest, encode": lambda: noop.answer(sent, 0),
        "plant: packet to records": lambda: noop.records(packet),
        "server: records to packet": lambda: packet_from_records(back),
        "server: gate": lambda: _accepted(parse_reply(packet, expect)),
        "server: fold into the mean": lambda: mean.add(verdict, 1.0),
    }
    return [median(f"  part, {name}", _times(call, times), "ms") for name, call in alone.items()]


def _accepted(verdict: Accepted | Rejected) -> None:
    assert isinstance(verdict, Accepted)


def _described() -> tuple[RunState, phases.Step, RunConfig]:
    """The state after a describe round, and the first training step."""
    config = settings(1)
    manifest = noop.manifest()
    model = GlobalModel(initial_weights(manifest, config.seed))
    state = RunState(RUN, config.digest, 1, 1, model=model, manifest=manifest)
    return state, phases.plan(config)[1], config


def _times(call: Callable[[], object], times: int) -> list[float]:
    found = []
    for _ in range(times):
        begin = time.perf_counter()
        call()
        found.append(1e3 * (time.perf_counter() - begin))
    return found
