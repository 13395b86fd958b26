"""Files, directories and templates on a real host, as root."""

from __future__ import annotations

from typing import Any

import pytest

from tests.host.driving import driven


@pytest.fixture(autouse=True)
def _folder(box: Any) -> None:
    box.run("rm -rf /srv/t && mkdir /srv/t")


def test_a_file_has_its_content_owner_and_mode_and_a_second_run_changes_nothing(box: Any) -> None:
    one = "made('file', path='/srv/t/a', content='zwölf\\n', mode='0640', owner='nobody', group='65534')"
    assert driven(box, f"answer = [settle({one}), settle({one})]") == [[["create", None]], []]
    assert box.run("stat -c '%a %U %G' /srv/t/a; cat /srv/t/a; ls -A /srv/t").stdout == "640 nobody nogroup\nzwölf\na\n"


def test_a_file_that_others_have_changed_is_put_right(box: Any) -> None:
    one = "made('file', path='/srv/t/a', content='x\\n', mode='0640')"
    driven(box, f"answer = settle({one})")
    box.run("echo y > /srv/t/a; chmod 666 /srv/t/a; chown nobody /srv/t/a")
    assert driven(box, f"answer = [settle({one}), settle({one})]") == [[["update", None]], []]
    assert box.run("stat -c '%a %U' /srv/t/a; cat /srv/t/a").stdout == "640 nobody\nx\n"


def test_a_mode_alone_is_changed_in_place(box: Any) -> None:
    box.run("echo x > /srv/t/a; chmod 600 /srv/t/a")
    before = box.run("stat -c %i /srv/t/a").stdout
    assert driven(box, "answer = settle(made('file', path='/srv/t/a', mode='4755', owner='nobody'))") == [
        ["update", None]
    ]
    assert box.run("stat -c '%a %U' /srv/t/a").stdout == "4755 nobody\n"
    assert box.run("stat -c %i /srv/t/a").stdout == before


def test_a_link_in_place_of_the_file_is_replaced_and_put_back_and_never_written_through(box: Any) -> None:
    box.run("echo keep > /srv/t/kept; ln -s kept /srv/t/a")
    code = """
one = made('file', path='/srv/t/a', content='new\\n')
found = observed(one)[one.address]
answer = [settle(one), open('/srv/t/a').read(), settle(found), settle(found)]
"""
    assert driven(box, code) == [[["update", None]], "new\n", [["update", None]], []]
    assert box.run("readlink /srv/t/a; cat /srv/t/kept").stdout == "kept\nkeep\n"


def test_a_file_of_any_bytes_is_put_back_as_it_was(box: Any) -> None:
    box.run("head -c 4096 /dev/urandom > /srv/t/a; chmod 604 /srv/t/a; chown 1234:4321 /srv/t/a")
    before = box.run("sha256sum /srv/t/a; stat -c '%a %u %g' /srv/t/a").stdout
    code = """
one = made('file', path='/srv/t/a', content='new\\n', mode='0600', owner='root', group='root')
found = observed(one)[one.address]
answer = [settle(one), settle(one, delete=True), settle(found)]
"""
    assert driven(box, code) == [[["update", None]], [["delete", None]], [["create", None]]]
    assert box.run("sha256sum /srv/t/a; stat -c '%a %u %g' /srv/t/a").stdout == before


def test_a_folder_that_another_user_can_redirect_is_refused(box: Any) -> None:
    box.run("mkdir /srv/t/home; ln -s /etc /srv/t/home/conf; chown -h nobody /srv/t/home /srv/t/home/conf")
    refused = driven(box, "answer = settle(made('file', path='/srv/t/home/conf/motd', content='x'))")["refused"]
    assert refused.startswith("/srv/t/home/conf/motd is not safe to use")
    box.run("mkdir /srv/t/home/own; chown nobody /srv/t/home/own")
    assert driven(box, "answer = settle(made('file', path='/srv/t/home/own/a', content='x'))") == [["create", None]]


def test_links_of_root_on_the_way_are_followed(box: Any) -> None:
    box.run("mkdir /srv/t/real; ln -s real /srv/t/link; ln -s /srv/t/link /srv/t/far")
    assert driven(box, "answer = settle(made('file', path='/srv/t/far/a', content='x'))") == [["create", None]]
    assert box.run("cat /srv/t/real/a").stdout == "x"


def test_a_directory_comes_and_goes_and_stays_while_something_is_in_it(box: Any) -> None:
    one = "made('directory', path='/srv/t/d', mode='0750', group='nogroup')"
    assert driven(box, f"answer = [settle({one}), settle({one})]") == [[["create", None]], []]
    assert box.run("stat -c '%a %G' /srv/t/d").stdout == "750 nogroup\n"
    box.run("touch /srv/t/d/theirs")
    assert driven(box, f"answer = settle({one}, delete=True)") == [["delete", "/srv/t/d is not empty: it has theirs"]]
    box.run("rm /srv/t/d/theirs")
    assert driven(box, f"answer = [settle({one}, delete=True), settle({one}, delete=True)]") == [[["delete", None]], []]


def test_everything_that_stands_in_the_way_is_told_before_anything_is_made(box: Any) -> None:
    box.run("mkdir /srv/t/dir; mkfifo /srv/t/pipe; truncate -s 9M /srv/t/large")
    files = ", ".join(f"made('file', path='/srv/t/{name}', content='x')" for name in ("new", "dir", "pipe", "large"))
    refused = driven(box, f"answer = settle({files}, made('file', path='/srv/t/o', content='', owner='no-one'))")[
        "refused"
    ]
    assert [line for line in refused.splitlines() if line.startswith("file/")] == [
        "file//srv/t/dir: /srv/t/dir is a directory",
        "file//srv/t/pipe: /srv/t/pipe is neither a file nor a directory",
        "file//srv/t/large: /srv/t/large has 9437184 bytes, too many to be put back if the apply failed",
        "file//srv/t/o: this host has no user 'no-one'",
    ]
    assert box.run("ls /srv/t").stdout.split() == ["dir", "large", "pipe"]


def test_a_folder_that_is_only_referred_to_is_looked_for_through_links(box: Any) -> None:
    code = """
from provisioner.model import Address
scope = Scope({Address("directory", path): () for path in ("/var/run", "/srv/none", "/etc/passwd")})
answer = [one.name for one in kind_of("directory").driver.observe(host, scope)]
"""
    assert driven(box, code) == ["/var/run"]
