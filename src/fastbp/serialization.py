"""Floor 3: weights to files and back, in the safetensors format (the `safetensors` package, imported on first use).

A file is written whole under a temporary name beside its target, forced to the disk and then renamed: whoever looks
sees the old file or the new one.  A checksum in the header tells a changed byte from a right one; files of other
programs, which have none, load without that check.
"""

import os
from collections.abc import Mapping

from fastbp._core import Tensor, bfloat16, from_numpy
from fastbp.autograd.grad_mode import no_grad

__all__ = ["load", "save"]

_CHECKSUM = "fastbp.crc32"
_FORMAT = "format"

# How files of other kinds begin, and what to do about them.
_FOREIGN = (
    (b"PK\x03\x04", "a zip archive, as torch.save writes it; with torch installed convert it by "
                    "safetensors.torch.save_file(torch.load(path, weights_only=True), 'weights.safetensors')"),
    (b"\x80", "a pickle; load it with the program that wrote it and save its tensors with fastbp.save"),
    (b"\x93NUMPY", "a NumPy array; read it with numpy.load and fastbp.from_numpy"),
    (b"\x89HDF", "an HDF5 file; read it with h5py and fastbp.from_numpy"),
    (b"GGUF", "a GGUF file; read it with the gguf package and fastbp.from_numpy"),
)


def _safetensors():
    try:
        import safetensors.numpy
    except ImportError:
        raise ImportError("save and load need the safetensors package: pip install safetensors") from None
    return safetensors


def _checksum(arrays):
    """CRC-32 of names, dtypes, shapes and bytes, in order of names."""
    import zlib
    crc = 0
    for name in sorted(arrays):
        a = arrays[name]
        crc = zlib.crc32(f"{name}\0{a.dtype.str}\0{a.shape}\0".encode(), crc)
        crc = zlib.crc32(a.reshape(-1).view("uint8"), crc)
    return f"{crc:08x}"


def _arrays(obj):
    """name -> contiguous array of a flat state dict."""
    if isinstance(obj, Tensor):
        raise TypeError("save: expected a dictionary of name -> Tensor, got a Tensor; write save({'name': tensor}, "
                        "path)")
    if not isinstance(obj, Mapping):
        raise TypeError(f"save: expected a dictionary of name -> Tensor, got {type(obj).__name__}; pass "
                        "module.state_dict()")
    import numpy
    arrays = {}
    for name, value in obj.items():
        if not isinstance(name, str):
            raise TypeError(f"save: names must be strings, got {name!r} of type {type(name).__name__}")
        if not isinstance(value, Tensor):
            nested = isinstance(value, (Mapping, list, tuple))
            hint = "; flatten nested dictionaries, one file for each" if nested else ""
            raise TypeError(f"save: the value of {name!r} must be a Tensor, got {type(value).__name__}; only flat "
                            f"dictionaries of tensors can be saved{hint}; strings go into metadata={{...}}")
        if value.dtype == bfloat16:
            raise TypeError(f"save: {name!r} has dtype bfloat16, which NumPy lacks; convert it with .float()")
        arrays[name] = numpy.asarray(value.detach().numpy(), order="C")
    return arrays


def save(obj, f, metadata=None):
    """Writes tensors to a file in the safetensors format, completely or not at all.

    Args:
        obj: mapping of name -> Tensor, such as `module.state_dict()`.
        f: path, or a binary file object to write to.
        metadata: mapping of str -> str that is stored with them.
    Errors: TypeError for anything but a flat mapping of tensors; ImportError without the safetensors package; OSError
        when the file cannot be written (its previous content is kept).
    Source: https://github.com/huggingface/safetensors

    >>> import fastbp, tempfile, os
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "weights.safetensors")
    ...     fastbp.save({"w": fastbp.tensor([1.0, 2.0])}, path)
    ...     fastbp.load(path)["w"].tolist()
    [1.0, 2.0]
    """
    arrays = _arrays(obj)
    metadata = {} if metadata is None else dict(metadata)
    for key, value in metadata.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError(f"save: metadata must map str to str, got {key!r}: {value!r}")
    safetensors = _safetensors()
    metadata.setdefault(_FORMAT, "pt")      # what other programs look for: names and layouts are PyTorch's
    metadata[_CHECKSUM] = _checksum(arrays)
    if hasattr(f, "write"):
        f.write(safetensors.numpy.save(arrays, metadata))
        return
    target = os.path.realpath(os.fspath(f))     # through a symbolic link, which stays
    folder, name = os.path.split(target)
    if isinstance(name, bytes):
        folder, name = os.fsdecode(folder), os.fsdecode(name)
    if os.path.isdir(target):
        raise IsADirectoryError(f"save: {os.fspath(f)!r} is a directory; give the name of a file")
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"save: the directory {folder!r} does not exist; create it with os.makedirs")
    temporary = os.path.join(folder, f".{name[:80]}.{os.getpid():x}-{os.urandom(6).hex()}.tmp")
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o666)
    try:
        try:
            safetensors.numpy.save_file(arrays, temporary, metadata)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
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


def _reject(path, what, remedy):
    return RuntimeError(f"load: {path!r} {what}; {remedy}")


def _check_frame(path, size, head):
    """The outermost structure, checked here for clear words: 8 bytes that say how long the header is, then JSON."""
    again = "get the file anew or save it again"
    if size == 0:
        raise _reject(path, "is empty", again)
    for magic, what in _FOREIGN:
        # a pickle begins with one byte that could also begin a header's length; that one must then be absurd
        if head.startswith(magic) and (len(magic) > 1 or size < 9 or int.from_bytes(head[:8], "little") > size):
            what, _, remedy = what.partition("; ")
            raise _reject(path, f"is not a safetensors file but looks like {what}", remedy)
    if size < 8:
        raise _reject(path, f"is truncated: {size} bytes, a safetensors file has at least 8", again)
    length = int.from_bytes(head[:8], "little")
    if length > 100_000_000 or head[8:9] not in (b"{", b""):
        raise _reject(path, "is not a safetensors file, or its beginning is corrupt", again)
    if 8 + length > size:
        raise _reject(path, f"is truncated: its header ends at byte {8 + length}, the file at {size}", again)


def load(f, map_location=None, pickle_module=None, *, weights_only=True, mmap=None):
    """Reads the tensors of a safetensors file.

    Args:
        f: path, or a binary file object to read from.
        map_location: None or "cpu".
        pickle_module, weights_only, mmap: accepted for compatibility; nothing is ever unpickled.
    Returns: dict of name -> Tensor, which owns its memory.
    Errors: FileNotFoundError; RuntimeError naming the file, what is wrong with it and what to do when it is truncated,
        corrupt, or of another format; TypeError for a dtype that fastbp lacks; ImportError without safetensors.
    Source: https://github.com/huggingface/safetensors
    """
    if map_location is not None and not callable(map_location) and not isinstance(map_location, dict):
        if str(map_location).split(":")[0] != "cpu":
            raise RuntimeError(f"load: fastbp computes on the CPU, got map_location {str(map_location)!r}; use 'cpu'")
    safetensors = _safetensors()
    if hasattr(f, "read"):
        path, content = getattr(f, "name", "<file object>"), f.read()
        _check_frame(path, len(content), content[:16])
        arrays, metadata = _parse(path, safetensors, content)
    else:
        path = os.fsdecode(f)
        if os.path.isdir(path):
            raise IsADirectoryError(f"load: {path!r} is a directory; give the name of a file")
        try:
            with open(path, "rb") as file:
                _check_frame(path, os.fstat(file.fileno()).st_size, file.read(16))
                file.seek(0)
                content = file.read()
        except FileNotFoundError:
            raise FileNotFoundError(f"load: {path!r} does not exist; check the name, or save it first") from None
        arrays, metadata = _parse(path, safetensors, content)
    if _CHECKSUM in metadata and metadata[_CHECKSUM] != _checksum(arrays):
        raise _reject(path, f"is corrupt: its checksum is {_checksum(arrays)}, expected {metadata[_CHECKSUM]}",
                      "get the file anew or save it again")
    with no_grad():
        return {name: from_numpy(a) if a.flags.writeable else from_numpy(a.copy()) for name, a in arrays.items()}


def _parse(path, safetensors, content):
    """(arrays, metadata) of a file's content."""
    import json
    again = "get the file anew or save it again"
    try:
        arrays = safetensors.numpy.load(content)
        header = json.loads(content[8:8 + int.from_bytes(content[:8], "little")])
    except safetensors.SafetensorError as error:
        raise _reject(path, f"is truncated or corrupt ({error})", again) from None
    except ValueError as error:
        raise _reject(path, f"has a corrupt header ({error})", again) from None
    except (KeyError, TypeError, AttributeError) as error:
        raise TypeError(f"load: {path!r} contains a dtype that NumPy lacks ({error}); convert it to float32 with the "
                        "program that wrote it") from None
    return arrays, header.get("__metadata__") or {}
