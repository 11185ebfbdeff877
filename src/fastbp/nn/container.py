"""Floor 3, nn: modules and parameters in lists and dictionaries."""

import operator
from collections.abc import Iterable, Mapping

from fastbp._core import Tensor
from fastbp.nn.module import Module, _indent, _type_name
from fastbp.nn.parameter import Parameter

__all__ = ["ModuleDict", "ModuleList", "ParameterDict", "ParameterList", "Sequential"]


def _position(index, length):
    """A position counted from the start, as a member's name."""
    index = operator.index(index)
    if not -length <= index < length:
        raise IndexError(f"index {index} is out of range")
    return str(index % length)


class _Numbered(Module):
    """What Sequential and ModuleList share: submodules named "0", "1", ..."""

    def _renumber(self, modules):
        self._modules.clear()
        for k, module in enumerate(modules):
            self.add_module(str(k), module)

    def __len__(self):
        return len(self._modules)

    def __iter__(self):
        return iter(self._modules.values())

    def __setitem__(self, index, module):
        names = list(self._modules)
        setattr(self, names[int(_position(index, len(names)))], module)

    def __delitem__(self, index):
        names, modules = list(self._modules), list(self._modules.values())
        if isinstance(index, slice):
            del names[index], modules[index]
        else:
            k = int(_position(index, len(names)))
            del names[k], modules[k]
        numbered = all(name.isdigit() for name in names)
        self._modules.clear()
        for k, (name, module) in enumerate(zip(names, modules)):
            self.add_module(str(k) if numbered else name, module)

    def insert(self, index, module):
        """Puts a module before position `index`; those after it move on by one."""
        modules = list(self._modules.values())
        if not -len(modules) <= index <= len(modules):
            raise IndexError(f"Index out of range: {index}")
        modules.insert(index, module)
        self._renumber(modules)
        return self

    def append(self, module):
        """Adds a module at the end.  Returns: self."""
        self.add_module(str(len(self)), module)
        return self

    def extend(self, modules):
        """Adds the modules of an iterable at the end.  Returns: self.  Errors: TypeError for what is no iterable."""
        if not isinstance(modules, Iterable):
            raise TypeError(f"{self._get_name()}.extend should be called with an iterable, but got "
                            f"{type(modules).__name__}")
        for module in list(modules):
            self.append(module)
        return self

    def pop(self, index):
        """Removes the module at `index` and returns it."""
        module = self[index]
        del self[index]
        return module


class Sequential(_Numbered):
    """Modules in a chain, each called with the result of the one before.

    Formula: y = fn(...f2(f1(x)))
    Args: modules, or one OrderedDict of name -> module.
    Source: torch.nn.Sequential

    >>> import fastbp
    >>> net = fastbp.nn.Sequential(fastbp.nn.Linear(4, 3), fastbp.nn.ReLU())
    >>> tuple(net(fastbp.ones(2, 4)).shape)
    (2, 3)
    """

    def __init__(self, *args):
        super().__init__()
        named = args[0].items() if len(args) == 1 and isinstance(args[0], Mapping) else enumerate(args)
        for name, module in named:
            self.add_module(str(name), module)

    def forward(self, input):
        for module in self._modules.values():
            input = module(input)
        return input

    def __getitem__(self, index):
        items = list(self._modules.items())
        if isinstance(index, slice):
            return type(self)(dict(items[index]))
        return items[int(_position(index, len(items)))][1]

    def __add__(self, other):
        if not isinstance(other, Sequential):
            raise ValueError(f"add operator supports only objects of Sequential class, but {type(other)} is given.")
        return Sequential(*self, *other)

    def __iadd__(self, other):
        if not isinstance(other, Sequential):
            raise ValueError(f"add operator supports only objects of Sequential class, but {type(other)} is given.")
        return self.extend(other)

    def __mul__(self, times):
        if not isinstance(times, int):
            raise TypeError(f"unsupported operand type(s) for *: {type(self)} and {type(times)}")
        if times <= 0:
            raise ValueError(f"Non-positive multiplication factor {times} for {type(self)}")
        return Sequential(*list(self) * times)

    __rmul__ = __mul__


class ModuleList(_Numbered):
    """Modules in a list whose members are registered; it is not called itself.

    Args:
        modules: iterable of modules, or None.
    Source: torch.nn.ModuleList

    >>> import fastbp
    >>> layers = fastbp.nn.ModuleList([fastbp.nn.Linear(2, 2) for _ in range(3)])
    >>> len(layers), len(list(layers.parameters()))
    (3, 6)
    """

    def __init__(self, modules=None):
        super().__init__()
        if modules is not None:
            self.extend(modules)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return type(self)(list(self._modules.values())[index])
        return self._modules[_position(index, len(self))]

    def __iadd__(self, modules):
        return self.extend(modules)

    def __add__(self, other):
        return ModuleList([*self, *other])

    def __repr__(self):
        """Equal neighbours on one line: `(0-2): 3 x Linear(...)`."""
        if not len(self):
            return f"{self._get_name()}()"
        runs = []
        for k, text in enumerate(map(repr, self)):
            if runs and runs[-1][2] == text:
                runs[-1][1] = k
            else:
                runs.append([k, k, text])
        lines = [f"({a}): {_indent(text)}" if a == b else f"({a}-{b}): {b - a + 1} x {_indent(text)}"
                 for a, b, text in runs]
        return f"{self._get_name()}(\n  " + "\n  ".join(lines) + "\n)"


class ModuleDict(Module):
    """Modules in a dictionary whose members are registered; it is not called itself.

    Args:
        modules: mapping of name -> module, iterable of pairs, or None.
    Source: torch.nn.ModuleDict

    >>> import fastbp
    >>> act = fastbp.nn.ModuleDict({"relu": fastbp.nn.ReLU(), "tanh": fastbp.nn.Tanh()})
    >>> list(act), "relu" in act
    (['relu', 'tanh'], True)
    """

    def __init__(self, modules=None):
        super().__init__()
        if modules is not None:
            self.update(modules)

    def __getitem__(self, key):
        return self._modules[key]

    def __setitem__(self, key, module):
        self.add_module(key, module)

    def __delitem__(self, key):
        del self._modules[key]

    def __len__(self):
        return len(self._modules)

    def __iter__(self):
        return iter(self._modules)

    def __contains__(self, key):
        return key in self._modules

    def clear(self):
        """Removes all modules."""
        self._modules.clear()

    def pop(self, key):
        """Removes the module under `key` and returns it."""
        return self._modules.pop(key)

    def keys(self):
        """The names."""
        return self._modules.keys()

    def values(self):
        """The modules."""
        return self._modules.values()

    def items(self):
        """(name, module) pairs."""
        return self._modules.items()

    def update(self, modules):
        """Adds or replaces modules from a mapping or an iterable of pairs.

        Errors: TypeError for anything else; ValueError for an element that is no pair.
        """
        if not isinstance(modules, Iterable):
            raise TypeError("ModuleDict.update should be called with an iterable of key/value pairs, but got "
                            f"{type(modules).__name__}")
        pairs = modules.items() if isinstance(modules, (Mapping, ModuleDict)) else modules
        for k, pair in enumerate(pairs):
            if not isinstance(pair, Iterable):
                raise TypeError(f"ModuleDict update sequence element #{k} should be Iterable; is {type(pair).__name__}")
            pair = tuple(pair)
            if len(pair) != 2:
                raise ValueError(f"ModuleDict update sequence element #{k} has length {len(pair)}; 2 is required")
            self[pair[0]] = pair[1]


def _as_parameter(value):
    """Plain tensors become Parameters; anything else is kept as it is."""
    if isinstance(value, Tensor) and not isinstance(value, Parameter):
        return Parameter(value, value.dtype.is_floating_point)
    return value


def _line_of(name, value):
    if isinstance(value, Tensor):
        return f"({name}): Parameter containing: [{_type_name(type(value))} of size {'x'.join(map(str, value.shape))}]"
    return f"({name}): Object of type: {type(value).__name__}"


class ParameterList(Module):
    """Parameters in a list; tensors put into it become Parameters.

    Args:
        values: iterable of parameters, tensors or other values, or None.
    Source: torch.nn.ParameterList

    >>> import fastbp
    >>> weights = fastbp.nn.ParameterList([fastbp.zeros(2), fastbp.zeros(3)])
    >>> [tuple(p.shape) for p in weights]
    [(2,), (3,)]
    """

    def __init__(self, values=None):
        super().__init__()
        self._size = 0
        if values is not None:
            self.extend(values)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return type(self)([self[k] for k in range(*index.indices(len(self)))])
        return getattr(self, _position(index, len(self)))

    def __setitem__(self, index, value):
        setattr(self, _position(index, len(self)), _as_parameter(value))

    def __len__(self):
        return self._size

    def __iter__(self):
        return iter([self[k] for k in range(len(self))])

    def __iadd__(self, values):
        return self.extend(values)

    def __dir__(self):
        return [name for name in super().__dir__() if not name.isdigit()]

    def append(self, value):
        """Adds a value at the end.  Returns: self."""
        self._size += 1
        self[self._size - 1] = value
        return self

    def extend(self, values):
        """Adds the values of an iterable at the end.  Returns: self.  Errors: TypeError for what is no iterable."""
        if not isinstance(values, Iterable) or isinstance(values, Tensor):
            raise TypeError(f"ParameterList.extend should be called with an iterable, but got {type(values).__name__}")
        for value in list(values):
            self.append(value)
        return self

    def extra_repr(self):
        return "\n".join(_line_of(k, value) for k, value in enumerate(self))

    def __repr__(self):
        body = self.extra_repr()
        return f"{self._get_name()}(" + (f"\n  {_indent(body)}\n)" if body else ")")

    def __call__(self, *args, **kwargs):
        raise RuntimeError("ParameterList should not be called.")


class ParameterDict(Module):
    """Parameters in a dictionary; tensors put into it become Parameters.

    Args:
        parameters: mapping of name -> parameter, tensor or other value, iterable of pairs, or None.
    Source: torch.nn.ParameterDict

    >>> import fastbp
    >>> p = fastbp.nn.ParameterDict({"w": fastbp.zeros(2)})
    >>> p["w"].requires_grad
    True
    """

    def __init__(self, parameters=None):
        super().__init__()
        self._keys = {}
        if parameters is not None:
            self.update(parameters)

    def __getitem__(self, key):
        if key not in self._keys:
            raise KeyError(key)
        return getattr(self, str(key))

    def __setitem__(self, key, value):
        self._keys[key] = None
        setattr(self, str(key), _as_parameter(value))

    def __delitem__(self, key):
        del self._keys[key]
        delattr(self, str(key))

    def __len__(self):
        return len(self._keys)

    def __iter__(self):
        return iter(self._keys)

    def __reversed__(self):
        return reversed(list(self._keys))

    def __contains__(self, key):
        return key in self._keys

    def __or__(self, other):
        copy = self.copy()
        copy.update(other)
        return copy

    def __ror__(self, other):
        copy = ParameterDict(other)
        copy.update(self)
        return copy

    def __ior__(self, other):
        self.update(other)
        return self

    def copy(self):
        """Another ParameterDict with the same members."""
        return ParameterDict([(k, self[k]) for k in self._keys])

    def setdefault(self, key, default=None):
        """The value under `key`, which is set to `default` first if it is missing."""
        if key not in self:
            self[key] = default
        return self[key]

    def clear(self):
        """Removes everything."""
        for key in list(self._keys):
            del self[key]

    def pop(self, key):
        """Removes the value under `key` and returns it."""
        value = self[key]
        del self[key]
        return value

    def popitem(self):
        """Removes the last pair and returns it."""
        key = next(reversed(self))
        return key, self.pop(key)

    def get(self, key, default=None):
        """The value under `key`, or `default`."""
        return self[key] if key in self else default

    def fromkeys(self, keys, default=None):
        """A ParameterDict with `default` under every key."""
        return ParameterDict((k, default) for k in keys)

    def keys(self):
        """The keys."""
        return self._keys.keys()

    def values(self):
        """Iterates over the values."""
        return (self[k] for k in self._keys)

    def items(self):
        """Iterates over (key, value)."""
        return ((k, self[k]) for k in self._keys)

    def update(self, parameters):
        """Adds or replaces values from a mapping or an iterable of pairs.

        Errors: TypeError for anything else; ValueError for an element that is no pair.
        """
        if not isinstance(parameters, Iterable):
            raise TypeError("ParametersDict.update should be called with an iterable of key/value pairs, but got "
                            f"{type(parameters).__name__}")
        pairs = parameters.items() if isinstance(parameters, (Mapping, ParameterDict)) else parameters
        for k, pair in enumerate(pairs):
            pair = tuple(pair)
            if len(pair) != 2:
                raise ValueError(f"ParameterDict update sequence element #{k} has length {len(pair)}; 2 is required")
            self[pair[0]] = pair[1]

    def extra_repr(self):
        return "\n".join(_line_of(k, value) for k, value in self.items())

    __repr__ = ParameterList.__repr__

    def __call__(self, *args, **kwargs):
        raise RuntimeError("ParameterDict should not be called.")
