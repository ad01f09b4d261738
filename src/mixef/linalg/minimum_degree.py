"""An order of elimination that keeps a sparse Cholesky factor sparse: approximate minimum degree.

The loops are plain Python; `mixef.linalg.kernels` compiles them.
"""

from __future__ import annotations

import numpy as np

# A node with more neighbours than this many times the root of all nodes goes last.
DENSE = 10.0


def minimum_degree(start: np.ndarray, adjacent: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the order in which to eliminate the nodes of an undirected graph.

    Eliminating a node joins all its neighbours. The graph of what is left is held as nodes and
    *elements*: an element stands for the clique that an elimination made. The node with the
    smallest degree, or rather with the smallest of a bound that is cheap to hold, goes next.

    Parameters
    ----------
    start : ndarray of int (n + 1,)
        Where each node's neighbours start in ``adjacent``.
    adjacent : ndarray of int (m,)
        Neighbours, each edge from both its ends, no node its own; overwritten.
    weight : ndarray of int (n,)
        How many columns of the matrix each node stands for.

    Returns
    -------
    ndarray of int (n,)
        The nodes, first to last.

    References
    ----------
    P. R. Amestoy, T. A. Davis and I. S. Duff (1996), An approximate minimum degree ordering
    algorithm, SIAM Journal on Matrix Analysis and Applications 17, 886-905.
    """
    n = len(start) - 1
    # Nodes. `size` is zero for what is eliminated, merged into another node, or put last. The
    # neighbours of i are from start[i] on: first n_elements[i] elements, then nodes, n_all[i]
    # in all.
    size = weight.copy()
    n_all = start[1:] - start[:-1]
    n_elements = np.zeros(n, dtype=np.int64)
    degree = np.zeros(n, dtype=np.int64)
    # Elements: their nodes are pool[first[e] : last[e]], of `extent` columns together.
    pool = np.empty(len(adjacent) + n + 1, dtype=np.int64)
    used = 0
    first = np.zeros(n, dtype=np.int64)
    last = np.zeros(n, dtype=np.int64)
    extent = np.zeros(n, dtype=np.int64)
    alive = np.zeros(n, dtype=np.bool_)
    outside = np.zeros(n, dtype=np.int64)
    # Marks, good for as long as the tag is that of today.
    mark = np.zeros(n, dtype=np.int64)
    seen = np.zeros(n, dtype=np.int64)
    tag = 0
    # Nodes of one degree, as doubly linked lists; and the nodes of one hash value.
    head = np.full(size.sum() + 1, -1, dtype=np.int64)
    following = np.full(n, -1, dtype=np.int64)
    previous = np.full(n, -1, dtype=np.int64)
    hashed = np.zeros(n, dtype=np.int64)
    chain = np.full(n, -1, dtype=np.int64)
    chained = np.full(n, -1, dtype=np.int64)
    # Nodes that go together, from the node that stands for them.
    member = np.full(n, -1, dtype=np.int64)
    end = np.arange(n)

    order = np.empty(n, dtype=np.int64)
    placed = 0
    limit = max(16.0, DENSE * np.sqrt(n))
    n_last = 0
    for i in range(n):
        if n_all[i] > limit:
            size[i] = 0
            n_last += 1
            order[n - n_last] = i
    left = size.sum()
    for i in range(n):
        if size[i] > 0:
            for p in range(start[i], start[i + 1]):
                degree[i] += size[adjacent[p]]
            following[i] = head[degree[i]]
            if head[degree[i]] >= 0:
                previous[head[degree[i]]] = i
            head[degree[i]] = i

    least = 0
    while left > 0:
        while head[least] < 0:
            least += 1
        pivot = head[least]
        head[least] = following[pivot]
        if following[pivot] >= 0:
            previous[following[pivot]] = -1
        left -= size[pivot]
        size[pivot] = 0

        # The new element: all neighbours of the pivot. Elements among them are swallowed.
        head_of_variables = start[pivot] + n_elements[pivot]
        stop = start[pivot] + n_all[pivot]
        needed = used + stop - head_of_variables
        for p in range(start[pivot], head_of_variables):
            needed += last[adjacent[p]] - first[adjacent[p]]
        if needed > len(pool):
            larger = np.empty(2 * needed, dtype=np.int64)
            larger[:used] = pool[:used]
            pool = larger
        tag += 1
        own = used
        total = 0
        for p in range(start[pivot], stop):
            e = adjacent[p]
            if p >= head_of_variables:
                if size[e] > 0 and mark[e] != tag:
                    mark[e] = tag
                    pool[used] = e
                    used += 1
                    total += size[e]
            elif alive[e]:
                for r in range(first[e], last[e]):
                    i = pool[r]
                    if size[i] > 0 and mark[i] != tag:
                        mark[i] = tag
                        pool[used] = i
                        used += 1
                        total += size[i]
                alive[e] = False
        alive[pivot] = True

        # How many columns of each neighbouring element lie outside the new one.
        for r in range(own, used):
            i = pool[r]
            if previous[i] >= 0:
                following[previous[i]] = following[i]
            else:
                head[degree[i]] = following[i]
            if following[i] >= 0:
                previous[following[i]] = previous[i]
            for p in range(start[i], start[i] + n_elements[i]):
                e = adjacent[p]
                if alive[e]:
                    if seen[e] != tag:
                        seen[e] = tag
                        outside[e] = extent[e]
                    outside[e] -= size[i]

        # The neighbours of each node of the new element, and the bound of its degree.
        for r in range(own, used):
            i = pool[r]
            bound = 0
            key = 0
            kept = start[i]
            variables = start[i] + n_elements[i]
            for p in range(start[i], variables):
                e = adjacent[p]
                if alive[e]:
                    if outside[e] > 0:
                        bound += outside[e]
                        key += e
                        adjacent[kept] = e
                        kept += 1
                    else:  # all of it lies in the new element
                        alive[e] = False
            fill = variables
            for p in range(variables, start[i] + n_all[i]):
                j = adjacent[p]
                if size[j] > 0 and mark[j] != tag:
                    bound += size[j]
                    key += j
                    adjacent[fill] = j
                    fill += 1
            if bound == 0:  # nothing beside the new element: as good as eliminated
                left -= size[i]
                total -= size[i]
                size[i] = 0
                member[end[pivot]] = i
                end[pivot] = end[i]
                continue
            # The new element goes behind the others. One neighbour at least is gone: the pivot,
            # or an element that was swallowed.
            if kept == variables:
                adjacent[fill] = adjacent[kept]
                fill += 1
            else:
                for p in range(variables, fill):
                    adjacent[kept + 1 + p - variables] = adjacent[p]
                fill += kept + 1 - variables
            adjacent[kept] = pivot
            n_elements[i] = kept + 1 - start[i]
            n_all[i] = fill - start[i]
            degree[i] = min(degree[i], bound)
            hashed[i] = key % n
            chained[i] = chain[hashed[i]]
            chain[hashed[i]] = i

        # Nodes with the same neighbours are one from here on.
        for r in range(own, used):
            i = chain[hashed[pool[r]]] if size[pool[r]] > 0 else -1
            if i >= 0:
                chain[hashed[i]] = -1
            while i >= 0:
                tag += 1
                for p in range(start[i], start[i] + n_all[i]):
                    mark[adjacent[p]] = tag
                before = i
                j = chained[i]
                while j >= 0:
                    same = n_all[j] == n_all[i] and n_elements[j] == n_elements[i]
                    p = start[j]
                    while same and p < start[j] + n_all[j]:
                        same = mark[adjacent[p]] == tag
                        p += 1
                    if same:
                        size[i] += size[j]
                        size[j] = 0
                        member[end[i]] = j
                        end[i] = end[j]
                        chained[before] = chained[j]
                    else:
                        before = j
                    j = chained[j]
                i = chained[i]

        # Back into the lists by degree.
        first[pivot] = own
        extent[pivot] = total
        keep = own
        for r in range(own, used):
            i = pool[r]
            if size[i] > 0:
                pool[keep] = i
                keep += 1
                d = min(degree[i] + total, left) - size[i]
                degree[i] = d
                following[i] = head[d]
                previous[i] = -1
                if head[d] >= 0:
                    previous[head[d]] = i
                head[d] = i
                least = min(least, d)
        used = keep
        last[pivot] = used
        alive[pivot] = used > own

        i = pivot
        while i >= 0:
            order[placed] = i
            placed += 1
            i = member[i]
    return order
