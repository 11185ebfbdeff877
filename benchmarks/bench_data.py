"""One pass over 60,000 images of 784 float32 values in memory: TensorDataset and DataLoader, against torch's.

    python benchmarks/bench_data.py [--threads 1] [--iterations N] [--json data.json]

Batches of 128, shuffled and in order, and the same through a data set that answers one sample at a time in Python. A pass does
nothing with its batches. Compared first: sums over one pass, which do not depend on the order.
"""

import importlib
from time import perf_counter

import numpy as np
from _peers import Job, main

COUNT, WIDTH, BATCH = 60_000, 784, 128
CASES = [
    {"name": "in memory, shuffled", "shuffle": True, "short": True, "count": COUNT},
    {"name": "in memory, in order", "shuffle": False, "short": True, "count": COUNT},
    {"name": "sample by sample", "shuffle": True, "short": False, "count": COUNT // 10},
]


def torch_like(name):
    """A pass as it is written for torch, for any module with torch's names."""

    def build(case, threads) -> Job:
        torch = importlib.import_module(name)
        data = importlib.import_module(name + ".utils.data")
        torch.set_num_threads(threads)
        random = np.random.default_rng(0)
        x = torch.from_numpy(random.standard_normal((case["count"], WIDTH), dtype=np.float32))
        y = torch.from_numpy(random.integers(0, 10, case["count"]))
        dataset = data.TensorDataset(x, y)

        class Asked(data.Dataset):
            def __len__(self):
                return len(dataset)

            def __getitem__(self, i):
                return dataset[i]

        loader = data.DataLoader(dataset if case["short"] else Asked(), batch_size=BATCH, shuffle=case["shuffle"])

        def measure(n):
            start = perf_counter()
            for _ in range(n):
                for _batch in loader:
                    pass
            return {"pass": (perf_counter() - start) / n}

        sums = [0, 0.0, 0]
        for a, b in loader:
            sums = [sums[0] + len(a), sums[1] + a.double().sum().item(), sums[2] + b.sum().item()]
        return Job(sums, measure)

    return build


BUILDERS = {"fastbp": torch_like("fastbp"), "torch": torch_like("torch")}

if __name__ == "__main__":
    main(__file__, "Passes over data in memory, batches of 128", CASES, BUILDERS, rtol=1e-9)
