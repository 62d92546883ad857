"""The few numbers that a benchmark needs, and no more precision than it has."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of the values do not exceed; 0.0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def jain(counts: Sequence[int]) -> float:
    """Jain's fairness index: 1.0 where all got the same, 1/n where one got everything."""
    squares = sum(count * count for count in counts)
    return sum(counts) ** 2 / (len(counts) * squares) if squares else 0.0


def middle(values: Sequence[float]) -> float:
    """The median; 0.0 of none."""
    return median(values) if values else 0.0


def spread(values: Sequence[float]) -> float:
    """How far the rounds lie apart, as a share of their median."""
    return (max(values) - min(values)) / median(values) if values and median(values) else 0.0
