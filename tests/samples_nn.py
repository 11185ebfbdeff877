"""Sample arguments for attention, embedding bags, losses and recurrent layers (see _samples.py)."""

import numpy as np
from fastbp import _core

# ---- attention ------------------------------------------------------------------------------------------------------


def _attention(rng):
    n = rng.standard_normal
    mask = rng.random((4, 5)) < 0.6
    mask[1] = False                         # a query that may look at nothing
    yield n((2, 3, 4, 3)), n((2, 3, 5, 3)), n((2, 3, 5, 2)), n((3, 4, 5)), 0.0, False, None, False
    yield n((2, 4, 3)), n((1, 5, 3)), n((2, 5, 2)), mask, 0.0, False, 0.7, False
    yield n((5, 3)), n((4, 3)), n((4, 2)), None, 0.0, True, None, False
    yield n((2, 4, 3, 2)), n((2, 2, 3, 2)), n((2, 1, 3, 2)), None, 0.0, False, None, True


def _tiles(rng):
    """Lengths above and below the 64 of a tile."""
    n = rng.standard_normal
    allowed = rng.random((70, 1)) < 0.8
    yield n((2, 70, 3)), n((2, 66, 3)), n((2, 66, 2)), None, False, 0.6, 0.0, None
    yield n((2, 1, 70, 3)), n((2, 1, 66, 3)), n((2, 1, 66, 2)), rng.random((70, 66)) < 0.5, False, 0.6, 0.25, np.array([12345])
    yield n((3, 4)), n((5, 4)), n((5, 4)), None, True, 0.6, 0.0, None
    yield n((70, 2)), n((70, 2)), n((70, 3)), None, True, 0.6, 0.0, None
    yield n((2, 70, 2)), n((2, 5, 2)), n((2, 5, 3)), allowed, False, 0.6, 0.5, np.array([-7])


def _many_heads(rng):
    n = rng.standard_normal
    x = n((3, 2, 4))
    yield (x, n((5, 2, 4)), n((5, 2, 4)), 4, 2, n((12, 4)), n(12), None, None, False, 0.0, n((4, 4)), n(4), True,
           rng.random((2, 5)) < 0.3, True, rng.random((3, 5)) < 0.2, False, None, None, None, None, None, True, False)
    yield (x, n((5, 2, 3)), n((5, 2, 2)), 4, 2, None, n(12), n((1, 1, 4)), n((1, 1, 4)), True, 0.0, n((4, 4)), None, True,
           None, True, n((4, 3, 5)), True, n((4, 4)), n((4, 3)), n((4, 2)), None, None, False, False)


def _bags(rng):
    n = rng.standard_normal
    yield rng.integers(0, 5, (2, 3)), n((5, 4)), None, False, "mean", None, False, 1
    yield np.array([0, 2, 2, 4, 1]), n((5, 3)), np.array([0, 2, 2]), False, "sum", None, False, None
    yield np.array([0, 2, 2, 4, 1]), n((5, 3)), np.array([0, 2, 2, 5]), False, "sum", n(5), True, 2
    yield np.array([0, 2, 2, 4, 1]), _apart(rng, (5, 3)), np.array([0, 3, 3]), False, "max", None, False, 4


# ---- losses ---------------------------------------------------------------------------------------------------------


def _apart(rng, shape):
    """Numbers whose differences, and distances to 0 and 1, are at least 0.05: no kink is near."""
    n = int(np.prod(shape))
    return ((rng.permutation(n) - n // 2) * 0.27 + 0.1).reshape(shape)


def _signs(rng, *shape):
    return np.where(rng.random(shape) < 0.5, -1, 1)


def _reductions(make):
    return lambda rng: [make(rng, reduction) for reduction in ("mean", "sum", "none")]


# ---- recurrent layers -----------------------------------------------------------------------------------------------


def _steps(gates, states, *, bias=False, projected=False, tail=()):
    """Samples of a sequence row: both directions, with and without lengths."""
    def make(rng):
        n = rng.standard_normal
        for reverse in (False, True):
            for lengths in (None, np.array([4, 3, 1])):
                h, p = 3, 2 if projected else 3
                args = [n((4, 3, gates * h)), n((gates * h, p))]
                args += [n((p, h))] if projected else []
                args += [n(gates * h) if reverse else None] if bias else []
                args += [n((3, p)), n((3, h))][:states]
                yield (*args, lengths, reverse, *tail)
    return make


def _layers(gates, pair=False):
    def make(rng):
        n = rng.standard_normal
        g = gates * 3
        params = [n(s) for size in (2, 6) for _ in range(2) for s in ((g, size), (g, 3), (g,), (g,))]
        h = [n((4, 2, 3)) for _ in range(1 + pair)]
        yield n((3, 2, 2)), h if pair else h[0], params, True, 2, 0.0, True, True, False, None
        h = [n((1, 3, 2 if pair else 3)), n((1, 3, 3))][:1 + pair]
        params = [n((g, 2)), n((g, 2 if pair else 3))] + ([n((2, 3))] if pair else [])
        yield n((3, 4, 2)), h if pair else h[0], params, False, 1, 0.0, False, False, True, np.array([4, 2, 2])
    return make


def _cells(gates, pair=False):
    def make(rng):
        n = rng.standard_normal
        h = [n((4, 3)), n((4, 3))] if pair else n((4, 3))
        yield n((4, 2)), h, n((gates * 3, 2)), n((gates * 3, 3)), n(gates * 3), n(gates * 3)
        yield n((4, 2)), h, n((gates * 3, 2)), n((gates * 3, 3)), None, None
    return make


SAMPLES = {
    "rnn_steps": lambda rng: [*_steps(1, 1, tail=(False,))(rng), *_steps(1, 1, tail=(True,))(rng)],
    "gru_steps": _steps(3, 1, bias=True),
    "lstm_steps": _steps(4, 2),
    "lstm_steps_projected": _steps(4, 2, projected=True),
    "rnn_tanh": _layers(1), "rnn_relu": _layers(1), "gru": _layers(3), "lstm": _layers(4, True),
    "rnn_tanh_cell": _cells(1), "rnn_relu_cell": _cells(1), "gru_cell": _cells(3), "lstm_cell": _cells(4, True),
    "_pack_padded_sequence": lambda rng: [(rng.standard_normal((4, 3, 2)), np.array([4, 2, 1]), False),
                                          (rng.standard_normal((2, 3)), np.array([2, 2]), True)],
    "_pad_packed_sequence": lambda rng: [(rng.standard_normal((6, 2)), np.array([3, 2, 1]), False, 1.5, 4),
                                         (rng.standard_normal(5), np.array([3, 2]), True, 0.0, 0)],
    "pad_sequence": lambda rng: [([rng.standard_normal((2, 3)), rng.standard_normal((4, 3))], True, 0.5, "left"),
                                 ([rng.standard_normal((2, 3)), rng.standard_normal((0, 3))], False, 0.0, "right")],
    "attention": _tiles,
    "scaled_dot_product_attention": _attention,
    "multi_head_attention_forward": _many_heads,
    "embedding_bag": _bags,
    "margin_ranking_loss": _reductions(lambda rng, r: (
        _apart(rng, (3, 4)), _apart(rng, (3, 4)) + 0.03, _signs(rng, 3, 4), 0.2, None, None, r)),
    "hinge_embedding_loss": _reductions(lambda rng, r: (_apart(rng, (3, 4)), _signs(rng, 3, 4), 0.5, None, None, r)),
    "soft_margin_loss": _reductions(lambda rng, r: (rng.standard_normal((3, 4)), rng.standard_normal((3, 4)), None, None, r)),
    "multilabel_soft_margin_loss": _reductions(lambda rng, r: (
        rng.standard_normal((3, 4)), rng.uniform(0, 1, (3, 4)), rng.uniform(0.5, 2, 4), None, None, r)),
    "cosine_embedding_loss": _reductions(lambda rng, r: (
        rng.standard_normal((5, 3)), rng.standard_normal((5, 3)), _signs(rng, 5), -0.9, None, None, r)),
    "multi_margin_loss": _reductions(lambda rng, r: (
        _apart(rng, (3, 4)), np.array([1, 0, 3]), 2 if r == "sum" else 1, 0.8, rng.uniform(0.5, 2, 4), None, None, r)),
    "multilabel_margin_loss": _reductions(lambda rng, r: (
        _apart(rng, (3, 4)), np.array([[1, 0, -1, 2], [3, 3, 1, 0], [-1, 0, 0, 0]]), None, None, r)),
    "triplet_margin_loss": _reductions(lambda rng, r: (
        rng.standard_normal((3, 4)), rng.standard_normal((3, 4)), rng.standard_normal((3, 4)), 3.0, 2.0, 1e-6, r == "sum", None,
        None, r)),
    "triplet_margin_with_distance_loss": _reductions(lambda rng, r: (
        rng.standard_normal((3, 4)), rng.standard_normal((3, 4)), rng.standard_normal((3, 4)), None, 3.0, r == "sum", r)),
    "gaussian_nll_loss": _reductions(lambda rng, r: (
        rng.standard_normal((3, 4)), rng.standard_normal((3, 4)), rng.uniform(0.5, 2, 3 if r == "sum" else (3, 4)),
        r == "none", 1e-6, r)),
    "poisson_nll_loss": _reductions(lambda rng, r: (
        rng.uniform(0.5, 2, (3, 4)), rng.uniform(1.2, 3, (3, 4)), r == "mean", r != "mean", None, 1e-8, None, r)),
    "linear_cross_entropy": lambda rng: [
        (rng.standard_normal((3, 4)), rng.standard_normal((5, 4)), np.array([1, 0, 4]), rng.standard_normal(5),
         None, "mean", None, 0.1, None),
        (rng.standard_normal((3, 4)), rng.standard_normal((5, 2, 4)), np.array([[1, 0], [2, 2], [3, 4]]), None,
         None, "none", 2, 0.0, None)],
    "ctc_loss": lambda rng: [
        (rng.standard_normal((6, 3, 4)) - 1.5, np.array([[1, 2, 2], [3, 1, 0], [0, 0, 0]]), (6, 5, 4), (3, 2, 0), 0, "mean",
         False),
        (rng.standard_normal((5, 2, 4)) - 1.5, np.array([1, 2, 1]), np.array([5, 1]), np.array([1, 2]), 3, "none", True),
        (rng.standard_normal((5, 4)) - 1.5, np.array([1, 2, 1]), (5,), (3,), 0, "sum", False)],
    "gumbel_softmax": lambda rng: [(rng.standard_normal((3, 4)), 0.7, False, 1e-10, -1),
                                   (rng.standard_normal((3, 4)), 1.3, False, 1e-10, 0)],
}


DOORS = {
    # its gradient is right for the results of log_softmax
    "ctc_loss": lambda log_probs, *args: _core.ctc_loss(_core.log_softmax(log_probs, -1), *args),
}
