"""What is installed: the plugin, whichever way, at no cost to others; the native library, where it can be built."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import attrs
import pytest

from ftx import __version__
from ftx.disk import many

ROOT = Path(__file__).resolve().parent.parent

LIBRARY = "ftx/disk/many.lib"
STALE = b"older"
needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")

LISTING = """
import json, sys
from twisted.application.service import IServiceMaker
from twisted.plugin import getPlugins
found = {maker.tapname: maker for maker in getPlugins(IServiceMaker)}
loaded = {"twisted.internet.reactor", "OpenSSL", "ftx", "ftx.daemon.tap"} & set(sys.modules)
maker = found.get("ftx")
print(json.dumps({
    "listed": maker is not None,
    "loaded": sorted(loaded),
    "options": maker.options.__module__ if maker else None,
    "file": __import__("ftx").__file__ if maker else None,
}))
"""


def attempt(*command: str | Path, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command without our PYTHON… variables and without what others would say about the build."""
    left_out = ("PYTHON", "FTX_", "CC", "CFLAGS", "LDFLAGS")
    environ = {key: value for key, value in os.environ.items() if not key.startswith(left_out)}
    environ |= {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"} | more
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, cwd=cwd, env=environ, timeout=110
    )


def run(*command: str | Path, cwd: Path) -> str:
    """The standard output of a command that succeeds."""
    done = attempt(*command, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(kind: str, folder: Path, tree: Path = ROOT, **environ: str) -> subprocess.CompletedProcess[str]:
    """Build a wheel, an editable wheel or an sdist into a folder, by the backend that pyproject.toml names."""
    pytest.importorskip("hatchling", reason="hatchling builds the wheel")
    code = f"import sys, hatchling.build as b; b.build_{kind}(sys.argv[1])"
    return attempt(sys.executable, "-c", code, folder, cwd=tree, **environ)


def check_listing(python: str | Path, cwd: Path) -> str:
    """twistd lists the plugin without loading ftx, a reactor or OpenSSL; returns where ftx itself is.

    Asked for the first time in a new environment, Twisted loads every plugin, its own too, and writes down what it
    found; from then on it reads that.
    """
    run(python, "-c", LISTING, cwd=cwd)
    answer = json.loads(run(python, "-c", LISTING, cwd=cwd).splitlines()[-1])
    assert answer["listed"], "twistd does not find the plugin"
    assert answer["loaded"] == []
    assert answer["options"] == "ftx.daemon.tap", "asking for the options is what loads it"
    return str(answer["file"])


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the tree without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    done = build("wheel", folder)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what is needed to build, with a library in it that nobody can use."""
    copy = tmp_path / "tree"
    made_meanwhile = shutil.ignore_patterns("__pycache__", "dropin.cache*", "*.lib")
    for package in ("ftx", "twisted"):
        shutil.copytree(ROOT / package, copy / package, ignore=made_meanwhile)
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    (copy / LIBRARY).write_bytes(STALE)
    return copy


@attrs.frozen
class Environment:
    """A virtual environment that borrows the dependencies of this one, but not ftx."""

    python: Path
    scripts: Path
    empty: Path

    def pip(self, *arguments: str | Path) -> None:
        """Run its pip, which needs no network."""
        run(self.python, "-m", "pip", *arguments, cwd=self.empty)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """A fresh environment, and an empty folder to work in.

    The packages of this interpreter are appended to its path by a .pth file. The .pth files among them, by which
    an editable ftx would come along, do not count there.
    """
    top = tmp_path_factory.mktemp("fresh")
    venv.create(top / "env", with_pip=True)
    python = top / "env" / "bin" / "python"
    own = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=top).strip())
    borrowed = dict.fromkeys((sysconfig.get_path("purelib"), sysconfig.get_path("platlib")))
    (own / "borrowed.pth").write_text("".join(f"{path}\n" for path in borrowed), "utf-8")
    (top / "empty").mkdir()
    return Environment(python, python.parent, top / "empty")


def test_plugin_of_this_environment(tmp_path: Path) -> None:
    """The plugin is visible from an empty folder, in whatever way ftx is installed here."""
    check_listing(sys.executable, tmp_path)


def test_no_package_shadows_twisted() -> None:
    """An __init__.py below twisted/ would replace Twisted's own in site-packages."""
    assert list((ROOT / "twisted").rglob("__init__.py")) == []


def test_wheel_content(wheel: Path) -> None:
    """Exactly one file below twisted/, no caches, the licence, the type marker, and the whole package."""
    names = zipfile.ZipFile(wheel).namelist()
    assert [name for name in names if name.startswith("twisted/")] == ["twisted/plugins/ftx_plugin.py"]
    assert not [name for name in names if "dropin.cache" in name or "__pycache__" in name]
    assert "ftx/py.typed" in names
    assert [name for name in names if name.endswith("/licenses/LICENSE")]
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "ftx").rglob("*.py")}
    assert {name for name in names if name.startswith("ftx/") and name.endswith(".py")} == modules
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"ftx", "twisted"}


def test_library_of_this_environment() -> None:
    """Where the tests run, the native library is in use, and is not older than its source."""
    if not many.available():
        pytest.skip("the native library is not built here: `pip install -e .` with a C compiler does it")
    library, source = (Path(many.__file__).with_name(name) for name in ("many.lib", "many.c"))
    modules = [path.name for path in (ROOT / "ftx").rglob("*") if path.name.endswith(tuple(EXTENSION_SUFFIXES))]
    assert modules == [], "whoever imports all of ftx would try to import them"
    assert library.stat().st_mtime >= source.stat().st_mtime, "built of an older many.c: `pip install -e .` again"


@needs_compiler
def test_wheel_with_the_library(wheel: Path) -> None:
    """It is for this kind of machine and for every Python, and has the library as a program file."""
    assert wheel.name.startswith(f"ftx_transfer-{__version__}-py3-none-linux_")
    archive = zipfile.ZipFile(wheel)
    assert [name for name in archive.namelist() if name.endswith((".lib", ".so"))] == [LIBRARY]
    assert archive.read(LIBRARY)[:4] == b"\x7fELF"
    assert archive.getinfo(LIBRARY).external_attr >> 16 & 0o777 == 0o755
    (about,) = [name for name in archive.namelist() if name.endswith("/WHEEL")]
    assert "Root-Is-Purelib: false" in archive.read(about).decode()


@pytest.mark.parametrize(
    ("environ", "why"),
    [
        ({"FTX_NATIVE": "0"}, "FTX_NATIVE says so"),
        ({"CC": "no-such-compiler"}, "there is no C compiler (no-such-compiler)"),
        ({"CC": "false"}, "the C compiler (false) failed"),
        ({"CFLAGS": "it's"}, "CC, CFLAGS or LDFLAGS cannot be read: No closing quotation"),
    ],
    ids=["not-wanted", "no-compiler", "broken-compiler", "broken-flags"],
)
def test_wheel_without_the_library(tree: Path, tmp_path: Path, environ: dict[str, str], why: str) -> None:
    """It is for every machine, one sentence says why, and an older library in the folder is not taken for a new one."""
    done = build("wheel", tmp_path, tree, **environ)
    assert done.returncode == 0, done.stderr
    sentence = f"ftx is built without its native library: {why}; all works, and many small files take longer\n"
    assert done.stderr == sentence
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name == f"ftx_transfer-{__version__}-py3-none-any.whl"
    archive = zipfile.ZipFile(wheel)
    assert not [name for name in archive.namelist() if name.endswith((".lib", ".so"))]
    (about,) = [name for name in archive.namelist() if name.endswith("/WHEEL")]
    assert "Root-Is-Purelib: true" in archive.read(about).decode()


def test_library_that_must_be(tree: Path, tmp_path: Path) -> None:
    """FTX_NATIVE=1 ends a build that would be without it, and what is neither yes nor no ends any."""
    done = build("wheel", tmp_path, tree, FTX_NATIVE="1", CC="false")
    assert done.returncode == 1
    assert done.stderr == "no native library, which FTX_NATIVE asks for: the C compiler (false) failed\n"
    done = build("wheel", tmp_path, tree, FTX_NATIVE="maybe")
    assert done.returncode == 1
    assert done.stderr == 'FTX_NATIVE="maybe" is neither yes nor no\n'
    assert list(tmp_path.glob("*.whl")) == []


@needs_compiler
def test_library_of_an_editable_installation(tree: Path, tmp_path: Path) -> None:
    """It is put beside its source in place of an older one, which goes where there is none to come."""
    library = tree / LIBRARY
    before = set((tree / "ftx").rglob("*"))
    held = library.open("rb")  # as a daemon has it that runs
    assert build("editable", tmp_path, tree, FTX_NATIVE="1").returncode == 0
    assert library.read_bytes()[:4] == b"\x7fELF"
    with held:
        assert held.read() == STALE, "what is in use is not written to"
    assert set((tree / "ftx").rglob("*")) == before
    assert build("editable", tmp_path, tree, CC="false").returncode == 0
    assert set((tree / "ftx").rglob("*")) == before - {library}


@pytest.mark.parametrize("environ", [{}, {"CC": "false"}])
def test_library_that_cannot_be_put_there(tree: Path, tmp_path: Path, environ: dict[str, str]) -> None:
    """An editable installation goes on without it, whether it cannot come or what is there cannot go."""
    (tree / LIBRARY).unlink()
    (tree / LIBRARY).mkdir()  # stands for a folder in which nothing can be changed, as root has none
    before = set((tree / "ftx").rglob("*"))
    done = build("editable", tmp_path, tree, **environ)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("ftx is built without its native library: ")
    assert done.stderr.count("\n") == 1
    assert set((tree / "ftx").rglob("*")) == before


def test_source_distribution(tree: Path, tmp_path: Path) -> None:
    """It has the source of the library and what builds it, and no library."""
    done = build("sdist", tmp_path, tree)
    assert done.returncode == 0, done.stderr
    (built,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(built) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"hatch_build.py", "pyproject.toml", "ftx/disk/many.c", "ftx/disk/many.py"} <= names
    assert not [name for name in names if name.endswith((".lib", ".so"))]


@pytest.mark.slow
def test_wheel_and_editable_install(wheel: Path, fresh: Environment, tree: Path) -> None:
    """Both kinds of install show the plugin; uninstalling takes it away and leaves Twisted whole.

    An editable one builds in its checkout. That is a copy: other tests look through ours, and use its library.
    """
    fresh.pip("install", "-q", "--no-deps", "--no-index", wheel)
    where = check_listing(fresh.python, fresh.empty)
    assert Path(where).is_relative_to(fresh.scripts.parent), "this is the wheel, not the checkout"
    listing = run(
        fresh.python,
        "-c",
        "import sys; sys.argv = ['twistd', '--help']; from twisted.scripts.twistd import run; run()",
        cwd=fresh.empty,
    )
    assert [line for line in listing.splitlines() if line.split()[:1] == ["ftx"]]
    assert run(fresh.scripts / "ftx-server", "--version", cwd=fresh.empty) == f"ftx {__version__}\n"

    code = "from ftx.disk import many; print(many.available())"
    assert run(fresh.python, "-c", code, cwd=fresh.empty) == f"{shutil.which('cc') is not None}\n"

    fresh.pip("uninstall", "-q", "-y", "ftx-transfer")
    code = "import twisted.plugin, twisted.plugins, importlib.util; assert not importlib.util.find_spec('ftx')"
    run(fresh.python, "-c", code, cwd=fresh.empty)

    fresh.pip("install", "-q", "--no-deps", "--no-index", "--no-build-isolation", "-e", tree)
    assert Path(check_listing(fresh.python, fresh.empty)).is_relative_to(tree)
