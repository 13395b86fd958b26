"""In the guest: runs the commands that come over the second serial line, and answers. Only the standard library."""

import json
import os
import subprocess
import termios
import tty


def main() -> None:
    line = os.open("/dev/ttyS1", os.O_RDWR | os.O_NOCTTY)
    tty.setraw(line, termios.TCSANOW)
    with os.fdopen(os.dup(line), "rb") as requests, os.fdopen(line, "wb") as answers:
        for text in requests:
            try:
                request = json.loads(text)
            except ValueError:
                continue  # what stood on the line before we listened
            done = subprocess.run(
                request["argv"], input=request["input"], capture_output=True, text=True, errors="replace", check=False
            )
            answer = {
                "number": request["number"],
                "code": done.returncode,
                "stdout": done.stdout,
                "stderr": done.stderr,
            }
            answers.write(json.dumps(answer).encode() + b"\n")
            answers.flush()


if __name__ == "__main__":
    main()
