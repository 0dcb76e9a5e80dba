"""Growing the trees, at the plant's agent: scikit-learn grows, arrays are kept. See `scale` and `hazards`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.tree import DecisionTreeRegressor

from shared.relations.hazards import CODES, FLOOR, Hazards
from shared.relations.scale import ModeScale
from shared.relations.trees import Trees
from shared.scoring import Float64Array
from shared.series import BoolArray
from shared.windows import IntArray

_LEAVES, _IN_LEAF = 64, 40
_TAIL, _BELL_TAIL = 0.99, 3.0
_TINY = 1e-9
_FOREST, _FOREST_LEAVES, _FOREST_IN_LEAF = 20, 16, 3


def grow_scale(history_nF: Float64Array, residual_nO: Float64Array) -> ModeScale:
    """The usual size of residuals by mode; see `ModeScale`."""
    size_nO = np.abs(residual_nO)
    log_nO = np.log(size_nO + np.median(size_nO, axis=0) + _TINY)
    unit_nO = (log_nO - log_nO.mean(axis=0)) / (log_nO.std(axis=0) + _TINY)
    found = DecisionTreeRegressor(max_leaf_nodes=_LEAVES, min_samples_leaf=_IN_LEAF, random_state=0)
    found.fit(history_nF.astype(np.float32), unit_nO.astype(np.float32))
    tree = _arrays([found.tree_])
    leaf_n = tree.leaves(history_nF)[:, 0]
    scale_NO = np.ones((tree.cut_RN.shape[1], size_nO.shape[1]))
    for leaf in np.unique(leaf_n):
        inside_mO = size_nO[leaf_n == leaf]
        rms_O = np.sqrt(np.mean(inside_mO**2, axis=0))
        scale_NO[leaf] = np.maximum(rms_O, np.quantile(inside_mO, _TAIL, axis=0) / _BELL_TAIL)
    return ModeScale(tree, np.maximum(scale_NO, _TINY))


def grow_hazards(control_nK: Float64Array, stable_nJ: IntArray, follows_n: BoolArray) -> Hazards:
    """Hazards from blocks whose next block is known (`follows_n`: block n + 1 is the one after n)."""
    now_n = np.flatnonzero(follows_n)
    tags = stable_nJ.shape[1]
    plain_JAA = np.ones((tags, CODES, CODES))
    found: list[tuple[int, int, Any, IntArray]] = []
    for tag in range(tags):
        for code in np.unique(stable_nJ[now_n, tag]):
            here_m = now_n[stable_nJ[now_n, tag] == code]
            next_m = stable_nJ[here_m + 1, tag]
            if len(here_m) < 2 * _FOREST_IN_LEAF:
                continue
            plain_JAA[tag, code] = FLOOR
            if (next_m == next_m[0]).all():
                plain_JAA[tag, code, next_m[0]] = 1.0
                continue
            forest = _forest().fit(control_nK[here_m].astype(np.float32), next_m)
            found += [(tag, int(code), one.tree_, forest.classes_) for one in forest.estimators_]
    trees = _arrays([tree for *_, tree, _ in found])
    share_RNA = np.zeros((len(found), trees.cut_RN.shape[1], CODES))
    for r, (*_, tree, classes) in enumerate(found):
        share_RNA[r, : tree.node_count, classes] = _shares(tree).T
    tag_R, code_R = (np.array([one[i] for one in found], np.int64) for i in range(2))
    return Hazards(trees, share_RNA, tag_R, code_R, plain_JAA)


def _forest() -> ExtraTreesClassifier:
    return ExtraTreesClassifier(
        _FOREST,
        criterion="entropy",
        min_samples_leaf=_FOREST_IN_LEAF,
        max_features=0.5,
        max_leaf_nodes=_FOREST_LEAVES,
        random_state=0,
    )


def _shares(tree: Any) -> Float64Array:
    """Each node's shares of the classes, (N, A'), with one count more, spread as in the whole."""
    count_NA = tree.value[:, 0, :] * tree.n_node_samples[:, None]
    shares_NA: Float64Array = (count_NA + count_NA[0] / count_NA[0].sum()) / (tree.n_node_samples[:, None] + 1)
    return shares_NA


def _arrays(trees: Sequence[Any]) -> Trees:
    """scikit-learn's trees side by side, the short ones padded with leaves."""
    shape = len(trees), max((tree.node_count for tree in trees), default=1)
    column_RN, cut_RN = np.zeros(shape, np.int64), np.zeros(shape)
    left_RN, right_RN = (np.tile(np.arange(shape[1]), (shape[0], 1)) for _ in range(2))
    for r, tree in enumerate(trees):
        inner_N = np.flatnonzero(tree.children_left >= 0)
        column_RN[r, inner_N], cut_RN[r, inner_N] = tree.feature[inner_N], tree.threshold[inner_N]
        left_RN[r, inner_N], right_RN[r, inner_N] = tree.children_left[inner_N], tree.children_right[inner_N]
    return Trees(column_RN, cut_RN, left_RN, right_RN)
