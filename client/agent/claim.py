"""What a private request claims, and as what its releases are written down."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

from client.training.segments import record_rows
from shared.config import Recipe
from shared.errors import PrivacyUnmet
from shared.wire.envelope import Packet

_LONGEST_RUN = 200  # of its name, as the ledger keeps it


@dataclass(frozen=True)
class Task:
    """One private request, as its release is written down.

    Attributes:
        run, round: what it is part of.
        digest: SHA-256 over all that was asked, hex.
        recipe: the run's.
    """

    run: str
    round: int
    digest: str
    recipe: Recipe


def check_claim(recipe: Recipe) -> None:
    """Refuse a recipe under which its own claim would not hold. Whether its noise suffices, the ledger finds.

    Raises:
        PrivacyUnmet: as it says.
    """
    privacy, preprocess = recipe.privacy, recipe.preprocess
    fitted = (preprocess.rolling, preprocess.min_variance, preprocess.max_correlation)
    needs = {
        "privacy.epsilon must be set": privacy.epsilon is not None,
        "detector.dropout must be 0": recipe.detector.dropout == 0,
        "sharing.share must be all: no noise protects an adapter": recipe.sharing.share == "all",
        "detector.bottleneck must be tanh": recipe.detector.bottleneck == "tanh",
        "clustering.target must be released: what is computed here couples records": recipe.clustering.target
        == "released",
        "preprocess.rolling, min_variance and max_correlation must be unset": all(value is None for value in fitted),
        "privacy.noise must be above 0 for weights, loss and statistic, and for below with a clip_quantile": all(
            (privacy.noise.weights, privacy.noise.loss, privacy.noise.statistic)
        )
        and (privacy.clip_quantile is None or privacy.noise.below > 0),
    }
    wrong = [text for text, met in needs.items() if not met]
    if wrong:
        raise PrivacyUnmet(f"the recipe contradicts its own claim: {wrong[0]}.")


def unit_text(recipe: Recipe, period_s: float) -> str:
    """A record in words.

    Example:
        >>> unit_text(Recipe(), 10.0)
        'segment of 60 samples (600 s)'
    """
    samples = record_rows(recipe, period_s) * recipe.preprocess.every
    return f"segment of {samples} samples ({samples * period_s:g} s)"


def task_of(packet: Packet, recipe: Recipe) -> Task:
    """What a request is written down as. Everything that it carries counts, so no two requests share their noise."""
    round_ = packet.numbers.get("round", 0)
    return Task(packet.texts.get("run", "")[:_LONGEST_RUN], int(round_), packet_digest(packet), recipe)


def packet_digest(packet: Packet) -> str:
    """SHA-256 over all fields of a request and where they end, hex."""
    found = hashlib.sha256()
    numbers = ((name, repr(value).encode()) for name, value in packet.numbers.items())
    texts = ((name, text.encode(errors="surrogatepass")) for name, text in packet.texts.items())
    arrays = ((name, raw.data) for name, raw in packet.arrays.items())
    for part, fields in enumerate((numbers, texts, arrays)):
        for name, data in sorted(fields):
            key = name.encode(errors="surrogatepass")
            found.update(b"%d %d %d " % (part, len(key), len(data)) + key + data)
    return found.hexdigest()


def ranges_digest(recipe: Recipe) -> str:
    """All of a recipe that noised ranges follow from: the same for every request, and run, with these settings."""
    kept = {
        "noise": recipe.privacy.noise.ranges,
        "unit": (recipe.clustering.unit, recipe.privacy.unit_s),
        "join": (recipe.preprocess.every, recipe.preprocess.join),
        "cut": (recipe.training.holdout, recipe.detector.window),
    }
    return hashlib.sha256(repr(kept).encode()).hexdigest()


def tag(secret: bytes, *parts: str) -> str:
    """What stands in the ledger for a request: without the key, nobody can tell which one it was."""
    found = hmac.new(secret, b"ledger", hashlib.sha256)
    for part in parts:
        found.update(len(part).to_bytes(8, "little") + part.encode())
    return found.hexdigest()
