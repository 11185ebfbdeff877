"""More networks with a planted fault, and healthy ones, other than planted.py's: other depths, widths, data, optimizers."""

import fastbp
import numpy as np
from fastbp import insight, nn, optim
from fastbp.nn import functional as F
from planted import (
    Recurrent,
    Residual,
    Steps,
    Transformer,
    adam,
    blobs,
    ce,
    convolutional,
    curve,
    init,
    kaiming,
    mlp,
    mse,
    pictures,
    run,
    sequences,
    sgd,
    small_normal,
    train,
    words,
)


def spirals(seed, n=400):
    """Two interleaved spirals: hard for a linear model."""
    rng = np.random.default_rng([seed, 7])
    t = 2 + 8 * rng.random(n)
    y = rng.integers(0, 2, n)
    x = np.stack([t * np.cos(t + np.pi * y), t * np.sin(t + np.pi * y)], 1) / 5 + 0.05 * rng.standard_normal((n, 2))
    return fastbp.tensor(x.astype(np.float32)), fastbp.tensor(y)


def tokens(seed, n=256, time=24, vocabulary=20):
    """Texts of a Markov chain: the next token follows from the present one, mostly."""
    rng = np.random.default_rng([seed, 8])
    follows = rng.permutation(vocabulary)
    x = rng.integers(0, vocabulary, (n, time + 1))
    for t in range(time):
        keep = rng.random(n) < 0.8
        x[keep, t + 1] = follows[x[keep, t]]
    return fastbp.tensor(x[:, :-1].copy()), fastbp.tensor(x[:, 1:].copy())


def houses(seed, n=256):
    """A linear function of 12 standardized features with noise."""
    rng = np.random.default_rng([seed, 9])
    x = rng.standard_normal((n, 12))
    y = x @ rng.standard_normal((12, 1)) / 12 ** 0.5 + 0.3 * rng.standard_normal((n, 1))
    return fastbp.tensor(x.astype(np.float32)), fastbp.tensor(y.astype(np.float32))


def yes_no(seed):
    x, y = blobs(seed, classes=2)
    return x, y.float()[:, None]


def itself(data):
    return lambda seed: (data(seed)[0],) * 2


def next_token(output, target):
    return F.cross_entropy(output.flatten(0, 1), target.flatten())


class Reader(nn.Module):
    """Character-level language model."""

    def __init__(self, cell=nn.LSTM, vocabulary=20, hidden=48, layers=1):
        super().__init__()
        self.table, self.rnn = nn.Embedding(vocabulary, 24), cell(24, hidden, layers, batch_first=True)
        self.head = nn.Linear(hidden, vocabulary)

    def forward(self, x):
        return self.head(self.rnn(self.table(x))[0])


class Decoder(nn.Module):
    """A small GPT."""

    def __init__(self, vocabulary=20, width=32, layers=3, norm_first=True):
        super().__init__()
        self.table, self.place = nn.Embedding(vocabulary, width), nn.Parameter(0.02 * fastbp.randn(24, width))
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0.0, activation="gelu", batch_first=True,
                                           norm_first=norm_first)
        self.body, self.norm = nn.TransformerEncoder(layer, layers), nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary)

    def forward(self, x):
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        return self.head(self.norm(self.body(self.table(x) + self.place, mask=mask)))


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.c1, self.n1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        self.c2, self.n2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)

    def forward(self, x):
        return F.relu(x + self.n2(self.c2(F.relu(self.n1(self.c1(x))))))


def resnet():
    return nn.Sequential(nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(), Block(12), nn.MaxPool2d(2), Block(12),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 4))


def autoencoder():
    return nn.Sequential(*mlp(20, 32, 6, 32, 20))


class Variational(nn.Module):
    def __init__(self):
        super().__init__()
        self.inside, self.mean, self.spread = nn.Linear(20, 32), nn.Linear(32, 4), nn.Linear(32, 4)
        self.out, self.last = nn.Linear(4, 32), nn.Linear(32, 20)

    def forward(self, x):
        h = F.relu(self.inside(x))
        mean, log = self.mean(h), self.spread(h)
        z = mean + fastbp.randn_like(mean) * (0.5 * log).exp()
        self.kl = -0.5 * (1 + log - mean.square() - log.exp()).sum(1).mean()
        return self.last(F.relu(self.out(z)))


def variational(seed):
    fastbp.manual_seed(seed)
    model = Variational()
    return train(model, itself(blobs)(seed), lambda a, b: (a - b).square().sum(1).mean() + model.kl, adam(model, 2e-3), seed=seed)


class Siamese(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 8))

    def forward(self, x):
        return (self.body(x[:, :10]) - self.body(x[:, 10:])).norm(dim=1)


def siamese(seed):
    rng = np.random.default_rng([seed, 10])
    centres = rng.standard_normal((4, 10))
    a, b = rng.integers(0, 4, (2, 256))
    x = np.concatenate([centres[a], centres[b]], 1) + 0.3 * rng.standard_normal((256, 20))
    return fastbp.tensor(x.astype(np.float32)), fastbp.tensor((a == b).astype(np.float32))


def contrast(distance, same):
    return (same * distance.square() + (1 - same) * F.relu(2 - distance).square()).mean()


def adversarial(which):
    """Generator and discriminator of a ring of points; the monitor looks at one of them."""
    def go(seed):
        fastbp.manual_seed(seed)
        rng = np.random.default_rng([seed, 11])
        g = nn.Sequential(nn.Linear(4, 32), nn.LeakyReLU(0.2), nn.Linear(32, 32), nn.LeakyReLU(0.2), nn.Linear(32, 2))
        d = nn.Sequential(nn.Linear(2, 32), nn.LeakyReLU(0.2), nn.Linear(32, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))
        og, od = (optim.Adam(m.parameters(), lr=1e-3, betas=(0.5, 0.999)) for m in (g, d))
        bce = nn.BCEWithLogitsLoss()
        with insight.flow(d, od) if which == "d" else insight.flow(g, og) as watch:
            for _ in range(150):
                angle = rng.random(64) * 2 * np.pi
                real = fastbp.tensor(np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32))
                od.zero_grad()
                fake = g(fastbp.randn(64, 4))
                (bce(d(real), fastbp.ones(64, 1)) + bce(d(fake.detach()), fastbp.zeros(64, 1))).backward()
                od.step()
                og.zero_grad()
                bce(d(g(fastbp.randn(64, 4))), fastbp.ones(64, 1)).backward()
                og.step()
        return watch
    return go


def pole(seed):
    """REINFORCE on a bandit of contexts: a loss that is no error and need not fall."""
    fastbp.manual_seed(seed)
    rng = np.random.default_rng([seed, 12])
    model = mlp(6, 32, 4)
    optimizer = adam(model, 5e-3)
    best = rng.standard_normal((6, 4))
    with insight.flow(model, optimizer) as watch:
        for _ in range(200):
            x = rng.standard_normal((32, 6))
            policy = fastbp.distributions.Categorical(logits=model(fastbp.tensor(x.astype(np.float32))))
            action = policy.sample()
            reward = ((x @ best).argmax(1) == action.numpy()).astype(np.float32)
            optimizer.zero_grad()
            (-policy.log_prob(action) * fastbp.tensor(reward - reward.mean())).mean().backward()
            optimizer.step()
    return watch


def clipped(model):
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)


def opt(kind, **options):
    return lambda m: kind(m.parameters(), **options)


def freeze(*prefixes):
    def go(m, make=adam):
        for name, p in m.named_parameters():
            if name.startswith(prefixes):
                p.requires_grad_(False)
        return make(m)
    return go


class Numpy(nn.Module):
    """A feature that leaves the graph: `.data`."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(20, 32), nn.Linear(32, 32), nn.Linear(32, 5)

    def forward(self, x):
        h = F.relu(self.a(x))
        return self.c(F.relu(self.b(h)).data + h)


class Length(nn.Module):
    """A norm whose derivative at 0 does not exist, written by hand."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(8, 16), nn.Linear(16, 1)

    def forward(self, x):
        h = F.relu(self.a(x))
        h = h * (h > 1e-9)
        return self.b(h) / ((h * h).sum(1, keepdim=True) * 0).sqrt()


def square_root(output, target):
    """rms of one error that can be exactly 0: the derivative of sqrt there is infinite."""
    error = (output - target) * (target > 0)
    return error.square().sqrt().mean() + (0 * output.square()).sqrt().mean()


def huge(output, target):
    return fastbp.exp(30 * (output - target).square()).mean()


def zeros_in(seed):
    x, y = curve(seed)
    x = x.clone()
    x[::7] = float("nan")
    return x, y


FAULTY = [
    ("sigmoid, 6 layers of 128", "vanishing", run(lambda: mlp(20, *[128] * 6, 5, act=nn.Sigmoid), blobs, ce, lambda m: adam(m))),
    ("sigmoid, 15 layers of 16", "vanishing",
     run(lambda: mlp(20, *[16] * 15, 5, act=nn.Sigmoid), blobs, ce, lambda m: sgd(m, 0.5))),
    ("sigmoid, 8 layers, spirals, rmsprop", "vanishing",
     run(lambda: mlp(2, *[40] * 8, 2, act=nn.Sigmoid), spirals, ce, opt(optim.RMSprop, lr=1e-3))),
    ("tanh, 12 layers, weights of 0.05", "vanishing",
     run(lambda: init(mlp(12, *[50] * 12, 1, act=nn.Tanh), small_normal(0.05), 0.0), houses, mse, lambda m: adam(m))),
    ("tanh, 30 layers, default", "vanishing",
     run(lambda: mlp(20, *[64] * 30, 5, act=nn.Tanh), blobs, ce, lambda m: sgd(m, 0.05))),
    ("relu, 20 layers, default", "vanishing", run(lambda: mlp(20, *[64] * 20, 5), blobs, ce, lambda m: sgd(m, 0.05))),
    ("relu, 8 layers, weights of 0.01", "vanishing",
     run(lambda: init(mlp(20, *[64] * 8, 5), small_normal(0.01), 0.0), blobs, ce, lambda m: adam(m))),
    ("cell in a loop, radius 0.2", "vanishing", run(lambda: Steps(scale=0.2), sequences, mse, lambda m: adam(m), steps=60)),
    ("softsign, 25 layers, 0.1", "vanishing",
     run(lambda: init(mlp(20, *[32] * 12, 5, act=nn.Softsign), small_normal(0.06), 0.0), blobs, ce, lambda m: sgd(m, 0.1))),

    ("relu, 12 layers, normal of 0.4", "exploding",
     run(lambda: init(mlp(12, *[64] * 12, 1), small_normal(0.4)), houses, mse, lambda m: sgd(m, 1e-6))),
    ("relu, 6 layers of 256, normal of 0.3", "exploding",
     run(lambda: init(mlp(20, *[256] * 6, 5), small_normal(0.3)), blobs, ce, lambda m: adam(m))),
    ("linear, 15 layers, normal of 0.5", "exploding",
     run(lambda: init(mlp(20, *[32] * 15, 5, act=nn.Identity), small_normal(0.5)), blobs, ce, lambda m: sgd(m, 1e-4))),
    ("rnn relu, radius 2", "exploding", run(lambda: Recurrent(nn.RNN, scale=2.0, nonlinearity="relu", hidden=40), sequences, mse,
                                            lambda m: adam(m, 1e-4))),
    ("rnn relu, radius 4, adam", "exploding",
     run(lambda: Recurrent(nn.RNN, scale=4.0, nonlinearity="relu"), sequences, mse, lambda m: adam(m, 1e-3))),
    ("cell in a loop, tanh, radius 4", "exploding",
     run(lambda: Steps(scale=4.0), lambda s: sequences(s, time=40), mse, lambda m: sgd(m, 1e-3), steps=60)),
    ("convolutions, weights too large", "exploding",
     run(lambda: init(convolutional(), small_normal(3.0)), pictures, ce, lambda m: sgd(m, 1e-4))),

    ("biases at -20, three layers", "dead",
     run(lambda: init(mlp(12, 40, 40, 40, 1), kaiming, -20.0), houses, mse, lambda m: adam(m))),
    ("convolutions, biases at -15", "dead",
     run(lambda: init(convolutional(), kaiming, -15.0), pictures, ce, lambda m: sgd(m, 0.05))),
    ("positive inputs, negative weights", "dead",
     run(lambda: init(mlp(20, 64, 5), lambda w: w.uniform_(-0.3, 0.0), 0.0), lambda s: (blobs(s)[0].abs(), blobs(s)[1]), ce,
         lambda m: adam(m))),
    ("inputs of -30", "dead", run(lambda: init(mlp(8, 64, 64, 1), lambda w: w.uniform_(-0.05, 0.3), 0.0),
                                  lambda s: (curve(s)[0] - 30, curve(s)[1]), mse, lambda m: sgd(m, 1e-3))),

    ("spirals, sgd x 30", "learning rate too high", run(lambda: mlp(2, 64, 64, 2), spirals, ce, lambda m: sgd(m, 6.0))),
    ("houses, momentum, x 30", "learning rate too high", run(lambda: mlp(12, 64, 1), houses, mse, lambda m: sgd(m, 0.6, 0.9))),
    ("linear regression, sgd x 30", "learning rate too high", run(lambda: nn.Linear(12, 1), houses, mse, lambda m: sgd(m, 2.0))),
    ("convolutions, adam x 30", "learning rate too high", run(convolutional, pictures, ce, lambda m: adam(m, 0.15))),
    ("lstm, adam x 30", "learning rate too high", run(Reader, tokens, next_token, lambda m: adam(m, 0.5))),
    ("gpt, adamw x 30", "learning rate too high", run(Decoder, tokens, next_token, opt(optim.AdamW, lr=0.2))),
    ("autoencoder, rmsprop x 30", "learning rate too high",
     run(autoencoder, itself(blobs), mse, opt(optim.RMSprop, lr=0.06))),
    ("wide perceptron, adam x 30", "learning rate too high",
     run(lambda: mlp(20, 256, 256, 5), blobs, ce, lambda m: adam(m, 0.06))),

    ("spirals, adam / 30", "learning rate too low",
     run(lambda: mlp(2, 64, 64, 2), spirals, ce, lambda m: adam(m, 1e-4), steps=200)),
    ("houses, sgd / 30", "learning rate too low", run(lambda: mlp(12, 64, 1), houses, mse, lambda m: sgd(m, 1.7e-3))),
    ("binary, sgd / 30", "learning rate too low",
     run(lambda: mlp(20, 32, 1), yes_no, F.binary_cross_entropy_with_logits, lambda m: sgd(m, 0.003))),
    ("lstm, adam / 30", "learning rate too low", run(Reader, tokens, next_token, lambda m: adam(m, 1e-4))),
    ("gpt, sgd / 30", "learning rate too low", run(Decoder, tokens, next_token, lambda m: sgd(m, 2e-3))),
    ("convolutions, adam / 30", "learning rate too low", run(convolutional, pictures, ce, lambda m: adam(m, 3e-5))),
    ("logistic regression, sgd / 30", "learning rate too low", run(lambda: nn.Linear(20, 5), blobs, ce, lambda m: sgd(m, 0.005))),

    ("frozen first layer", "frozen", run(lambda: mlp(12, 48, 48, 1), houses, mse, freeze("0."))),
    ("frozen last layer", "frozen", run(lambda: mlp(20, 64, 5), blobs, ce, freeze("2."))),
    ("frozen convolution", "frozen", run(convolutional, pictures, ce, freeze("3."))),
    ("left out of the optimizer", "frozen",
     run(Reader, tokens, next_token, lambda m: optim.Adam([*m.rnn.parameters(), *m.table.parameters()], lr=3e-3))),
    (".data in the middle", "frozen", run(Numpy, blobs, ce, lambda m: sgd(m, 0.1))),

    ("NaN in the inputs", "non-finite", run(lambda: mlp(8, 32, 1), zeros_in, mse, lambda m: adam(m))),
    ("0 / 0", "non-finite", run(Length, curve, mse, lambda m: sgd(m, 0.01))),
    ("sqrt at 0", "non-finite", run(lambda: mlp(8, 32, 1), curve, square_root, lambda m: sgd(m, 0.01))),
    ("exp beyond float32", "non-finite", run(lambda: mlp(8, 32, 1), curve, huge, lambda m: sgd(m, 1e-30))),
]

HEALTHY = [
    ("spirals, adam", run(lambda: mlp(2, 64, 64, 2), spirals, ce, lambda m: adam(m, 3e-3), steps=300)),
    ("spirals, sgd", run(lambda: mlp(2, 64, 64, 2), spirals, ce, lambda m: sgd(m, 0.2, 0.9), steps=300)),
    ("houses, sgd", run(lambda: mlp(12, 64, 1), houses, mse, lambda m: sgd(m, 0.05))),
    ("houses, adagrad", run(lambda: mlp(12, 64, 1), houses, mse, opt(optim.Adagrad, lr=0.02))),
    ("houses, linear", run(lambda: nn.Linear(12, 1), houses, mse, lambda m: sgd(m, 0.1))),
    ("houses, nadam", run(lambda: mlp(12, 32, 32, 1, act=nn.ELU), houses, mse, opt(optim.NAdam, lr=3e-3))),
    ("binary", run(lambda: mlp(20, 32, 1), yes_no, F.binary_cross_entropy_with_logits, lambda m: sgd(m, 0.1))),
    ("binary, sigmoid and bce", run(lambda: nn.Sequential(*mlp(20, 32, 1), nn.Sigmoid()), yes_no, F.binary_cross_entropy,
                                    lambda m: adam(m, 3e-3))),
    ("tanh, 3 layers", run(lambda: mlp(20, 64, 64, 64, 5, act=nn.Tanh), blobs, ce, lambda m: sgd(m, 0.1))),
    ("tanh, xavier, 6 layers", run(lambda: init(mlp(20, *[64] * 6, 5, act=nn.Tanh), nn.init.xavier_normal_, 0.0), blobs, ce,
                                   lambda m: adam(m))),
    ("selu, 8 layers", run(lambda: init(mlp(20, *[64] * 8, 5, act=nn.SELU),
                                        lambda w: nn.init.kaiming_normal_(w, nonlinearity="linear"), 0.0), blobs, ce,
                           lambda m: sgd(m, 0.02))),
    ("silu, rmsprop", run(lambda: mlp(20, 64, 64, 5, act=nn.SiLU), blobs, ce, opt(optim.RMSprop, lr=1e-3))),
    ("layer norm", run(lambda: mlp(20, 64, 64, 5, norm=nn.LayerNorm), blobs, ce, lambda m: adam(m, 2e-3))),
    ("resnet", run(resnet, pictures, ce, lambda m: sgd(m, 0.05, 0.9))),
    ("resnet, adamw", run(resnet, pictures, ce, opt(optim.AdamW, lr=3e-3))),
    ("residual, 16 blocks", run(lambda: Residual(20, 16), blobs, ce, lambda m: adam(m))),
    ("autoencoder", run(autoencoder, itself(blobs), mse, lambda m: adam(m, 3e-3))),
    ("variational", variational),
    ("siamese", run(Siamese, siamese, contrast, lambda m: adam(m, 3e-3))),
    ("discriminator", adversarial("d")),
    ("generator", adversarial("g")),
    ("policy gradient", pole),
    ("language model, lstm", run(Reader, tokens, next_token, lambda m: adam(m, 1e-2))),
    ("language model, gru, two layers", run(lambda: Reader(nn.GRU, layers=2), tokens, next_token, lambda m: adam(m, 5e-3))),
    ("language model, lstm, sgd, clipped", run(Reader, tokens, next_token, lambda m: sgd(m, 2.0), steps=300, after=clipped)),
    ("gpt", run(Decoder, tokens, next_token, opt(optim.AdamW, lr=3e-3))),
    ("gpt, norm last", run(lambda: Decoder(norm_first=False), tokens, next_token, lambda m: adam(m, 2e-3))),
    ("transformer, 4 layers", run(lambda: Transformer(4), sequences, mse, lambda m: adam(m, 1e-3), steps=250)),
    ("cell in a loop", run(lambda: Steps(scale=1.0), sequences, mse, lambda m: adam(m, 3e-3))),
    ("word count, embedding",
     run(lambda: nn.Sequential(nn.EmbeddingBag(50, 16), nn.Linear(16, 2)), words, ce, lambda m: adam(m, 1e-2))),
    ("dropout and batch norm", run(lambda: nn.Sequential(nn.Linear(20, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.3),
                                                         nn.Linear(64, 5)), blobs, ce, lambda m: adam(m, 3e-3))),
    ("noise to learn nothing from", run(lambda: mlp(20, 32, 5),
                                        lambda s: (blobs(s)[0], fastbp.tensor(np.random.default_rng(s).integers(0, 5, 256))), ce,
                                        lambda m: adam(m, 1e-3))),
    ("huber, lion", run(lambda: mlp(8, 32, 1), curve, F.smooth_l1_loss, opt(optim.Lion, lr=1e-3))),
    ("long run", run(lambda: mlp(20, 64, 64, 5), blobs, ce, lambda m: sgd(m, 0.1), steps=800)),
    ("converged", run(lambda: mlp(12, 32, 1), houses, mse, lambda m: adam(m, 3e-3), steps=1000)),
]
