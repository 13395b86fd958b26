"""Drives one kind inside a sandbox, as a plan would: observe, compare, carry out."""

from __future__ import annotations

import json
from typing import Any

_PRELUDE = """
import json, sys
from provisioner.errors import NsprovError
from provisioner.host import Host
from provisioner.model import Action, Scope, Step
from provisioner.resources import kind_of

host = Host()

def observed(*specs, undeclared=()):
    found = {}
    for kind in dict.fromkeys(one.kind for one in specs):
        scope = Scope({one.address: (one,) for one in specs}, undeclared=undeclared)
        for one in kind_of(kind).driver.observe(host, scope):
            found[one.address] = one
    return found

def settle(*specs, delete=False):
    found, steps = observed(*specs, undeclared=[one.address for one in specs] if delete else ()), []
    for one in specs:
        current = found.get(one.address)
        if delete:
            steps += [Step(Action.DELETE, one.address, current)] if current else []
        elif current is None:
            steps.append(Step(Action.CREATE, one.address, None, one))
        else:
            changes = tuple(one.changes_from(current, None))
            if changes:
                after = one.merged_over(current, changes)
                steps.append(Step(Action.UPDATE, one.address, current, after, changes=changes))
    done = []
    for step in steps:
        results = kind_of(step.address.kind).driver.carry_out(host, [step])
        done += [[step.action.value, result.error] for result in results]
        host.forget()
    return done

def made(kind, **fields):
    return kind_of(kind).resource(**fields)
"""


def driven(box: Any, code: str) -> Any:
    """What the code leaves in ``answer``, or the error that it ended in, as JSON values."""
    body = "\n".join(f"    {line}" for line in code.splitlines())
    after = "except NsprovError as error:\n    answer = {'refused': str(error)}\nprint(json.dumps(answer))"
    return json.loads(box.python(f"{_PRELUDE}\ntry:\n{body}\n{after}\n"))
