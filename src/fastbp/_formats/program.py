"""Floor 3, formats: programs in files: a mark, lengths and checksums, a header in JSON, the memory that it names.

    bytes 0-7       "FBPROG" and the version of the format, 16 bits
    bytes 8-15      length of the header
    bytes 16-23     CRC-32 of the header, CRC-32 of what follows it
    header          JSON: slots, steps (operations, kernels and strips by name), arguments, results; filled up to 64 bytes
    data            constants and weights, little-endian, each at a multiple of 64 bytes

All numbers are little-endian.  Nothing in a file is run or imported: `_core._assemble` checks every number of it.
"""

import json
import sys
import zlib

from fastbp._formats.pickled import Corrupt

MAGIC = b"FBPROG"
VERSION = 1
_MOST = 1 << 30         # bytes of a header


def pack(header, blobs):
    """The parts of a file, in order: bytes."""
    if sys.byteorder != "little":
        raise OSError("save: programs are written on little-endian machines only")
    at, places = 0, []
    for blob in blobs:
        places.append([at, len(blob)])
        at += (len(blob) + 63) // 64 * 64
    text = json.dumps({**header, "data": places}, separators=(",", ":")).encode()
    text += b" " * (-(24 + len(text)) % 64)
    parts, crc = [], 0
    for blob in blobs:
        for part in (blob, bytes(-len(blob) % 64)):
            parts.append(part)
            crc = zlib.crc32(part, crc)
    head = MAGIC + VERSION.to_bytes(2, "little") + len(text).to_bytes(8, "little")
    return [head + zlib.crc32(text).to_bytes(4, "little") + crc.to_bytes(4, "little"), text, *parts]


def unpack(content):
    """(header, blobs) of a file's content; the blobs are views of it."""
    if sys.byteorder != "little":
        raise OSError("load_program: programs are read on little-endian machines only")
    if content[:6] != MAGIC:
        raise Corrupt("is no program; Program.save writes those")
    if len(content) < 24:
        raise Corrupt("is truncated")
    version, length = int.from_bytes(content[6:8], "little"), int.from_bytes(content[8:16], "little")
    if version != VERSION:
        raise Corrupt(f"has version {version} of the format, this fastbp reads version {VERSION}")
    if length > _MOST or 24 + length > len(content):
        raise Corrupt("is truncated or corrupt in its header")
    text, data = content[24:24 + length], memoryview(content)[24 + length:]
    if [zlib.crc32(text), zlib.crc32(data)] != [int.from_bytes(content[at:at + 4], "little") for at in (16, 20)]:
        raise Corrupt("is truncated or corrupt: a checksum is wrong")
    try:
        header = json.loads(text)
        blobs = [data[at:at + size] for at, size in header["data"] if 0 <= at and 0 <= size and at + size <= len(data)]
        if len(blobs) != len(header["data"]):
            raise ValueError("memory outside the file")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise Corrupt(f"is corrupt in its header ({error})") from None
    return header, blobs
