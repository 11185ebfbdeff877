# The kernels, compiled for the least that is supported (x86-64-v2; elsewhere the compiler's default).
cdef const char* ISA = b"base"
include "kernels.pxi"
