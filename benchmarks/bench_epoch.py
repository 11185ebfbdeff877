"""One epoch of training: 60,000 images of 784 values, shuffled batches of 128, a 784-512-256-10 network, against torch.

    python benchmarks/bench_epoch.py [--threads 1] [--iterations N] [--json epoch.json]

Everything a program does is in it: DataLoader, zero_grad, forward, loss, backward, Adam, the loss read at every step. The
code, the data and the first weights are the same; orders differ, since each library shuffles with its own stream, so what is
compared first is a pass in order over the first batches. `fastbp-compiled` is the same loop with the step under
fastbp.compile; `torch-fused` is torch with its fused Adam.
"""

import importlib
from time import perf_counter

import numpy as np
from _peers import Job, main

COUNT, BATCH, LR = 60_000, 128, 1e-3
SIZES = (784, 512, 256, 10)
CASES = [
    {"name": "a tenth of an epoch", "count": COUNT // 10, "short": True},
    {"name": "epoch", "count": COUNT, "short": False},
]


def torch_like(name, compiled=False, **adam):
    """The loop as it is written for torch, for any module with torch's names."""

    def build(case, threads) -> Job:
        torch = importlib.import_module(name)
        data = importlib.import_module(name + ".utils.data")
        torch.set_num_threads(threads)
        nn = torch.nn
        random = np.random.default_rng(0)
        labels = random.integers(0, 10, case["count"])
        images = random.standard_normal((case["count"], SIZES[0]), dtype=np.float32)
        images[np.arange(case["count"]), labels] += 3       # something to learn
        weights = []
        for i, o in zip(SIZES, SIZES[1:]):
            weights += [random.uniform(-1, 1, shape).astype(np.float32) / np.float32(i ** 0.5) for shape in ((o, i), (o,))]
        dataset = data.TensorDataset(torch.from_numpy(images), torch.from_numpy(labels))
        model = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10))
        with torch.no_grad():
            for parameter, values in zip(model.parameters(), weights, strict=True):
                parameter.copy_(torch.tensor(values))
        optimizer = torch.optim.Adam(model.parameters(), lr=LR, **adam)

        def step(x, y):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            return loss
        if compiled:
            step = torch.compile(step)
        in_order = iter(data.DataLoader(dataset, batch_size=BATCH))
        first = [step(*next(in_order)).item() for _ in range(8)]
        loader = data.DataLoader(dataset, batch_size=BATCH, shuffle=True)

        def measure(n):
            start = perf_counter()
            for _ in range(n):
                total = 0.0
                for x, y in loader:
                    total += step(x, y).item()
            return {"epoch": (perf_counter() - start) / n}
        return Job(first, measure)

    return build


BUILDERS = {"fastbp": torch_like("fastbp"), "fastbp-compiled": torch_like("fastbp", compiled=True), "torch": torch_like("torch"),
            "torch-fused": torch_like("torch", fused=True)}

if __name__ == "__main__":
    main(__file__, "An epoch of training, batches of 128", CASES, BUILDERS, rtol=1e-3)
