"""Floor 0, the law: the operation table.  Each operation is declared once, in the room of its kind.

Importing this package fills `TABLE`.  The build reads it to print strips, opcodes, doors and stub (`_generate`), the
engine binds its rules, the tests derive from it.  Plain Python, standard library only.
"""

# Filling the table is the purpose; the order is that of the opcodes and of the documentation.
from . import pointwise, shape, reduce, linalg, distance, index, fused  # noqa: F401, I001
from . import special, sort, decompose, fft, loss, norm, conv, pool, resample, attention, recurrent, sampling  # noqa: F401
from ._declare import TABLE, F, Row, Sym, trace

__all__ = ["TABLE", "F", "Row", "Sym", "trace"]
