"""Ways of the matrix product that differ in how operands are moved: the bits must not."""

import fastbp as torch
import numpy as np
import pytest


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("m", [40, 128])
@pytest.mark.parametrize("n", [1, 7, 9, 17, 31, 33, 100, 250, 512, 1000, 1023, 1024])
@pytest.mark.parametrize("k", [3, 64, 70, 301])
def test_rows_a_page_apart_give_the_same_bits(dtype, m, n, k):
    """B whose rows lie a multiple of 4096 bytes apart is packed row by row, any other by the first tiles."""
    random = np.random.default_rng(n)
    a = torch.tensor(random.standard_normal((m, k)).astype(dtype))
    wide = random.standard_normal((k, 1024)).astype(dtype)
    page = torch.tensor(wide)[:, :n]
    other = torch.tensor(np.concatenate([wide, wide[:, :24]], 1))[:, :n]
    assert page.stride() == (1024, 1) and other.stride() == (1048, 1)
    result = (a @ page).numpy()
    assert np.array_equal(result, (a @ other).numpy())
    close = 1e-4 if dtype is np.float32 else 1e-11
    np.testing.assert_allclose(result, a.numpy().astype(np.float64) @ wide[:, :n], rtol=0, atol=close)
