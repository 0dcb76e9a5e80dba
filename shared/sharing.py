"""Settings of plants that differ, and which of them contradict each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from shared.setting_types import Group

if TYPE_CHECKING:
    from shared.config import RunConfig


class SharingConfig(Group):
    """Plants that differ: what of the network they share, and what each keeps to itself (docs/differ.md)."""

    share: Literal["all", "trunk"] = "all"  # trunk: a linear map at each plant, in and out, never leaves it (FedPer)
    adapter: Annotated[int, Field(ge=2, le=4096)] = 32  # M, channels of the trunk; of share = "trunk"
    proximal: Annotated[float, Field(ge=0, le=1e6)] = 0.0  # mu of FedProx, in the plants' training
    # Ditto: epochs by which a plant fine-tunes a copy of its own before it calibrates, and how that is held back
    personal_epochs: Annotated[int, Field(ge=0, le=10_000)] = 0
    personal_proximal: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    # better: what a plant publishes is its own model where that has the lower held-out loss by more than noise
    keep: Literal["federated", "better"] = "federated"
    alone_epochs: Annotated[int, Field(ge=0, le=10_000)] = 20  # of the model that never saw others; of keep = better

    @property
    def own_models(self) -> bool:
        """Whether a plant makes a model of its own before it calibrates."""
        return self.personal_epochs > 0 or (self.keep == "better" and self.alone_epochs > 0)


def unshared(config: RunConfig) -> str | None:
    """Why a run cannot share a network as its settings say; None when it can.

    Under local differential privacy what a plant says must follow from noised answers alone, and an adapter that it
    keeps to itself is none.
    """
    sharing, sampling, private = config.recipe.sharing, config.recipe.preprocess, config.recipe.privacy.mode == "local"
    trunk, one_step = sharing.share == "trunk", config.rounds.server_optimizer == "adam"
    wrong = {
        "with recipe.sharing.share trunk, rounds.server_optimizer must not be adam: a gradient moves no adapter": (
            trunk and one_step
        ),
        "with recipe.sharing.share trunk, recipe.privacy.mode must not be local: no noise protects an adapter": (
            trunk and private
        ),
        "with recipe.sharing.proximal, rounds.server_optimizer must not be adam: a gradient taken at the model that "
        "was sent has no proximal part": sharing.proximal > 0 and one_step,
        "recipe.preprocess.every and period_s say the same twice: leave one of them out": (
            sampling.period_s is not None and sampling.every != 1
        ),
    }
    return next((text for text, is_so in wrong.items() if is_so), None)
