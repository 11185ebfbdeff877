"""Floor 1, beside the kernels: what NumPy's libraries compute (LAPACK, FFT), on arrays.

Each function is the `compute` of an external row of the table: arrays in, a new array or a tuple of them out, no tensor
in sight, no argument checked twice.  Imported when such a row first runs; nothing here may import anything but NumPy and
the loops beside it (panels.pyx).
"""
