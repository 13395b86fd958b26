"""Lends the connections of one process to the pytest processes that it starts.

A host that is checked is connected already, to be asked for its facts: by ssh that took a handshake, maybe passwords,
and an agent, of which nothing is done twice, and no secret is told to another process. The processes meet at a socket
in a folder that only their user can enter; a command takes one connection to it, a line of JSON each way.
"""

from __future__ import annotations

import json
import os
import socket
import socketserver
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from provisioner.errors import NsprovError
from provisioner.fleet import protocol

if TYPE_CHECKING:
    from provisioner.fleet.target import Output
    from provisioner.verify.reach import Connection

__all__ = ["RELAY_FOLDER", "RELAY_SCHEME", "ask_relay", "relay"]

#: The variable that names the folder of the socket.
RELAY_FOLDER = "NSPROV_VERIFY_RELAY"
#: The scheme of testinfra's URIs of hosts that are reached so.
RELAY_SCHEME = "nsprov-relay"
_SOCKET = "relay"


@contextmanager
def relay(folder: Path, connections: Mapping[str, Connection]) -> Iterator[None]:
    """Lend connections, each by its name, to whoever can enter the folder."""
    with _short(folder) as address, _Server(address, connections) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
        serving.start()
        try:
            yield
        finally:
            server.shutdown()
            serving.join()


def ask_relay(folder: Path, name: str, command: str) -> Output:
    """Run a line of shell over a connection of the process that lends it. Raises RuntimeError with why it cannot."""
    with _short(folder) as address, socket.socket(socket.AF_UNIX) as line:
        line.connect(address)
        line.sendall(json.dumps([name, command]).encode() + b"\n")
        with line.makefile("rb") as answers:
            answer = json.loads(answers.readline() or b'{"error": "nsprov has ended"}')
    if "error" in answer:
        raise RuntimeError(answer["error"])
    return protocol.decode_output(answer["output"])


@contextmanager
def _short(folder: Path) -> Iterator[str]:
    """The socket's address, which has 107 bytes whatever the folder is called: unix(7)."""
    opened = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{opened}/{_SOCKET}"
    finally:
        os.close(opened)


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: str, connections: Mapping[str, Connection]) -> None:
        self.connections = connections
        super().__init__(address, _Asked)


class _Asked(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        name, command = json.loads(self.rfile.readline())
        try:
            answer = {"output": protocol.encode_output(self.server.connections[name].run(command))}
        except NsprovError as error:
            answer = {"error": str(error)}
        self.wfile.write(json.dumps(answer).encode() + b"\n")
