"""Floor 3, nn.utils: pruning: masks on parameters that set some of their entries to zero.

A pruned parameter `name` becomes `name_orig`; beside it stands a buffer `name_mask`, and before each forward the attribute
`name` is made anew as their product.  Pruning again multiplies masks: only what is left is looked at.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable

from fastbp._core import cat, ones_like, rand, rand_like, zeros_like
from fastbp.autograd.grad_mode import no_grad

__all__ = [
    "BasePruningMethod", "CustomFromMask", "Identity", "L1Unstructured", "LnStructured", "PruningContainer", "RandomStructured",
    "RandomUnstructured", "custom_from_mask", "global_unstructured", "identity", "is_pruned", "l1_unstructured", "ln_structured",
    "random_structured", "random_unstructured", "remove",
]

class BasePruningMethod(ABC):
    """What all ways of pruning share; a new one says how a mask is made.

    PRUNING_TYPE: "unstructured" (entries), "structured" (slices along `dim`) or "global".
    Source: torch.nn.utils.prune.BasePruningMethod
    """

    PRUNING_TYPE = "unstructured"
    _tensor_name: str

    def __call__(self, module, inputs):
        setattr(module, self._tensor_name, self.apply_mask(module))

    @abstractmethod
    def compute_mask(self, t, default_mask):
        """The mask of tensor t, given the one that is already on it."""

    def apply_mask(self, module):
        """The product of the original and the mask."""
        name = self._tensor_name
        return getattr(module, name + "_mask").to(dtype=getattr(module, name + "_orig").dtype) * getattr(module, name + "_orig")

    @classmethod
    def apply(cls, module, name, *args, importance_scores=None, **kwargs):
        """Prunes a module's parameter on the fly; returns the method that is now its forward pre-hook."""
        old = _method_of(module, name)
        method = cls(*args, **kwargs)
        method._tensor_name = name
        if old is not None:                     # multiply masks
            container = old[1] if isinstance(old[1], PruningContainer) else PruningContainer(old[1])
            container._tensor_name = name
            container.add_pruning_method(method)
            del module._forward_pre_hooks[old[0]]
            used = container
        else:
            used = method
        tensor = getattr(module, name)
        scores = tensor if importance_scores is None else importance_scores
        if scores.shape != tensor.shape:
            raise ValueError(f"prune: importance_scores have shape {list(scores.shape)}, parameter {name!r} has "
                             f"{list(tensor.shape)}; they must be equal")
        if old is None:
            original = module._parameters[name]
            del module._parameters[name]
            module.register_parameter(name + "_orig", original)
            before = ones_like(tensor)
        else:
            before = getattr(module, name + "_mask").detach().clone()
        try:
            with no_grad():
                mask = used.compute_mask(scores.detach(), default_mask=before)
            module.register_buffer(name + "_mask", mask)
            setattr(module, name, used.apply_mask(module))
        except Exception:
            if old is None:
                original = module._parameters[name + "_orig"]
                del module._parameters[name + "_orig"]
                module.register_parameter(name, original)
            raise
        module.register_forward_pre_hook(used)
        return used

    def prune(self, t, default_mask=None, importance_scores=None):
        """t times its mask; no module is touched."""
        scores = t if importance_scores is None else importance_scores
        if scores.shape != t.shape:
            raise ValueError(f"prune: importance_scores have shape {list(scores.shape)}, the tensor {list(t.shape)}")
        mask = self.compute_mask(scores, default_mask=ones_like(t) if default_mask is None else default_mask)
        return t * mask

    def remove(self, module):
        """Makes the pruning permanent: the parameter is the product, mask and original are gone."""
        name = self._tensor_name
        with no_grad():
            weight = self.apply_mask(module)
        original = module._parameters[name + "_orig"]
        original.data = weight.data
        del module._parameters[name + "_orig"]
        del module._buffers[name + "_mask"]
        if name in module.__dict__:
            delattr(module, name)
        module.register_parameter(name, original)


def _method_of(module, name):
    """(number, method) of the pruning on a parameter, or None."""
    found = [(k, hook) for k, hook in module._forward_pre_hooks.items()
             if isinstance(hook, BasePruningMethod) and hook._tensor_name == name]
    return found[0] if found else None


class PruningContainer(BasePruningMethod):
    """Several prunings of one parameter, one after the other.  Source: torch.nn.utils.prune.PruningContainer"""

    def __init__(self, *args):
        self._pruning_methods = ()
        methods = args[0] if len(args) == 1 and isinstance(args[0], Iterable) else args
        for method in methods:
            if not self._pruning_methods and isinstance(method, BasePruningMethod):
                self._tensor_name = getattr(method, "_tensor_name", "temporary_name")
            self.add_pruning_method(method)

    def add_pruning_method(self, method):
        """One more."""
        if not isinstance(method, BasePruningMethod) and method is not None:
            raise TypeError(f"{type(method)} is not a BasePruningMethod subclass")
        if method is not None and self._tensor_name != method._tensor_name:
            raise ValueError(f"Can only add pruning methods acting on the parameter named '{self._tensor_name}' to "
                             f"PruningContainer; found '{method._tensor_name}'")
        self._pruning_methods += (method,)

    def __len__(self):
        return len(self._pruning_methods)

    def __iter__(self):
        return iter(self._pruning_methods)

    def __getitem__(self, k):
        return self._pruning_methods[k]

    def compute_mask(self, t, default_mask):
        """The newest method's mask, computed on what earlier ones left."""
        method = self._pruning_methods[-1]
        if method.PRUNING_TYPE == "unstructured":
            chosen = default_mask == 1
        elif method.PRUNING_TYPE == "structured":
            if not hasattr(method, "dim"):
                raise AttributeError("Pruning methods of PRUNING_TYPE 'structured' need to have the attribute `dim` defined.")
            dim = method.dim % t.dim()
            others = [d for d in range(t.dim()) if d != dim]
            kept = (default_mask.sum(dim=others) if others else default_mask) != 0
            chosen = [slice(None)] * t.dim()
            chosen[dim] = kept
            chosen = tuple(chosen)
        elif method.PRUNING_TYPE == "global":
            chosen = (slice(None),) * t.dim()
        else:
            raise ValueError(f"Unrecognized PRUNING_TYPE {method.PRUNING_TYPE}")
        mask = default_mask.clone()
        mask[chosen] = method.compute_mask(t[chosen], default_mask=default_mask[chosen]).to(mask.dtype)
        return mask


class Identity(BasePruningMethod):
    """Prunes nothing; makes the mask of ones."""

    def compute_mask(self, t, default_mask):
        return default_mask


def _checked(amount):
    if isinstance(amount, bool) or not isinstance(amount, (int, float)):
        raise TypeError(f"Invalid type for amount: {amount}. Must be int or float.")
    if (isinstance(amount, int) and amount < 0) or (isinstance(amount, float) and not 0.0 <= amount <= 1.0):
        raise ValueError(f"amount={amount} should either be a float in the range [0, 1] or a non-negative integer")
    return amount


def _count(amount, n):
    """How many of n are pruned."""
    if isinstance(amount, int) and amount > n:
        raise ValueError(f"amount={amount} should be smaller than the number of parameters to prune={n}")
    return amount if isinstance(amount, int) else round(amount * n)


class RandomUnstructured(BasePruningMethod):
    """Entries chosen at random.  amount: how many (int), or which part of them (float)."""

    def __init__(self, amount):
        self.amount = _checked(amount)

    def compute_mask(self, t, default_mask):
        n = _count(self.amount, t.numel())
        mask = default_mask.clone().contiguous()
        if n:
            mask.view(-1)[rand_like(t.float()).reshape(-1).topk(n).indices] = 0
        return mask

    @classmethod
    def apply(cls, module, name, amount):
        """See BasePruningMethod.apply."""
        return super().apply(module, name, amount=amount)


class L1Unstructured(BasePruningMethod):
    """The entries of smallest absolute value.  amount: how many (int), or which part of them (float)."""

    def __init__(self, amount):
        self.amount = _checked(amount)

    def compute_mask(self, t, default_mask):
        n = _count(self.amount, t.numel())
        mask = default_mask.clone().contiguous()
        if n:
            mask.view(-1)[t.abs().reshape(-1).topk(n, largest=False).indices] = 0
        return mask

    @classmethod
    def apply(cls, module, name, amount, importance_scores=None):
        """See BasePruningMethod.apply."""
        return super().apply(module, name, amount=amount, importance_scores=importance_scores)


class _Structured(BasePruningMethod):
    """Whole slices along a dimension."""

    PRUNING_TYPE = "structured"

    def __init__(self, amount, dim=-1):
        self.amount, self.dim = _checked(amount), dim

    def slices(self, t, n):
        """Which n of the slices go."""
        raise NotImplementedError

    def compute_mask(self, t, default_mask):
        if t.dim() < 2:
            raise ValueError(f"Structured pruning can only be applied to multidimensional tensors. Found tensor of shape "
                             f"{list(t.shape)}")
        if not -t.dim() <= self.dim < t.dim():
            raise IndexError(f"Invalid index {self.dim} for tensor of size {list(t.shape)}")
        n = _count(self.amount, t.shape[self.dim])
        if n == 0:
            return default_mask
        mask = zeros_like(t) + 1
        chosen = [slice(None)] * t.dim()
        chosen[self.dim] = self.slices(t, n)
        mask[tuple(chosen)] = 0
        return mask * default_mask.to(mask.dtype)


class RandomStructured(_Structured):
    """Slices chosen at random.  amount: how many (int), or which part of them (float); dim: along which dimension."""

    def slices(self, t, n):
        return rand(t.shape[self.dim]).topk(n).indices

    @classmethod
    def apply(cls, module, name, amount, dim=-1):
        """See BasePruningMethod.apply."""
        return super().apply(module, name, amount=amount, dim=dim)


class LnStructured(_Structured):
    """The slices of smallest norm.  n: of which norm; other arguments as RandomStructured."""

    def __init__(self, amount, n, dim=-1):
        super().__init__(amount, dim)
        self.n = n

    def slices(self, t, n):
        others = [d for d in range(t.dim()) if d != self.dim % t.dim()]
        return t.norm(p=self.n, dim=others).topk(n, largest=False).indices

    @classmethod
    def apply(cls, module, name, amount, n, dim, importance_scores=None):
        """See BasePruningMethod.apply."""
        return super().apply(module, name, amount=amount, n=n, dim=dim, importance_scores=importance_scores)


class CustomFromMask(BasePruningMethod):
    """A mask that is given."""

    PRUNING_TYPE = "global"

    def __init__(self, mask):
        self.mask = mask

    def compute_mask(self, t, default_mask):
        if default_mask.shape != self.mask.shape:
            raise ValueError(f"prune: a mask of shape {list(self.mask.shape)} for a parameter of {list(default_mask.shape)}")
        return default_mask * self.mask.to(default_mask.dtype)

    @classmethod
    def apply(cls, module, name, mask):
        """See BasePruningMethod.apply."""
        return super().apply(module, name, mask=mask)


# ---- doors ---------------------------------------------------------------------------------------------------------------


def identity(module, name):
    """Registers pruning of nothing: mask of ones.  Returns the module."""
    Identity.apply(module, name)
    return module


def random_unstructured(module, name, amount):
    """Prunes entries of a parameter at random; amount: how many (int), or which part of those left (float).

    >>> from fastbp import nn
    >>> layer = random_unstructured(nn.Linear(4, 5), "weight", amount=3)
    >>> int((layer.weight_mask == 0).sum()), sorted(dict(layer.named_parameters()))
    (3, ['bias', 'weight_orig'])
    """
    RandomUnstructured.apply(module, name, amount)
    return module


def l1_unstructured(module, name, amount, importance_scores=None):
    """Prunes the entries of smallest absolute value (or smallest scores).  Returns the module."""
    L1Unstructured.apply(module, name, amount=amount, importance_scores=importance_scores)
    return module


def random_structured(module, name, amount, dim):
    """Prunes slices along dim at random.  Returns the module."""
    RandomStructured.apply(module, name, amount, dim)
    return module


def ln_structured(module, name, amount, n, dim, importance_scores=None):
    """Prunes the slices along dim of smallest L_n norm.  Returns the module."""
    LnStructured.apply(module, name, amount, n, dim, importance_scores=importance_scores)
    return module


def custom_from_mask(module, name, mask):
    """Prunes what a mask says.  Returns the module."""
    CustomFromMask.apply(module, name, mask)
    return module


def global_unstructured(parameters, pruning_method, importance_scores=None, **kwargs):
    """Prunes several parameters together, as if they were one vector.

    Args: parameters: [(module, name), ...]; pruning_method: an unstructured method's class; importance_scores: {(module, name):
        scores}; others: of the method, such as amount.
    Source: torch.nn.utils.prune.global_unstructured
    """
    if not isinstance(parameters, Iterable):
        raise TypeError("global_unstructured(): parameters is not an Iterable")
    parameters = list(parameters)
    importance_scores = importance_scores or {}
    if not isinstance(importance_scores, dict):
        raise TypeError("global_unstructured(): importance_scores must be of type dict")
    scores = cat([importance_scores.get((m, name), getattr(m, name)).detach().reshape(-1) for m, name in parameters])
    before = cat([getattr(m, name + "_mask", ones_like(getattr(m, name))).detach().reshape(-1) for m, name in parameters])
    container = PruningContainer()
    container._tensor_name = "temporary_name"
    method = pruning_method(**kwargs)
    method._tensor_name = "temporary_name"
    container.add_pruning_method(method)
    if method.PRUNING_TYPE != "unstructured":
        raise TypeError(f"Only \"unstructured\" PRUNING_TYPE supported for the `pruning_method`. Found method "
                        f"{pruning_method} of type {method.PRUNING_TYPE}")
    with no_grad():
        mask = container.compute_mask(scores, before)
    at = 0
    for module, name in parameters:
        parameter = getattr(module, name)
        custom_from_mask(module, name, mask=mask[at:at + parameter.numel()].view_as(parameter))
        at += parameter.numel()


def remove(module, name):
    """Makes the pruning of a parameter permanent and takes its machinery away.  Returns the module."""
    found = _method_of(module, name)
    if found is None:
        raise ValueError(f"Parameter '{name}' of module {module} has to be pruned before pruning can be removed")
    del module._forward_pre_hooks[found[0]]
    found[1].remove(module)
    return module


def is_pruned(module):
    """Whether any parameter of a module or its submodules is pruned."""
    return any(isinstance(hook, BasePruningMethod) for m in module.modules() for hook in m._forward_pre_hooks.values())
