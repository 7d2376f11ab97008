"""The programs that ftx is compared with: each started on loopback with a configuration of its own, and stopped.

Nothing is installed and no configuration of the machine is touched; what is missing is left out by name. A contestant
puts `source` (a file or a folder) below the folder `into`.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import attrs

from benchmarks.measure import BenchmarkError, Run
from benchmarks.processes import Service, end, finish, free_port, run, spent, start

__all__ = ["Contestant", "Curl", "Pipe", "Rsync", "Scp", "TarOverSsh", "Wormhole"]


class Contestant(Protocol):
    """A way to get files from one folder of this machine to another, through a socket."""

    name: str
    #: What a reader must know to compare: encrypted or not, verified or not.
    does: str

    def missing(self) -> str | None:
        """Why it cannot take part, or None."""

    def start(self, folder: Path) -> None:
        """Start what has to run beside, with its files below `folder`. BenchmarkError when that fails."""

    def push(self, source: Path, into: Path) -> Run:
        """Bring `source` below `into`, which exists and is empty."""

    def stop(self) -> None:
        """End what was started."""


class _WithService:
    """What contestants with a service of their own have in common."""

    _service: Service | None = None

    def stop(self) -> None:
        """End the service."""
        if self._service is not None:
            self._service.stop()
            self._service = None

    def _served(self, command: Sequence[str | Path]) -> Run:
        """Run the program in front, and count what the service spent on it."""
        if self._service is None:
            raise BenchmarkError("the service does not run")
        pid = self._service.process.pid
        before = spent(pid)
        one = run(command)
        return attrs.evolve(one, service=spent(pid) - before)


class Rsync(_WithService):
    """rsync to its own daemon."""

    name = "rsync daemon"
    does = "clear text, whole-file checksum, no sync"

    def __init__(self, *options: str) -> None:
        self._options = options or ("-a", "-W")
        self._port = free_port()
        self._root = Path()

    def missing(self) -> str | None:
        """See Contestant."""
        return None if shutil.which("rsync") else "rsync is not installed"

    def start(self, folder: Path) -> None:
        """See Contestant."""
        self._root = folder.parent
        configuration = folder / "rsyncd.conf"
        user = pwd.getpwuid(os.geteuid()).pw_name
        rights = f"uid = {user}\ngid = {os.getegid()}\n" if os.geteuid() == 0 else ""
        configuration.write_text(
            f"use chroot = no\nport = {self._port}\naddress = 127.0.0.1\nlog file = {folder / 'log'}\n"
            f"pid file = {folder / 'pid'}\n{rights}[all]\npath = {self._root}\nread only = no\n"
        )
        command = ["rsync", "--daemon", "--no-detach", f"--config={configuration}"]
        self._service = Service(command, self._port, folder / "out", {})

    def push(self, source: Path, into: Path) -> Run:
        """See Contestant."""
        target = f"rsync://127.0.0.1:{self._port}/all/{into.relative_to(self._root)}/"
        return self._served(["rsync", *self._options, source, target])


class _Ssh(_WithService):
    """An SSH server with a key of its own."""

    def __init__(self) -> None:
        self._port = free_port()
        self._options: list[str] = []

    def missing(self) -> str | None:
        """See Contestant."""
        if not shutil.which("scp") or not Path("/usr/sbin/sshd").exists():
            return "the OpenSSH client or server is not installed"
        if not Path("/run/sshd").is_dir() and os.geteuid() == 0:
            return "the OpenSSH server wants the folder /run/sshd"
        return None

    def start(self, folder: Path) -> None:
        """See Contestant."""
        for key in ("host", "user"):
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key])
        configuration = folder / "sshd_config"
        configuration.write_text(
            f"Port {self._port}\nListenAddress 127.0.0.1\nHostKey {folder / 'host'}\nStrictModes no\nUsePAM no\n"
            f"AuthorizedKeysFile {folder / 'user.pub'}\nPidFile none\nPermitRootLogin prohibit-password\n"
            "Subsystem sftp internal-sftp\n"
        )
        self._service = Service(["/usr/sbin/sshd", "-D", "-e", "-f", configuration], self._port, folder / "out", {})
        self._options = [
            *("-q", "-c", "aes128-gcm@openssh.com", "-i", str(folder / "user")),
            *("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes"),
            *("-o", "LogLevel=ERROR"),
        ]

    @property
    def _user(self) -> str:
        return pwd.getpwuid(os.geteuid()).pw_name


class Scp(_Ssh):
    """scp, with the cipher that is fastest where the processor knows AES."""

    name = "scp aes128-gcm"
    does = "encrypted, no sync"

    def push(self, source: Path, into: Path) -> Run:
        """See Contestant."""
        target = f"{self._user}@127.0.0.1:{into}/"
        return self._served(["scp", "-r", "-P", str(self._port), *self._options, source, target])


class TarOverSsh(_Ssh):
    """tar here, ssh, tar there."""

    name = "tar over ssh"
    does = "encrypted, no sync"

    def push(self, source: Path, into: Path) -> Run:
        """See Contestant."""
        ssh = ["ssh", "-p", str(self._port), *self._options, f"{self._user}@127.0.0.1", f"tar xf - -C {into}"]
        words = " ".join(f"'{word}'" for word in ssh)
        return self._served(["sh", "-c", f"tar cf - -C '{source.parent}' '{source.name}' | {words}"])


class Curl(_WithService):
    """nginx sends a file, curl writes it."""

    name = "nginx and curl"
    does = "clear text, not verified, no sync"

    def __init__(self) -> None:
        self._port = free_port()
        self._root = Path()

    def missing(self) -> str | None:
        """See Contestant."""
        return None if shutil.which("nginx") and shutil.which("curl") else "nginx or curl is not installed"

    def start(self, folder: Path) -> None:
        """See Contestant."""
        self._root = folder.parent
        user = "user root;" if os.geteuid() == 0 else ""
        configuration = folder / "nginx.conf"
        configuration.write_text(
            f"{user} daemon off; pid {folder}/pid; error_log {folder}/error; events {{}} http {{ access_log off; "
            f"sendfile on; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; "
            f"fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; "
            f"server {{ listen 127.0.0.1:{self._port}; root {self._root}; }} }}"
        )
        self._service = Service(["nginx", "-p", folder, "-c", configuration], self._port, folder / "out", {})

    def push(self, source: Path, into: Path) -> Run:
        """See Contestant; the direction is the other one, for this is how it is used."""
        if source.is_dir():
            raise BenchmarkError("folders are beyond it")
        address = f"http://127.0.0.1:{self._port}/{source.relative_to(self._root)}"
        return self._served(["curl", "-sf", "-o", into / source.name, address])


class Wormhole(_WithService):
    """magic-wormhole with a mailbox server of its own, both ends on this machine."""

    name = "magic-wormhole"
    does = "encrypted, verified, no sync"

    def __init__(self) -> None:
        self._port = free_port()
        self._codes = 0
        self._archives = Path()

    def missing(self) -> str | None:
        """See Contestant."""
        return None if shutil.which("wormhole") and shutil.which("twist") else "magic-wormhole is not installed"

    def start(self, folder: Path) -> None:
        """See Contestant."""
        self._archives = folder
        command = ["twist", "wormhole-mailbox", f"--port=tcp:{self._port}:interface=127.0.0.1", "--usage-db=:memory:"]
        database = f"--channel-db={folder / 'relay.sqlite'}"
        self._service = Service([*command, database], self._port, folder / "out", {})

    def push(self, source: Path, into: Path) -> Run:
        """See Contestant; the time is that of both ends together, from the start to the end of the later one."""
        self._codes += 1
        words = [f"--relay-url=ws://127.0.0.1:{self._port}/v1", "--transit-helper="]
        code = f"{self._codes}-guitarist-revenge"
        # it makes an archive of a folder; next to what is sent, as good as what the others have
        archives = {"TMPDIR": str(self._archives)}
        sender = start(["wormhole", *words, "send", "--hide-progress", "--code", code, str(source)], environ=archives)
        try:
            one = run(
                ["wormhole", *words, "receive", "--hide-progress", "--accept-file", code], cwd=into, environ=archives
            )
            _, processor, _ = finish(sender, 30)  # it ends when the receiver has said that it has everything
            return attrs.evolve(one, service=processor)
        finally:
            end(sender)


class Pipe:
    """The yardstick: `benchmarks/pipe.py`."""

    name = "blocking ssl pipe"
    does = "encrypted, not verified, no sync"

    def __init__(self) -> None:
        self._folder = Path()

    def missing(self) -> str | None:
        """See Contestant."""
        return None if shutil.which("openssl") else "openssl, which makes its certificate, is not installed"

    def start(self, folder: Path) -> None:
        """See Contestant."""
        self._folder = folder
        pem = folder / "pem"
        request = ["openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-subj", "/CN=pipe"]
        run([*request, "-keyout", pem, "-out", folder / "crt"])
        with pem.open("ab") as file:
            file.write((folder / "crt").read_bytes())

    def push(self, source: Path, into: Path) -> Run:
        """See Contestant; the end that writes is the service."""
        if source.is_dir():
            raise BenchmarkError("folders are beyond it")
        program: list[str | Path] = [sys.executable, "-m", "benchmarks.pipe"]
        server = start([*program, "serve", into / source.name, self._folder / "pem"], stdout=subprocess.PIPE)
        try:
            port = int((server.stdout.readline() if server.stdout else b"") or b"0")
            one = run([*program, "send", source, str(port)])
            code, processor, _ = finish(server, 30)
        finally:
            end(server, 0)
        if code:
            raise BenchmarkError(f"the end of the pipe that writes ended with {code}")
        return attrs.evolve(one, service=processor)

    def stop(self) -> None:
        """See Contestant: nothing runs beside."""
