"""Runs mypy's stubtest on the compiled core: `python tests/check_stub.py`.

Functions of composed rows that take `out=` show the signature of what they wrap; here they get the one that they have.
"""

import inspect
import sys
import tempfile

from fastbp import _core
from fastbp.ops import TABLE
from mypy import stubtest

for row in TABLE.values():
    if row.kind == "composed" and row.out and row.function:
        function = vars(_core)[row.name]
        parameters = list(inspect.signature(function.__wrapped__).parameters.values())
        out = inspect.Parameter("out", inspect.Parameter.KEYWORD_ONLY, default=None)
        function.__signature__ = inspect.Signature([*parameters, out])

# what the stub leaves out: methods that another floor installs, and what Cython adds to operators by itself
with tempfile.NamedTemporaryFile("w", suffix=".txt", delete=False) as allowed:
    allowed.write("\n".join(rf"fastbp\._core\.{name}" for name in (
        r"RowSparse\.__r(mul|truediv)__", r"RowSparse\.grad_fn", r"Tensor\.to_sparse(_coo|_csr)?", r"Tensor\.to_dense")))

sys.argv = ["stubtest", "fastbp._core", "--allowlist", allowed.name, "--ignore-unused-allowlist",
            "--ignore-disjoint-bases", "--mypy-config-file", "pyproject.toml"]
sys.exit(stubtest.main())
