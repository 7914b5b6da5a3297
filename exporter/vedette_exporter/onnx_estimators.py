"""The workstation's other estimators as ONNX: scalers, and what stands behind one-class SVM, DBSCAN and PCA.

What ONNX Runtime 1.31.1 does with a row (x86-64, 515 rows in batches of 1, 2, 3, 7 and 32, widths 7 to 1900) decided how these are
written. MatMul and Gemm by a constant, in float32 and float64, reductions along rows, Exp and LogSoftmax give every row the same bits
whatever stands beside it, a single row included: nothing needs padding. Log does not (123 of 515 rows differ: the last few elements of a
tensor go through another routine), so there is none here.

float64 where float32 would lose digits in a difference of large numbers; a conversion's inputs and outputs are float32.
"""

from typing import Any

import numpy as np

from vedette_exporter.onnx_graph import DOUBLE, FLOAT, Graph


def add_standard_scaler(scaler: Any, graph: Graph, rows: str, to: str) -> None:
    """(x - mean) / scale, in float32 as scikit-learn does: rounded otherwise, a column might fall on the other side of a forest's cut."""
    if scaler.with_mean:
        rows = graph.add("Sub", rows, graph.constant(scaler.mean_))
    if scaler.with_std:
        rows = graph.add("Div", rows, graph.constant(scaler.scale_))
    graph.add("Identity", rows, to=to)


def add_pca(pca: Any, graph: Graph, rows: str, to: str) -> None:
    """Coordinates along the principal axes. In float64, rounded once, at the end: a forest's cuts may follow."""
    axes = np.asarray(pca.components_, dtype=np.float64)
    turned = graph.add("MatMul", graph.cast(rows, DOUBLE), graph.constant(axes.T, np.float64))
    turned = graph.add("Sub", turned, graph.constant(pca.mean_ @ axes.T, np.float64))
    if pca.whiten:
        scale = np.sqrt(pca.explained_variance_)
        turned = graph.add("Div", turned, graph.constant(np.maximum(scale, np.finfo(scale.dtype).eps), np.float64))
    graph.cast(turned, FLOAT, to)


def add_log_kernel(kernel: Any, graph: Graph, rows: str, to: str) -> None:
    """-log sum(weight x exp(-gamma x squared distance)), in a form that never saturates.

    With z = 2 gamma x.v + log weight - gamma |v|^2 and m its largest it is gamma |x|^2 - m - log sum exp(z - m), and that last
    logarithm is what LogSoftmax takes off the largest, which is 0.
    """
    # LogSoftmax rather than a Log of our own, whose last bit would depend on the batch; it also takes a tenth of ReduceLogSumExp's time.
    # float64, though float32 takes a quarter of the time on the widest windows: far from 0 z is a small difference of large numbers.
    # The vectors are float32 or narrower in the file, and cast once, when the runtime loads it.
    stored, vectors = graph.weights(kernel.vectors)
    offsets = np.log(np.asarray(kernel.weights, dtype=np.float64)) - kernel.gamma * (vectors.astype(np.float64) ** 2).sum(axis=1)
    gamma = graph.constant([kernel.gamma], np.float64)
    exact = graph.cast(rows, DOUBLE)
    transposed = graph.cast(graph.add("Transpose", stored), DOUBLE)
    products = graph.add("MatMul", graph.add("Mul", exact, graph.constant([2 * kernel.gamma], np.float64)), transposed)
    z = graph.add("Add", products, graph.constant(offsets, np.float64))
    largest = graph.along_rows("ReduceMax", z)
    relative = graph.cast(graph.add("Sub", z, largest), FLOAT)
    rest = graph.along_rows("ReduceMax", graph.add("LogSoftmax", relative, axis=1))
    length = graph.add("Mul", graph.along_rows("ReduceSumSquare", exact), gamma)
    graph.add("Add", graph.cast(graph.add("Sub", length, largest), FLOAT), rest, to=to)


def add_core_distance(distance: Any, graph: Graph, rows: str, to: str) -> None:
    """Distance to the nearest core sample over eps: half |c|^2 - x.c is least for the nearest, and then the distance itself."""
    samples, cores = graph.weights(distance.cores)
    halves = 0.5 * (cores.astype(np.float64) ** 2).sum(axis=1)
    # float64, though float32 takes a quarter of the time on the widest windows: near the cores of a dense cluster, squares that are
    # larger by far drown the difference between two of them, and the wrong one would be the nearest.
    exact = [graph.cast(rows, DOUBLE), graph.cast(samples, DOUBLE)]
    products = graph.add("Gemm", *exact, graph.constant(halves, np.float64), alpha=-1.0, transB=1)
    nearest = graph.add("ArgMin", products, axis=1, keepdims=0)
    # From the difference of the two, not from the product: a core sample is at exactly 0 from itself.
    apart = graph.add("Sub", rows, graph.add("Gather", samples, nearest, axis=0))
    graph.add("Div", graph.along_rows("ReduceL2", apart), graph.constant([distance.eps]), to=to)


def add_minor_axes(minor: Any, graph: Graph, rows: str, to: str) -> None:
    """Mean squared coordinate along the axes. In float64: narrow directions are differences of nearly equal columns, much enlarged."""
    centred = graph.add("Sub", graph.cast(rows, DOUBLE), graph.constant(minor.mean, np.float64))
    # Float32 or narrower in the file, and cast once, when the runtime loads it.
    axes, _ = graph.weights(minor.axes)
    coordinates = graph.add("MatMul", centred, graph.cast(axes, DOUBLE))
    graph.cast(graph.along_rows("ReduceMean", graph.add("Mul", coordinates, coordinates)), FLOAT, to)
