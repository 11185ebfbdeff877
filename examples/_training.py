"""What the two training programs share: the loop, the test, and the proof that saved weights are the weights.

The programs beside this file bring the data and the models. Everything here is PyTorch's way of writing it:
with `import torch as fastbp` it runs there too, with the same numbers up to rounding (weights are then saved
in PyTorch's own format instead of safetensors).
"""

import argparse
import time

import fastbp
import numpy as np
from fastbp import nn, optim
from fastbp.nn import functional as F
from fastbp.utils.data import DataLoader, TensorDataset
from tqdm import tqdm


def arguments(description, *, epochs, batch_size, lr, out):
    """The command line that both programs understand; `parse_args` it after adding what one of them needs alone."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--model", choices=["mlp", "cnn"], default="mlp", help="which network to train")
    parser.add_argument("--epochs", type=int, default=epochs, help="passes over the training set")
    parser.add_argument("--batch-size", type=int, default=batch_size, help="images in a step")
    parser.add_argument("--lr", type=float, default=lr, help="learning rate of Adam; falls to zero over the run")
    parser.add_argument("--seed", type=int, default=0, help="of the initial weights and the order of the images")
    parser.add_argument("--out", default=out, help="file for the trained weights (safetensors)")
    return parser


def images(pixels, labels):
    """Pixels in [0, 1], [N, 1, H, W], and class numbers as a dataset of (float32, int64) tensors."""
    pixels = np.ascontiguousarray(pixels, dtype=np.float32)
    return TensorDataset(fastbp.from_numpy(pixels), fastbp.from_numpy(labels.astype(np.int64)))


def evaluate(model, dataset, batch_size=1000):
    """Scores of every image of the dataset, [N, classes], and the share that is classified rightly."""
    model.eval()
    with fastbp.no_grad():
        scores = fastbp.cat([model(x) for x, _ in DataLoader(dataset, batch_size=batch_size)])
    model.train()
    labels = dataset.tensors[1]
    return scores, (scores.argmax(1) == labels).sum().item() / len(labels)


def train(model, dataset, *, epochs, batch_size, lr):
    """Minimise the cross entropy with Adam; returns the seconds it took."""
    optimizer = optim.Adam(model.parameters(), lr=lr)
    loader = DataLoader(dataset, batch_size=batch_size, shuffle=True)
    steps = epochs * len(loader)
    step = 0
    start = time.perf_counter()
    with tqdm(total=steps, unit="step") as bar:
        for epoch in range(1, epochs + 1):
            seen = right = total = 0
            for x, y in loader:
                for group in optimizer.param_groups:
                    group["lr"] = lr * (1 - step / steps)
                scores = model(x)                       # forward: the graph is recorded while it computes
                loss = F.cross_entropy(scores, y)
                optimizer.zero_grad()
                loss.backward()                         # backward: every parameter's .grad
                optimizer.step()                        # update: all parameters in one compiled pass
                seen += len(y)
                total += loss.item() * len(y)
                right += (scores.argmax(1) == y).sum().item()
                progress = f"epoch {epoch}  loss {total / seen:.4f}  accuracy {right / seen:.2%}"
                bar.set_postfix_str(progress, refresh=False)
                bar.update()
                step += 1
    return time.perf_counter() - start


def run(build, training, test, options):
    """Train, test, save, load into a fresh model, compare; returns the test accuracy."""
    fastbp.manual_seed(options.seed)
    model = build()
    print(model)
    count = sum(p.numel() for p in model.parameters())
    print(f"{len(training)} training images, {len(test)} test images, {count} parameters")

    seconds = train(model, training, epochs=options.epochs, batch_size=options.batch_size, lr=options.lr)
    scores, accuracy = evaluate(model, test)
    print(f"test accuracy {accuracy:.2%}, trained in {seconds:.2f} s, "
          f"{options.epochs * len(training) / seconds:,.0f} samples/s")

    fastbp.save(model.state_dict(), options.out)
    fresh = build()
    fresh.load_state_dict(fastbp.load(options.out))
    again, _ = evaluate(fresh, test)
    if not fastbp.equal(scores, again):
        raise SystemExit(f"the model loaded from {options.out} predicts something else than the one that was saved")
    print(f"weights saved to {options.out}; a fresh model loaded from it predicts exactly the same")
    return accuracy


def mlp(size, hidden, classes):
    """Fully connected: size -> hidden[0] -> ... -> classes, with ReLU between."""
    layers, n = [nn.Flatten()], size
    for m in hidden:
        layers += [nn.Linear(n, m), nn.ReLU()]
        n = m
    return nn.Sequential(*layers, nn.Linear(n, classes))
