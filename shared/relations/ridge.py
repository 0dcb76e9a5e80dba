"""Relations: what a tag's change and level are, given the codes' history and the other tags.

    W = argmin |Y - X W|^2 + lam |diag(X'X)^1/2 W|^2

Ridge regression (Hoerl and Kennard 1970, Technometrics 12(1)) in units of each column's own size, for each tag without
its own columns of X. Shapes: P columns, C tags, O = 2 C outputs: changes, then levels.
"""

from __future__ import annotations

import numpy as np

from shared.scoring import Float64Array

_SHARE = 1e-5  # more lets pumps that run together share a weight, and every transition is mispredicted
_LEAST = 1e-9  # a row, of a column that is never anything but 0


def ridge(square_PP: Float64Array, product_PO: Float64Array, count: int) -> Float64Array:
    """Weights from second moments.

    Args:
        square_PP: X'X.
        product_PO: X'Y.
        count: rows that both are sums over.

    Returns:
        float64 (P, O); 0 for a tag's own columns.
    """
    tags = product_PO.shape[1] // 2
    own = len(square_PP) - 2 * tags
    ridged_PP = square_PP + np.diag(_SHARE * np.diagonal(square_PP) + _LEAST * count)
    weights_PO = np.zeros_like(product_PO)
    for tag in range(tags):
        kept = np.delete(np.arange(len(square_PP)), [own + tag, own + tags + tag])
        both = [tag, tags + tag]
        weights_PO[np.ix_(kept, both)] = np.linalg.solve(ridged_PP[np.ix_(kept, kept)], product_PO[np.ix_(kept, both)])
    return weights_PO
