"""Single operations at every size from 1 to 1,000,000 numbers, of vectors, matrices, views of them, images and sequences, of
floats, integers and bools, against torch: what a call costs inside the caches.

    python benchmarks/bench_sizes.py [--threads 1] [--cases "sum(),tanh"] [--rounds 5] [--json sizes.json]

A line is an operation in one dtype, a cell torch's time by fastbp's at one shape (below 1: fastbp is slower).  `+ backward`:
the value and the gradients of its floating operands (of a loss: of its first).  At the end: how many cells are below 1, and
which.  Sizes beyond the caches are in bench_kernels.py, products in bench_gemm.py, convolutions in bench_conv.py.

The same numbers again and again: what branches on them (torch's sorting of some thousand) is timed with branches learnt by heart.
"""

import functools
import importlib
import math
import time
import zlib

import numpy as np
from _peers import OURS, Job, main, seconds_text

SPELL = 2e-4        # seconds that a cell is repeated for within one measurement
VECTORS = [(10 ** i,) for i in range(7)]
MATRICES = [(10, 10), (10, 100), (100, 10), (100, 100), (10, 1000), (1000, 10), (100, 1000), (10, 10_000), (10_000, 10),
            (1000, 1000), (10, 100_000), (100_000, 10)]
IMAGES = [(1, 1, 4, 4), (1, 3, 32, 32), (8, 16, 16, 16), (32, 64, 8, 8), (16, 32, 32, 32), (2, 3, 224, 224), (64, 512, 4, 4)]
SEQUENCES = [(1, 16, 64), (32, 10, 10), (4, 64, 128), (2, 500, 64), (8, 128, 256), (16, 32, 1000)]
FEW_ROWS = [shape for shape in MATRICES if shape[0] <= 100]     # the result has a number for each pair of rows



def numbers(shape, dtype, random):
    """Normal numbers, integers from 1 to 99, or as many True as False."""
    if dtype == "bool":
        return random.random(shape) < 0.5
    return (random.standard_normal(shape) if dtype.startswith("float") else random.integers(1, 100, shape)).astype(dtype)


# An operation is an expression of T (the library), F (its nn.functional) and operands: a name stands for an array by shape,
# dtype and a generator.  To add an operation, add its expression to a list below.
OPERANDS = {
    "x": lambda s, t, r: numbers(s, t, r),
    "y": lambda s, t, r: numbers(s, t, r),
    "p": lambda s, t, r: r.uniform(0.05, 0.95, s).astype(t),                # within the domain of every function but acosh
    "q": lambda s, t, r: r.uniform(0.05, 0.95, s).astype(t),
    "b": lambda s, t, r: r.uniform(1.5, 9.5, s).astype(t),
    "s": lambda s, t, r: np.sign(r.standard_normal(s)).astype(t),
    "o": lambda s, t, r: np.sort(r.standard_normal(s).astype(t), -1),
    "m": lambda s, t, r: r.random(s) < 0.5,
    "d": lambda s, t, r: r.integers(0, 10, s),
    "row": lambda s, t, r: numbers(s[-1], t, r),
    "column": lambda s, t, r: numbers((s[0], 1), t, r),
    "grid": lambda s, t, r: np.tanh(r.standard_normal((s[0], s[2], s[3], 2))).astype(t),
    "channel": lambda s, t, r: numbers((s[1], 1, 1), t, r),
    "wide": lambda s, t, r: (r.standard_normal((s[-1], 2 * s[-1])) / math.sqrt(s[-1])).astype(t),
    "seen": lambda s, t, r: np.tri(s[1], dtype=bool),                       # who sees whom
    "tokens": lambda s, t, r: r.integers(0, s[-1], s[:2]),
    "last": lambda s, t, r: r.uniform(0.5, 1.5, s[-1]).astype(t),
    "scales": lambda s, t, r: r.uniform(0.5, 1.5, s[1]).astype(t),          # one for each channel
    "signs": lambda s, t, r: np.sign(r.standard_normal(s[0])).astype(t),    # one for each row
    "classes": lambda s, t, r: r.integers(0, s[-1], s[0]),                  # one for each row
    "labels": lambda s, t, r: np.where(np.arange(s[-1]) < 3, r.integers(0, s[-1], s), -1),     # up to three for each row
    "i": lambda s, t, r: r.integers(0, s[0], s[0]),                         # positions along the first dimension
    "j": lambda s, t, r: r.integers(0, s[-1], s[-1]),                       # along the last
    "i_all": lambda s, t, r: r.integers(0, s[0], s),                        # one for each number
    "j_all": lambda s, t, r: r.integers(0, s[-1], s),
    "seed": lambda s, t, r: np.asarray(r.standard_normal(s), dtype=t),      # of the gradients, by the shape of the result
}
POINTWISE = [
    "T.exp(p)", "T.log(p)", "T.sqrt(p)", "T.rsqrt(p)", "T.erf(p)", "T.erfc(p)", "T.erfinv(p)", "T.log1p(p)", "T.expm1(p)",
    "T.exp2(p)", "T.log2(p)", "T.log10(p)", "T.tan(p)", "T.asin(p)", "T.acos(p)", "T.atan(p)", "T.sinh(p)", "T.cosh(p)",
    "T.asinh(p)", "T.atanh(p)", "T.lgamma(p)", "T.digamma(p)", "T.tanh(x)", "T.sigmoid(x)", "T.sin(x)", "T.cos(x)", "T.abs(x)",
    "T.neg(x)", "T.reciprocal(x)", "T.square(x)", "T.floor(x)", "T.ceil(x)", "T.round(x)", "T.trunc(x)", "T.frac(x)",
    "T.sign(x)", "T.isnan(x)", "T.isfinite(x)", "T.logical_not(x)", "T.acosh(b)", "T.add(x, y)", "T.sub(x, y)", "T.mul(x, y)",
    "T.div(x, y)", "T.maximum(x, y)", "T.minimum(x, y)", "T.fmod(x, y)", "T.remainder(x, y)", "x // y", "T.eq(x, y)",
    "T.lt(x, y)", "T.copysign(x, y)", "T.logaddexp(x, y)", "T.pow(p, q)", "T.atan2(p, q)", "T.hypot(p, q)", "F.relu(x)",
    "F.relu6(x)", "F.leaky_relu(x)", "F.elu(x)", "F.celu(x)", "F.selu(x)", "F.gelu(x)", "F.silu(x)", "F.mish(x)", "F.softplus(x)",
    "F.hardtanh(x)", "F.hardswish(x)", "F.hardsigmoid(x)", "F.logsigmoid(x)", "F.softsign(x)", "F.tanhshrink(x)", "x + 1.0",
    "x * 2.0", "x ** 2", "x ** 3", "p ** 0.5", "x.clamp(-1, 1)", "T.where(m, x, y)", "x.masked_fill(m, 0.0)",
    "T.special.gammainc(p, q)", "T.special.polygamma(1, p)", "T.lerp(x, y, 0.3)", "T.addcmul(x, x, y)",
    "T.addcdiv(x, x, p)", "x.add_(y, alpha=1e-9)", "x.mul_(1.0)", "x.copy_(y)", "x.fill_(1.0)", "x.clone()",
    "T.zeros_like(x)", "x.to(T.float32)", "x.to(T.float64)", "x.to(T.int64)",
]
LOSSES = [
    "F.mse_loss(x, y)", "F.l1_loss(x, y)", "F.smooth_l1_loss(x, y)", "F.huber_loss(x, y)", "F.binary_cross_entropy(p, q)",
    "F.binary_cross_entropy_with_logits(x, q)", "F.kl_div(x, q, reduction='batchmean')", "F.poisson_nll_loss(x, q)",
    "F.gaussian_nll_loss(x, y, q)", "F.soft_margin_loss(x, s)", "F.hinge_embedding_loss(x, s)",
    "F.mse_loss(x, y, reduction='none')",
]
RANDOM = [     # every library draws numbers of its own: nothing to compare
    "T.rand(x.shape, dtype=x.dtype)", "T.randn(x.shape, dtype=x.dtype)", "T.randint(0, 10, x.shape)", "T.randperm(x.numel())",
    "T.bernoulli(p)", "F.dropout(x, 0.1)", "T.multinomial(p, min(10, p.shape[-1]), True)",
]
ALONG = [      # of vectors and matrices
    "x.sum()", "x.prod()", "x.max()", "x.argmax()", "x.aminmax()", "x.var()", "T.linalg.vector_norm(x)",
    "T.linalg.vector_norm(x, 1)", "x.all()", "x.isnan().any()", "x.median()", "x.count_nonzero()", "x.sort()", "x.argsort()",
    "x.topk(min(10, x.shape[-1]))", "x.kthvalue((x.shape[-1] + 1) // 2)", "x.softmax(-1)", "x.log_softmax(-1)",
    "x.logsumexp(-1)", "x.cumsum(-1)", "x.cumprod(-1)", "x.cummax(-1)", "x.logcumsumexp(-1)", "T.unique(x)", "T.nonzero(m)",
    "x.flip(-1)", "x.roll(1, -1)", "x.diff()", "F.layer_norm(x, x.shape[-1:])", "F.normalize(x, dim=-1)", "x.masked_select(m)",
    "T.cat([x, y])", "T.stack([x, y])", "T.cat([x, y], -1)", "T.stack([x, y], -1)", "x.index_select(0, i)", "x[i]",
    "x.gather(-1, j_all)", "x.scatter(-1, j_all, 1.0)", "x.scatter_add(-1, j_all, y)", "x.index_add(0, i, y)",
    "F.one_hot(d, 10)", "T.bincount(d.reshape(-1))", "T.searchsorted(o, x)", "T.histc(x, 10)",
    "T.dot(x.reshape(-1), y.reshape(-1))", "T.equal(x, x)",
]
OF_MATRICES = [
    "x.sum(0)", "x.sum(1)", "x.mean(0)", "x.mean(1)", "x.prod(0)", "x.prod(1)", "x.max(0)", "x.max(1)", "x.amax(0)",
    "x.amax(1)", "x.argmax(0)", "x.argmax(1)", "x.var(0)", "x.var(1)", "x.all(0)", "x.all(1)", "x.any(0)", "x.any(1)",
    "T.linalg.vector_norm(x, dim=0)", "T.linalg.vector_norm(x, dim=1)", "x.median(1)", "x.softmax(0)", "x.log_softmax(0)",
    "x.logsumexp(0)", "x.cumsum(0)", "x.cumprod(0)", "x.cummax(0)", "x.sort(0)", "x.topk(3, 0)", "x.kthvalue(2, 0)",
    "x.flip(0)", "x.gather(0, i_all)", "x.scatter_add(0, i_all, y)", "x.index_select(1, j)", "F.embedding(i, x)", "x.tril()",
    "x.t().contiguous()", "x.t() + y.t()", "x + row", "x * column", "F.glu(x)", "x.repeat(2, 1)", "x.repeat_interleave(2, 0)",
    "F.rms_norm(x, x.shape[-1:])", "F.batch_norm(x, None, None, training=True)",
]
OF_VIEWS = [   # matrices that lie with gaps, turned, or repeated
    "x[:, 1:-1].sum()", "x[:, 1:-1].sum(0)", "x[:, 1:-1].sum(1)", "x[:, 1:-1].mean(1)", "x[:, 1:-1].amax(1)",
    "x[:, 1:-1].argmax(1)", "x[:, 1:-1].var(1)", "x[:, 1:-1] + 1.0", "x[:, 1:-1] + x[:, 2:]", "x[:, 1:-1].softmax(-1)",
    "x[:, 1:-1].cumsum(-1)", "x[::2].sum(0)", "x[::2] * 2.0", "x[:, ::2].sum(1)", "x[:, ::2].contiguous()", "x.t().sum(0)",
    "x.t().softmax(-1)", "x.t().norm()", "x.t().exp()",
    "row.expand_as(x).sum(0)", "row.expand_as(x).contiguous()", "column.expand_as(x).contiguous()", "x[:, j[:10]]",
    "x.t()[:, i[:10]]", "x[:, 1:-1][i]", "T.cat([x[:, 1:], x[:, :1]], 1)", "x[:, 1:-1].clone()",
]
OF_INDICES = [  # rows at positions that are expanded, masks, several indices, pairs of rows
    "x.gather(0, i.unsqueeze(1).expand(x.shape))", "x.scatter(0, i.unsqueeze(1).expand(x.shape), y)",
    "x.scatter_add(0, i.unsqueeze(1).expand(x.shape), y)", "x.scatter_reduce(0, i.unsqueeze(1).expand(x.shape), y, 'amax')",
    "x.scatter_reduce(0, i.unsqueeze(1).expand(x.shape), y, 'mean')", "x.index_reduce(0, i, y, 'amax')", "x[m]", "x.t()[m.t()]",
    "x[i > 0]", "(x.__setitem__(m, 0.5), x)[1]", "(x.__setitem__(m, y[m]), x)[1]", "x[i, i % x.shape[1]]",
    "x.index_put((i, i % x.shape[1]), y[:, 0])", "x.masked_scatter(m, y)", "T.where(m)[1]", "x[:3].unsqueeze(1) - y",
    "x[:, :3].t().unsqueeze(1) - y.t()", "x.t()[j[:10]]", "x.select_scatter(row, 0, 1)",
]
LOSSES_OF_ROWS = [
    "F.cross_entropy(x, classes)", "F.nll_loss(x, classes)", "F.multi_margin_loss(x, classes)",
    "F.multilabel_margin_loss(x, labels)",
    "F.cosine_similarity(x, y, dim=-1)", "F.pairwise_distance(x, y)", "F.triplet_margin_loss(x, y, p)",
    "F.cosine_embedding_loss(x, y, signs)",
]
OF_ROWS = [
    "T.cdist(x, y)", "T.cov(x)", "F.pdist(x)",
]
OF_IMAGES = [
    "x + channel", "x * channel", "x.sum((0, 2, 3))", "x.mean((2, 3))", "x.amax((2, 3))", "x.var((0, 2, 3))", "x.sum(1)",
    "x.max(1)[0]", "x.argmax(1)", "x.softmax(1)", "x.log_softmax(1)", "x.permute(0, 2, 3, 1).contiguous()",
    "x.permute(0, 2, 3, 1) * 2.0", "x.transpose(1, 2).contiguous()", "x.flip(-1)", "x.flip(2)", "x.roll((1, 1), (2, 3))",
    "x[:, :, ::2, ::2].contiguous()", "x[:, :, 1:-1, 1:-1] + 1.0", "T.cat([x, y], 1)", "x.chunk(1, 1)[0] + y",
    "F.pad(x, (1, 1, 1, 1))", "F.pad(x, (1, 1, 1, 1), mode='reflect')", "F.pad(x, (2, 1, 1, 0), mode='replicate')",
    "F.grid_sample(x, grid, align_corners=False)", "F.max_pool2d(x, 2)", "F.max_pool2d(x, 3, 2, 1)",
    "F.avg_pool2d(x, 2)", "F.adaptive_avg_pool2d(x, 1)", "F.adaptive_max_pool2d(x, 2)", "F.lp_pool2d(x, 2.0, 2)",
    "F.interpolate(x, scale_factor=2)", "F.interpolate(x, scale_factor=2, mode='bilinear')", "F.unfold(x, 3, padding=1)",
    "F.batch_norm(x, None, None, training=True)", "F.batch_norm(x, scales.detach(), scales.detach(), scales, scales)",
    "F.instance_norm(x)", "F.group_norm(x, 1, scales, scales)", "F.layer_norm(x, x.shape[1:])", "F.local_response_norm(x, 3)",
    "F.normalize(x)", "F.relu(x)", "F.prelu(x, scales)", "F.pixel_unshuffle(x, 2)", "F.mse_loss(x, y)",
    "F.cosine_similarity(x, y)", "x.flatten(1)", "x.clone(memory_format=T.channels_last)", "x.sum(-1).sum(-1)", "x.cumsum(1)",
    "x.expand(2, *x.shape).contiguous()", "T.einsum('nchw,nchw->nc', x, y)", "T.where(m, x, y)", "x.unfold(2, 2, 2).sum(-1)",
    "x.std(1)",
]
OF_SEQUENCES = [
    "x @ wide", "F.linear(x, wide.t(), None)", "T.bmm(x, y.transpose(1, 2))", "T.einsum('btc,bsc->bts', x, y)",
    "T.einsum('btc,cd->btd', x, wide)", "T.matmul(x, y.transpose(-2, -1)).masked_fill(~seen, float('-inf')).softmax(-1) @ y",
    "F.scaled_dot_product_attention(x, y, x, is_causal=True)", "x.transpose(1, 2).contiguous()", "x.transpose(0, 1).contiguous()",
    "x.mean(1)", "x.max(1)[0]", "x.sum((0, 1))", "x[:, -1]", "x[:, 1:] - x[:, :-1]", "x[..., ::2] * 2.0", "T.cat([x, y], 1)",
    "T.cat([x[..., x.shape[-1] // 2:], x[..., :x.shape[-1] // 2]], -1)", "T.stack([x, y], 2).flatten(2)",
    "x.chunk(2, -1)[0] * x.chunk(2, -1)[1]", "x.softmax(1)", "x.cumsum(1)", "x.roll(1, 1)", "x.flip(1)",
    "F.layer_norm(x, x.shape[-1:], last, last)", "F.rms_norm(x, x.shape[-1:], last)",
    "x * T.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * last", "F.embedding(tokens, wide)",
    "F.cross_entropy(x.flatten(0, 1), tokens.flatten())", "x.gather(-1, tokens.unsqueeze(-1))",
    "x.unflatten(-1, (2, -1)).transpose(1, 2)[:, 0] + 1.0", "F.conv1d(x.transpose(1, 2), wide.t().unsqueeze(-1))",
    "F.pad(x, (0, 0, 1, 0))", "x.repeat_interleave(2, 1)", "x.var(-1, keepdim=True)",
    "(x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True)", "F.normalize(x, dim=-1)", "T.cdist(x, y)",
    "x.square().sum(-1).sqrt()", "F.silu(x) * y", "F.gelu(x @ wide)", "T.lerp(x, y, last)", "T.addmm(last.repeat(2), x[0], wide)",
    "x.norm(dim=-1)", "T.outer(last, last)", "T.tensordot(x, wide, 1)", "x.sigmoid() * x.tanh()", "F.glu(x)",
    "F.kl_div(x.log_softmax(-1), y.softmax(-1))",
]
WHOLE = [      # of integers and of bools
    "T.eq(x, y)", "T.lt(x, y)", "x == 1", "x != 1", "T.bitwise_and(x, y)", "T.bitwise_not(x)", "T.logical_or(x, y)",
    "T.logical_not(x)", "T.where(m, x, y)", "x.masked_fill(m, 0)", "x.fill_(1)", "x.clone()", "T.zeros_like(x)", "x.copy_(y)",
    "x.to(T.float32)", "x.to(T.float64)", "x.to(T.int64)", "x.to(T.int32)", "x.to(T.uint8)", "x.to(T.bool)", "x.sum()", "x.max()",
    "x.all()", "x.any()", "x.count_nonzero()", "T.nonzero(x)", "T.unique(x)", "x.sort()", "x.cumsum(-1)", "x.flip(-1)",
    "x.roll(1, -1)", "T.cat([x, y])", "T.stack([x, y], -1)", "x.index_select(0, i)", "x[i]", "x[m]", "x.gather(-1, j_all)",
    "x.scatter(-1, j_all, y)", "x.masked_select(m)", "T.equal(x, x)", "x.repeat_interleave(2, 0)",
]
INTEGERS = [   # of integers alone
    "T.add(x, y)", "T.sub(x, y)", "T.mul(x, y)", "T.div(x, y)", "x // y", "x % y", "x // 7", "x % 7", "x + 1", "x * 3", "x / 2",
    "T.abs(x)", "T.neg(x)", "T.sign(x)", "T.maximum(x, y)", "T.minimum(x, y)", "x.clamp(5, 50)", "T.square(x)", "x << 1",
    "x.add_(1)", "x.mul_(1)", "T.sqrt(x)", "T.exp(x / 100)", "x.prod()", "x.min()", "x.argmax()", "x.topk(min(10, x.shape[-1]))",
    "x.diff()", "x.scatter_add(-1, j_all, y)", "x.index_add(0, i, y)", "T.bincount(x.reshape(-1))", "T.isin(x, y)",
    "T.arange(x.numel(), dtype=x.dtype)",
]
WHOLE_MATRICES = [
    "x.sum(0)", "x.sum(1)", "x.amax(0)", "x.amax(1)", "x.all(0)", "x.any(1)", "x.cumsum(0)", "x == row", "x == column",
    "T.bitwise_and(x, row)", "x.t().contiguous()", "x.tril()", "x.repeat(2, 1)", "x.t() == y.t()",
]
TRAINED = [    # measured with backward too, beside the losses
    "T.exp(p)", "T.log(p)", "T.sqrt(p)", "T.tanh(x)", "T.sigmoid(x)", "T.mul(x, y)", "T.div(x, y)", "T.maximum(x, y)",
    "x.clamp(-1, 1)", "T.where(m, x, y)", "F.relu(x)", "F.elu(x)", "F.gelu(x)", "F.silu(x)", "F.mish(x)", "F.softplus(x)",
    "x.sum()", "x.softmax(-1)", "x.log_softmax(-1)", "F.layer_norm(x, x.shape[-1:])", "F.normalize(x, dim=-1)", "x.cumsum(-1)",
    "x.cumprod(-1)", "x.gather(-1, j_all)", "F.rms_norm(x, x.shape[-1:])", "F.batch_norm(x, None, None, training=True)",
    "x + row", "x * column", "x.sum(0)", "F.embedding(i, x)", "T.pow(p, q)", "T.remainder(x, y)", "x ** 3",
]


UNTRAINED = ["x.argmax(1)"]
FLOATS = "float32", "float64"
WHOLES = "int64", "int32", "uint8"


def cases():
    for expressions, shapes, dtypes in (
            (POINTWISE, VECTORS, FLOATS), (LOSSES, VECTORS, FLOATS), (RANDOM, VECTORS, FLOATS),
            (ALONG, VECTORS + MATRICES, FLOATS), (OF_MATRICES, MATRICES, FLOATS), (LOSSES_OF_ROWS, MATRICES, FLOATS),
            (OF_ROWS, FEW_ROWS, FLOATS), (OF_VIEWS, MATRICES, FLOATS), (OF_INDICES, MATRICES, FLOATS),
            (OF_IMAGES, IMAGES, FLOATS), (OF_SEQUENCES, SEQUENCES, FLOATS), (WHOLE, VECTORS, (*WHOLES, "bool")),
            (INTEGERS, VECTORS, WHOLES), (WHOLE_MATRICES, MATRICES, (*WHOLES, "bool"))):
        loss = expressions in (LOSSES, LOSSES_OF_ROWS)
        of = {id(OF_IMAGES): " (image)", id(OF_SEQUENCES): " (sequence)", id(OF_VIEWS): " (view)",
              id(OF_INDICES): " (indices)"}.get(id(expressions), "")
        for expression in expressions:
            names = compile(expression, "<case>", "eval").co_names
            row = {"call": eval(f"lambda T, F, {', '.join(OPERANDS)}: {expression}"), "shapes": shapes,
                   "operands": [name for name in OPERANDS if name in names], "loss": loss, "compared": expressions is not RANDOM}
            for dtype in dtypes:
                yield {"name": f"{expression}{of}  {dtype}", "backward": False, "dtype": dtype, **row}
                if dtype in FLOATS and (loss or expression in TRAINED or expressions in (OF_IMAGES, OF_SEQUENCES)) \
                        and expression not in UNTRAINED:
                    yield {"name": f"{expression}{of} + backward  {dtype}", "backward": True, "dtype": dtype, **row}


@functools.lru_cache(maxsize=256)       # drawing a million numbers takes ten times as long as most operations
def operand(name, shape, dtype):
    """The array of a name, the same in every process."""
    return OPERANDS[name](shape, dtype, np.random.default_rng(zlib.crc32(repr((name, shape)).encode())))


def bound(T, case, shape):
    """A case at a shape as a call without arguments."""
    arrays = {name: T.tensor(operand(name, shape, case["dtype"])) for name in case["operands"]}
    arguments = T, T.nn.functional, *map(arrays.get, OPERANDS)
    call = case["call"]
    if not case["backward"]:
        return lambda: call(*arguments)
    leaves = [x.requires_grad_() for x in arrays.values() if x.is_floating_point()][:1 if case["loss"] else None]
    shape = tuple(call(*arguments).shape)
    seed = T.tensor(operand("seed", shape, case["dtype"]))
    return lambda: T.autograd.grad(call(*arguments), leaves, seed)


def first_value(result):
    """What peers are compared by: the mean of the absolute values of the first tensor, of those that are finite."""
    x = result[0] if isinstance(result, tuple) else result
    x = np.abs(np.asarray(x.detach() if hasattr(x, "detach") else x).astype(np.float64))
    return float(x[np.isfinite(x)].sum() / max(x.size, 1))


def once(run):
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def label(shape):
    return "x".join(f"1e{round(math.log10(n))}" if n >= 1000 else str(n) for n in shape)


def torch_like(name):
    """The calls as they are written for torch, for any module with torch's names."""

    def build(case, threads) -> Job:
        T = importlib.import_module(name)
        T.set_num_threads(threads)
        cells, values = {}, []
        for shape in case["shapes"]:
            run = bound(T, case, shape)
            values.append(first_value(run()))
            seconds = once(run)
            for _ in range(4 if seconds < 10 * SPELL else 1):
                seconds = min(seconds, once(run))
            cells[label(shape)] = run, max(1, min(int(SPELL / seconds), 200))

        def measure(n):
            times = {}
            for cell, (run, repeats) in cells.items():
                for _ in range(2 + repeats // 4):       # the cell before, and the other peer, have left their marks in the caches
                    run()
                start = time.perf_counter()
                for _ in range(n * repeats):
                    run()
                times[cell] = (time.perf_counter() - start) / (n * repeats)
            return times

        return Job(values if case["compared"] else None, measure)

    return build


def line(rows, peers, width):
    """One line for a case: torch's time by ours at each shape; our time where there is no peer."""
    cells = []
    for phase in dict.fromkeys(row["phase"] for row in rows):
        here = {row["peer"]: row for row in rows if row["phase"] == phase}
        ratio = here["torch"].get("times_fastbp") if "torch" in here else None
        cells.append(f"{phase} " + (f"x{ratio:.2f}" if ratio else seconds_text(here.get(OURS, rows[0])["median_s"])))
    print(f"{rows[0]['case']:<{width}}" + "  ".join(cells), flush=True)


BUILDERS = {"fastbp": torch_like("fastbp"), "torch": torch_like("torch")}
CASES = list(cases())

if __name__ == "__main__":
    results = main(__file__, "Operations at every size inside the caches", CASES, BUILDERS, rtol=2e-3, show=line) or []
    cells = sorted((row["times_fastbp"], row["case"], row["phase"]) for row in results if "times_fastbp" in row)
    if cells:
        below = [cell for cell in cells if cell[0] < 1]
        print(f"{len(cells)} cells, {len(below)} below 1, {sum(cell[0] < 0.9 for cell in cells)} below 0.9; geometric mean "
              f"{math.exp(sum(math.log(cell[0]) for cell in cells) / len(cells)):.2f}")
        for ratio, case, shape in below:
            print(f"  {ratio:.2f}  {case}  {shape}")
