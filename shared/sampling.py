"""Plants that sample at other rates in one federation: each joins as many of its rows as make one of the run's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import structs

from shared.schema import SensorSchema

if TYPE_CHECKING:
    from shared.config import PreprocessConfig, Recipe


def rows_joined(config: PreprocessConfig, period_s: float) -> int:
    """How many rows of a plant become one.

    Args:
        config: of the run.
        period_s: seconds between two rows of the plant. One that is slower than the run keeps its rows as they are.

    Example:
        >>> from shared.config import PreprocessConfig
        >>> [rows_joined(PreprocessConfig(period_s=10), own_s) for own_s in (1, 2.5, 10, 3600)]
        [10, 4, 1, 1]
    """
    if config.period_s is None:
        return config.every
    return max(1, round(config.period_s / period_s))


def own_recipe(recipe: Recipe, period_s: float) -> Recipe:
    """The run's recipe as a plant of this sampling period carries it out: with `preprocess.every` alone."""
    if recipe.preprocess.period_s is None:
        return recipe
    every = rows_joined(recipe.preprocess, period_s)
    preprocess = recipe.preprocess.model_copy(update={"every": every, "period_s": None})
    return recipe.model_copy(update={"preprocess": preprocess})


def told_schema(recipe: Recipe, schema: SensorSchema) -> SensorSchema:
    """The columns as a plant tells them in a run: where the run says how long a joined row is, with that period. So
    plants that sample at other rates, and join to the same, have the same.

    Args:
        recipe: the run's, as it came.
        schema: of the plant's own rows.
    """
    if recipe.preprocess.period_s is None:
        return schema
    return structs.replace(schema, period_s=schema.period_s * rows_joined(recipe.preprocess, schema.period_s))
