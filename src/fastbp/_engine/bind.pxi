# The last chapter: the table meets the engine.  Fills what the engine knows of each row, binds the rules' namespace to the
# engine's functions, makes the doors of composed rows, and installs the methods that are not printed into the class.

cdef extern from "Python.h":
    object PyInstanceMethod_New(object f)
    void PyType_Modified(PyTypeObject*)


cdef install_method(str name, function):
    """Make `tensor.name(...)` call `function(tensor, ...)`."""
    t = <object>(<PyTypeObject*>Tensor).tp_dict
    t[name] = PyInstanceMethod_New(function)
    PyType_Modified(<PyTypeObject*>Tensor)


class _Namespace:
    """The functions that rules and compositions call as F.name."""


cdef _cast_method(object d):
    @cython.binding(True)
    def cast(Tensor self not None, memory_format=None):
        return c_cast(self, d)
    cast.__doc__ = f"Converted to {d.name}.  memory_format: ignored.  Returns self if it is that, else a new one that lies as it."
    return cast


cdef _composed_door(row):
    """The public function of a composed row: its composition, with the row's name and documentation."""
    from types import FunctionType
    f = row.composition
    g = FunctionType(f.__code__, f.__globals__, row.name, f.__defaults__, f.__closure__)
    g.__kwdefaults__ = f.__kwdefaults__
    g.__doc__ = _documentation(row)
    g.__module__ = "fastbp"
    g.__qualname__ = row.name
    return g


cdef _numpy_door(door, row):
    """A composed row's function that also takes NumPy's names of keywords, as PyTorch's do."""
    names = {a.name for a in row.arguments}
    if "dim" not in names or "axis" in names:
        return door

    @cython.binding(True)
    def call(*args, **kwargs):
        if kwargs:
            if "axis" in kwargs:
                kwargs["dim"] = kwargs.pop("axis")
            if "keepdims" in kwargs:
                kwargs["keepdim"] = kwargs.pop("keepdims")
        return door(*args, **kwargs)
    call.__name__ = call.__qualname__ = door.__name__
    call.__doc__ = door.__doc__
    call.__module__ = "fastbp"
    call.__wrapped__ = door
    return call


cdef _out_door(door, out_):
    """A composed row's function with PyTorch's `out=`."""
    cdef bint apart_ = out_ == "apart"

    @cython.binding(True)
    def call(*args, out=None, **kwargs):
        if apart_ and out is not None:
            for t in (out if isinstance(out, (tuple, list)) else (out,)):
                check_apart(door.__name__, t, args)
        y = door(*args, **kwargs)
        if out is None:
            return y
        if isinstance(y, tuple):
            check_outs(door.__name__, y, out)
            for t, result in zip(out, y):
                into(result, t)
            return type(y)(*out) if hasattr(y, "_fields") else tuple(out)
        return into(y, out)
    call.__name__ = call.__qualname__ = door.__name__
    call.__doc__ = door.__doc__
    call.__module__ = "fastbp"
    call.__wrapped__ = door
    return call


cdef check_outs(str op, values, out):
    """out= of several results: as many tensors, of the results' dtypes."""
    if not isinstance(out, (tuple, list)) or len(out) != len(values):
        raise ValueError(f"{op}: out must be a tuple of {len(values)} tensors.")
    for t, y in zip(out, values):
        if not isinstance(t, Tensor) or (<Tensor>t).code != (<Tensor>y).code:
            raise DTypeError(f"{op}: out {describe(t)} must have the dtype of the result {describe(y)}.")


cdef _inplace_door(door, str name):
    """A row's in-place method: the result written into self."""
    @cython.binding(True)
    def call(self, *args, **kwargs):
        if GRAD_MODE and any_tracked((self, *args)):    # what the backward pass reads must not be what is overwritten
            before = c_clone(self)
            args = [before if a is self else a for a in args]
        else:
            before = self
        return overwrite(name + "_", self, door(before, *args, **kwargs))
    call.__name__ = call.__qualname__ = name + "_"
    call.__doc__ = f"In-place version of `{name}`; returns self."
    call.__module__ = "fastbp"
    call.__wrapped__ = door
    return call


cdef bint alias_is_method(row, str alias):
    """`linalg_det` is no method, its other name `det` is one."""
    return alias[:7] != "linalg_" and (row.method or row.name[:7] == "linalg_")


cdef _bind():
    global_names = globals()
    fill_ops()
    _compile_rules()
    install_objects()
    _install_new()
    namespace = _Namespace()
    op = -1
    external_op = N_OP - 1
    for row in _TABLE.values():
        if row.kind == "external":
            external_op += 1
            CALLS[external_op] = external_door(external_op, row)
            setattr(namespace, row.name, CALLS[external_op])
        elif row.kind == "composed":
            door = _composed_door(row)
            setattr(namespace, row.name, door)
            door = _numpy_door(door, row)
            if row.function:
                global_names[row.name] = _out_door(door, row.out) if row.out else door
            if row.method:
                install_method(row.name, door)
                if row.inplace:
                    install_method(row.name + "_", _inplace_door(door, row.name))
        else:
            op += 1
            door = global_names.get(row.name) if row.wrapper is not None or row.kind == "pointwise" else None
            raw = global_names.get("_call_" + row.name)
            if raw is not None:
                CALLS[op] = raw
            setattr(namespace, row.name, raw if door is None or (raw is not None and row.kind == "pointwise") else door)
            if row.inplace and row.kind != "pointwise":
                install_method(row.name + "_", _inplace_door(raw, row.name))
            if row.wrapper is not None and row.method and door is not None and row.name not in ("clone",):
                install_method(row.name, door)
        for alias in row.aliases:
            if row.function and row.name in global_names:
                global_names[alias] = global_names[row.name]
            if alias_is_method(row, alias) and row.name in global_names:
                install_method(alias, global_names[row.name])
                if row.inplace and hasattr(Tensor, row.name + "_"):
                    (<object>(<PyTypeObject*>Tensor).tp_dict)[alias + "_"] = getattr(Tensor, row.name + "_")
                    PyType_Modified(<PyTypeObject*>Tensor)
    for f in (narrow, select, unbind, split, chunk, flatten, unflatten, expand_as, view_as, reshape_as, movedim, repeat, tile,
              broadcast_to, max, min, mm, bmm, mv, dot, scatter, index_put, index_put_, nonzero, fill_, zero_, copy_, to, type_as,
              cpu, cuda, new_tensor, new_zeros, new_ones, new_empty, new_full, scatter_, scatter_add_, index_add_, index_copy_,
              unfold, transpose_, t_, squeeze_, unsqueeze_, as_strided_, uniform_, normal_, bernoulli_, random_, exponential_,
              geometric_, log_normal_, cauchy_, bernoulli, multinomial, isclose, allclose, equal, clamp_, div_,
              logsumexp_any):
        install_method("logsumexp" if f is logsumexp_any else f.__name__, f)
    install_method("clip_", clamp_)
    install_method("type", type_)
    install_method("divide_", div_)
    install_method("true_divide_", div_)
    for name, f in (("__div__", div), ("__idiv__", div_), ("__rdiv__", _rdiv), ("where", _where_method),
                    ("polygamma_", polygamma_), ("round_", round_), ("bitwise_not_", bitwise_not_)):
        install_method(name, f)
    install_method("swapaxes_", transpose_)
    install_method("swapdims_", transpose_)
    for name, d in (("float", float32), ("double", float64), ("long", int64), ("int", int32), ("short", int16), ("char", int8),
                    ("byte", uint8), ("bool", bool_), ("half", float16), ("bfloat16", bfloat16)):
        install_method(name, _cast_method(d))
    for name, value in list(global_names.items()):      # compositions may use all that the core has
        if name[0] != "_" and not hasattr(namespace, name):
            setattr(namespace, name, value)
    for name, row in _TABLE.items():
        if row.ref is not None and row.name in global_names:
            UFUNCS[row.ref] = getattr(namespace, row.name)
    namespace.lin_alg_error = _lin_alg_error
    namespace.recording = _recording
    _F.bind(namespace)


def _rdiv(Tensor self not None, other):
    return div(other, self)


def _where_method(Tensor self not None, condition, other):
    """self where condition is true, else other; all three broadcast.  Returns a new tensor of the promoted dtype."""
    return where(condition, self, other)


def div_(Tensor self not None, other, *, rounding_mode=None):
    """In-place version of `div`; returns self."""
    if rounding_mode is None:
        return inplace(OP_div, (self, other), ())
    return overwrite("div_", self, div(c_clone(self), other, rounding_mode=rounding_mode))


def logsumexp_any(Tensor input not None, dim, bint keepdim=False):
    """y = log(sum(exp(input))) over dimensions, stable.

    dim: int or ints; keepdim: keep what was reduced as size 1.  Returns a new tensor.
    """
    return c_logsumexp(input, dim, keepdim)


def _config():
    """What this build chose on this machine: instruction set, threads, versions."""
    import numpy
    return {"isa": _isa, "threads": THREADS, "openmp": bool(FASTBP_OPENMP), "processors": os.cpu_count(),
            "default_dtype": DTYPES[DEFAULT_FLOAT].name, "cache_limit_bytes": CACHE_LIMIT,
            "python": sys.version.split()[0], "numpy": numpy.__version__}


_bind()

__all__ = [name for name in list(globals()) if not name.startswith("_") and name not in
           ("py", "os", "sys", "bool_", "logsumexp_any", "restore_dims", "drop_dims", "fit", "fill_flat", "check_reduction",
            "check_classes", "check_same_shape", "cross_entropy_classes", "composition_gradient", "t_")
           and not name.endswith("_")]
