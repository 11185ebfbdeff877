"""Floor 3: PyTorch's old names of tensors by dtype: `FloatTensor(2, 3)`, `isinstance(x, LongTensor)`, `x.type(DoubleTensor)`."""

from fastbp._core import (
    Tensor,
    bfloat16,
    bool_,
    float16,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    set_default_dtype,
    uint8,
)

__all__ = [
    "BFloat16Tensor", "BoolTensor", "ByteTensor", "CharTensor", "DoubleTensor", "FloatTensor", "HalfTensor", "IntTensor",
    "LongTensor", "ShortTensor", "set_default_tensor_type",
]


class _OfDtype(type):
    """The class of those names: makes and recognises tensors of one dtype."""

    def __call__(cls, *data):
        if len(data) == 1 and isinstance(data[0], Tensor):
            if data[0].dtype != cls.dtype:
                raise TypeError(f"{cls.__name__}: expected a tensor of {cls.dtype}, got one of {data[0].dtype}; use .to()")
            return data[0].detach()
        from fastbp._core import empty, tensor
        if len(data) == 1 and not isinstance(data[0], int):
            # a Size is a shape; any other sequence, or an array, is data
            return empty(*data, dtype=cls.dtype) if type(data[0]).__name__ == "Size" else tensor(data[0], dtype=cls.dtype)
        return empty(data if data else (0,), dtype=cls.dtype)

    def __instancecheck__(cls, instance):
        return isinstance(instance, Tensor) and instance.dtype == cls.dtype

    def __repr__(cls):
        return f"<class 'torch.{cls.__name__}'>"


def _old(name, dtype):
    return _OfDtype(name, (), {"__module__": "torch", "__doc__": f"Tensors of {dtype}: the old constructor.", "dtype": dtype})


FloatTensor, DoubleTensor = _old("FloatTensor", float32), _old("DoubleTensor", float64)
HalfTensor, BFloat16Tensor = _old("HalfTensor", float16), _old("BFloat16Tensor", bfloat16)
LongTensor, IntTensor, ShortTensor = _old("LongTensor", int64), _old("IntTensor", int32), _old("ShortTensor", int16)
CharTensor, ByteTensor, BoolTensor = _old("CharTensor", int8), _old("ByteTensor", uint8), _old("BoolTensor", bool_)


def set_default_tensor_type(t):
    """Sets the default dtype by an old name: `FloatTensor`, `DoubleTensor`, or "torch.DoubleTensor"."""
    if isinstance(t, str):
        found = globals().get(t.rpartition(".")[2])
        if "cuda" in t or not isinstance(found, _OfDtype):
            raise TypeError(f"set_default_tensor_type: {t!r} is no type of CPU tensors, such as 'torch.DoubleTensor'")
        t = found
    set_default_dtype(t.dtype)
