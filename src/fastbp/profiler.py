"""Floor 3: torch.profiler's names, over autograd/profiler.py."""

from enum import Enum

from fastbp.autograd import profiler as _profiler
from fastbp.autograd.profiler import record_function

__all__ = ["ProfilerAction", "ProfilerActivity", "profile", "record_function", "schedule", "tensorboard_trace_handler"]

ProfilerActivity = Enum("ProfilerActivity", "CPU CUDA XPU MTIA HPU PrivateUse1")
ProfilerAction = Enum("ProfilerAction", "NONE WARMUP RECORD RECORD_AND_SAVE")


def schedule(*, wait, warmup, active, repeat=0, skip_first=0, skip_first_wait=0):
    """Which steps are recorded: after skip_first, cycles of wait, warmup and active steps.  Source: torch.profiler.schedule"""
    def action(step):
        step -= skip_first
        cycle = wait + warmup + active
        if step < 0 or (repeat and step >= repeat * cycle) or (at := step % cycle) < wait:
            return ProfilerAction.NONE
        if at < wait + warmup:
            return ProfilerAction.WARMUP
        return ProfilerAction.RECORD_AND_SAVE if at == cycle - 1 else ProfilerAction.RECORD
    return action


def tensorboard_trace_handler(dir_name, worker_name=None, use_gzip=False):
    """An on_trace_ready that writes Chrome's traces into a directory."""
    def write(prof):
        import os
        os.makedirs(dir_name, exist_ok=True)
        prof.export_chrome_trace(os.path.join(dir_name, f"{worker_name or os.getpid()}.{prof.step_num}.pt.trace.json"))
    return write


class profile(_profiler.profile):
    """A block whose kernels are timed; with a schedule, some of its steps.

    Args: activities: the CPU is what there is; schedule: function of the step's number; on_trace_ready: called with the profile
        when a cycle is complete, or at the end; others: accepted.
    `step()` says that one step of the program is over.  Source: torch.profiler.profile
    """

    def __init__(self, *, activities=None, schedule=None, on_trace_ready=None, record_shapes=False, profile_memory=False,
                 with_stack=False, with_flops=False, with_modules=False, experimental_config=None, **ignored):
        super().__init__()
        self.schedule, self.on_trace_ready, self.step_num, self._running = schedule, on_trace_ready, 0, False

    def _wanted(self):
        return self.schedule is None or self.schedule(self.step_num) in (ProfilerAction.RECORD, ProfilerAction.RECORD_AND_SAVE)

    def _turn(self, on):
        if on and not self._running:
            self._blocks.clear()
            super().__enter__()
        elif self._running and not on:
            super().__exit__()
            if self.on_trace_ready is not None:
                self.on_trace_ready(self)
        self._running = on

    def start(self):
        """Begins, as entering the block does."""
        self._turn(self._wanted())

    def stop(self):
        """Ends, as leaving the block does."""
        self._turn(False)

    def step(self):
        """The next step begins."""
        last = self.schedule is not None and self.schedule(self.step_num) is ProfilerAction.RECORD_AND_SAVE
        self.step_num += 1
        if last:
            self._turn(False)
        self._turn(self._wanted())

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *error):
        self.stop()
