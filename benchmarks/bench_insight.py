"""What looking costs: a training step of 784-512-256-10 with and without insight.flow, a step's time against the sum of the
ledger, the graph and the page of a Transformer of twelve layers.

    python benchmarks/bench_insight.py [--iterations 300] [--threads 1]

Steps with and without are taken in turn, in one process; minima and lower quartiles are shown.  The first ten steps, all of which
the monitor looks at, are left out: then it looks at every twentieth.
"""

import argparse
import time

import fastbp
from fastbp import insight, nn


def network():
    fastbp.manual_seed(0)
    return nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10))


def step(model, optimizer, x, y):
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(x), y).backward()
    optimizer.step()


def microseconds(run, batch, times=1):
    began = time.perf_counter()
    for _ in range(times):
        step(*run, *batch)
    return (time.perf_counter() - began) / times * 1e6


def show(what, plain, other):
    plain, other = sorted(plain), sorted(other)
    k = len(plain) // 4
    print(f"{what:46} {plain[0]:8.1f} us {other[0]:8.1f} us {100 * (other[0] / plain[0] - 1):+6.1f} %   "
          f"lower quartile {100 * (other[k] / plain[k] - 1):+6.1f} %")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--iterations", type=int, default=300, help="rounds of twenty steps")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    fastbp.set_num_threads(options.threads)
    for size in (128, 8):
        batch = fastbp.randn(size, 784), fastbp.randint(0, 10, (size,))
        for make in (fastbp.optim.SGD, fastbp.optim.Adam):
            models = network(), network()
            first, second = [(model, make(model.parameters(), lr=1e-3)) for model in models]
            plain, watched, sums = [], [], []
            with insight.flow(*second):
                microseconds(first, batch, 20)
                microseconds(second, batch, 20)
                for _ in range(options.iterations):
                    plain.append(microseconds(first, batch, 20))
                    watched.append(microseconds(second, batch, 20))
            assert all((p == q).all() for p, q in zip(models[0].parameters(), models[1].parameters())), "a result changed"
            show(f"insight.flow, {make.__name__}, batch {size}", plain, watched)
            plain = []
            for _ in range(options.iterations):
                plain.append(microseconds(first, batch))
                with insight.ledger() as book:
                    step(*first, *batch)
                sums.append((book.time + book.python) / 1e3)
            show(f"sum of insight.ledger, {make.__name__}, batch {size}", plain, sums)
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(64, 4, 128, batch_first=True), 12)
    began = time.perf_counter()
    graph = insight.graph(lambda x: model(x).square().mean(), fastbp.randn(4, 16, 64), model=model)
    made = time.perf_counter()
    page = graph.html()
    print(f"Transformer of 12 layers: {graph!r} in {made - began:.2f} s, its page of {len(page.encode()) / 1e6:.2f} MB in "
          f"{time.perf_counter() - made:.2f} s")


if __name__ == "__main__":
    main()
