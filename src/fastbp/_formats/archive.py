"""Floor 3, formats: PyTorch's files: zip archives of a pickle and its storages, and the older sequence of pickles.

data.pkl says what the object is; data/0, data/1, ... are the storages, uncompressed and aligned to 64 bytes; version and
byteorder are text.  Every record has a CRC-32, which is checked.

Source: torch/serialization.py; caffe2/serialize/inline_container.cc
"""

import struct
import sys
import zipfile
import zlib

from fastbp import _core
from fastbp._formats.pickled import DTYPES, ITEMSIZE, STORAGES, Corrupt, Reader, Storage, StorageType, Writer, memory_of

_ALIGN = 64
_STORAGE_OF = {dtype: name for name, dtype in reversed(STORAGES.items())} | {"uint8": "ByteStorage"}
_MAGIC = 0x1950A86A20F9469CFC6C     # of the older files


# ---- writing --------------------------------------------------------------------------------------------------------


class _Memory:
    """The storages behind the tensors of one object, and which part of each is needed."""

    def __init__(self):
        self.found = {}         # (address, dtype) -> [key, first byte, end, a tensor, strides]
        self.final = False

    def __call__(self, t, where):
        name = DTYPES.get(t.dtype)
        if name is None:
            raise TypeError(f"save: {where} has dtype {t.dtype}, which files cannot hold")
        size = ITEMSIZE[name]
        start = t.data_ptr() - t.storage_offset() * size if t.numel() else 0
        first = t.storage_offset() if t.numel() else 0
        end = first + sum((n - 1) * s for n, s in zip(t.shape, t.stride())) + 1 if t.numel() else 0
        entry = self.found.setdefault((start, name) if t.numel() else ("empty", name), [len(self.found), first, end, t])
        entry[1], entry[2] = min(entry[1], first), max(entry[2], end)
        return _STORAGE_OF[name], str(entry[0]), entry[2] - entry[1], first - entry[1]

    def contents(self):
        """(key, bytes) of each storage."""
        for key, first, end, t in self.found.values():
            flat = t.detach().as_strided((end - first,), (1,), first) if end > first else t
            yield key, memory_of(flat)


def write(obj, file, name="archive"):
    """Writes an object to a seekable binary file."""
    memory = _Memory()
    Writer(memory).dump(obj)            # first for the extent of each storage, then for good
    content = Writer(memory).dump(obj)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        def record(path, data):
            info = zipfile.ZipInfo(f"{name}/{path}", (1980, 1, 1, 0, 0, 0))
            size = len(data)
            # the header has 30 bytes, the name, 20 more of a large file's, and 4 of the padding's own
            at = file.tell() + 30 + len(info.filename.encode()) + (20 if size * 1.05 > zipfile.ZIP64_LIMIT else 0) + 4
            padding = -at % _ALIGN
            info.extra = struct.pack("<HH", 0x4246, padding) + b"Z" * padding
            archive.writestr(info, data)
            info.extra = b""            # the padding is the local header's alone
        record("data.pkl", content)
        record("byteorder", sys.byteorder.encode())
        for key, data in memory.contents():
            record(f"data/{key}", data)
        record("version", b"3\n")


# ---- reading --------------------------------------------------------------------------------------------------------


def _empty(dtype, count):
    """(flat tensor of count elements, its bytes)."""
    flat = _core.empty((count,), dtype=getattr(_core, dtype))
    return flat, memory_of(flat)


def _swap(flat, dtype):
    """Bytes of a machine of the other byte order, in place."""
    size = ITEMSIZE[dtype]
    if size > 1 and flat.numel():
        flat.view({2: _core.int16, 4: _core.int32, 8: _core.int64}[size]).numpy().byteswap(inplace=True)


def _storage_id(pid):
    """(dtype, key, elements) of a persistent id, checked."""
    if not (isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage" and isinstance(pid[1], StorageType)
            and isinstance(pid[2], str) and type(pid[4]) is int and 0 <= pid[4] < 1 << 60):
        raise Corrupt("has a storage without a name")
    return pid[1].dtype, pid[2], pid[4]


class _Archive:
    """A zip file whose records are read with their checksums."""

    def __init__(self, file):
        self.file = file
        try:
            self.zip = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, struct.error, UnicodeDecodeError,
                OverflowError) as error:
            raise Corrupt(f"is a truncated or corrupt zip archive ({error})") from None
        names = self.zip.namelist()
        pickles = [name for name in names if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(pickles) != 1 or len(set(names)) != len(names):
            raise Corrupt("is a zip archive but not one of tensors: it has no data.pkl")
        self.root = pickles[0][:-len("data.pkl")]
        if self.root + "constants.pkl" in names:
            raise Corrupt("is a TorchScript archive, which is a program")
        self.names = set(names)

    def find(self, path, size=None):
        """(where a record's bytes begin, how many there are, their checksum)."""
        try:
            info = self.zip.getinfo(self.root + path)
        except KeyError:
            raise Corrupt(f"has no record {path}: it is truncated or corrupt") from None
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 or info.compress_size != info.file_size:
            raise Corrupt(f"has a compressed record {path}")
        if size is not None and info.file_size != size:
            raise Corrupt(f"has {info.file_size} bytes in record {path}, expected {size}")
        if info.header_offset < 0:
            raise Corrupt(f"is corrupt or truncated: record {path} begins before the file")
        self.file.seek(info.header_offset)
        header = self.file.read(30)
        if len(header) < 30 or header[:4] != b"PK\x03\x04":
            raise Corrupt(f"has no header at record {path}")
        length, extra = struct.unpack("<HH", header[26:30])
        name = self.file.read(length)
        if name != info.filename.encode():
            raise Corrupt(f"has another name at record {path}")
        return info.header_offset + 30 + length + extra, info.file_size, info.CRC

    def into(self, path, target):
        """Reads a record into memory of its size."""
        at, size, crc = self.find(path, len(target))
        self.file.seek(at)
        done = 0
        while done < size:
            n = self.file.readinto(target[done:]) if hasattr(self.file, "readinto") else None
            if n is None:
                part = self.file.read(size - done)
                n = len(part)
                target[done:done + n] = part
            if not n:
                raise Corrupt(f"is truncated in record {path}")
            done += n
        if zlib.crc32(target) != crc:
            raise Corrupt(f"is corrupt: the checksum of record {path} is wrong")

    def read(self, path, most=1 << 31):
        """The bytes of a record."""
        at, size, crc = self.find(path)
        if size > most:
            raise Corrupt(f"has {size} bytes in record {path}")
        self.file.seek(at)
        data = self.file.read(size)
        if len(data) != size or zlib.crc32(data) != crc:
            raise Corrupt(f"is corrupt: the checksum of record {path} is wrong")
        return data


def read(file, trust=False):
    """The object of a zip archive in a seekable binary file."""
    archive = _Archive(file)
    swapped = archive.root + "byteorder" in archive.names and archive.read("byteorder", 64).strip() != sys.byteorder.encode()
    storages = {}

    def persistent(pid):
        dtype, key, count = _storage_id(pid)
        if key not in storages:
            size = count * ITEMSIZE[dtype]
            archive.find(f"data/{key}", size)       # before any memory is asked for
            flat, target = _empty(dtype, count)
            archive.into(f"data/{key}", target)
            if swapped:
                _swap(flat, dtype)
            storages[key] = Storage(flat, dtype)
        return Storage(storages[key].typed(dtype), dtype)

    reader = Reader(archive.read("data.pkl"), persistent, trust=trust)
    return reader.load()


def is_legacy(head):
    """Whether a file begins as the older ones do: with the pickled magic number."""
    number = _MAGIC.to_bytes(10, "little")
    return head[:1] == b"\x80" and number in head[:32]


def read_legacy(content, trust=False):
    """The object of a file of the older kind: pickles one after the other, then the storages."""
    def no_storage(pid):
        raise Corrupt("has a storage out of place")

    at = 0
    for expected in (_MAGIC, 1001, None):
        reader = Reader(content, no_storage, at)
        value = reader.load()
        at = reader.at
        if expected is not None and value != expected:
            raise Corrupt("is not a file of tensors, or its beginning is corrupt")
    swapped = isinstance(value, dict) and value.get("little_endian", True) != (sys.byteorder == "little")
    storages = {}

    def persistent(pid):
        dtype, key, count = _storage_id(pid)
        if len(pid) > 5 and pid[5] is not None:
            raise Corrupt("has views of storages, as files before 2017 had; save it again with a newer program")
        if key not in storages:
            if count * ITEMSIZE[dtype] > len(content):
                raise Corrupt("is truncated: a storage is larger than the file")
            storages[key] = (*_empty(dtype, count), dtype)
        flat, _, stored = storages[key]
        return Storage(Storage(flat, stored).typed(dtype), dtype)

    reader = Reader(content, persistent, at, trust)
    result = reader.load()
    keys = Reader(content, no_storage, reader.at)
    names = keys.load()
    at = keys.at
    if not isinstance(names, list) or sorted(map(str, names)) != sorted(storages):
        raise Corrupt("is truncated or corrupt: its storages are not those of its tensors")
    for key in names:
        flat, target, dtype = storages[key]
        order = "big" if swapped and sys.byteorder == "little" else "little"
        if int.from_bytes(content[at:at + 8], order) != flat.numel() or len(content) < at + 8 + len(target):
            raise Corrupt("is truncated or corrupt in its storages")
        target[:] = content[at + 8:at + 8 + len(target)]
        at += 8 + len(target)
        if swapped:
            _swap(flat, dtype)
    return result


def is_zip(head):
    """Whether a file begins as zip archives do."""
    return head[:4] == b"PK\x03\x04"
