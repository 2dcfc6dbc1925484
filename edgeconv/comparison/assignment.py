"""The cheapest one-to-one assignment of rows to columns."""

from __future__ import annotations

import math

from edgeconv.comparison.archive import Array


def assign(cost: Array) -> list[int]:
    """Column for each row so that the sum of costs is least.

    The Hungarian method with potentials, shortest augmenting paths, O(n² m) (H. W. Kuhn, 1955; J. Munkres,
    1957; R. Jonker and A. Volgenant, 1987).

    Args:
        cost: ``[n, m]`` with ``n <= m``, finite.

    Returns:
        ``n`` different column numbers.

    Raises:
        ValueError: more rows than columns.
    """
    rows, columns = cost.shape
    if rows > columns:
        raise ValueError(f"{rows} rows cannot each have one of {columns} columns")
    # Row and column 0 are sentinels; row_of[c] is the row that column c is given to.
    row_potential, column_potential = [0.0] * (rows + 1), [0.0] * (columns + 1)
    row_of, way = [0] * (columns + 1), [0] * (columns + 1)
    for row in range(1, rows + 1):
        row_of[0] = row
        column = 0
        least = [math.inf] * (columns + 1)
        used = [False] * (columns + 1)
        while row_of[column] != 0:
            used[column] = True
            current, delta, following = row_of[column], math.inf, 0
            for other in range(1, columns + 1):
                if used[other]:
                    continue
                reduced = (
                    float(cost[current - 1, other - 1]) - row_potential[current] - column_potential[other]
                )
                if reduced < least[other]:
                    least[other], way[other] = reduced, column
                if least[other] < delta:
                    delta, following = least[other], other
            for other in range(columns + 1):
                if used[other]:
                    row_potential[row_of[other]] += delta
                    column_potential[other] -= delta
                else:
                    least[other] -= delta
            column = following
        while column != 0:
            row_of[column] = row_of[way[column]]
            column = way[column]
    chosen = [0] * rows
    for other in range(1, columns + 1):
        if row_of[other]:
            chosen[row_of[other] - 1] = other - 1
    return chosen
