"""Small trained bundles for tests of the edge: real training, real publishing, about two seconds for the first one.

    made = trained(tmp_path / "bundles")     # a folder of versions, signed
    bundle = made.read()                     # EdgeBundle
    made.site.test_TD, made.site.labels_T    # raw rows to score

A process trains each variant once; every call gives a copy of its own. `graphless`-style stand-ins for the scorer are
in `Fixed`: scores that the test chooses.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from client.agent.service import PlantAgent
from client.edge.records import Part, Sample, Scored
from server.coordinator import Coordinator
from server.rounds import RunState
from shared.bundle.edge import EdgeBundle, read_edge_bundle
from shared.bundle.trust import Trust
from shared.config import RunConfig
from shared.series import FloatArray, SiteData
from simulations.generate import generate
from tests.support.plants import Loopback, Memory, settings


@dataclass(frozen=True)
class Made:
    """A published bundle and the plant that it is for.

    Attributes:
        folder: of versions; `folder / digest` is one bundle.
        key: the agent's public key (`--trust`); the private one lies beside it as `bundle.key`.
        site: the plant's data, raw.
        config: the run's.
    """

    folder: Path
    key: Path
    site: SiteData
    config: RunConfig

    @property
    def trust(self) -> Trust:
        return Trust(self.key)

    def read(self) -> EdgeBundle:
        return read_edge_bundle(self.folder, self.trust)


def trained(
    folder: Path,
    rows: int = 600,
    rounds: int = 3,
    guard: bool = True,
    seed: int = 0,
    preprocess: str = "{}",
    evidence: bool = True,
) -> Made:
    """A bundle trained on two small generated plants (D = 11, W = 8), of the first of them.

    Args:
        folder: is made: `folder/plant-0.bundle` and `folder/bundle.pub`.
        rows: of training and of test data.
        rounds: of training with clusters; another number gives another model for the same plant.
        guard: whether the bundle holds the plant's local guard.
        seed: of the plants.
        preprocess: JSON of `recipe.preprocess`, such as '{"every": 2}'.
        evidence: whether it holds a judge.
    """
    import json

    sites, config = _sites(rows, seed), _config(rounds, preprocess, json.loads(preprocess), evidence)
    source = _published(rows, rounds, guard, seed, preprocess, evidence)
    shutil.copytree(source, folder, dirs_exist_ok=True)
    return Made(folder / f"{sites[0].name}.bundle", folder / "bundle.pub", sites[0], config)


@cache
def _sites(rows: int, seed: int) -> tuple[SiteData, ...]:
    return tuple(generate(2, rows, seed))


@cache
def _scratch() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="cp-edge-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _config(rounds: int, _key: str, preprocess: dict[str, object], evidence: bool) -> RunConfig:
    base = settings().recipe.model_dump()
    recipe = {"detector": base["detector"], "training": base["training"], "clustering": base["clustering"]}
    recipe |= {"preprocess": preprocess, "scoring": {"evidence": evidence}}
    return settings(rounds={"pretrain": 1, "joint": rounds}, recipe=recipe)


@cache
def _published(rows: int, rounds: int, guard: bool, seed: int, preprocess: str, evidence: bool) -> Path:
    import json

    sites, config = _sites(rows, seed), _config(rounds, preprocess, json.loads(preprocess), evidence)
    home = _scratch() / f"{rows}-{rounds}-{guard}-{seed}-{abs(hash(preprocess))}-{evidence}"
    agents = [PlantAgent(site, home if at == 0 else None, guard=guard) for at, site in enumerate(sites)]
    Coordinator(config, Loopback(agents), Memory()).run(RunState("test", config.digest))
    return home


def samples(
    rows_TD: FloatArray, period_s: float = 60.0, start: float = 1_700_000_000.0, first: int = 0
) -> list[Sample]:
    """Rows as a source would deliver them."""
    return [Sample(start + i * period_s, row_D, first + i) for i, row_D in enumerate(np.asarray(rows_TD, np.float32))]


def scored(
    number: int = 0,
    score: float = 0.0,
    threshold: float = 1.0,
    tags: Sequence[str] = ("LIT101",),
    time: float | None = None,
    **more: object,
) -> Scored:
    """A score that a test chooses: above `threshold` it is anomalous; the tags share it equally."""
    parts = tuple(Part(tag, 1 / len(tags), 1, 2.0, 1.0) for tag in tags)
    made = Scored(
        time=1_700_000_000.0 + 60 * number if time is None else time,
        number=number,
        score=score,
        threshold=threshold,
        p_value=0.5 if score <= threshold else 0.001,
        error=abs(score),
        mode=0,
        parts=parts,
        bundle="0" * 12,
    )
    return replace(made, **more)  # type: ignore[arg-type]


class Fixed:
    """A model whose scores the test chooses; a stand-in for `client.edge.scorer.Scorer` in an Engine.

    Args:
        scores: one a sample, by its number; None: no full window.
        threshold: for all.
    """

    def __init__(self, scores: Sequence[float | None], threshold: float = 1.0, digest: str = "0" * 64) -> None:
        self.digest, self.restarts = digest, 0
        self._scores, self._threshold = scores, threshold

    def feed(self, sample: Sample) -> Scored | None:
        score = self._scores[sample.number] if sample.number < len(self._scores) else 0.0
        if score is None:
            return None
        return scored(sample.number, score, self._threshold, time=sample.time, bundle=self.digest[:12])

    def restart(self) -> None:
        self.restarts += 1
