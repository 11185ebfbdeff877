"""Floor 3: differentiation with PyTorch's names.  The work is the core's (_engine/backward.pxi); this file checks and
rearranges arguments."""

from fastbp._core import BatchError, GraphError, Tensor, _backward, _grad, _release_graph, stack
from fastbp.autograd import forward_ad, grad_mode, graph
from fastbp.autograd.function import Function
from fastbp.autograd.grad_mode import enable_grad, inference_mode, no_grad, set_grad_enabled, set_multithreading_enabled
from fastbp.autograd.variable import Variable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fastbp.autograd import functional
    from fastbp.autograd.anomaly_mode import detect_anomaly, set_detect_anomaly
    from fastbp.autograd.gradcheck import gradcheck, gradgradcheck

__all__ = [
    "Function", "Variable", "backward", "detect_anomaly", "enable_grad", "forward_ad", "function", "functional", "grad",
    "grad_mode", "gradcheck", "gradgradcheck", "graph", "inference_mode", "no_grad", "set_detect_anomaly", "set_grad_enabled",
    "set_multithreading_enabled",
]

# imported when a program first names them
_LATER = {"functional": "functional", "profiler": "profiler", "gradcheck": "gradcheck", "gradgradcheck": "gradcheck",
          "detect_anomaly": "anomaly_mode", "set_detect_anomaly": "anomaly_mode", "anomaly_mode": "anomaly_mode"}


def __getattr__(name):
    if name not in _LATER:
        raise AttributeError(f"module 'fastbp.autograd' has no attribute {name!r}")
    from importlib import import_module
    module = import_module("fastbp.autograd." + _LATER[name])
    found = module if name in ("functional", "profiler", "anomaly_mode") else getattr(module, name)
    globals()[name] = found
    return found


def backward(tensors, grad_tensors=None, retain_graph=None, create_graph=False, grad_variables=None, inputs=None):
    """Adds the gradients of `tensors` to the `.grad` of the leaves they were computed from.

    Formula: leaf.grad += sum over tensors t of (dt / dleaf)^T grad_t
    Args:
        tensors: Tensor or sequence of them.
        grad_tensors: the adjoint of each, of its shape; may be left out for scalars.
        retain_graph: keep what was saved for another walk; `create_graph` by default.
        create_graph: put the walk itself on the tape, for higher derivatives.
        grad_variables: old name of grad_tensors.
        inputs: leaves to which gradients are restricted.
    Errors: GraphError (a RuntimeError) for a tensor without graph, one that is no scalar, or a second walk.
    Source: torch.autograd.backward

    >>> import fastbp
    >>> x = fastbp.tensor(3.0, requires_grad=True)
    >>> backward(x ** 2)
    >>> x.grad.item()
    6.0
    """
    if grad_variables is not None:
        if grad_tensors is not None:
            raise RuntimeError("`grad_tensors` and `grad_variables` (deprecated) arguments both passed to `backward()`."
                               " Please only use `grad_tensors`.")
        grad_tensors = grad_variables
    if inputs is not None and not isinstance(inputs, Tensor):
        inputs = list(inputs)
        if not inputs:
            raise RuntimeError("`inputs` argument to `backward()` cannot be empty.")
    _backward(tensors, grad_tensors, retain_graph, create_graph, inputs)


def grad(outputs, inputs, grad_outputs=None, retain_graph=None, create_graph=False, only_inputs=True, allow_unused=None,
         is_grads_batched=False, materialize_grads=False):
    """The gradients of `outputs` with respect to `inputs`; no `.grad` is touched.

    Formula: result_i = sum over outputs o of (do / dinput_i)^T grad_o
    Args:
        outputs: Tensor or sequence of them.
        inputs: Tensor, sequence of them, or dict, whose keys the result then has.
        grad_outputs: the adjoint of each output, of its shape; may be left out for scalars.
        retain_graph, create_graph: as in `backward`.
        only_inputs: accepted and ignored.
        allow_unused: None instead of an error for an input that outputs do not depend on.
        is_grads_batched: the first dimension of grad_outputs counts independent adjoints; results get it too.
        materialize_grads: zeros instead of None.
    Returns: tuple of Tensors (dict for a dict).
    Errors: GraphError (a RuntimeError) as for `backward`, and for an unused input.
    Source: torch.autograd.grad

    >>> import fastbp
    >>> x = fastbp.tensor(3.0, requires_grad=True)
    >>> grad(x ** 2, x)[0].item()
    6.0
    """
    if isinstance(inputs, dict):
        found = grad(outputs, list(inputs.values()), grad_outputs, retain_graph, create_graph, only_inputs,
                     allow_unused, is_grads_batched, materialize_grads)
        return dict(zip(inputs, found))
    if not is_grads_batched:
        return _grad(outputs, inputs, grad_outputs, retain_graph, create_graph, allow_unused, materialize_grads)
    from fastbp.func import _at_once
    batches = [grad_outputs] if isinstance(grad_outputs, Tensor) else list(grad_outputs)
    keep = create_graph if retain_graph is None else retain_graph
    given = [b for b in batches if b is not None]
    sizes = {len(b) for b in given}
    if len(sizes) != 1:
        raise GraphError(f"grad: with is_grads_batched=True every grad_output has the same first dimension, got {sorted(sizes)}.")
    count, = sizes

    def one(adjoints, retain):
        return _grad(outputs, inputs, adjoints, retain, create_graph, allow_unused, materialize_grads)
    try:                                        # all in one walk
        found = _at_once(lambda *adjoints: one(adjoints, True), batches)
        if not keep:
            _release_graph([outputs] if isinstance(outputs, Tensor) else list(outputs))
        return found
    except BatchError:                          # an operation without a batching rule: one after another
        rows = [one([None if b is None else b[k] for b in batches], keep or k + 1 < count) for k in range(count)]
        return tuple(None if column[0] is None else stack(column) for column in zip(*rows))
