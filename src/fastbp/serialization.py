"""Floor 3: objects to files and back: PyTorch's own zip files and safetensors, read without running anything by default.

A file is written whole under a temporary name beside its target, forced to the disk and then renamed: whoever looks
sees the old file or the new one.  The formats themselves are the rooms of `_formats`.
"""

import io
import os

from fastbp.autograd.grad_mode import no_grad

__all__ = ["add_safe_globals", "clear_safe_globals", "get_safe_globals", "load", "safe_globals", "save"]

# How files of other kinds begin, and what to do about them.
_FOREIGN = (
    (b"\x93NUMPY", "a NumPy array; read it with numpy.load and fastbp.from_numpy"),
    (b"\x89HDF", "an HDF5 file; read it with h5py and fastbp.from_numpy"),
    (b"GGUF", "a GGUF file; read it with the gguf package and fastbp.from_numpy"),
)
_AGAIN = "get the file anew or save it again"


def save(obj, f, pickle_module=None, pickle_protocol=2, _use_new_zipfile_serialization=True, *, format=None, metadata=None):
    """Writes an object to a file, completely or not at all.

    Args:
        obj: Tensors, numbers, strings, None, and dicts, lists, tuples and sets of them, in any depth, such as state
            dictionaries; tensors that share memory share it in the file.  Other objects that can be pickled, such as whole
            modules, are written as the name of their class and their attributes; reading those needs that class and
            `load(..., weights_only=False)` or `safe_globals`.
        f: path, or a binary file object to write to.
        format: "pt", PyTorch's zip file, which `torch.load` opens; or "safetensors", for a flat dictionary of tensors;
            by default what the name says: safetensors when it ends in .safetensors.
        metadata: mapping of str -> str that a safetensors file stores with them.
        pickle_module, pickle_protocol: accepted for compatibility.
    Errors: TypeError for what a file cannot hold, with its place in the object; OSError when the file cannot be written
        (its previous content is kept).
    Source: torch.save; https://github.com/huggingface/safetensors

    >>> import fastbp, tempfile, os
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "checkpoint.pt")
    ...     fastbp.save({"epoch": 3, "w": fastbp.tensor([1.0, 2.0])}, path)
    ...     fastbp.load(path)
    {'epoch': 3, 'w': tensor([1., 2.])}
    """
    stream = hasattr(f, "write")
    name = os.fsdecode(getattr(f, "name", "") if stream and isinstance(getattr(f, "name", ""), str) else "" if stream else f)
    if format not in (None, "pt", "safetensors"):
        raise ValueError(f"save: format must be 'pt' or 'safetensors', got {format!r}")
    if format == "safetensors" or (format is None and (name.endswith(".safetensors") or metadata is not None)):
        from fastbp._formats import safetensors
        parts = safetensors.pack(obj, metadata)

        def write(file):
            for part in parts:
                file.write(part)
    else:
        if metadata is not None:
            raise ValueError("save: metadata belongs to safetensors files; put it into the object")
        from fastbp._formats import archive
        stem = os.path.splitext(os.path.basename(name))[0]
        stem = stem if stem.isascii() and stem and not stem.startswith(".") else "archive"

        def write(file):
            with no_grad():
                archive.write(obj, file, stem)
    if stream:
        buffer = io.BytesIO()
        write(buffer)
        f.write(buffer.getbuffer())
    else:
        _write_file(f, write)


def _write_file(f, write):
    """Under a temporary name, to the disk, then renamed."""
    target = os.path.realpath(os.fspath(f))     # through a symbolic link, which stays
    folder, name = os.path.split(target)
    if isinstance(name, bytes):
        folder, name = os.fsdecode(folder), os.fsdecode(name)
    if os.path.isdir(target):
        raise IsADirectoryError(f"save: {os.fspath(f)!r} is a directory; give the name of a file")
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"save: the directory {folder!r} does not exist; create it with os.makedirs")
    temporary = os.path.join(folder, f".{name[:80]}.{os.getpid():x}-{os.urandom(6).hex()}.tmp")
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(temporary, flags, 0o666)
    try:
        with os.fdopen(descriptor, "w+b") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        try:
            os.unlink(temporary)
        except OSError:
            pass
        raise
    _sync_directory(folder)


def _sync_directory(folder):
    """Makes a rename durable; not every system can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)


def load(f, map_location=None, pickle_module=None, *, weights_only=True, mmap=None, **pickle_load_args):
    """Reads what `save`, `torch.save` or safetensors wrote.

    The pickle in a PyTorch file is read by a reader of our own, which knows tensors, numbers, strings and containers;
    by default no file can make it import or call anything but what `safe_globals` lists.

    Args:
        f: path, or a binary file object to read from.
        map_location: accepted; everything is loaded to the CPU.
        weights_only: False imports and calls whatever the file names, as needed for whole modules and other objects: only for
            files whose author you trust with your machine.
        pickle_module, mmap: accepted for compatibility.
    Returns: the object; tensors own their memory, or share it as they did when they were saved.
    Errors: FileNotFoundError; RuntimeError naming the file, what is wrong with it and what to do when it is truncated,
        corrupt, of another format, or holds what is no data; TypeError for a dtype that fastbp lacks.
    Source: torch.load; https://github.com/huggingface/safetensors
    """
    if isinstance(map_location, str) or type(map_location).__name__ == "device":
        if str(map_location).split(":")[0] != "cpu":
            raise RuntimeError(f"load: fastbp computes on the CPU, got map_location {str(map_location)!r}; use 'cpu'")
    if hasattr(f, "read"):
        path = str(getattr(f, "name", "<file object>"))
        file = io.BytesIO(f.read())
        return _read(path, file, not weights_only)
    path = os.fsdecode(f)
    if os.path.isdir(path):
        raise IsADirectoryError(f"load: {path!r} is a directory; give the name of a file")
    try:
        file = open(path, "rb")
    except FileNotFoundError:
        raise FileNotFoundError(f"load: {path!r} does not exist; check the name, or save it first") from None
    with file:
        return _read(path, file, not weights_only)


def _read(path, file, trust):
    """The object in a seekable file."""
    from fastbp._formats import archive, safetensors
    from fastbp._formats.pickled import Corrupt, Refused
    head = file.read(32)
    file.seek(0)
    try:
        with no_grad():
            if not head:
                raise Corrupt("is empty")
            if archive.is_zip(head):
                return archive.read(file, trust)
            for magic, what in _FOREIGN:
                if head.startswith(magic):
                    what, _, remedy = what.partition("; ")
                    raise RuntimeError(f"load: {path!r} looks like {what}; {remedy}")
            if archive.is_legacy(head):
                return archive.read_legacy(file.read(), trust)
            content = file.read()
            # a pickle begins with one byte that could also begin a header's length; that one must then be absurd
            if head[0] == 0x80 and (len(head) < 9 or int.from_bytes(head[:8], "little") > len(content)):
                raise RuntimeError(f"load: {path!r} looks like a pickle; load it with the program that wrote it and save its "
                                   "tensors with fastbp.save")
            return safetensors.unpack(content)
    except Corrupt as error:
        raise RuntimeError(f"load: {path!r} {error}; {_AGAIN}") from None
    except Refused as error:
        raise RuntimeError(f"load: {path!r} asks for {error}, which is no data; files are read without running what they name. "
                           "Save a state_dict() or plain containers of tensors with the program that wrote it; or, if you "
                           "trust that program, list the class in serialization.safe_globals, or load with "
                           "weights_only=False") from None
    except TypeError as error:
        raise TypeError(f"load: {path!r}: {error}") from None


# ---- classes that files may use ---------------------------------------------------------------------------------------


def _named(items):
    """{(module, name): class or function} of a list of them, or of pairs with the name that files use."""
    from fastbp._formats.pickled import reference
    found = {}
    for item in items:
        obj, name = item if isinstance(item, tuple) else (item, None)
        if name is not None:
            module, _, name = name.rpartition(".")
            found[module, name] = obj
            continue
        key = reference(obj)
        if key is None:
            raise TypeError(f"safe_globals: {obj!r} is no class or function of a module's; give (object, 'module.name')")
        found[key] = obj
    return found


def add_safe_globals(safe_globals):
    """Lets files that are loaded with weights_only use these classes and functions: make instances, set attributes, call.

    Args: safe_globals: list of classes and functions, or of pairs (object, "module.name").
    Source: torch.serialization.add_safe_globals
    """
    from fastbp._formats.pickled import SAFE
    SAFE.update(_named(safe_globals))


def get_safe_globals():
    """The classes and functions that files may use.  Source: torch.serialization.get_safe_globals"""
    from fastbp._formats.pickled import SAFE
    return list(SAFE.values())


def clear_safe_globals():
    """Forgets all of them.  Source: torch.serialization.clear_safe_globals"""
    from fastbp._formats.pickled import SAFE
    SAFE.clear()


class safe_globals:
    """A block in which files may use these classes and functions.  Source: torch.serialization.safe_globals

    >>> import fastbp, io
    >>> from fastbp import nn
    >>> file = io.BytesIO()
    >>> fastbp.save(nn.Linear(2, 3), file)
    >>> with safe_globals([nn.Linear]):
    ...     fastbp.load(io.BytesIO(file.getvalue()))
    Linear(in_features=2, out_features=3, bias=True)
    """

    def __init__(self, safe_globals):
        self.added = _named(safe_globals)

    def __enter__(self):
        from fastbp._formats.pickled import SAFE
        self.before = dict(SAFE)
        SAFE.update(self.added)

    def __exit__(self, *error):
        from fastbp._formats.pickled import SAFE
        SAFE.clear()
        SAFE.update(self.before)
