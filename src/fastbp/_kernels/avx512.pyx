# The kernels, compiled for x86-64-v4 (AVX-512).
cdef const char* ISA = b"avx512"
include "kernels.pxi"
