"""Settings under which a claim of differential privacy would not be true, refused before a run begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared.config import PreprocessConfig, Recipe, RunConfig


def contradiction(config: RunConfig) -> str | None:
    """Why settings contradict the claim that they make, in words; None when they do not."""
    recipe, rounds, privacy = config.recipe, config.rounds, config.recipe.privacy
    if not privacy.on:
        unheard = privacy.epsilon is not None
        return "recipe.privacy.epsilon is set, but recipe.privacy.mode none claims nothing" if unheard else None
    needs: dict[str, bool] = {
        "recipe.privacy.epsilon must be set (--epsilon)": privacy.epsilon is not None,
        "rounds.weighting must be uniform: sizes are private": rounds.weighting == "uniform",
        "rounds.vote_every must be 0: a plant's losses do not leave it": rounds.vote_every == 0,
        "recipe.detector.bottleneck must be tanh: it bounds what one record moves": recipe.detector.bottleneck
        == "tanh",
        "recipe.clustering.clip must be cloud": recipe.clustering.clip == "cloud",
        "recipe.clustering.target must be released": recipe.clustering.target == "released",
        "recipe.lag.on must be false: a plant's exact moments would leave it": not recipe.lag.on,
    }
    if privacy.mode == "local":
        needs |= {
            "rounds.server_optimizer must be adam: one gradient an exchange": rounds.server_optimizer == "adam",
            "recipe.detector.dropout must be 0: it couples records": recipe.detector.dropout == 0,
            "recipe.preprocess.rolling, min_variance, max_correlation and max_z must be unset, impute carry": _plain(
                recipe.preprocess
            ),
            "recipe.clustering.unit (--unit) must be at least recipe.detector.window (--window)": _long_enough(recipe),
        }
    else:
        needs |= {"rounds.aggregation must be mean": rounds.aggregation == "mean"}
    return next((f"with recipe.privacy.mode {privacy.mode}, {text}" for text, met in needs.items() if not met), None)


def _plain(preprocess: PreprocessConfig) -> bool:
    fitted = (preprocess.rolling, preprocess.min_variance, preprocess.max_correlation, preprocess.max_z)
    return all(setting is None for setting in fitted) and preprocess.impute == "carry"


def _long_enough(recipe: Recipe) -> bool:
    return recipe.privacy.unit_s is not None or recipe.clustering.unit >= recipe.detector.window
