"""Floor 4, the windows: see what a program computes, where its gradients go, and what it costs.

    graph(loss)                 the computational graph with values, gradients and the chain rule, to read and to step through
    record(model)               remembers a forward pass, a backward pass and an update for such a graph
    flow(model, optimizer)      watches the flow of gradients while a network learns, and says what is wrong
    ledger()                    where time and bytes go: by operation, module and line
    summary(model, x)           layers, shapes, parameters, multiply-adds, bytes
    python -m fastbp.insight serve RUN_DIR      a page on a run as it goes

It reads the core and changes nothing in it; results have the same bits with and without.  Everything is imported when it is
first named.
"""

__all__ = ["Graph", "Recording", "blame", "diff", "flow", "graph", "ledger", "log", "record", "summary"]

_PLACES = {
    "Graph": "_graph", "Recording": "_record", "blame": "_graph", "diff": "_graph", "graph": "_graph", "record": "_record",
    "flow": "_flow", "log": "_flow", "ledger": "_ledger", "summary": "_ledger",
}


def __getattr__(name):
    if name not in _PLACES:
        raise AttributeError(f"module 'fastbp.insight' has no attribute {name!r}")
    from importlib import import_module
    globals()[name] = found = getattr(import_module("fastbp.insight." + _PLACES[name]), name)
    return found


def __dir__():
    return sorted({*globals(), *__all__})
