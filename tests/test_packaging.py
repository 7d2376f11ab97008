"""The plugin is found, whichever way ftx was installed, and costs other users of twistd nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import attrs
import pytest

from ftx import __version__

ROOT = Path(__file__).resolve().parent.parent

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


def run(*command: str | Path, cwd: Path) -> str:
    """The standard output of a command that succeeds, without our PYTHON… variables."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    environ |= {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, cwd=cwd, env=environ, timeout=110
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check_listing(python: str | Path, cwd: Path) -> str:
    """twistd lists the plugin without loading ftx, a reactor or OpenSSL; returns where ftx itself is."""
    answer = json.loads(run(python, "-c", LISTING, cwd=cwd).splitlines()[-1])
    assert answer["listed"], "twistd does not find the plugin"
    assert answer["loaded"] == []
    assert answer["options"] == "ftx.daemon.tap", "asking for the options is what loads it"
    return str(answer["file"])


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the tree without a network by the backend that pyproject.toml names."""
    pytest.importorskip("hatchling", reason="hatchling builds the wheel")
    folder = tmp_path_factory.mktemp("wheel")
    code = "import sys, hatchling.build as b; print(b.build_wheel(sys.argv[1]))"
    run(sys.executable, "-c", code, folder, cwd=ROOT)
    (built,) = folder.glob("*.whl")
    return built


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


@pytest.mark.slow
def test_wheel_and_editable_install(wheel: Path, fresh: Environment) -> None:
    """Both kinds of install show the plugin; uninstalling takes it away and leaves Twisted whole."""
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

    fresh.pip("uninstall", "-q", "-y", "ftx-transfer")
    code = "import twisted.plugin, twisted.plugins, importlib.util; assert not importlib.util.find_spec('ftx')"
    run(fresh.python, "-c", code, cwd=fresh.empty)

    fresh.pip("install", "-q", "--no-deps", "--no-index", "--no-build-isolation", "-e", ROOT)
    assert Path(check_listing(fresh.python, fresh.empty)).is_relative_to(ROOT)
