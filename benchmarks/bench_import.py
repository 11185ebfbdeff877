"""What `import fastbp` costs over `import numpy`, and how large the installed package is.

    python benchmarks/bench_import.py [--rounds 31] [--json import.json]

Each import happens in a fresh process, in turn, with the files in the system's cache and bytecode written. The time is
taken inside the process, around the import alone; starting Python is not counted. Size: the files of a wheel.
"""

import importlib.util
import statistics
import subprocess
import sys
from pathlib import Path

from _peers import machine, options_of, write_json

TIMER = "import time; t = time.perf_counter(); import {0}; print(time.perf_counter() - t)"
WHEEL = (".py", ".pyi", ".so", ".pyd")


def seconds_of(statement):
    done = subprocess.run([sys.executable, "-c", TIMER.format(statement)], capture_output=True, text=True, check=True)
    return float(done.stdout)


def main():
    parser = options_of(__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, help="processes started for each; None: 31")
    parser.add_argument("--iterations", type=int, help="the same as --rounds; every benchmark has it")
    parser.add_argument("--json", metavar="PATH", help="also write the results here")
    options = parser.parse_args()
    rounds = options.rounds or options.iterations or 31

    statements = {"numpy": "numpy", "fastbp": "fastbp", "torch": "torch"}
    if importlib.util.find_spec("torch") is None:
        print("torch: not installed, skipped")
        del statements["torch"]
    for statement in statements.values():
        seconds_of(statement)                               # fill the caches
    times = {name: [] for name in statements}
    for _ in range(rounds):
        for name, statement in statements.items():
            times[name].append(seconds_of(statement))
    added = statistics.median(ours - numpy for ours, numpy in zip(times["fastbp"], times["numpy"], strict=True))

    folder = Path(importlib.util.find_spec("fastbp").origin).parent
    files = [path for path in folder.rglob("*") if path.suffix in WHEEL or path.name == "py.typed"]
    size = sum(path.stat().st_size for path in files)
    compiled = sum(path.stat().st_size for path in files if path.suffix in (".so", ".pyd"))

    for name, seconds in times.items():
        print(f"import {name:<8} {statistics.median(seconds) * 1e3:7.1f} ms")
    print(f"fastbp adds     {added * 1e3:7.1f} ms to NumPy's")
    print(f"installed       {size / 1e6:7.2f} MB in {len(files)} files, of it compiled {compiled / 1e6:.2f} MB")
    if options.json:
        medians = {name: statistics.median(seconds) for name, seconds in times.items()}
        write_json(options.json, {"benchmark": "bench_import", **machine(), "rounds": rounds, "import_s": medians,
                                  "added_s": added, "installed_bytes": size})


if __name__ == "__main__":
    main()
