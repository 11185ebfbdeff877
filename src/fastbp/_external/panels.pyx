"""Floor 1, beside NumPy's libraries: what NumPy leaves out of LAPACK, as loops.

LU, triangular systems, Cholesky and QR of matrices, or of the panels of larger ones between two of NumPy's matrix products
(linalg.py).  A door takes contiguous arrays [..., m, n] of float32 or float64, with any batch, and writes to them in
place; below the doors are serial loops, noexcept nogil, that hold no Python object.

In float32, one thread of a Xeon, from NumPy's calls in Python's loops to these: lu_factor 268 -> 12 us for 5 x 5 and 3590
-> 120 for 128 x 128, solve_triangular 37 -> 8 and 848 -> 79, lu_solve 156 -> 11 and 3200 -> 128, cholesky_inverse 95 -> 9
and 1690 -> 150.  Of the 5 x 5, 1 to 3 us are computed here, the rest is checked and wrapped above.
"""

cimport cython
from cpython.buffer cimport PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.math cimport NAN, fabs, frexp, isfinite, ldexp, log, sqrt
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memcpy, memset

ctypedef fused real:
    float
    double

cdef double LN2 = 0.6931471805599453
cdef enum:
    FEW = 4         # columns that LU handles one by one: the rest of a row is read and written once for all of them
    TILE = 8        # rows and columns that are turned together
    WIDE = 512      # columns of right sides that a triangular system handles at a time: its rows stay in the caches


# ---- doors ----------------------------------------------------------------------------------------------------------


@cython.final
cdef class Array:
    """The memory of a contiguous array while a door works on it; m and n: its last two sizes.

    A typed memoryview has one number of dimensions, so that each array of a batch would first become a view of three.
    """
    cdef Py_buffer view
    cdef Py_ssize_t batch, m, n
    cdef bint single

    def __cinit__(self, object a, int access, int matrix):
        """access: PyBUF_WRITABLE or 0.  matrix: how many of the last dimensions are one item of the batch, 0 to 2."""
        cdef int i
        PyObject_GetBuffer(a, &self.view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | access)
        cdef int nd = self.view.ndim
        if nd < matrix:
            raise ValueError(f"panels: expected {matrix} dimensions or more, got {nd}")
        self.n = self.view.shape[nd - 1] if matrix > 0 else 1
        self.m = self.view.shape[nd - 2] if matrix > 1 else 1
        self.batch = 1
        for i in range(nd - matrix):
            self.batch *= self.view.shape[i]
        self.single = self.view.format[0] == b"f"

    def __dealloc__(self):
        PyBuffer_Release(&self.view)


cdef Array matrices(object a, int access):
    cdef Array found = Array(a, access, 2)
    if not found.single and found.view.format[0] != b"d":
        raise TypeError("panels: expected arrays of float32 or float64")
    return found


cdef Array whole_numbers(object a, int access, int matrix, Py_ssize_t itemsize):
    cdef Array found = Array(a, access, matrix)
    if found.view.itemsize != itemsize:
        raise TypeError(f"panels: expected whole numbers of {itemsize} bytes")
    return found


cdef int fit(bint right) except -1:
    if not right:
        raise ValueError("panels: arrays do not fit")
    return 0


def lu(a, pivots, order, info, bint pivot, Py_ssize_t start, Py_ssize_t stop):
    """Gauss's elimination of the columns [start, stop) of a [..., m, n]; those on their right change in these rows only.

    pivots int32 [..., min(m, n)]: the row swaps, from 1; order int64 [..., m]: where rows come from; info int32 [...]: 0, or
    the first pivot that is zero, from 1.  The panel from column 0 on starts them, the others go on with them.
    """
    cdef Array A = matrices(a, PyBUF_WRITABLE), P = whole_numbers(pivots, PyBUF_WRITABLE, 1, 4)
    cdef Array O = whole_numbers(order, PyBUF_WRITABLE, 1, 8), I = whole_numbers(info, PyBUF_WRITABLE, 0, 4)
    cdef Py_ssize_t k = min(A.m, A.n), i
    fit(0 <= start <= stop <= k and P.n == k and O.n == A.m and P.batch == O.batch == I.batch == A.batch)
    with nogil:
        for i in range(A.batch):
            if A.single:
                lu_panel[float](<float*>A.view.buf + i * A.m * A.n, A.m, A.n, start, stop, <int32_t*>P.view.buf + i * k,
                                <int64_t*>O.view.buf + i * A.m, <int32_t*>I.view.buf + i, pivot)
            else:
                lu_panel[double](<double*>A.view.buf + i * A.m * A.n, A.m, A.n, start, stop, <int32_t*>P.view.buf + i * k,
                                 <int64_t*>O.view.buf + i * A.m, <int32_t*>I.view.buf + i, pivot)


def solve_triangle(a, b, bint upper, bint unit, bint turned, Py_ssize_t start, Py_ssize_t stop):
    """b[start:stop] = X with A X = b[start:stop], A the triangle of a[start:stop, start:stop], of a^T if turned."""
    cdef Array A = matrices(a, 0), B = matrices(b, PyBUF_WRITABLE)
    cdef Py_ssize_t n = A.n, i
    fit(A.single == B.single and A.batch == B.batch and A.m == n == B.m and 0 <= start <= stop <= n)
    cdef Py_ssize_t across = n if turned else 1, down = 1 if turned else n
    with nogil:
        for i in range(A.batch):
            if A.single:
                triangle[float](<float*>A.view.buf + i * n * n, across, down, <float*>B.view.buf + i * n * B.n, B.n,
                                upper, unit, start, stop)
            else:
                triangle[double](<double*>A.view.buf + i * n * n, across, down, <double*>B.view.buf + i * n * B.n, B.n,
                                 upper, unit, start, stop)


def solve(a, b, pivots, info):
    """b = X with a X = b, by LU in a, pivots int32 [n]; where a pivot is zero, info is its number, from 1, and b NaN."""
    cdef Array A = matrices(a, PyBUF_WRITABLE), B = matrices(b, PyBUF_WRITABLE), I = whole_numbers(info, PyBUF_WRITABLE, 0, 4)
    cdef Array P = whole_numbers(pivots, PyBUF_WRITABLE, 1, 4)
    cdef Py_ssize_t n = A.n, i
    fit(A.single == B.single and A.m == n == B.m and P.n == n and A.batch == B.batch == I.batch)
    with nogil:
        for i in range(A.batch):
            if A.single:
                system[float](<float*>A.view.buf + i * n * n, <float*>B.view.buf + i * n * B.n, n, B.n,
                              <int32_t*>P.view.buf, <int32_t*>I.view.buf + i)
            else:
                system[double](<double*>A.view.buf + i * n * n, <double*>B.view.buf + i * n * B.n, n, B.n,
                               <int32_t*>P.view.buf, <int32_t*>I.view.buf + i)


def cholesky(a, info, bint upper):
    """a = its factor U with U^T U = a (L with L L^T = a), from its upper (lower) triangle.

    info int32 [...]: 0, or the order of the first minor that is not positive definite; there the factor is NaN.
    """
    cdef Array A = matrices(a, PyBUF_WRITABLE), I = whole_numbers(info, PyBUF_WRITABLE, 0, 4)
    cdef Py_ssize_t n = A.n, i
    fit(A.m == n and A.batch == I.batch)
    with nogil:
        for i in range(A.batch):
            if A.single:
                (<int32_t*>I.view.buf)[i] = factor[float](<float*>A.view.buf + i * n * n, n, upper)
            else:
                (<int32_t*>I.view.buf)[i] = factor[double](<double*>A.view.buf + i * n * n, n, upper)


def reflect(a, tau, work, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t last):
    """Householder's reflections I - tau v v^T that make columns [start, stop) of a [..., m, n] triangular, on those before last.

    v is 1 on the diagonal, and below it what takes the place of the zeros there; tau [..., min(m, n)]; work [n]: overwritten.
    """
    cdef Array A = matrices(a, PyBUF_WRITABLE), T = Array(tau, PyBUF_WRITABLE, 1), W = Array(work, PyBUF_WRITABLE, 1)
    cdef Py_ssize_t i
    fit(0 <= start <= stop <= min(A.m, A.n) and stop <= last <= A.n and T.n == min(A.m, A.n) and T.batch == A.batch)
    fit(W.n == A.n and A.single == T.single == W.single)
    with nogil:
        for i in range(A.batch):
            if A.single:
                reflect_panel[float](<float*>A.view.buf + i * A.m * A.n, A.m, A.n, start, stop, last,
                                     <float*>T.view.buf + i * T.n, <float*>W.view.buf)
            else:
                reflect_panel[double](<double*>A.view.buf + i * A.m * A.n, A.m, A.n, start, stop, last,
                                      <double*>T.view.buf + i * T.n, <double*>W.view.buf)


def reflections(a, tau, q, work):
    """q [..., m, k] = the first columns of the product of reflect's reflections in a, from tau."""
    cdef Array A = matrices(a, 0), T = Array(tau, 0, 1), Q = matrices(q, PyBUF_WRITABLE), W = Array(work, PyBUF_WRITABLE, 1)
    cdef Py_ssize_t i
    fit(Q.m == A.m and T.n == min(A.m, A.n) <= Q.n <= A.m and A.batch == T.batch == Q.batch and W.n >= Q.n)
    fit(A.single == T.single == Q.single == W.single)
    with nogil:
        for i in range(A.batch):
            if A.single:
                reflected[float](<float*>A.view.buf + i * A.m * A.n, A.m, A.n, <float*>T.view.buf + i * T.n, T.n,
                                 <float*>Q.view.buf + i * Q.m * Q.n, Q.n, <float*>W.view.buf)
            else:
                reflected[double](<double*>A.view.buf + i * A.m * A.n, A.m, A.n, <double*>T.view.buf + i * T.n, T.n,
                                  <double*>Q.view.buf + i * Q.m * Q.n, Q.n, <double*>W.view.buf)


def upper(a, r):
    """r [..., k, n] = the upper triangle of the first rows of a [..., m, n]."""
    cdef Array A = matrices(a, 0), R = matrices(r, PyBUF_WRITABLE)
    cdef Py_ssize_t i, j, size = A.view.itemsize
    cdef char* to
    fit(A.n == R.n and R.m <= A.m and A.batch == R.batch and A.single == R.single)
    with nogil:
        for i in range(A.batch):
            for j in range(R.m):
                to = <char*>R.view.buf + (i * R.m + j) * A.n * size
                memset(to, 0, min(j, A.n) * size)
                if j < A.n:
                    memcpy(to + j * size, <char*>A.view.buf + ((i * A.m + j) * A.n + j) * size, (A.n - j) * size)


def gather_reflections(s, tau):
    """s [..., b, b], which comes as V^T V, = upper T with the product of b reflections, from tau [..., b], I - V T V^T."""
    cdef Array S = matrices(s, PyBUF_WRITABLE), T = Array(tau, 0, 1)
    cdef Py_ssize_t i
    fit(S.m == S.n == T.n and S.batch == T.batch and S.single == T.single)
    with nogil:
        for i in range(S.batch):
            if S.single:
                gathered[float](<float*>S.view.buf + i * S.n * S.n, <float*>T.view.buf + i * S.n, S.n)
            else:
                gathered[double](<double*>S.view.buf + i * S.n * S.n, <double*>T.view.buf + i * S.n, S.n)


def determinants(a, pivots, out):
    """out [...] = the products of the pivots of lu's a and pivots."""
    cdef Array A = matrices(a, 0), P = whole_numbers(pivots, 0, 1, 4), D = results(out, A)
    cdef Py_ssize_t n = A.n, i
    cdef double y
    cdef int exponent
    fit(A.m == n == P.n and A.batch == P.batch == D.batch)
    with nogil:
        for i in range(A.batch):
            y = pivots_of(A, P, i, &exponent)
            put(D, i, ldexp(y, exponent) if isfinite(y) else y)


def log_determinants(a, pivots, sign, out):
    """sign [...] = those of the products, 0 of what is zero or NaN; out [...] = the logarithms of their sizes."""
    cdef Array A = matrices(a, 0), P = whole_numbers(pivots, 0, 1, 4), S = results(sign, A), D = results(out, A)
    cdef Py_ssize_t n = A.n, i
    cdef double y
    cdef int exponent
    fit(A.m == n == P.n and A.batch == P.batch == S.batch == D.batch)
    with nogil:
        for i in range(A.batch):
            y = pivots_of(A, P, i, &exponent)
            put(S, i, (y > 0) - (y < 0))
            if -400 < exponent < 400:           # one rounding near 1, where the logarithm is small
                y, exponent = ldexp(y, exponent) if isfinite(y) else y, 0
            put(D, i, log(fabs(y)) + exponent * LN2)


cdef Array results(object out, Array a):
    cdef Array found = Array(out, PyBUF_WRITABLE, 0)
    fit(found.view.format[0] == a.view.format[0])
    return found


def unpack_pivots(pivots, order):
    """order int64 [..., rows] = the rows after the swaps i <-> pivots[i] - 1; pivots int32 [..., k]."""
    cdef Array P = whole_numbers(pivots, 0, 1, 4), O = whole_numbers(order, PyBUF_WRITABLE, 1, 8)
    cdef Py_ssize_t i, j, p
    cdef int32_t* swap
    cdef int64_t* rows
    fit(P.batch == O.batch and P.n <= O.n)
    with nogil:
        for i in range(O.batch):
            swap = <int32_t*>P.view.buf + i * P.n
            rows = <int64_t*>O.view.buf + i * O.n
            for j in range(O.n):
                rows[j] = j
            for j in range(P.n):
                p = min(max(swap[j] - 1, 0), O.n - 1)
                rows[j], rows[p] = rows[p], rows[j]


def swap_rows(a, pivots, bint back):
    """The rows of a [..., m, n] after the swaps i <-> pivots[i] - 1 of int32 [..., k]; before them if back."""
    cdef Array A = matrices(a, PyBUF_WRITABLE), P = whole_numbers(pivots, 0, 1, 4)
    cdef Py_ssize_t i, j, step, p
    cdef int32_t* swap
    fit(P.batch == A.batch and P.n <= A.m)
    with nogil:
        for i in range(A.batch):
            swap = <int32_t*>P.view.buf + i * P.n
            for step in range(P.n):
                j = P.n - 1 - step if back else step
                p = min(max(swap[j] - 1, 0), A.m - 1)
                if A.single:
                    exchange[float](<float*>A.view.buf + (i * A.m + j) * A.n, <float*>A.view.buf + (i * A.m + p) * A.n, A.n)
                else:
                    exchange[double](<double*>A.view.buf + (i * A.m + j) * A.n, <double*>A.view.buf + (i * A.m + p) * A.n, A.n)


# ---- loops ----------------------------------------------------------------------------------------------------------


cdef inline void subtract(real* y, const real* f, Py_ssize_t across, const real* x, Py_ssize_t ld, Py_ssize_t k,
                          Py_ssize_t n) noexcept nogil:
    """y[c] -= f[0] x[0, c] + ... + f[k - 1] x[k - 1, c], from left to right; four rows of x for each pass over y."""
    cdef Py_ssize_t i = 0, c
    cdef real f0, f1, f2, f3
    cdef const real* x0
    cdef const real* x1
    cdef const real* x2
    cdef const real* x3
    while i + 4 <= k:
        f0, f1, f2, f3 = f[i * across], f[(i + 1) * across], f[(i + 2) * across], f[(i + 3) * across]
        x0, x1, x2, x3 = x + i * ld, x + (i + 1) * ld, x + (i + 2) * ld, x + (i + 3) * ld
        for c in range(n):
            y[c] = y[c] - f0 * x0[c] - f1 * x1[c] - f2 * x2[c] - f3 * x3[c]
        i += 4
    while i < k:
        f0, x0 = f[i * across], x + i * ld
        for c in range(n):
            y[c] = y[c] - f0 * x0[c]
        i += 1


cdef inline void exchange(real* x, real* y, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t c
    cdef real v
    if x != y:
        for c in range(n):
            v = x[c]
            x[c] = y[c]
            y[c] = v


cdef void lu_panel(real* a, Py_ssize_t m, Py_ssize_t n, Py_ssize_t start, Py_ssize_t stop, int32_t* pivots, int64_t* order,
                   int32_t* info, bint pivot) noexcept nogil:
    cdef Py_ssize_t s, e, i, j, p, c
    cdef real d, v, best
    if start == 0:
        info[0] = 0
        for i in range(m if order != NULL else 0):
            order[i] = i
    e = start
    while e < stop:
        s, e = e, min(e + FEW, stop)
        for j in range(s, e):
            p = j
            if pivot:               # the first of the largest; a NaN counts as larger than all
                best = <real>fabs(a[j * n + j])
                for i in range(j + 1, m):
                    v = <real>fabs(a[i * n + j])
                    if v > best or (v != v and best == best):
                        best, p = v, i
            pivots[j] = <int32_t>(p + 1)
            if p != j:
                if order != NULL:
                    order[j], order[p] = order[p], order[j]
                exchange(a + j * n, a + p * n, n)
            d = a[j * n + j]
            if d == 0:
                d = 1
                if info[0] == 0:
                    info[0] = <int32_t>(j + 1)
            for i in range(j + 1, m):
                v = a[i * n + j] / d
                a[i * n + j] = v
                for c in range(j + 1, e):
                    a[i * n + c] = a[i * n + c] - v * a[j * n + c]
        for i in range(s + 1, e):
            subtract(a + i * n + e, a + i * n + s, 1, a + s * n + e, n, i - s, stop - e)
        for i in range(e, m):
            subtract(a + i * n + e, a + i * n + s, 1, a + s * n + e, n, e - s, stop - e)
    for i in range(start + 1, stop):
        subtract(a + i * n + stop, a + i * n + start, 1, a + start * n + stop, n, i - start, n - stop)


cdef void triangle(const real* a, Py_ssize_t across, Py_ssize_t down, real* b, Py_ssize_t n, bint upper, bint unit,
                   Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    """Substitution for the rows [start, stop); a[i, j] lies at i * down + j * across."""
    cdef Py_ssize_t first = 0, width, step, i, c
    cdef real d
    cdef real* y
    while first < n:
        width = min(n - first, WIDE)
        for step in range(stop - start):
            if upper:
                i = stop - 1 - step
                y = b + i * n + first
                subtract(y, a + i * down + (i + 1) * across, across, y + n, n, step, width)
            else:
                i = start + step
                y = b + i * n + first
                subtract(y, a + i * down + start * across, across, b + start * n + first, n, step, width)
            if not unit:
                d = a[i * (down + across)]
                for c in range(width):
                    y[c] = y[c] / d
        first += width


cdef void system(real* a, real* b, Py_ssize_t n, Py_ssize_t columns, int32_t* pivots, int32_t* info) noexcept nogil:
    cdef Py_ssize_t i, c
    lu_panel(a, n, n, 0, n, pivots, NULL, info, True)
    if info[0]:
        for c in range(n * columns):
            b[c] = <real>NAN
        return
    for i in range(n):
        exchange(b + i * columns, b + (pivots[i] - 1) * columns, columns)
    triangle(<const real*>a, 1, n, b, columns, False, True, 0, n)
    triangle(<const real*>a, 1, n, b, columns, True, False, 0, n)


cdef int32_t factor(real* a, Py_ssize_t n, bint upper) noexcept nogil:
    """Row by row of U, each from those above it: what is read and written lies side by side.  L is U turned."""
    cdef Py_ssize_t i, j
    cdef real d
    if not upper:
        turn(a, n)
    for i in range(n):
        for j in range(i):
            a[i * n + j] = 0
    for i in range(n):
        subtract(a + i * n + i, a + i, n, a + i, n, i, n - i)
        d = a[i * n + i]
        if not d > 0:
            for j in range(n * n):
                a[j] = <real>NAN
            return <int32_t>(i + 1)
        d = <real>sqrt(d)
        a[i * n + i] = d
        for j in range(i + 1, n):
            a[i * n + j] = a[i * n + j] / d
    if not upper:
        turn(a, n)
    return 0


cdef void turn(real* a, Py_ssize_t n) noexcept nogil:
    """a = a^T, in tiles: columns of 128 floats or more fall into few lines of the inner cache."""
    cdef Py_ssize_t i0 = 0, j0, i, j
    cdef real v
    while i0 < n:
        j0 = 0
        while j0 <= i0:
            for i in range(i0, min(i0 + TILE, n)):
                for j in range(j0, min(j0 + TILE, i)):
                    v = a[i * n + j]
                    a[i * n + j] = a[j * n + i]
                    a[j * n + i] = v
            j0 += TILE
        i0 += TILE


cdef double length(const real* x, Py_ssize_t ld, Py_ssize_t n) noexcept nogil:
    """The norm of a column; its squares neither overflow nor vanish."""
    cdef double total = 0, most = 0, v
    cdef Py_ssize_t i
    for i in range(n):
        v = x[i * ld]
        total += v * v
    if 1e-250 < total < 1e300 or total != total:
        return sqrt(total)
    for i in range(n):
        most = max(most, fabs(x[i * ld]))
    if most == 0 or not isfinite(most):
        return most
    total = 0
    for i in range(n):
        v = x[i * ld] / most
        total += v * v
    return most * sqrt(total)


cdef inline void reflection(const real* v, Py_ssize_t ld, Py_ssize_t m, real tau, real* a, Py_ssize_t n, Py_ssize_t width,
                            real* w) noexcept nogil:
    """a = (I - tau v v^T) a for m rows, n apart, of some columns; v[0] counts as 1, the others lie ld apart."""
    cdef Py_ssize_t i, c
    cdef real f
    if tau == 0 or width <= 0:
        return
    for c in range(width):
        w[c] = a[c]
    for i in range(1, m):
        f = v[i * ld]
        for c in range(width):
            w[c] = w[c] + f * a[i * n + c]
    for c in range(width):
        w[c] = tau * w[c]
        a[c] = a[c] - w[c]
    for i in range(1, m):
        f = v[i * ld]
        for c in range(width):
            a[i * n + c] = a[i * n + c] - f * w[c]


cdef void reflect_panel(real* a, Py_ssize_t m, Py_ssize_t n, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t last, real* tau,
                        real* work) noexcept nogil:
    """As LAPACK: the diagonal becomes the norm with the other sign; nothing is reflected where there are zeros already."""
    cdef Py_ssize_t i, j
    cdef double below, head, norm, by
    cdef real* x
    for j in range(start, stop):
        x = a + j * n + j
        below = length(x + n, n, m - j - 1)
        tau[j] = 0
        if below == 0:
            continue
        head = x[0]
        by = max(fabs(head), below)
        norm = by * sqrt((head / by) * (head / by) + (below / by) * (below / by)) if isfinite(by) else below + fabs(head)
        if head >= 0:
            norm = -norm
        tau[j] = <real>((norm - head) / norm)
        x[0] = <real>norm
        by = head - norm
        for i in range(1, m - j):
            x[i * n] = <real>(x[i * n] / by)
        reflection(<const real*>x, n, m - j, tau[j], x + 1, n, last - j - 1, work)


cdef void reflected(const real* a, Py_ssize_t m, Py_ssize_t n, const real* tau, Py_ssize_t count, real* q, Py_ssize_t columns,
                    real* work) noexcept nogil:
    cdef Py_ssize_t i, j
    memset(q, 0, m * columns * sizeof(real))
    for i in range(columns):
        q[i * (columns + 1)] = 1
    for i in range(count):
        j = count - 1 - i
        reflection(a + j * (n + 1), n, m - j, tau[j], q + j * (columns + 1), columns, columns - j, work)


cdef void gathered(real* s, const real* tau, Py_ssize_t n) noexcept nogil:
    """Column by column: T[:j, j] = -tau[j] T[:j, :j] S[:j, j], from the top, so that what is read is S still."""
    cdef Py_ssize_t i, j, k
    cdef real total
    for j in range(n):
        for i in range(j):
            total = 0
            for k in range(i, j):
                total = total + s[i * n + k] * s[k * n + j]
            s[i * n + j] = -tau[j] * total
        s[j * n + j] = tau[j]
        for i in range(j + 1, n):
            s[i * n + j] = 0


cdef double pivots_of(Array a, Array pivots, Py_ssize_t i, int* exponent) noexcept nogil:
    cdef const int32_t* swaps = <int32_t*>pivots.view.buf + i * a.n
    if a.single:
        return product[float](<float*>a.view.buf + i * a.n * a.n, swaps, a.n, exponent)
    return product[double](<double*>a.view.buf + i * a.n * a.n, swaps, a.n, exponent)


cdef void put(Array out, Py_ssize_t i, double y) noexcept nogil:
    if out.single:
        (<float*>out.view.buf)[i] = <float>y
    else:
        (<double*>out.view.buf)[i] = y


cdef double product(const real* a, const int32_t* pivots, Py_ssize_t n, int* exponent) noexcept nogil:
    """y with det A = y * 2^exponent, which neither overflows nor vanishes on its way: 1000 factors from 0.5 to 1."""
    cdef double y = 1, d
    cdef int e
    cdef Py_ssize_t i
    exponent[0] = 0
    for i in range(n):
        d = a[i * (n + 1)]
        if pivots[i] != i + 1:
            y = -y
        if d == 0 or not isfinite(d):
            y = y * d
        else:
            y = y * frexp(d, &e)
            exponent[0] += e
    return y
