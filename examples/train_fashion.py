"""Train a network on Fashion-MNIST: 60,000 training and 10,000 test images of clothes, 28 x 28 pixels, 10 classes.

    pip install "fastbp[examples]"
    apt-get install dataset-fashion-mnist           # Debian and Ubuntu ship the four files
    python examples/train_fashion.py                # a multilayer perceptron
    python examples/train_fashion.py --model cnn --data DIR
"""

import gzip
import struct
import sys
from pathlib import Path

import numpy as np
from _training import arguments, images, mlp, run
from fastbp import nn

DEBIAN = "/usr/share/datasets/fashion-mnist"


def cnn():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),         # 16 x 14 x 14
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),        # 32 x 7 x 7
        nn.Flatten(), nn.Linear(1568, 64), nn.ReLU(), nn.Linear(64, 10),
    )


MODELS = {"mlp": lambda: mlp(784, (256, 128), 10), "cnn": cnn}


def find(folder, name):
    """The file of that name in the folder, plain or with .gz, or an error that says how to get it."""
    for path in (Path(folder, name), Path(folder, name + ".gz")):
        if path.exists():
            return path
    raise SystemExit(
        f"{name} or {name}.gz is not in {folder}\n"
        f"Fashion-MNIST's four IDX files are needed. On Debian or Ubuntu: apt-get install dataset-fashion-mnist\n"
        f"puts them in {DEBIAN}; elsewhere download them from https://github.com/zalandoresearch/fashion-mnist\n"
        f"and give their folder with --data DIR."
    )


def read_idx(path, ndim):
    """The array in an IDX file of unsigned bytes.

    The file: two zero bytes, the type (8), the number of dimensions, the dimensions (32 bits, big endian), the values.
    Source: Y. LeCun, C. Cortes, C. J. C. Burges, The MNIST database of handwritten digits, "FILE FORMATS".
    """
    raw = (gzip.decompress if path.suffix == ".gz" else bytes)(path.read_bytes())
    if len(raw) < 4 + 4 * ndim or raw[:4] != bytes([0, 0, 8, ndim]):
        raise SystemExit(f"{path} is not an IDX file of unsigned bytes with {ndim} dimension(s)")
    shape = struct.unpack(f">{ndim}I", raw[4:4 + 4 * ndim])
    values = np.frombuffer(raw, np.uint8, offset=4 + 4 * ndim)
    if values.size != np.prod(shape):
        raise SystemExit(f"{path} is damaged: it announces {shape} but holds {values.size} values")
    return values.reshape(shape)


def load(folder, part):
    pixels = read_idx(find(folder, f"{part}-images-idx3-ubyte"), 3)
    labels = read_idx(find(folder, f"{part}-labels-idx1-ubyte"), 1)
    return images(pixels[:, None] / np.float32(255), labels)


def main(argv=None):
    parser = arguments(__doc__.split("\n")[0], epochs=5, batch_size=64, lr=2e-3, out="fashion.safetensors")
    parser.add_argument("--data", default=DEBIAN, help="folder with the four IDX files, plain or gzip")
    options = parser.parse_args(argv)
    return run(MODELS[options.model], load(options.data, "train"), load(options.data, "t10k"), options)


if __name__ == "__main__":
    main(sys.argv[1:])
