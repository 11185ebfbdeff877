"""A few random calls of every operation against PyTorch, where it is installed: tests/fuzz_torch.py has the rest."""

import pytest

pytestmark = pytest.mark.slow


def test_random_calls_agree_with_torch():
    pytest.importorskip("torch")
    import fuzz_torch

    found = []
    fuzz_torch.fuzz(fuzz_torch.CASES, 3, 0, lambda name, k, stage, what, text, count: found.append((name, k, stage, what)))
    assert not found
