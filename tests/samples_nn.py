"""Sample arguments for attention, embedding bags, losses and recurrent layers (see _samples.py)."""

from fastbp import _core


def _attention(rng):
    n = rng.standard_normal
    mask = rng.random((4, 5)) < 0.6
    mask[1] = False                         # a query that may look at nothing
    yield n((2, 3, 4, 3)), n((2, 3, 5, 3)), n((2, 3, 5, 2)), n((3, 4, 5)), 0.0, False, None, False
    yield n((2, 4, 3)), n((1, 5, 3)), n((2, 5, 2)), mask, 0.0, False, 0.7, False
    yield n((5, 3)), n((4, 3)), n((4, 2)), None, 0.0, True, None, False
    yield n((2, 4, 3, 2)), n((2, 2, 3, 2)), n((2, 1, 3, 2)), None, 0.0, False, None, True


def _many_heads(rng):
    n = rng.standard_normal
    x = n((3, 2, 4))
    yield (x, n((5, 2, 4)), n((5, 2, 4)), 4, 2, n((12, 4)), n(12), None, None, False, 0.0, n((4, 4)), n(4), True,
           rng.random((2, 5)) < 0.3, True, rng.random((3, 5)) < 0.2, False, None, None, None, None, None, True, False)
    yield (x, n((5, 2, 3)), n((5, 2, 2)), 4, 2, None, n(12), n((1, 1, 4)), n((1, 1, 4)), True, 0.0, n((4, 4)), None, True,
           None, True, n((4, 3, 5)), True, n((4, 4)), n((4, 3)), n((4, 2)), None, None, False, False)


SAMPLES = {
    "scaled_dot_product_attention": _attention,
    "multi_head_attention_forward": _many_heads,
}


def joined(f):
    """f with its results as one vector."""
    return lambda *args: _core.cat([y.reshape(-1) for y in f(*args) if y is not None])


DOORS = {
    "multi_head_attention_forward": joined(_core.multi_head_attention_forward),
}
