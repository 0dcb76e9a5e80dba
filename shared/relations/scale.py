"""How large a residual is usual, by operating mode.

One regression tree over the codes' history F (CART: Breiman et al. 1984, chapter 8), with the logarithms of all
residuals as outputs: its leaves are the modes that matter for how well a relation holds. In a leaf the scale of an
output is `max(rms, q99 / 3)`: heavy tails count as they are. Shapes: n blocks, F columns, N nodes, O outputs.
"""

from __future__ import annotations

from dataclasses import dataclass

from shared.relations.trees import Trees
from shared.scoring import Float64Array


@dataclass(frozen=True, eq=False)
class ModeScale:
    """Attributes: `tree`: one, over F; `scale_NO`: positive, of each leaf."""

    tree: Trees
    scale_NO: Float64Array

    def __call__(self, history_nF: Float64Array) -> Float64Array:
        """The usual size of each residual, float64 (n, O)."""
        return self.scale_NO[self.tree.leaves(history_nF)[:, 0]]
