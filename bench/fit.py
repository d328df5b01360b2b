"""Fits non-negative costs to measured totals, by least squares of relative errors. Pure.

Each observation is a row of amounts (how much of each kind of work was done per second) and the
total cost. A cost that would be negative is set to 0, and the others are fitted again.
"""

from collections.abc import Sequence


def fit(rows: Sequence[Sequence[float]], totals: Sequence[float]) -> list[float]:
    """One cost for each column.

    Raises:
        ValueError: rows of different lengths, a total that is not positive, or too few rows.
    """
    columns = len(rows[0]) if rows else 0
    if len(rows) < columns or any(len(row) != columns for row in rows):
        raise ValueError("needs at least as many rows as costs, all of the same length")
    if len(rows) != len(totals) or min(totals) <= 0:
        raise ValueError("each row needs a total above 0")
    free = list(range(columns))
    while free:
        scaled = [
            [row[column] / total for column in free]
            for row, total in zip(rows, totals, strict=True)
        ]
        found = _solve(scaled)
        below = [column for column, cost in zip(free, found, strict=True) if cost < 0]
        if not below:
            costs = [0.0] * columns
            for column, cost in zip(free, found, strict=True):
                costs[column] = cost
            return costs
        free = [column for column in free if column not in below]
    return [0.0] * columns


def _solve(rows: Sequence[Sequence[float]]) -> list[float]:
    """The normal equations of `row . x = 1` for all rows, by Gaussian elimination."""
    size = len(rows[0])
    matrix = [
        [sum(row[i] * row[j] for row in rows) for j in range(size)] + [sum(row[i] for row in rows)]
        for i in range(size)
    ]
    for pivot in range(size):
        best = max(range(pivot, size), key=lambda row: abs(matrix[row][pivot]))
        matrix[pivot], matrix[best] = matrix[best], matrix[pivot]
        top = matrix[pivot][pivot]
        if abs(top) < 1e-18:
            raise ValueError("these rows do not determine the costs")
        for row in range(size):
            if row != pivot:
                factor = matrix[row][pivot] / top
                matrix[row] = [
                    a - factor * b for a, b in zip(matrix[row], matrix[pivot], strict=True)
                ]
    return [matrix[row][size] / matrix[row][row] for row in range(size)]
