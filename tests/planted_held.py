"""Batches of networks for the verdicts of insight.flow, each written before any of its verdicts was seen.

A batch has 20 networks with a planted fault and 20 healthy ones.  Learning rates come from a sweep over half decades
(`python tests/planted_held.py` makes it; BEST holds what it found): good is the least rate that gets 95 % of the loss's fall that
the best one gets, without leaps above three times the first loss; too low is a thirtieth of it, where that leaves more than half
of the fall undone; too high is 30 times the best.
"""

import copy
import math
import sys

import fastbp
import numpy as np
from fastbp import insight, nn, optim
from fastbp.nn import functional as F
from planted import Residual, Steps, Words, blobs, curve, init, mlp, pictures, sequences, small_normal, words
from planted_more import Decoder, Reader, next_token, spirals, tokens, yes_no

ce, mse, bce = F.cross_entropy, F.mse_loss, F.binary_cross_entropy_with_logits


# ---- data -----------------------------------------------------------------------------------------------------------


def t(x):
    x = np.asarray(x)
    return fastbp.tensor(x.astype(np.float32) if x.dtype.kind == "f" else x)


def moons(seed, n=300):
    rng = np.random.default_rng([seed, 21])
    a, y = np.pi * rng.random(n), rng.integers(0, 2, n)
    x = np.stack([np.cos(a) * (1 - 2 * y) + y, np.sin(a) * (1 - 2 * y) + 0.5 * y], 1) + 0.15 * rng.standard_normal((n, 2))
    return t(x), t(y)


def checkers(seed, n=500):
    rng = np.random.default_rng([seed, 22])
    x = rng.uniform(-2, 2, (n, 2))
    return t(x), t((np.floor(x).sum(1) % 2).astype(np.int64))


def waves(seed, n=256):
    """One number to one number: sin(3x) with noise."""
    rng = np.random.default_rng([seed, 23])
    x = rng.uniform(-2, 2, (n, 1))
    return t(x), t(np.sin(3 * x) + 0.1 * rng.standard_normal((n, 1)))


def prices(seed, n=256):
    """Targets as they come: 250,000 give or take 60,000; features standardized."""
    rng = np.random.default_rng([seed, 24])
    x = rng.standard_normal((n, 10))
    return t(x), t(2.5e5 + 6e4 * (x @ rng.standard_normal((10, 1)) / 10 ** 0.5 + 0.3 * rng.standard_normal((n, 1))))


def degrees(seed, n=256):
    """Targets around 0 of size 40."""
    x, y = curve(seed, n)
    return x, 40 * y


def counts(seed, n=256):
    rng = np.random.default_rng([seed, 25])
    x = rng.standard_normal((n, 8))
    return t(x), t(rng.poisson(np.exp(1 + 0.5 * x @ rng.standard_normal((8, 1)) / 8 ** 0.5)).astype(np.float64))


def stripes(seed, n=128, size=16):
    """Pictures of stripes in one of three directions, three colours."""
    rng = np.random.default_rng([seed, 26])
    y = rng.integers(0, 3, n)
    i, j = np.mgrid[:size, :size]
    phase = 2 * np.pi * rng.random(n)
    way = np.stack([i, j, i + j])[y] * 1.2 + phase[:, None, None]
    return t(np.sin(way)[:, None] * np.ones((1, 3, 1, 1)) + 0.7 * rng.standard_normal((n, 3, size, size))), t(y)


def masks(seed, n=64, size=12):
    """A bright disc somewhere, and where it is."""
    rng = np.random.default_rng([seed, 27])
    i, j = np.mgrid[:size, :size]
    c = rng.uniform(3, size - 3, (n, 2, 1, 1))
    inside = ((i - c[:, 0]) ** 2 + (j - c[:, 1]) ** 2 < 9).astype(float)[:, None]
    return t(inside + 0.5 * rng.standard_normal(inside.shape)), t(inside)


def tones(seed, n=128, time=48):
    """Noisy waves of one of four frequencies."""
    rng = np.random.default_rng([seed, 28])
    y = rng.integers(0, 4, n)
    x = np.sin((0.3 + 0.3 * y)[:, None] * np.arange(time) + 6 * rng.random((n, 1))) + 0.4 * rng.standard_normal((n, time))
    return t(x[:, None]), t(y)


def future(seed, n=160, time=25):
    """The next value of a sum of two sines."""
    rng = np.random.default_rng([seed, 29])
    at = np.arange(time + 1) + 100 * rng.random((n, 1))
    s = np.sin(0.4 * at) + 0.5 * np.sin(0.93 * at)
    return t(s[:, :-1, None]), t(s[:, -1:])


def ratings(seed, n=512):
    """(user, film) and what one thinks of the other."""
    rng = np.random.default_rng([seed, 30])
    u, v = rng.standard_normal((40, 3)), rng.standard_normal((30, 3))
    who = np.stack([rng.integers(0, 40, n), rng.integers(0, 30, n)], 1)
    return t(who), t((u[who[:, 0]] * v[who[:, 1]]).sum(1) / 3 ** 0.5)


def labels(seed, n=256):
    """Six yes-or-no questions about 16 features."""
    rng = np.random.default_rng([seed, 31])
    x = rng.standard_normal((n, 16))
    return t(x), t((x @ rng.standard_normal((16, 6)) + 0.5 * rng.standard_normal((n, 6)) > 0).astype(np.float64))


def bags(seed, n=160):
    """Sets of 12 points; the target is their greatest first coordinate."""
    rng = np.random.default_rng([seed, 32])
    x = rng.standard_normal((n, 12, 3))
    return t(x), t(x[:, :, 0].max(1, keepdims=True))


def noise(seed, n=64):
    """Random inputs with random labels, all learned by heart."""
    rng = np.random.default_rng([seed, 33])
    return t(rng.standard_normal((n, 20))), t(rng.integers(0, 4, n))


def itself(data):
    return lambda seed: (data(seed)[0],) * 2


def raw(seed, n=256):
    """Features of very different sizes, as they come."""
    rng = np.random.default_rng([seed, 34])
    x = rng.standard_normal((n, 6)) * [1, 1, 5, 0.2, 3, 1]
    return t(x), t((x @ (rng.standard_normal(6) / [1, 1, 5, 0.2, 3, 1]) > 0).astype(np.int64))


# ---- networks -------------------------------------------------------------------------------------------------------


class Lambda(nn.Module):
    def __init__(self, f):
        super().__init__()
        self.f = f

    def forward(self, x):
        return self.f(x)


class Last(nn.Module):
    """A recurrent layer, its last state, a linear layer."""

    def __init__(self, cell, features, hidden, out=1, scale=None, **options):
        super().__init__()
        self.rnn = cell(features, hidden, batch_first=True, **options)
        self.head = nn.Linear(hidden * (2 if options.get("bidirectional") else 1), out)
        if scale is not None:
            with fastbp.no_grad():
                for name, p in self.rnn.named_parameters():
                    if "weight_hh" in name:
                        p.mul_(scale)

    def forward(self, x):
        return self.head(self.rnn(x)[0][:, -1])


class Factors(nn.Module):
    def __init__(self, size=6):
        super().__init__()
        self.user, self.film = nn.Embedding(40, size), nn.Embedding(30, size)
        for e in (self.user, self.film):
            nn.init.normal_(e.weight, 0, 0.5)

    def forward(self, x):
        return (self.user(x[:, 0]) * self.film(x[:, 1])).sum(1)


class Points(nn.Module):
    """Deep sets: a function of each, the sum, a function of that."""

    def __init__(self, pool="mean"):
        super().__init__()
        self.each, self.all, self.pool = mlp(3, 32, 32), mlp(32, 32, 1), pool

    def forward(self, x):
        h = self.each(x)
        return self.all(h.mean(1) if self.pool == "mean" else h.amax(1))


class Patches(nn.Module):
    """A small vision transformer."""

    def __init__(self, width=32, layers=2):
        super().__init__()
        self.cut = nn.Conv2d(3, width, 4, 4)
        self.place = nn.Parameter(0.02 * fastbp.randn(1, 16, width))
        layer = nn.TransformerEncoderLayer(width, 4, 64, dropout=0.0, batch_first=True, norm_first=True)
        self.body, self.norm, self.head = nn.TransformerEncoder(layer, layers), nn.LayerNorm(width), nn.Linear(width, 3)

    def forward(self, x):
        h = self.cut(x).flatten(2).transpose(1, 2) + self.place
        return self.head(self.norm(self.body(h)).mean(1))


class Unet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down, self.deep = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)
        self.up, self.out = nn.ConvTranspose2d(16, 8, 2, 2), nn.Conv2d(16, 1, 3, padding=1)

    def forward(self, x):
        a = F.relu(self.down(x))
        b = F.relu(self.deep(F.max_pool2d(a, 2)))
        return self.out(fastbp.cat([a, F.relu(self.up(b))], 1))


class Highway(nn.Module):
    def __init__(self, width=32, depth=6):
        super().__init__()
        self.first = nn.Linear(20, width)
        self.h = nn.ModuleList([nn.Linear(width, width) for _ in range(depth)])
        self.g = nn.ModuleList([nn.Linear(width, width) for _ in range(depth)])
        self.head = nn.Linear(width, 5)
        for g in self.g:
            nn.init.constant_(g.bias, -1.0)

    def forward(self, x):
        x = self.first(x)
        for h, g in zip(self.h, self.g):
            gate = fastbp.sigmoid(g(x))
            x = gate * F.relu(h(x)) + (1 - gate) * x
        return self.head(x)


class Dense(nn.Module):
    """Each layer reads all those before it."""

    def __init__(self, features=20, grow=16, depth=5, classes=5):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(features + k * grow, grow) for k in range(depth)])
        self.head = nn.Linear(features + depth * grow, classes)

    def forward(self, x):
        for layer in self.layers:
            x = fastbp.cat([x, F.relu(layer(x))], 1)
        return self.head(x)


class Experts(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(20, 3)
        self.experts = nn.ModuleList([mlp(20, 32, 5) for _ in range(3)])

    def forward(self, x):
        g = F.softmax(self.gate(x), 1)
        return sum(g[:, k:k + 1] * e(x) for k, e in enumerate(self.experts))


class Gated(nn.Module):
    """Gated linear units."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(20, 64), nn.Linear(32, 64), nn.Linear(32, 5)

    def forward(self, x):
        return self.c(F.glu(self.b(F.glu(self.a(x)))))


class Mixer(nn.Module):
    def __init__(self, time=30, width=16):
        super().__init__()
        self.inside = nn.Linear(6, width)
        self.over, self.through = mlp(time, 32, time, act=nn.GELU), mlp(width, 32, width, act=nn.GELU)
        self.n1, self.n2, self.head = nn.LayerNorm(width), nn.LayerNorm(width), nn.Linear(width, 1)

    def forward(self, x):
        x = self.inside(x)
        x = x + self.over(self.n1(x).transpose(1, 2)).transpose(1, 2)
        x = x + self.through(self.n2(x))
        return self.head(x.mean(1))


class Fourier(nn.Module):
    """Random features of one number, then a perceptron."""

    def __init__(self):
        super().__init__()
        self.register_buffer("b", 2 * fastbp.randn(1, 16))
        self.body = mlp(32, 32, 1)

    def forward(self, x):
        a = x @ self.b
        return self.body(fastbp.cat([a.sin(), a.cos()], 1))


class Letters(nn.Module):
    """Embedding, convolution over time, the largest."""

    def __init__(self):
        super().__init__()
        self.table, self.conv, self.head = nn.Embedding(50, 16), nn.Conv1d(16, 24, 3, padding=1), nn.Linear(24, 2)

    def forward(self, x):
        return self.head(F.relu(self.conv(self.table(x).transpose(1, 2))).amax(2))


class Tied(nn.Module):
    """A language model whose last layer is its table."""

    def __init__(self, vocabulary=20, width=32):
        super().__init__()
        self.table = nn.Embedding(vocabulary, width)
        self.rnn = nn.GRU(width, width, batch_first=True)
        nn.init.normal_(self.table.weight, 0, 0.3)

    def forward(self, x):
        return F.linear(self.rnn(self.table(x))[0], self.table.weight)


class Shared(nn.Module):
    """One layer applied five times, with the input added."""

    def __init__(self):
        super().__init__()
        self.inside, self.again, self.head = nn.Linear(20, 48), nn.Linear(48, 48), nn.Linear(48, 5)

    def forward(self, x):
        start = h = self.inside(x)
        for _ in range(5):
            h = fastbp.tanh(self.again(h) + start)
        return self.head(h)


class Attention(nn.Module):
    """One head written by hand."""

    def __init__(self, width=24):
        super().__init__()
        self.inside, self.qkv, self.head = nn.Linear(6, width), nn.Linear(width, 3 * width), nn.Linear(width, 1)

    def forward(self, x):
        h = self.inside(x)
        q, k, v = self.qkv(h).chunk(3, -1)
        return self.head((h + F.softmax(q @ k.transpose(1, 2) / q.shape[-1] ** 0.5, -1) @ v).mean(1))


class Plain(nn.Module):
    """Parameters of its own, no layers."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(0.2 * fastbp.randn(20, 32))
        self.b = nn.Parameter(fastbp.zeros(32))
        self.v = nn.Parameter(0.2 * fastbp.randn(32, 5))

    def forward(self, x):
        return fastbp.relu(x @ self.w + self.b) @ self.v


class Loop(nn.Module):
    """A recurrent network written by hand."""

    def __init__(self, features=6, hidden=24, scale=1.0, act=fastbp.tanh):
        super().__init__()
        self.inside, self.again, self.head, self.act = (nn.Linear(features, hidden), nn.Linear(hidden, hidden, bias=False),
                                                        nn.Linear(hidden, 1), act)
        nn.init.orthogonal_(self.again.weight)
        with fastbp.no_grad():
            self.again.weight.mul_(scale)

    def forward(self, x):
        h = fastbp.zeros(len(x), self.again.weight.shape[0])
        for k in range(x.shape[1]):
            h = self.act(self.inside(x[:, k]) + self.again(h))
        return self.head(h)


def cnn(first=3, widths=(12, 24), classes=3, act=nn.ReLU, norm=None, pool=nn.MaxPool2d):
    layers, last = [], first
    for w in widths:
        layers += [nn.Conv2d(last, w, 3, padding=1), *([norm(w)] if norm else []), act(), pool(2)]
        last = w
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(last, classes))


def temporal(act=nn.ReLU, norm=None):
    return nn.Sequential(nn.Conv1d(1, 16, 5, padding=2), *([norm(16)] if norm else []), act(), nn.MaxPool1d(2),
                         nn.Conv1d(16, 32, 5, padding=2), act(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(32, 4))


def picture_coder():
    return nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU(),
                         nn.ConvTranspose2d(16, 8, 2, 2), nn.ReLU(), nn.ConvTranspose2d(8, 1, 2, 2))


def lazy(f):
    """A network from modules and functions."""
    return lambda: nn.Sequential(*[m if isinstance(m, nn.Module) else Lambda(m) for m in f()])


# ---- losses ---------------------------------------------------------------------------------------------------------


def log_of_softmax(output, target):
    return -F.softmax(output, 1).log()[range(len(target)), target].mean()


def unsafe_bce(output, target):
    p = fastbp.sigmoid(output)
    return -(target * p.log() + (1 - target) * (1 - p).log()).mean()


def entropy_of_relu(output, target):
    """log of what a relu made 0."""
    return F.nll_loss(F.relu(output).log(), target)


def rms(output, target):
    """A root whose argument is 0 when one sample is right."""
    return (output - target).square().sum(1).sqrt().mean()


def rmsle(output, target):
    """log(1 + y) of what may be below -1."""
    return ((1 + output).log() - (1 + target.abs()).log()).square().mean()


def relative(output, target):
    return ((output - target) / (target * (target.abs() > 0.05))).abs().mean()


def cosine_by_hand(output, target):
    return 1 - ((output * target).sum(1) / (output.norm(dim=1) * target.norm(dim=1))).mean()


def poisson(output, target):
    return F.poisson_nll_loss(output, target)


def pinball(output, target):
    e = target - output
    return fastbp.maximum(0.9 * e, -0.1 * e).mean()


def two_heads(output, target):
    """Mean and log variance."""
    mean, log = output[:, :1], output[:, 1:]
    return 0.5 * (log + (target - mean).square() * (-log).exp()).mean()


# ---- runs -----------------------------------------------------------------------------------------------------------


class Net:
    """A network with everything that it takes to train it; `go` trains it once and returns the monitor."""

    def __init__(self, name, build, data, loss, optimizer, lr=None, *, kind=None, steps=150, batch=32, factor=1.0, clip=None,
                 stop=False, best=None):
        self.name, self.build, self.data, self.loss, self.optimizer, self.lr = name, build, data, loss, optimizer, lr
        self.kind, self.steps, self.batch, self.factor, self.clip, self.stop, self.best = (
            kind, steps, batch, factor, clip, stop, best or name)

    def rate(self):
        return self.lr if self.lr is not None else BEST[self.best][self.factor > 1] * self.factor

    def go(self, seed, lr=None, watched=True):
        """Trains with the monitor; self.losses are those of all steps."""
        fastbp.manual_seed(seed)
        model = self.build()
        optimizer = self.optimizer(model, self.rate() if lr is None else lr)
        x, y = self.data(seed)
        rng = np.random.default_rng([seed, 20])
        self.losses = []
        watch = insight.flow(model, optimizer)
        if watched:
            watch.__enter__()
        for _ in range(self.steps):
            rows = t(rng.choice(len(x), self.batch, replace=False)) if self.batch else slice(None)
            optimizer.zero_grad()
            loss = self.loss(model(x[rows]), y[rows])
            self.losses.append(loss.item())
            if self.stop and not math.isfinite(self.losses[-1]):
                break
            loss.backward()
            if self.clip:
                nn.utils.clip_grad_norm_(model.parameters(), self.clip)
            optimizer.step()
        if watched:
            watch.__exit__(None, None, None)
        return watch

    def fell(self):
        """By how much of itself the loss fell."""
        return 1 - float(np.mean(self.losses[-5:])) / abs(self.losses[0])

    def again(self, kind, factor):
        """The same with another learning rate."""
        out = copy.copy(self)
        out.name, out.kind, out.factor = f"{self.name}, {'times 30' if factor > 1 else 'a thirtieth'}", kind, factor
        return out


def sgd(model, lr):
    return optim.SGD(model.parameters(), lr=lr)


def momentum(model, lr):
    return optim.SGD(model.parameters(), lr=lr, momentum=0.9)


def adam(model, lr):
    return optim.Adam(model.parameters(), lr=lr)


def adamw(model, lr):
    return optim.AdamW(model.parameters(), lr=lr)


def rmsprop(model, lr):
    return optim.RMSprop(model.parameters(), lr=lr)


def adagrad(model, lr):
    return optim.Adagrad(model.parameters(), lr=lr)


def lion(model, lr):
    return optim.Lion(model.parameters(), lr=lr)


def without(prefix, make=adam, how="grad"):
    """An optimizer under which the parameters of one module stay as they are."""
    def go(model, lr):
        named = list(model.named_parameters())
        here, rest = [p for n, p in named if n.startswith(prefix)], [p for n, p in named if not n.startswith(prefix)]
        if how == "grad":
            for p in here:
                p.requires_grad_(False)
            return make(model, lr)
        if how == "zero":
            return optim.SGD([{"params": rest}, {"params": here, "lr": 0.0}], lr=lr)
        return optim.Adam(rest, lr=lr)
    return go


def scaled(model, factor):
    with fastbp.no_grad():
        model.rnn.weight_hh_l0.mul_(factor)
    return model


def doubled(model):
    """Recurrent weights of twice the identity."""
    with fastbp.no_grad():
        model.rnn.weight_hh_l0.copy_(2 * fastbp.eye(model.rnn.weight_hh_l0.shape[0]))
    return model


def biases(model, value, only=None):
    with fastbp.no_grad():
        for name, p in model.named_parameters():
            if name.endswith("bias") and (only is None or name.startswith(only)):
                p.fill_(value)
    return model


class Detached(nn.Module):
    """The middle's output leaves the graph."""

    def __init__(self, how):
        super().__init__()
        self.a, self.b, self.c, self.how = nn.Linear(20, 40), nn.Linear(40, 40), nn.Linear(80, 5), how

    def forward(self, x):
        h = F.relu(self.a(x))
        if self.how == "no_grad":
            with fastbp.no_grad():
                g = F.relu(self.b(h))
        else:
            g = F.relu(self.b(h)).detach()
        return self.c(fastbp.cat([h, g], 1))


class Ratio(nn.Module):
    """Attention weights by hand; after a relu all of them can be 0."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(20, 2), nn.Linear(20, 2), nn.Linear(2, 5)

    def forward(self, x):
        w = F.relu(self.a(x))
        return self.c(w / w.sum(1, keepdim=True) * self.b(x))


class Standard(nn.Module):
    """Standardizes each row by hand: the row of a dead layer has no deviation."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(20, 3), nn.Linear(3, 5)

    def forward(self, x):
        h = F.relu(self.a(x))
        return self.b((h - h.mean(1, keepdim=True)) / h.std(1, keepdim=True))


# ---- batch one ------------------------------------------------------------------------------------------------------

ONE_HEALTHY = [
    Net("moons, tanh, full batch", lambda: mlp(2, 32, 32, 2, act=nn.Tanh), moons, ce, sgd, batch=None),
    Net("checkers, adam", lambda: mlp(2, 64, 64, 2), checkers, ce, adam, steps=300, batch=64),
    Net("one number, wide", lambda: mlp(1, 200, 1, act=nn.Tanh), waves, mse, adam, steps=300),
    Net("prices as they come, linear", lambda: nn.Linear(10, 1), prices, mse, sgd),
    Net("targets of 40", lambda: mlp(8, 64, 64, 1), degrees, mse, adam, steps=250),
    Net("counts", lambda: mlp(8, 32, 1), counts, poisson, momentum),
    Net("stripes, batch norm", lambda: cnn(norm=nn.BatchNorm2d), stripes, ce, adamw, steps=100),
    Net("stripes, average pool, silu", lambda: cnn(act=nn.SiLU, pool=nn.AvgPool2d), stripes, ce, momentum, steps=100),
    Net("discs, u-net", Unet, masks, bce, adam, steps=100),
    Net("tones", temporal, tones, ce, adam),
    Net("the future, lstm", lambda: Last(nn.LSTM, 1, 24), future, mse, adam),
    Net("the future, gru, both ways", lambda: Last(nn.GRU, 1, 16, bidirectional=True), future, mse, rmsprop),
    Net("factors", Factors, ratings, mse, adam, steps=250, batch=128),
    Net("six questions", lambda: mlp(16, 48, 6, act=nn.GELU), labels, bce, adagrad),
    Net("sets", Points, bags, mse, adam),
    Net("patches", Patches, stripes, ce, adamw, steps=100),
    Net("highway", Highway, blobs, ce, adam),
    Net("learned by heart, full batch", lambda: mlp(20, 64, 4), noise, ce, adam, batch=None),
    Net("experts", Experts, blobs, ce, sgd),
    Net("gpt, lion", lambda: Decoder(layers=2), tokens, next_token, lion, steps=100),
]
H = {n.name: n for n in ONE_HEALTHY}
HIGH, LOW = "learning rate too high", "learning rate too low"

ONE_FAULTY = [
    Net("sigmoid, 12 layers of 50, momentum", lambda: mlp(2, *[50] * 12, 2, act=nn.Sigmoid), moons, ce, momentum, 0.05,
        kind="vanishing", batch=None),
    Net("sigmoid, 7 layers, one number", lambda: mlp(1, *[30] * 7, 1, act=nn.Sigmoid), waves, mse, adam, 1e-3, kind="vanishing"),
    Net("tanh, 15 layers, small uniform", lambda: init(mlp(16, *[40] * 15, 6, act=nn.Tanh), lambda w: w.uniform_(-0.1, 0.1), 0.0),
        labels, bce, rmsprop, 1e-3, kind="vanishing"),
    Net("sigmoid convolutions, 8 deep", lambda: nn.Sequential(*[m for k in range(8) for m in (
        nn.Conv2d(3 if k == 0 else 8, 8, 3, padding=1), nn.Sigmoid())], nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)),
        stripes, ce, adam, 1e-3, kind="vanishing", steps=60),
    Net("by hand, relu, radius 2.5", lambda: Loop(scale=2.5, act=fastbp.relu), sequences, mse, sgd, 1e-4, kind="exploding",
        steps=60),
    Net("rnn, tanh, radius 5", lambda: Last(nn.RNN, 1, 32, scale=9.0), lambda s: future(s, time=80), mse, adam, 1e-3,
        kind="exploding", steps=100),
    Net("two layers, relu, radius 2.5", lambda: Last(nn.RNN, 6, 32, scale=5.0, num_layers=2, nonlinearity="relu"), sequences, mse,
        rmsprop, 1e-4, kind="exploding", steps=60),
    Net("biases at -8 in the middle", lambda: biases(mlp(20, 64, 64, 64, 5), -8.0, "2."), blobs, ce, adam, 1e-3, kind="dead"),
    Net("stripes, biases at -10", lambda: biases(cnn(), -10.0), stripes, ce, sgd, 0.05, kind="dead", steps=60),
    Net("all biases at -30, functional", lazy(lambda: [biases(nn.Linear(8, 64), -30.0), F.relu, nn.Linear(64, 1)]), curve, mse,
        sgd,
        0.01, kind="dead"),
    H["checkers, adam"].again(HIGH, 30), H["experts"].again(HIGH, 30), H["the future, lstm"].again(HIGH, 30),
    H["the future, gru, both ways"].again(LOW, 1 / 30), H["tones"].again(LOW, 1 / 30), H["sets"].again(LOW, 1 / 30),
    Net("frozen middle", lambda: mlp(20, 48, 48, 48, 5), blobs, ce, without("4.", momentum), 0.03, kind="frozen"),
    Net("a group with rate 0", lambda: cnn(), stripes, ce, without("0.", how="zero"), 0.05, kind="frozen", steps=80),
    Net("log of softmax", lambda: mlp(20, 64, 5), lambda s: (30 * blobs(s)[0], blobs(s)[1]), log_of_softmax, sgd, 0.05,
        kind="non-finite"),
    Net("root of 0", lambda: mlp(8, 32, 1), lambda s: (curve(s)[0], 0 * curve(s)[1]),
        lambda a, b: rms(a * (a > 0), b), adam, 1e-3, kind="non-finite"),
]

# ---- batch two ------------------------------------------------------------------------------------------------------

TWO_HEALTHY = [
    Net("features of all sizes", lambda: mlp(6, 32, 2), raw, ce, adam),
    Net("tiny", lambda: mlp(2, 4, 2, act=nn.Tanh), moons, ce, adam, steps=300),
    Net("gated", Gated, blobs, ce, adamw),
    Net("mixer", Mixer, sequences, mse, adam, steps=120),
    Net("fourier features", Fourier, waves, mse, momentum, steps=250),
    Net("letters", Letters, words, ce, adam),
    Net("tied language model", Tied, tokens, next_token, adam, steps=120),
    Net("shared layer", Shared, blobs, ce, momentum),
    Net("attention by hand", Attention, sequences, mse, adam, steps=200),
    Net("parameters alone", Plain, blobs, ce, sgd),
    Net("dense connections", Dense, blobs, ce, rmsprop),
    Net("group norm", lambda: cnn(norm=lambda w: nn.GroupNorm(4, w)), stripes, ce, sgd, steps=100),
    Net("pictures, coded", picture_coder, itself(pictures), mse, adam, steps=100),
    Net("quantile", lambda: mlp(8, 48, 1), curve, pinball, adam),
    Net("mean and variance", lambda: mlp(8, 48, 2, act=nn.Tanh), curve, two_heads, adam),
    Net("prelu, batch norm, full batch", lambda: mlp(16, 40, 40, 6, act=nn.PReLU, norm=nn.BatchNorm1d), labels, bce, momentum,
        batch=None, steps=80),
    Net("recurrent by hand", lambda: Loop(scale=1.0), lambda s: sequences(s, time=15), mse, adam, steps=200),
    Net("language model, lstm, sgd, clipped", lambda: Reader(nn.LSTM, layers=2), tokens, next_token, sgd, steps=250, clip=1.0),
    Net("residual, sgd", lambda: Residual(20, 4), blobs, ce, sgd),
    Net("short run", lambda: mlp(20, 100, 5), blobs, ce, adam, steps=40),
]
H = {n.name: n for n in TWO_HEALTHY}

TWO_FAULTY = [
    Net("logistic stack, 9 layers of 100", lambda: mlp(20, *[100] * 9, 5, act=nn.Sigmoid), blobs, ce, sgd, 0.1, kind="vanishing",
        steps=80),
    Net("functional sigmoids", lazy(lambda: [m for k in range(10) for m in (
        nn.Linear(16 if k == 0 else 32, 32), fastbp.sigmoid)] + [nn.Linear(32, 6)]), labels, bce, adagrad, 0.01,
            kind="vanishing"),
    Net("tanh, 25 layers", lambda: mlp(20, *[48] * 25, 5, act=nn.Tanh), blobs, ce, adam, 1e-4, kind="vanishing", steps=60),
    Net("hard sigmoid, 8 layers", lambda: mlp(8, *[32] * 8, 1, act=nn.Hardsigmoid), curve, mse, momentum, 0.01, kind="vanishing"),
    Net("cell by hand, gelu, radius 3", lambda: Loop(scale=3.0, act=F.gelu), lambda s: sequences(s, time=25), mse, sgd, 1e-5,
        kind="exploding", steps=50),
    Net("rnn relu, identity times 2", lambda: doubled(Last(nn.RNN, 6, 20, nonlinearity="relu")), sequences, mse, adam, 1e-4,
        kind="exploding", steps=50),
    Net("lstm, weights of 3", lambda: Last(nn.LSTM, 1, 24, scale=25.0), lambda s: future(s, time=60), mse, adam, 1e-3,
        kind="exploding", steps=60),
    Net("bias of -100", lambda: biases(mlp(20, 32, 5), -100.0, "0."), blobs, ce, adam, 1e-3, kind="dead"),
    Net("last hidden layer at -12", lambda: biases(mlp(8, 40, 40, 1), -12.0, "2."), curve, mse, momentum, 0.01, kind="dead"),
    Net("tones, biases at -6", lambda: biases(temporal(), -6.0), tones, ce, adam, 3e-4, kind="dead", steps=100),
    H["tiny"].again(HIGH, 30), H["tied language model"].again(HIGH, 30), H["residual, sgd"].again(HIGH, 30),
    H["gated"].again(LOW, 1 / 30), H["group norm"].again(LOW, 1 / 30), H["fourier features"].again(LOW, 1 / 30),
    Net("frozen table", Words, words, ce, without("table"), 0.02, kind="frozen"),
    Net("no_grad in the middle", lambda: Detached("no_grad"), blobs, ce, adam, 1e-3, kind="frozen"),
    Net("bce by hand", lambda: mlp(20, 64, 1), lambda s: (40 * yes_no(s)[0], yes_no(s)[1]), unsafe_bce, adam, 1e-2,
        kind="non-finite", stop=True),
    Net("0 / 0 in the layer", Ratio, blobs, ce, sgd, 0.05, kind="non-finite"),
]

# ---- batch three ----------------------------------------------------------------------------------------------------

THREE_HEALTHY = [
    Net("logistic regression, two classes, full batch", lambda: nn.Linear(20, 1), yes_no, bce, sgd, batch=None, steps=100),
    Net("spirals, silu", lambda: mlp(2, 48, 48, 48, 2, act=nn.SiLU), spirals, ce, adam, steps=300),
    Net("prices as they come, perceptron", lambda: mlp(10, 64, 1), prices, mse, adagrad, steps=300),
    Net("counts, huber, lion", lambda: mlp(8, 48, 1), counts, F.smooth_l1_loss, lion),
    Net("discs, plain convolutions", lambda: nn.Sequential(nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 12, 3,
        padding=1),
                                                           nn.ReLU(), nn.Conv2d(12, 1, 1)), masks, bce, momentum, steps=80),
    Net("tones, batch norm", lambda: temporal(nn.ELU, nn.BatchNorm1d), tones, ce, sgd),
    Net("the future, rnn", lambda: Last(nn.RNN, 1, 32), future, mse, adam),
    Net("the future, gru, full batch", lambda: Last(nn.GRU, 1, 20), lambda s: future(s, n=48), mse, adam, batch=None, steps=120),
    Net("sets, maximum", lambda: Points("max"), bags, mse, adamw),
    Net("patches, deeper", lambda: Patches(24, 4), stripes, ce, adam, steps=80),
    Net("highway, sgd", lambda: Highway(24, 4), blobs, ce, momentum),
    Net("gpt, norm last, adamw", lambda: Decoder(width=24, layers=1, norm_first=False), tokens, next_token, adamw, steps=120),
    Net("language model, rnn", lambda: Reader(nn.RNN), tokens, next_token, adam, steps=120),
    Net("sigmoids, 3 layers", lambda: mlp(8, 40, 40, 40, 1, act=nn.Sigmoid), curve, mse, adam, steps=600),
    Net("dropout, convolutions", lambda: nn.Sequential(cnn()[:6], nn.Dropout2d(0.2), *cnn()[6:]), stripes, ce, adam, steps=120),
    Net("features times ten", lambda: mlp(20, 64, 5), lambda s: (10 * blobs(s)[0], blobs(s)[1]), ce, adam),
    Net("wide and shallow, sgd", lambda: mlp(20, 1000, 5), blobs, ce, sgd),
    Net("weight decay", lambda: mlp(20, 64, 64, 5), blobs, ce, lambda m, lr: optim.AdamW(m.parameters(), lr=lr,
        weight_decay=0.1)),
    Net("layer norm, tanh, deep", lambda: mlp(20, *[32] * 8, 5, act=nn.Tanh, norm=nn.LayerNorm), blobs, ce, adam),
    Net("nadam, leaky", lambda: mlp(16, 64, 6, act=nn.LeakyReLU), labels, bce, lambda m, lr: optim.NAdam(m.parameters(), lr=lr)),
]
H = {n.name: n for n in THREE_HEALTHY}

THREE_FAULTY = [
    Net("sigmoids in an autoencoder", lambda: mlp(20, 64, 32, 16, 8, 16, 32, 64, 20, act=nn.Sigmoid), itself(blobs), mse, adam,
        1e-3,
        kind="vanishing"),
    Net("sigmoids, xavier, 14 layers", lambda: init(mlp(20, *[64] * 14, 5, act=nn.Sigmoid), nn.init.xavier_uniform_, 0.0),
        blobs, ce,
        momentum, 0.05, kind="vanishing", steps=80),
    Net("tanh, 10 layers, weights of 0.01", lambda: init(mlp(2, *[64] * 10, 2, act=nn.Tanh), small_normal(0.01), 0.0), spirals,
        ce,
        adamw, 1e-3, kind="vanishing"),
    Net("sigmoid stack, full batch", lambda: mlp(20, *[24] * 11, 4, act=nn.Sigmoid), noise, ce, sgd, 0.3, kind="vanishing",
        batch=None, steps=100),
    Net("cells, relu, radius 2.2", lambda: Steps(hidden=32, scale=2.2, nonlinearity="relu"), lambda s: sequences(s, time=40), mse,
        adam, 1e-4, kind="exploding", steps=50),
    Net("rnn, tanh, radius 4, steps of 100", lambda: Last(nn.RNN, 6, 24, scale=7.0), lambda s: sequences(s, time=100), mse, sgd,
        1e-3,
        kind="exploding", steps=60),
    Net("language model, rnn, relu, radius 4", lambda: scaled(Reader(lambda a, b, n, **k: nn.RNN(a, b, n, nonlinearity="relu",
        **k)),
                                                               8.0), tokens, next_token, adam, 1e-4, kind="exploding", steps=60),
    Net("biases at -15, all layers, adagrad", lambda: biases(mlp(16, 64, 64, 6), -15.0), labels, bce, adagrad, 0.01, kind="dead"),
    Net("discs, first bias at -20", lambda: biases(nn.Sequential(nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 1, 1)),
                                                   -20.0, "0."), masks, bce, adam, 1e-3, kind="dead", steps=60),
    Net("biases at -7 before a batch of tanh", lambda: nn.Sequential(biases(nn.Linear(20, 48), -7.0), nn.ReLU(), nn.Linear(48,
        48),
                                                                     nn.Tanh(), nn.Linear(48, 5)), blobs, ce, momentum, 0.01,
        kind="dead"),
    H["spirals, silu"].again(HIGH, 30), H["wide and shallow, sgd"].again(HIGH, 30), H["patches, deeper"].again(HIGH, 30),
    H["the future, rnn"].again(LOW, 1 / 30), H["logistic regression, two classes, full batch"].again(LOW, 1 / 30),
    H["weight decay"].again(LOW, 1 / 30),
    Net("recurrent layer left out", lambda: Last(nn.GRU, 1, 24), future, mse, without("rnn", how="left"), 3e-3, kind="frozen"),
    Net("detached middle", lambda: Detached("detach"), blobs, ce, sgd, 0.1, kind="frozen"),
    Net("log of a relu", lambda: mlp(20, 64, 5), blobs, entropy_of_relu, adam, 1e-3, kind="non-finite"),
    Net("no deviation", Standard, blobs, ce, adam, 1e-3, kind="non-finite", stop=True),
]


BATCHES = {"one": (ONE_FAULTY, ONE_HEALTHY), "two": (TWO_FAULTY, TWO_HEALTHY), "three": (THREE_FAULTY, THREE_HEALTHY)}
# network: (good rate, best rate, loss at the start, at the end with the good rate, share of its fall left by a thirtieth)
BEST = {
    "moons, tanh, full batch": (3.16, 3.16, 0.687, 0.0176, 0.375),
    "checkers, adam": (0.01, 0.01, 0.719, 0.197, 0.834),
    "one number, wide": (0.01, 0.0316, 0.615, 0.0704, 0.667),
    "prices as they come, linear": (0.01, 0.0316, 6.55e+10, 6.56e+08, 0.878),
    "targets of 40": (0.01, 0.0316, 1.35e+03, 150, 0.885),
    "counts": (0.00316, 0.0316, 1.12, -0.312, 0.175),
    "stripes, batch norm": (0.00316, 1, 1.08, 0.00814, 0.656),
    "stripes, average pool, silu": (0.0316, 0.316, 1.1, 0.0328, 0.998),
    "discs, u-net": (0.01, 0.0316, 0.689, 0.0541, 0.776),
    "tones": (0.00316, 0.316, 1.41, 0.0142, 0.92),
    "the future, lstm": (0.01, 0.0316, 0.482, 0.000688, 0.917),
    "the future, gru, both ways": (0.00316, 0.01, 0.488, 0.0115, 0.973),
    "factors": (0.0316, 0.1, 1.23, 0.0105, 0.913),
    "six questions": (0.1, 1, 0.706, 0.0286, 0.802),
    "sets": (0.00316, 0.1, 3.33, 0.165, 0.599),
    "patches": (0.001, 0.0316, 1.15, 0.0109, 0.877),
    "highway": (0.001, 0.00316, 1.6, 0.031, 0.988),
    "learned by heart, full batch": (0.00316, 0.1, 1.45, 0.0204, 0.904),
    "experts": (0.316, 3.16, 1.59, 0.0267, 0.807),
    "gpt, lion": (0.01, 0.01, 3.18, 0.828, 0.271),
    "features of all sizes": (0.0316, 0.0316, 0.731, 0.0324, 0.59),
    "tiny": (0.316, 0.316, 0.724, 0.0619, 0.329),
    "gated": (0.00316, 0.0316, 1.6, 0.0107, 0.931),
    "mixer": (0.001, 0.0316, 1.41, 0.0519, 0.909),
    "fourier features": (0.001, 0.01, 0.594, 0.0151, 0.867),
    "letters": (0.01, 0.0316, 0.699, 0.0034, 0.851),
    "tied language model": (0.01, 0.0316, 3.03, 1.03, 0.764),
    "shared layer": (0.01, 0.1, 1.53, 0.0375, 0.769),
    "attention by hand": (0.001, 0.0316, 1.33, 0.0637, 0.966),
    "parameters alone": (0.1, 1, 1.69, 0.0651, 0.711),
    "dense connections": (0.001, 0.0316, 1.72, 0.0179, 0.89),
    "group norm": (0.0316, 0.316, 1.1, 0.0305, 0.923),
    "pictures, coded": (0.0316, 0.0316, 0.608, 0.11, 0.478),
    "quantile": (0.00316, 0.0316, 0.38, 0.0799, 0.891),
    "mean and variance": (0.0316, 0.0316, 0.488, -0.712, 0.462),
    "prelu, batch norm, full batch": (0.316, 3.16, 0.717, 0.00292, 0.557),
    "recurrent by hand": (0.00316, 0.01, 0.952, 0.0235, 1.37),
    "language model, lstm, sgd, clipped": (3.16, 10, 3, 1, 0.974),
    "residual, sgd": (0.1, 0.316, 2.02, 0.0287, 0.51),
    "short run": (0.01, 0.0316, 1.61, 0.0173, 0.888),
    "logistic regression, two classes, full batch": (0.1, 10, 0.952, 0.0405, 0.542),
    "spirals, silu": (0.00316, 0.0316, 0.688, 0.00982, 0.978),
    "prices as they come, perceptron": (3.16, 10, 6.55e+10, 8.98e+08, 0.987),
    "counts, huber, lion": (0.01, 0.01, 2.37, 0.867, 1.04),
    "discs, plain convolutions": (0.0316, 1, 0.751, 0.0856, 0.867),
    "tones, batch norm": (0.316, 1, 1.42, 0.0103, 0.855),
    "the future, rnn": (0.00316, 0.01, 0.517, 0.000535, 0.859),
    "the future, gru, full batch": (0.01, 0.0316, 0.613, 0.001, 0.734),
    "sets, maximum": (0.001, 0.0316, 3.32, 0.0349, 0.831),
    "patches, deeper": (0.001, 0.0316, 1.25, 0.0294, 0.842),
    "highway, sgd": (0.0316, 0.1, 1.64, 0.0308, 0.905),
    "gpt, norm last, adamw": (0.01, 0.0316, 3.09, 0.974, 0.404),
    "language model, rnn": (0.01, 0.0316, 3.04, 0.997, 0.505),
    "sigmoids, 3 layers": (0.0316, 0.0316, 0.848, 0.0347, 0.189),
    "dropout, convolutions": (0.001, 0.01, 1.1, 0.0378, 0.983),
    "features times ten": (0.001, 0.01, 2.67, 0.0471, 0.785),
    "wide and shallow, sgd": (0.0316, 3.16, 1.64, 0.0818, 0.563),
    "weight decay": (0.001, 0.01, 1.62, 0.0496, 0.959),
    "layer norm, tanh, deep": (0.001, 0.01, 1.64, 0.0816, 0.74),
    "nadam, leaky": (0.0316, 0.0316, 0.708, 0.00702, 0.605),
}


def sweep(net, rates=tuple(10 ** (k / 2) for k in range(-10, 3)), seeds=(0, 1)):
    """(good rate, best rate, loss at the start, at the end with the good one, share of the gain left by a thirtieth)."""
    found, tops, starts = {}, {}, []

    def end(lr):
        ends, peaks = [], []
        for seed in seeds:
            net.go(seed, lr, watched=False)
            ends.append(float(np.mean(net.losses[-max(5, net.steps // 10):])))
            peaks.append(max(net.losses) / abs(net.losses[0]))
            starts.append(net.losses[0])
        return max(ends) if all(map(math.isfinite, ends)) else math.inf, max(peaks)
    for lr in rates:
        found[lr], tops[lr] = end(lr)
    best, start = min(found, key=found.get), float(np.mean(starts))
    good = next((lr for lr in rates if start - found[lr] >= 0.95 * (start - found[best]) and tops[lr] < 3), best)
    return good, best, start, found[good], (end(good / 30)[0] - found[good]) / (start - found[good])


if __name__ == "__main__":
    for which in sys.argv[1:] or BATCHES:
        for net in BATCHES[which][1]:
            print(f'    "{net.name}": (%s),' % ", ".join(f"{v:.3g}" for v in sweep(net)), flush=True)
