"""Measured errors of the scalar functions: python tests/ulp.py [--write] [--markdown] [--samples N] [--seed S].

Prints, for each function and for float32 and float64, the largest error in units in the last place against mpmath over
samples of the whole domain (with zeros, infinities, NaN, subnormal and huge numbers among them), the argument that gave
it, and the time of one element in nanoseconds (one thread's share of a call on 2**16 elements, best of several).
Tests import `measure`; it needs a callable only, so that it also serves to measure something else than fastbp.
"""

import argparse
import math
import sys
import time
from pathlib import Path

import mpmath as mp
import numpy as np

MP_DIGITS = 40      # decimal digits of the reference: enough for sin(1e308) after mpmath's own reduction


def _logistic(x):
    return 1 / (1 + mp.exp(-x)) if x > 0 else mp.exp(x) / (1 + mp.exp(x))


def _softplus(x):
    return mp.log1p(mp.exp(-abs(x))) + (x if x > 0 else 0)


def _gelu_tanh(x):
    return x * _logistic(2 * mp.sqrt(2 / mp.pi) * (x + mp.mpf("0.044715") * x ** 3))


def _erfcx(x):
    if x > 1e4:
        return (1 - 1 / (2 * x * x) + 3 / (4 * x ** 4)) / (x * mp.sqrt(mp.pi))
    return mp.exp(x * x) * mp.erfc(x)


def _ndtr(x):
    return mp.erfc(-x / mp.sqrt(2)) / 2


def _ndtri(p):
    if 0.4 < p < 0.6:
        return mp.sqrt(2) * mp.erfinv(2 * p - 1)
    q = min(p, 1 - p)
    y = mp.sqrt(-mp.log(4 * q * (1 - q)))
    y = y - mp.log(y * mp.sqrt(mp.pi)) / (2 * y) if y > 1.5 else 0.9 * y
    for _ in range(80):         # Newton's method for log(erfc(y)) = log(2 q)
        e = mp.erfc(y)
        step = (mp.log(e) - mp.log(2 * q)) * e * mp.sqrt(mp.pi) / (-2 * mp.exp(-y * y))
        y -= step
        if abs(step) < abs(y) * mp.mpf(10) ** -30:
            break
    return mp.sqrt(2) * (-y if p < 0.5 else y)


def _zeta(s, q):
    """Hurwitz's zeta function by Euler and Maclaurin's series (mpmath's own loses digits)."""
    x = q + 40
    total = mp.fsum((q + k) ** -s for k in range(40)) + x ** (1 - s) / (s - 1) + x ** -s / 2
    a, b = s, x ** (-s - 1)
    for k in range(1, 24):
        total += mp.bernoulli(2 * k) / mp.factorial(2 * k) * a * b
        a, b = a * (s + 2 * k - 1) * (s + 2 * k), b / (x * x)
    return total


# name -> (reference, lower end, upper end of the domain; the bounds are those of finite float64 results)
UNARY = {
    "exp": (mp.exp, -760, 712), "exp2": (lambda x: mp.mpf(2) ** x, -1090, 1026), "expm1": (mp.expm1, -60, 712),
    "log": (mp.log, 0, None), "log2": (lambda x: mp.log(x, 2), 0, None), "log10": (mp.log10, 0, None),
    "log1p": (mp.log1p, -1, None), "sqrt": (mp.sqrt, 0, None), "rsqrt": (lambda x: 1 / mp.sqrt(x), 0, None),
    "reciprocal": (lambda x: 1 / x, None, None),
    "sin": (mp.sin, None, None), "cos": (mp.cos, None, None), "tan": (mp.tan, None, None),
    "asin": (mp.asin, -1, 1), "acos": (mp.acos, -1, 1), "atan": (mp.atan, None, None),
    "sinh": (mp.sinh, -712, 712), "cosh": (mp.cosh, -712, 712), "tanh": (mp.tanh, -30, 30),
    "asinh": (mp.asinh, None, None), "acosh": (mp.acosh, 1, None), "atanh": (mp.atanh, -1, 1),
    "sigmoid": (_logistic, -760, 60), "log_sigmoid": (lambda x: -_softplus(-x), -760, 760),
    "softplus": (_softplus, -760, 760), "silu": (lambda x: x * _logistic(x), -760, 60),
    "gelu": (lambda x: x * mp.erfc(-x / mp.sqrt(2)) / 2, -39, 39), "gelu_tanh": (_gelu_tanh, -22, 22),
    "erf": (mp.erf, -7, 7), "erfc": (mp.erfc, -7, 28), "erfinv": (mp.erfinv, -1, 1),
    "lgamma": (lambda x: mp.log(abs(mp.gamma(x))) if x < 0 else mp.loggamma(x), -20, 1e6),
    "digamma": (mp.digamma, -20, 1e6), "sinc": (mp.sincpi, -1e6, 1e6),
    "erfcx": (_erfcx, -26, None), "ndtr": (_ndtr, -38, 10), "ndtri": (_ndtri, 0, 1),
    "log_ndtr": (lambda x: mp.log(_ndtr(x)) if x < 5 else mp.log1p(-_ndtr(-x)), -1e6, 38),
    "i0": (lambda x: mp.besseli(0, x), -713, 713), "i0e": (lambda x: mp.exp(-abs(x)) * mp.besseli(0, x), -1e4, 1e4),
    "i1": (lambda x: mp.besseli(1, x), -713, 713), "i1e": (lambda x: mp.exp(-abs(x)) * mp.besseli(1, x), -1e4, 1e4),
    "entr": (lambda x: -x * mp.log(x), 0, None), "logit": (lambda x: mp.log(x / (1 - x)), 0, 1),
    "polygamma_1": (lambda x: _zeta(mp.mpf(2), x), 0, 1e6), "polygamma_4": (lambda x: -24 * _zeta(mp.mpf(5), x), 0, 1e6),
}
BINARY = {
    "div": lambda a, b: a / b, "atan2": mp.atan2, "hypot": mp.hypot, "pow": lambda a, b: a ** b,
    "xlogy": lambda a, b: a * mp.log(b), "xlog1py": lambda a, b: a * mp.log1p(b), "zeta": _zeta,
    "igamma": lambda a, x: mp.gammainc(a, 0, x, regularized=True),
    "igammac": lambda a, x: mp.gammainc(a, x, mp.inf, regularized=True),
}
SPECIAL = ("zeta", "igamma", "igammac")     # two positive arguments of their own ranges
POSITIVE = {"pow": (True, False), "xlogy": (False, True), "xlog1py": (False, True)}
# largest error that the project promises, in ulp, and the exceptions
BOUND = 2.0
BOUNDS = {(name, "float64"): 4.0 for name in ("ndtri", "i0", "i0e", "i1", "i1e", "polygamma_1", "polygamma_4", "zeta", "erfcx",
                                              "igammac", "ndtr", "log_ndtr", "lgamma", "digamma")}
BOUNDS["gelu", "float32"] = 3.6
BOUNDS["sigmoid", "float32"] = 2.5


def ulp_error(got, want, dtype):
    """|got - want| in units in the last place of dtype at want."""
    info = np.finfo(dtype)
    got = float(got)
    if want == 0:
        return 0.0 if got == 0 else math.inf
    exponent = max(int(mp.floor(mp.log(abs(want), 2))), int(info.minexp))
    unit = mp.mpf(2) ** (exponent - int(info.nmant))
    if math.isnan(got):
        return math.inf
    if math.isinf(got):     # the next number after the largest one is 2**maxexp
        got = math.copysign(2.0, got) * mp.mpf(2) ** (int(info.maxexp) - 1)
        return 0.0 if abs(want) >= abs(got) and (want > 0) == (got > 0) else float(abs(got - want) / unit)
    return float(abs(mp.mpf(got) - want) / unit)


def samples(low, high, dtype, n, rng):
    """n finite numbers of dtype in [low, high]: even, dense near 0 and 1, and random in their bits."""
    bits, tiny = (np.uint32, 2.0 ** -149) if dtype == np.float32 else (np.uint64, 2.0 ** -1074)
    top = 100.0 if dtype == np.float32 else 740.0
    parts = [rng.integers(0, np.iinfo(bits).max, n, dtype=bits).view(dtype)]
    parts += [rng.uniform(-s, s, n // 4).astype(dtype) for s in (0.5, 1.5, 6, 40, top)]
    if low is not None and high is not None and high - low <= 2000:
        parts.append(rng.uniform(low, high, n).astype(dtype))
    parts.append((rng.choice([-1, 1], n) * 2.0 ** rng.uniform(-40, 40, n)).astype(dtype))
    parts.append((1 + rng.normal(size=n // 4) * 2.0 ** rng.integers(-30, -1, n // 4)).astype(dtype))
    parts.append((np.pi / 2 * rng.integers(-200, 200, n // 8)).astype(dtype))
    parts.append(np.array([0.5, -0.5, 1, -1, 2, -2, tiny, -tiny, 1e-30, -1e-30, 3, -3], dtype=dtype))
    x = np.concatenate(parts)
    x = x[np.isfinite(x) & (x != 0)]
    if low is not None:
        x = x[x > low]
    if high is not None:
        x = x[x < high]
    rng.shuffle(x)
    return np.ascontiguousarray(x[:n])


def measure(function, name, dtype, n=2000, seed=0):
    """(largest error in ulp, its arguments) of function (arrays to array), the function called `name` here."""
    rng = np.random.default_rng(seed)
    dtype = np.dtype(dtype).type
    if name in UNARY:
        reference, low, high = UNARY[name]
        args = (samples(low, high, dtype, n, rng),)
        if name in ("lgamma", "digamma"):   # without the poles
            args = (np.where((args[0] < 0) & (args[0] == np.floor(args[0])), dtype(1.5), args[0]),)
    else:
        reference = BINARY[name]
    if name in SPECIAL:
        n = min(n, 300)                     # the references are slow
        a = 10 ** rng.uniform(-2, 2, n)
        b = a * rng.uniform(0.3, 2.0, n) if name != "zeta" else 10 ** rng.uniform(-2, 3, n)
        args = ((a + 1 if name == "zeta" else a).astype(dtype), b.astype(dtype))
    elif name in BINARY:
        pair = POSITIVE.get(name, (False, False))
        args = tuple(samples(0 if p else None, None, dtype, n, rng) for p in pair)
        m = min(len(a) for a in args)
        args = tuple(np.ascontiguousarray(a[:m]) for a in args)
        if name == "pow":   # results spread over the whole range
            scale = 87.0 if dtype == np.float32 else 700.0
            y = rng.uniform(-scale, scale, m) / np.log(args[0].astype(np.float64))
            args = (args[0], np.where(np.isfinite(y), y, 1.0).clip(-1e30, 1e30).astype(dtype))
        elif name in ("div", "atan2", "hypot"):
            args = (args[0], np.where(rng.random(m) < 0.5, args[0] * rng.normal(size=m).astype(dtype), args[1]))
            args = tuple(np.where(np.isfinite(a) & (a != 0), a, dtype(1)) for a in args)
    got = np.asarray(function(*args))
    worst, where = 0.0, None
    with mp.workdps(MP_DIGITS):
        for i in range(len(got)):
            v = [float(a[i]) for a in args]
            if max(map(abs, v)) > 1e30 and name in ("sin", "cos", "tan"):
                with mp.workdps(360):
                    want = reference(*map(mp.mpf, v))
            else:
                want = reference(*map(mp.mpf, v))
            if name in ("lgamma", "digamma") and v[0] < 0 and abs(want) < 1:
                continue    # near the zeros between the negative poles only the absolute error is small
            error = ulp_error(got[i], want, dtype)
            if error > worst:
                worst, where = error, v
    return worst, where


def nanoseconds(function, name, dtype, n=1 << 16, repeats=7):
    """Best time of one element, over arguments near 1."""
    rng = np.random.default_rng(1)
    low, high = {"acosh": (1, 9), "asin": (-1, 1), "acos": (-1, 1), "atanh": (-0.99, 0.99),
                 "erfinv": (-0.99, 0.99)}.get(name, (0.1, 5))
    args = tuple(rng.uniform(low, high, n).astype(dtype) for _ in range(1 if name in UNARY else 2))
    best = math.inf
    for _ in range(repeats):
        start = time.perf_counter()
        function(*args)
        best = min(best, time.perf_counter() - start)
    return best / n * 1e9


def from_fastbp():
    """name -> function of arrays, for those of our names that fastbp has."""
    import fastbp

    spaces = [fastbp, getattr(fastbp, "special", None), getattr(getattr(fastbp, "nn", None), "functional", None)]
    aliases = {"log_sigmoid": ("log_sigmoid", "logsigmoid"), "gelu_tanh": ("gelu",)}
    orders = {"polygamma_1": 1, "polygamma_4": 4}
    found = {}
    for name in [*UNARY, *BINARY]:
        function = next((getattr(s, a) for a in aliases.get(name, (name.partition("_1")[0].partition("_4")[0],))
                         for s in spaces if hasattr(s, a)), None)
        if function is None:
            continue
        if name in orders:
            found[name] = lambda a, n=orders[name]: fastbp.polygamma(n, fastbp.tensor(a)).numpy()
            continue
        options = {"gelu_tanh": {"approximate": "tanh"}, "softplus": {"threshold": 1e9}}.get(name, {})

        def call(*arrays, function=function, options=options):
            return function(*[fastbp.tensor(a) for a in arrays], **options).numpy()
        found[name] = call
    return found


PAGE = """# Accuracy

The largest error of each scalar function that was met in {samples} arguments spread over its domain, in units in the last
place (ulp) of the result, against mpmath with {digits} digits; what is right to the last bit has 0.5. Zeros, infinities and NaN
give what C99 and PyTorch give (tests/test_point.py). Arguments near the zeros of lgamma and digamma between their negative
poles are left out: there only the absolute error is small. Written by `python tests/ulp.py --write --samples {samples}` on the
instruction set {isa}.

```python
>>> import math, fastbp
>>> x = fastbp.tensor([1e300], dtype=fastbp.float64)        # the argument is reduced exactly, however large
>>> abs(fastbp.sin(x).item() - math.sin(1e300)) < 1e-16
True
```

| function | float32 | float64 |
|---|---|---|
"""


def write_page(samples, seed):
    """docs/accuracy.md; returns the names of what misses its bound."""
    import fastbp
    lines, failed = [], []
    for name, function in from_fastbp().items():
        errors = [measure(function, name, dtype, samples, seed)[0] for dtype in (np.float32, np.float64)]
        failed += [name for e, d in zip(errors, ("float32", "float64")) if e > BOUNDS.get((name, d), BOUND)]
        lines.append(f"| {name} | {errors[0]:.2f} | {errors[1]:.2f} |\n")
    text = PAGE.format(samples=samples, digits=MP_DIGITS, isa=fastbp.config()["isa"])
    path = Path(__file__).parent.parent / "docs" / "accuracy.md"
    path.write_text(text + "".join(lines), encoding="utf-8")
    return failed


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write docs/accuracy.md")
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    parser.add_argument("--samples", type=int, default=2000, help="arguments for each function and dtype")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    if options.write:
        failed = write_page(options.samples, options.seed)
        print("beyond the bound:", ", ".join(failed) or "nothing")
        return 1 if failed else 0
    row = "| {} | {} | {} | {} | {} |" if options.markdown else "{:12} {:>12} {:>12} {:>12} {:>12}  {}"
    print(row.format("function", "ulp float32", "ulp float64", "ns float32", "ns float64", ""))
    if options.markdown:
        print("|---|---|---|---|---|")
    failed = 0
    for name, function in from_fastbp().items():
        ulps, times, note = [], [], []
        for dtype in (np.float32, np.float64):
            error, where = measure(function, name, dtype, options.samples, options.seed)
            ulps.append(f"{error:.2f}")
            times.append(f"{nanoseconds(function, name, dtype):.2f}")
            if error > BOUNDS.get((name, np.dtype(dtype).name), BOUND):
                failed += 1
                note.append(f"{np.dtype(dtype).name} at {where}")
        print(row.format(name, *ulps, *times, "; ".join(note)))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
