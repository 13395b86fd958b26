"""What is there to be reached on the host: a service with secrets in its memory, its files and its shared memory.

    TOKEN=SECRET python3 -m tests.escape.bait FOLDER

Writes where it can be found to FOLDER/bait.json, and tells systemd that it is ready. Standard library alone.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import sys
import tempfile
import threading
from pathlib import Path

from tests.escape import kernel

#: The number of its shared memory and its message queue.
KEY = 0x6E737076
NAME = "escape-bait"
#: Its server on the host's loopback, and the one that says where a packet seems to come from.
LOOPBACK_PORT, ECHO_PORT = 4411, 4412

_libc = ctypes.CDLL(None, use_errno=True)
_IPC_CREAT = 0o1000


def main() -> None:
    folder, secret = Path(sys.argv[1]), os.environ["TOKEN"].encode()
    os.umask(0)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    memory = ctypes.create_string_buffer(secret)
    held = tempfile.TemporaryFile()  # noqa: SIM115
    held.write(secret)
    held.flush()
    share(secret)
    listening = [*abstract_socket(), loopback_server(secret)]
    threading.Thread(target=tell_who_seems_to_send, daemon=True).start()
    found = {
        "pid": os.getpid(),
        "address": ctypes.addressof(memory),
        "length": len(secret),
        "fd": held.fileno(),
        "key": key(secret),
    }
    (folder / "bait.json").write_text(json.dumps(found))
    ready()
    while listening:
        signal.pause()


def share(secret: bytes) -> None:
    """Shared memory and message queues that everybody may read and write, of both kinds that there are."""
    _libc.shmat.restype = ctypes.c_void_p
    piece = _libc.shmget(KEY, 4096, _IPC_CREAT | 0o666)
    ctypes.memmove(_libc.shmat(piece, None, 0), secret, len(secret))
    _libc.msgget(KEY, _IPC_CREAT | 0o666)
    Path("/dev/shm", NAME).write_bytes(secret)
    _libc.mq_open(f"/{NAME}".encode(), os.O_CREAT | os.O_RDWR, 0o666, None)


def key(secret: bytes) -> int:
    """A key that everybody may read; none in a sandbox, which shares the keys of its machine."""
    if Path("/run/systemd/container").exists():
        return 0
    number = kernel.call("add_key", b"user", NAME.encode(), secret, len(secret), -3)
    kernel.call("keyctl", 5, number, 0x3F3F3F3F)
    return number


def abstract_socket() -> list[socket.socket]:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"\0{NAME}")
    listener.listen()
    return [listener]


def loopback_server(secret: bytes) -> socket.socket:
    listener = socket.create_server(("127.0.0.1", LOOPBACK_PORT))

    def serve() -> None:
        while True:
            line, _ = listener.accept()
            with line:
                line.sendall(secret)

    threading.Thread(target=serve, daemon=True).start()
    return listener


def tell_who_seems_to_send() -> None:
    """Answers each packet to the address that is written in it, with the one that it seems to come from."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("0.0.0.0", ECHO_PORT))
    while True:
        data, (seen, _) = server.recvfrom(200)
        try:
            address, port = data.decode().split()
            server.sendto(seen.encode(), (address, int(port)))
        except (ValueError, OSError):
            continue


def ready() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])


if __name__ == "__main__":
    main()
