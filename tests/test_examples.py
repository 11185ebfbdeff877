"""The example programs run as a user runs them: in their own process, from the command line."""

import gzip
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(program, *options, ok=True):
    """Output of the program; it must end well (or, with ok=False, with an error)."""
    done = subprocess.run([sys.executable, str(EXAMPLES / program), *map(str, options)], capture_output=True, text=True,
                          env={**os.environ, "PYTHONWARNINGS": "error"}, timeout=600)
    assert (done.returncode == 0) == ok, done.stdout + done.stderr
    return done.stdout + done.stderr


def accuracy(text):
    return float(re.search(r"test accuracy ([\d.]+)%", text)[1])


@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_digits(model, tmp_path):
    out = tmp_path / "weights.safetensors"
    text = run("train_digits.py", "--model", model, "--out", out)
    assert accuracy(text) >= 97, text
    assert out.exists() and list(tmp_path.iterdir()) == [out], "weights are written once, and nothing beside them"
    assert "predicts exactly the same" in text


def write_idx(path, values):
    data = struct.pack(f">4B{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def fashion(folder, n=300):
    """Four small files in the data set's format: class k has two bright rows, 2 k and 2 k + 1; plain and gzip mixed."""
    random = np.random.default_rng(0)
    for part, suffix in (("train", ".gz"), ("t10k", "")):
        labels = random.integers(0, 10, n, dtype=np.uint8)
        pixels = random.integers(0, 100, (n, 28, 28), dtype=np.uint8)
        for row in (0, 1):
            pixels[np.arange(n), 2 * labels.astype(int) + row] += 150
        write_idx(folder / f"{part}-images-idx3-ubyte{suffix}", pixels)
        write_idx(folder / f"{part}-labels-idx1-ubyte{suffix}", labels)


@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_fashion_reads_its_files(model, tmp_path):
    fashion(tmp_path)
    text = run("train_fashion.py", "--model", model, "--data", tmp_path, "--epochs", 8, "--batch-size", 20,
               "--out", tmp_path / "w.st")
    assert accuracy(text) > 90, text


def test_fashion_says_what_to_install(tmp_path):
    text = run("train_fashion.py", "--data", tmp_path, ok=False)
    assert "apt-get install dataset-fashion-mnist" in text and "Traceback" not in text


@pytest.mark.parametrize("damage", ["cut", "magic"])
def test_fashion_refuses_damaged_files(damage, tmp_path):
    fashion(tmp_path)
    path = tmp_path / "t10k-images-idx3-ubyte"
    data = path.read_bytes()
    path.write_bytes(data[:-1] if damage == "cut" else b"\x1f\x8b" + data[2:])
    text = run("train_fashion.py", "--data", tmp_path, ok=False)
    assert path.name in text and "Traceback" not in text


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_fashion_reaches_88_percent(model, tmp_path):
    folder = Path("/usr/share/datasets/fashion-mnist")
    if not folder.exists():
        pytest.skip("dataset-fashion-mnist is not installed")
    assert accuracy(run("train_fashion.py", "--model", model, "--out", tmp_path / "w.st")) >= 88
