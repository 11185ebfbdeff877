"""Sorting, searching and indexing of long vectors, against NumPy's functions of the same result.

    python benchmarks/bench_indexing.py [--threads 1] [--elements 10000000] [--rounds 7] [--case sort] [--json indexing.json]

Each case is one operation on `--elements` values, done by both libraries on the same memory, in turn; results are compared
first.  Both run in one process: NumPy starts no threads here.  Reported are the shortest times of the rounds and their ratio;
rows that fastbp loses are printed like the others, and once more at the end.
"""

import time

import fastbp
import numpy as np
from _peers import machine, options_of, write_json


def seconds_of(f):
    start = time.perf_counter()
    f()
    return time.perf_counter() - start


def values_of(kind, n):
    """n values of a kind, the same ones at each run."""
    rng = np.random.default_rng(0)
    if kind == "float32":
        return rng.random(n, dtype=np.float32)
    if kind == "float64":
        return rng.standard_normal(n)
    if kind == "int64":
        return rng.integers(-2 ** 62, 2 ** 62, n)
    return rng.integers(0, 1000, n)         # "small": int64 with many repetitions


KINDS = ("float32", "float64", "int64", "small")


# A case: name, kinds of values, and a function of an array and of the tensor of the same memory that returns NumPy's and
# fastbp's call.  A new row of the table is a new entry.


def argsort(x, t):
    return lambda: np.argsort(x, kind="stable"), lambda: fastbp.argsort(t, stable=True)


def sort(x, t):
    """Values and positions: what torch.sort returns."""
    def both():
        order = np.argsort(x, kind="stable")
        return x[order], order
    return both, lambda: fastbp.sort(t, stable=True)


def msort(x, t):
    """Values alone."""
    return lambda: np.sort(x), lambda: fastbp.msort(t)


def kthvalue(x, t):
    """The value and its position."""
    k = len(x) // 3
    return lambda: x[np.argpartition(x, k)[k]], lambda: fastbp.kthvalue(t, k + 1).values


def median(x, t):
    """Of an odd number of values, where NumPy's median is the same one; of whole numbers too."""
    x, t = x[:(len(x) - 1) | 1], t[:(len(x) - 1) | 1]
    return lambda: np.median(x), lambda: fastbp.median(t)


def quantile(x, t):
    return lambda: np.quantile(x, 0.3), lambda: fastbp.quantile(t, 0.3)


def topk(x, t):
    """Values in order, and positions."""
    k = min(1000, len(x))

    def both():
        at = np.argpartition(x, len(x) - k)[len(x) - k:]
        order = np.argsort(x[at])[::-1]
        return x[at[order]], at[order]
    return lambda: both()[0], lambda: fastbp.topk(t, k).values


def unique(x, t):
    return lambda: np.unique(x), lambda: fastbp.unique(t)


def unique_inverse(x, t):
    return lambda: np.unique(x, return_inverse=True), lambda: fastbp.unique(t, return_inverse=True)


def searchsorted(x, t):
    """A million random places among sorted values."""
    edges = np.sort(x)
    some, e = x[:max(1, len(x) // 10)].copy(), fastbp.from_numpy(edges)
    s = fastbp.from_numpy(some)
    return lambda: np.searchsorted(edges, some), lambda: fastbp.searchsorted(e, s)


def cumsum(x, t):
    return lambda: np.cumsum(x), lambda: fastbp.cumsum(t, 0)


def histogram(x, t):
    """Of floating values; histc is not for integers."""
    low, high = float(x.min()), float(x.max())
    return lambda: np.histogram(x, 100, (low, high))[0], lambda: fastbp.histc(t, 100, low, high)


# Moving values by positions: as many random positions as values, with repetitions; matrices have rows of 64.


def places_of(x):
    """Random positions of x, the same ones at each run, as an array and as a tensor."""
    at = np.random.default_rng(1).integers(0, len(x), len(x))
    return at, fastbp.from_numpy(at)


def take(x, t):
    at, i = places_of(x)
    return lambda: np.take(x, at), lambda: fastbp.take(t, i)


def gather(x, t):
    """Along the rows of a matrix."""
    x, t = x[:len(x) // 64 * 64].reshape(-1, 64), t[:len(x) // 64 * 64].reshape(-1, 64)
    at = np.random.default_rng(1).integers(0, 64, x.shape)
    i = fastbp.from_numpy(at)
    return lambda: np.take_along_axis(x, at, 1), lambda: fastbp.gather(t, 1, i)


def take_along_dim(x, t):
    """A vector at random places."""
    at, i = places_of(x)
    return lambda: np.take_along_axis(x, at, 0), lambda: fastbp.take_along_dim(t, i, 0)


def scatter(x, t):
    """To a permutation of places, where NumPy's result is defined too."""
    at = np.random.default_rng(1).permutation(len(x))
    zeros, i = np.zeros_like(x), fastbp.from_numpy(at)
    z = fastbp.from_numpy(zeros)

    def theirs():
        y = zeros.copy()
        np.put_along_axis(y, at, x, 0)
        return y
    return theirs, lambda: fastbp.scatter(z, 0, i, t)


def scatter_add(x, t):
    at, i = places_of(x)
    zeros = np.zeros_like(x)
    z = fastbp.from_numpy(zeros)

    def theirs():
        y = zeros.copy()
        np.add.at(y, at, x)
        return y
    return theirs, lambda: fastbp.scatter_add(z, 0, i, t)


def index_select(x, t):
    """Rows of a matrix."""
    x, t = x[:len(x) // 64 * 64].reshape(-1, 64), t[:len(x) // 64 * 64].reshape(-1, 64)
    at, i = places_of(x)
    return lambda: np.take(x, at, axis=0), lambda: fastbp.index_select(t, 0, i)


def index_add(x, t):
    """Rows of a matrix added at random rows."""
    x, t = x[:len(x) // 64 * 64].reshape(-1, 64), t[:len(x) // 64 * 64].reshape(-1, 64)
    at, i = places_of(x)
    zeros = np.zeros_like(x)
    z = fastbp.from_numpy(zeros)

    def theirs():
        y = zeros.copy()
        np.add.at(y, at, x)
        return y
    return theirs, lambda: fastbp.index_add(z, 0, i, t)


def index_put(x, t):
    """x[places] = values, in place, to a permutation of places."""
    at = np.random.default_rng(1).permutation(len(x))
    y, i = np.zeros_like(x), fastbp.from_numpy(at)
    z = fastbp.zeros_like(t)

    def theirs():
        y[at] = x
        return y

    def ours():
        z[i] = t
        return z
    return theirs, ours


def half_of(x):
    """A mask of every second value or so."""
    mask = np.random.default_rng(1).random(len(x)) < 0.5
    return mask, fastbp.from_numpy(mask)


def masked_select(x, t):
    mask, m = half_of(x)
    return lambda: x[mask], lambda: fastbp.masked_select(t, m)


def masked_fill(x, t):
    mask, m = half_of(x)
    one = x.dtype.type(1)
    return lambda: np.where(mask, one, x), lambda: fastbp.masked_fill(t, m, 1)


def nonzero(x, t):
    """Of a mask."""
    mask, m = half_of(x)
    return lambda: np.argwhere(mask), lambda: fastbp.nonzero(m)


def flip(x, t):
    return lambda: np.flip(x).copy(), lambda: fastbp.flip(t, (0,))


def roll(x, t):
    return lambda: np.roll(x, 1000), lambda: fastbp.roll(t, 1000)


def repeat_interleave(x, t):
    """Each value 0 to 3 times."""
    n = np.random.default_rng(1).integers(0, 4, len(x))
    r = fastbp.from_numpy(n)
    return lambda: np.repeat(x, n), lambda: fastbp.repeat_interleave(t, r)


def bincount(x, t):
    x, t = np.abs(x), t.abs()
    return lambda: np.bincount(x), lambda: fastbp.bincount(t)


MOVED = ("float32", "int64")
CASES = [
    ("argsort", KINDS, argsort), ("sort", KINDS, sort), ("msort", KINDS, msort), ("kthvalue", KINDS, kthvalue),
    ("median", KINDS, median),
    ("quantile", ("float32", "float64"), quantile), ("topk", KINDS, topk), ("unique", KINDS, unique),
    ("unique, inverse", ("float32", "small"), unique_inverse), ("searchsorted", KINDS, searchsorted),
    ("take", MOVED, take), ("gather", MOVED, gather), ("take_along_dim", MOVED, take_along_dim), ("scatter", MOVED, scatter),
    ("scatter_add", ("float32", "float64", "int64"), scatter_add), ("index_select", MOVED, index_select),
    ("index_add", ("float32", "float64", "int64"), index_add), ("index_put", MOVED, index_put),
    ("masked_select", MOVED, masked_select), ("masked_fill", MOVED, masked_fill), ("nonzero", ("float32",), nonzero),
    ("flip", MOVED, flip), ("roll", MOVED, roll), ("repeat_interleave", MOVED, repeat_interleave),
    ("bincount", ("small",), bincount),
    ("cumsum", KINDS, cumsum), ("histogram", ("float32", "float64"), histogram),
]


def compare(name, kind, want, got):
    """Refuse to time two different computations."""
    for w, g in zip(want if isinstance(want, tuple) else (want,), got if isinstance(got, tuple) else (got,)):
        w, g = np.asarray(w), g.numpy()
        if name == "quantile":
            same = np.allclose(w, g, rtol=1e-5)         # a rank of float32 is rounded as PyTorch rounds it
        elif w.dtype.kind != "f" or name not in ("cumsum", "scatter_add", "index_add"):
            same = np.array_equal(w, g.reshape(w.shape)) if name != "histogram" else np.abs(w - g).sum() <= 1e-5 * w.sum()
        else:
            same = np.allclose(w, g, rtol=1e-2, atol=1.0)        # NumPy adds float32 one after the other
        if not same:
            raise SystemExit(f"{name}, {kind}: the results differ")


def main():
    parser = options_of(__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=1, help="threads of fastbp")
    parser.add_argument("--elements", type=int, help="values in a vector; None: 10,000,000, with --iterations 1 100,000")
    parser.add_argument("--rounds", type=int, help="times that every case is measured; None: 7")
    parser.add_argument("--iterations", type=int, help="the same as --rounds; 1 is the shortest run")
    parser.add_argument("--case", help="only cases whose name has this in it")
    parser.add_argument("--json", metavar="PATH", help="also write the results here")
    options = parser.parse_args()
    rounds = options.rounds or options.iterations or 7
    n = options.elements or (100_000 if rounds == 1 else 10_000_000)
    fastbp.set_num_threads(options.threads)

    rows = []
    print(f"{n} values, {options.threads} thread(s) of fastbp; ms")
    print(f"{'case':<18}{'values':<10}{'NumPy':>10}{'fastbp':>10}{'ratio':>8}")
    for name, kinds, build in CASES:
        if options.case and options.case not in name:
            continue
        for kind in kinds:
            x = values_of(kind, n)
            theirs, ours = build(x, fastbp.from_numpy(x))
            compare(name, kind, theirs(), ours())
            times = []
            for k in range(rounds):
                if k % 2:
                    times.append((seconds_of(theirs), seconds_of(ours)))
                else:
                    times.append((seconds_of(ours), seconds_of(theirs))[::-1])
            numpy_s, fastbp_s = (min(t) for t in zip(*times, strict=True))
            ratio = numpy_s / fastbp_s
            rows.append({"case": name, "values": kind, "numpy_s": numpy_s, "fastbp_s": fastbp_s, "ratio": ratio})
            print(f"{name:<18}{kind:<10}{numpy_s * 1e3:10.2f}{fastbp_s * 1e3:10.2f}{ratio:8.2f}", flush=True)
    losing = [f"{row['case']} ({row['values']}) {row['ratio']:.2f}" for row in rows if row["ratio"] < 1]
    print("NumPy is faster in: " + (", ".join(losing) or "none"))
    if options.json:
        write_json(options.json, {"benchmark": "bench_indexing", **machine(), "threads": options.threads, "elements": n,
                                  "rounds": rounds, "rows": rows})


if __name__ == "__main__":
    main()
