"""Train a network on 1,797 real handwritten digits (8 x 8 pixels, from scikit-learn) and test it on a fifth of them.

    pip install "fastbp[examples]"
    python examples/train_digits.py                 # a multilayer perceptron
    python examples/train_digits.py --model cnn     # a small convolutional network
"""

import sys

import numpy as np
from _training import arguments, images, mlp, run
from fastbp import nn
from sklearn.datasets import load_digits


def cnn():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),         # 16 x 4 x 4
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),        # 32 x 2 x 2
        nn.Flatten(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10),
    )


MODELS = {"mlp": lambda: mlp(64, (256, 128), 10), "cnn": cnn}


def load():
    """Training and test images: a fixed split, which does not depend on --seed."""
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    pixels = digits.images[order][:, None] / 16.0
    labels = digits.target[order]
    held_out = len(labels) // 5
    return images(pixels[held_out:], labels[held_out:]), images(pixels[:held_out], labels[:held_out])


def main(argv=None):
    options = arguments(__doc__.split("\n")[0], epochs=30, batch_size=32, lr=2e-3,
                        out="digits.safetensors").parse_args(argv)
    return run(MODELS[options.model], *load(), options)


if __name__ == "__main__":
    main(sys.argv[1:])
