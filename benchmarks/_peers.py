"""How every benchmark measures: each peer in a process of its own, the same numbers first, then in turn.

A benchmark brings its cases, and for each peer a function that builds a case: `build(case, threads) -> Job`. The rest
is here:

- *Own process.* Two libraries with an OpenMP runtime each slow one another severalfold in one process. A worker is the
  benchmark's own file, started with --worker; it is told what to do over pipes, one line of JSON at a time.
- *Silence.* A worker that waits is stopped (SIGSTOP): threads of an idle pool spin for milliseconds and take a core
  from the one measured.
- *Same settings.* Every worker is given the same number of threads in every way that libraries read it; with one thread
  it is also bound to one core, the only switch that holds XLA to one.
- *Same numbers.* Before anything is timed, the first values (losses of the first steps, sums of results and gradients)
  of all peers are compared. If they differ, the run is refused: it would compare different computations.
- *In turn.* A B C, B C A, ...: what a shared machine does to one, it does to all. An unmeasured call comes first each
  time. Reported are medians over the rounds and the median of the ratios within a round. Rows that fastbp loses are
  printed like the others.
"""

import argparse
import ctypes
import functools
import gc
import importlib.metadata
import importlib.util
import json
import os
import platform
import selectors
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

OURS = "fastbp"
CHUNK = 0.010       # seconds of one measurement: longer ones mix the speeds that a shared core switches between
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
FORCED = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "MKL_ENABLE_INSTRUCTIONS", "ATEN_CPU_CAPABILITY")    # unset: a peer chooses


@dataclass
class Job:
    """A case, built for one peer.

    values   the first values, computed by really running: compared between peers; None: nothing to compare
    measure  n -> {phase: seconds a unit}, run n times; the phases of all peers have the same names
    """

    values: list | None
    measure: Callable[[int], dict]


@functools.cache
def limits():
    """limits.c, compiled once: what the machine can do."""
    compiler = os.environ.get("CC", "cc").split()
    if shutil.which(compiler[-1]) is None:
        raise RuntimeError("no C compiler")
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder, "limits.so")
        subprocess.run([*compiler, "-O3", "-march=native", "-fopenmp", "-shared", "-fPIC", "-o", library,
                        Path(__file__).with_name("limits.c")], check=True)
        machine = ctypes.CDLL(str(library))
    machine.triad.restype = machine.read_only.restype = machine.multiply_add.restype = ctypes.c_double
    return machine


def wall(job):
    """Seconds that one repetition of a job takes, whatever unit its phases are given in."""
    start = time.perf_counter()
    job.measure(1)
    return time.perf_counter() - start


def timed_steps(step, first=8, value=lambda loss: loss.item(), wait=lambda loss: None):
    """The Job of a training step: `step(i)` does step i and returns its loss; `wait` blocks until the loss is there."""
    count = 0

    def run(n):
        nonlocal count
        start = time.perf_counter()
        for i in range(count, count + n):
            result = step(i)
        wait(result)
        seconds = time.perf_counter() - start
        count += n
        return {"step": seconds / n}

    values = [value(step(i)) for i in range(first)]
    count = first
    return Job(values, run)


# ---- the worker -----------------------------------------------------------------------------------------------------


def work(setting, cases, builders):
    """Obey the coordinator: one request a line on standard input, one answer a line on standard output."""
    threads = setting["threads"]
    if threads == 1 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)               # what libraries print is no answer
    job = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request["do"] == "build":
                job = None
                gc.collect()
                case = next(case for case in cases if case["name"] == request["case"])
                job = builders[setting["peer"]](case, threads)
                seconds = min(wall(job) for _ in range(request["walls"]))      # the first also warms up
                answer = {"values": job.values, "seconds": seconds}
            elif request["do"] == "measure":
                if request["warm"]:
                    job.measure(request["warm"])
                answer = {"phases": job.measure(request["n"])}
            else:
                return
        except Exception as error:          # told to the coordinator, which names the peer and the case
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")


class Worker:
    """The coordinator's end of a worker process."""

    def __init__(self, script, peer, threads):
        self.peer = peer
        environment = {name: value for name, value in os.environ.items() if name not in FORCED}
        environment |= {**dict.fromkeys(THREAD_VARIABLES, str(threads)), "JAX_PLATFORMS": "cpu"}
        if threads == 1:
            environment["XLA_FLAGS"] = environment.get("XLA_FLAGS", "") + " --xla_cpu_multi_thread_eigen=false"
        setting = json.dumps({"peer": peer, "threads": threads})
        self.process = subprocess.Popen([sys.executable, script, "--worker", setting], env=environment,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.selector = selectors.DefaultSelector()
        if os.name == "posix":
            self.selector.register(self.process.stdout, selectors.EVENT_READ)

    def ask(self, timeout=300.0, **request):
        self.signal("SIGCONT")
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            if os.name == "posix" and not self.selector.select(timeout):
                raise SystemExit(f"{self.peer} did not answer {request} within {timeout:.0f} s")
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise SystemExit(f"the process of {self.peer} died at {request}, exit status {self.process.wait()}")
        self.signal("SIGSTOP")
        return json.loads(line)

    def signal(self, name):
        if hasattr(signal, name):
            self.process.send_signal(getattr(signal, name))

    def close(self):
        if self.process.poll() is None:
            self.signal("SIGCONT")
            self.process.kill()
        self.process.wait()
        self.selector.close()
        self.process.stdin.close()
        self.process.stdout.close()


# ---- the coordinator ------------------------------------------------------------------------------------------------


def compare(case, values, rtol):
    """Refuse to time peers whose first values differ."""
    reference = "torch" if "torch" in values else next(iter(values), None)
    for peer, own in values.items():
        scale = max(map(abs, values[reference]), default=0.0)
        for i, (x, y) in enumerate(zip(own, values[reference], strict=True)):
            if not abs(x - y) <= rtol * max(abs(y), 1e-3 * scale):
                raise SystemExit(f"{case}: value {i} of {peer} is {x!r}, of {reference} {y!r}: "
                                 f"they do not compute the same, so their times are not compared")


def run_case(case, workers, options, rtol):
    """[{case, phase, peer, median_s, ...}] of one case."""
    answers, skipped = {}, []
    for worker in workers:
        answer = worker.ask(do="build", case=case["name"], walls=1 if options.iterations else 3)
        if "error" in answer:
            skipped.append((worker.peer, answer["error"]))
        else:
            answers[worker.peer] = answer
    if OURS not in answers and any(peer == OURS for peer, _ in skipped):
        raise SystemExit(f"{case['name']}: fastbp failed: {dict(skipped)[OURS]}")
    compare(case["name"], {peer: answer["values"] for peer, answer in answers.items() if answer["values"] is not None},
            case.get("rtol", rtol))

    live = [worker for worker in workers if worker.peer in answers]
    times = {}              # (phase, peer) -> seconds a unit, one for each round
    for turn in range(options.rounds):
        for k in range(len(live)):
            worker = live[(turn + k) % len(live)]
            n = options.iterations or max(1, int(CHUNK / answers[worker.peer]["seconds"]))
            # At least one call first, unmeasured: the other peers have had the caches, and a training step does not come alone.
            answer = worker.ask(do="measure", n=n, warm=0 if options.iterations else max(1, n // 4))
            if "error" in answer:
                raise SystemExit(f"{case['name']}: {worker.peer} failed while measured: {answer['error']}")
            for phase, seconds in answer["phases"].items():
                times.setdefault((phase, worker.peer), []).append(seconds)

    rows = []
    for (phase, peer), seconds in times.items():
        row = {"case": case["name"], "phase": phase, "peer": peer,
               "median_s": statistics.median(seconds), "min_s": min(seconds)}
        ours = times.get((phase, OURS))
        if ours and peer != OURS:
            row["times_fastbp"] = statistics.median(theirs / own for theirs, own in zip(seconds, ours, strict=True))
        rows.append(row)
    return rows, skipped


def seconds_text(seconds):
    for factor, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "us")):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e9:.0f} ns"


def print_rows(rows, peers, width=28):
    for phase in dict.fromkeys(row["phase"] for row in rows):
        cells = []
        for peer in peers:
            row = next((row for row in rows if row["phase"] == phase and row["peer"] == peer), None)
            cell = "-" if row is None else seconds_text(row["median_s"])
            if row and "times_fastbp" in row:
                cell += f"  x{row['times_fastbp']:.2f}"
            cells.append(f"{cell:>18}")
        print(f"{rows[0]['case']:<{width}}{phase:<10}" + "".join(cells), flush=True)


def machine():
    """What the figures were measured on."""
    cpu = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                cpu = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = {}
    for name in ("fastbp", "numpy", "torch", "jax", "jaxlib"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {"cpu": cpu, "cores": cores, "system": platform.platform(), "python": platform.python_version(),
            "versions": versions}


def write_json(path, content):
    """Written beside its place and renamed: a run that is cut off leaves the old file."""
    temporary = f"{path}.part"
    Path(temporary).write_text(json.dumps(content, indent=1) + "\n")
    os.replace(temporary, path)


def installed(peer):
    return peer == "limit" or importlib.util.find_spec(peer.partition("-")[0]) is not None


def options_of(title):
    """An option parser that shows defaults."""
    return argparse.ArgumentParser(description=title, formatter_class=argparse.ArgumentDefaultsHelpFormatter)


def main(script: str, title: str, cases: list, builders: dict[str, Callable[[dict, int], Job]], *, rtol: float,
         plot: Callable | None = None, show: Callable | None = None):
    """The command line of a benchmark; plot(results, about the run, name) draws it, show(rows, peers, width) prints a case."""
    parser = options_of(title)
    parser.add_argument("--threads", type=int, default=1, help="threads of every peer")
    parser.add_argument("--rounds", type=int, help="times that every peer is measured; None: 31, with --iterations 1")
    parser.add_argument("--iterations", type=int, help="repetitions in a measurement; None: as many as take 10 ms")
    parser.add_argument("--peers", default=",".join(builders), help="which to measure, of these")
    parser.add_argument("--cases", default="", help="only cases whose name contains one of these, separated by commas")
    parser.add_argument("--json", metavar="PATH", help="also write the results here")
    if plot:
        parser.add_argument("--plot", metavar="NAME", help="draw the results: NAME.png and NAME.svg")
        parser.add_argument("--from", dest="read", metavar="PATH", help="draw what a run wrote with --json; measure nothing")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return work(json.loads(options.worker), cases, builders)
    if plot and options.read:
        old = json.loads(Path(options.read).read_text())
        return plot(old["results"], old, options.plot)
    if options.rounds is None:
        options.rounds = 1 if options.iterations else 31

    peers = options.peers.split(",")
    for peer in peers:
        if peer not in builders:
            parser.error(f"unknown peer {peer!r}; there are {', '.join(builders)}")
    for peer in [peer for peer in peers if not installed(peer)]:
        print(f"{peer}: not installed, skipped")
        peers.remove(peer)
    about = machine()
    print(f"{title}\n{about['cpu']}, {about['cores']} cores, {options.threads} thread(s); "
          + ", ".join(f"{name} {version}" for name, version in about["versions"].items()))
    print("Medians; xN: N times as long as fastbp (below 1: fastbp is slower).\n")
    width = max(28, 2 + max(len(case["name"]) for case in cases))
    if show is None:
        show = print_rows
        print(f"{'case':<{width}}{'phase':<10}" + "".join(f"{peer:>18}" for peer in peers), flush=True)

    workers, results, notes = [], [], []
    try:
        workers += (Worker(script, peer, options.threads) for peer in peers)
        for case in cases:
            if any(part in case["name"] for part in options.cases.split(",")):
                rows, skipped = run_case(case, workers, options, rtol)
                show(rows, peers, width)
                results += rows
                notes += [f"{case['name']}: {peer} left out: {reason}" for peer, reason in skipped]
    finally:
        for worker in workers:
            worker.close()
    print("\n".join(["", *notes]))
    if plot and options.plot:
        plot(results, {**about, "threads": options.threads}, options.plot)
    if options.json:
        write_json(options.json, {"benchmark": Path(script).stem, **about, "threads": options.threads,
                                  "rounds": options.rounds, "results": results, "left_out": notes})
    return results
