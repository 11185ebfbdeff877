# Errors: one door from a broken rule or a kernel's status to an exception.
# Message = operation, argument with its shape and dtype, the rule broken, the remedy.  All checks come before kernels run.


class ShapeError(ValueError, RuntimeError):
    """Shapes that do not fit the operation."""


class DTypeError(TypeError, RuntimeError):
    """A dtype that the operation does not take."""


class GraphError(RuntimeError):
    """The graph cannot be differentiated as asked: freed, overwritten, not scalar, not connected."""


class BatchError(GraphError):
    """vmap cannot do all examples at once: no batching rule, or a number is asked of a whole batch."""


class ReplayError(RuntimeError):
    """A recorded program cannot be replayed for this call."""


class ReplayBusy(ReplayError):
    """A program is running already, in another thread or above."""


cdef str describe(object x):
    """`float32[3, 4]`: a tensor as messages name it."""
    cdef Tensor t
    if isinstance(x, Tensor):
        t = x
        return f"{(<dtype>DTYPES[t.code]).name}{list(t.shape)}"
    return f"{type(x).__name__} {x!r}"[:80]


cdef str op_name(int op):
    return (<bytes>OPS[op].name).decode()


cdef object fail_status(int status, Instr* I):
    name = op_name(I.op) if I.op >= 0 else "operation"
    if status == ST_INDEX:
        raise IndexError(f"{name}: an index lies outside its dimension; indices must be in [-size, size).")
    if status == ST_NOMEM:
        raise MemoryError(f"{name}: no memory for the workspace of {I.workspace} bytes.")
    raise DTypeError(f"{name}: no kernel for this dtype; convert with .to(dtype) or .float().")


cdef object fail_dim(str op, int64_t dim, int nd):
    raise IndexError(f"{op}: dim {dim} is out of range for a tensor of {nd} dimensions; "
                     f"it must be in [{-py.max(nd, 1)}, {py.max(nd, 1) - 1}].")
