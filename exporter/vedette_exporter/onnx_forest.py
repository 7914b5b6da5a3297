"""An isolation forest as one tree ensemble.

skl2onnx's own conversion gives some 27 operators a tree: 900 us a window and 2 s to load, and the last bit of a score then depends on
the size of the batch. One TreeEnsembleRegressor gives the same scores in 12 us, whatever the batch.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from vedette_exporter.onnx_graph import Graph


def add(forest: Any, graph: Graph, rows: str, to: str) -> None:
    """Path lengths summed over the trees, then strangeness = 2 ** (-mean / c(max_samples)): Liu, Ting and Zhou, 2008, equation 2."""
    depths = graph.add("TreeEnsembleRegressor", rows, **_ensemble(forest))
    # Exp rather than Pow: Pow's last bit depends on where in the batch a row stands.
    scale = -math.log(2) / (len(forest.estimators_) * float(_mean_path_length(np.array([forest.max_samples_]))[0]))
    graph.add("Exp", graph.add("Mul", depths, graph.constant([scale])), to=to)


def _ensemble(forest: Any) -> dict[str, Any]:
    """The attributes of the TreeEnsembleRegressor whose leaves weigh their path length."""
    nodes: dict[str, list[Any]] = {
        f"nodes_{name}": [] for name in ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids")
    }
    leaves: dict[str, list[Any]] = {f"target_{name}": [] for name in ("treeids", "nodeids", "weights")}
    for number, (estimator, columns) in enumerate(zip(forest.estimators_, forest.estimators_features_, strict=True)):
        tree = estimator.tree_
        leaf = tree.children_left < 0
        nodes["nodes_treeids"] += [number] * tree.node_count
        nodes["nodes_nodeids"] += range(tree.node_count)
        nodes["nodes_featureids"] += np.where(leaf, 0, np.asarray(columns)[np.maximum(tree.feature, 0)]).tolist()
        nodes["nodes_values"] += np.where(leaf, 0, _floor_to_float32(tree.threshold)).tolist()
        nodes["nodes_modes"] += np.where(leaf, "LEAF", "BRANCH_LEQ").tolist()
        nodes["nodes_truenodeids"] += np.where(leaf, 0, tree.children_left).tolist()
        nodes["nodes_falsenodeids"] += np.where(leaf, 0, tree.children_right).tolist()
        ends = np.flatnonzero(leaf)
        leaves["target_treeids"] += [number] * len(ends)
        leaves["target_nodeids"] += ends.tolist()
        leaves["target_weights"] += (_depths(tree) + _mean_path_length(tree.n_node_samples))[ends].tolist()
    return {
        **nodes,
        **leaves,
        "target_ids": [0] * len(leaves["target_weights"]),
        "n_targets": 1,
        "aggregate_function": "SUM",
        "post_transform": "NONE",
    }


def _floor_to_float32(thresholds: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """The largest float32 not above each threshold: a float32 value is at most the one exactly when it is at most the
    other.
    """
    nearest = thresholds.astype(np.float32)
    return np.where(nearest > thresholds, np.nextafter(nearest, np.float32(-np.inf)), nearest).astype(np.float32)


def _depths(tree: Any) -> npt.NDArray[np.float64]:
    """How many splits lead to each node. A node comes before its children."""
    depths = np.zeros(tree.node_count)
    for node in np.flatnonzero(tree.children_left >= 0):
        depths[[tree.children_left[node], tree.children_right[node]]] = depths[node] + 1
    return depths


def _mean_path_length(samples: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """c(n), the mean length of an unsuccessful search in a binary tree of n: Liu, Ting and Zhou, 2008, equation 1, with
    scikit-learn's c(2) = 1.
    """
    count = np.maximum(samples, 3).astype(np.float64)
    long = 2.0 * (np.log(count - 1.0) + np.euler_gamma) - 2.0 * (count - 1.0) / count
    return np.where(samples <= 1, 0.0, np.where(samples == 2, 1.0, long))
