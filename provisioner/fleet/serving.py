"""The agent's process on a host: JSON lines in and out, and nothing else on them.

It greets before it imports what it works with, so that whoever waits knows at once that it is there.
"""

from __future__ import annotations

import json
import os
import sys

from provisioner.fleet.version import PROTOCOL

__all__ = ["main"]


def main() -> None:
    """Serve this machine over standard input and output, until the input ends."""
    # What loads the bundle's own libraries is not for the programs that are started here.
    for name in ("LD_LIBRARY_PATH", "PYTHONHOME", "PYTHONPATH"):
        os.environ.pop(name, None)
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    # A library that prints, or reads, does it elsewhere.
    os.dup2(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), 0)
    os.dup2(2, 1)
    try:
        first = requests.readline()
        asked = json.loads(first) if first else {}
        if asked.get("do") == "hello":
            answers.write(json.dumps({"id": asked.get("id"), "answer": {"protocol": PROTOCOL}}) + "\n")
            answers.flush()
            first = ""
        from provisioner.fleet.agent import serve

        serve(requests, answers, first=first)
    except BrokenPipeError:
        sys.exit(1)  # nobody is there to answer any more


if __name__ == "__main__":
    main()
