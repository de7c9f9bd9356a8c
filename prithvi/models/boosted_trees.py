"""Gradient-boosted trees as tensors: fitted by scikit-learn, kept as their nodes, evaluated by torch alone.

The evaluation follows QuickScorer (Lucchese et al. 2015, SIGIR): a tree of at most 31 leaves is a set of bits, one a
leaf, and what is known of one feature of a pixel excludes some of them. Those that each interval between a feature's
thresholds leaves over are tabulated for all trees, so that a prediction looks up a row of bits for each feature and
joins them by `and`; the one bit that is left is the leaf. There is no walk from node to node, and the cost of a
pixel does not depend on which way it goes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from prithvi.errors import ModelError, needs

LEAVES = 31
"""The most leaves of a tree: scikit-learn's default, and what an int32 has bits for."""
_TOGETHER = 64
"""Trees whose bits are looked up at once: a row of the table has 256 bytes, and the table stays in the cache."""
_MOST_NODES, _MOST_TREES = 2_000_000, 60_000
_ABSENT = -50.0
"""Logit of a class that no training pixel had."""


class BoostedTrees(nn.Module):
    """The sum of the leaves of many trees: logits of each class.

    Args:
        outputs: number of classes.
        trees: number of trees of all rounds of boosting.
        nodes: number of nodes of all trees.
        present: number of classes that training saw, of which each has a tree a round; two have one between them.

    """

    feature: Tensor
    """(nodes,) number of the feature that a node splits by; -1 of a leaf."""
    threshold: Tensor
    """(nodes,) the largest value that goes to the left."""
    missing_left: Tensor
    """(nodes,) whether missing values go to the left."""
    left: Tensor
    """(nodes,) number of the left child, and `right` of the right one."""
    right: Tensor
    value: Tensor
    """(nodes,) what a leaf adds to the score of its class."""
    first: Tensor
    """(trees,) number of each tree's first node, round by round and class by class."""
    present: Tensor
    """Numbers of the classes that training saw."""
    baseline: Tensor
    """Score of each before any tree; of two classes the second's."""
    used: Tensor
    thresholds: Tensor
    places: Tensor
    table: Tensor
    by_leaf: Tensor

    def __init__(self, outputs: int, trees: int = 0, nodes: int = 0, present: int = 2) -> None:
        super().__init__()
        if not (0 <= trees <= _MOST_TREES and 0 <= nodes <= _MOST_NODES and 0 <= present <= outputs):
            raise ModelError(f"{trees} trees with {nodes} nodes for {present} of {outputs} classes are no such model.")
        self.outputs = outputs
        for name, (dtype, size) in {
            "feature": (torch.int32, nodes), "threshold": (torch.float32, nodes), "missing_left": (torch.bool, nodes),
            "left": (torch.int32, nodes), "right": (torch.int32, nodes), "value": (torch.float32, nodes),
            "first": (torch.int32, trees), "present": (torch.int32, present),
            "baseline": (torch.float32, 1 if present == 2 else present),
        }.items():  # fmt: skip
            self.register_buffer(name, torch.zeros(size, dtype=dtype))
        self.feature.fill_(-1)  # all nodes are leaves until they are known
        self.register_load_state_dict_post_hook(_tabulate)  # type: ignore[no-untyped-call]
        self.tabulate()

    @property
    def size(self) -> dict[str, int]:
        """The arguments, besides `outputs`, that make a module of the same sizes."""
        return {"trees": len(self.first), "nodes": len(self.feature), "present": len(self.present)}

    @classmethod
    def fit(cls, rows: Tensor, label: Tensor, weights: Tensor, seed: int, rounds: int = 100) -> BoostedTrees:
        """Fits trees with scikit-learn's HistGradientBoostingClassifier.

        Args:
            rows: (N, features) values, NaN where missing.
            label: (N,) class numbers of two classes or more.
            weights: (classes,) weight of each class in the loss.
            seed: random state.
            rounds: rounds of boosting.

        Raises:
            MissingExtraError: scikit-learn is not installed.

        """
        with needs("gradient boosting", "baselines"):
            from sklearn.ensemble import HistGradientBoostingClassifier
        model = HistGradientBoostingClassifier(max_iter=rounds, max_leaf_nodes=LEAVES, random_state=seed)
        even = bool((weights == weights[0]).all())
        model.fit(rows.numpy(), label.numpy(), sample_weight=None if even else weights[label].numpy())
        return cls.of(model, len(weights))

    @classmethod
    def of(cls, model: Any, outputs: int) -> BoostedTrees:
        """The trees of a fitted HistGradientBoostingClassifier whose classes are numbers below `outputs`."""
        trees = [tree.nodes for step in model._predictors for tree in step]
        starts = np.cumsum([0, *(len(nodes) for nodes in trees)])
        made = cls(outputs, len(trees), int(starts[-1]), len(model.classes_))
        every, shift = np.concatenate(trees), np.repeat(starts[:-1], np.diff(starts))
        leaf = every["is_leaf"].astype(bool)
        # A float32 value is at most a float64 threshold exactly if it is at most the largest float32 below that.
        exact = every["num_threshold"]
        rounded = exact.astype(np.float32)
        rounded = np.where(rounded > exact, np.nextafter(rounded, np.float32(-np.inf)), rounded)
        for name, values in {
            "feature": np.where(leaf, -1, every["feature_idx"]), "threshold": np.where(leaf, 0, rounded),
            "missing_left": every["missing_go_to_left"].astype(bool), "value": np.where(leaf, every["value"], 0),
            "left": np.where(leaf, 0, every["left"] + shift), "right": np.where(leaf, 0, every["right"] + shift),
            "first": starts[:-1], "present": model.classes_, "baseline": np.ravel(model._baseline_prediction),
        }.items():  # fmt: skip
            buffer = getattr(made, name)
            buffer.copy_(torch.from_numpy(np.ascontiguousarray(values)).to(buffer.dtype))
        made.tabulate()
        return made

    def tabulate(self) -> None:
        """Makes of the nodes the tables that `forward` looks up.

        Raises:
            ModelError: the nodes are no trees of at most 31 leaves.

        """
        nodes = {name: getattr(self, name).cpu().numpy() for name in ("feature", "left", "right", "first")}
        threshold, missing, value = (
            getattr(self, name).cpu().numpy() for name in ("threshold", "missing_left", "value")
        )
        splits, leaves = _splits_of(**nodes)
        used = sorted({int(nodes["feature"][node]) for node, *_ in splits})
        levels = {number: np.unique(threshold[nodes["feature"] == number]) for number in used}
        most, trees = max(map(len, levels.values()), default=0), len(nodes["first"])
        groups = max(1, -(-trees // _TOGETHER))
        columns = max(1, -(-trees // groups))
        # bits[group, feature, interval]: the leaves of each tree that the interval leaves over; the last but one
        # interval is above all thresholds, and the last one is for missing values.
        whole = np.ones(groups * columns, np.int32)
        for _, tree, place in leaves:
            whole[tree] |= 1 << place
        bits = np.tile(whole.reshape(groups, 1, 1, columns), (1, len(used), most + 2, 1))
        for node, tree, if_left, if_right in splits:
            number = int(nodes["feature"][node])
            mine = bits[tree // columns, used.index(number), :, tree % columns]
            above = int(np.searchsorted(levels[number], threshold[node])) + 1
            mine[:above] &= if_left
            mine[above:-1] &= if_right
            mine[-1] &= if_left if missing[node] else if_right
        # Most rows of a group are alike, as neighbouring intervals differ in few trees: equal ones are kept once.
        tables: list[npt.NDArray[np.int32]] = []
        places = np.zeros(bits.shape[:3], np.int64)
        for group, feature in np.ndindex(groups, len(used)):
            rows, which = np.unique(bits[group, feature], axis=0, return_inverse=True)
            places[group, feature] = which.ravel() + sum(len(table) for table in tables)
            tables.append(rows)
        by_leaf = np.zeros((groups, columns, LEAVES), np.float32)
        for node, tree, place in leaves:
            by_leaf[tree // columns, tree % columns, place] = value[node]
        thresholds = np.full((len(used), most), np.inf, np.float32)
        for row, number in zip(thresholds, used, strict=True):
            row[: len(levels[number])] = levels[number]
        table = np.concatenate(tables) if tables else np.zeros((0, columns), np.int32)
        for name, made in {
            "used": np.array(used, np.int64), "thresholds": thresholds, "by_leaf": by_leaf, "table": table,
            "places": places,
        }.items():  # fmt: skip
            self.register_buffer(name, torch.from_numpy(made).to(self.feature.device), persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        """(N, features) values, NaN where missing, to (N, outputs) logits."""
        x = values.index_select(1, self.used).T.contiguous()
        # A value goes to the left where it is at most the threshold, so that its interval is the number of thresholds
        # below it.
        interval = torch.where(x.isnan(), self.thresholds.shape[1] + 1, torch.searchsorted(self.thresholds, x))
        found = []
        for places, by_leaf in zip(self.places.unbind(), self.by_leaf.unbind(), strict=True):
            left = self.table.index_select(0, places[0][interval[0]])
            for place, here in zip(places[1:], interval[1:], strict=True):
                left = left.bitwise_and_(self.table.index_select(0, place[here]))
            # One bit is left, and the logarithm says which.
            leaf = left.float().log2().round().long()
            found.append(by_leaf.T.gather(0, leaf))
        # Each round has a tree for each class, in their order.
        classes = len(self.baseline)
        leaves = torch.cat(found, dim=1)[:, : len(self.first)]
        scores = leaves.reshape(values.shape[0], len(self.first) // classes, classes).sum(dim=1) + self.baseline
        if classes < len(self.present):  # two classes: one score, of the second
            scores = torch.cat([torch.zeros_like(scores), scores], dim=1)
        logits = scores.new_full((values.shape[0], self.outputs), _ABSENT)
        return logits.index_copy(1, self.present.long(), scores)


def _tabulate(module: nn.Module, keys: Any) -> None:
    """After weights were loaded."""
    assert isinstance(module, BoostedTrees)
    module.tabulate()


def _splits_of(
    feature: npt.NDArray[Any], left: npt.NDArray[Any], right: npt.NDArray[Any], first: npt.NDArray[Any]
) -> tuple[list[tuple[int, int, int, int]], list[tuple[int, int, int]]]:
    """The splits of all trees, and their leaves.

    Returns:
        For each split its node, its tree, and the bits that are left over to the left and to the right of it; for each
        leaf its node, its tree and the number of its bit.

    Raises:
        ModelError: the nodes are no trees of at most 31 leaves.

    """
    splits: list[tuple[int, int, int, int]] = []
    leaves: list[tuple[int, int, int]] = []

    def walk(node: int, tree: int, begin: int) -> int:
        """The number of leaves of the tree up to and with those below a node; `begin` of them were before it."""
        if feature[node] < 0:
            if begin >= LEAVES:
                raise ModelError(f"tree {tree} has more than {LEAVES} leaves.")
            leaves.append((node, tree, begin))
            return begin + 1
        lower, upper = int(left[node]), int(right[node])
        if not node < min(lower, upper) <= max(lower, upper) < len(feature):
            raise ModelError(f"node {node} of tree {tree} has the children {lower} and {upper}: these are no trees.")
        middle = walk(lower, tree, begin)
        end = walk(upper, tree, middle)
        of_left, of_right = (1 << middle) - (1 << begin), (1 << end) - (1 << middle)
        splits.append((node, tree, ~of_right, ~of_left))
        return end

    for tree, root in enumerate(first):
        if not 0 <= root < max(len(feature), 1) or not len(feature):
            raise ModelError(f"tree {tree} begins at node {root} of {len(feature)}: these are no trees.")
        walk(int(root), tree, 0)
    return splits, leaves
