"""Floor 3: the part of torch.utils.benchmark that times a statement."""

import timeit

__all__ = ["Measurement", "Timer"]


class Measurement:
    """Seconds of several runs of a statement."""

    def __init__(self, number_per_run, raw_times, task_spec=None):
        self.number_per_run, self.raw_times, self.task_spec = number_per_run, list(raw_times), task_spec

    @property
    def times(self):
        """Seconds of one execution, by run."""
        return [t / self.number_per_run for t in self.raw_times]

    @property
    def mean(self):
        """Mean of `times`."""
        return sum(self.times) / len(self.times)

    @property
    def median(self):
        """Median of `times`."""
        t = sorted(self.times)
        return (t[(len(t) - 1) // 2] + t[len(t) // 2]) / 2

    @property
    def iqr(self):
        """Distance between the quartiles of `times`."""
        t = sorted(self.times)
        return t[(3 * (len(t) - 1)) // 4] - t[(len(t) - 1) // 4]

    def __repr__(self):
        name = f"{self.task_spec}\n  " if self.task_spec else ""
        return f"<torch.utils.benchmark.utils.common.Measurement>\n{name}Median: {self.median * 1e6:.2f} us, " \
               f"{len(self.raw_times)} runs of {self.number_per_run}"


class Timer:
    """Times a statement.

    Args: stmt, setup: Python source; globals: names it may use; label, sub_label, description, env, num_threads: for the report.
    Source: torch.utils.benchmark.Timer
    """

    def __init__(self, stmt="pass", setup="pass", global_setup="", timer=timeit.default_timer, globals=None, label=None,
                 sub_label=None, description=None, env=None, num_threads=1, language="python"):
        names = dict(globals or {})
        if "torch" not in names:
            import fastbp
            names["torch"] = fastbp
        self._timer = timeit.Timer(stmt, setup, timer, names)
        self._name = ": ".join(filter(None, (label, sub_label, description))) or stmt

    def timeit(self, number=1000000):
        """Runs the statement `number` times, after a run to warm up.  Returns: a Measurement."""
        self._timer.timeit(max(number // 100, 2))
        return Measurement(number, [self._timer.timeit(number)], self._name)

    def blocked_autorange(self, callback=None, min_run_time=0.2):
        """Runs blocks of the statement for `min_run_time` seconds.  Returns: a Measurement."""
        number = 1
        while (taken := self._timer.timeit(number)) < 1e-3 and number < 10**9:
            number *= 10
        times = [taken]
        while sum(times) < min_run_time:
            times.append(self._timer.timeit(number))
        return Measurement(number, times, self._name)

    adaptive_autorange = blocked_autorange
