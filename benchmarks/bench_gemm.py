"""Matrix products: training shapes in all transposes, small and batched ones, against MKL (torch), OpenBLAS (NumPy)
and XLA (jax.jit).

    python benchmarks/bench_gemm.py [--threads 2] [--cases "NT f64"] [--peers fastbp,torch] [--json gemm.json]

NN, NT, TN: how the operands lie in memory (T: transposed); M x K x N are the sizes of the product.
limit: multiply-adds in registers for as many operations, at the clock that products leave: after one of 1024 x 1024 x 1024 an
Intel Xeon (2 cores, AVX-512) does 160 GFLOP/s, and 200 again 5 ms later.  Each measurement of it is one of 0.5 ms behind
10 ms of fastbp's products (left out where there is no C compiler).
"""

import ctypes
import importlib
import math
import time

import numpy as np
from _peers import OURS, Job, limits, main

FEW = 8e7           # operations, 0.5 ms: the clock is still the product's, and the first 15 us, half as fast, are few

SHAPES = [(128, 128, 128), (64, 784, 256), (128, 784, 256), (256, 784, 256), (512, 784, 256), (128, 512, 512),
          (256, 256, 256), (768, 128, 384), (768, 128, 512), (768, 512, 128), (512, 512, 512), (1024, 1024, 1024)]
SMALL = [(8, 8, 8), (16, 16, 16), (32, 32, 32), (64, 64, 64), (1, 64, 64), (64, 64, 10), (32, 17, 64), (64, 64, 6)]
BATCHED = [(48, 64, 32, 64), (48, 64, 64, 32), (192, 16, 16, 16), (1024, 8, 8, 8), (16, 256, 64, 256)]


def cases():
    for dtype in ("f32", "f64"):
        for m, k, n in SHAPES:
            for way in ("NN", "NT", "TN"):
                yield {"name": f"{dtype} {way} {m}x{k}x{n}", "a": (m, k), "b": (k, n), "way": way}
        for m, k, n in SMALL:
            for way in ("NN", "NT", "TN"):
                yield {"name": f"{dtype} {way} small {m}x{k}x{n}", "a": (m, k), "b": (k, n), "way": way}
        for b, m, k, n in BATCHED:
            for way in ("NN", "NT", "TN"):
                yield {"name": f"{dtype} {way} batched {b}x{m}x{k}x{n}", "a": (b, m, k), "b": (b, k, n), "way": way}


def operands(case):
    """A and B as NumPy arrays whose memory lies as the case says."""
    random = np.random.default_rng(0)
    dtype = np.float32 if case["name"].startswith("f32") else np.float64
    out = []
    for shape, letter in ((case["a"], case["way"][0]), (case["b"], case["way"][1])):
        shape = tuple(shape)
        x = random.standard_normal(shape if letter == "N" else (*shape[:-2], shape[-1], shape[-2])).astype(dtype)
        out.append(x if letter == "N" else x.swapaxes(-1, -2))
    return out


def repeated(product, a, b):
    def measure(n):
        start = time.perf_counter()
        for _ in range(n):
            product(a, b)
        return {"product": (time.perf_counter() - start) / n}

    y = np.asarray(product(a, b))
    return Job([float(np.abs(y).sum()), float(y.ravel()[0]), float(y.ravel()[-1])], measure)


def torch_like(name):
    def build(case, threads) -> Job:
        torch = importlib.import_module(name)
        torch.set_num_threads(threads)
        a, b = (torch.tensor(np.ascontiguousarray(x if letter == "N" else x.swapaxes(-1, -2)))
                for x, letter in zip(operands(case), case["way"]))
        a, b = (x if letter == "N" else x.transpose(-1, -2) for x, letter in zip((a, b), case["way"]))
        return repeated(torch.matmul, a, b)

    return build


def numpy_builder(case, threads) -> Job:
    return repeated(np.matmul, *operands(case))


def jax_builder(case, threads) -> Job:
    import jax

    jax.config.update("jax_enable_x64", True)
    first, second = (letter == "T" for letter in case["way"])
    a, b = (jax.device_put(np.ascontiguousarray(x.swapaxes(-1, -2) if turned else x))
            for x, turned in zip(operands(case), (first, second)))
    product = jax.jit(lambda a, b: jax.numpy.matmul(a.mT if first else a, b.mT if second else b))
    return repeated(lambda a, b: product(a, b).block_until_ready(), a, b)


def limit(case, threads) -> Job:
    machine, products = limits(), torch_like(OURS)(case, threads)
    flops = 2 * math.prod(case["a"]) * case["b"][-1]
    wide = 1 if case["name"].startswith("f32") else 2       # lanes that a double takes

    def measure(n):
        until = time.perf_counter() + 0.010
        while time.perf_counter() < until:
            products.measure(1)
        return {"product": machine.multiply_add(ctypes.c_double(FEW * threads), threads) * wide * flops / (FEW * threads)}

    return Job(None, measure)


BUILDERS = {"limit": limit, "fastbp": torch_like("fastbp"), "torch": torch_like("torch"), "numpy": numpy_builder,
            "jax": jax_builder}
CASES = list(cases())

if __name__ == "__main__":
    main(__file__, "Matrix products", CASES, BUILDERS, rtol=1e-3)
