# Floor 2, the core: one extension of many chapters, so that everything on the per-operation path inlines.
#
# The map.  Each chapter opens with a paragraph that says what it holds and what may be touched.
#   errors      status code or broken rule -> exception that names operation, argument, shapes, remedy
#   machine     the instruction set chosen, the number of threads, the fork guard
#   team        the threads, the only parallel region
#   storage     aligned memory, the caching allocator, versions
#   dtype       dtypes and PyTorch's promotion rules; the names of devices
#   watch       times of instructions, a word for each node, for those who look on
#   program     the instruction door: every kernel that runs goes through `execute`
#   tape        Node: what the backward pass needs of one operation
#   tensor      Tensor: shape, strides, views; the doors to Python
#   objects     tensors and nodes as Python's objects: made from an image, released by hand
#   making printing exchange             tensors made, shown, shared with NumPy and copied
#   dispatch    pointwise operations, eagerly: check, broadcast, run, record
#   views slicing copies shapes          views by strides, parts, new memory from old, the public names of these
#   reduce gaps linalg index resample writes sort fused   builders: the other operations, one function each; writes in place
#   backward chain   the walk, reverse mode; the chain rule at a node
#   dual        forward mode       function  derivatives that programs write
#   batch       vmap: tensors with a hidden dimension
#   native      runs of strips as loops of machine code
#   recording actions results cells prepare cse passes follow replay   a function recorded, made a program, run without Python
#   program_io  programs listed, checked, described and assembled
#   create memory random optim           tensors from numbers; storages, other sizes; Philox; one-pass updates
# cython: language_level=3

cimport cython
from cpython.buffer cimport (Py_buffer, PyObject_GetBuffer, PyBuffer_Release, PyBUF_FULL_RO, PyBUF_WRITABLE, PyBUF_FORMAT,
                             PyBUF_STRIDES, PyBUF_ND, PyObject_CheckBuffer)
from cpython.bool cimport PyBool_Check
from cpython.dict cimport PyDict_GetItem
from cpython.exc cimport PyErr_CheckSignals
from cpython.float cimport PyFloat_Check, PyFloat_CheckExact, PyFloat_AS_DOUBLE, PyFloat_FromDouble
from cpython.list cimport PyList_New, PyList_Append, PyList_GET_ITEM, PyList_GET_SIZE, PyList_SET_ITEM
from cpython.long cimport PyLong_Check, PyLong_CheckExact
from cpython.mem cimport PyMem_Malloc, PyMem_Realloc, PyMem_Free
from cpython.object cimport PyObject, PyTypeObject
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_New, PyCapsule_IsValid
from cpython.ref cimport Py_INCREF, Py_DECREF, Py_XDECREF
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE, PyTuple_New, PyTuple_SET_ITEM, PyTuple_CheckExact
from libc.math cimport floor as c_floor, pow as c_pow, sqrt as c_sqrt, INFINITY, NAN
from libc.stdlib cimport malloc, calloc, realloc, free
from libc.string cimport memchr, memcpy, memmove, memset, memcmp

from fastbp._kernels.abi cimport *

import builtins as py       # names like max and sum are operations here
import os
import sys
import time as _time

from fastbp.ops import TABLE as _TABLE, F as _F
from fastbp.ops._doc import documentation as _documentation

include "_generated/rows.pxi"        # OP_*: the numbers of the compiled rows

cdef class Tensor
cdef class Node
cdef class FunctionCtx
cdef class Generator
cdef class Recording
cdef class Program
cdef class Cell
cdef class Frame
cdef class dtype

include "_engine/errors.pxi"
include "_engine/machine.pxi"
include "_engine/team.pxi"
include "_engine/storage.pxi"
include "_engine/dtype.pxi"
include "_engine/watch.pxi"
include "_engine/program.pxi"
include "_engine/tape.pxi"
include "_generated/tensor.pxi"      # _engine/tensor.pxi with the methods of the table
include "_engine/objects.pxi"
include "_engine/making.pxi"
include "_engine/printing.pxi"
include "_engine/exchange.pxi"
include "_engine/rowsparse.pxi"
include "_engine/dispatch.pxi"
include "_engine/views.pxi"
include "_engine/slicing.pxi"
include "_engine/copies.pxi"
include "_engine/shapes.pxi"
include "_engine/reduce.pxi"
include "_engine/gaps.pxi"
include "_engine/linalg.pxi"
include "_engine/index.pxi"
include "_engine/keys.pxi"
include "_engine/resample.pxi"
include "_engine/writes.pxi"
include "_engine/sort.pxi"
include "_engine/fused.pxi"
include "_engine/norm.pxi"
include "_engine/conv.pxi"
include "_engine/rules.pxi"
include "_engine/backward.pxi"
include "_engine/chain.pxi"
include "_engine/inspect.pxi"
include "_engine/dual.pxi"
include "_engine/function.pxi"
include "_engine/sequence.pxi"
include "_engine/batch.pxi"
include "_engine/create.pxi"
include "_engine/memory.pxi"
include "_engine/random.pxi"
include "_engine/optim.pxi"
include "_engine/recording.pxi"
include "_engine/holders.pxi"
include "_engine/actions.pxi"
include "_engine/results.pxi"
include "_engine/cells.pxi"
include "_generated/microcode.pxi"
include "_engine/native.pxi"
include "_engine/cse.pxi"
include "_engine/recompute.pxi"
include "_engine/stages.pxi"
include "_engine/passes.pxi"
include "_engine/follow.pxi"
include "_engine/prepare.pxi"
include "_engine/guards.pxi"
include "_engine/replay.pxi"
include "_engine/unfold.pxi"
include "_engine/program_io.pxi"
include "_generated/functions.pxi"
include "_generated/optable.pxi"
include "_engine/bind.pxi"
