"""Floor 3, formats: the pickles inside PyTorch's files, read and written without the pickle module.

A pickle is a program for a stack machine.  This reader knows the instructions that build plain containers, numbers, strings
and tensors, and a short list of names; an instruction or a name outside the list is an error.  Nothing is ever imported or
called because a file says so, unless the caller has said that it trusts the file, or the class.  The writer produces the same
few instructions (protocol 2), so that `torch.load(weights_only=True)` opens what it wrote; other objects, such as whole
modules, are written as the name of their class and their attributes.

Source: pickletools.py of CPython (the instructions); torch/_utils.py and torch/_weights_only_unpickler.py (the names)
"""

import copyreg
import struct
import sys
from collections import Counter, OrderedDict
from importlib import import_module

from fastbp import _core
from fastbp._core import Size, Tensor, device

STORAGES = {
    "FloatStorage": "float32", "DoubleStorage": "float64", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8", "ByteStorage": "uint8",
    "BoolStorage": "bool_", "UntypedStorage": "uint8",
}
ITEMSIZE = {"float64": 8, "int64": 8, "float32": 4, "int32": 4, "float16": 2, "bfloat16": 2, "int16": 2, "int8": 1, "uint8": 1,
            "bool_": 1}
DTYPES = {getattr(_core, name): name for name in ITEMSIZE}
_MAXDIM = 12


def memory_of(t):
    """The bytes of a contiguous tensor, writable and without a copy."""
    if not t.numel():
        return memoryview(bytearray())
    return memoryview((t.view(_core.int16) if t.dtype == _core.bfloat16 else t).numpy().reshape(-1).view("uint8"))


class Corrupt(Exception):
    """What is wrong with a file, in words; `load` adds which file and what to do."""


class Refused(Exception):
    """A name or an object that a file wants and that is not on the list."""


class StorageType:
    """A class of storages: the name of its dtype."""

    def __init__(self, dtype):
        self.dtype = dtype


class Storage:
    """Memory from a file: a flat tensor of one dtype."""

    def __init__(self, flat, dtype):
        self.flat, self.dtype = flat, dtype

    def typed(self, dtype):
        """The same memory as elements of another dtype."""
        if dtype == self.dtype:
            return self.flat
        try:
            return self.flat.view(getattr(_core, dtype)).detach()
        except (RuntimeError, ValueError, TypeError) as error:
            raise Corrupt(f"has a storage that cannot be read as {dtype} ({error})") from None


def _is_size(x):
    return type(x) is int and 0 <= x < 1 << 62


def _rebuild_tensor(storage, offset, size, stride, requires_grad=False, hooks=None, metadata=None):
    """A tensor in a storage; every number is checked against it."""
    if not isinstance(storage, Storage):
        raise Corrupt("has a tensor without a storage")
    size, stride = tuple(size), tuple(stride)
    if not (_is_size(offset) and all(map(_is_size, size)) and all(map(_is_size, stride)) and len(size) == len(stride)):
        raise Corrupt(f"has a tensor of size {size}, strides {stride} and offset {offset}")
    if len(size) > _MAXDIM:
        raise Corrupt(f"has a tensor of {len(size)} dimensions, more than {_MAXDIM}")
    have = storage.flat.numel()
    last = offset + sum((n - 1) * s for n, s in zip(size, stride))
    if (0 not in size and last >= have) or (0 in size and offset > have):
        raise Corrupt(f"has a tensor of size {size}, strides {stride} and offset {offset} in a storage of {have} elements")
    if 0 in size:
        result = _core.empty(size, dtype=storage.flat.dtype)
    else:
        result = storage.flat.as_strided(size, stride, offset).detach()
    if requires_grad:
        if not result.is_floating_point():
            raise Corrupt("has an integer tensor that requires grad")
        result.requires_grad_()
    return result


def _rebuild_parameter(data, requires_grad, hooks=None, state=None):
    from fastbp.nn import Parameter
    if not isinstance(data, Tensor):
        raise Corrupt("has a parameter without a tensor")
    return Parameter(data.detach(), bool(requires_grad))


def _ordered(*items):
    return OrderedDict(*([(k, v) for k, v in rows] for rows in items[:1]))


def _counter(*counts):
    if counts and not isinstance(counts[0], dict):
        raise Corrupt("has a Counter that is none")
    return Counter(*counts[:1])


def _encode(text, encoding="latin1"):
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1", "utf-8"):
        raise Corrupt("has bytes that are no text")
    return text.encode(encoding)


def _bytearray(content=b""):
    if not isinstance(content, bytes):
        raise Corrupt("has a bytearray that is none")
    return bytearray(content)


def _container(kind):
    def make(items=()):
        if not isinstance(items, (list, tuple, set)):
            raise Corrupt(f"has a {kind.__name__} that is none")
        return kind(items)
    return make


class _Call:
    """A name that a file may call, and what is called in its place."""

    def __init__(self, function):
        self.function = function


def _globals():
    """(module, name) -> what it stands for."""
    known = {
        ("collections", "OrderedDict"): _Call(_ordered), ("collections", "Counter"): _Call(_counter),
        ("_codecs", "encode"): _Call(_encode), ("torch", "Size"): _Call(_container(Size)),
        ("torch", "device"): _Call(lambda *where: device("cpu")),
        ("torch.serialization", "_get_layout"): _Call(lambda name: name),
        ("torch.storage", "UntypedStorage"): StorageType("uint8"),
    }
    for name in ("_rebuild_tensor_v2", "_rebuild_tensor"):
        known["torch._utils", name] = _Call(_rebuild_tensor)
    for name in ("_rebuild_parameter", "_rebuild_parameter_with_state"):
        known["torch._utils", name] = _Call(_rebuild_parameter)
    known["torch.nn.parameter", "Parameter"] = _Call(_rebuild_parameter)
    for module in ("builtins", "__builtin__"):
        known.update({(module, kind.__name__): _Call(_container(kind)) for kind in (set, frozenset, list, tuple)})
        known[module, "bytearray"] = _Call(_bytearray)
    for name, dtype in STORAGES.items():
        known["torch", name] = StorageType(dtype)
    for dtype, name in DTYPES.items():
        known["torch", name.rstrip("_")] = dtype
    return known


_MARK = object()


SAFE: dict = {}       # (module, name) -> class or function that files may use (safe_globals)


def reference(obj):
    """(module, name) under which a class or function is found again; None if it is not."""
    module = getattr(obj, "__module__", None) or "builtins"
    name = getattr(obj, "__qualname__", None)
    if not isinstance(name, str):
        return None
    try:
        found = import_module(module) if module != "__main__" else sys.modules["__main__"]
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, KeyError, ValueError):
        return None
    return (module, name) if found is obj else None


def _imported(module, name):
    """What a name stands for in a file that is trusted; PyTorch's classes are ours of that name."""
    if module == "torch" or module.startswith("torch."):
        module = "fastbp" + module[5:]
    module = {"__builtin__": "builtins", "copy_reg": "copyreg"}.get(module, module)
    try:
        found = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise Refused(f"{module}.{name}, which cannot be imported ({error})") from None
    return found


class Reader:
    """Runs one pickle.

    Args: content: bytes; persistent: function of a persistent id; at: where the pickle begins; trust: whether what the file
        names may be imported and called.
    After `load()`, `at` is where it ended.
    """

    def __init__(self, content, persistent, at=0, trust=False):
        self.content, self.persistent, self.at, self.trust = content, persistent, at, trust
        self.stack, self.memo = [], {}
        self.known = _globals()
        if trust:                       # these are classes as well: files may use them as values
            self.known = {key: found for key, found in self.known.items() if key[0].startswith(("torch", "_codecs"))}

    def take(self, n):
        """The next n bytes."""
        end = self.at + n
        if n < 0 or end > len(self.content):
            raise Corrupt("ends in the middle of a pickle")
        part = self.content[self.at:end]
        self.at = end
        return part

    def number(self, code):
        """The next number, in the struct module's code."""
        return struct.unpack("<" + code, self.take(struct.calcsize("<" + code)))[0]

    def line(self):
        """The text up to the end of the line."""
        end = self.content.find(b"\n", self.at)
        if end < 0:
            raise Corrupt("ends in the middle of a pickle")
        return bytes(self.take(end + 1 - self.at))[:-1].decode()

    def marked(self):
        """What lies above the last mark."""
        for k in range(len(self.stack) - 1, -1, -1):
            if self.stack[k] is _MARK:
                items = self.stack[k + 1:]
                del self.stack[k:]
                return items
        raise Corrupt("has a pickle without a mark")

    def find(self, module, name):
        """What a name stands for."""
        try:
            return self.known[module, name]
        except KeyError:
            if (module, name) in SAFE:
                return SAFE[module, name]
            if module == "torch" and name.startswith(("Complex", "complex")):
                raise TypeError("complex tensors are not supported; save their real and imaginary parts") from None
            if self.trust:
                return _imported(module, name)
            raise Refused(f"{module}.{name}") from None

    def allowed(self, obj):
        """Whether the caller trusts a class or function."""
        return (self.trust and callable(obj)) or any(obj is safe for safe in SAFE.values())

    def call(self, function, args, new=False):
        """One of the known names, called; new: an instance without __init__."""
        if isinstance(args, tuple):
            if isinstance(function, _Call):
                return function.function(*args)
            if self.allowed(function):
                return function.__new__(function, *args) if new and isinstance(function, type) else function(*args)
        raise Refused(f"a call of {type(function).__name__}")

    def fill(self, target, items):
        """Keys and values into a dictionary."""
        if not (isinstance(target, dict) or self.allowed(type(target))) or len(items) % 2:
            raise Corrupt("has a pickle that fills what is no dictionary")
        if type(target) is Counter and not all(type(v) is int for v in items[1::2]):
            raise Corrupt("has a Counter that counts no integers")
        for key, value in zip(items[::2], items[1::2]):
            target[key] = value

    def build(self, target, state):
        """Attributes of an object; of a dictionary, those of state dictionaries (`_metadata`)."""
        if self.allowed(type(target)):
            if hasattr(target, "__setstate__"):
                target.__setstate__(state)
                return
            plain, slots = state if isinstance(state, tuple) and len(state) == 2 else (state, None)
            vars(target).update(plain or {})
            for name, value in (slots or {}).items():
                setattr(target, name, value)
            return
        if isinstance(target, OrderedDict) and isinstance(state, dict) and all(type(key) is str for key in state):
            if set(state) <= {"_metadata"}:
                target.__dict__.update(state)
            return
        raise Refused(f"attributes of {type(target).__name__}")

    def load(self):
        """The object."""
        try:
            while True:
                opcode = self.take(1)[0]
                if opcode == 0x2E:              # STOP
                    result, = self.stack
                    return result
                self.run(opcode)
        except (IndexError, ValueError, OverflowError, struct.error, KeyError, AttributeError, MemoryError) as error:
            raise Corrupt(f"has a broken pickle ({error or type(error).__name__})") from None
        except TypeError as error:
            if "complex tensors" in str(error):
                raise
            raise Corrupt(f"has a broken pickle ({error})") from None

    def run(self, opcode):
        """One instruction."""
        stack = self.stack
        if opcode in _PUSHES:
            stack.append(_PUSHES[opcode](self))
        elif opcode in _PUTS:
            self.memo[_PUTS[opcode](self)] = stack[-1]
        elif opcode in (0x80, 0x95):                # PROTO, FRAME
            self.take(1 if opcode == 0x80 else 8)
        elif opcode in (0x85, 0x86, 0x87):          # TUPLE1, TUPLE2, TUPLE3
            n = opcode - 0x84
            if len(stack) < n:
                raise Corrupt("has a broken pickle")
            stack[-n:] = [tuple(stack[-n:])]
        elif opcode in (0x61, 0x65, 0x90):          # APPEND, APPENDS, ADDITEMS
            items = [stack.pop()] if opcode == 0x61 else self.marked()
            kind = set if opcode == 0x90 else list
            if type(stack[-1]) is not kind and not self.allowed(type(stack[-1])):
                raise Corrupt(f"has a pickle that extends what is no {kind.__name__}")
            (stack[-1].update if opcode == 0x90 else stack[-1].extend)(items)
        elif opcode in (0x73, 0x75):                # SETITEM, SETITEMS
            items = [*reversed((stack.pop(), stack.pop()))] if opcode == 0x73 else self.marked()
            self.fill(stack[-1], items)
        elif opcode == 0x62:                        # BUILD
            state = stack.pop()
            self.build(stack[-1], state)
        elif opcode == 0x30:                        # POP
            stack.pop()
        elif opcode == 0x31:                        # POP_MARK
            self.marked()
        else:
            raise Refused(f"instruction {opcode:#04x} at byte {self.at - 1}")

    def text(self, code, encoding="utf-8", errors="surrogatepass"):
        """A string after its length."""
        return str(self.take(self.number(code)), encoding, errors)

    def integer(self):
        """The integer, or the boolean, of a line."""
        line = self.line()
        return {"00": False, "01": True}[line] if line in ("00", "01") else int(line)

    def dictionary(self):
        """A dictionary of what lies above the mark."""
        made = {}
        self.fill(made, self.marked())
        return made

    def named(self):
        """What the module and the name on the stack stand for."""
        name, module = self.stack.pop(), self.stack.pop()
        return self.find(module, name)

    def reduce(self, new=False):
        """The result of a call."""
        args, function = self.stack.pop(), self.stack.pop()
        return self.call(function, args, new)


_PUSHES = {     # instruction -> what it pushes
    0x7D: lambda r: {}, 0x5D: lambda r: [], 0x29: lambda r: (), 0x8F: lambda r: set(), 0x28: lambda r: _MARK,
    0x4E: lambda r: None, 0x88: lambda r: True, 0x89: lambda r: False,
    0x4B: lambda r: r.number("B"), 0x4D: lambda r: r.number("H"), 0x4A: lambda r: r.number("i"),            # BININT1, 2, BININT
    0x8A: lambda r: int.from_bytes(r.take(r.number("B")), "little", signed=True),                           # LONG1
    0x47: lambda r: struct.unpack(">d", r.take(8))[0], 0x49: lambda r: r.integer(),                         # BINFLOAT, INT
    0x58: lambda r: r.text("I"), 0x8C: lambda r: r.text("B"), 0x8D: lambda r: r.text("Q"),                  # BINUNICODE
    0x54: lambda r: r.text("I", "latin1"), 0x55: lambda r: r.text("B", "latin1"),                           # BINSTRING
    0x42: lambda r: bytes(r.take(r.number("I"))), 0x43: lambda r: bytes(r.take(r.number("B"))),             # BINBYTES
    0x8E: lambda r: bytes(r.take(r.number("Q"))), 0x96: lambda r: bytearray(r.take(r.number("Q"))),
    0x68: lambda r: r.memo[r.number("B")], 0x6A: lambda r: r.memo[r.number("I")],                           # BINGET, LONG_BINGET
    0x74: lambda r: tuple(r.marked()), 0x6C: lambda r: r.marked(), 0x64: lambda r: r.dictionary(),          # TUPLE, LIST, DICT
    0x91: lambda r: frozenset(r.marked()), 0x32: lambda r: r.stack[-1],                                     # FROZENSET, DUP
    0x63: lambda r: r.find(r.line(), r.line()), 0x93: lambda r: r.named(),                                  # GLOBAL, STACK_GLOBAL
    0x52: lambda r: r.reduce(), 0x81: lambda r: r.reduce(True),                                               # REDUCE, NEWOBJ
    0x51: lambda r: r.persistent(r.stack.pop()),                                                            # BINPERSID
}
_PUTS = {0x71: lambda r: r.number("B"), 0x72: lambda r: r.number("I"), 0x94: lambda r: len(r.memo)}     # BINPUT, ..., MEMOIZE


class Writer:
    """Writes one object as a pickle of protocol 2.

    Args: persistent: function of a Tensor that returns (storage's name, key, elements, offset).
    """

    def __init__(self, persistent):
        self.persistent = persistent
        self.parts, self.memo, self.kept = [b"\x80\x02"], {}, []

    def dump(self, obj):
        """The pickle."""
        self.put(obj, "the object")
        self.parts.append(b".")
        return b"".join(self.parts)

    def remember(self, obj):
        """The object on top of the stack gets a number, to be named again."""
        k = self.memo[id(obj)] = len(self.memo)
        self.kept.append(obj)       # its id must stay its own
        self.parts.append(b"q" + bytes([k]) if k < 256 else b"r" + struct.pack("<I", k))

    def name(self, module, name):
        """A global name."""
        self.parts.append(f"c{module}\n{name}\n".encode())

    def put(self, obj, where):
        """One object; `where` is its place, for messages."""
        write = self.parts.append
        known = self.memo.get(id(obj))
        kind = type(obj)
        if known is not None:
            write(b"h" + bytes([known]) if known < 256 else b"j" + struct.pack("<I", known))
        elif obj is None:
            write(b"N")
        elif kind is bool:
            write(b"\x88" if obj else b"\x89")
        elif kind is int:
            self.integer(obj)
        elif isinstance(obj, float):
            write(b"G" + struct.pack(">d", obj))
        elif kind is str:
            encoded = obj.encode("utf-8", "surrogatepass")
            write(b"X" + struct.pack("<I", len(encoded)) + encoded)
            self.remember(obj)
        elif kind is bytes:
            self.name("_codecs", "encode")
            self.put((obj.decode("latin1"), "latin1"), where)
            write(b"R")
        elif isinstance(obj, Tensor):
            self.tensor(obj, where)
        elif kind is Size or kind is device:
            self.name("torch", "Size" if kind is Size else "device")
            self.put((tuple(obj),) if kind is Size else (str(obj),), where)
            write(b"R")
        elif kind is tuple:
            self.tuple(obj, where)
        elif kind is list:
            write(b"]")
            self.remember(obj)
            write(b"(")
            for k, item in enumerate(obj):
                self.put(item, f"{where}[{k}]")
            write(b"e")
        elif isinstance(obj, dict):
            self.dictionary(obj, where)
        elif kind is set or kind is frozenset:
            self.name("builtins", "set")
            self.put((list(obj),), where)
            write(b"R")
        elif kind is type(_core.float32):
            self.name("torch", DTYPES[obj].rstrip("_"))
        elif kind.__module__ == "numpy" and hasattr(obj, "item") and getattr(obj, "shape", None) == ():
            self.put(obj.item(), where)
        else:
            self.object(obj, where)

    def refuse(self, obj, where, why):
        """The error for an object that no file can hold."""
        raise TypeError(f"save: {where} is a {type(obj).__module__}.{type(obj).__qualname__}, {why}; files hold tensors, "
                        f"numbers, strings, containers and objects of them; "
                        + ("save its state_dict()" if hasattr(obj, "state_dict") else "leave it out, or save its numbers"))

    def object(self, obj, where):
        """Any other object by the name of its class and its attributes; a class or function by its name."""
        found = reference(obj)
        if found is not None:
            self.name(*found)
            self.remember(obj)
            return
        if isinstance(obj, type) or not hasattr(obj, "__reduce_ex__") or hasattr(obj, "__code__"):
            self.refuse(obj, where, "which is not found under its name: define it at the top of a module")
        try:
            made = copyreg.dispatch_table[type(obj)](obj) if type(obj) in copyreg.dispatch_table else obj.__reduce_ex__(2)
        except Exception as error:
            why = str(error).partition("\n")[0] or type(error).__name__
            self.refuse(obj, where, f"which cannot be pickled ({why})")
        if isinstance(made, str):
            self.name(obj.__module__, made)
            self.remember(obj)
            return
        function, args, state, items, pairs = (*made, None, None, None)[:5]
        if getattr(function, "__name__", "") == "__newobj__":
            self.put(args[0], where)
            self.put(args[1:], where)
            self.parts.append(b"\x81")
        else:
            self.put(function, where)
            self.put(args, where)
            self.parts.append(b"R")
        self.remember(obj)
        items, pairs = list(items or ()), list(pairs or ())
        if items:
            self.parts.append(b"(")
            for k, item in enumerate(items):
                self.put(item, f"{where}[{k}]")
            self.parts.append(b"e")
        if pairs:
            self.parts.append(b"(")
            for key, value in pairs:
                self.put(key, f"a key of {where}")
                self.put(value, f"{where}[{key!r}]")
            self.parts.append(b"u")
        if state is not None:
            if type(state) is dict:             # its parts by name, for messages
                self.parts.append(b"}(")
                for key, value in state.items():
                    self.put(key, where)
                    self.put(value, f"{where}.{key}")
                self.parts.append(b"u")
            else:
                self.put(state, where)
            self.parts.append(b"b")

    def integer(self, value):
        """An int of any size."""
        if 0 <= value < 256:
            self.parts.append(b"K" + bytes([value]))
        elif -1 << 31 <= value < 1 << 31:
            self.parts.append(b"J" + struct.pack("<i", value))
        else:
            encoded = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            if len(encoded) > 255:
                raise TypeError("save: an integer of more than 2032 bits cannot be saved")
            self.parts.append(b"\x8a" + bytes([len(encoded)]) + encoded)

    def tuple(self, obj, where):
        """A plain tuple."""
        if len(obj) > 3:
            self.parts.append(b"(")
        for k, item in enumerate(obj):
            self.put(item, f"{where}[{k}]")
        self.parts.append((b")", b"\x85", b"\x86", b"\x87")[len(obj)] if len(obj) < 4 else b"t")

    def dictionary(self, obj, where):
        """A dict, OrderedDict or Counter; other kinds become a dict."""
        kind = type(obj)
        if kind in (OrderedDict, Counter):
            self.name("collections", kind.__name__)
            self.parts.append(b")R")
        else:
            self.parts.append(b"}")
        self.remember(obj)
        self.parts.append(b"(")
        for key, value in obj.items():
            self.put(key, f"a key of {where}")
            self.put(value, f"{where}[{key!r}]")
        self.parts.append(b"u")
        extra = getattr(obj, "_metadata", None) if kind is OrderedDict else None
        if extra is not None:
            self.put({"_metadata": extra}, where + "._metadata")
            self.parts.append(b"b")

    def tensor(self, obj, where):
        """A tensor or parameter, in its storage."""
        from fastbp.nn import Parameter
        parameter = isinstance(obj, Parameter)
        storage, key, count, offset = self.persistent(obj, where)
        if parameter:
            self.name("torch._utils", "_rebuild_parameter")
            self.parts.append(b"(")
        self.name("torch._utils", "_rebuild_tensor_v2")
        self.parts.append(b"((")
        self.put("storage", where)
        self.name("torch", storage)
        for item in (key, "cpu", count):
            self.put(item, where)
        self.parts.append(b"tQ")
        for item in (offset, tuple(obj.shape), tuple(obj.stride()), bool(obj.requires_grad) and not parameter):
            self.put(item, where)
        self.name("collections", "OrderedDict")
        self.parts.append(b")RtR")
        if parameter:
            self.put(bool(obj.requires_grad), where)
            self.name("collections", "OrderedDict")
            self.parts.append(b")RtR")
        self.remember(obj)
