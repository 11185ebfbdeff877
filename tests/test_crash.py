"""kill -9 while checkpoints are written: the last complete one always loads, and training goes on bit-equal."""

import random
import signal
import subprocess
import sys
import textwrap
import time

import fastbp
import pytest

TRAINING = textwrap.dedent("""
    import os, sys
    import fastbp as torch
    from fastbp import nn, optim
    from fastbp.utils.data import DataLoader, TensorDataset

    path, last = sys.argv[1], int(sys.argv[2])
    torch.manual_seed(1)
    x, y = torch.randn(96, 8), torch.randint(0, 3, (96,))
    loader = DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True, generator=torch.Generator().manual_seed(5))
    model = nn.Sequential(nn.Linear(8, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 3))
    optimizer = optim.AdamW(model.parameters(), lr=0.01)
    scheduler = optim.lr_scheduler.CosineAnnealingLR(optimizer, 50)
    step = 0
    if os.path.exists(path):
        state = torch.load(path)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        scheduler.load_state_dict(state["scheduler"])
        loader.load_state_dict(state["loader"])
        torch.set_rng_state(state["rng"])
        step = state["step"]
    print("ready", flush=True)
    while step < last:
        for a, b in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(a), b).backward()
            optimizer.step()
            scheduler.step()
            step += 1
            print(step, flush=True)
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict(),
                        "loader": loader.state_dict(), "rng": torch.get_rng_state(), "step": step}, path)
            if step == last:
                break
""")


def started(path, last):
    child = subprocess.Popen([sys.executable, "-c", TRAINING, str(path), str(last)], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "ready\n"
    return child


def flat(state):
    """All tensors and numbers of a checkpoint, as bytes."""
    if isinstance(state, fastbp.Tensor):
        return [state.numpy().tobytes()]
    if isinstance(state, dict):
        return [part for key in state for part in (repr(key).encode(), *flat(state[key]))]
    if isinstance(state, (list, tuple)):
        return [part for item in state for part in flat(item)]
    return [repr(state).encode()]


@pytest.mark.parametrize("kills", [4, pytest.param(200, marks=pytest.mark.slow)])
def test_kill_at_random_moments(tmp_path, kills):
    path, chance = tmp_path / "checkpoint.pt", random.Random(kills)
    step = interrupted = 0
    for _ in range(kills):
        child = started(path, 1_000_000)
        for _ in range(chance.randrange(2, 5)):         # so many steps, and into the writing of the last one's file
            began = time.perf_counter()
            child.stdout.readline()
        time.sleep(chance.random() * min(time.perf_counter() - began, 0.1))
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
        child.stdout.close()
        interrupted += bool(list(tmp_path.glob(".checkpoint.pt.*.tmp")))
        for half_written in tmp_path.glob(".checkpoint.pt.*.tmp"):
            half_written.unlink()
        if path.exists():
            now = fastbp.load(path)["step"]         # loads whole: every record's checksum is compared
            assert now >= step
            step = now
    last = step + 3
    other = tmp_path / "other.pt"
    for target in (path, other):                    # the rest of the interrupted training; one that never was interrupted
        child = started(target, last)
        child.communicate()
        assert child.returncode == 0
    assert flat(fastbp.load(path)) == flat(fastbp.load(other))
    if kills > 100:
        assert step >= kills and interrupted > 5           # it was killed while it trained, and while it wrote
