# Floor 1: all kernels, as one text.  The build translates it once and compiles it as the modules base, avx2 and avx512, for
# x86-64-v2, -v3 and -v4 (setup.py).  Nothing here knows which of them it is.  Floor 2 reads the table through one capsule.

from cpython.pycapsule cimport PyCapsule_New

from fastbp._kernels.abi cimport *

include "scalars.pxi"
include "special.pxi"
include "gamma.pxi"
include "blocks.pxi"
include "nest.pxi"
include "pointwise.pxi"
include "copies.pxi"
include "narrow.pxi"
include "../_generated/strips.pxi"
include "wide.pxi"
include "usual.pxi"
include "eights.pxi"
include "vectors.pxi"
include "curves.pxi"
include "middle.pxi"
include "tile.pxi"
include "gemm.pxi"
include "panel.pxi"
include "few.pxi"
include "batch.pxi"
include "planes.pxi"
include "layout.pxi"
include "conv.pxi"
include "turned.pxi"
include "dots.pxi"
include "winograd.pxi"
include "depthwise.pxi"
include "near.pxi"
include "conv_weight.pxi"
include "mend.pxi"
include "lanes.pxi"
include "pool.pxi"
include "reduce.pxi"
include "peaks.pxi"
include "scan.pxi"
include "ranks.pxi"
include "sort.pxi"
include "search.pxi"
include "running.pxi"
include "rows.pxi"
include "layers.pxi"
include "flows.pxi"
include "rng.pxi"
include "attention_vectors.pxi"
include "attention.pxi"
include "norm.pxi"
include "distance.pxi"
include "ctc.pxi"
include "margin.pxi"
include "recurrent.pxi"
include "index.pxi"
include "resample.pxi"
include "borders.pxi"
include "optim.pxi"
include "moments.pxi"
include "../_generated/table.pxi"

cdef extern from *:
    const char* FASTBP_ISA      # the level's name, defined by the file that the build compiles this from

cdef KernelTable TABLE
fill_table(&TABLE)
better_strips(&TABLE)
narrow_strips(&TABLE)
for _k in range(N_COMPUTE): COPIES[_k], NOTS[_k] = TABLE.strip[S_identity][_k], TABLE.strip[S_logical_not][_k]
TABLE.isa = FASTBP_ISA
TABLE.gemm_plan = gemm_plan
TABLE.conv_plan = conv_plan
TABLE.pool_workspace = pool_workspace
TABLE.attention_workspace = attention_workspace

table = PyCapsule_New(&TABLE, FASTBP_TABLE, NULL)
