"""Floor 3: objects to files and back: PyTorch's own zip files and safetensors, read without running anything.

A file is written whole under a temporary name beside its target, forced to the disk and then renamed: whoever looks
sees the old file or the new one.  The formats themselves are the rooms of `_formats`.
"""

import io
import os

from fastbp.autograd.grad_mode import no_grad

__all__ = ["load", "save"]

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
            dictionaries; tensors that share memory share it in the file.
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
    no file can make it import or call anything.

    Args:
        f: path, or a binary file object to read from.
        map_location: accepted; everything is loaded to the CPU.
        pickle_module, weights_only, mmap: accepted for compatibility.
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
        return _read(path, file)
    path = os.fsdecode(f)
    if os.path.isdir(path):
        raise IsADirectoryError(f"load: {path!r} is a directory; give the name of a file")
    try:
        file = open(path, "rb")
    except FileNotFoundError:
        raise FileNotFoundError(f"load: {path!r} does not exist; check the name, or save it first") from None
    with file:
        return _read(path, file)


def _read(path, file):
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
                return archive.read(file)
            for magic, what in _FOREIGN:
                if head.startswith(magic):
                    what, _, remedy = what.partition("; ")
                    raise RuntimeError(f"load: {path!r} looks like {what}; {remedy}")
            if archive.is_legacy(head):
                return archive.read_legacy(file.read())
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
                           "Save a state_dict() or plain containers of tensors with the program that wrote it") from None
    except TypeError as error:
        raise TypeError(f"load: {path!r}: {error}") from None
