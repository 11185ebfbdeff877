"""Floor 1, room "sort": values in order, and the values of single ranks, of long rows.

NumPy's vectorised sort and partition beat a radix sort where no position travels along.  What they leave open, the order of
what compares equal (zeros of both signs, NaN), is put as the stable order has it, so that the bits are those of fastbp's own.
"""

import numpy as np

from . import quiet

CHUNK = 1 << 16         # values that are compared at a time: they and their masks stay in cache


def arrange(y, x, ranks=None):
    """Sort the last dimension of y, a copy of x, in place, NaN last; with `ranks`, ascending: put these in place."""
    if ranks is not None:
        start = 0
        for rank in ranks:              # one at a time: NumPy's partition for several is many times slower
            y[..., start:].partition(rank - start, axis=-1)
            start = rank + 1
        return
    y.sort(axis=-1)
    if y.dtype.kind != "f" or not y.size or (y.ndim == 1 and (y[0] > 0 or y[-1] < 0)):
        return
    rows, given = y.reshape(-1, y.shape[-1]), x.reshape(-1, y.shape[-1])
    first, last = rows[:, 0], rows[:, -1]
    for k in np.flatnonzero((last != last) | ((first <= 0) & (last >= 0))):
        row, x = rows[k], given[k]
        if row[-1] != row[-1]:
            missing = x[np.isnan(x)]
            row[len(row) - len(missing):] = missing
        zero = np.zeros(1, row.dtype)                   # of the row's dtype: searchsorted converts rows to that of a number
        low, high = np.searchsorted(row, zero, "left")[0], np.searchsorted(row, zero, "right")[0]
        if high - low > 1:
            row[low:high] = np.concatenate([part[np.flatnonzero(part == 0)] for part in np.split(x, range(CHUNK, len(x), CHUNK))])


def _sample(x):
    """A sorted share of a vector: enough to say of most values on which side of a rank they are."""
    return np.sort(x[::max(1, len(x) // int(len(x) ** (2 / 3)))])


def _near(x, rank):
    """(rank among them, positions) of what lies near a rank of a vector; None where a sample does not tell."""
    sample = _sample(x)
    middle, spread = len(sample) * rank // len(x), 1 + int(2 * len(sample) ** 0.5)
    low, high = sample[max(middle - spread, 0)], sample[min(middle + spread, len(sample) - 1)]
    if low != low or high != high:
        return None
    less, found, count = 0, [], 0
    for start in range(0, len(x), CHUNK):
        chunk = x[start:start + CHUNK]
        below, inside = chunk < low, chunk <= high
        less += np.count_nonzero(below)
        np.not_equal(below, inside, out=inside)
        at = np.flatnonzero(inside)
        count += len(at)
        if count > len(x) // 4:
            return None
        at += start
        found.append(at)
    if not less <= rank < less + count:
        return None
    return np.array(rank - less), np.concatenate(found)


@quiet
def near(input, rank):
    """What lies near a rank of a long vector: its rank among them, and their positions; no positions: no sample tells."""
    found = _near(input, rank)
    return (np.array(0), np.zeros(0, np.int64)) if found is None else found


@quiet
def place(input, value, rank):
    """Where one rank of the stable order of a vector is, whose value is known."""
    if value == value:
        same, before = input == value, np.count_nonzero(input < value)
    else:
        same = np.isnan(input)
        before = len(input) - np.count_nonzero(same)
    rank, low, high = rank - before, 0, len(input)
    while rank and high - low > 4096:           # which of the equal ones: by counts of halves
        middle = (low + high) // 2
        count = np.count_nonzero(same[low:middle])
        if count > rank:
            high = middle
        else:
            rank, low = rank - count, middle
    return np.array(low + (np.flatnonzero(same[low:high])[rank] if rank else np.argmax(same[low:high])), np.int64)


@quiet
def candidates(input, k, largest):
    """Positions, ascending, that hold the k largest (or smallest) values of a vector, and few others."""
    n = len(input)
    sample = _sample(input)
    middle = len(sample) * k // n
    middle = min(middle + 8 + int(4 * middle ** 0.5), len(sample) - 1)
    edge = sample[len(sample) - 1 - middle] if largest else sample[middle]
    found, count = [], 0
    if edge == edge:
        for start in range(0, n, CHUNK):
            chunk = input[start:start + CHUNK]
            kept = chunk < edge if largest else chunk <= edge
            at = np.flatnonzero(np.logical_not(kept, out=kept) if largest else kept)
            count += len(at)
            if count > 4 * k + n // 8:
                break
            at += start
            found.append(at)
        else:
            if count >= k:
                return np.concatenate(found)
    edge = np.partition(input, n - k if largest else k - 1)[n - k if largest else k - 1]      # many equal, or NaN: exactly
    same = input == edge if edge == edge else np.isnan(input)
    better = (~(input <= edge) if edge == edge else np.zeros(n, bool)) if largest else \
        input < edge if edge == edge else ~same
    better[np.flatnonzero(same)[:k - np.count_nonzero(better)]] = True
    return np.flatnonzero(better)
