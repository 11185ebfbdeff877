"""Every block of Python in README.md and docs/ runs, in order, and every example of a docstring gives what it shows."""

import builtins
import doctest
import importlib
import pkgutil
import re
import types
from pathlib import Path

import fastbp
import pytest

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
