"""The yardstick: what blocking Python can do with the standard library's `ssl`, in two processes.

A file goes through one TLS 1.3 stream into another file, neither hashed nor synced: no file service in Python can be
expected to be faster, and one that is nearly as fast wastes little.
"""

from __future__ import annotations

import os
import socket
import ssl
import sys

_PIECE = 256 * 1024


def serve(path: str, certificate: str) -> None:
    """Print a port on loopback, take one connection, and write what comes into the file `path`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        print(listening.getsockname()[1], flush=True)
        plain, _ = listening.accept()
    buffer = memoryview(bytearray(_PIECE))
    with context.wrap_socket(plain, server_side=True) as secure, open(path, "wb", buffering=0) as file:
        while count := secure.recv_into(buffer):
            file.write(buffer[:count])
        secure.unwrap()


def send(path: str, port: int) -> None:
    """Send the file `path` there, and wait for the other end to have it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    buffer = memoryview(bytearray(_PIECE))
    with (
        socket.create_connection(("127.0.0.1", port)) as plain,
        context.wrap_socket(plain) as secure,
        open(path, "rb", buffering=0) as file,
    ):
        while count := file.readinto(buffer):
            secure.sendall(buffer[:count])
        secure.unwrap()


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2], sys.argv[3])
        os._exit(0)
    send(sys.argv[2], int(sys.argv[3]))
