"""save and load: what goes in comes out; what was damaged is named; nothing is ever half-written."""

import io
import json
import os
import stat

import fastbp
import numpy as np
import pytest
from fastbp import nn

safetensors = pytest.importorskip("safetensors")


def state():
    fastbp.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).state_dict()


def same(a, b):
    assert list(a) == sorted(b) or set(a) == set(b)
    for name in b:
        assert a[name].dtype == b[name].dtype and tuple(a[name].shape) == tuple(b[name].shape)
        np.testing.assert_array_equal(a[name].numpy(), b[name].numpy())


def test_round_trip(tmp_path):
    path = tmp_path / "weights.safetensors"
    fastbp.save(state(), path)
    same(fastbp.load(path), state())
    net = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
    net.load_state_dict(fastbp.load(str(path)))
    same(net.state_dict(), state())
    assert os.listdir(tmp_path) == ["weights.safetensors"]
    assert stat.S_IMODE(path.stat().st_mode) & 0o600 == 0o600


def test_every_dtype_and_shape(tmp_path):
    path = tmp_path / "w"
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
    assert not loaded["grad"].requires_grad


def test_other_programs_read_it_and_write_for_it(tmp_path):
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
    path = tmp_path / "weights"
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
    path = tmp_path / "weights"
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
        (b"PK\x03\x04" + bytes(100), "zip archive.*torch"), (b"\x80\x02}q\x00." + bytes(100), "pickle"),
        (b"\x93NUMPY\x01\x00" + bytes(100), "NumPy array"), (b"", "is empty"),
        (b"hello, world, this is text", "not a safetensors"),
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
    path = tmp_path / "w"
    for value, message in (
        (fastbp.zeros(1), "got a Tensor"), ([1], "got list"), ({1: fastbp.zeros(1)}, "names must be strings"),
        ({"a": {"b": fastbp.zeros(1)}}, "'a' must be a Tensor, got dict"), ({"a": 3}, "'a' must be a Tensor, got int"),
        ({"h": fastbp.zeros(1).to(fastbp.bfloat16)}, "bfloat16"),
    ):
        with pytest.raises(TypeError, match=message):
            fastbp.save(value, path)
    with pytest.raises(TypeError, match="metadata"):
        fastbp.save({}, path, metadata={"a": 1})
    assert os.listdir(tmp_path) == []
    with pytest.raises(FileNotFoundError, match="does not exist"):
        fastbp.save({}, tmp_path / "no" / "w")
    with pytest.raises(RuntimeError, match="computes on the CPU"):
        fastbp.load(path, map_location="cuda")


@pytest.mark.parametrize("step", ["save_file", "fsync", "replace"])
def test_a_failed_save_keeps_the_old_file(tmp_path, monkeypatch, step):
    path = tmp_path / "weights"
    fastbp.save({"a": fastbp.ones(3)}, path)
    old = path.read_bytes()

    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    import safetensors.numpy
    monkeypatch.setattr(safetensors.numpy if step == "save_file" else os, step, fail)
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
