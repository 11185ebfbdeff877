"""Floor 3: torch.testing, comparisons of tensors for the tests of programs."""

from collections.abc import Mapping, Sequence
from numbers import Number

import numpy as np
from fastbp import _core
from fastbp._core import Tensor
from fastbp.settings import finfo

__all__ = ["assert_close", "make_tensor"]

TOLERANCES = {"float16": (1e-3, 1e-5), "bfloat16": (1.6e-2, 1e-5), "float32": (1.3e-6, 1e-5), "float64": (1e-7, 1e-7)}


def assert_close(actual, expected, *, allow_subclasses=True, rtol=None, atol=None, equal_nan=False, check_device=True,
                 check_dtype=True, check_layout=True, check_stride=False, msg=None):
    """Raise AssertionError unless |actual - expected| <= atol + rtol |expected| in every element.

    Args: actual, expected: tensors, arrays or numbers, or sequences and mappings of them, compared part by part. rtol, atol:
    both or none; by dtype 1.3e-6 and 1e-5 (float32), 1e-7 and 1e-7 (float64), 0 for integers, the larger of two dtypes.
    equal_nan: whether NaN equals NaN. check_dtype, check_stride: whether these must be equal. msg: what to say instead, or a
    function of what would be said.
    Raises: AssertionError with the place and size of the largest differences; TypeError for what cannot be compared.
    Source: torch.testing.assert_close

    >>> import fastbp
    >>> from fastbp.testing import assert_close
    >>> assert_close(fastbp.tensor([1.0, 2.0]), fastbp.tensor([1.0, 2.0 + 1e-6]))
    >>> assert_close({"a": [1.0]}, {"a": [1.1]})
    Traceback (most recent call last):
    AssertionError: Scalars are not close! ...
    """
    if (rtol is None) != (atol is None):
        raise ValueError(f"assert_close: rtol {rtol} and atol {atol}; give both or neither.")
    wrong = _difference(actual, expected, rtol, atol, equal_nan, check_dtype, check_stride, "")
    if wrong is not None:
        raise AssertionError(wrong if msg is None else msg(wrong) if callable(msg) else msg)


def _difference(a, b, rtol, atol, equal_nan, check_dtype, check_stride, at):
    """None, or what is wrong."""
    rest = (rtol, atol, equal_nan, check_dtype, check_stride)
    item = f"\n\nThe failure occurred for item {at}" if at else ""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        if set(a) != set(b):
            return f"The keys of the mappings do not match: {sorted(map(str, a))} and {sorted(map(str, b))}{item}"
        parts = ((k, a[k], b[k]) for k in a)
    elif _is_sequence(a) and _is_sequence(b):
        if len(a) != len(b):
            return f"The length of the sequences mismatch: {len(a)} != {len(b)}{item}"
        parts = ((k, x, y) for k, (x, y) in enumerate(zip(a, b)))
    else:
        return _apart(a, b, *rest, item)
    return next((w for k, x, y in parts if (w := _difference(x, y, *rest, f"{at}[{k!r}]" if at else f"[{k!r}]"))), None)


def _is_sequence(x):
    return isinstance(x, Sequence) and not isinstance(x, str)


def _array(x):
    """(array, dtype, strides or None)."""
    if isinstance(x, Tensor):
        t = x.detach()
        return (t.float() if t.dtype in (_core.float16, _core.bfloat16) else t).numpy(), repr(t.dtype).split(".")[1], t.stride()
    if isinstance(x, (Number, np.generic, np.ndarray)):
        array = np.asarray(x)
        return array, str(array.dtype), None
    return None, None, None


def _apart(x, y, rtol, atol, equal_nan, check_dtype, check_stride, item):
    (a, first, steps), (b, second, others) = _array(x), _array(y)
    if a is None or b is None:
        if x is None and y is None:
            return None
        raise TypeError(f"assert_close: {type(x).__name__} and {type(y).__name__} cannot be compared; give tensors, arrays or "
                        "numbers.")
    numbers = isinstance(x, Number) and isinstance(y, Number)
    if a.shape != b.shape:
        return f"The values for attribute 'shape' do not match: {a.shape} != {b.shape}.{item}"
    if check_dtype and not numbers and first != second:
        return f"The values for attribute 'dtype' do not match: {first} != {second}.{item}"
    if check_stride and steps != others:
        return f"The values for attribute 'stride()' do not match: {steps} != {others}.{item}"
    if rtol is None:
        rtol, atol = (max(TOLERANCES.get(d, (0.0, 0.0))[k] for d in (first, second)) for k in (0, 1))
    wide = np.float64 if "float" in a.dtype.name + b.dtype.name else object      # integers: exactly, whatever their size
    p, q = a.astype(wide), b.astype(wide)
    with np.errstate(all="ignore"):
        gap = np.abs(p - q)
        close = (p == q) | (gap <= atol + rtol * np.abs(q)) & (np.isfinite(q) if wide is np.float64 else True)
    if equal_nan and wide is np.float64:
        close = close | (np.isnan(p) & np.isnan(q))
    close = np.asarray(close, bool)
    if close.all():
        return None
    gap = np.where(close, 0, gap).astype(np.float64)
    with np.errstate(all="ignore"):
        relative = np.where(close, 0, gap / np.abs(q).astype(np.float64))
    if a.ndim == 0:
        return (f"Scalars are not close!\n\nExpected {b.item()} but got {a.item()}.\nAbsolute difference: {gap} (up to {atol} "
                f"allowed)\nRelative difference: {relative} (up to {rtol} allowed){item}")
    return (f"Tensor-likes are not close!\n\nMismatched elements: {(~close).sum()} / {close.size} "
            f"({100 * (~close).mean():.1f}%)\n"
            f"Greatest absolute difference: {np.nanmax(gap)} at index {_index(gap)} (up to {atol} allowed)\n"
            f"Greatest relative difference: {np.nanmax(relative)} at index {_index(relative)} (up to {rtol} allowed){item}")


def _index(x):
    return tuple(int(k) for k in np.unravel_index(np.nanargmax(x), x.shape))


def make_tensor(*shape, dtype, device="cpu", low=None, high=None, requires_grad=False, noncontiguous=False, exclude_zero=False,
                memory_format=None):
    """A tensor of random values, uniform in [low, high).

    Args: shape: ints, or one sequence of them. dtype. low, high: by default -9 and 9 (0 and 9 for uint8, 0 and 2 for bool).
    noncontiguous: of every second element of a larger tensor. exclude_zero: zeros become the smallest positive value, or 1.
    Source: torch.testing.make_tensor

    >>> from fastbp.testing import make_tensor
    >>> t = make_tensor(2, 3, dtype=fastbp.int64, low=1, high=4)
    >>> t.shape, bool(((t >= 1) & (t < 4)).all())
    (torch.Size([2, 3]), True)
    """
    sizes = tuple(shape[0]) if len(shape) == 1 and not isinstance(shape[0], int) else shape
    floating = dtype.is_floating_point
    smallest = 0 if dtype in (_core.bool_, _core.uint8) else -9
    low = smallest if low is None else low
    high = (2 if dtype is _core.bool_ else 10 if not floating else 9) if high is None else high
    if low >= high:
        raise ValueError(f"make_tensor: low {low} must be less than high {high}.")
    wider = (*sizes[:-1], 2 * sizes[-1]) if noncontiguous and sizes else sizes
    if floating:
        t = (_core.rand(wider, dtype=_core.float64) * (high - low) + low).to(dtype)
    else:
        t = _core.randint(int(low), int(high), wider, dtype=_core.int64).to(dtype)
    t = t[..., ::2] if noncontiguous and sizes else t
    if exclude_zero:
        t = t.masked_fill(t == 0, finfo(dtype).tiny if floating else 1)
    return t.requires_grad_() if requires_grad else t
