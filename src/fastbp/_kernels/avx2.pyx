# The kernels, compiled for x86-64-v3 (AVX2, FMA).
cdef const char* ISA = b"avx2"
include "kernels.pxi"
