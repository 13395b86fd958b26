"""Seals of what a saved plan may not say: that a secret is still the one that was reviewed. Pure.

A digest of a short secret would give it away, so a seal has a key that is not in the plan: the vault's password,
where there is one, or a key that only the user's own machine has.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from provisioner.model import Step

__all__ = ["key_id", "seal"]


def seal(step: Step, key: bytes) -> str | None:
    """What tells whether a step that has secrets does the same; None for one that has none."""
    if not step.secrets:
        return None
    values = [one.declared() if one is not None else None for one in (step.before, step.after)]
    changes = [[change.field, change.before, change.after] for change in step.changes]
    text = json.dumps([str(step.address), values, changes], sort_keys=True, separators=(",", ":"), default=str)
    return hmac.digest(key, text.encode("utf-8", "surrogatepass"), "sha256").hex()


def key_id(key: bytes) -> str:
    """Names a key without telling it, so that a plan that was sealed with another one is told apart."""
    return hashlib.sha256(b"nsprov key\0" + key).hexdigest()[:16]
