"""The two ends of a host's channel: JSON lines, one request and one answer each.

``serve`` runs on the host's side, over a ``LocalTarget``; ``AgentTarget`` is the controller's side. What
carries the lines is the connection's business: for a sandbox it is a socket to a process forked into it.
"""

from __future__ import annotations

import json
import traceback
from contextlib import contextmanager, suppress
from itertools import chain
from typing import IO, TYPE_CHECKING, Any, Protocol

from provisioner.errors import ConfigError, HostError, LockedError, NotPermittedError, NsprovError, UnreachableError
from provisioner.fleet import protocol
from provisioner.fleet.target import LocalTarget, Target
from provisioner.fleet.version import PROTOCOL

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from provisioner.model import Address, Resource, Scope, Snapshot, Step, StepResult
    from provisioner.verify.reach import Reach

__all__ = ["AgentTarget", "Channel", "serve", "serve_socket"]

_ERRORS: dict[str, type[NsprovError]] = {
    cls.__name__: cls for cls in (NsprovError, ConfigError, HostError, LockedError, NotPermittedError)
}


def serve_socket(channel: socket.socket) -> None:
    """Serve this machine over a socket until the other end closes it."""
    with channel.makefile("r", encoding="utf-8") as requests, channel.makefile("w", encoding="utf-8") as answers:
        serve(requests, answers)


def serve(requests: Iterable[str], answers: IO[str], target: Target | None = None, *, first: str = "") -> None:
    """Answer requests about this machine, or another target, line by line, until there are no more.

    ``first`` is one that was read already.
    """
    from provisioner.host import Host

    with Host() as host:
        agent = _Agent(target or LocalTarget(host))
        for line in chain([first] if first else [], requests):
            answers.write(json.dumps(agent.answer(json.loads(line))) + "\n")
            answers.flush()


class _Agent:
    """Turns requests into calls of a target."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._held: Any = None

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        try:
            call: Callable[[Any], Any] = getattr(self, f"do_{request['do']}")
            return {"answer": call(request.get("with"))}
        except NsprovError as error:
            return {
                "error": type(error).__name__,
                "message": error.message,
                "hint": error.hint,
                "detail": getattr(error, "detail", ""),
                "code": getattr(error, "code", 0),
            }
        except Exception:
            return {"defect": traceback.format_exc()}

    def do_hello(self, _: Any) -> Any:
        return {"protocol": PROTOCOL}

    def do_facts(self, _: Any) -> Any:
        return self.target.facts()

    def do_ask(self, value: Any) -> Any:
        return self.target.ask(value)

    def do_observe(self, value: Any) -> Any:
        return protocol.encode_snapshot(self.target.observe(protocol.decode_scope(value)))

    def do_carry_out(self, value: Any) -> Any:
        return protocol.encode_results(self.target.carry_out(protocol.decode_steps(value)))

    def do_status(self, value: Any) -> Any:
        return protocol.encode_status(self.target.status([protocol.decode_resource(one) for one in value]))

    def do_read_manifests(self, _: Any) -> Any:
        return self.target.read_manifests()

    def do_write_manifest(self, value: Any) -> Any:
        self.target.write_manifest(value["project"], value["text"])

    def do_lock(self, _: Any) -> Any:
        held = self.target.lock()
        held.__enter__()
        self._held = held

    def do_unlock(self, _: Any) -> Any:
        held, self._held = self._held, None
        if held is not None:
            held.__exit__(None, None, None)


class Channel(Protocol):
    """A connection to an agent: its socket, and what is known of its end."""

    @property
    def socket(self) -> socket.socket: ...

    def broken(self, name: str) -> NsprovError:
        """Why the line to the host of this name is at its end."""
        ...

    def close(self) -> None: ...


class AgentTarget(Target):
    """A host that is reached through an agent on its side."""

    def __init__(
        self,
        name: str,
        channel: Channel,
        reach: Reach,
        *,
        lasting_uri: str | None = None,
        answer_seconds: int | None = None,
    ) -> None:
        self.name = name
        self.reach = reach
        self.lasting_uri = lasting_uri or (reach if isinstance(reach, str) else reach.uri)
        self._channel = channel
        self._answer_seconds = answer_seconds
        channel.socket.settimeout(answer_seconds)
        self._requests = channel.socket.makefile("w", encoding="utf-8")
        self._answers = channel.socket.makefile("r", encoding="utf-8")
        self._facts: Mapping[str, Any] | None = None
        spoken = self._ask("hello")["protocol"]
        if spoken != PROTOCOL:
            raise HostError(f"the agent on {name} speaks protocol {spoken}, and not {PROTOCOL}")

    def facts(self) -> Mapping[str, Any]:
        if self._facts is None:
            self._facts = self._ask("facts")
        return self._facts or {}

    def ask(self, questions: Sequence[str]) -> Mapping[str, Any]:
        answers: dict[str, Any] = self._ask("ask", list(questions))
        return answers

    def observe(self, scope: Scope) -> Snapshot:
        return protocol.decode_snapshot(self._ask("observe", protocol.encode_scope(scope)))

    def carry_out(self, steps: Sequence[Step]) -> list[StepResult]:
        return protocol.decode_results(self._ask("carry_out", protocol.encode_steps(steps)))

    def status(self, resources: Sequence[Resource]) -> Mapping[Address, str]:
        return protocol.decode_status(self._ask("status", [protocol.encode_resource(one) for one in resources]))

    def read_manifests(self) -> Mapping[str, str]:
        texts: dict[str, str] = self._ask("read_manifests")
        return texts

    def write_manifest(self, project: str, text: str | None) -> None:
        self._ask("write_manifest", {"project": project, "text": text})

    @contextmanager
    def lock(self) -> Iterator[None]:
        self._ask("lock")
        try:
            yield
        finally:
            with suppress(UnreachableError):  # where there is no line any more, the lock went with its agent
                self._ask("unlock")

    def close(self) -> None:
        for end in (self._requests, self._answers):
            try:
                end.close()
            except OSError:
                pass  # what could not be flushed has nobody to read it
        self._channel.close()

    def _ask(self, do: str, value: Any = None) -> Any:
        try:
            self._requests.write(json.dumps({"do": do, "with": value}) + "\n")
            self._requests.flush()
            line = self._answers.readline()
        except TimeoutError:
            raise UnreachableError(
                f"{self.name} has not answered for {self._answer_seconds} s",
                hint="it hangs, or a step takes longer than the host's variable nsprov_timeout allows (seconds)",
            ) from None
        except OSError:
            line = ""  # why is known at the other end of the channel
        if not line:
            raise self._channel.broken(self.name)
        answer = json.loads(line)
        if "defect" in answer:
            raise RuntimeError(f"on {self.name}: {answer['defect']}")
        if "error" in answer:
            raise self._error(answer)
        return answer.get("answer")

    def _error(self, answer: Mapping[str, Any]) -> NsprovError:
        cls = _ERRORS.get(answer["error"], HostError)
        error = cls(answer["message"], hint=answer["hint"])
        if isinstance(error, HostError):
            error.detail, error.code = answer["detail"], answer["code"]
        return error
