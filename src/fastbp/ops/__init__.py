"""Floor 0, the law: the operation table.  Each operation is declared once, in the room of its kind.

Importing this package fills `TABLE`.  The build reads it to print strips, opcodes, doors and stub (`_generate`), the
engine binds its rules, the tests derive from it.  Plain Python, standard library only.
"""

from . import fused, index, linalg, pointwise, reduce, shape  # noqa: F401  (filling the table is the purpose)
from ._declare import TABLE, F, Row, Sym, trace

__all__ = ["TABLE", "F", "Row", "Sym", "trace"]
