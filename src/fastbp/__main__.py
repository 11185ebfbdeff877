"""python -m fastbp program.py [arguments]: runs a program, or with -m a module, in which `import torch` is fastbp."""

import os
import runpy
import sys

from fastbp._as_torch import as_torch


def main():
    """Run what the command line names, as Python would."""
    arguments = sys.argv[1:]
    module = arguments[:1] == ["-m"]
    if len(arguments) < 1 + module or arguments[0] in ("-h", "--help"):
        sys.exit("usage: python -m fastbp [-m module | program.py] [arguments]\n"
                 "Runs a PyTorch program with fastbp in PyTorch's place; see fastbp.as_torch.")
    as_torch()
    sys.argv[:] = arguments[module:]
    if module:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = os.path.dirname(os.path.abspath(sys.argv[0]))         # as for `python program.py`
        runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
