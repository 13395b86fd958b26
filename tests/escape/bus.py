"""Just enough of D-Bus to ask the host's systemd something: calls with strings, and the bytes of the answer.

The programs that come with systemd say who they are, which is not who the host takes root of other users for; this
lets the host find out by itself. Standard library alone.
"""

from __future__ import annotations

import socket
import struct

_SYSTEM_BUS = "/run/dbus/system_bus_socket"


def asked(path: str, interface: str, member: str, *words: str) -> bytes:
    """What systemd answers to a call. Raises OSError."""
    line = socket.socket(socket.AF_UNIX)
    line.settimeout(10)
    line.connect(_SYSTEM_BUS)
    line.sendall(b"\0AUTH EXTERNAL\r\nDATA\r\n")
    said = b""
    while b"OK " not in said:
        data = line.recv(1000)
        if not data or b"REJECTED" in said + data:
            raise OSError(f"the bus lets nobody in: {said + data!r}")
        said += data
    line.sendall(b"BEGIN\r\n")
    line.sendall(_call(1, "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "Hello"))
    line.sendall(_call(2, "org.freedesktop.systemd1", path, interface, member, *words))
    while True:
        type, serial, message = _received(line)
        if serial == 2 and type in (2, 3):
            if type == 3:
                raise OSError(f"refused: {message[-150:]!r}")
            return message


def _padded(data: bytes, to: int) -> bytes:
    return data + bytes(-len(data) % to)


def _text(value: str) -> bytes:
    return struct.pack("<I", len(value.encode())) + value.encode() + b"\0"


def _call(serial: int, to: str, path: str, interface: str, member: str, *words: str) -> bytes:
    body = b""
    for word in words:
        body = _padded(body, 4) + _text(word)
    fields = b""
    for code, signature, value in ((1, b"o", path), (2, b"s", interface), (3, b"s", member), (6, b"s", to)):
        fields = _padded(fields, 8) + bytes([code, 1]) + signature + b"\0" + _text(value)
    if words:
        fields = _padded(fields, 8) + bytes([8, 1]) + b"g\0" + bytes([len(words)]) + b"s" * len(words) + b"\0"
    head = b"l\x01\0\x01" + struct.pack("<III", len(body), serial, len(fields))
    return _padded(head + fields, 8) + body


def _exactly(line: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = line.recv(count - len(data))
        if not more:
            raise OSError("the bus hung up")
        data += more
    return data


def _received(line: socket.socket) -> tuple[int, int, bytes]:
    """The type of the next message, the number of the call that it answers, and its body."""
    head = _exactly(line, 16)
    length, _, fields_length = struct.unpack("<III", head[4:])
    fields = _exactly(line, fields_length + -fields_length % 8)
    answers = fields.find(b"\x05\x01u\0")
    serial = struct.unpack_from("<I", fields, answers + 4)[0] if answers >= 0 else 0
    return head[1], serial, _exactly(line, length)
