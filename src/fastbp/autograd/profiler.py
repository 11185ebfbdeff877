"""Floor 3, autograd: where the time goes: kernels by operation, and labelled blocks.

The core logs each instruction with the time its kernel took; the rest of a program's time is Python, checks and bookkeeping.
"""

import struct
from collections import defaultdict
from threading import local
from time import perf_counter_ns

from fastbp import _core

__all__ = ["EventList", "FunctionEvent", "emit_itt", "emit_nvtx", "profile", "record_function"]

_EVENT = struct.Struct("qqqqddiiii")        # began, ended, node, units, bytes, operations, kind, kernel, op, threads
_LIMIT = 10_000_000                         # events, 64 bytes each
_open = local()


class FunctionEvent:
    """What one operation, or one labelled block, took: microseconds of its own, and with all that ran inside."""

    def __init__(self, key, count, own, total, begins=()):
        self.key = self.name = key
        self.count, self.self_cpu_time_total, self.cpu_time_total = count, own, total
        self.begins = begins
        self.device_time_total = self.self_device_time_total = self.cuda_time_total = self.self_cuda_time_total = 0.0

    cpu_time = property(lambda self: self.cpu_time_total / self.count if self.count else 0.0)

    def __repr__(self):
        return f"<FunctionEvent key={self.key} self_cpu_time={self.self_cpu_time_total:.3f}us cpu_time={self.cpu_time:.3f}us>"


def _duration(us):
    return f"{us:.3f}us" if us < 1e3 else f"{us / 1e3:.3f}ms" if us < 1e6 else f"{us / 1e6:.3f}s"


class EventList(list):
    """FunctionEvents; `table()` prints them."""

    self_cpu_time_total = property(lambda self: sum(e.self_cpu_time_total for e in self))

    def key_averages(self, group_by_input_shape=False, group_by_stack_n=0, group_by_overload_name=False):
        return self

    def total_average(self):
        return FunctionEvent("Total", sum(e.count for e in self), self.self_cpu_time_total, self.self_cpu_time_total)

    def table(self, sort_by=None, row_limit=100, max_src_column_width=75, max_name_column_width=55, max_shapes_column_width=80,
              header=None, top_level_events_only=False, time_unit=None):
        """The events as text.

        Args: sort_by: "cpu_time", "cpu_time_total", "self_cpu_time_total" or "count"; row_limit: -1: all.
        """
        rows = list(self)
        if sort_by is not None:
            if not hasattr(FunctionEvent("", 0, 0, 0), sort_by):
                raise AttributeError(f"table: sort_by {sort_by!r}; choose cpu_time, cpu_time_total, self_cpu_time_total or count")
            rows.sort(key=lambda e: getattr(e, sort_by), reverse=True)
        own = self.self_cpu_time_total or 1.0
        width = max([4, *(min(len(e.key), max_name_column_width) for e in rows)])
        heads = ("Name".rjust(width), "Self CPU %", "Self CPU".rjust(12), "CPU total".rjust(12), "CPU time avg", "# of Calls")
        line = "  ".join("-" * len(h) for h in heads)
        out = [*([header] if header else []), line, "  ".join(heads), line]
        for e in rows if row_limit < 0 else rows[:row_limit]:
            cells = (e.key[:width].rjust(width), f"{100 * e.self_cpu_time_total / own:.2f}%", _duration(e.self_cpu_time_total),
                     _duration(e.cpu_time_total), _duration(e.cpu_time), str(e.count))
            out.append("  ".join(c.rjust(len(h)) for c, h in zip(cells, heads)))
        return "\n".join([*out, line, f"Self CPU time total: {_duration(self.self_cpu_time_total)}", ""])

    def export_chrome_trace(self, path):
        """Writes a file that chrome://tracing and Perfetto show."""
        import json
        trace = [{"name": e.key, "ph": "X", "ts": begin / 1e3, "dur": took / 1e3, "pid": 0, "tid": 0}
                 for e in self for begin, took in e.begins]
        with open(path, "w") as file:
            json.dump({"traceEvents": trace}, file)


class record_function:
    """Labels a block, so that a profile shows its time: a context, or a decorator.  Source: torch.profiler.record_function"""

    def __init__(self, name, args=None):
        self.name = name

    def __enter__(self):
        self.began = perf_counter_ns()
        return self

    def __exit__(self, *error):
        for running in getattr(_open, "profiles", ()):
            running._blocks[self.name].append((self.began, perf_counter_ns() - self.began))

    def __call__(self, function):
        from functools import wraps

        @wraps(function)
        def labelled(*args, **kwargs):
            with record_function(self.name):
                return function(*args, **kwargs)
        return labelled


class profile:
    """A block whose kernels are timed, by operation.

    Args: enabled: False: does nothing; others: accepted for compatibility.
    After it: `key_averages()` is a list of FunctionEvents, `.table(sort_by=...)` their text; `export_chrome_trace(path)`.
    Source: torch.autograd.profiler.profile

    >>> import fastbp
    >>> with profile() as prof:
    ...     for _ in range(3):
    ...         _ = fastbp.ones(100, 100) @ fastbp.ones(100, 100)
    >>> [e.count for e in prof.key_averages() if e.key == "matmul"]
    [3]
    """

    def __init__(self, enabled=True, **ignored):
        self.enabled = enabled
        self._blocks = defaultdict(list)
        self._events = None

    def __enter__(self):
        if self.enabled:
            _core._events()
            self._before = _core._watch(None)
            _core._watch(self._before[0], _LIMIT)
            _open.profiles = [*getattr(_open, "profiles", ()), self]
        return self

    def __exit__(self, *error):
        if not self.enabled:
            return
        log = _core._events()
        _core._watch(*self._before)
        _open.profiles = [p for p in _open.profiles if p is not self]
        from fastbp.ops import TABLE
        names = [row.name for row in TABLE.values() if row.compiled]
        kernels = defaultdict(list)
        for began, ended, _, _, _, _, kind, _, op, _ in _EVENT.iter_unpack(log):
            if kind == 0:
                kernels[names[op] if 0 <= op < len(names) else "other"].append((began, ended - began))
        self._events = EventList()
        for found, own in ((kernels, 1), (self._blocks, 0)):
            for name, times in found.items():
                total = sum(took for _, took in times) / 1e3
                self._events.append(FunctionEvent(name, len(times), own * total, total, times))

    def key_averages(self, group_by_input_shape=False, group_by_stack_n=0, group_by_overload_name=False):
        """A FunctionEvent for each operation and label."""
        if self._events is None:
            raise RuntimeError("Profiler didn't finish running")
        return self._events

    events = function_events = property(key_averages)

    def table(self, *args, **kwargs):
        """See EventList.table."""
        return self.key_averages().table(*args, **kwargs)

    def total_average(self):
        """All events as one."""
        return self.key_averages().total_average()

    @property
    def self_cpu_time_total(self):
        return self.key_averages().self_cpu_time_total

    def export_chrome_trace(self, path):
        """See EventList.export_chrome_trace."""
        self.key_averages().export_chrome_trace(path)

    def __str__(self):
        return "<unfinished profiler>" if self._events is None else self.table()

    __repr__ = __str__


class _Nothing:
    """A profiler of devices that are not there."""

    def __init__(self, *args, **kwargs):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass


emit_nvtx = emit_itt = _Nothing
