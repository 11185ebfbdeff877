"""save and load: what goes in comes out; what was damaged is named; nothing is ever half-written, run or imported."""

import argparse
import io
import json
import os
import pickle
import random
import stat
import struct
import threading
import zipfile
from collections import Counter, OrderedDict

import fastbp
import numpy as np
import pytest
from fastbp import nn, optim


def state():
    fastbp.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).state_dict()


def same(a, b):
    assert list(a) == sorted(b) or set(a) == set(b)
    for name in b:
        assert a[name].dtype == b[name].dtype and tuple(a[name].shape) == tuple(b[name].shape)
        np.testing.assert_array_equal(a[name].detach().numpy(), b[name].detach().numpy())


def test_round_trip(tmp_path):
    path = tmp_path / "weights.safetensors"
    fastbp.save(state(), path)
    same(fastbp.load(path), state())
    net = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
    net.load_state_dict(fastbp.load(str(path)))
    same(net.state_dict(), state())
    assert os.listdir(tmp_path) == ["weights.safetensors"]
    assert stat.S_IMODE(path.stat().st_mode) & 0o600 == 0o600


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
def test_every_dtype_and_shape(tmp_path, name):
    path = tmp_path / name
    tensors = {
        "f32": fastbp.zeros(2, 3), "f64": fastbp.ones(2, dtype=fastbp.float64), "i64": fastbp.arange(3),
        "i32": fastbp.arange(3).to(fastbp.int32), "u8": fastbp.ones(2, dtype=fastbp.uint8),
        "bool": fastbp.arange(3) > 1, "scalar": fastbp.tensor(2.5), "empty": fastbp.zeros(0, 3),
        "strided": fastbp.arange(12.0).reshape(3, 4).t(), "grad": fastbp.ones(2, requires_grad=True),
        "ünï\n": fastbp.ones(1),
    }
    fastbp.save(tensors, path)
    loaded = fastbp.load(path)
    same(loaded, {k: v.detach() for k, v in tensors.items()})
    loaded["f32"].add_(1)      # it owns its memory
    assert loaded["grad"].requires_grad is (name == "w.pt")


def test_other_programs_read_it_and_write_for_it(tmp_path):
    safetensors = pytest.importorskip("safetensors")
    from safetensors.numpy import load_file, save_file
    path = tmp_path / "w.safetensors"
    fastbp.save(state(), path, metadata={"epoch": "3"})
    for name, value in load_file(path).items():
        np.testing.assert_array_equal(value, state()[name].numpy())
    with safetensors.safe_open(path, "np") as file:
        assert file.metadata()["epoch"] == "3" and file.metadata()["format"] == "pt"
    save_file({"a": np.arange(3.0)}, path)
    assert fastbp.load(path)["a"].tolist() == [0.0, 1.0, 2.0]


def test_file_objects():
    buffer = io.BytesIO()
    fastbp.save(state(), buffer)
    buffer.seek(0)
    same(fastbp.load(buffer), state())


def test_every_truncation_is_an_error(tmp_path):
    path = tmp_path / "weights.safetensors"
    fastbp.save(state(), path)
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(RuntimeError, match=r"weights.*(truncated|empty|corrupt)"):
            fastbp.load(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(RuntimeError, match="weights"):
        fastbp.load(path)


def test_a_flipped_bit_in_any_byte_is_an_error(tmp_path):
    path = tmp_path / "weights.safetensors"
    fastbp.save({"a": fastbp.arange(5.0), "b": fastbp.arange(3)}, path)
    whole = path.read_bytes()
    end = 8 + int.from_bytes(whole[:8], "little")
    metadata = json.loads(whole[8:end])["__metadata__"]
    unprotected = 0
    for k in range(len(whole)):
        damaged = bytearray(whole)
        damaged[k] ^= 1 << 5 * k % 8
        path.write_bytes(damaged)
        try:
            loaded = fastbp.load(path)
        except (RuntimeError, TypeError) as error:
            assert "weights" in str(error)
        else:       # only the metadata's own words may change unseen: the tensors are what was saved
            assert 8 <= k < end
            same(loaded, {"a": fastbp.arange(5.0), "b": fastbp.arange(3)})
            unprotected += 1
    assert unprotected <= len(json.dumps(metadata)) + len("__metadata__")


def test_foreign_files_are_recognised(tmp_path):
    path = tmp_path / "weights.pt"
    for content, message in (
        (b"PK\x03\x04" + bytes(100), "corrupt zip archive"), (b"\x80\x02}q\x00." + bytes(100), "pickle"),
        (b"\x93NUMPY\x01\x00" + bytes(100), "NumPy array"), (b"", "is empty"),
        (b"hello, world, this is text", "neither a file of torch.save nor a safetensors"),
        (b"\x10\0\0\0\0\0\0\0" + b"{not json       " + bytes(10), "corrupt"),
    ):
        path.write_bytes(content)
        with pytest.raises(RuntimeError, match=message) as error:
            fastbp.load(path)
        assert "weights.pt" in str(error.value)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        fastbp.load(tmp_path / "nothing")
    with pytest.raises(IsADirectoryError):
        fastbp.load(tmp_path)


def test_what_cannot_be_saved(tmp_path):
    path = tmp_path / "w.safetensors"
    for value, message in (
        (fastbp.zeros(1), "got a Tensor"), ([1], "got a list"), ({1: fastbp.zeros(1)}, "names must be strings"),
        ({"a": {"b": fastbp.zeros(1)}}, "'a' must be a Tensor, got dict"), ({"a": 3}, "'a' must be a Tensor, got int"),
    ):
        with pytest.raises(TypeError, match=message):
            fastbp.save(value, path)
    with pytest.raises(TypeError, match="metadata"):
        fastbp.save({}, path, metadata={"a": 1})
    for value, message in (
        (nn.utils.parametrizations.weight_norm(nn.Linear(1, 1)), r"the object is a fastbp.nn.*Linear.*state_dict\(\)"),
        ({"a": [1, lambda x: x]}, r"the object\['a'\]\[1\].*top of a module"),
        ({"f": threading.Lock()}, "the object\\['f'\\] is a _thread.lock"), (1 << 3000, "2032 bits"),
    ):
        with pytest.raises(TypeError, match=message):
            fastbp.save(value, tmp_path / "w.pt")
    with pytest.raises(ValueError, match="metadata belongs"):
        fastbp.save({}, tmp_path / "w.pt", format="pt", metadata={})
    with pytest.raises(ValueError, match="format must be"):
        fastbp.save({}, tmp_path / "w.pt", format="zip")
    assert os.listdir(tmp_path) == []
    with pytest.raises(FileNotFoundError, match="does not exist"):
        fastbp.save({}, tmp_path / "no" / "w")
    with pytest.raises(RuntimeError, match="computes on the CPU"):
        fastbp.load(path, map_location="cuda")


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_a_failed_save_keeps_the_old_file(tmp_path, monkeypatch, step):
    path = tmp_path / "weights"
    fastbp.save({"a": fastbp.ones(3)}, path)
    old = path.read_bytes()

    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    from fastbp._formats import archive
    monkeypatch.setattr(archive if step == "write" else os, step, fail)
    with pytest.raises(OSError, match="No space left"):
        fastbp.save({"a": fastbp.zeros(300)}, path)
    monkeypatch.undo()
    assert path.read_bytes() == old and os.listdir(tmp_path) == ["weights"]


def test_a_link_stays_a_link(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    fastbp.save({"a": fastbp.ones(1)}, target)
    link.symlink_to(target)
    fastbp.save({"a": fastbp.zeros(1)}, link)
    assert link.is_symlink() and fastbp.load(target)["a"].tolist() == [0.0]


# ---- PyTorch's files ------------------------------------------------------------------------------------------------


def everything():
    base = fastbp.arange(12.0)
    return {
        "numbers": [0, 1, -5, 255, 256, 70000, -(2 ** 31), 2 ** 40, -(2 ** 70), 1.5, float("inf"), True, None],
        "text": ("", "\u00fc\n", b"\xff\x00ab"), "deep": {"a": [{"b": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4))}]},
        "ordered": OrderedDict([("z", 1), ("a", 2)]), "counter": Counter("aab"), "set": {1, 2}, 7: "key", (1, 2): "tuple",
        "size": fastbp.Size((1, 2)), "dtypes": [fastbp.float32, fastbp.bool_, fastbp.bfloat16], "view": base[2:8],
        "turned": base.reshape(3, 4).t(), "base": base, "parameter": nn.Parameter(fastbp.ones(2)),
        "tracked": fastbp.ones(2, requires_grad=True), "brain": fastbp.ones(3).to(fastbp.bfloat16),
        "half": fastbp.ones(3).to(fastbp.float16), "byte": fastbp.arange(3).to(fastbp.int8), "mask": fastbp.arange(3) > 1,
        "empty": fastbp.zeros(0, 3), "scalar": fastbp.tensor(2.5, dtype=fastbp.float64), "rng": fastbp.get_rng_state(),
    }


def equal(a, b):
    """Deep equality, types, dtypes, strides and tracking included."""
    if isinstance(b, fastbp.Tensor):
        return (type(a) is type(b) and a.dtype == b.dtype and a.shape == b.shape and a.requires_grad == b.requires_grad
                and (b.numel() == 0 or a.stride() == b.stride()) and a.tolist() == b.tolist())
    if type(a) is not type(b):
        return False
    if isinstance(b, dict):
        return list(a) == list(b) and all(equal(a[k], b[k]) for k in b)
    if isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


def test_everything_comes_back(tmp_path):
    want = everything()
    fastbp.save(want, tmp_path / "all.pt")
    got = fastbp.load(tmp_path / "all.pt")
    assert equal(got, want)
    got["base"][4] = -1.0                   # what shared memory shares it again, and nothing else does
    assert got["view"][2].item() == -1.0 and got["turned"][0, 1].item() == -1.0 and want["base"][4].item() == 4.0
    assert got["view"]._base is None


def test_shared_and_cyclic_containers():
    inner = [1]
    loop = {"a": inner, "b": inner}
    loop["self"] = loop
    buffer = io.BytesIO()
    fastbp.save(loop, buffer)
    buffer.seek(0)
    got = fastbp.load(buffer)
    assert got["a"] is got["b"] and got["self"] is got


def test_only_what_tensors_need_is_written(tmp_path):
    big = fastbp.zeros(1000, 1000)
    fastbp.save({"a": big[3, 10:20], "b": big[3, 15:30]}, tmp_path / "w.pt")
    assert (tmp_path / "w.pt").stat().st_size < 2000
    got = fastbp.load(tmp_path / "w.pt")
    got["a"].fill_(1.0)
    assert got["b"].tolist() == [1.0] * 5 + [0.0] * 10


def test_the_archive_is_what_pytorch_reads(tmp_path):
    """Names, alignment, no compression, checksums; instructions that the restricted reader of PyTorch knows."""
    import pickletools
    path = tmp_path / "model.pt"
    fastbp.save(everything(), path)
    with zipfile.ZipFile(path) as z:
        assert z.testzip() is None
        names = z.namelist()
        assert names[:2] == ["model/data.pkl", "model/byteorder"] and names[-1] == "model/version"
        assert z.read("model/version") == b"3\n" and z.read("model/byteorder") in (b"little", b"big")
        whole = path.read_bytes()
        for info in z.infolist():
            n, extra = struct.unpack("<HH", whole[info.header_offset + 26:info.header_offset + 30])
            assert (info.header_offset + 30 + n + extra) % 64 == 0 and info.compress_type == zipfile.ZIP_STORED
        used = {op.name for op, _, _ in pickletools.genops(z.read("model/data.pkl"))}
    assert used <= {"PROTO", "STOP", "EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE", "MARK", "NONE", "NEWTRUE", "NEWFALSE", "BININT",
                    "BININT1", "LONG1", "BINFLOAT", "BINUNICODE", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET", "TUPLE",
                    "TUPLE1", "TUPLE2", "TUPLE3", "APPENDS", "SETITEMS", "GLOBAL", "REDUCE", "BUILD", "BINPERSID"}


def test_agrees_with_torch(tmp_path):
    torch = pytest.importorskip("torch")
    fastbp.save(everything(), tmp_path / "mine.pt")
    got = torch.load(tmp_path / "mine.pt", weights_only=True)
    assert got["numbers"] == everything()["numbers"] and got["counter"] == Counter("aab") and got["ordered"]["z"] == 1
    assert got["dtypes"] == [torch.float32, torch.bool, torch.bfloat16] and isinstance(got["parameter"], torch.nn.Parameter)
    assert got["view"].untyped_storage().data_ptr() == got["base"].untyped_storage().data_ptr()
    assert got["turned"].stride() == (1, 4) and got["brain"].dtype == torch.bfloat16
    theirs = {"x": torch.arange(12.0)[3:6], "p": torch.nn.Parameter(torch.ones(2)), "b": torch.ones(2, dtype=torch.bfloat16),
              "d": torch.float16, "s": {1}, "o": OrderedDict(a=1), "bytes": b"x", "n": 10 ** 12}
    for options in ({}, {"_use_new_zipfile_serialization": False}, {"pickle_protocol": 4}):
        torch.save(theirs, tmp_path / "theirs.pt", **options)
        back = fastbp.load(tmp_path / "theirs.pt")
        assert back["x"].tolist() == [3.0, 4.0, 5.0] and isinstance(back["p"], nn.Parameter) and back["d"] is fastbp.float16
        assert back["b"].dtype == fastbp.bfloat16 and (back["s"], back["o"], back["bytes"], back["n"]) == (
            {1}, OrderedDict(a=1), b"x", 10 ** 12)
    torch.save(torch.nn.Linear(1, 1), tmp_path / "theirs.pt")
    with pytest.raises(RuntimeError, match=r"torch\.nn\.modules\.linear\.Linear, which is no data"):
        fastbp.load(tmp_path / "theirs.pt")


@pytest.mark.parametrize("kind", ["cnn", "lstm", "transformer"])
def test_state_dicts_travel_both_ways_bit_for_bit(tmp_path, kind):
    torch = pytest.importorskip("torch")

    def build(nn):
        if kind == "cnn":
            return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 4, 3),
                                 nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(36, 5))
        if kind == "lstm":
            return nn.LSTM(5, 7, num_layers=2, bidirectional=True, batch_first=True)
        return nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 2, enable_nested_tensor=False)
    shape = {"cnn": (2, 3, 10, 10), "lstm": (2, 6, 5), "transformer": (2, 6, 16)}[kind]
    x = np.random.default_rng(0).standard_normal(shape).astype("f4")

    def output(library, model):
        y = model.eval()(library.from_numpy(x))
        return (y[0] if isinstance(y, tuple) else y).detach().numpy()

    def bits(state):
        return {name: (str(t.dtype).rpartition(".")[2], tuple(t.shape), t.detach().numpy().tobytes())
                for name, t in state.items()}
    theirs, mine = build(torch.nn), build(nn)
    if kind == "cnn":                       # running statistics, and the count of batches
        theirs.train()(torch.from_numpy(x))
    torch.save(theirs.state_dict(), tmp_path / "theirs.pt")
    loaded = fastbp.load(tmp_path / "theirs.pt")
    assert bits(loaded) == bits(theirs.state_dict()) and list(loaded) == list(theirs.state_dict())
    mine.load_state_dict(loaded)
    np.testing.assert_allclose(output(fastbp, mine), output(torch, theirs), rtol=1e-4, atol=1e-5)
    fastbp.save(mine.state_dict(), tmp_path / "mine.pt")
    again = torch.load(tmp_path / "mine.pt", weights_only=True)
    assert bits(again) == bits(theirs.state_dict()) and list(again) == list(theirs.state_dict())
    fresh = build(torch.nn)
    fresh.load_state_dict(again)
    assert output(torch, fresh).tobytes() == output(torch, theirs).tobytes()


# A state dictionary as PyTorch writes it, instruction by instruction: {"w": 2 x 2 floats at offset 1, "n": [3]}
TENSOR = (b"ctorch._utils\n_rebuild_tensor_v2\n(" b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x06tQ"
          b"K\x01K\x02K\x02\x86K\x02K\x01\x86\x89ccollections\nOrderedDict\n)RtR")
STATE = b"\x80\x02}(X\x01\0\0\0w" + TENSOR + b"X\x01\0\0\0n]K\x03au."
STORAGE = np.arange(6, dtype="<f4").tobytes()


def archive(content=STATE, storage=STORAGE, byteorder=b"little", **options):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **options) as z:
        z.writestr("archive/data.pkl", content)
        if byteorder:
            z.writestr("archive/byteorder", byteorder)
        z.writestr("archive/data/0", storage)
        z.writestr("archive/version", b"3\n")
    return buffer.getvalue()


def legacy(content=STATE, storage=STORAGE):
    head = b"".join(pickle.dumps(x, 2) for x in (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True}))
    tail = pickle.dumps(["0"], 2) + (len(storage) // 4).to_bytes(8, "little") + storage
    content = content.replace(b"cpuK\x06tQ", b"cpuK\x06NtQ")        # one more member: no view
    return head + content + tail


@pytest.mark.parametrize("whole", [archive(), archive(byteorder=None), legacy(),
                                   archive(storage=np.arange(6, dtype=">f4").tobytes(), byteorder=b"big")])
def test_a_file_of_pytorch(whole):
    got = fastbp.load(io.BytesIO(whole))
    assert got["w"].tolist() == [[1.0, 2.0], [3.0, 4.0]] and got["n"] == [3] and not got["w"].requires_grad
    assert fastbp.load(io.BytesIO(whole), map_location="cpu", weights_only=False, mmap=True)["n"] == [3]


def test_nothing_in_a_file_is_run(tmp_path):
    """Calls, imports, attributes and instances that a file asks for are refused, whatever they are."""
    target = tmp_path / "made"
    evil = f"open({str(target)!r}, 'w')".encode()
    for content in (
        b"\x80\x02cbuiltins\neval\nX" + struct.pack("<I", len(evil)) + evil + b"\x85R.",
        b"\x80\x02cos\nsystem\nX\x04\0\0\0true\x85R.", b"\x80\x02cbuiltins\ngetattr\n.",
        b"(X\x04\0\0\0trueios\nsystem\n.",                                               # INST
        b"(cos\nsystem\nX\x04\0\0\0trueo.",                                              # OBJ
        b"\x80\x04\x8c\x02os\x8c\x06system\x93.", b"\x80\x02ctorch\nload\n.",
        b"\x80\x02ccollections\nOrderedDict\n)R}X\x09\0\0\0__class__Nsb.",             # attributes
        b"\x80\x02}}X\x01\0\0\0aNsb.", b"\x80\x02X\x01\0\0\0a)R.", b"\x80\x02\x82\x01.",     # EXT1
        b"P0\n.", b"\x80\x02ctorch\nFloatStorage\n)R.", b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nNR.",
    ):
        for whole in (archive(content), legacy(content)):
            with pytest.raises(RuntimeError, match=r"no data|corrupt|pickle|attributes"):
                result = fastbp.load(io.BytesIO(whole))
                assert type(result) is OrderedDict and not vars(result), content
                raise RuntimeError("attributes were left out")
    assert not target.exists()


def test_numbers_that_lie_are_errors():
    for old, new in (
        (b"cpuK\x06", b"cpuK\x07"), (b"cpuK\x06", b"cpuJ\xff\xff\xff\xff"), (b"cpuK\x06", b"cpuG" + bytes(8)),
        (b"QK\x01", b"QK\x03"), (b"QK\x01", b"QJ\xff\xff\xff\xff"), (b"QK\x01", b"QN"), (b"K\x02K\x02\x86", b"K\x02K\x04\x86"),
        (b"K\x02K\x02\x86", b"K\x02\x85"), (b"K\x02K\x01\x86", b"K\x02J\xff\xff\xff\xff\x86"),
        (b"K\x02K\x01\x86", b"\x8a\x09" + b"\xff" * 8 + b"\0K\x01\x86"), (b"FloatStorage", b"DoubleStorage"),
        (b"FloatStorage", b"Float8Storage"), (b"(X\x07\0\0\0storage", b"(X\x07\0\0\0sturage"), (b"x000X", b"x009X"),
        (b"\x89ccoll", b"\x88ccoll"), (b"au.", b"au"), (b"au.", b"a."), (b"}(", b"(("), (b"\x80\x02}", b"\x80\x02]"),
    ):
        content = STATE.replace(old, new)
        if new == b"\x88ccoll":
            assert fastbp.load(io.BytesIO(archive(content)))["w"].requires_grad
            continue
        if old != b"x000X":
            assert content != STATE, old
            for whole in (archive(content), legacy(content)):
                with pytest.raises(RuntimeError, match="load: '<file object>'"):
                    fastbp.load(io.BytesIO(whole))
    with pytest.raises(RuntimeError, match="compressed"):
        fastbp.load(io.BytesIO(archive(compression=zipfile.ZIP_DEFLATED, storage=bytes(24))))
    with pytest.raises(RuntimeError, match="expected 24"):
        fastbp.load(io.BytesIO(archive(storage=bytes(23))))
    complex_storage = STATE.replace(b"FloatStorage", b"ComplexFloatStorage")
    with pytest.raises(TypeError, match="complex"):
        fastbp.load(io.BytesIO(archive(complex_storage)))


@pytest.mark.parametrize("make", [archive, legacy, None])
def test_every_truncation_of_a_pytorch_file_is_an_error(make):
    whole = make() if make else saved()
    for size in range(len(whole)):
        with pytest.raises(RuntimeError, match="load: '<file object>'"):
            fastbp.load(io.BytesIO(whole[:size]))


def saved():
    buffer = io.BytesIO()
    fastbp.save({"w": fastbp.arange(1.0, 5.0).reshape(2, 2), "n": [3]}, buffer)
    return buffer.getvalue()


def test_flipped_bits_of_a_pytorch_file():
    """Every bit: an error that names the file, or, where a zip archive says the same thing twice, the same object."""
    whole = saved()
    want = fastbp.load(io.BytesIO(whole))
    for k in range(len(whole)):
        for bit in range(8) if k % 7 == 0 else (k % 8,):
            damaged = bytearray(whole)
            damaged[k] ^= 1 << bit
            try:
                got = fastbp.load(io.BytesIO(damaged))
            except (RuntimeError, TypeError) as error:
                assert "load: '<file object>'" in str(error)
            else:
                assert equal(got, want), (k, bit)


def test_random_pickles_raise_or_load():
    """Garbage made of real instructions: no crash, no other exception, no surprise."""
    rng = random.Random(0)
    pieces = [bytes([k]) for k in range(256)]
    pieces += [TENSOR, b"K\x01", b"}", b"(", b"u", b"X\x01\0\0\0a", b")R", b"\x85R", b"q\0", b"h\0",
               b"ccollections\nOrderedDict\n", b"ctorch\nSize\n", b"ctorch\nfloat32\n"] * 8
    for _ in range(3000):
        content = b"\x80\x02" + b"".join(rng.choice(pieces) for _ in range(rng.randrange(1, 25))) + b"."
        try:
            fastbp.load(io.BytesIO(archive(content)))
        except (RuntimeError, TypeError) as error:
            assert "load: '<file object>'" in str(error)


def test_checkpoints_resume_training(tmp_path):
    def build():
        fastbp.manual_seed(3)
        net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
        opt = optim.Adam(net.parameters(), lr=0.1, amsgrad=True)
        return net, opt, optim.lr_scheduler.MultiStepLR(opt, [2, 4], 0.5)

    def train(net, opt, schedule, steps):
        for _ in range(steps):
            opt.zero_grad()
            net(fastbp.randn(16, 4)).pow(2).sum().backward()
            opt.step()
            schedule.step()

    first = build()
    train(*first, 3)
    names = ("net", "opt", "schedule")
    checkpoint = {name: x.state_dict() for name, x in zip(names, first)} | {"rng": fastbp.get_rng_state(), "epoch": 3}
    fastbp.save(checkpoint, tmp_path / "checkpoint.pt")
    train(*first, 4)
    second = build()
    checkpoint = fastbp.load(tmp_path / "checkpoint.pt")
    for name, x in zip(names, second):
        x.load_state_dict(checkpoint[name])
    fastbp.set_rng_state(checkpoint["rng"])
    train(*second, 4)
    for a, b in zip(first[0].parameters(), second[0].parameters()):
        assert a.detach().numpy().tobytes() == b.detach().numpy().tobytes()
    assert isinstance(checkpoint["schedule"]["milestones"], Counter)


def test_a_state_that_does_not_fit_changes_nothing():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    before = [p.tolist() for p in net.parameters()]
    state = {name: fastbp.zeros(3) if name == "1.bias" else fastbp.zeros_like(t) for name, t in net.state_dict().items()}
    with pytest.raises(RuntimeError, match=r"1\.bias"):
        net.load_state_dict(state)
    assert [p.tolist() for p in net.parameters()] == before


# ---- whole modules and other objects ----------------------------------------------------------------------------------


class Net(nn.Module):
    """Attributes of every kind, shared tensors, an activation by name."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 3), nn.LSTM(3, 2, 2)
        self.tied = self.a.weight
        self.c = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0)
        self.register_buffer("steps", fastbp.arange(3))
        self.options, self.act = argparse.Namespace(name="x", sizes=(1, 2)), nn.functional.relu

    def forward(self, x):
        return self.c(nn.functional.pad(self.act(self.b(self.a(x))[0]), (0, 2)))


def written(obj):
    file = io.BytesIO()
    fastbp.save(obj, file)
    return file.getvalue()


def test_whole_modules():
    model = Net().eval()
    x = fastbp.randn(4, 2, 3)
    found = fastbp.load(io.BytesIO(written({"model": model, "n": np.arange(3.0), "len": len})), weights_only=False)
    again = found["model"]
    assert type(again) is Net and not again.training and str(again) == str(model) and again.options == model.options
    assert again.tied is again.a.weight and isinstance(again.tied, nn.Parameter) and again.tied.requires_grad
    assert again.act is nn.functional.relu and found["len"] is len and found["n"].tolist() == [0, 1, 2]
    assert fastbp.equal(again(x), model(x))
    again(x).sum().backward()
    assert again.a.weight.grad is not None


def test_whole_modules_need_trust():
    data = written(Net())
    with pytest.raises(RuntimeError, match=r"Net.*no data.*safe_globals.*weights_only=False"):
        fastbp.load(io.BytesIO(data))
    listed = [Net, nn.Linear, nn.LSTM, nn.TransformerEncoderLayer, nn.MultiheadAttention, nn.Dropout, nn.LayerNorm,
              nn.functional.relu, type(Net().c.self_attn.out_proj)]
    with fastbp.serialization.safe_globals(listed):
        with pytest.raises(RuntimeError, match=r"argparse\.Namespace"):
            fastbp.load(io.BytesIO(data))
    with fastbp.serialization.safe_globals([*listed, argparse.Namespace]):
        assert type(fastbp.load(io.BytesIO(data))) is Net
        assert set(fastbp.serialization.get_safe_globals()) == {*listed, argparse.Namespace}
    assert fastbp.serialization.get_safe_globals() == []
    fastbp.serialization.add_safe_globals([(Net, "elsewhere.Net")])
    try:
        with pytest.raises(RuntimeError, match="Net"):
            fastbp.load(io.BytesIO(data))
    finally:
        fastbp.serialization.clear_safe_globals()
    with pytest.raises(TypeError, match=r"module\.name"):
        fastbp.serialization.safe_globals([lambda: 0])


def test_safe_globals_open_nothing_else(tmp_path):
    target = tmp_path / "made"
    text = f"open({str(target)!r}, 'w')".encode()
    content = b"\x80\x02cbuiltins\neval\nX" + struct.pack("<I", len(text)) + text + b"\x85R."
    with fastbp.serialization.safe_globals([nn.Linear, Net]):
        with pytest.raises(RuntimeError, match=r"builtins\.eval"):
            fastbp.load(io.BytesIO(archive(content)))
    assert not target.exists()
    fastbp.load(io.BytesIO(archive(content)), weights_only=False).close()
    assert target.exists()                  # what trust means
