"""Importing this module publishes every eager function (see `register.public`)."""

from tracejit.eager import (
    control,
    conversions,
    decompositions,
    default_device,
    einsum,
    factories,
    householder,
    indexing,
    joining,
    legacy,
    linalg,
    matrix_functions,
    methods,
    pointwise,
    properties,
    ranges,
    reduce,
    rounding,
    scans,
    scatter,
    selection,
    shape,
    special,
    statistics,
    symbolic,
    views,
)

__all__ = [
    "control", "conversions", "decompositions", "default_device", "einsum", "factories",
    "householder", "indexing", "joining", "legacy", "linalg", "matrix_functions", "methods",
    "pointwise", "properties", "ranges", "reduce", "rounding", "scans", "scatter", "selection",
    "shape", "special", "statistics", "symbolic", "views",
]  # fmt: skip
