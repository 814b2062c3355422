"""Which of these goes with which of those: the assignment of one to one with the largest sum, exactly."""

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from torch import Tensor


def assign(score: Float[Tensor, "rows columns"]) -> Int64[Tensor, " rows"]:
    """Return for each row the column that it is given, each column at most once, so that the sum of scores is largest.

    -1 for the rows that are left where there are more rows than columns.

    >>> assign(torch.tensor([[0.9, 0.8], [0.7, 0.1]])).tolist()
    [1, 0]
    >>> assign(torch.tensor([[0.1], [0.2]])).tolist()
    [-1, 0]
    """
    cost = -score.detach().double().cpu().numpy()
    if cost.shape[0] <= cost.shape[1]:
        return torch.from_numpy(solve(cost)[0])
    partner = solve(cost.T)[0]
    found = torch.full((cost.shape[0],), -1, dtype=torch.int64)
    found[torch.from_numpy(partner)] = torch.arange(len(partner))
    return found


def solve(cost: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Return each row's column with the least sum of finite costs, and the potentials u, v of rows and columns.

    No more rows than columns. Shortest augmenting paths (Kuhn 1955; Jonker & Volgenant 1987), cubic at worst.
    u[i] + v[j] <= cost[i, j], with equality where i has j, and v <= 0, with v = 0 where j is free, prove that no other
    assignment costs less.

    >>> solve(np.array([[4.0, 1.0], [2.0, 0.0]]))[0].tolist()
    [1, 0]
    """
    rows, columns = cost.shape
    u, v = np.zeros(rows), np.zeros(columns)
    partner, owner = np.full(rows, -1), np.full(columns, -1)
    for start in range(rows):
        length = np.full(columns, np.inf)  # of the shortest path to each column
        before = np.full(columns, -1)
        done = np.zeros(columns, dtype=bool)
        row, reached = start, 0.0
        while True:
            through = reached + cost[row] - u[row] - v
            nearer = ~done & (through < length)
            length[nearer], before[nearer] = through[nearer], row
            column = int(np.where(done, np.inf, length).argmin())
            reached = length[column]
            if owner[column] < 0:
                break
            done[column] = True
            row = int(owner[column])
        u[start] += reached
        u[owner[done]] += reached - length[done]
        v[done] -= reached - length[done]
        while column >= 0:  # along the path, every row takes the next column
            row = int(before[column])
            left = int(partner[row])
            partner[row], owner[column], column = column, row, left
    return partner, u, v
