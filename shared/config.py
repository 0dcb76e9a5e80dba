"""Every setting of a run, grouped and validated together in one tree.

`RunConfig` is what a run was asked to do; `Recipe` is the part of it that a plant needs to know. Both are values:
their digest is stored with every round.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from shared.errors import InvalidConfig
from shared.layers import Settings as Settings
from shared.layers import explain, overlay
from shared.layers import flatten as flatten
from shared.layers import read_toml as read_toml
from shared.preprocess import Join, Scaling
from shared.preprocess.rolling import MOST_ROWS
from shared.setting_types import ALPHA_MOST as ALPHA_MOST
from shared.setting_types import Fraction, Late, Multiplier, Positive, PositiveFloat, Rate, Rounds, Seconds, Steps
from shared.setting_types import Group as _Group
from shared.setting_types import Text as Text
from shared.sharing import SharingConfig as SharingConfig
from shared.sharing import unshared

MOST_CANDIDATES = 4096


def _latent(given: dict[str, Any]) -> int:
    """The published size: the smaller LSTM of cnn-lstm is its latent."""
    return 32 if given.get("name") == "cnn-lstm" else 16


def _layers(given: dict[str, Any]) -> int:
    """A forecaster of the next row needs one."""
    return 1 if given.get("name") == "foresee" else 2


class DetectorConfig(_Group):
    """The network. Defaults: Khan 2026 (doi 10.55529/jaimlnn.61.31.41), section 3, with a bounded bottleneck.

    What `hidden` and `layers` mean to the other detectors: docs/detectors.md.
    """

    name: Text = "hac-uml"
    window: Annotated[int, Field(ge=2, le=10_000)] = 30
    hidden: Annotated[int, Field(ge=1, le=4096)] = 64
    layers: Annotated[int, Field(ge=1, le=8)] = Field(default_factory=_layers)
    latent: Annotated[int, Field(ge=1, le=1024)] = Field(default_factory=_latent)
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    bottleneck: Literal["tanh", "linear"] = "tanh"
    kl_weight: Annotated[float, Field(ge=0, le=1e3)] = 1.0  # vae only: of the divergence from the Gaussian prior
    members: Annotated[int, Field(ge=1, le=64)] = 4  # ewad only: WGAN-GPs in the ensemble, best one a plant


class PreprocessConfig(_Group):
    """Joining, filling, rolling, scaling and muting, in this order. All lengths after `every` are in joined rows."""

    every: Annotated[int, Field(ge=1, le=100_000)] = 1  # rows that become one
    period_s: Seconds | None = None  # of a joined row: each plant works out its own `every` (shared/sampling.py)
    join: Join = "median"
    fill_limit: Annotated[int, Field(ge=0, le=10**9)] = 60  # longer gaps of training data are bridged by a line
    impute: Literal["carry", "knn"] = "carry"  # knn: gaps of training rows are filled from the rows most alike
    max_z: PositiveFloat | None = None  # of a training row's distance from the middle; windows with more are left out
    max_imputed: Annotated[float, Field(ge=0, le=1)] = 0.5  # of a window's readings; with more it is left out
    rolling: Annotated[int, Field(ge=2, le=MOST_ROWS)] | None = None  # rows of the rolling standardisation; None: off
    scaling: Scaling = "standard"
    clip_quantile: Annotated[float, Field(gt=0.5, lt=1)] | None = 0.995
    clip_live: bool = False
    guard: Annotated[float, Field(gt=0, le=1e4)] = 20.0
    min_variance: Annotated[float, Field(ge=0, lt=1)] | None = None  # of the range squared; tags up to it are muted
    max_correlation: Annotated[float, Field(gt=0, lt=1)] | None = None  # |r|; of tags above it the first one stays


class TrainingConfig(_Group):
    """Work at the plant in one round."""

    stride: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    local_epochs: Annotated[int, Field(ge=1, le=10_000)] = 1
    batch_size: Annotated[int, Field(ge=0, le=1_000_000)] = 128  # 0: the whole local set
    learning_rate: Rate = 1e-3
    optimizer: Literal["adam", "sgd"] = "adam"
    holdout: Annotated[float, Field(ge=0.01, le=0.9)] = 0.2
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0  # the run's, unless it is set


class ClusteringConfig(_Group):
    """Federated deep embedded clustering; the symbols are those of docs/algorithm.md."""

    clusters: Annotated[int, Field(ge=1, le=256)] = 8
    unit: Positive = 60  # samples in a segment, the record that a statistic is normalised by
    alpha_max: Annotated[float, Field(ge=0, le=ALPHA_MOST)] = 0.5
    beta: PositiveFloat = 0.05
    anneal_from: Literal["joint", "start"] = "joint"
    target: Literal["released", "local"] = "released"
    kappa: Annotated[float, Field(ge=0)] = 0.0  # prior weight of the present centroid, in segments; 0: Lloyd's step
    clip: Literal["public", "cloud"] = "public"  # radius of the offsets: the latent's own bound, or the measured cloud
    choose: Literal["fixed", "index"] = "index"  # index: at most `clusters`, as many as the data shows; not under noise
    n_min: Annotated[float, Field(ge=0)] = 1.0
    oversampling: Positive = 4
    seed_steps: Steps = 4
    refine_steps: Steps = 3
    refresh_every: Annotated[int, Field(ge=0)] = 1  # joint rounds between refreshes; 0: after the last only
    refresh_steps: Steps = 1  # exchanges in a refresh; the last one has `refine_steps`

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.clusters * self.oversampling > MOST_CANDIDATES:
            raise ValueError(
                f"clusters * oversampling must be at most {MOST_CANDIDATES}, not {self.clusters} * {self.oversampling}"
            )
        return self


class ScoringConfig(_Group):
    """How a window becomes a number."""

    entropy_weight: Annotated[float, Field(ge=0)] = 0.1
    tail: Positive | None = None  # newest rows of a window whose error counts; None: all of them
    standardise: bool = True  # both parts to robust units of the held-out normal data before they are added
    evidence: bool = True  # a judge weighs the network's residual with lag models and known courses; False: that alone


class ThresholdConfig(_Group):
    """How a number becomes an alarm."""

    rule: Text = "daily"
    false_alarm_rate: Fraction = 0.03  # share of normal windows; of daily: the highest
    alarms_a_day: Annotated[float, Field(gt=0, le=86_400)] = 1.0  # false ones that daily leaves room for
    sigmas: PositiveFloat = 3.0  # of mean-sigma
    fit_on: Literal["holdout", "train"] = "holdout"
    memory: Annotated[int, Field(ge=100, le=10**7)] = 10_000  # windows that an adaptive rule looks back over
    peaks: Annotated[float, Field(ge=0.01, le=0.1)] = 0.02  # share of the scores that pot and dspot take as the tail
    members: Annotated[tuple[Text, ...], Field(min_length=1, max_length=16)] = ("conformal", "mixture", "pot")  # median


class NoiseConfig(_Group):
    """Noise multipliers: standard deviation over sensitivity, per release. Worked out from epsilon, never by hand.

    One training exchange releases three things at once, so their precisions add up (`shared.privacy.planning`).
    """

    weights: Multiplier = 0.0  # of the clipped gradient sum
    below: Multiplier = 0.0  # of how many records' norms lay below the clipping norm
    loss: Multiplier = 0.0  # of the clipped loss sum
    statistic: Multiplier = 0.0  # of one cluster statistic as a whole: sums, counts and spread together
    ranges: Multiplier = 0.0  # of the histograms that quantiles are read from; 0: public ranges


class PrivacyConfig(_Group):
    """Differential privacy: docs/privacy.md. The record is a segment of `clustering.unit` joined rows, or of `unit_s`.

    `local`: each plant clips and noises before anything leaves it. `central`: the server does, and the unit is a plant.
    """

    mode: Literal["none", "local", "central"] = "none"
    epsilon: Annotated[float, Field(gt=0, le=100)] | None = None  # of the whole run, for each record of each plant
    delta: Annotated[float, Field(gt=0, le=1e-3)] = 1e-5
    unit_s: PositiveFloat | None = None  # length of a record in seconds; None: clustering.unit
    sampling: Annotated[float, Field(gt=0, le=1)] = 0.1  # chance of each record to be in an exchange (Poisson)
    clip: Annotated[float, Field(gt=0, le=1e6)] = 0.3  # norm that a record's gradient is clipped to, at first
    clip_quantile: Fraction | None = 0.5  # of the records' norms, which it follows; None: it stays
    loss_cap: PositiveFloat = 4.0  # a record's loss counts up to this
    ranges: Literal["public", "quantiles"] = "public"  # what scales a tag whose operating range nobody published
    noise: NoiseConfig = NoiseConfig()
    engine: Literal["ghost", "opacus"] = "ghost"

    @property
    def on(self) -> bool:
        """Whether a claim is made at all."""
        return self.mode != "none"


class EvidenceConfig(_Group):
    """A plant's judge, of `scoring.evidence` (docs/algorithm.md); its lags are those of `recipe.lag`."""

    prototypes: Annotated[int, Field(ge=1, le=4096)] = 128  # courses kept of each tag
    lengths: Annotated[tuple[Annotated[int, Field(ge=1, le=1000)], ...], Field(min_length=1, max_length=8)] = (
        5,
        10,
        20,
        40,
    )  # rows of the courses that are compared, ascending
    shortest: Annotated[int, Field(ge=1, le=10**6)] = 30  # rows over which what lasts counts
    relations: bool = True  # beside the judge, where valves and pumps tell enough (docs/relations.md)

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if list(self.lengths) != sorted(set(self.lengths)):
            raise ValueError(f"evidence.lengths must ascend, not {list(self.lengths)}")
        return self


class LagConfig(_Group):
    """The federated lag model's exchange of moments: docs/lag.md."""

    on: bool = True  # off under differential privacy: exact sums would leave the plant
    lags: Annotated[int, Field(ge=0, le=20)] = 5  # rows before the newest; fewer where there are too many tags


def _lag(given: dict[str, Any]) -> LagConfig:
    """Exact moments are asked for where nothing was promised of a plant's records."""
    privacy = given.get("privacy")
    return LagConfig(on=privacy is None or not privacy.on)


class Recipe(_Group):
    """What every plant of a run must do alike."""

    detector: DetectorConfig = DetectorConfig()
    preprocess: PreprocessConfig = PreprocessConfig()
    training: TrainingConfig = TrainingConfig()
    clustering: ClusteringConfig = ClusteringConfig()
    scoring: ScoringConfig = ScoringConfig()
    threshold: ThresholdConfig = ThresholdConfig()
    privacy: PrivacyConfig = PrivacyConfig()
    sharing: SharingConfig = SharingConfig()
    lag: LagConfig = Field(default_factory=_lag)
    evidence: EvidenceConfig = EvidenceConfig()


def _weighting(given: dict[str, Any]) -> Literal["examples", "bucket", "uniform"]:
    """What a plant says of its own size cannot be checked: it counts under plain averaging only, unless it is asked."""
    return "examples" if given.get("aggregation") == "mean" else "uniform"


def _patience(given: dict[str, Any]) -> int:
    """Of plain averaging. A server's optimiser learns less in a round than shows; and where plants need not trust each
    other, one that makes up its loss could end everybody's training.
    """
    return 5 if (given.get("aggregation"), given.get("server_optimizer")) == ("mean", "avg") else 0


_SERVER_RATES = {"fedavgm": 1.0, "fedadam": 1e-2, "fedyogi": 1e-2, "fedadagrad": 1e-2}


def _server_rate(given: dict[str, Any]) -> float:
    """1 leaves the mean as it is; the adaptive ones are in units of a weight: Reddi et al. 2021, section 5."""
    return _SERVER_RATES.get(str(given.get("server_optimizer")), 1e-3)


class RoundConfig(_Group):
    """Rounds at the server."""

    pretrain: Rounds = 6
    joint: Rounds = 14
    quorum: Annotated[float, Field(gt=0, le=1)] = 0.5  # share of the compatible plants
    deadline_s: Seconds = 3600.0
    grace_s: Seconds | None = None  # after the quorum is reached; None: wait until the deadline
    max_skips: Positive = 3  # in a row, then the run fails
    fewest: Annotated[int, Field(ge=1, le=2)] = 2  # plants; 1: a plant alone, for comparison (`crossplant study`)
    # mean: FedAvg. robust: clip to the running median of norms, then the coordinate-wise mean without the extremes (the
    # median for 3 and 4 replies). The others stand alone, without the clip; krum picks one plant: docs/decisions/0007.
    aggregation: Literal["mean", "robust", "median", "trimmed-mean", "krum"] = "mean"
    weighting: Literal["examples", "bucket", "uniform"] = Field(default_factory=_weighting)
    weight_cap: Annotated[float, Field(ge=1)] = 10.0  # times the median plant
    vote_every: Rounds = 0  # joint rounds between votes of the plants on the model; 0: none
    calibrate_every: Rounds = 0  # joint rounds after which plants publish a bundle; 0: at the end only, as always
    wire: Literal["fp32", "bf16", "int8"] = "fp32"  # how updates travel; the last two with error feedback
    # adam: on one gradient of each plant. fed...: on how far the plants' training moved the mean (Reddi et al. 2021)
    server_optimizer: Literal["avg", "adam", "fedavgm", "fedadam", "fedyogi", "fedadagrad"] = "avg"
    server_learning_rate: Rate = Field(default_factory=_server_rate)
    # training rounds of a phase in a row that lower the held-out loss by less than 1 %, after which the phase trains no
    # more and its best model goes on; 0: never. Not looked at under differential privacy, where losses are noise.
    patience: Rounds = Field(default_factory=_patience)
    start: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""  # digest of a stored model; empty: fresh weights
    max_update_norm: PositiveFloat = 200.0
    max_examples: Positive = 50_000_000

    @model_validator(mode="after")
    def _counts(self) -> Self:
        if self.aggregation in ("median", "krum") and self.weighting != "uniform":
            raise ValueError(
                f"rounds.weighting must be uniform with rounds.aggregation {self.aggregation}, which counts every "
                f"plant once, not {self.weighting}"
            )
        return self


TRUSTED: Settings = {"rounds": {"aggregation": "robust", "weighting": "uniform", "vote_every": 5}}
"""What a federation of plants that need not trust each other begins with, laid under its own settings."""


class DataConfig(_Group):
    """Which data, cut how."""

    dataset: Text = "generated"
    path: Text | None = None
    datasets: Annotated[tuple[Text, ...], Field(max_length=32)] = ()  # of dataset = "mixed": sets in one federation
    shrink: Annotated[tuple[Late, ...], Field(max_length=10_000)] = ()  # SITE:SHARE of its training rows that it has
    sites: Annotated[int, Field(ge=1, le=10_000)] | None = None
    partition: Text | None = None
    rows: Annotated[int, Field(ge=100, le=10_000_000)] = 4_000  # generated plants only
    days: Annotated[float, Field(ge=0.05, le=31)] = 2.0  # twin plants only: normal operation at 1 Hz
    # by-mode only: alpha of the Dirichlet draw (small: unlike sites), operating modes, and rows dealt out in one piece
    concentration: Annotated[float, Field(ge=0.001, le=1e6)] = 0.5
    modes: Annotated[int, Field(ge=1, le=1_000)] = 6
    segment: Annotated[int, Field(ge=1, le=10_000_000)] | None = None  # None: held out, two windows
    fit: bool = (
        True  # simulations of data that is read: length of a row and window, where not set, by how much there is
    )


class EngineConfig(_Group):
    """What carries the messages, and on which hardware."""

    name: Literal["inprocess", "ray"] = "inprocess"
    workers: Annotated[int, Field(ge=1, le=256)] | None = None  # None: one a core
    threads: Annotated[int, Field(ge=1, le=256)] = 1  # of torch, a worker
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"


class RunConfig(_Group):
    """One run, whole.

    Example:
        >>> RunConfig().recipe.detector.window
        30
    """

    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    data: DataConfig = DataConfig()
    recipe: Recipe = Recipe()
    rounds: RoundConfig = RoundConfig()
    engine: EngineConfig = EngineConfig()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.rounds.pretrain + self.rounds.joint < 1:
            raise ValueError("rounds.pretrain + rounds.joint must be at least 1")
        from shared.privacy.contradiction import contradiction  # It names this module's types.

        told = contradiction(self) or unshared(self)
        if told:
            raise ValueError(told)
        return self

    @property
    def digest(self) -> str:
        """SHA-256 over the effective settings that change a result (the engine's name and workers do not)."""
        return hashlib.sha256(self.model_dump_json(exclude={"engine"}).encode()).hexdigest()


def split_rounds(total: int, pretrain_share: float = 0.3) -> tuple[int, int]:
    """Divide a number of training rounds into pretrain and joint rounds (the paper: 30 of 100 epochs).

    Example:
        >>> split_rounds(100), split_rounds(3), split_rounds(1)
        ((30, 70), (1, 2), (1, 0))
    """
    pretrain = max(1, round(total * pretrain_share))
    return pretrain, total - pretrain


def build(layers: Mapping[str, Settings]) -> tuple[RunConfig, dict[str, str]]:
    """Lay settings over each other, later ones on top, and say where each effective value came from.

    Args:
        layers: name of the source (such as `preset demo` or `--rounds`) to a nested mapping shaped like `RunConfig`.

    Returns:
        the validated configuration, and for each dotted name its source (`default` where no layer sets it).

    Raises:
        InvalidConfig: an unknown setting or a value outside what it may be.
    """
    try:
        return _build(layers)
    except RecursionError as error:
        raise InvalidConfig("the settings are nested too deeply.") from error


def _build(layers: Mapping[str, Settings]) -> tuple[RunConfig, dict[str, str]]:
    merged: Settings = {}
    origin: dict[str, str] = {}
    for source, layer in layers.items():
        overlay(merged, layer)
        origin |= dict.fromkeys((name for name, _ in flatten(layer)), source)
    if "seed" in merged:
        given: Settings = {"recipe": {"training": {"seed": merged["seed"]}}}
        overlay(given, merged)
        merged = given
        origin.setdefault("recipe.training.seed", origin["seed"])
    try:
        config = RunConfig.model_validate(merged)
    except ValidationError as error:
        raise InvalidConfig(explain(error, origin)) from error
    return config, {name: origin.get(name, "default") for name, _ in flatten(config.model_dump())}
