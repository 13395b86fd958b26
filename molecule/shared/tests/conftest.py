"""The hosts of these tests are the scenario's, also where they are sandboxes."""

from __future__ import annotations

from provisioner.verify.backend import register

register()
