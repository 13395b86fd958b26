"""The two ends of a host's channel: JSON lines, one request and one answer each.

``serve`` runs on the host's side, over a ``LocalTarget``; ``AgentTarget`` is the controller's side. What
carries the lines is the connection's business: for a sandbox it is a socket to a process forked into it.
"""

from __future__ import annotations

import json
import socket
import threading
import time
import traceback
from contextlib import contextmanager, suppress
from itertools import chain, count
from typing import IO, TYPE_CHECKING, Any, Protocol

from provisioner.errors import ConfigError, HostError, LockedError, NotPermittedError, NsprovError, UnreachableError
from provisioner.fleet import protocol
from provisioner.fleet.target import LocalTarget, Output, Target
from provisioner.fleet.version import PROTOCOL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from provisioner.model import Address, Resource, Scope, Snapshot, Step, StepResult

__all__ = ["AgentTarget", "Channel", "serve", "serve_socket"]

#: Seconds between two parts of the results of steps.
_TELL_EVERY = 0.2
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
        agent = _Agent(target or LocalTarget(host), answers)
        for line in chain([first] if first else [], requests):
            agent.take(json.loads(line))


class _Agent:
    """Turns requests into calls of a target."""

    def __init__(self, target: Target, answers: IO[str]) -> None:
        self.target = target
        self._held: Any = None
        self._answers = answers
        self._writing = threading.Lock()

    def take(self, request: Mapping[str, Any]) -> None:
        """Do what a request asks for, and answer it; a command runs beside the requests that come after it."""
        if request["do"] != "run":
            self._tell(request, self._answer(request))
            return

        def run() -> None:
            with suppress(OSError, ValueError):  # nobody reads any more
                self._tell(request, self._answer(request))

        threading.Thread(target=run, daemon=True).start()

    def _tell(self, request: Mapping[str, Any], said: Mapping[str, Any]) -> None:
        line = json.dumps({"id": request.get("id"), **said}) + "\n"
        with self._writing:
            self._answers.write(line)
            self._answers.flush()

    def _answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        try:
            if request["do"] == "carry_out":
                return {"answer": self._carry_out(request)}
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

    def _carry_out(self, request: Mapping[str, Any]) -> Any:
        """Results go out in parts while the steps are carried out, and the rest with the answer."""
        ready: list[StepResult] = []
        told, last = 0, time.monotonic()

        def seen(result: StepResult) -> None:
            nonlocal told, last
            ready.append(result)
            if time.monotonic() - last >= _TELL_EVERY:
                with suppress(OSError):  # a step is not left half done because nobody reads any more
                    self._tell(request, {"some": protocol.encode_results(ready[told:])})
                told, last = len(ready), time.monotonic()

        results = self.target.carry_out(protocol.decode_steps(request["with"]), seen)
        return protocol.encode_results(results[told:])

    def do_hello(self, _: Any) -> Any:
        return {"protocol": PROTOCOL}

    def do_facts(self, _: Any) -> Any:
        return self.target.facts()

    def do_ask(self, value: Any) -> Any:
        return self.target.ask(value)

    def do_observe(self, value: Any) -> Any:
        return protocol.encode_snapshot(self.target.observe(protocol.decode_scope(value)))

    def do_status(self, value: Any) -> Any:
        return protocol.encode_status(self.target.status([protocol.decode_resource(one) for one in value]))

    def do_read_manifests(self, _: Any) -> Any:
        return self.target.read_manifests()

    def do_write_manifest(self, value: Any) -> Any:
        self.target.write_manifest(value["project"], value["text"])

    def do_run(self, value: Any) -> Any:
        return protocol.encode_output(self.target.run(value["command"], value["seconds"]))

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
        lasting_uri: str,
        *,
        answer_seconds: int | None = None,
    ) -> None:
        self.name = name
        self.lasting_uri = lasting_uri
        self._channel = channel
        self._answer_seconds = answer_seconds
        channel.socket.settimeout(answer_seconds)
        self._requests = channel.socket.makefile("w", encoding="utf-8")
        self._answers = channel.socket.makefile("r", encoding="utf-8")
        self._facts: Mapping[str, Any] | None = None
        self._numbers = count(1)
        #: What was read and is another thread's, by its number; and whether a thread is reading.
        self._read: dict[int, list[Mapping[str, Any]]] = {}
        self._is_read = False
        self._turn = threading.Condition()
        self._sending = threading.Lock()
        self._lost: NsprovError | None = None
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

    def carry_out(
        self, steps: Sequence[Step], seen: Callable[[StepResult], object] = lambda _: None
    ) -> list[StepResult]:
        results: list[StepResult] = []

        def take(some: Any) -> None:
            for result in protocol.decode_results(some):
                results.append(result)
                if not result.skipped:
                    seen(result)

        take(self._ask("carry_out", protocol.encode_steps(steps), take))
        return results

    def status(self, resources: Sequence[Resource]) -> Mapping[Address, str]:
        return protocol.decode_status(self._ask("status", [protocol.encode_resource(one) for one in resources]))

    def read_manifests(self) -> Mapping[str, str]:
        texts: dict[str, str] = self._ask("read_manifests")
        return texts

    def write_manifest(self, project: str, text: str | None) -> None:
        self._ask("write_manifest", {"project": project, "text": text})

    def run(self, command: str, seconds: float = 600) -> Output:
        return protocol.decode_output(self._ask("run", {"command": command, "seconds": seconds}))

    @property
    def lost(self) -> NsprovError | None:
        return self._lost

    @contextmanager
    def lock(self) -> Iterator[None]:
        self._ask("lock")
        try:
            yield
        finally:
            with suppress(UnreachableError):  # where there is no line any more, the lock went with its agent
                self._ask("unlock")

    def close(self) -> None:
        with suppress(OSError):
            # A thread that reads would keep its file from being closed until the host answers.
            self._channel.socket.shutdown(socket.SHUT_RDWR)
        for end in (self._requests, self._answers):
            try:
                end.close()
            except OSError:
                pass  # what could not be flushed has nobody to read it
        self._channel.close()

    def _ask(self, do: str, value: Any = None, take: Callable[[Any], None] = lambda _: None) -> Any:
        """What the agent answers; ``take`` is given what it tells before. Several threads may ask at once."""
        number = next(self._numbers)
        line = json.dumps({"id": number, "do": do, "with": value}) + "\n"
        with self._turn:
            if self._lost is not None:
                raise self._lost
            self._read[number] = []
        try:
            with self._sending:
                self._requests.write(line)
                self._requests.flush()
        except OSError:
            pass  # why is known at the other end of the channel
        try:
            while True:
                said = self._next(number)
                if "some" in said:
                    take(said["some"])
                elif "defect" in said:
                    raise RuntimeError(f"on {self.name}: {said['defect']}")
                elif "error" in said:
                    raise self._error(said)
                else:
                    return said.get("answer")
        finally:
            del self._read[number]

    def _next(self, number: int) -> Mapping[str, Any]:
        """The next that the agent says to a request. Of the threads that wait, one reads for all."""
        with self._turn:
            while True:
                if self._read[number]:
                    return self._read[number].pop(0)
                if self._lost is not None:
                    raise self._lost
                if self._is_read:
                    self._turn.wait()
                    continue
                self._is_read = True
                self._turn.release()
                said: Mapping[str, Any] = {}
                lost: NsprovError | None = None
                try:
                    said = self._line()
                except NsprovError as error:
                    lost = error
                finally:
                    self._turn.acquire()
                    self._is_read = False
                    self._lost = lost
                    self._turn.notify_all()
                # Nobody waits for the answer to a request that was given up.
                self._read.get(said.get("id", 0), []).append(said)

    def _line(self) -> Mapping[str, Any]:
        try:
            line = self._answers.readline()
        except TimeoutError:
            raise UnreachableError(
                f"{self.name} has not answered for {self._answer_seconds} s",
                hint="it hangs, or a step takes longer than the host's variable nsprov_timeout allows (seconds)",
            ) from None
        except (OSError, ValueError):
            line = ""  # why is known at the other end of the channel
        if not line.endswith("\n"):
            raise self._channel.broken(self.name)
        said: Mapping[str, Any] = json.loads(line)
        return said

    def _error(self, answer: Mapping[str, Any]) -> NsprovError:
        cls = _ERRORS.get(answer["error"], HostError)
        error = cls(answer["message"], hint=answer["hint"])
        if isinstance(error, HostError):
            error.detail, error.code = answer["detail"], answer["code"]
        return error
