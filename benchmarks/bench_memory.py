"""Whether memory stays flat: resident memory and live tensors over many training steps.

    python benchmarks/bench_memory.py [--iterations 100000] [--json memory.json]

A 17-64-64-6 tanh network with Adam; batches of changing size, so that the allocator sees changing sizes too. A tenth
of the steps is the warm-up. The program ends with an error if afterwards memory grew by more than 1 MB or tensors were
left alive.
"""

import gc
import os
import resource
import sys

import fastbp
import numpy as np
from _peers import machine, options_of, write_json
from fastbp import _core, nn, optim
from fastbp.nn import functional as F

BATCHES = (1, 64, 17, 256, 100)
ALLOWED = 1 << 20           # bytes: pages that Python's own allocator takes and gives back


def resident():
    """Bytes of this process that are in memory; where the system does not tell, the largest that it ever was."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main():
    parser = options_of(__doc__.split("\n")[0])
    parser.add_argument("--iterations", type=int, default=100_000, help="training steps")
    parser.add_argument("--json", metavar="PATH", help="also write the results here")
    options = parser.parse_args()

    fastbp.manual_seed(0)
    model = nn.Sequential(nn.Linear(17, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 6))
    optimizer = optim.Adam(model.parameters())
    random = np.random.default_rng(0)
    batches = [tuple(fastbp.tensor(random.standard_normal((n, k), dtype=np.float32)) for k in (17, 6)) for n in BATCHES]

    def train(steps):
        for i in range(steps):
            x, y = batches[i % len(batches)]
            optimizer.zero_grad()
            loss = F.mse_loss(model(x), y)
            loss.backward()
            optimizer.step()

    train(max(len(batches), options.iterations // 10))
    optimizer.zero_grad()
    gc.collect()
    before = resident(), _core.live_tensors(), _core.live_bytes()
    seen = []
    for _ in range(10):
        train(options.iterations // 10)
        seen.append(resident())
    optimizer.zero_grad()
    gc.collect()
    after = resident(), _core.live_tensors(), _core.live_bytes()

    print(f"resident memory after the warm-up {before[0] / 1e6:.1f} MB; after each tenth of {options.iterations} steps "
          + " ".join(f"{(value - before[0]) / 1e3:+.0f}" for value in seen) + " kB")
    print(f"live tensors {before[1]} -> {after[1]}, live bytes {before[2]} -> {after[2]}")
    if options.json:
        write_json(options.json, {"benchmark": "bench_memory", **machine(), "steps": options.iterations,
                                  "resident_before": before[0], "resident_during": seen,
                                  "live_before": before[1:], "live_after": after[1:]})
    if before[1:] != after[1:]:
        raise SystemExit("tensors were left alive")
    if after[0] - before[0] > ALLOWED:
        raise SystemExit("resident memory grew")


if __name__ == "__main__":
    main()
