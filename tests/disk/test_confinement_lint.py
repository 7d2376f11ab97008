"""No path from outside reaches the file system: in the receiving modules only `root.py` may use one."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import ftx.disk

FOLDER = Path(ftx.disk.__file__).parent
#: What handles names and content that a peer sent.
RECEIVING = [
    "basis.py",
    "batch.py",
    "claims.py",
    "digest.py",
    "fds.py",
    "growing.py",
    "handles.py",
    "held.py",
    "inbox.py",
    "job.py",
    "jobstore.py",
    "journal.py",
    "linking.py",
    "linux.py",
    "lookup.py",
    "names.py",
    "partial.py",
    "publish.py",
    "records.py",
    "space.py",
    "sqlitevfs.py",
    "staging.py",
    "store.py",
    "syncing.py",
    "tree.py",
]
#: Modules that open a root in a folder which this machine's own user or operator has named, by its path.
OPENING = {
    "receiptcheck.py": "the folder that its user names; what a receipt names below it goes through the root",
    "landing.py": "the folder that `get` brings things into, and the folder of its records",
    "shares.py": "the folders that the operator shares; what peers ask for below them goes through the root",
}
#: Functions of `os` that take a path, and the arguments that make it relative to a held folder.
CONFINED: dict[str, set[str]] = {
    "open": {"dir_fd"},
    "stat": {"dir_fd"},
    "mkdir": {"dir_fd"},
    "unlink": {"dir_fd"},
    "rmdir": {"dir_fd"},
    "chmod": {"dir_fd"},
    "access": {"dir_fd"},
    "link": {"src_dir_fd", "dst_dir_fd"},
}
#: Functions of `os` that get a descriptor here; the first argument must look like one.
BY_DESCRIPTOR = {"utime", "scandir", "listdir", "truncate"}
FORBIDDEN = {
    "rename",
    "replace",
    "renames",
    "remove",
    "removedirs",
    "makedirs",
    "symlink",
    "lstat",
    "chown",
    "lchown",
    "walk",
    "mkfifo",
    "mknod",
    "chdir",
    "path",
    "statvfs",
    "readlink",
}
#: SQLite knows paths only: below the held descriptor of the private folder (see the module's docstring).
EXCEPTIONS = {("records.py", "os.stat(folder)")}


def problems(tree: ast.AST, name: str) -> list[str]:
    """The calls that could use a path without a held folder."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = {alias.name for alias in node.names} | {getattr(node, "module", None) or ""}
            if {module.split(".")[0] for module in modules} & {"shutil", "pathlib", "tempfile", "glob", "io"}:
                found.append(ast.unparse(node))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "os" and node.attr in FORBIDDEN:
            found.append(ast.unparse(node))
        if not isinstance(node, ast.Call):
            continue
        text = ast.unparse(node)
        if isinstance(node.func, ast.Name) and node.func.id == "open":
            found.append(text)
        if not (isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) == "os"):
            continue
        given = {keyword.arg for keyword in node.keywords}
        confined = CONFINED.get(node.func.attr)
        if confined is not None and not confined <= given:
            found.append(text)
        if node.func.attr in BY_DESCRIPTOR and not ast.unparse(node.args[0]).endswith("fd"):
            found.append(text)
    return [text for text in found if (name, text) not in EXCEPTIONS]


@pytest.mark.case("D74")
@pytest.mark.parametrize("name", RECEIVING)
def test_only_descriptors(name: str) -> None:
    """Every call on the receiving side is relative to a held folder."""
    assert problems(ast.parse((FOLDER / name).read_text("utf-8")), name) == []


def test_the_root_renames_nothing_over_anything() -> None:
    """Even there: no plain rename but that of `replace`, nothing removed but by `unlink_staged` and what it staged."""
    tree = ast.parse((FOLDER / "root.py").read_text("utf-8"))
    replace = next(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "replace")
    inside = [node for node in ast.walk(replace) if isinstance(node, ast.Attribute)]
    renames = [node for node in inside if ast.unparse(node) == "os.rename"]
    assert len(renames) == 1
    renames[0].attr = "rename_for_operators_who_chose_it"
    ours = next(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "remove_private")
    removed = [node.func for node in ast.walk(ours) if isinstance(node, ast.Call)]
    folders = [node for node in removed if isinstance(node, ast.Attribute) and node.attr == "rmdir"]
    assert len(folders) == 2  # `.ftx/partial` and `.ftx`, which the kernel removes only when they are empty
    for node in folders:
        node.attr = "remove_an_empty_folder_of_ours"
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "os"}
    assert used & {"rename", "replace", "renames", "remove", "rmdir", "removedirs", "walk"} == set()


def test_the_lint_sees() -> None:
    """It would notice each kind of slip."""
    for slip in (
        "open('x')",
        "os.open(path, 0)",
        "os.rename(a, b, src_dir_fd=1, dst_dir_fd=2)",
        "os.link(a, b)",
        "os.utime(path)",
        "os.path.join(a, b)",
        "import shutil",
        "from pathlib import Path",
    ):
        assert problems(ast.parse(slip), "x.py"), slip


def test_new_modules_are_sorted_in() -> None:
    """A module that imports the root is on the receiving side and must be listed."""
    unlisted = [
        path.name
        for path in sorted(FOLDER.glob("*.py"))
        if re.search(r"ftx\.disk\.root\b", path.read_text("utf-8")) and path.name not in {*RECEIVING, *OPENING}
    ]
    assert unlisted == []
