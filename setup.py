"""Builds fastbp: derives sources from the operation table, then compiles the core and the kernels.

What is where: everything static (name, version, dependencies, tools) is in pyproject.toml; only what depends on the
machine is decided here, by trying to compile small programs. Nothing of the build host's CPU is baked in: the kernels
are compiled for x86-64-v2, -v3 and -v4 (one build elsewhere) and the best is chosen when fastbp is imported.

Switches, read from the environment:
  FASTBP_DEBUG=1                       live-object counters that can be asserted, -O1 -g
  FASTBP_SANITIZE=address,undefined    instrument the extensions (preload the sanitizer's library to run them)
  FASTBP_LEVELS=avx2,avx512            build these kernel modules only: half the time while developing on one machine
  FASTBP_QUICK=1                       the core without optimisation: right results, wrong timings
"""

import importlib.util
import os
import sys
import tempfile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, LinkError

SOURCE = Path("src/fastbp")
KERNELS = str(SOURCE / "_kernels" / "kernels.pyx")
PANELS = "fastbp._external.panels"
DEBUG = int(os.environ.get("FASTBP_DEBUG") or 0)
SANITIZE = os.environ.get("FASTBP_SANITIZE", "")
LEVELS = os.environ.get("FASTBP_LEVELS", "")
QUICK = int(os.environ.get("FASTBP_QUICK") or 0)

DIRECTIVES = {
    "language_level": 3,        # bounds checks stay on: they guard Python lists in the core; C arrays have none anyway
    "cdivision": True,
    "initializedcheck": False,
    "embedsignature": True,
    "binding": False,           # builtin functions: a call costs less, the signature is in the docstring
}

# kernel module -> flags of its instruction set; a level that the compiler or the target does not know is left out
LEVELS_GCC = {
    "base": ["-march=x86-64-v2", "-O2"],       # for processors without AVX2: half the size matters more
    "avx2": ["-march=x86-64-v3"],
    "avx512": ["-march=x86-64-v4", "-mprefer-vector-width=512"],
}
LEVELS_MSVC = {"base": [], "avx2": ["/arch:AVX2"], "avx512": ["/arch:AVX512"]}

X86_64 = """
#if !defined(__x86_64__) && !defined(_M_X64)
#error "not x86-64"
#endif
int main(void) { return 0; }
"""

OPENMP = """
#include <omp.h>
int main(void) {
    int n = 0;
    #pragma omp parallel reduction(+:n)
    n += omp_get_thread_num() >= 0;
    return n < 1;
}
"""


def generate():
    """Write _generated/*.pxi and _core.pyi from the operation table (only what changed).

    fastbp.ops is plain Python that imports only the standard library and itself, so it is loaded here under a private
    name, without fastbp, which is not built yet.
    """
    spec = importlib.util.spec_from_file_location(
        "_fastbp_ops", SOURCE / "ops" / "__init__.py", submodule_search_locations=[str(SOURCE / "ops")])
    ops = importlib.util.module_from_spec(spec)
    sys.modules["_fastbp_ops"] = ops
    keep, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(ops)
        importlib.import_module("_fastbp_ops._generate").write(SOURCE)
    finally:
        sys.dont_write_bytecode = keep


class Build(build_ext):
    """build_ext that decides flags by probing the compiler, then translates with Cython what is out of date."""

    def finalize_options(self):
        super().finalize_options()
        if self.parallel is None:
            self.parallel = min(4, os.cpu_count() or 1)     # as many as take long; each takes about 1 GB

    def compiles(self, program, flags=(), link=False):
        """Whether the compiler takes `program` with `flags`."""
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "probe.c")
            source.write_text(program)
            out, err = os.dup(1), os.dup(2)
            nul = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nul, 1)         # a failing probe is an answer, not an error to show
            os.dup2(nul, 2)
            try:
                objects = self.compiler.compile([str(source)], output_dir=folder, extra_postargs=list(flags))
                if link:
                    self.compiler.link_executable(objects, "probe", output_dir=folder, extra_postargs=list(flags))
            except (CompileError, LinkError):
                return False
            finally:
                os.dup2(out, 1)
                os.dup2(err, 2)
                for handle in (out, err, nul):
                    os.close(handle)
            return True

    def written(self, name, text):
        """Path of a file of the build with this text; its time changes only with the text."""
        path = Path(self.build_temp, name)
        if not path.exists() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return path

    def build_extensions(self):
        # Imported here: metadata and sdist need no Cython.
        from Cython.Build import cythonize
        from Cython.Build.Dependencies import create_dependency_tree

        msvc = self.compiler.compiler_type == "msvc"
        if msvc:
            common, core, kernel, openmp = [], ["/O2"], ["/O2"], ["/openmp"]
        else:
            # no exceptions pass through: tables to unwind the stack by would be 0.2 MB
            common = ["-fvisibility=hidden", "-fno-asynchronous-unwind-tables", "-g0"]
            # 60 s of the core's 190 s went to finding no misleading indentation in what Cython printed (GCC 12)
            common.append("-Wno-misleading-indentation")
            # what GCC 14 and Clang 16 refuse, older ones shall refuse too
            common += ["-Werror=incompatible-pointer-types", "-Werror=int-conversion", "-Werror=implicit-function-declaration"]
            if self.compiles("#if defined(__clang__)\n#error\n#endif\nint main(void) { return 0; }", []):
                common.append("-Werror=discarded-qualifiers")       # Clang's incompatible-pointer-types has it
            core, kernel = ["-O0" if QUICK else "-O2"], ["-O3", "-fno-math-errno", "-fno-trapping-math"]
            openmp = ["-fopenmp"]
        link = ["-Wl,-s"] if sys.platform == "linux" and not DEBUG else []      # no symbol table: 0.5 MB less
        if DEBUG and not msvc:
            common, core = [*common, "-g"], ["-O1"]
            kernel = ["-O1", *kernel[1:]]
            common.remove("-fno-asynchronous-unwind-tables")
        if SANITIZE:
            link = [f"-fsanitize={SANITIZE}"]
            common = [*common, *link, "-fno-omit-frame-pointer"]

        parallel = self.compiles(OPENMP, openmp, link=True)
        if not parallel:
            print("fastbp: this compiler has no OpenMP; the core is built to run serially", file=sys.stderr)
        macros = [("FASTBP_OPENMP", str(int(parallel))), ("FASTBP_DEBUG", str(int(bool(DEBUG))))]

        x86 = self.compiles(X86_64)
        levels = {}
        if x86:
            known = LEVELS_MSVC if msvc else LEVELS_GCC
            levels = {name: flags for name, flags in known.items() if self.compiles(X86_64, flags)}
            for name in sorted(set(known) - set(levels)):
                print(f"fastbp: this compiler does not know {known[name]}; no {name} kernels", file=sys.stderr)
        levels.setdefault("base", [])
        if LEVELS:
            levels = {name: flags for name, flags in levels.items() if name in LEVELS.split(",")}

        kept = []
        for ext in self.extensions:
            ext.define_macros = [*ext.define_macros, *macros]
            ext.extra_link_args = [*link]
            if ext.name == "fastbp._core":
                ext.extra_compile_args = [*core, *common, *(openmp if parallel else [])]
                if parallel and not msvc:
                    ext.extra_link_args += openmp
            elif ext.name == PANELS:        # vectors of what every processor of this kind has: its matrices are small
                ext.extra_compile_args = [*kernel, *common]
            else:
                name = ext.name.rpartition(".")[2]
                if name not in levels:
                    continue
                ext.extra_compile_args = [*kernel, *common, *levels[name]]
            kept.append(ext)
        self.extensions[:] = kept

        # The levels are one text: it is translated once, by a name that none of them has, and each compiles it from a
        # file of its own.  An edit rebuilds exactly what includes or cimports it, and these options everything.
        stamp = self.written("fastbp-options.txt", "\n".join(
            f"{e.name} {e.define_macros} {e.extra_compile_args} {e.extra_link_args}" for e in kept))
        tree = create_dependency_tree()
        for ext in kept:
            ext.depends = [str(stamp), *sorted(str(path) for path in tree.all_dependencies(ext.sources[0]))]
        single = [ext for ext in kept if ext.name in ("fastbp._core", PANELS)]
        made = cythonize([*single, Extension("fastbp._kernels.kernels", [KERNELS])], nthreads=self.parallel,
                         include_path=["src"], force=self.force, compiler_directives=DIRECTIVES)
        for ext in kept:
            if ext in single:
                ext.sources = made[single.index(ext)].sources
                continue
            level, text = ext.name.rpartition(".")[2], made[-1].sources[0]
            wrapper = f'#define FASTBP_ISA "{level}"\n#define PyInit_kernels PyInit_{level}\n#include "{Path(text).name}"\n'
            ext.sources = [str(self.written(f"{level}.c", wrapper))]
            ext.include_dirs = [*ext.include_dirs, str(Path(text).parent)]
            ext.depends.append(text)
        super().build_extensions()


if __name__ == "__main__":      # Cython translates in worker processes, which may import this file again
    generate()
    setup(
        ext_modules=[               # those that take longest first
            Extension("fastbp._core", [str(SOURCE / "_core.pyx")]),
            *(Extension(f"fastbp._kernels.{level}", [KERNELS]) for level in ("avx512", "avx2", "base")),
            Extension(PANELS, [str(SOURCE / "_external" / "panels.pyx")]),
        ],
        cmdclass={"build_ext": Build},
    )
