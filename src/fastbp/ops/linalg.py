"""Floor 0: the matrix products.  Each is linear in every one of its arguments; all run through one GEMM kernel."""

from ._declare import F, composed, linear

linear("matmul(Tensor input, Tensor other)", {"input": "bw_matmul", "other": "bw_matmul"}, kernels=("gemm",),
       doc="Matrix product with PyTorch's rules for vectors and batches.  y = input @ other")
linear("linear(Tensor input, Tensor weight, Tensor? bias=None)",
       {"input": "bw_linear", "weight": "bw_linear", "bias": "bw_linear"}, kernels=("gemm",), method=False,
       doc="Affine map of the last dimension, the bias added in the product's epilogue.  y = input @ weight.T + bias")


def _addmm(input, mat1, mat2, *, beta=1, alpha=1):
    y = F.matmul(mat1, mat2)
    y = y if alpha == 1 else y * alpha
    return y if beta == 0 else y + (input if beta == 1 else input * beta)


def _outer(input, vec2):
    return input.reshape(-1, 1) * vec2.reshape(1, -1)


composed("addmm(Tensor input, Tensor mat1, Tensor mat2, *, Scalar beta=1, Scalar alpha=1)", _addmm,
         doc="y = beta * input + alpha * mat1 @ mat2")
composed("baddbmm(Tensor input, Tensor batch1, Tensor batch2, *, Scalar beta=1, Scalar alpha=1)", _addmm,
         doc="y = beta * input + alpha * batch1 @ batch2")
composed("outer(Tensor input, Tensor vec2)", _outer, aliases=("ger",), doc="Outer product.  y[i, j] = input[i] * vec2[j]")
