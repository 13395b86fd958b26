"""Roots that only a machine of its own can give: an overlay over the host's own root, and an image."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.host.isolation_cases import hears
from tests.host.lab import Lab, lab_on
from tests.host.root_cases import gone, looks
from tests.vm.machine import Machine


@pytest.fixture
def lab(vm: Machine) -> Iterator[Lab]:
    with lab_on(vm) as lab:
        yield lab


def test_an_overlay_over_the_hosts_own_root_keeps_it_as_it_is(lab: Lab) -> None:
    script = "echo x > /etc/made-inside; test -e /etc/made-inside; ls /etc/hostname; echo done"
    looks(lab, "isolate: [mount, pid], root: {overlay: /}", script)
    hears(lab, "web.service", "done")
    lab.box.run("test ! -e /etc/made-inside")
    gone(lab)


def test_an_image_is_its_root(lab: Lab) -> None:
    lab.box.run(
        "mkdir -p /srv/image/etc && echo imaged > /srv/image/etc/marker && truncate -s 16M /srv/web.img"
        " && mke2fs -q -F -t ext4 -d /srv/image /srv/web.img && modprobe loop"
    )
    looks(lab, "isolate: [mount], root: /srv/web.img, binds: [/usr, /bin, /lib, /lib64]", "cat /etc/marker")
    hears(lab, "web.service", "imaged")
    gone(lab)
