"""Every block of Python in README.md and docs/ runs, in order, and every example of a docstring gives what it shows."""

import builtins
import doctest
import importlib
import inspect
import pkgutil
import re
import types
from pathlib import Path

import fastbp
import numpy as np
import pytest
from _samples import SAMPLES, samples_of
from fastbp import _core
from fastbp.ops import TABLE
from fastbp.ops._doc import documentation

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "src" / "fastbp" / "README.md"]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def blocks(page):
    """(line number, text) of each ```python block; fences nested in a list count too."""
    text = page.read_text(encoding="utf-8")
    for match in re.finditer(r"^```python\n(.*?)^```", text, re.M | re.S):
        yield text.count("\n", 0, match.start()) + 2, match[1]


def run_examples(test, name):
    """Run a doctest; fail with what doctest has to say."""
    report = []
    result = doctest.DocTestRunner(optionflags=FLAGS, verbose=False).run(test, out=report.append, clear_globs=False)
    vars(builtins).pop("_", None)           # the last result shown would stay alive there
    if result.failed:
        pytest.fail(f"{name}\n" + "".join(report), pytrace=False)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)             # what a page writes goes away with the test
    names = {"__name__": page.stem}
    found = list(blocks(page))
    assert found, f"{page.name} shows no Python"
    for line, text in found:
        where = f"{page.name}:{line}"
        if text.lstrip().startswith(">>>"):
            run_examples(doctest.DocTestParser().get_doctest(text, names, where, str(page), line - 1), where)
            continue
        # Lines are moved down to where they stand in the page, so that a traceback names the page's own lines.
        exec(compile("\n" * (line - 1) + text, str(page), "exec"), names)


def modules():
    yield "fastbp"
    for module in pkgutil.walk_packages(fastbp.__path__, "fastbp."):
        if module.name.rpartition(".")[2] != "__main__" and not module.name.startswith("fastbp._kernels"):
            yield module.name


class Finder(doctest.DocTestFinder):
    """doctest's finder, which looks into compiled modules too, but passes over the properties of compiled classes."""

    def _find(self, tests, obj, name, module, source_lines, globs, seen):
        super()._find(tests, obj, name, module, source_lines, globs, seen)
        if isinstance(obj, type):
            for key, value in vars(obj).items():
                if isinstance(value, types.GetSetDescriptorType) and ">>>" in (value.__doc__ or ""):
                    tests.append(self._get_test(value, f"{name}.{key}", module, globs, source_lines))


@pytest.mark.parametrize("name", list(modules()))
def test_docstrings(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    names = {"fastbp": fastbp, "nn": fastbp.nn, "F": fastbp.nn.functional, "optim": fastbp.optim}
    for test in Finder(exclude_empty=True).find(module, extraglobs=names):
        if test is not None and test.examples:
            test.globs.update(names)
            run_examples(test, test.name)


def test_local_links():
    """Files that a page points to exist."""
    for page in [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} points to {target}, which is not there"


# ---- what docstrings must say ---------------------------------------------------------------------------------------

# arguments whose meaning is PyTorch's everywhere: said once, in docs/
USUAL = {"self", "input", "out", "axis", "keepdims", "args", "kwargs", "dtype", "device", "layout", "pin_memory", "memory_format",
         "generator", "requires_grad", "names", "non_blocking", "size_average", "reduce", "inplace", "sections", "indices"}


def lacks(text, parameters):
    """What a docstring does not say: a summary, an argument's name."""
    text = text or ""
    if text.startswith("In-place version of"):          # whose documentation says it
        return []
    if re.match(r"[\w.]+\(.*\)\n\n", text):             # Cython puts the signature in front
        text = text.partition("\n\n")[2]
    found = [p for p in parameters if p not in USUAL and not re.search(rf"\b{re.escape(p.rstrip('_'))}\b", text)]
    if len(text.split("\n")[0]) < 8:
        found.append("a summary")
    return found


def parameters(f):
    try:
        return [p.name for p in inspect.signature(f).parameters.values() if p.name[0] != "_"]       # hidden: an old form
    except (TypeError, ValueError):
        return []


PUBLIC = [r for r in TABLE.values() if r.kind != "kernel" and (r.function or r.method)]


def test_docstrings_of_rows():
    """Functions, methods and other names of every row say what it is, what its arguments are and what comes back."""
    bad = {}
    for row in PUBLIC:
        names = [a.name for a in row.arguments]
        doors = {f"{space.__name__}.{name}": getattr(space, name, None) for name in (row.name, *row.aliases)
                 for space in (_core, fastbp.Tensor)}
        for name, f in doors.items():
            if f is not None:
                missing = lacks(f.__doc__, names) + ([] if "eturns" in f.__doc__ else ["what comes back"])
                if missing:
                    bad[name] = missing
    assert not bad


def test_docstrings_of_other_functions_and_methods():
    bad = {}
    for space, names in ((fastbp, fastbp._OPERATIONS), (fastbp.Tensor, dir(fastbp.Tensor))):
        for name in names:
            f = getattr(space, name, None)
            if name[0] != "_" and callable(f) and not isinstance(f, type) and (missing := lacks(f.__doc__, parameters(f))):
                bad[f"{space.__name__}.{name}"] = missing
    assert not bad


def kind_of(y, args):
    """What a result is, in the words of documentation."""
    tensors = [t for a in args for t in (a if isinstance(a, (list, tuple)) else [a]) if isinstance(t, fastbp.Tensor)]
    if isinstance(y, fastbp.Tensor):
        if any(y is t for t in tensors):
            return {"input"}
        return {"view"} if y.numel() and any(shares(y, t) for t in tensors) else {"new"}
    if hasattr(y, "_fields"):
        return {"named tuple", ", ".join(y._fields)}
    return {"tuple"} | set().union(*(kind_of(t, args) for t in y))


def shares(a, b):
    return b.numel() > 0 and a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()


@pytest.mark.parametrize("row", [r for r in PUBLIC if (r.kind == "pointwise" or r.name in SAMPLES) and r.name != "einsum"],
                         ids=lambda r: r.name)        # einsum: its function has the arguments in another order
def test_results_are_what_their_documentation_says(row):
    text = documentation(row)
    sentence = text[text.rindex("Returns"):].partition("\n\n")[0]
    for sample in samples_of(row):
        args = [tensors_of(a, row.kind == "pointwise" and row.types == "integer") for a in sample]
        if row.name == "where":
            args[0] = args[0] > 0
        found = kind_of(called(row, args), args)
        if found == {"new"}:
            assert re.search("new (bool )?tensor|a view where strides allow it", sentence)
        elif "named tuple" in found:
            assert all(word in sentence for word in found)
        else:
            assert all(word in sentence for word in found if word != "new"), (found, sentence)


def called(row, args):
    """A row's public function of its arguments in the row's order."""
    f = getattr(_core, row.name) if row.function else getattr(fastbp.Tensor, row.name)
    some = list(zip(row.arguments, args, strict=False))
    many = any(p.kind is p.VAR_POSITIONAL for p in inspect.signature(row.composition).parameters.values()) \
        if row.kind == "composed" else False
    flat = [x for a, value in some if not a.keyword for x in (value if many and a.type == "Tensor[]" else [value])]
    return f(*flat, **{a.name: value for a, value in some if a.keyword})


def tensors_of(a, integer):
    if isinstance(a, list):
        return [tensors_of(x, integer) for x in a]
    return fastbp.tensor(a.astype(int) if integer else a) if isinstance(a, np.ndarray) else a
