"""Three more batches for the verdicts of insight.flow, written before any of their verdicts was seen (see planted_held).

Batch four is of the kind of the first three,
    with other networks.  Batch five is what one writes to try a monitor: plain networks,
usual learning rates, few steps, often one batch of random numbers for all of them.
"""

import sys

import fastbp
import numpy as np
from fastbp import insight, nn, optim
from fastbp.nn import functional as F
from planted import blobs, curve, init, kaiming, mlp, pictures, sequences
from planted_held import (
    BEST,
    HIGH,
    LOW,
    Lambda,
    Last,
    Loop,
    Net,
    adagrad,
    adam,
    adamw,
    bce,
    biases,
    ce,
    checkers,
    cnn,
    counts,
    degrees,
    future,
    itself,
    momentum,
    mse,
    rmsprop,
    scaled,
    sgd,
    stripes,
    sweep,
    t,
    tones,
    without,
)
from planted_more import Reader, houses, next_token, spirals, tokens, yes_no


def adamax(model, lr):
    return optim.Adamax(model.parameters(), lr=lr)


def radam(model, lr):
    return optim.RAdam(model.parameters(), lr=lr)


def nesterov(model, lr):
    return optim.SGD(model.parameters(), lr=lr, momentum=0.9, nesterov=True, weight_decay=1e-4)


# ---- data -----------------------------------------------------------------------------------------------------------


def reversal(seed, n=160, time=8):
    rng = np.random.default_rng([seed, 41])
    x = rng.integers(0, 10, (n, time))
    return t(x), t(x[:, ::-1].copy())


def tags(seed, n=128, time=16):
    """Whether the token before was greater."""
    rng = np.random.default_rng([seed, 42])
    x = rng.integers(0, 12, (n, time))
    y = np.zeros_like(x)
    y[:, 1:] = x[:, :-1] > x[:, 1:]
    return t(x), t(y)


def two_ways(seed, n=256):
    """Two values for each input: a mean says nothing."""
    rng = np.random.default_rng([seed, 43])
    x = rng.uniform(-1, 1, (n, 1))
    return t(x), t(np.sign(rng.standard_normal((n, 1))) * (0.5 + x ** 2) + 0.05 * rng.standard_normal((n, 1)))


def views(seed, n=192):
    """Two noisy views of one thing."""
    rng = np.random.default_rng([seed, 44])
    z = rng.standard_normal((n, 4)) @ rng.standard_normal((4, 24))
    return t(np.stack([z + 0.3 * rng.standard_normal(z.shape), z + 0.3 * rng.standard_normal(z.shape)], 1)), t(np.arange(n))


def mixed(seed, n=300):
    """A category and three numbers in one row."""
    rng = np.random.default_rng([seed, 45])
    c, x = rng.integers(0, 12, n), rng.standard_normal((n, 3))
    y = rng.standard_normal(12)[c] + x @ rng.standard_normal(3) * 0.5
    return t(np.concatenate([c[:, None], x], 1)), t(y[:, None])


def drawings(seed, n=128):
    """One of four labels to its picture."""
    x, y = pictures(seed, n)
    return F.one_hot(y, 4).float(), x


def people(seed, n=240):
    """Nodes of a ring of friends, ten rings at once: the label is the majority around."""
    rng = np.random.default_rng([seed, 46])
    x = rng.standard_normal((n // 10, 10, 4))
    s = x[:, :, 0] + np.roll(x[:, :, 0], 1, 1) + np.roll(x[:, :, 0], -1, 1)
    return t(x), t((s > 0).astype(np.float64)[:, :, None])


# ---- networks -------------------------------------------------------------------------------------------------------


class Maxout(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(2, 96), nn.Linear(32, 96), nn.Linear(32, 2)

    def forward(self, x):
        x = self.a(x).unflatten(1, (32, 3)).amax(2)
        return self.c(self.b(x).unflatten(1, (32, 3)).amax(2))


class Both(nn.Module):
    """Convolutions, then an LSTM over what they found."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv1d(1, 12, 5, stride=2, padding=2), nn.BatchNorm1d(12)
        self.rnn, self.head = nn.LSTM(12, 20, batch_first=True), nn.Linear(20, 4)

    def forward(self, x):
        h = F.relu(self.norm(self.conv(x))).transpose(1, 2)
        return self.head(self.rnn(h)[0].mean(1))


class Translator(nn.Module):
    """Encoder, decoder, attention between them."""

    def __init__(self, width=32):
        super().__init__()
        self.table, self.inside = nn.Embedding(10, width), nn.GRU(width, width, batch_first=True)
        self.place, self.out = nn.Embedding(8, width), nn.GRU(width, width, batch_first=True)
        self.head = nn.Linear(2 * width, 10)

    def forward(self, x):
        memory, state = self.inside(self.table(x))
        h, _ = self.out(self.place(fastbp.arange(8)).expand(len(x), -1, -1), state)
        seen = F.scaled_dot_product_attention(h, memory, memory)
        return self.head(fastbp.cat([h, seen], -1))


class Around(nn.Module):
    """Two graph convolutions on a ring."""

    def __init__(self):
        super().__init__()
        ring = fastbp.eye(10) + fastbp.roll(fastbp.eye(10), 1, 0) + fastbp.roll(fastbp.eye(10), -1, 0)
        self.register_buffer("ring", ring / 3)
        self.a, self.b, self.c = nn.Linear(4, 24), nn.Linear(24, 24), nn.Linear(24, 1)

    def forward(self, x):
        x = F.relu(self.a(self.ring @ x))
        return self.c(F.relu(self.b(self.ring @ x)))


class Swiglu(nn.Module):
    """A block of a modern language model, by hand."""

    def __init__(self, width=32, vocabulary=20):
        super().__init__()
        self.table = nn.Embedding(vocabulary, width)
        self.n1, self.qkv, self.o = nn.RMSNorm(width), nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width,
            bias=False)
        self.n2, self.gate, self.up = nn.RMSNorm(width), nn.Linear(width, 64, bias=False), nn.Linear(width, 64, bias=False)
        self.down, self.n3, self.head = nn.Linear(64, width, bias=False), nn.RMSNorm(width), nn.Linear(width, vocabulary,
            bias=False)

    def forward(self, x):
        x = self.table(x)
        q, k, v = (u.unflatten(-1, (4, 8)).transpose(1, 2) for u in self.qkv(self.n1(x)).chunk(3, -1))
        x = x + self.o(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))
        h = self.n2(x)
        x = x + self.down(F.silu(self.gate(h)) * self.up(h))
        return self.head(self.n3(x))


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(12, 16)
        self.rnn = nn.LSTM(16, 24, 2, batch_first=True)
        self.head = nn.Linear(24, 2)

    def forward(self, x):
        return self.head(self.rnn(self.table(x))[0])


class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.body, self.straight = nn.Embedding(12, 6), mlp(9, 32, 1), nn.Linear(3, 1)

    def forward(self, x):
        c, numbers = x[:, 0].long(), x[:, 1:]
        return self.body(fastbp.cat([self.table(c), numbers], 1)) + self.straight(numbers)


class Pairs(nn.Module):
    """Contrastive: which of the batch is the other view?"""

    def __init__(self):
        super().__init__()
        self.body = mlp(24, 48, 16)

    def forward(self, x):
        a, b = (F.normalize(self.body(x[:, k]), dim=1) for k in (0, 1))
        return a @ b.T / 0.2


class Bilinear(nn.Module):
    def __init__(self):
        super().__init__()
        self.f, self.head = nn.Bilinear(10, 10, 24), nn.Linear(24, 5)

    def forward(self, x):
        return self.head(F.relu(self.f(x[:, :10], x[:, 10:])))


def separable():
    layers, last = [nn.Conv2d(3, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU6()], 12
    for w in (16, 24):
        layers += [nn.Conv2d(last, last, 3, 2, 1, groups=last), nn.BatchNorm2d(last), nn.ReLU6(), nn.Conv2d(last, w, 1),
                   nn.BatchNorm2d(w), nn.ReLU6()]
        last = w
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(last, 3))


def painter():
    return nn.Sequential(nn.Linear(4, 72), nn.ReLU(), nn.Unflatten(1, (8, 3, 3)), nn.ConvTranspose2d(8, 8, 2, 2), nn.ReLU(),
                         nn.ConvTranspose2d(8, 1, 2, 2))


def matching(output, target):
    return F.cross_entropy(output, fastbp.arange(len(output)))


def mixture(output, target):
    """Three bells: log weights, means, log deviations."""
    weight, mean, log = output.chunk(3, 1)
    bell = -0.5 * ((target - mean) * (-log).exp()).square() - log
    return -fastbp.logsumexp(F.log_softmax(weight, 1) + bell, 1).mean()


def hinge(output, target):
    return F.relu(1 - output * (2 * target - 1)).mean()


def per_token(output, target):
    return F.cross_entropy(output.flatten(0, 1), target.flatten())


# ---- batch four -----------------------------------------------------------------------------------------------------

FOUR_HEALTHY = [
    Net("maxout", Maxout, spirals, ce, momentum, steps=250),
    Net("convolution and lstm", Both, tones, ce, adam, steps=120),
    Net("translator", Translator, reversal, per_token, adam, steps=200),
    Net("graph convolutions", Around, people, bce, adam, batch=8),
    Net("bilinear", Bilinear, blobs, ce, adamw),
    Net("selu and alpha dropout", lambda: nn.Sequential(nn.Linear(20, 64), nn.SELU(), nn.AlphaDropout(0.1), nn.Linear(64, 64),
                                                        nn.SELU(), nn.Linear(64, 5)), blobs, ce, sgd),
    Net("instance norm", lambda: cnn(norm=nn.InstanceNorm2d), stripes, ce, nesterov, steps=80),
    Net("a modern block", Swiglu, tokens, next_token, adamw, steps=120),
    Net("denoising, tanh", lambda: nn.Sequential(nn.Dropout(0.2), *mlp(20, 48, 12, 48, 20, act=nn.Tanh)), itself(blobs), mse,
        adam),
    Net("pairs", Pairs, views, matching, adam),
    Net("mixture of three", lambda: mlp(1, 40, 9, act=nn.Tanh), two_ways, mixture, adam, steps=300),
    Net("separable convolutions", separable, stripes, ce, rmsprop, steps=80),
    Net("painter", painter, drawings, mse, radam, steps=200),
    Net("tagger", Tagger, tags, per_token, adam, steps=200),
    Net("category and numbers", Mixed, mixed, mse, adamax, steps=200),
    Net("hinge, linear", lambda: nn.Linear(20, 1), yes_no, hinge, nesterov),
    Net("targets of 40, layer norm", lambda: mlp(8, 64, 64, 1, norm=nn.LayerNorm), degrees, mse, adam, steps=250),
    Net("five layers of leaky", lambda: mlp(2, 48, 48, 48, 48, 48, 2, act=nn.LeakyReLU), checkers, ce, adam, steps=300, batch=64),
    Net("counts, mish, full batch", lambda: mlp(8, 32, 32, 1, act=nn.Mish), counts, F.smooth_l1_loss, adamw, batch=None),
    Net("gru language model, adagrad", lambda: Reader(nn.GRU), tokens, next_token, adagrad, steps=150),
]
H = {n.name: n for n in FOUR_HEALTHY}
BEST.update({
    "maxout": (0.1, 0.1, 0.678, 0.0267, 0.942),
    "convolution and lstm": (0.0316, 0.316, 1.35, 0.0246, 0.574),
    "translator": (0.01, 0.01, 2.31, 0.214, 0.842),
    "graph convolutions": (0.01, 0.316, 0.707, 0.259, 0.883),
    "bilinear": (0.01, 0.0316, 1.75, 0.00448, 0.703),
    "selu and alpha dropout": (0.1, 0.316, 1.56, 0.0627, 0.729),
    "instance norm": (0.1, 10, 1.14, 0.0171, 0.869),
    "a modern block": (0.00316, 0.01, 3.01, 1.04, 0.791),
    "denoising, tanh": (0.01, 0.01, 0.895, 0.306, 0.665),
    "pairs": (0.001, 0.00316, 1.88, 0.651, 0.792),
    "mixture of three": (0.01, 0.01, 0.472, -0.901, 0.417),
    "separable convolutions": (0.00316, 0.0316, 1.15, 0.00594, 0.843),
    "painter": (0.0316, 0.0316, 0.702, 0.273, 1.12),
    "tagger": (0.00316, 0.0316, 0.703, 0.00234, 0.984),
    "category and numbers": (0.00316, 0.1, 1.31, 0.0608, 0.858),
    "hinge, linear": (0.001, 0.0316, 1.25, 0.0174, 1.12),
    "targets of 40, layer norm": (0.01, 0.01, 1.36e+03, 117, 0.944),
    "five layers of leaky": (0.001, 0.00316, 0.687, 0.167, 1),
    "counts, mish, full batch": (0.0316, 0.1, 2.66, 0.125, 0.37),
    "gru language model, adagrad": (0.1, 0.1, 2.98, 0.826, 0.339),
})

LOW_ONES = ["a modern block", "pairs", "selu and alpha dropout"]

FOUR_FAULTY = [
    Net("sigmoid, 16 layers, adamax", lambda: mlp(20, *[40] * 16, 5, act=nn.Sigmoid), blobs, ce, adamax, 2e-3, kind="vanishing",
        steps=80),
    Net("tanh convolutions, small weights", lambda: init(nn.Sequential(*[m for k in range(9) for m in (
        nn.Conv2d(3 if k == 0 else 8, 8, 3, padding=1), nn.Tanh())], nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)),
        lambda w: nn.init.normal_(w, 0, 0.02), 0.0), stripes, ce, sgd, 0.05, kind="vanishing", steps=50),
    Net("sigmoid, 6 layers of 200", lambda: mlp(2, *[200] * 6, 2, act=nn.Sigmoid), checkers, ce, adam, 1e-3, kind="vanishing",
        steps=80, batch=128),
    Net("half of tanh, functional", lambda: nn.Sequential(*[m for k in range(14) for m in (
        nn.Linear(8 if k == 0 else 32, 32), Lambda(lambda x: 0.5 * fastbp.tanh(x)))], nn.Linear(32, 1)), curve, mse, momentum,
            0.01,
        kind="vanishing", steps=80),
    Net("rnn relu, hidden 64, 50 steps", lambda: Last(nn.RNN, 6, 64, scale=5.0, nonlinearity="relu"),
        lambda s: sequences(s, time=50), mse, adam, 1e-3, kind="exploding", steps=50),
    Net("gru, weights of 30", lambda: Last(nn.GRU, 1, 16, scale=60.0), lambda s: future(s, time=60), mse, adam, 1e-3,
        kind="exploding", steps=60),
    Net("linear recurrence, radius 2", lambda: Loop(scale=2.0, act=lambda h: h), lambda s: sequences(s, time=40), mse, sgd, 1e-6,
        kind="exploding", steps=50),
    Net("tones, biases at -10", lambda: biases(nn.Sequential(nn.Conv1d(1, 16, 5), nn.ReLU(), nn.Conv1d(16, 16, 5), nn.ReLU(),
                                                             nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(16, 4)), -10.0),
                                                                 tones,
        ce, rmsprop, 1e-3, kind="dead", steps=80),
    Net("negative weights of positive numbers", lambda: init(mlp(20, 50, 50, 5), lambda w: w.copy_(-w.abs()), 0.0),
        lambda s: (blobs(s)[0].abs(), blobs(s)[1]), ce, momentum, 0.01, kind="dead"),
    Net("bias of -50 in the first of three", lambda: biases(mlp(12, 40, 40, 40, 1), -50.0, "0."), houses, mse, adamw, 1e-3,
        kind="dead"),
    H["translator"].again(HIGH, 30), H["category and numbers"].again(HIGH, 30), H["hinge, linear"].again(HIGH, 30),
    *[H[name].again(LOW, 1 / 30) for name in LOW_ONES],
    Net("frozen body, learning head", lambda: Reader(nn.LSTM), tokens, next_token, without("rnn"), 5e-3, kind="frozen"),
    Net("head left out", lambda: cnn(), stripes, ce, without("8.", how="left"), 1e-2, kind="frozen", steps=80),
    Net("a mean of none", lambda: mlp(20, 32, 5), blobs,
        lambda o, y: F.cross_entropy(o, y) + (o * (o > 3)).sum() / (o > 3).sum(), adam, 1e-3, kind="non-finite"),
    Net("entropy of what is sure", lambda: mlp(20, 64, 5), lambda s: (20 * blobs(s)[0], blobs(s)[1]),
        lambda o, y: F.cross_entropy(o, y) + 0.1 * (F.softmax(o, 1) * F.softmax(o, 1).log()).sum(1).mean(), sgd, 0.1,
        kind="non-finite"),
]


# ---- batch five: as one writes them ---------------------------------------------------------------------------------


def random_classes(seed, n=128, features=32, classes=10):
    """Random numbers with random labels."""
    rng = np.random.default_rng([seed, 51])
    return t(rng.standard_normal((n, features))), t(rng.integers(0, classes, n))


def teacher(seed, n=256, features=16):
    """y = X w + b with some noise."""
    rng = np.random.default_rng([seed, 52])
    x = rng.standard_normal((n, features))
    return t(x), t(x @ rng.standard_normal((features, 1)) + 1 + 0.1 * rng.standard_normal((n, 1)))


def halves(seed, n=256):
    rng = np.random.default_rng([seed, 53])
    x = rng.standard_normal((n, 10))
    return t(x), t((x.sum(1) > 0).astype(np.int64))


def digits(seed, n=256):
    """Ten random patterns of 64 points with noise, like pictures of digits, between 0 and 1."""
    rng = np.random.default_rng([seed, 54])
    y = rng.integers(0, 10, n)
    x = np.clip(rng.random((10, 64))[y] + 0.2 * rng.standard_normal((n, 64)), 0, 1)
    return t(x), t(y)


def digit_pictures(seed):
    x, y = digits(seed)
    return x.reshape(-1, 1, 8, 8), y


def parity_of_signs(seed, n=256):
    rng = np.random.default_rng([seed, 55])
    x = rng.choice([-1.0, 1.0], (n, 2)) + 0.1 * rng.standard_normal((n, 2))
    return t(x), t((x.prod(1) > 0).astype(np.int64))


def sums(seed, n=200, time=20):
    rng = np.random.default_rng([seed, 56])
    x = rng.standard_normal((n, time, 4))
    return t(x), t((x.sum((1, 2)) > 0).astype(np.int64))


def lenet():
    return nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 3, padding=1), nn.ReLU(),
                         nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def orthogonal(model, scale):
    with fastbp.no_grad():
        nn.init.orthogonal_(model.rnn.weight_hh_l0)
        model.rnn.weight_hh_l0.mul_(scale)
    return model


def log_of_0(output, target):
    return -fastbp.log(F.relu(output)).mean()


def root_of_difference(output, target):
    return fastbp.sqrt((output - output.detach()).square() + 0).mean() + F.mse_loss(output, target)


FIVE_HEALTHY = [
    Net("digits, relu, sgd 0.1", lambda: mlp(64, 64, 32, 10), digits, ce, sgd, 0.1, steps=200),
    Net("digits, relu, adam 0.001", lambda: mlp(64, 128, 64, 10), digits, ce, adam, 1e-3),
    Net("digits, lenet, adam", lenet, digit_pictures, ce, adam, 2e-3),
    Net("digits, lenet, sgd with momentum", lenet, digit_pictures, ce, momentum, 0.02, steps=200),
    Net("line, sgd 0.05, full batch", lambda: nn.Linear(16, 1), teacher, mse, sgd, 0.05, batch=None, steps=100),
    Net("line by a perceptron, adam, full batch", lambda: mlp(16, 32, 1), teacher, mse, adam, 1e-2, batch=None, steps=200),
    Net("halves, full batch, sgd 0.5", lambda: mlp(10, 32, 2), halves, ce, sgd, 0.5, batch=None, steps=200),
    Net("halves, adam, 50 steps", lambda: mlp(10, 64, 2), halves, ce, adam, 5e-3, steps=50),
    Net("xor, tanh", lambda: mlp(2, 8, 2, act=nn.Tanh), parity_of_signs, ce, adam, 2e-2, steps=200),
    Net("by heart, one batch, adam", lambda: mlp(32, 128, 128, 10), random_classes, ce, adam, 1e-3, batch=None, steps=100),
    Net("by heart, one batch, sgd", lambda: mlp(32, 256, 10), lambda s: random_classes(s, 32), ce, sgd, 0.3, batch=None,
        steps=200),
    Net("lstm, sums", lambda: Last(nn.LSTM, 4, 32, 2), sums, ce, adam, 5e-3),
    Net("gru, sums, clipped", lambda: Last(nn.GRU, 4, 32, 2), sums, ce, adam, 5e-3, clip=1.0),
    Net("rnn, sums, orthogonal", lambda: orthogonal(Last(nn.RNN, 4, 32, 2), 1.0), sums, ce, adam, 2e-3),
    Net("he, eight layers", lambda: init(mlp(64, *[64] * 8, 10), kaiming, 0.0), digits, ce, adam, 1e-3),
    Net("batch norm, six layers", lambda: mlp(64, *[48] * 6, 10, norm=nn.BatchNorm1d), digits, ce, momentum, 0.05),
    Net("layer norm, gelu", lambda: mlp(64, 64, 64, 10, act=nn.GELU, norm=nn.LayerNorm), digits, ce, adamw, 1e-3),
    Net("one sigmoid, sgd 1.0", lambda: mlp(64, 32, 10, act=nn.Sigmoid), digits, ce, sgd, 1.0, steps=300),
    Net("autoencoder of digits", lambda: mlp(64, 32, 16, 32, 64), itself(digits), mse, adam, 3e-3, steps=300),
    Net("leaky, dropout", lambda: nn.Sequential(nn.Linear(64, 128), nn.LeakyReLU(), nn.Dropout(0.3), nn.Linear(128, 10)),
        digits, ce,
        adam, 2e-3),
]

FIVE_FAULTY = [
    Net("ten sigmoids on digits, sgd", lambda: mlp(64, *[64] * 10, 10, act=nn.Sigmoid), digits, ce, sgd, 0.1, kind="vanishing"),
    Net("eight sigmoids by heart", lambda: mlp(32, *[32] * 8, 10, act=nn.Sigmoid), random_classes, ce, adam, 1e-3,
        kind="vanishing",
        batch=None, steps=50),
    Net("twenty tanh, weights of 0.1", lambda: init(mlp(32, *[32] * 20, 10, act=nn.Tanh), lambda w: nn.init.normal_(w, 0, 0.1),
        0.0),
        random_classes, ce, sgd, 0.1, kind="vanishing", batch=None, steps=50),
    Net("five sigmoids of 32", lambda: mlp(10, *[32] * 5, 2, act=nn.Sigmoid), halves, ce, sgd, 0.1, kind="vanishing"),
    Net("rnn relu, 1.5 over 50 steps", lambda: orthogonal(Last(nn.RNN, 4, 32, 2, nonlinearity="relu"), 2.0),
        lambda s: sums(s, time=50), ce, sgd, 1e-2, kind="exploding", steps=40),
    Net("rnn tanh, weights of 1", lambda: scaled(Last(nn.RNN, 4, 64, 2), 10.0), lambda s: sums(s, time=60), ce, sgd, 1e-2,
        kind="exploding", steps=60),
    Net("rnn by hand, radius 3", lambda: Loop(features=4, hidden=32, scale=3.0, act=fastbp.relu), lambda s: (
        sums(s)[0], sums(s)[1].float()[:, None]), mse, adam, 1e-3, kind="exploding", steps=40),
    Net("bias of -10 on digits", lambda: biases(mlp(64, 64, 32, 10), -10.0), digits, ce, sgd, 0.1, kind="dead"),
    Net("bias of -100, first layer", lambda: biases(mlp(10, 32, 2), -100.0, "0."), halves, ce, adam, 1e-3, kind="dead", steps=50),
    Net("bias of -5 in lenet", lambda: biases(lenet(), -5.0), digit_pictures, ce, adam, 1e-3, kind="dead", steps=60),
    Net("digits, sgd 3.0", lambda: mlp(64, 64, 32, 10), digits, ce, sgd, 9.0, kind=HIGH),
    Net("line, sgd 1.5", lambda: nn.Linear(16, 1), teacher, mse, sgd, 1.5, kind=HIGH, batch=None, steps=60),
    Net("line by a perceptron, adam 1", lambda: mlp(16, 32, 1), teacher, mse, adam, 1.0, kind=HIGH, steps=60),
    Net("digits, sgd 0.003", lambda: mlp(64, 64, 32, 10), digits, ce, sgd, 3e-3, kind=LOW),
    Net("digits, adam 3e-5", lambda: mlp(64, 128, 64, 10), digits, ce, adam, 3e-5, kind=LOW),
    Net("line, sgd 0.0015, full batch", lambda: nn.Linear(16, 1), teacher, mse, sgd, 1.5e-3, kind=LOW, batch=None, steps=60),
    Net("first layer frozen", lambda: mlp(64, 64, 32, 10), digits, ce, without("0.", sgd), 0.1, kind="frozen"),
    Net("last block left out", lenet, digit_pictures, ce, without("7.", how="left"), 2e-3, kind="frozen"),
    Net("log of 0", lambda: mlp(16, 32, 8), teacher, log_of_0, adam, 1e-3, kind="non-finite", steps=30),
    Net("root at 0", lambda: mlp(16, 32, 1), teacher, root_of_difference, sgd, 1e-2, kind="non-finite", steps=30),
]


# ---- batch six: other loops, other widths ---------------------------------------------------------------------------


class Loose(Net):
    """Loops of other kinds: "accumulate" two batches for a step, a "schedule" of rates, a monitor with "nobody" to tell it the
    optimizer, "epochs" of a loader."""

    def __init__(self, *arguments, how, **options):
        super().__init__(*arguments, **options)
        self.how = how

    def go(self, seed, lr=None, watched=True):
        fastbp.manual_seed(seed)
        model = self.build()
        optimizer = self.optimizer(model, self.rate() if lr is None else lr)
        x, y = self.data(seed)
        rng = np.random.default_rng([seed, 60])
        self.losses = []
        watch = insight.flow(model, None if self.how == "nobody" else optimizer)
        schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps) if self.how == "schedule" else None
        loader = fastbp.utils.data.DataLoader(fastbp.utils.data.TensorDataset(x, y), batch_size=self.batch, shuffle=True)
        batches = (b for _ in range(self.steps) for b in loader)
        if watched:
            watch.__enter__()
        for _ in range(self.steps):
            optimizer.zero_grad()
            for _ in range(2 if self.how == "accumulate" else 1):
                if self.how == "epochs":
                    a, b = next(batches)
                else:
                    rows = t(rng.choice(len(x), self.batch, replace=False))
                    a, b = x[rows], y[rows]
                loss = self.loss(model(a), b)
                (loss / 2 if self.how == "accumulate" else loss).backward()
            self.losses.append(loss.item())
            optimizer.step()
            if schedule:
                schedule.step()
        if watched:
            watch.__exit__(None, None, None)
        return watch


def rings(seed, n=300):
    """A disc and the ring around it."""
    rng = np.random.default_rng([seed, 61])
    y = rng.integers(0, 2, n)
    r, a = np.where(y == 1, 2.0, 0.6) + 0.25 * rng.standard_normal(n), 2 * np.pi * rng.random(n)
    return t(np.stack([r * np.cos(a), r * np.sin(a)], 1)), t(y)


def surface(seed, n=400):
    rng = np.random.default_rng([seed, 62])
    x = rng.uniform(-1, 1, (n, 2))
    return t(x), t(np.sin(3 * x[:, :1]) * np.cos(2 * x[:, 1:]) + 0.05 * rng.standard_normal((n, 1)))


def rare(seed, n=400):
    """One in eight is of the second class."""
    rng = np.random.default_rng([seed, 63])
    y = (rng.random(n) < 0.125).astype(np.int64)
    return t(rng.standard_normal((n, 12)) + 1.2 * y[:, None] * np.sign(rng.standard_normal(12))), t(y)


def years(seed, n=256):
    """Targets of about 1990 give or take 10, as they come."""
    rng = np.random.default_rng([seed, 64])
    x = rng.standard_normal((n, 6))
    return t(x), t(1990 + 10 * np.tanh(x @ rng.standard_normal((6, 1))) + rng.standard_normal((n, 1)))


def echoes(seed, n=160, time=12):
    """What was said three steps before."""
    rng = np.random.default_rng([seed, 65])
    x = rng.integers(0, 6, (n, time))
    y = np.zeros_like(x)
    y[:, 3:] = x[:, :-3]
    return t(x), t(y)


def corners(seed, n=96, size=10):
    """Colour pictures; where is the bright corner?"""
    rng = np.random.default_rng([seed, 66])
    y = rng.integers(0, 4, n)
    x = 0.4 * rng.standard_normal((n, 3, size, size))
    for k, c in enumerate(y):
        x[k, :, (c // 2) * 6:(c // 2) * 6 + 4, (c % 2) * 6:(c % 2) * 6 + 4] += 1
    return t(x), t(y)


class Echo(nn.Module):
    def __init__(self, cell=nn.LSTM, hidden=32):
        super().__init__()
        self.table, self.rnn, self.head = nn.Embedding(6, 12), cell(12, hidden, batch_first=True), nn.Linear(hidden, 6)

    def forward(self, x):
        return self.head(self.rnn(self.table(x))[0])


class Wide(nn.Module):
    """Two ways to the same output, of which one is linear."""

    def __init__(self):
        super().__init__()
        self.deep, self.line = mlp(12, 64, 32, 2), nn.Linear(12, 2)

    def forward(self, x):
        return self.deep(x) + self.line(x)


class Bottleneck(nn.Module):
    """Residual blocks of convolutions with three sizes of kernels."""

    def __init__(self, channels=16, blocks=3):
        super().__init__()
        self.first = nn.Conv2d(3, channels, 3, padding=1)
        self.blocks = nn.ModuleList([nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, 8, 1), nn.ReLU(),
                                                   nn.Conv2d(8, channels, 3, padding=1)) for _ in range(blocks)])
        self.head = nn.Linear(channels * 25, 4)

    def forward(self, x):
        x = F.max_pool2d(self.first(x), 2)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x.flatten(1))


class Cross(nn.Module):
    """Attention of learned questions over a sequence."""

    def __init__(self, width=24):
        super().__init__()
        self.inside, self.ask = nn.Linear(6, width), nn.Parameter(0.3 * fastbp.randn(2, width))
        self.attend = nn.MultiheadAttention(width, 4, batch_first=True)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(2 * width, 1)

    def forward(self, x):
        h = self.inside(x)
        q = self.ask.expand(len(x), -1, -1)
        return self.head(self.norm(q + self.attend(q, h, h)[0]).flatten(1))


SIX_HEALTHY = [
    Loose("rings, accumulated", lambda: mlp(2, 24, 24, 2), rings, ce, adam, how="accumulate", steps=120),
    Loose("surface, schedule", lambda: mlp(2, 48, 48, 1, act=nn.Tanh), surface, mse, adam, how="schedule", steps=300),
    Loose("rare, nobody", Wide, rare, ce, momentum, how="nobody"),
    Loose("corners, epochs", Bottleneck, corners, ce, adamw, how="epochs", steps=80),
    Net("years as they come", lambda: mlp(6, 48, 1), years, mse, adam, steps=400),
    Net("years, linear, full batch", lambda: nn.Linear(6, 1), years, mse, sgd, batch=None),
    Net("echo, lstm", Echo, echoes, per_token, adam, steps=250),
    Net("echo, gru, rmsprop", lambda: Echo(nn.GRU, 48), echoes, per_token, rmsprop, steps=250),
    Net("questions", Cross, sequences, mse, adam, steps=200),
    Net("one wide layer, adagrad", lambda: mlp(2, 500, 2), rings, ce, adagrad),
    Net("eight units", lambda: mlp(2, 8, 8, 2, act=nn.Softplus), rings, ce, adam, steps=300),
    Net("surface, sine", lambda: nn.Sequential(nn.Linear(2, 64), Lambda(lambda x: fastbp.sin(2 * x)), nn.Linear(64, 1)),
        surface, mse,
        adam, steps=200),
    Net("corners, batch norm, sgd", lambda: cnn(classes=4, norm=nn.BatchNorm2d), corners, ce, momentum, steps=80),
    Net("corners, large kernels", lambda: nn.Sequential(nn.Conv2d(3, 12, 5, 2), nn.GELU(), nn.Flatten(), nn.Linear(108, 4)),
        corners,
        ce, adam, steps=80),
    Net("twelve layers of batch norm", lambda: mlp(12, *[32] * 12, 2, norm=nn.BatchNorm1d), rare, ce, adam, batch=64),
    Net("sigmoid in the middle", lambda: nn.Sequential(nn.Linear(20, 48), nn.ReLU(), nn.Linear(48, 24), nn.Sigmoid(),
                                                       nn.Linear(24, 5)), blobs, ce, adam),
    Net("softmax output, nll", lambda: nn.Sequential(*mlp(20, 64, 5), nn.LogSoftmax(1)), blobs, F.nll_loss, radam),
    Net("soft targets", lambda: mlp(20, 48, 5), blobs, lambda o, y: F.cross_entropy(o, y, label_smoothing=0.1), nesterov),
    Net("absolute error", lambda: mlp(8, 64, 1), curve, F.l1_loss, adam, steps=200),
    Net("small steps, large batch", lambda: mlp(20, 64, 64, 5), blobs, ce, sgd, batch=200, steps=200),
]
H = {n.name: n for n in SIX_HEALTHY}
BEST.update({
    "rings, accumulated": (0.00316, 0.01, 0.67, 0.0324, 0.976),
    "surface, schedule": (0.01, 0.0316, 0.253, 0.0122, 0.503),
    "rare, nobody": (0.0316, 0.1, 0.723, 0.0312, 0.258),
    "corners, epochs": (0.000316, 0.00316, 1.35, 0.0275, 0.985),
    "years as they come": (0.0316, 1, 3.96e+06, 2.85e+04, 0.977),
    "years, linear, full batch": (0.01, 0.316, 3.96e+06, 2.34e+04, 0.824),
    "echo, lstm": (0.01, 0.0316, 1.79, 0.0157, 0.769),
    "echo, gru, rmsprop": (0.00316, 0.01, 1.81, 0.011, 0.904),
    "questions": (0.000316, 0.01, 1.54, 0.0234, 0.905),
    "one wide layer, adagrad": (0.01, 10, 0.736, 0.0337, 0.761),
    "eight units": (0.01, 0.1, 0.728, 0.0289, 0.945),
    "surface, sine": (0.01, 0.01, 0.302, 0.00347, 0.434),
    "corners, batch norm, sgd": (0.01, 1, 1.34, 0.0171, 0.765),
    "corners, large kernels": (0.00316, 0.0316, 1.41, 0.00168, 0.92),
    "twelve layers of batch norm": (0.001, 0.1, 0.622, 0.053, 0.847),
    "sigmoid in the middle": (0.01, 0.0316, 1.64, 0.018, 0.879),
    "softmax output, nll": (0.0316, 0.1, 1.59, 0.0165, 0.806),
    "soft targets": (0.01, 0.316, 1.7, 0.478, 0.868),
    "absolute error": (0.01, 0.01, 0.884, 0.307, 0.393),
    "small steps, large batch": (0.1, 1, 1.6, 0.0396, 0.959),
})
SIX_LOW = ["questions", "one wide layer, adagrad", "years, linear, full batch", "corners, large kernels", "softmax output, nll",
           "echo, lstm"]

SIX_FAULTY = [
    Loose("sigmoids, accumulated", lambda: mlp(2, *[32] * 9, 2, act=nn.Sigmoid), rings, ce, adam, 1e-3, kind="vanishing",
          how="accumulate", steps=60),
    Loose("sigmoids, nobody", lambda: mlp(12, *[64] * 7, 2, act=nn.Sigmoid), rare, ce, sgd, 0.1, kind="vanishing", how="nobody"),
    Net("sigmoids on years", lambda: mlp(6, *[32] * 10, 1, act=nn.Sigmoid), years, mse, adam, 1e-3, kind="vanishing"),
    Net("tanh, orthogonal times 0.3", lambda: init(mlp(20, *[32] * 9, 5, act=nn.Tanh), lambda w: nn.init.orthogonal_(w, 0.3),
        0.0),
        blobs, ce, rmsprop, 1e-4, kind="vanishing"),
    Loose("rnn relu, scheduled", lambda: Last(nn.RNN, 6, 30, scale=5.0, nonlinearity="relu"), sequences, mse, adam, 1e-3,
          kind="exploding", how="schedule", steps=50),
    Net("echo, rnn, relu, radius 4", lambda: scaled(Echo(lambda a, b, **k: nn.RNN(a, b, nonlinearity="relu", **k)), 7.0),
        lambda s: echoes(s, time=30), per_token, sgd, 1e-4, kind="exploding", steps=50),
    Net("two layers of rnn, tanh, radius 6", lambda: Last(nn.RNN, 6, 24, scale=10.0, num_layers=2), lambda s: sequences(s,
        time=50),
        mse, momentum, 1e-3, kind="exploding", steps=50),
    Loose("bias of -20, nobody", lambda: biases(mlp(2, 48, 48, 2), -20.0, "0."), rings, ce, adam, 1e-3, kind="dead",
        how="nobody"),
    Loose("bias of -6, epochs", lambda: biases(cnn(classes=4), -6.0), corners, ce, adam, 1e-3, kind="dead", how="epochs",
        steps=60),
    Net("biases at -9 on years", lambda: biases(mlp(6, 40, 40, 1), -9.0, "2."), years, mse, adam, 1e-2, kind="dead"),
    H["rings, accumulated"].again(HIGH, 30), H["corners, batch norm, sgd"].again(HIGH, 30), H["echo, gru, rmsprop"].again(HIGH,
        30),
    *[H[name].again(LOW, 1 / 30) for name in SIX_LOW if BEST.get(name, (1,))[-1] > 0.5][:3],
    Loose("frozen, accumulated", lambda: mlp(2, 24, 24, 2), rings, ce, without("2."), 5e-3, kind="frozen", how="accumulate"),
    Loose("half left out, epochs", Wide, rare, ce, without("deep", how="left"), 1e-2, kind="frozen", how="epochs", steps=80),
    Net("log(1 - p)", lambda: nn.Sequential(*mlp(20, 64, 1), nn.Sigmoid()), lambda s: (25 * yes_no(s)[0], yes_no(s)[1]),
        lambda p, y: -(y * p.log() + (1 - y) * (1 - p).log()).mean(), adam, 1e-2, kind="non-finite"),
    Net("divided by what is 0", lambda: mlp(8, 32, 1), curve, lambda o, y: ((o - y) / (y * (y > 0))).square().mean(), adam, 1e-3,
        kind="non-finite", steps=40),
]

BATCHES = {"four": (FOUR_FAULTY, FOUR_HEALTHY), "five": (FIVE_FAULTY, FIVE_HEALTHY), "six": (SIX_FAULTY, SIX_HEALTHY)}

if __name__ == "__main__":
    for which in sys.argv[1:] or ["four", "six"]:
        for net in BATCHES[which][1]:
            print(f'    "{net.name}": (%s),' % ", ".join(f"{v:.3g}" for v in sweep(net)), flush=True)
