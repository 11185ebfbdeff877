"""Runs mypy's stubtest on the compiled core: `python tests/check_stub.py`.

Functions of composed rows that take `out=` show the signature of what they wrap; here they get the one that they have.
"""

import inspect
import sys

from fastbp import _core
from fastbp.ops import TABLE
from mypy import stubtest

for row in TABLE.values():
    if row.kind == "composed" and row.out and row.function:
        function = vars(_core)[row.name]
        parameters = list(inspect.signature(function.__wrapped__).parameters.values())
        out = inspect.Parameter("out", inspect.Parameter.KEYWORD_ONLY, default=None)
        function.__signature__ = inspect.Signature([*parameters, out])

sys.argv = ["stubtest", "fastbp._core", "--ignore-disjoint-bases", "--mypy-config-file", "pyproject.toml"]
sys.exit(stubtest.main())
