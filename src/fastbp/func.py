"""Floor 3: composable function transforms with the names of torch.func."""

from fastbp.autograd import forward_ad

__all__ = ["jvp"]


def jvp(func, primals, tangents, *, strict=False, has_aux=False):
    """The value of a function and its derivative along a direction, in one forward pass.

    Formula: (f(x), f'(x) t)
    Args: primals, tangents: tuples of Tensors of equal shapes; has_aux: func returns (output, aux).
    Returns: (output, derivative) or (output, derivative, aux); outputs may be tuples.
    Source: torch.func.jvp
    """
    with forward_ad.dual_level():
        output = func(*[forward_ad.make_dual(p, t) for p, t in zip(primals, tangents)])
        aux = ()
        if has_aux:
            output, aux = output[0], (output[1],)

        def split(y):
            if isinstance(y, (tuple, list)):
                parts = [split(e) for e in y]
                return tuple(p for p, _ in parts), tuple(t for _, t in parts)
            primal, tangent = forward_ad.unpack_dual(y)
            return primal, primal.new_zeros(primal.shape) if tangent is None else tangent
        value, derivative = split(output)
    return (value, derivative, *aux)
