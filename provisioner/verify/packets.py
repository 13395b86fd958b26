"""Who reaches whom, tried with real packets: TCP connections, UDP datagrams and pings.

This module stands alone (the standard library and testinfra's ``host``) and is copied into every suite that is
written. The host needs bash, coreutils, iproute2 and, for pings, ping; no Python. All attempts of a session are
started at once, as each one that is dropped takes its time to say nothing.
"""

from __future__ import annotations

import shlex
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

__all__ = ["Attempt", "expect_packet", "outcomes", "start"]

#: How many attempts run at the same time on one host.
_AT_ONCE = 32
#: Seconds without an answer that count as dropped; covers one retransmission.
_SILENCE = 1.3

_SCRIPT = r"""
patience=3000000  # microseconds for a service that is only starting to become what is wanted

hop_is_silent() {  # netns address: nobody answers for the next hop, so nobody refused either
  local at=(ip) hop
  [ -n "$1" ] && at=(ip -n "$1")
  hop=$("${at[@]}" route get "$2" 2>/dev/null | sed -n 's/.* via \(inet6 \)\{0,1\}\([^ ]*\) .*/\2/p;q')
  "${at[@]}" neighbour show to "${hop:-$2}" 2>/dev/null | grep -qE 'FAILED|INCOMPLETE'
}

judge() {  # netns address status words: sets outcome
  case $4 in
    *'socket: Operation'*|*'not found'*|*'not known'*) outcome=untried; return ;;
    sent*) ;;
    *) outcome=untried; return ;;  # it did not come as far as sending: `ip netns exec` said no
  esac
  case $3:$4 in
    0:*) outcome=reached ;;
    124:*|*'timed out'*|*'Operation not permitted'*) outcome=dropped ;;
    *'No route to host'*|*'Host Unreachable'*|*'Address unreachable'*)
      if hop_is_silent "$1" "$2"; then outcome=dropped; else outcome=refused; fi ;;
    *'refused'*|*'nreachable'*|*'rohibited'*|*'iltered'*|*'Permission denied'*|*'Invalid argument'*) outcome=refused ;;
    # What ping makes of a route that prohibits: it takes the kernel's no for that to a broadcast.
    *'Cannot assign requested address'*|*'want to ping broadcast'*) outcome=refused ;;
    1:*'packets transmitted'*) outcome=dropped ;;
    *) outcome=untried ;;
  esac
}

tcp='exec 3<>"/dev/tcp/$0/$1"'
udp='exec 3<>"/dev/udp/$0/$1" && printf "$2" >&3 && [ "$(head -c 1 <&3 | wc -c)" = 1 ]'

try() {  # netns protocol address port payload: sets outcome and words
  local inside=() send=() status
  [ -n "$1" ] && inside=(ip netns exec "$1")
  case $2 in
    tcp) send=(timeout "$silence" bash -c "$tcp" "$3" "$4") ;;
    udp) send=(timeout "$silence" bash -c "$udp" "$3" "$4" "$5") ;;
    icmp) send=(timeout 3 ping -n -c 1 -W 1 "$3") ;;
  esac
  words=$(LC_ALL=C "${inside[@]}" sh -c 'echo sent; exec "$@"' sh "${send[@]}" 2>&1)
  status=$?
  judge "$1" "$3" "$status" "$words"
  words=${words#sent}
}

attempt() {  # number netns protocol address port payload wanted
  local end=$((${EPOCHREALTIME/[.,]/} + patience)) outcome words
  while :; do
    try "$2" "$3" "$4" "$5" "$6"
    case $7 in '' | "$outcome") break ;; esac
    # What may still become as wanted is tried again: a service may be starting, an address may be tentative.
    # But an answer where silence is wanted is decided: asked again, the kernel would soon answer no more, as it
    # limits the rate of ICMP errors.
    case $7:$outcome:$words in
      dropped:refused:*'Cannot assign requested address'*) ;;
      dropped:*|*:reached:*|*:untried:*) break ;;
    esac
    [ "${EPOCHREALTIME/[.,]/}" -ge "$end" ] && break
    sleep 0.2
  done
  case $3 in
    icmp) [ "$outcome" = untried ] || words=$(grep -m 1 -iE 'unreachable|filtered|prohibited|ping:' <<<"$words") ;;
    *) [ "$outcome" = untried ] || words=${words##*: } ;;
  esac
  printf '%s %s %s\n' "$1" "$outcome" "$(printf %s "${words:0:400}" | tr '\n' ' ')"
}
"""

#: What a UDP service is asked, where a protocol has its own question that any server answers.
_QUESTIONS = {
    # DNS: the name servers of the root.
    53: r"\x6e\x73\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x01",
    # NTP: a client's packet of version 3.
    123: r"\x1b" + r"\x00" * 47,
}


class Attempt(NamedTuple):
    """From a namespace (None is the host itself) to an address, and the outcome that is wanted.

    It is tried again until it is as wanted; once, where nothing is (an empty text).
    """

    netns: str | None
    to: str
    proto: str
    wanted: str


@dataclass
class _Tries:
    """The attempts of one host, under way or done."""

    outcomes: dict[Attempt, tuple[str, str]] = field(default_factory=dict)
    running: threading.Thread | None = None


_all_tries: WeakKeyDictionary[Any, _Tries] = WeakKeyDictionary()


def start(host: Any, attempts: Iterable[Attempt]) -> None:
    """Starts attempts in the background; ``expect_packet`` waits for them."""
    wanted = list(dict.fromkeys(attempts))
    if not wanted:
        return
    tries = _all_tries.setdefault(host, _Tries())
    tries.running = threading.Thread(target=_carry_out, args=(host, tries, wanted), daemon=True)
    tries.running.start()


def expect_packet(host: Any, netns: str | None, to: str, proto: str, wanted: str) -> None:
    """Fails unless an attempt ends as wanted: ``reached``, ``refused`` or ``dropped``.

    ``to`` is ``address:port`` (``[v6]:port``), or an address for ``icmp``. Reached is a connection (tcp) or an
    answer (udp, icmp). Refused is a reset, an ICMP error or no route: the sender is told at once. Dropped is
    silence. What is not yet as wanted is tried again for three seconds, but for an answer where silence is wanted.
    """
    __tracebackhide__ = True
    attempt = Attempt(netns, to, proto, wanted)
    tries = _all_tries.setdefault(host, _Tries())
    if tries.running is not None:
        tries.running.join()
        tries.running = None
        _try_again(host, tries)
    if attempt not in tries.outcomes:
        _carry_out(host, tries, [attempt])
    outcome, words = tries.outcomes[attempt]
    if outcome != wanted:
        source = f"from {netns}" if netns else "from the host"
        became = "it could not be tried" if outcome == "untried" else f"it was {outcome}"
        said = f" ({words})" if words and outcome != "reached" else ""
        raise AssertionError(f"expected {to} to be {wanted} {source}, {became}{said}")


def _try_again(host: Any, tries: _Tries) -> None:
    """Once more what got no answer and shall have one, all at once: the first time, the host was asked much else, and
    a slow one may not have come to it in time."""
    silent = [one for one, (outcome, _) in tries.outcomes.items() if outcome == "dropped"]
    expected = [one for one in silent if one.wanted in ("reached", "refused")]
    if expected:
        _carry_out(host, tries, expected)


def outcomes(host: Any, attempts: Iterable[Attempt], *, silence: float) -> dict[Attempt, tuple[str, str]]:
    """What becomes of attempts, all made at once: the outcome of each, and what the kernel said of it.

    The outcome is ``reached``, ``refused``, ``dropped`` (no answer within ``silence`` seconds) or ``untried``.
    """
    tries = _Tries()
    _carry_out(host, tries, list(dict.fromkeys(attempts)), silence=silence)
    return tries.outcomes


def _carry_out(host: Any, tries: _Tries, attempts: list[Attempt], silence: float = _SILENCE) -> None:
    for first in range(0, len(attempts), _AT_ONCE):
        chunk = attempts[first : first + _AT_ONCE]
        lines = [_command(number, attempt) for number, attempt in enumerate(chunk)]
        script = "\n".join([f"silence={silence}", _SCRIPT, *lines, "wait"])
        try:
            result = host.run("bash -c %s", script)
            answers, trouble = result.stdout, result.stderr
        except Exception as error:  # a connection that broke is every attempt's failure, not the session's
            answers, trouble = "", str(error)
        for line in answers.splitlines():
            number, _, rest = line.partition(" ")
            outcome, _, words = rest.partition(" ")
            if number.isdigit() and int(number) < len(chunk):
                tries.outcomes[chunk[int(number)]] = (outcome, words.strip())
        for attempt in chunk:
            tries.outcomes.setdefault(attempt, ("untried", trouble.strip()))


def _command(number: int, attempt: Attempt) -> str:
    """The line of the script that makes one attempt in the background."""
    address, port = _address_and_port(attempt)
    payload = _QUESTIONS.get(int(port), r"nsprov\n") if attempt.proto == "udp" and port.isdigit() else ""
    words = [str(number), attempt.netns or "", attempt.proto, address, port, payload, attempt.wanted]
    return f"attempt {shlex.join(words)} &"


def _address_and_port(attempt: Attempt) -> tuple[str, str]:
    if attempt.proto == "icmp":
        return attempt.to.strip("[]"), ""
    address, _, port = attempt.to.rpartition(":")
    return address.strip("[]"), port
