"""The identity key's file: made once, private, refused when it is not."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from support.other_user import as_nobody

from ftx.core.identity import identity_of
from ftx.disk import keys, private
from ftx.errors import FtxError


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir(mode=0o700)
    return folder


def refusal(path: Path) -> str:
    """The sentence with which both ways of loading refuse what is at `path`."""
    with pytest.raises(FtxError) as loading:
        keys.load(str(path))
    with pytest.raises(FtxError) as creating:
        keys.load_or_create(str(path))
    assert loading.value.name == creating.value.name == "key-unusable"
    assert loading.value.message == creating.value.message
    return loading.value.message


def test_a_key_is_made_once_and_kept(home: Path) -> None:
    path = home / "identity.key"
    made = keys.load_or_create(str(path))
    assert made.id == identity_of(made.public_raw)
    assert keys.load_or_create(str(path)) == made == keys.load(str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(home) == ["identity.key"]


def test_a_missing_folder_is_made_private_whatever_the_umask(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    old = os.umask(0o777)
    try:
        keys.load_or_create(str(folder / "identity.key"))
    finally:
        os.umask(old)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "identity.key").stat().st_mode) == 0o600


def test_a_missing_parent_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FtxError, match="no such file"):
        keys.load_or_create(str(tmp_path / "a" / "b" / "identity.key"))


def test_loading_makes_nothing(home: Path) -> None:
    with pytest.raises(FtxError, match="there is no identity key"):
        keys.load(str(home / "identity.key"))
    assert os.listdir(home) == []


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o602, 0o644])
def test_a_file_open_to_others_is_refused(home: Path, mode: int) -> None:
    path = home / "identity.key"
    keys.load_or_create(str(path))
    path.chmod(mode)
    assert "open to other users" in refusal(path)


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702, 0o1777])
def test_a_folder_others_may_change_is_refused(home: Path, mode: int) -> None:
    home.chmod(mode)
    with pytest.raises(FtxError, match="can be changed by others"):
        keys.load_or_create(str(home / "identity.key"))
    assert os.listdir(home) == []


def test_what_is_no_file_of_ours_is_refused_at_once(home: Path) -> None:
    real = home / "real.key"
    keys.load_or_create(str(real))
    (home / "link.key").symlink_to(real)
    (home / "dangling.key").symlink_to(home / "nothing")
    (home / "folder.key").mkdir()
    os.mkfifo(home / "pipe.key", 0o600)
    assert "symbolic link" in refusal(home / "link.key")
    assert "symbolic link" in refusal(home / "dangling.key")
    assert "not a regular file" in refusal(home / "folder.key")
    assert "not a regular file" in refusal(home / "pipe.key")
    assert not (home / "nothing").exists()


def test_what_is_no_key_is_refused(home: Path) -> None:
    path = home / "identity.key"
    ours = Ed25519PrivateKey.generate()
    locked = ours.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    other = generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    whole = ours.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for content, says in [
        (b"", "does not contain a usable key"),
        (b"\0" * 119, "does not contain a usable key"),
        (whole[:70], "does not contain a usable key"),
        (locked, "does not contain a usable key"),
        (other, "not an Ed25519 key"),
        (b"x" * 5000, "too large"),
    ]:
        path.write_bytes(content)
        path.chmod(0o600)
        assert says in refusal(path)
    assert path.read_bytes() == b"x" * 5000


def test_a_huge_file_is_not_read(home: Path) -> None:
    path = home / "identity.key"
    with path.open("wb") as file:
        file.truncate(1 << 30)
    path.chmod(0o600)
    assert "too large" in refusal(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be two users")
def test_another_users_key_is_refused(home: Path, tmp_path: Path) -> None:
    path = home / "identity.key"
    keys.load_or_create(str(path))
    os.chown(path, 65534, 65534)
    assert "belongs to another user" in refusal(path)
    os.chown(home, 65534, 65534)
    with pytest.raises(FtxError, match=r"the folder .* belongs to another user"):
        keys.load_or_create(str(path))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be two users")
def test_a_folder_without_rights_is_an_error(short_tmp: Path) -> None:
    folder = short_tmp / "home"
    folder.mkdir(mode=0o755)
    short_tmp.chmod(0o755)

    def create() -> str:
        try:
            keys.load_or_create(str(folder / "identity.key"))
        except FtxError as error:
            return f"{error.name}: {error.message}"
        return "made"

    answer = as_nobody(create)
    assert answer.startswith("key-unusable: ")
    assert answer.endswith("permission denied")


def test_processes_that_start_at_once_agree(home: Path) -> None:
    path = str(home / "identity.key")
    program = (
        "import sys; from ftx.disk import keys; print('ready', flush=True); sys.stdin.readline();"
        "print(keys.load_or_create(sys.argv[1]).id.hex())"
    )
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", program, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    for run in runs:
        assert run.stdout is not None
        assert run.stdout.readline() == "ready\n"
    for run in runs:
        assert run.stdin is not None
        run.stdin.write("\n")
        run.stdin.flush()
    answers = {run.communicate(timeout=60)[0] for run in runs}
    assert answers == {keys.load(path).id.hex() + "\n"}
    assert os.listdir(home) == ["identity.key"]


def test_a_key_is_never_made_over_something(home: Path) -> None:
    """Whatever has the name when a new key is to get it stays: a file of ours, and a link that leads nowhere."""
    path = home / "identity.key"
    first = keys.load_or_create(str(path))
    assert private.create(str(path), b"another", "key-unusable") is False
    assert keys.load(str(path)) == first
    link = home / "link.key"
    link.symlink_to(home / "nothing")
    assert private.create(str(link), b"another", "key-unusable") is False
    assert sorted(os.listdir(home)) == ["identity.key", "link.key"]
    assert link.is_symlink()


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o700])
def test_a_file_of_ours_alone_is_taken(home: Path, mode: int) -> None:
    path = home / "identity.key"
    made = keys.load_or_create(str(path))
    path.chmod(mode)
    assert keys.load_or_create(str(path)) == made


def test_renewing_replaces_the_key(home: Path) -> None:
    path = str(home / "identity.key")
    old = keys.load_or_create(path)
    new = keys.renew(path)
    assert new.id != old.id
    assert keys.load(path) == new
    assert os.listdir(home) == ["identity.key"]


def test_signatures_verify_only_as_they_were_made() -> None:
    mine, other = keys.Identity.generate(), keys.Identity.generate()
    signature = mine.sign(b"context", b"message")
    assert len(signature) == 64
    assert keys.verify(mine.public_raw, b"context", b"message", signature)
    assert not keys.verify(other.public_raw, b"context", b"message", signature)
    assert not keys.verify(mine.public_raw, b"other", b"message", signature)
    assert not keys.verify(mine.public_raw, b"context", b"other", signature)
    for public, made in [
        (b"", signature),
        (bytes(31), signature),
        (bytes([255]) * 32, signature),
        (mine.public_raw, b""),
        (mine.public_raw, signature[:-1]),
        (mine.public_raw, bytes(64)),
    ]:
        assert not keys.verify(public, b"context", b"message", made)


def test_the_private_key_is_not_shown() -> None:
    made = keys.Identity.generate()
    assert "private_key" not in repr(made)
    assert hash(made) == hash(keys.Identity.of(made.private_key))
