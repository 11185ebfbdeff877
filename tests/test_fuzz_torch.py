"""A few random calls of every operation against PyTorch, where it is installed: tests/fuzz_torch.py has the rest."""

import pytest

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("mode", [None, "half", "out", "inplace", "numbers"])
def test_random_calls_agree_with_torch(mode):
    pytest.importorskip("torch")
    import fuzz_torch

    found = []
    names, rounds = (fuzz_torch.NUMBERS, 50) if mode == "numbers" else (fuzz_torch.CASES, 4 if mode else 3)
    fuzz_torch.fuzz(names, rounds, 0, lambda name, k, stage, what, text, count: found.append((name, k, stage, what)),
                    compare=fuzz_torch.MODES.get(mode, fuzz_torch.compare))
    assert not found
