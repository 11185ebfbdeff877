"""Floor 3, formats: safetensors: 8 bytes that say how long the header is, a header in JSON, the tensors one after the other.

A checksum in the header's metadata tells a changed byte from a right one; files of other programs have none.

Source: https://github.com/huggingface/safetensors
"""

import json
import zlib
from collections.abc import Mapping

from fastbp import _core
from fastbp._core import Tensor
from fastbp._formats.pickled import DTYPES, ITEMSIZE, Corrupt, memory_of

_CHECKSUM = "fastbp.crc32"
_NAMES = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64", "int32": "I32",
          "int16": "I16", "int8": "I8", "uint8": "U8", "bool_": "BOOL"}
_DTYPES = {name: dtype for dtype, name in _NAMES.items()}


def _checksum(rows):
    """CRC-32 of names, dtypes, shapes and bytes, in order of names."""
    crc = 0
    for name, code, shape, data in sorted(rows, key=lambda row: row[0]):
        crc = zlib.crc32(f"{name}\0{code}\0{tuple(shape)}\0".encode("utf-8", "surrogatepass"), crc)
        crc = zlib.crc32(data, crc)
    return f"{crc:08x}"


def pack(obj, metadata=None):
    """The parts of a file, in order: bytes-like objects."""
    if not isinstance(obj, Mapping):
        raise TypeError(f"save: a safetensors file holds a dictionary of name -> Tensor, got a {type(obj).__name__}; write "
                        "save({'name': tensor}, path), or a name that ends in .pt")
    metadata = {} if metadata is None else dict(metadata)
    for key, value in metadata.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError(f"save: metadata must map str to str, got {key!r}: {value!r}")
    rows = []
    for name, value in obj.items():
        if not isinstance(name, str):
            raise TypeError(f"save: names must be strings, got {name!r} of type {type(name).__name__}")
        if not isinstance(value, Tensor):
            raise TypeError(f"save: the value of {name!r} must be a Tensor, got {type(value).__name__}; a safetensors file holds "
                            "flat dictionaries of tensors; strings go into metadata={...}, anything else into a .pt file")
        rows.append((name, _NAMES[DTYPES[value.dtype]], value.shape, memory_of(value.detach().contiguous())))
    rows.sort(key=lambda row: (-ITEMSIZE[_DTYPES[row[1]]], row[0]))     # the largest first: all are aligned
    metadata.setdefault("format", "pt")     # what other programs look for: names and layouts are PyTorch's
    metadata[_CHECKSUM] = _checksum(rows)
    header, at = {"__metadata__": metadata}, 0
    for name, code, shape, data in rows:
        header[name] = {"dtype": code, "shape": list(shape), "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return [len(text).to_bytes(8, "little"), text, *(row[3] for row in rows)]


def _once(pairs):
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a name appears twice")
    return result


def unpack(content):
    """name -> Tensor of a file's content."""
    if len(content) < 8:
        raise Corrupt(f"is truncated: {len(content)} bytes, a safetensors file has at least 8")
    length = int.from_bytes(content[:8], "little")
    if length > 100_000_000 or content[8:9] not in (b"{", b""):
        raise Corrupt("is neither a file of torch.save nor a safetensors file, or its beginning is corrupt")
    if 8 + length > len(content):
        raise Corrupt(f"is truncated: its header ends at byte {8 + length}, the file at {len(content)}")
    try:
        header = json.loads(content[8:8 + length].decode(), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise Corrupt(f"has a corrupt header ({error})") from None
    if not isinstance(header, dict):
        raise Corrupt("has a corrupt header")
    metadata = header.pop("__metadata__", {})
    data = memoryview(content)[8 + length:]
    rows, spans = [], []
    for name, entry in header.items():
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise Corrupt(f"has a corrupt header: the entry of {name!r}")
        code, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not isinstance(code, str) or not all(isinstance(x, list) and all(type(n) is int and 0 <= n < 1 << 48 for n in x)
                                                for x in (shape, offsets)) or len(offsets) != 2:
            raise Corrupt(f"has a corrupt header: the entry of {name!r}")
        if code not in _DTYPES:
            raise TypeError(f"{name!r} has dtype {code}, which this library lacks; convert it to float32 with the program that "
                            "wrote it")
        count = 1
        for n in shape:
            count *= n
        begin, end = offsets
        if len(shape) > 12 or end - begin != count * ITEMSIZE[_DTYPES[code]] or end > len(data):
            raise Corrupt(f"is truncated or corrupt: {name!r} of shape {shape} in bytes {begin} to {end} of {len(data)}")
        rows.append((name, code, shape, data[begin:end]))
        spans.append((begin, end))
    at = 0
    for begin, end in sorted(spans):
        if begin != at:
            raise Corrupt("is corrupt: its tensors overlap or leave gaps")
        at = end
    if at != len(data):
        raise Corrupt(f"is corrupt: its tensors end at byte {at} of {len(data)}")
    expected = metadata.get(_CHECKSUM) if isinstance(metadata, dict) else None
    if expected is not None and expected != _checksum(rows):
        raise Corrupt(f"is corrupt: its checksum is {_checksum(rows)}, expected {expected}")
    result = {}
    for name, code, shape, part in rows:
        t = _core.empty(tuple(shape), dtype=getattr(_core, _DTYPES[code]))
        if t.numel():
            memory_of(t)[:] = part
        result[name] = t
    return result
