"""Networks with a planted fault, and healthy ones, for the verdicts of insight.flow.

Each entry: (name, expected kind or None, function(seed) -> Flow after training).
"""

import fastbp
import numpy as np
from fastbp import insight, nn, optim
from fastbp.nn import functional as F


def blobs(seed, n=256, features=20, classes=5, spread=1.0):
    """Classes around random centres; features have mean 0 and variance about 1."""
    rng = np.random.default_rng([seed, 1])
    centres = rng.standard_normal((classes, features))
    y = rng.integers(0, classes, n)
    x = (centres[y] + spread * rng.standard_normal((n, features))) / (1 + spread ** 2) ** 0.5
    return fastbp.tensor(x.astype(np.float32)), fastbp.tensor(y)


def curve(seed, n=256, features=8):
    """A smooth function of random inputs, standardized."""
    rng = np.random.default_rng([seed, 2])
    x = rng.standard_normal((n, features))
    w = rng.standard_normal((features, 2))
    y = np.tanh(x @ w[:, :1]) + 0.5 * np.sin(x @ w[:, 1:])
    return fastbp.tensor(x.astype(np.float32)), fastbp.tensor(((y - y.mean()) / y.std()).astype(np.float32))


def sequences(seed, n=128, time=30, features=6):
    """Sequences with mean over time as the target's argument: (x [N, T, F], y [N, 1])."""
    rng = np.random.default_rng([seed, 3])
    x = rng.standard_normal((n, time, features))
    y = x[:, :, 0].mean(1, keepdims=True) * time ** 0.5
    return fastbp.tensor(x.astype(np.float32)), fastbp.tensor(y.astype(np.float32))


def pictures(seed, n=96):
    """Bright squares at one of four places of a noisy 12 x 12 picture."""
    rng = np.random.default_rng([seed, 4])
    y = rng.integers(0, 4, n)
    x = 0.5 * rng.standard_normal((n, 1, 12, 12))
    for k, c in enumerate(y):
        x[k, 0, 1 + 6 * (c // 2):5 + 6 * (c // 2), 1 + 6 * (c % 2):5 + 6 * (c % 2)] += 1.5
    return fastbp.tensor(x.astype(np.float32)), fastbp.tensor(y)


def train(model, data, loss, optimizer, steps=150, batch=32, seed=0, after=None):
    """A plain loop with the monitor around it; it goes on when numbers are not finite, as such loops do."""
    x, y = data
    rng = np.random.default_rng([seed, 5])
    with insight.flow(model, optimizer) as watch:
        for _ in range(steps):
            rows = fastbp.tensor(rng.choice(len(x), batch, replace=False))
            optimizer.zero_grad()
            loss(model(x[rows]), y[rows]).backward()
            if after is not None:
                after(model)
            optimizer.step()
    return watch


def mlp(*widths, act=nn.ReLU, norm=None, last=True):
    layers = []
    for a, b in zip(widths, widths[1:]):
        layers.append(nn.Linear(a, b))
        if norm:
            layers.append(norm(b))
        layers.append(act())
    return nn.Sequential(*(layers[:-2 if norm else -1] if last else layers))


def init(model, weight, bias=None):
    with fastbp.no_grad():
        for m in model.modules():
            if isinstance(m, (nn.Linear, nn.Conv2d)):
                weight(m.weight)
                if bias is not None and m.bias is not None:
                    m.bias.fill_(bias)
    return model


def sgd(model, lr, momentum=0.0):
    return optim.SGD(model.parameters(), lr=lr, momentum=momentum)


def adam(model, lr=1e-3):
    return optim.Adam(model.parameters(), lr=lr)


class Recurrent(nn.Module):
    def __init__(self, cell, features=6, hidden=24, scale=None, layers=1, **options):
        super().__init__()
        self.rnn = cell(features, hidden, layers, batch_first=True, **options)
        self.head = nn.Linear(hidden, 1)
        if scale is not None:
            with fastbp.no_grad():
                for name, p in self.rnn.named_parameters():
                    if name.startswith("weight_hh"):
                        nn.init.orthogonal_(p)
                        p.mul_(scale)

    def forward(self, x):
        return self.head(self.rnn(x)[0][:, -1])


class Steps(nn.Module):
    """A cell called once for each step."""

    def __init__(self, hidden=24, scale=1.0, nonlinearity="tanh"):
        super().__init__()
        self.cell = nn.RNNCell(6, hidden, nonlinearity=nonlinearity)
        self.head = nn.Linear(hidden, 1)
        with fastbp.no_grad():
            nn.init.orthogonal_(self.cell.weight_hh)
            self.cell.weight_hh.mul_(scale)

    def forward(self, x):
        h = None
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], h)
        return self.head(h)


class Residual(nn.Module):
    def __init__(self, width, depth):
        super().__init__()
        self.inner = nn.ModuleList([nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU(),
                                                  nn.Linear(width, width)) for _ in range(depth)])
        self.head = nn.Linear(width, 5)

    def forward(self, x):
        for block in self.inner:
            x = x + block(x)
        return self.head(x)


class Cut(nn.Module):
    """The features are detached on the way to the head."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(20, 32), nn.Linear(32, 5)

    def forward(self, x):
        return self.head(F.relu(self.body(x)).detach())


class Transformer(nn.Module):
    def __init__(self, layers=2):
        super().__init__()
        self.embed = nn.Linear(6, 16)
        self.body = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True), layers)
        self.head = nn.Linear(16, 1)

    def forward(self, x):
        return self.head(self.body(self.embed(x)).mean(1))


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.head = nn.Embedding(50, 16), nn.Linear(16, 2)

    def forward(self, x):
        return self.head(self.table(x).mean(1))


def convolutional(norm=False):
    return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), *([nn.BatchNorm2d(8)] if norm else []), nn.ReLU(), nn.MaxPool2d(2),
                         nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(144, 4))


def kaiming(w):
    nn.init.kaiming_normal_(w, nonlinearity="relu")


def plain_log(output, target):
    """Cross entropy as one should not write it: softmax underflows, log(0) is -inf."""
    p = fastbp.exp(output) / fastbp.exp(output).sum(1, keepdim=True)
    onehot = F.one_hot(target, output.shape[1]).to(output.dtype)
    return -(onehot * p.log() + (1 - onehot) * (1 - p).log()).sum(1).mean()


def frozen_by(model, how):
    if how == "requires_grad":
        for p in model[2].parameters():
            p.requires_grad_(False)
        return optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    chosen = [p for name, p in model.named_parameters() if not name.startswith("2.")]
    return optim.SGD(chosen, lr=0.1)


def words(seed):
    rng = np.random.default_rng([seed, 6])
    x = rng.integers(0, 50, (256, 10))
    return fastbp.tensor(x), fastbp.tensor((x < 15).sum(1) > 3).long()


def run(build, data, loss, optimizer, **options):
    def go(seed):
        fastbp.manual_seed(seed)
        model = build()
        return train(model, data(seed), loss, optimizer(model), seed=seed, **options)
    return go


def small_normal(std):
    return lambda w: nn.init.normal_(w, 0.0, std)


ce, mse = F.cross_entropy, F.mse_loss

FAULTY = [
    ("sigmoid stack, 10 layers", "vanishing", run(lambda: mlp(20, *[32] * 10, 5, act=nn.Sigmoid), blobs, ce, lambda m: adam(m))),
    ("sigmoid stack, 20 layers, sgd", "vanishing",
     run(lambda: mlp(20, *[64] * 20, 5, act=nn.Sigmoid), blobs, ce, lambda m: sgd(m, 0.1))),
    ("sigmoid stack for regression", "vanishing",
     run(lambda: mlp(8, *[24] * 8, 1, act=nn.Sigmoid), curve, mse, lambda m: sgd(m, 0.05))),
    ("tanh stack with tiny weights", "vanishing",
     run(lambda: init(mlp(20, *[64] * 8, 5, act=nn.Tanh), small_normal(0.02), 0.0), blobs, ce, lambda m: sgd(m, 0.1))),
    ("recurrent, spectral radius 3", "exploding",
     run(lambda: Recurrent(nn.RNN, scale=3.0, nonlinearity="relu"), sequences, mse, lambda m: sgd(m, 0.01))),
    ("recurrent, tanh, large weights", "exploding",
     run(lambda: Recurrent(nn.RNN, scale=3.0), lambda s: sequences(s, time=60), mse, lambda m: sgd(m, 0.01))),
    ("cell in a loop, radius 3", "exploding",
     run(lambda: Steps(scale=3.0, nonlinearity="relu"), sequences, mse, lambda m: sgd(m, 1e-3),
                                                  steps=60)),
    ("deep relu, weights too large", "exploding",
     run(lambda: init(mlp(20, *[64] * 10, 5), small_normal(0.5)), blobs, ce, lambda m: sgd(m, 1e-3))),
    ("relu biases at -10", "dead", run(lambda: init(mlp(20, 64, 64, 5), kaiming, -10.0), blobs, ce, lambda m: sgd(m, 0.1))),
    ("relu biases at -5, adam", "dead", run(lambda: init(mlp(8, 48, 1), kaiming, -5.0), curve, mse, lambda m: adam(m))),
    ("inputs far off", "dead",
     run(lambda: init(mlp(20, 64, 64, 5), lambda w: w.uniform_(-0.2, 0.1)),
                                   lambda s: (blobs(s)[0] + 20, blobs(s)[1]), ce, lambda m: sgd(m, 1e-3))),
    ("sgd, learning rate 30 times too high", "learning rate too high",
     run(lambda: mlp(20, 64, 64, 5), blobs, ce, lambda m: sgd(m, 9.0))),
    ("adam, learning rate 30 times too high", "learning rate too high",
     run(lambda: mlp(20, 64, 64, 5), blobs, ce, lambda m: adam(m, 0.3))),
    ("regression, learning rate 30 times too high", "learning rate too high",
     run(lambda: mlp(8, 32, 1, act=nn.Tanh), curve, mse, lambda m: sgd(m, 3.0))),
    ("sgd, learning rate 30 times too low", "learning rate too low",
     run(lambda: mlp(20, 64, 64, 5), blobs, ce, lambda m: sgd(m, 0.003))),
    ("adam, learning rate 30 times too low", "learning rate too low",
     run(lambda: mlp(20, 64, 64, 5), blobs, ce, lambda m: adam(m, 3e-5))),
    ("convolutions, learning rate 30 times too low", "learning rate too low",
     run(convolutional, pictures, ce, lambda m: sgd(m, 0.0015))),
    ("a layer without requires_grad", "frozen",
     run(lambda: mlp(20, 64, 64, 5), blobs, ce, lambda m: frozen_by(m, "requires_grad"))),
    ("a detached body", "frozen", run(Cut, blobs, ce, lambda m: adam(m))),
    ("log(0)", "non-finite",
     run(lambda: mlp(20, 64, 5), lambda s: blobs(s, spread=0.2), plain_log, lambda m: adam(m, 0.02), steps=300)),
]

HEALTHY = [
    ("perceptron, sgd", run(lambda: mlp(20, 64, 64, 5), blobs, ce, lambda m: sgd(m, 0.1))),
    ("perceptron, adam", run(lambda: mlp(20, 64, 64, 5), blobs, ce, lambda m: adam(m))),
    ("wide perceptron", run(lambda: mlp(20, 256, 128, 5), blobs, ce, lambda m: sgd(m, 0.1, 0.9))),
    ("small regression, tanh", run(lambda: mlp(8, 32, 1, act=nn.Tanh), curve, mse, lambda m: sgd(m, 0.1))),
    ("small regression, adam", run(lambda: mlp(8, 32, 32, 1), curve, mse, lambda m: adam(m, 3e-3))),
    ("one sigmoid layer", run(lambda: mlp(20, 32, 5, act=nn.Sigmoid), blobs, ce, lambda m: adam(m, 1e-2))),
    ("two sigmoid layers", run(lambda: mlp(20, 32, 32, 5, act=nn.Sigmoid), blobs, ce, lambda m: adam(m, 1e-2))),
    ("deep relu, he", run(lambda: init(mlp(20, *[64] * 10, 5), kaiming, 0.0), blobs, ce, lambda m: sgd(m, 0.03))),
    ("deep residual", run(lambda: Residual(20, 8), blobs, ce, lambda m: adam(m))),
    ("batch norm", run(lambda: mlp(20, 64, 64, 5, norm=nn.BatchNorm1d), blobs, ce, lambda m: sgd(m, 0.1))),
    ("gelu, adamw",
     run(lambda: mlp(20, 64, 64, 5, act=nn.GELU), blobs, ce, lambda m: optim.AdamW(m.parameters(), lr=2e-3))),
    ("convolutions", run(convolutional, pictures, ce, lambda m: sgd(m, 0.05))),
    ("convolutions, batch norm, adam", run(lambda: convolutional(True), pictures, ce, lambda m: adam(m, 3e-3))),
    ("lstm", run(lambda: Recurrent(nn.LSTM), sequences, mse, lambda m: adam(m, 1e-2), steps=200)),
    ("gru", run(lambda: Recurrent(nn.GRU), sequences, mse, lambda m: adam(m, 1e-2), steps=200)),
    ("recurrent, orthogonal", run(lambda: Recurrent(nn.RNN, scale=1.0), sequences, mse, lambda m: adam(m, 3e-3), steps=200)),
    ("transformer", run(Transformer, sequences, mse, lambda m: adam(m, 3e-3), steps=200)),
    ("embedding", run(Words, words, ce, lambda m: adam(m, 1e-2), steps=200)),
    ("logistic regression", run(lambda: nn.Linear(20, 5), blobs, ce, lambda m: sgd(m, 0.3))),
    ("dropout",
     run(lambda: nn.Sequential(nn.Linear(20, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 5)), blobs,
         ce, lambda m: adam(m, 2e-3))),
]
