"""Second moments as one vector and as a matrix. Apart from the mechanisms that noise them: no cryptography here."""

from __future__ import annotations

import math

import numpy as np

from shared.scoring import Float64Array


def moment_vector(rows_TP: Float64Array) -> Float64Array:
    """First and second moments of one record's rows: mean of (1, x)(1, x)^T without its lower half, (Q,) float64,
    Q = (P + 1)(P + 2) / 2. What stands beside the diagonal counts sqrt(2), so that the vector's norm is the matrix's.
    """
    ones_TP = np.column_stack([np.ones(len(rows_TP)), np.asarray(rows_TP, np.float64)])
    moment_PP = ones_TP.T @ ones_TP / max(len(rows_TP), 1)
    upper = np.triu_indices(len(moment_PP))
    vector_Q: Float64Array = moment_PP[upper] * np.where(upper[0] == upper[1], 1.0, math.sqrt(2.0))
    return vector_Q


def moment_matrix(vector_Q: Float64Array) -> Float64Array:
    """The symmetric matrix (P + 1, P + 1) that `moment_vector` came from, or of a sum of such.

    Example:
        >>> moment_matrix(moment_vector(np.array([[1.0, 2.0]]))).tolist()
        [[1.0, 1.0, 2.0], [1.0, 1.0, 2.0], [2.0, 2.0, 4.0]]
    """
    size = (math.isqrt(8 * len(vector_Q) + 1) - 1) // 2
    matrix_PP = np.zeros((size, size))
    upper = np.triu_indices(size)
    matrix_PP[upper] = vector_Q / np.where(upper[0] == upper[1], 1.0, math.sqrt(2.0))
    whole_PP: Float64Array = matrix_PP + np.triu(matrix_PP, 1).T
    return whole_PP


def packed(matrix_PP: Float64Array) -> Float64Array:
    """A symmetric matrix as `moment_vector` lays it out, float64 (Q,): the inverse of `moment_matrix`."""
    upper = np.triu_indices(len(matrix_PP))
    vector_Q: Float64Array = matrix_PP[upper] * np.where(upper[0] == upper[1], 1.0, math.sqrt(2.0))
    return vector_Q
