"""Another tenant on the bridge, and the host that talks to it: traffic that a spoofer would like to have.

    python3 -m tests.escape.neighbour PORT ADDRESS ...

Sends a packet to each some times a second, and takes what is sent to that port. Standard library alone.
"""

from __future__ import annotations

import contextlib
import socket
import sys


def main() -> None:
    port, addresses = int(sys.argv[1]), sys.argv[2:]
    line = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    line.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    line.bind(("", port))
    line.settimeout(0.2)
    while True:
        for address in addresses:
            with contextlib.suppress(OSError):
                line.sendto(b"between the two of us", (address if ":" in address else f"::ffff:{address}", port))
            with contextlib.suppress(OSError):
                line.recv(200)


if __name__ == "__main__":
    main()
