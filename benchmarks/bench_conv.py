"""Convolution, pooling and batch norm, one layer at a time: forward, gradient by the input, gradient by the weight.

    python benchmarks/bench_conv.py [--threads 2] [--cases lenet] [--peers fastbp,torch] [--json conv.json]

The shapes are those of the layers of networks that people train on CPUs: LeNet (28 x 28), ResNet-8 (32 x 32), ResNet-18
(64 x 64), blocks of MobileNet and ResNeXt, temporal and volume convolutions. torch and fastbp run the same code; `torch-cl`
is torch with its channels_last layout for images. A gradient is what `autograd.grad` of one argument takes, the graph kept.
"""

import importlib
import time

import numpy as np
from _peers import Job, main

# name: batch x channels x sizes -> outputs, kernel, and what differs from stride 1, padding k // 2
CONVOLUTIONS = [
    ("lenet 1>6 k5 28", (64, 1, 28, 28), (6, 1, 5, 5), {"padding": 2}),
    ("lenet 6>16 k5 14", (64, 6, 14, 14), (16, 6, 5, 5), {}),
    ("resnet8 3>16 k3 32", (32, 3, 32, 32), (16, 3, 3, 3), {"padding": 1}),
    ("resnet8 16>16 k3 32", (32, 16, 32, 32), (16, 16, 3, 3), {"padding": 1}),
    ("resnet8 16>32 k3 s2 32", (32, 16, 32, 32), (32, 16, 3, 3), {"padding": 1, "stride": 2}),
    ("resnet8 16>32 k1 s2 32", (32, 16, 32, 32), (32, 16, 1, 1), {"stride": 2}),
    ("resnet8 32>32 k3 16", (32, 32, 16, 16), (32, 32, 3, 3), {"padding": 1}),
    ("resnet8 32>64 k3 s2 16", (32, 32, 16, 16), (64, 32, 3, 3), {"padding": 1, "stride": 2}),
    ("resnet8 32>64 k1 s2 16", (32, 32, 16, 16), (64, 32, 1, 1), {"stride": 2}),
    ("resnet8 64>64 k3 8", (32, 64, 8, 8), (64, 64, 3, 3), {"padding": 1}),
    ("resnet18 3>64 k7 s2 64", (8, 3, 64, 64), (64, 3, 7, 7), {"padding": 3, "stride": 2}),
    ("resnet18 64>64 k3 16", (8, 64, 16, 16), (64, 64, 3, 3), {"padding": 1}),
    ("resnet18 64>128 k3 s2 16", (8, 64, 16, 16), (128, 64, 3, 3), {"padding": 1, "stride": 2}),
    ("resnet18 64>128 k1 s2 16", (8, 64, 16, 16), (128, 64, 1, 1), {"stride": 2}),
    ("resnet18 128>128 k3 8", (8, 128, 8, 8), (128, 128, 3, 3), {"padding": 1}),
    ("resnet18 256>256 k3 4", (8, 256, 4, 4), (256, 256, 3, 3), {"padding": 1}),
    ("resnet18 512>512 k3 2", (8, 512, 2, 2), (512, 512, 3, 3), {"padding": 1}),
    ("mobile 3>32 k3 s2 64", (8, 3, 64, 64), (32, 3, 3, 3), {"padding": 1, "stride": 2}),
    ("mobile dw32 k3 32", (8, 32, 32, 32), (32, 1, 3, 3), {"padding": 1, "groups": 32}),
    ("mobile 32>64 k1 32", (8, 32, 32, 32), (64, 32, 1, 1), {}),
    ("mobile dw64 k3 s2 32", (8, 64, 32, 32), (64, 1, 3, 3), {"padding": 1, "stride": 2, "groups": 64}),
    ("mobile dw128 k3 16", (8, 128, 16, 16), (128, 1, 3, 3), {"padding": 1, "groups": 128}),
    ("mobile 128>128 k1 16", (8, 128, 16, 16), (128, 128, 1, 1), {}),
    ("mobile dw128 k5 16", (8, 128, 16, 16), (128, 1, 5, 5), {"padding": 2, "groups": 128}),
    ("mobile dw256 k3 8", (8, 256, 8, 8), (256, 1, 3, 3), {"padding": 1, "groups": 256}),
    ("mobile 256>256 k1 8", (8, 256, 8, 8), (256, 256, 1, 1), {}),
    ("mobile 512>512 k1 4", (8, 512, 4, 4), (512, 512, 1, 1), {}),
    ("resnext 128 g32 k3 16", (8, 128, 16, 16), (128, 4, 3, 3), {"padding": 1, "groups": 32}),
    ("grouped 64 g4 k3 16", (8, 64, 16, 16), (64, 16, 3, 3), {"padding": 1, "groups": 4}),
    ("32>64 k5 14", (16, 32, 14, 14), (64, 32, 5, 5), {"padding": 2}),
    ("dilated 32>32 k3 d2 32", (8, 32, 32, 32), (32, 32, 3, 3), {"padding": 2, "dilation": 2}),
    ("1d 32>32 k3 d4 256", (32, 32, 256), (32, 32, 3), {"padding": 4, "dilation": 4}),
    ("1d 1>16 k7 s2 1024", (32, 1, 1024), (16, 1, 7), {"padding": 3, "stride": 2}),
    ("3d 8>16 k3 16", (4, 8, 16, 16, 16), (16, 8, 3, 3, 3), {"padding": 1}),
    ("transposed 64>32 k4 s2 8", (16, 64, 8, 8), (64, 32, 4, 4), {"padding": 1, "stride": 2}),
    ("transposed 32>3 k4 s2 16", (16, 32, 16, 16), (32, 3, 4, 4), {"padding": 1, "stride": 2}),
]
# a layer without weights that gradients are timed for: name, input, function of (torch-like module, tensor)
LAYERS = [
    ("max_pool 2 lenet", (64, 6, 28, 28), lambda F, x: F.max_pool2d(x, 2)),
    ("max_pool 3 s2 p1 resnet18", (8, 64, 32, 32), lambda F, x: F.max_pool2d(x, 3, 2, 1)),
    ("max_pool 2 large", (32, 64, 56, 56), lambda F, x: F.max_pool2d(x, 2)),
    ("avg_pool 2", (32, 64, 32, 32), lambda F, x: F.avg_pool2d(x, 2)),
    ("avg_pool 3 s1 p1", (8, 64, 32, 32), lambda F, x: F.avg_pool2d(x, 3, 1, 1)),
    ("adaptive_avg_pool 1", (32, 256, 8, 8), lambda F, x: F.adaptive_avg_pool2d(x, 1)),
    ("relu", (32, 16, 32, 32), lambda F, x: F.relu(x)),
    ("batch_norm eval 16x32x32", (32, 16, 32, 32),
     lambda F, x: F.batch_norm(x, x.detach()[0, :, 0, 0], x.detach()[0, :, 0, 1] ** 2)),
]
NORMS = [("batch_norm 16x32x32", (32, 16, 32, 32)), ("batch_norm 32x16x16", (32, 32, 16, 16)),
         ("batch_norm 64x8x8", (32, 64, 8, 8)), ("batch_norm 64x56x56", (32, 64, 56, 56)),
         ("batch_norm 256 rows", (256, 256))]

CASES = [
    *({"name": f"f32 {name}", "kind": "conv", "x": x, "w": w, "options": options} for name, x, w, options in CONVOLUTIONS),
    *({"name": f"f32 {name}", "kind": "norm", "x": x} for name, x in NORMS),
    *({"name": f"f32 {name}", "kind": "layer", "x": x} for name, x, _ in LAYERS),
    *({"name": f"f64 {name}", "kind": "conv", "x": x, "w": w, "options": options} for name, x, w, options in CONVOLUTIONS
      if name in ("lenet 6>16 k5 14", "resnet8 16>16 k3 32", "resnet8 32>64 k3 s2 16", "mobile dw64 k3 s2 32",
                  "mobile 128>128 k1 16")),
]


def torch_like(name, channels_last=False):
    def build(case, threads) -> Job:
        torch = importlib.import_module(name)
        torch.set_num_threads(threads)
        F = torch.nn.functional
        random = np.random.default_rng(0)
        dtype = np.float64 if case["name"].startswith("f64") else np.float32

        def tensor(shape, scale=1.0):
            t = torch.tensor((random.standard_normal(shape) * scale).astype(dtype))
            if channels_last and len(shape) == 4:
                t = t.to(memory_format=torch.channels_last)
            return t.requires_grad_(True)

        x = tensor(case["x"])
        if case["kind"] == "conv":
            w = tensor(case["w"], 1 / np.prod(case["w"][1:]) ** 0.5)
            nd = len(case["x"]) - 2
            conv = getattr(F, f"conv_transpose{nd}d" if "transposed" in case["name"] else f"conv{nd}d")

            def forward():
                return conv(x, w, None, **case["options"])
        elif case["kind"] == "norm":
            w = torch.ones(case["x"][1], requires_grad=True)
            b = torch.zeros(case["x"][1], requires_grad=True)

            def forward():
                return F.batch_norm(x, None, None, w, b, training=True)
        else:
            w = None
            function = next(f for n, _, f in LAYERS if case["name"].endswith(n))

            def forward():
                return function(F, x)

        y = forward()
        v = torch.tensor(random.standard_normal(tuple(y.shape)).astype(dtype))
        if channels_last and v.ndim == 4:
            v = v.to(memory_format=torch.channels_last)
        wanted = {"norm": {"by all": (x, w)}, "layer": {"by x": (x,)}}.get(case["kind"], {"by x": (x,), "by w": (w,)})
        values = [(y * v).sum().item()]
        for arguments in wanted.values():
            for g in torch.autograd.grad(y, arguments, v, retain_graph=True):
                values.append((g * g).sum().item())

        def measure(n):
            seconds = {}
            start = time.perf_counter()
            for _ in range(n):
                forward()
            seconds["forward"] = (time.perf_counter() - start) / n
            for phase, arguments in wanted.items():
                start = time.perf_counter()
                for _ in range(n):
                    torch.autograd.grad(y, arguments, v, retain_graph=True)
                seconds[phase] = (time.perf_counter() - start) / n
            return seconds

        return Job(values, measure)

    return build


BUILDERS = {"fastbp": torch_like("fastbp"), "torch": torch_like("torch"), "torch-cl": torch_like("torch", True)}

if __name__ == "__main__":
    main(__file__, "Layers of convolutional networks", CASES, BUILDERS, rtol=2e-3)
