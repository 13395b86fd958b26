"""Every directive, set on a real unit, reads back as it was written: so a second apply has nothing to do."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.host.conftest import Box

_SCRIPT = Path(__file__).parent / "directive_round_trip.py"

#: What systemd itself refuses, or writes wrongly into the unit's file and so loses at a daemon-reload.
_LOST_BY_SYSTEMD = {
    "ExtensionImages",
    "MemoryPressureThresholdSec",
    "MountImages",
    "NUMAPolicy",
    "RootImageOptions",
    "SetCredentialEncrypted",
}


@pytest.mark.parametrize("unit_type", ["service", "socket", "timer", "slice", "path", "mount"])
def test_every_directive_reads_back_as_it_was_written(box: Box, unit_type: str) -> None:
    found: dict[str, Any] = json.loads(box.run([sys.executable, str(_SCRIPT), unit_type]).stdout)
    count, problems = found[unit_type]
    assert count >= 5
    assert [one for one in problems if one[1] not in _LOST_BY_SYSTEMD] == []
    assert {one[1] for one in problems if one[0] == "fresh"} == set()
