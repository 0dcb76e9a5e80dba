"""Updates in fewer bytes: what they weigh on the wire beside fp32, and what they cost in loss over 20 rounds.

The real agents, coordinator, gate and frame, in one process; every setting is the default but those named here. The
default network is trained once, a small one with several seeds. At other learning rates than the default:
`python -m benchmarks.wire --rate 3e-3 --seeds 6`, which also tells how far off fp32 itself ends when its updates are
disturbed by one part in a million, and when the same batches come in another order: the yardstick for what rounding
may cost there.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.figures import Figure
from server.rounds import RoundRecord
from shared.config import RunConfig, build
from shared.series import SiteData
from shared.wire.compress import Wire
from shared.wire.envelope import Packet, RawArray, decode_array, encode_array
from shared.wire.frame import encode_frame
from shared.wire.inventory import Kind
from shared.wire.messages import WEIGHT
from simulations.generate import generate
from tests.support.plants import Tamper, federate

PLANTS = 3
LIMIT_LOSS, LIMIT_BYTES = 0.01, {"int8": 0.25, "bf16": 0.5}
SHORTER: tuple[Wire, ...] = ("bf16", "int8")
_LITTLE = 1e-6
_COLUMNS = (*SHORTER, "fp32 disturbed", "fp32 reordered")
_SMALL = {"hidden": 24, "layers": 1, "window": 12}


@dataclass(frozen=True)
class Case:
    """A network and the data that it learns from.

    Attributes:
        name: for people.
        rows: of each plant.
        detector, training: settings of the recipe.
    """

    name: str
    rows: int
    detector: dict[str, object]
    training: dict[str, object]

    def config(self, wire: Wire, seed: int, order: int | None = None) -> RunConfig:
        """Six pretrain and fourteen joint rounds, as by default. `order` is the seed of the order of batches alone."""
        training = {**self.training, **({} if order is None else {"seed": order})}
        recipe = {"detector": self.detector, "training": training}
        return build({"wire": {"seed": seed, "recipe": recipe, "rounds": {"wire": wire, "deadline_s": 600.0}}})[0]

    def sites(self, seed: int) -> tuple[SiteData, ...]:
        """Its plants."""
        return generate(PLANTS, self.rows, seed)


SMALL = Case("small network", 1500, {**_SMALL}, {})
DEFAULT = Case("default network", 600, {}, {})


@dataclass(frozen=True)
class Outcome:
    """What a run came to: loss on held-out data of the last model, bytes of one update in its frame, first loss."""

    loss: float
    size: int
    first: float


def measure(scratch: Path, quick: bool) -> list[Figure]:
    """The default network with one seed, the small one with four."""
    figures = [] if quick else _figures(DEFAULT, [0])
    return figures + _figures(SMALL, range(1 if quick else 4))


def _figures(case: Case, seeds: Sequence[int]) -> list[Figure]:
    told = []
    full = [run(case, "fp32", seed) for seed in seeds]
    for wire in SHORTER:
        short = [run(case, wire, seed) for seed in seeds]
        off = [mine.loss / its.loss - 1 for mine, its in zip(short, full, strict=True)]
        worst = max(off, key=abs)
        sizes = f"{short[0].size:,} bytes, fp32 {full[0].size:,}"
        lost = f"fp32 {full[0].first:.3f} -> {full[0].loss:.3f}; {len(off)} seed{'s' * (len(off) > 1)}"
        name = f"{wire} / fp32, {case.name}"
        # A small network's names and numbers weigh as much as a tensor of it.
        limit = LIMIT_BYTES[wire] if case is DEFAULT else None
        told += [
            Figure(f"{name}, bytes of an update", short[0].size / full[0].size, "x", limit, sizes),
            Figure(f"{name}, loss off after 20 rounds", abs(worst), "x", LIMIT_LOSS, lost, tuple(off)),
        ]
    return told


def run(case: Case, wire: Wire, seed: int, tamper: Tamper | None = None, order: int | None = None) -> Outcome:
    """One run."""
    _, journal, channel = federate(case.sites(seed), case.config(wire, seed, order), tamper or _untouched)
    update = next(packet for packet in channel.received if packet.texts["kind"] == Kind.TRAIN)
    return Outcome(_loss(journal.records[-1]), len(encode_frame(update)), _loss(journal.records[1]))


def _untouched(plant: str, reply: Packet) -> Packet | None:
    return reply


def _loss(record: RoundRecord) -> float:
    return float(record.metrics["holdout_loss"])


# ---- at another learning rate ----------------------------------------------------------------------------------------


def disturbed(seed: int) -> Tamper:
    """Changes every weight of an update by one part in a million."""
    rng = np.random.default_rng(seed)

    def other(raw: RawArray) -> RawArray:
        values = np.asarray(decode_array(raw, tuple(raw.shape)), np.float64)
        return encode_array((values * (1 + _LITTLE * rng.standard_normal(values.shape))).astype(np.float32))

    def tamper(plant: str, reply: Packet) -> Packet | None:
        arrays = {name: other(raw) if name.startswith(WEIGHT) else raw for name, raw in reply.arrays.items()}
        return replace(reply, arrays=arrays)

    return tamper


def compare(rate: float, seeds: int, say: Callable[[str], None] = print) -> None:
    """Print, seed by seed, how far off fp32 each ends."""
    case = replace(SMALL, training={**SMALL.training, "learning_rate": rate})
    say(f"learning rate {rate}: % off fp32 after 20 rounds\nseed {''.join(f'{name:>16}' for name in _COLUMNS)}")
    rows = []
    for seed in range(seeds):
        full = run(case, "fp32", seed).loss
        others = [run(case, wire, seed) for wire in SHORTER]
        others += [run(case, "fp32", seed, disturbed(seed)), run(case, "fp32", seed, order=1000 + seed)]
        rows.append([100 * (other.loss / full - 1) for other in others])
        say(f"{seed:4} {_line(rows[-1])}")
    columns = list(zip(*rows, strict=True))
    say(f"mean {_line([statistics.fmean(column) for column in columns])}")
    say(f"size {_line([statistics.fmean(map(abs, column)) for column in columns])}")


def _line(values: Sequence[float]) -> str:
    return "".join(f"{value:16.2f}" for value in values)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.wire", description=__doc__)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seeds", type=int, default=4)
    given = parser.parse_args()
    torch.set_num_threads(1)
    compare(given.rate, given.seeds, lambda line: print(line, flush=True))
