"""Floor 3, optim: Optimizer, the base of all optimizers, and the thin path of the compiled ones.

A compiled optimizer keeps one `_Plan` for each parameter group: the lists that the core's update takes.  A step only
checks that the plan still holds (the same parameters, the same ones with gradients) and makes one call.  `state` is
brought up to date, and the plans are dropped, whenever somebody looks at it.
"""

import functools
import math
import warnings
from collections import OrderedDict, defaultdict
from collections.abc import Iterable
from copy import deepcopy
from itertools import chain

from fastbp._core import RowSparse, Tensor, _changed, _host, _live, _recording, gradients_of, rows_into
from fastbp.autograd.grad_mode import enable_grad, no_grad, set_grad_enabled
from fastbp.utils.hooks import RemovableHandle

__all__ = ["Optimizer", "register_optimizer_step_post_hook", "register_optimizer_step_pre_hook", "required"]


class _Required:
    """Marks an option that has no default."""

    def __repr__(self):
        return "<required parameter>"


required = _Required()


# ---- what optimizers written for PyTorch import from here -------------------------------------------------------------

ParamsT = _params_t = Iterable          # of tensors, of (name, tensor), or of groups; for annotations


def _use_grad_for_differentiable(step):
    """A decorator of `step`: what it computes is on the tape if the optimizer is made with differentiable=True, else not."""
    @functools.wraps(step)
    def call(self, *args, **kwargs):
        with set_grad_enabled(bool(self.defaults.get("differentiable", False))):
            return step(self, *args, **kwargs)
    return call


def _get_value(x):
    """A number, from a number or a tensor of one."""
    return x.item() if isinstance(x, Tensor) else x


def _dispatch_sqrt(x):
    """The root of a number, or of a tensor."""
    return x.sqrt() if isinstance(x, Tensor) else math.sqrt(x)


def _default_to_fused_or_foreach(params, differentiable, use_fused=False):
    """(fused, foreach): neither, each parameter by itself."""
    return False, False


_HOOKS = (
    "_optimizer_step_pre_hooks", "_optimizer_step_post_hooks", "_optimizer_state_dict_pre_hooks",
    "_optimizer_state_dict_post_hooks", "_optimizer_load_state_dict_pre_hooks", "_optimizer_load_state_dict_post_hooks",
)


def _type_name(value):
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


_BEFORE_ALL: OrderedDict = OrderedDict()        # hooks of every optimizer
_AFTER_ALL: OrderedDict = OrderedDict()


def register_optimizer_step_pre_hook(hook):
    """Calls `hook(optimizer, args, kwargs)` before each step of every optimizer.  Returns: a handle with `remove()`.

    Source: torch.optim.optimizer.register_optimizer_step_pre_hook
    """
    return _hook_all(_BEFORE_ALL, hook)


def register_optimizer_step_post_hook(hook):
    """Calls `hook(optimizer, args, kwargs)` after each step of every optimizer.  Returns: a handle with `remove()`.

    Source: torch.optim.optimizer.register_optimizer_step_post_hook
    """
    return _hook_all(_AFTER_ALL, hook)


def _hook_all(hooks, hook):
    handle = RemovableHandle(hooks)
    hooks[handle.id] = hook
    Optimizer._step_hooked = True
    return handle


def _call_hooked(step, optimizer, args, kwargs):
    """One step between its pre and post hooks; args as hooks see them begin with the optimizer itself."""
    args = (optimizer, *args)
    before, after = (getattr(optimizer, f"_optimizer_step_{when}_hooks", {}) for when in ("pre", "post"))   # no __init__: none
    for hook in [*_BEFORE_ALL.values(), *before.values()]:
        result = hook(optimizer, args, kwargs)
        if result is not None:
            if not isinstance(result, tuple) or len(result) != 2:
                raise RuntimeError(f"{step} must return None or a tuple of (new_args, new_kwargs), but got {result}.")
            args, kwargs = result
    result = step(*args, **kwargs)
    for hook in [*after.values(), *_AFTER_ALL.values()]:
        hook(optimizer, args, kwargs)
    return result


class Optimizer:
    """Base class of optimizers: parameter groups, state for each parameter, hooks.

    Subclasses call `super().__init__(params, defaults)` and define `step`, which reads `self.param_groups` and keeps
    what it has to remember of a parameter p in `self.state[p]`.

    Args:
        params: iterable of Tensors, of (name, Tensor) pairs, or of dicts {"params": ..., option: value, ...}.
        defaults: options of groups that do not name them.
    Errors: TypeError for a Tensor instead of an iterable, or a member that is no Tensor; ValueError for no parameters,
        a Tensor that is no leaf, or one that is in two groups.
    Source: torch.optim.Optimizer

    >>> import fastbp
    >>> w = fastbp.nn.Parameter(fastbp.tensor([1.0]))
    >>> opt = fastbp.optim.SGD([w], lr=0.5)
    >>> (w * w).sum().backward()
    >>> opt.step()
    >>> w.tolist()
    [0.0]
    """

    _step_hooked = False    # true once a step hook was registered

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        step = cls.__dict__.get("step")
        if step is None or "_looks_for_hooks" in cls.__dict__:
            return

        @functools.wraps(step)
        def hooked(self, *args, **kwargs):
            if self._step_hooked:
                return _call_hooked(step, self, args, kwargs)
            return step(self, *args, **kwargs)

        cls.step = hooked

    def __init__(self, params, defaults):
        self.defaults = defaults
        self._plans = {}
        for hooks in _HOOKS:
            setattr(self, hooks, OrderedDict())
        if isinstance(params, Tensor):
            raise TypeError("params argument given to the optimizer should be an iterable of Tensors or dicts, but got "
                            + _type_name(params))
        self._state = defaultdict(dict)
        self.param_groups = []
        groups = list(params)
        if not groups:
            raise ValueError("optimizer got an empty parameter list")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    @property
    def state(self):
        """What the optimizer remembers: a dictionary of Tensor -> dictionary."""
        if self._plans:
            self._drop_plans()
        return self._state

    @state.setter
    def state(self, state):
        self.__dict__["_plans"] = {}        # also of one that wraps another, and never was an Optimizer's `__init__`
        self._state = state

    def _drop_plans(self):
        """Writes what plans know better than `state` back into it."""
        self._plans.clear()

    def __getstate__(self):
        return {"defaults": self.defaults, "state": self.state, "param_groups": self.param_groups}

    def __setstate__(self, state):
        state = dict(state)
        self.__dict__["_plans"] = {}
        if "state" in state:
            self.__dict__["_state"] = state.pop("state")
        self.__dict__.update(state)
        for hooks in _HOOKS:
            self.__dict__.setdefault(hooks, OrderedDict())
        self.defaults.setdefault("differentiable", False)

    def __repr__(self):
        text = type(self).__name__ + " ("
        for k, group in enumerate(self.param_groups):
            text += f"\nParameter Group {k}\n"
            for key in sorted(group):
                if key != "params":
                    text += f"    {key}: {group[key]}\n"
        return text + ")"

    # ---- groups -----------------------------------------------------------------------------------------------------

    def add_param_group(self, param_group):
        """Adds a group of parameters with options of its own; missing options come from the defaults.

        Args: param_group: dict with "params" (a Tensor, or a list of Tensors or (name, Tensor) pairs) and options.
        Errors: as for the constructor.
        """
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, but got {type(param_group)}")
        params = param_group["params"]
        if isinstance(params, set):
            raise TypeError("optimizer parameters need to be organized in ordered collections, but the ordering of "
                            "tensors in sets will change between runs. Please use a list instead.")
        params = [params] if isinstance(params, Tensor) else list(params)
        names = [p[0] for p in params if isinstance(p, tuple)]
        params = [p[1] if isinstance(p, tuple) else p for p in params]
        if names:
            if len(names) != len(params):
                raise ValueError("all optimizer params should be with/without names. Some param names are missing")
            param_group["param_names"] = names
        param_group["params"] = params
        for p in params:
            if not isinstance(p, Tensor):
                raise TypeError("optimizer can only optimize Tensors, but one of the params is " + _type_name(p))
            if not (self.defaults.get("differentiable") or p.is_leaf or p.retains_grad):
                raise ValueError("can't optimize a non-leaf Tensor")
        for name, default in self.defaults.items():
            if default is required and name not in param_group:
                raise ValueError(f"parameter group didn't specify a value of required optimization parameter {name}")
            param_group.setdefault(name, default)
        ids = {id(p) for p in params}
        if len(ids) != len(params):
            warnings.warn("optimizer contains a parameter group with duplicate parameters; in future, this will cause "
                          "an error; see github.com/pytorch/pytorch/issues/40967 for more information", stacklevel=3)
        for group in self.param_groups:
            if ("param_names" in param_group) != ("param_names" in group):
                with_names = "with names" if "param_names" in param_group else "without names"
                raise ValueError("all optimizer param groups should be with/without names. "
                                 f"cannot add param group {with_names} to the optimizer")
            if any(id(p) in ids for p in group["params"]):
                raise ValueError("some parameters appear in more than one parameter group")
        self.param_groups.append(param_group)
        _changed()

    def zero_grad(self, set_to_none=True):
        """Forgets the gradients of all parameters, or fills them with zeros when `set_to_none` is False."""
        for group in self.param_groups:
            for p in group["params"]:
                if set_to_none:
                    p.grad = None
                elif p.grad is not None:
                    if p.grad.requires_grad:
                        p.grad = p.grad.detach()    # shares the storage
                    p.grad.zero_()

    def step(self, closure=None):
        """Updates the parameters once; every subclass defines it.

        Args: closure: function that computes the loss anew and returns it.
        Returns: the closure's result, or None.
        """
        raise NotImplementedError

    # ---- state ------------------------------------------------------------------------------------------------------

    def state_dict(self):
        """The state and the options, with parameters replaced by their numbers.

        Returns: {"state": {number: {...}}, "param_groups": [{option: value, ..., "params": [number, ...]}]}.
        """
        for hook in self._optimizer_state_dict_pre_hooks.values():
            hook(self)
        numbers = {}
        for p in chain.from_iterable(g["params"] for g in self.param_groups):
            numbers.setdefault(id(p), len(numbers))
        groups = [{**{k: v for k, v in g.items() if k != "params"}, "params": [numbers[id(p)] for p in g["params"]]}
                  for g in self.param_groups]
        state = {numbers[id(k)] if isinstance(k, Tensor) else k: v for k, v in self.state.items()}
        result = {"state": state, "param_groups": groups}
        for hook in self._optimizer_state_dict_post_hooks.values():
            replaced = hook(self, result)
            if replaced is not None:
                result = replaced
        return result

    def load_state_dict(self, state_dict):
        """Takes over a copy of what `state_dict` returned; floating state is converted to its parameter's dtype.

        Errors: ValueError when the number of groups, or of parameters in a group, differs.
        """
        state_dict = dict(state_dict)
        for hook in self._optimizer_load_state_dict_pre_hooks.values():
            replaced = hook(self, state_dict)
            if replaced is not None:
                state_dict = replaced
        groups, saved = self.param_groups, deepcopy(state_dict["param_groups"])
        if len(groups) != len(saved):
            raise ValueError("loaded state dict has a different number of parameter groups")
        if any(len(g["params"]) != len(s["params"]) for g, s in zip(groups, saved)):
            raise ValueError("loaded state dict contains a parameter group that doesn't match the size of optimizer's "
                             "group")
        params = dict(zip(chain.from_iterable(s["params"] for s in saved),
                          chain.from_iterable(g["params"] for g in groups)))
        state = defaultdict(dict)
        for key, value in state_dict["state"].items():
            if key in params:
                state[params[key]] = _fit(params[key], value)
            else:
                state[key] = deepcopy(value)
        for group, new in zip(groups, saved):
            new["params"] = group["params"]
            if "param_names" in group:
                new.setdefault("param_names", group["param_names"])
        self.__setstate__({"state": state, "param_groups": saved})
        for hook in self._optimizer_load_state_dict_post_hooks.values():
            hook(self)

    # ---- hooks ------------------------------------------------------------------------------------------------------

    def _add_hook(self, hooks, hook, prepend=False):
        handle = RemovableHandle(hooks)
        hooks[handle.id] = hook
        if prepend:
            hooks.move_to_end(handle.id, last=False)
        return handle

    def register_step_pre_hook(self, hook):
        """Calls `hook(optimizer, args, kwargs)` before each step; it may return new (args, kwargs).  Returns: a
        handle."""
        self._step_hooked = True
        return self._add_hook(self._optimizer_step_pre_hooks, hook)

    def register_step_post_hook(self, hook):
        """Calls `hook(optimizer, args, kwargs)` after each step.  Returns: a handle with `remove()`."""
        self._step_hooked = True
        return self._add_hook(self._optimizer_step_post_hooks, hook)

    def register_state_dict_pre_hook(self, hook, prepend=False):
        """Calls `hook(optimizer)` before `state_dict`.  Returns: a handle with `remove()`."""
        return self._add_hook(self._optimizer_state_dict_pre_hooks, hook, prepend)

    def register_state_dict_post_hook(self, hook, prepend=False):
        """Calls `hook(optimizer, state_dict)` after `state_dict`; it may return another one.  Returns: a handle."""
        return self._add_hook(self._optimizer_state_dict_post_hooks, hook, prepend)

    def register_load_state_dict_pre_hook(self, hook, prepend=False):
        """Calls `hook(optimizer, state_dict)` before loading; it may return another one.  Returns: a handle."""
        return self._add_hook(self._optimizer_load_state_dict_pre_hooks, hook, prepend)

    def register_load_state_dict_post_hook(self, hook, prepend=False):
        """Calls `hook(optimizer)` after loading.  Returns: a handle with `remove()`."""
        return self._add_hook(self._optimizer_load_state_dict_post_hooks, hook, prepend)


def _fit(param, value, key=None):
    """A copy of saved state; floating tensors get the parameter's dtype, all but the step count."""
    if isinstance(value, Tensor):
        if key != "step" and param.is_floating_point():
            return value.detach().to(param.dtype, copy=True).contiguous()
        return value.detach().clone().contiguous()
    if isinstance(value, dict):
        return {k: _fit(param, v, k) for k, v in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        return type(value)(_fit(param, v) for v in value)
    return value


class _Plan:
    """What one call of the core's update takes for one group, and the conditions under which it holds."""

    __slots__ = ("extra", "fresh", "kinds", "listed", "params", "rows", "slots", "steps", "strided", "targets", "uniform")

    def __init__(self, listed):
        self.listed = list(listed)                              # the group's parameters
        self.kinds = [_kind(p.grad) for p in listed]
        self.params = [p for p, kind in zip(listed, self.kinds) if kind == 1]
        self.rows = [p for p, kind in zip(listed, self.kinds) if kind == 2]
        self.targets = self.params                              # what the update writes to
        self.strided = [k for k, p in enumerate(self.params) if not p.is_contiguous()]
        self.slots = self.extra = None
        self.fresh = False          # which momentum buffers the next step has to fill
        self.steps = None           # numbers of steps done
        self.uniform = True

    def gradients(self, listed):
        """The gradients of `params`; None when the group or the set of those with gradients is another one."""
        return gradients_of(listed if listed.__class__ is list else list(listed), self.listed, self.kinds)

    def compact(self, index):
        """Rows `index` of the one parameter and its states, in place of them.  Returns: what was replaced, in pairs."""
        pairs = []

        def rows(full):
            if full is None:
                return None
            full = full.detach()
            pairs.append((full, full.index_select(0, index)))
            return pairs[-1][1]

        self.targets = [rows(p) for p in self.params]
        if isinstance(self.slots, tuple):
            self.slots = tuple(None if slot is None else [rows(t) for t in slot] for slot in self.slots)
        elif self.slots is not None:
            self.slots = [rows(t) for t in self.slots]
        if isinstance(self.extra, list):
            self.extra = [rows(t) for t in self.extra]
        return pairs


def _kind(grad):
    """0: no gradient, 1: a dense one, 2: a row-sparse one."""
    return 0 if grad is None else 2 if grad.__class__ is RowSparse else 1


class CompiledOptimizer(Optimizer):
    """Optimizers whose update is one compiled pass over all parameters of a group.

    Subclasses define `_prepare(group, plan)`, which fills a plan's lists, and `_update(group, plan, grads)`, the call.
    """

    _looks_for_hooks = True     # `step` does it itself: no wrapper

    def step(self, closure=None):
        """Updates all parameters that have gradients, in one compiled pass for each group.

        Args: closure: function that computes the loss anew and returns it.
        Returns: the closure's result, or None.
        """
        if _recording() and not self.defaults.get("differentiable"):
            return self._step_recorded(closure)
        if self._step_hooked:
            return _call_hooked(type(self)._step, self, () if closure is None else (closure,), {})
        return self._step(closure)

    def _step_recorded(self, closure):
        """Inside fastbp.compile: this Python runs at each replay too, and gives the updates their constants."""
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        _host(self._step if not self._step_hooked else lambda: _call_hooked(type(self)._step, self, (), {}))
        return loss

    def _step(self, closure=None):
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        if self.defaults.get("differentiable"):
            self._step_on_the_tape()
            return loss
        for k, group in enumerate(self.param_groups):
            listed = group["params"]
            plan = self._plans.get(k)
            grads = None if plan is None else plan.gradients(listed)
            if grads is None:
                if plan is not None:
                    self._drop_plans()
                plan = self._plans[k] = _Plan(listed)
                grads = plan.gradients(listed)
                with no_grad():
                    self._prepare(group, plan)
            if grads and plan.strided:
                self._update_strided(group, plan, grads)
            elif grads:
                self._update(group, plan, grads)
            for p in plan.rows:
                with no_grad():
                    _live(self._update_rows, group, p, p.grad)
        return loss

    def _step_on_the_tape(self):
        """With differentiable=True: the same update, made of recorded operations."""
        from fastbp.optim import differentiable
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    differentiable.step(self, group, p)

    def _update_rows(self, group, p, grad):
        """Updates a parameter from a row-sparse gradient."""
        raise RuntimeError(f"{type(self).__name__} does not support sparse gradients, please consider SparseAdam instead")

    def _used_rows(self, group, p, grad):
        """The update of the rows that a row-sparse gradient names, and of their states; all others stay as they are."""
        if group.get("weight_decay"):
            raise RuntimeError("weight_decay option is not compatible with sparse gradients")
        grad = grad.coalesce()
        plan = _Plan([])
        plan.params = [p]
        self._prepare(group, plan)
        pairs = plan.compact(grad.index)
        self._update(group, plan, [grad.rows])
        for full, rows in pairs:
            rows_into(full, grad.index, rows, False)
        self._write_steps(plan)

    @no_grad()
    def _update_strided(self, group, plan, grads):
        """Parameters that are not contiguous are updated in contiguous copies."""
        copies = {k: plan.params[k].detach().contiguous() for k in plan.strided}
        plan.targets = [copies.get(k, p) for k, p in enumerate(plan.params)]
        try:
            self._update(group, plan, grads)
        finally:
            plan.targets = plan.params
        for k, copy in copies.items():
            plan.params[k].copy_(copy)

    def _prepare(self, group, plan):
        raise NotImplementedError

    def _update(self, group, plan, grads):
        raise NotImplementedError
