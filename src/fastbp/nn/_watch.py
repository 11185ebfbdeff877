"""Floor 3, nn: how a module's backward hooks see the gradients of one call.  Used by Module alone."""

import functools

from fastbp._core import Tensor, is_grad_enabled
from fastbp.nn import global_hooks

__all__ = ["BackwardWatch"]


class BackwardWatch:
    """One call of a module with backward hooks: its differentiable inputs and outputs pass through aliases of their
    own, whose tensor hooks see exactly the gradients that flow through this call."""

    def __init__(self, module):
        self.module = module
        self.hooks = (*global_hooks.BACKWARD.values(), *module._backward_hooks.values())
        self.pre_hooks = (*global_hooks.BACKWARD_PRE.values(), *module._backward_pre_hooks.values())
        self.inputs, self.outputs = [], []          # gradients, by position
        self.waiting_inputs, self.waiting_outputs = set(), set()
        self.expected_inputs, self.expected_outputs = set(), set()

    def _alias(self, tensors, gradients, expected, waiting, hook):
        gradients.extend([None] * len(tensors))
        aliased = []
        for k, t in enumerate(tensors):
            if isinstance(t, Tensor) and t.requires_grad and is_grad_enabled():
                t = t.view_as(t)
                t.register_hook(functools.partial(hook, k))
                expected.add(k)
                waiting.add(k)
            aliased.append(t)
        return tuple(aliased)

    def enter(self, args):
        if not self.hooks:
            return args
        return self._alias(args, self.inputs, self.expected_inputs, self.waiting_inputs, self._input_gradient)

    def leave(self, result):
        results = result if isinstance(result, tuple) else (result,)
        results = self._alias(results, self.outputs, self.expected_outputs, self.waiting_outputs, self._output_gradient)
        return results if isinstance(result, tuple) else results[0]

    def _output_gradient(self, k, gradient):
        self.outputs[k] = gradient
        self.waiting_outputs.discard(k)
        if self.waiting_outputs:
            return None
        before = tuple(self.outputs)
        for hook in self.pre_hooks:
            replaced = hook(self.module, tuple(self.outputs))
            if replaced is not None:
                self.outputs = list(replaced if isinstance(replaced, tuple) else (replaced,))
        self._check_replaced(before, self.outputs, k, "full backward pre-hook")
        self.waiting_outputs = set(self.expected_outputs)
        result = self.outputs[k]
        if not self.expected_inputs:
            self._call_hooks(None)
        return result if result is not before[k] else None

    def _input_gradient(self, k, gradient):
        self.inputs[k] = gradient
        self.waiting_inputs.discard(k)
        return None if self.waiting_inputs else self._call_hooks(k)

    def _call_hooks(self, k):
        before = tuple(self.inputs)
        try:
            for hook in self.hooks:
                replaced = hook(self.module, tuple(self.inputs), tuple(self.outputs))
                if replaced is not None:
                    if k is None:
                        raise RuntimeError(
                            f"{type(self.module).__name__}: the backward hook returned new gradients, but no input of "
                            "this call requires gradients; return None")
                    self.inputs = list(replaced if isinstance(replaced, tuple) else (replaced,))
            self._check_replaced(before, self.inputs, k, "full backward hook")
            return None if k is None or self.inputs[k] is before[k] else self.inputs[k]
        finally:
            self.inputs, self.outputs = [None] * len(self.inputs), [None] * len(self.outputs)
            self.waiting_inputs = set(self.expected_inputs)

    def _check_replaced(self, before, after, k, what):
        if len(before) != len(after):
            raise RuntimeError(f"{type(self.module).__name__}: the {what} returned {len(after)} gradients, "
                               f"expected {len(before)}")
        for i, (old, new) in enumerate(zip(before, after)):
            if i != k and old is not new:   # that gradient has already travelled on
                raise RuntimeError(
                    f"{type(self.module).__name__}: the {what} replaced gradient {i} of {len(before)}, but only the "
                    "last one to arrive can be replaced; use Tensor.register_hook for the others")
