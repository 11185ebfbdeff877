"""What holds for every test: it starts from the same random seed and leaves no live tensor and no live byte behind."""

import gc
import signal
import sys
import time

import fastbp
import pytest
from fastbp import _core
from fastbp.ops._declare import REMEMBERED

FAILED = pytest.StashKey[bool]()

# A shell starts what runs in the background with Ctrl-C ignored, children too: it is tested there as elsewhere.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


def alive():
    """Live tensors and bytes, as the core itself counts them."""
    return _core.live_tensors(), _core.live_bytes()


@pytest.fixture(autouse=True, scope="session")
def modules_are_not_looked_at():
    """The collections below go through what tests made, not through all imported modules each time (70 ms a test)."""
    seen = 0

    def look():
        nonlocal seen
        gc.collect()
        if len(sys.modules) != seen:            # a test imported more: 100 ms a test with PyTorch among them
            seen = len(sys.modules)
            gc.freeze()
    yield look
    gc.unfreeze()


@pytest.fixture(autouse=True)
def nothing_stays_alive(request, modules_are_not_looked_at):
    """The test ends with as many live tensors and bytes as it began with.

    What lives longer on purpose, in fixtures of a wider scope or in modules, was made before the first count. A failed
    test is not asked: its traceback holds its tensors.
    """
    fastbp.manual_seed(0)
    modules_are_not_looked_at()
    before = alive()
    yield
    if request.node.stash.get(FAILED, False):
        return
    for made in REMEMBERED:                 # constants of compositions, kept for their next call
        made.clear()
    request.node.funcargs.clear()           # pytest would hold the values of fixtures a little longer
    if alive() != before:
        gc.collect()                        # cycles that user code made; those of fastbp's own are tested apart
        for _ in range(100):                # a loader's thread may still be at a batch that nobody will take
            if alive() == before:
                break
            time.sleep(0.01)
    after = alive()
    assert after == before, f"the test left {after[0] - before[0]} tensors and {after[1] - before[1]} bytes behind"


@pytest.fixture(params=[1, 3])
def threads(request):
    """The test runs on one thread and on three."""
    before = fastbp.get_num_threads()
    fastbp.set_num_threads(request.param)
    yield request.param
    fastbp.set_num_threads(before)
