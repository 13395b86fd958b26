"""Secrets of every kind go through all that nsprov does, and none is found in anything that it prints or keeps."""

from __future__ import annotations

import base64
import json
import re
import shlex
import sys
import textwrap
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any
from urllib.parse import quote

import pytest
from ansible.parsing.vault import VaultLib, VaultSecret

PROJECT = "/root/secrets"
INVENTORY = f"{PROJECT}/inventory.yml"
PASSWORD = "the password of the vault"
KEY = "-----BEGIN KEY-----\n{}MIIEowIBAAKCAQEAw0\n{}c3VwZXIgc2VjcmV0IQ\n-----END KEY-----\n"
#: What a key has that is no secret.
_KNOWN_LINES = ("-----BEGIN KEY-----", "-----END KEY-----")


def secrets(round: str) -> dict[str, str]:
    """Secrets of every kind, each round other ones."""
    return {
        "inline": f"inline-vault-{round}-k3J9",
        "in_file": f"vaulted-file-{round}-Zq81",
        "pin": {"one": "7294", "two": "5183"}[round],
        "number": {"one": "836509124", "two": "561920377"}[round],
        "key": KEY.format(round, round),
        "quotes": f"p\"a'ss\\{round}\\w$0rd`x`",
        "lines": f"zeile-eins-{round}-ü\nzeile-zwei-{round}-☃ñ",
        "json": json.dumps({"user": "svc", "password": f"json-{round}-Passw0rd"}),
        "in_url": f"p@ss/{round}:w?rd&=url",
        "encoded": f"to-be-encoded-{round}-x7",
        "hashed": f"to-be-hashed-{round}-y8",
        "swapped": f"to-be-swapped-{round}-z9",
        "in_template": f"template-file-{round}-t1",
        "in_ruleset": f"ruleset-{round}-comment-r2",
        "credential": f"credential-{round}-c3 with\nlines-{round}-inside",
        "item": f"loop-item-{round}-i4",
        "merged": f"merged-by-combine-{round}-m5",
        "part": f"part-{round}-of-a-text-p6",
        "from_env": f"environment-{round}-e7",
        "looked_up": f"looked-up-{round}-l8",
        "role_file": f"role-file-{round}-f9",
        "role_template": f"role-template-{round}-g0",
        "not_logged": f"not-logged-{round}-n1",
        "task_name": f"task-name-{round}-a2",
        "binary": f"binary-{round}-b3",
        "yaml": f"to-yaml-{round}-d4: x",
    }


def spellings(name: str, text: str) -> set[str]:
    """How a secret may be spelled: each of its lines, and in JSON, a URL, base64."""
    import hashlib

    parts = {text, *(line for line in text.splitlines() if len(line) >= 8 and line not in _KNOWN_LINES)}
    made = set(parts)
    for part in parts:
        made |= {
            json.dumps(part)[1:-1],
            json.dumps(part, ensure_ascii=False)[1:-1],
            quote(part, safe=""),
            repr(part)[1:-1],
        }
        made.add(base64.b64encode(part.encode()).decode())
    if name == "json":
        made.add(json.loads(text)["password"])
    if name == "hashed":
        made.add(hashlib.sha256(text.encode()).hexdigest())
    if name == "swapped":
        made.add(text.replace("swapped", "changed"))
    return made


def found_in(text: str, *rounds: str) -> set[str]:
    """The names of the secrets that a text has in it."""
    found = set()
    for round in rounds or ("one", "two"):
        for name, secret in secrets(round).items():
            for one in spellings(name, secret):
                # A short one may be a part of any number; where it stands alone, it is the secret.
                if one in text and (len(one) >= 8 or re.search(rf"(?<!\w){re.escape(one)}(?!\w)", text)):
                    found.add(f"{name} ({round})")
    return found


TASKS = """
- name: "named by {{ task_name }}"
  file: {path: /etc/s/inline, content: "{{ inline }}", mode: "0600"}
- file: {path: /etc/s/in_file, content: "{{ in_file }}", mode: "0600"}
- file: {path: /etc/s/pin, content: "{{ pin }}", mode: "0600"}
- file: {path: /etc/s/number, content: "{{ number }}", mode: "0600"}
- file: {path: /etc/s/key, content: "{{ key }}", mode: "0600"}
- file: {path: /etc/s/quotes, content: "{{ quotes }} {{ quotes | quote }}", mode: "0600"}
- file: {path: /etc/s/lines, content: "{{ lines }}", mode: "0600"}
- file: {path: /etc/s/json, content: "{{ (json | from_json).password }}", mode: "0600"}
- file: {path: /etc/s/in_url, content: "postgres://svc:{{ in_url | urlencode }}@db/app", mode: "0600"}
- file: {path: /etc/s/encoded, content: "{{ encoded | b64encode }}", mode: "0600"}
- file: {path: /etc/s/hashed, content: "{{ hashed | hash('sha256') }}", mode: "0600"}
- file: {path: /etc/s/swapped, content: "{{ swapped | regex_replace('swapped', 'changed') }}", mode: "0600"}
- template: {path: /etc/s/in_template, src: plain.j2, mode: "0600"}
- file: {path: "/etc/s/item-{{ item.name }}", content: "{{ item.password }}", mode: "0600"}
  loop: "{{ accounts }}"
- file: {path: /etc/s/merged, content: "{{ defaults_of | combine({'password': merged}) | to_nice_json }}", mode: "0600"}
- file: {path: /etc/s/part, content: "user = svc\\npassword = {{ part }}\\nport = 5432\\n", mode: "0600"}
- file: {path: /etc/s/from_env, content: "{{ lookup('env', 'APP_TOKEN') | secret }}", mode: "0600"}
- file: {path: /etc/s/looked_up, content: "{{ lookup('file', 'plain.txt') | secret }}", mode: "0600"}
- file: {path: /etc/s/role_file, src: vaulted.bin, mode: "0600"}
- template: {path: /etc/s/role_template, src: vaulted.j2, mode: "0600"}
- file: {path: /etc/s/not_logged, content: "literally NOT_LOGGED", mode: "0600"}
  no_log: true
- file: {path: /etc/s/binary, content_base64: "{{ binary | b64encode }}", mode: "0600"}
- file: {path: /etc/s/yaml, content: "{{ {'a': yaml} | to_nice_yaml }}", mode: "0600"}
- directory: {path: /etc/s}
- nftables:
    table: inet secrets
    ruleset: |
      chain input {
        type filter hook input priority filter; policy accept;
        tcp dport 4000 accept comment "{{ in_ruleset }}"
      }
- unit:
    name: app
    ExecStart: /bin/sh -c 'sha256sum < $CREDENTIALS_DIRECTORY/token > /run/app-saw; exec sleep infinity'
    credentials: {token: "{{ credential }}", pin: "{{ pin }}"}
"""


PLAIN = """
defaults_of: {user: svc, port: 5432}
accounts:
  - {name: ann, password: "{{ item_password }}"}
"""


class Project:
    """The project in a sandbox, and everything that nsprov said of it."""

    def __init__(self, box: Any) -> None:
        self.box = box
        self.said: dict[str, str] = {}

    def configure(self, round: str, more_tasks: str = "") -> None:
        """Write the project with the secrets of a round."""
        now = secrets(round)
        inline = ("inline", "pin", "key", "quotes", "lines", "json", "in_url", "credential", "encoded")
        variables = {name: now[name] for name in now if name not in inline and name != "number"}
        lines = [f"{name}: {json.dumps(value)}" for name, value in variables.items()]
        lines += [f"number: {now['number']}", f"item_password: {json.dumps(now['item'])}"]
        vault = "\n".join(lines)
        shown = "".join(f"    {name}: !vault |\n{textwrap.indent(encrypted(now[name]), ' ' * 6)}" for name in inline)
        self.write(
            "inventory.yml",
            f"all:\n  hosts: {{here: {{ansible_connection: local}}}}\n  vars:\n    nsprov_roles: [web]\n{shown}",
        )
        self.write("group_vars/all/vault.yml", encrypted(vault))
        self.write("group_vars/all/plain.yml", PLAIN)
        role = "roles/web"
        self.write(f"{role}/tasks/main.yml", TASKS.replace("NOT_LOGGED", now["not_logged"]) + more_tasks)
        self.write(f"{role}/templates/plain.j2", "password={{ in_template }}\n")
        self.write(
            f"{role}/templates/vaulted.j2", encrypted(f"{now['role_template']} for {{{{ inventory_hostname }}}}\n")
        )
        self.write(f"{role}/files/vaulted.bin", encrypted(now["role_file"]))
        self.write(f"{role}/files/plain.txt", now["looked_up"])
        self.box.write("/root/password", PASSWORD)
        exports = f"export NSPROV_VAULT_PASSWORD_FILE=/root/password APP_TOKEN={shlex.quote(now['from_env'])}\n"
        self.box.write("/root/run", f'{exports}exec {sys.executable} -m provisioner "$@"\n')

    def stands(self, round: str) -> None:
        """Have the host as the secrets of a round make it."""
        self.configure(round)
        self.nsprov("apply", INVENTORY, "--yes")

    def write(self, path: str, text: str) -> None:
        self.box.write(f"{PROJECT}/{path}", text)

    def nsprov(self, *args: str, code: int = 0) -> str:
        """Run nsprov on it, and remember all that it says."""
        done: CompletedProcess[str] = self.box.run(["sh", "/root/run", *args], check=False, timeout=300)
        said = done.stdout + done.stderr
        self.said[f"{len(self.said)}: nsprov {' '.join(args)}"] = said
        assert done.returncode == code, said
        return said

    def sh(self, command: str) -> str:
        return str(self.box.run(command, check=False).stdout)

    # -- where a secret may be ------------------------------------------------------------------------

    def kept(self) -> dict[str, str]:
        """All that nsprov keeps on the host, but for the credentials at rest; what systemd says of its units; the
        journal; and crash reports."""
        places = {
            "state": "grep -r '' /var/lib/nsprov",
            "run": "grep -r --exclude-dir=credentials '' /run/nsprov",
            "unit files": "grep -r '' /run/systemd/transient /run/systemd/system.control",
            "systemctl show": "systemctl show '*' --all",
            "journal": "journalctl --output=export --all",
            "kernel": "journalctl --dmesg --output=cat",
            "crash reports": "cat /tmp/nsprov-crash-* 2>/dev/null",
            "left in temporary folders": "grep -r '' /tmp --exclude-dir='systemd-private*' 2>/dev/null",
        }
        return {place: self.sh(command) for place, command in places.items()}


def encrypted(text: str) -> str:
    secret = VaultSecret(PASSWORD.encode())
    made: bytes = VaultLib([("default", secret)]).encrypt(text, secret)
    return made.decode()


def nothing_in(texts: Mapping[str, str]) -> None:
    """Fail with the places that have a secret, and which."""
    found = {place: sorted(names) for place, text in texts.items() if (names := found_in(text))}
    assert not found


@dataclass
class Processes:
    """The command lines of all processes of a sandbox, and the environments of those that nsprov starts."""

    lines: set[str] = field(default_factory=set)
    environments: set[str] = field(default_factory=set)

    def look(self, namespace: Path) -> None:
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if (folder / "ns/pid").readlink() != namespace:
                    continue
                line = (folder / "cmdline").read_bytes().decode(errors="replace")
                self.lines.add(line.replace("\0", " "))
                # Its own environment is what the user gave it.
                if "\0-m\0provisioner\0" not in line:
                    self.environments.add((folder / "environ").read_bytes().decode(errors="replace"))
            except OSError:
                continue


@contextmanager
def watched(box: Any) -> Iterator[Processes]:
    """Look at the processes of a sandbox, over and over."""
    namespace = Path(f"/proc/{box.pid}/ns/pid").readlink()
    seen, done = Processes(), threading.Event()

    def watch() -> None:
        while not done.wait(0.03):
            seen.look(namespace)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


@pytest.fixture(scope="module")
def project(box: Any) -> Project:
    made = Project(box)
    made.configure("one")
    return made


def test_there_are_at_least_twenty_of_them_and_the_search_finds_each(project: Project) -> None:
    assert len(secrets("one")) >= 20
    for name, text in secrets("one").items():
        for one in spellings(name, text):
            assert f"{name} (one)" in found_in(f"x = {one} ;"), one
    assert found_in("a text without any of 17294 and 72941") == set()


def test_the_places_that_are_searched_are_read(project: Project) -> None:
    """What is planted in each of them is found: the tests below could fail."""
    planted = secrets("two")["inline"]
    project.sh(
        "mkdir -p /var/lib/nsprov /run/nsprov;"
        f"echo {planted} | tee /var/lib/nsprov/x /run/nsprov/x /tmp/nsprov-crash-x.txt;"
        f"systemd-run --unit=planted --setenv=X={planted} sleep 600; logger {planted}; journalctl --sync"
    )
    found = {place for place, text in project.kept().items() if found_in(text)}
    assert found >= {"state", "run", "unit files", "systemctl show", "journal", "crash reports"}
    with watched(project.box) as seen:
        project.sh(f"env X={planted} sh -c 'sleep 0.5; true' {planted}")
    assert any(map(found_in, seen.lines))
    assert any(map(found_in, seen.environments))
    project.sh(
        "systemctl stop planted; rm -r /var/lib/nsprov /run/nsprov /tmp/nsprov-crash-x.txt; journalctl --rotate;"
        "journalctl --vacuum-time=1us"
    )
    nothing_in(project.kept())


def test_a_plan_shows_none_in_any_format(project: Project) -> None:
    text = project.nsprov("plan", INVENTORY)
    assert "content  (secret), 0600" in text
    data = json.loads(project.nsprov("plan", INVENTORY, "--format", "json").partition("\nnsprov:")[0])
    steps = {step["address"]: step for step in data["hosts"]["here"]["steps"]}
    assert steps["unit/app.service"]["after"]["credentials"] == {"pin": "(secret)", "token": "(secret)"}
    assert steps["file//etc/s/item-ann"]["after"]["content"] == "(secret)"
    project.nsprov("plan", INVENTORY, "--out", "/root/plan.json")
    project.nsprov("validate", INVENTORY)
    project.nsprov("picture", INVENTORY)
    project.nsprov("inventory", "-i", INVENTORY, "--list")
    project.nsprov("inventory", "-i", INVENTORY, "--host", "here", "--yaml")
    nothing_in({**project.said, "the saved plan": project.sh("cat /root/plan.json")})


def test_an_apply_gives_them_to_the_host_and_to_nobody_else(project: Project) -> None:
    project.configure("one")
    with watched(project.box) as seen:
        project.nsprov("plan", INVENTORY, "--out", "/root/plan.json")
        project.nsprov("apply", INVENTORY, "--plan", "/root/plan.json")
        project.nsprov("plan", INVENTORY, "--detailed-exitcode")
        project.nsprov("verify", INVENTORY, "--verbose", "--junitxml", "/root/report.xml")
        project.nsprov("verify", INVENTORY, "--write", "/root/suite")
        project.nsprov("show", INVENTORY)
        project.nsprov("show", INVENTORY, "--format", "json")
    now = secrets("one")
    assert project.sh("cat /etc/s/key") == now["key"]
    assert project.sh("cat /etc/s/role_file") == now["role_file"]
    assert json.loads(project.sh("cat /etc/s/merged"))["password"] == now["merged"]
    assert project.sh("cat /run/app-saw") == project.sh("sha256sum < /run/nsprov/credentials/app.service/token")
    assert now["in_ruleset"] in project.sh("nft list table inet secrets")
    nothing_in(
        {
            **project.said,
            **project.kept(),
            "the report": project.sh("cat /root/report.xml"),
            "the suite": project.sh("grep -r '' /root/suite"),
            "command lines": "\n".join(seen.lines),
            "environments": "\n".join(seen.environments),
        }
    )
    assert any("pytest" in line for line in seen.lines)


def test_a_secret_that_somebody_changed_on_the_host_is_told_and_not_shown(project: Project) -> None:
    project.stands("one")
    project.sh("cp -p /etc/s/pin /root/pin; printf x-changed-by-hand >>/etc/s/pin")
    said = project.nsprov("verify", INVENTORY, "--junitxml", "/root/report.xml", code=1)
    assert "file//etc/s/pin has the declared content" in said
    text = project.nsprov("plan", INVENTORY)
    assert "content  (secret) -> (secret, changed)" in text
    assert "x-changed-by-hand" not in said + text
    nothing_in({"what was said": said + text, "the report": project.sh("cat /root/report.xml")})
    project.sh("cp -p /root/pin /etc/s/pin")
    project.nsprov("verify", INVENTORY)


def test_credentials_rest_where_only_root_reads_them(project: Project) -> None:
    project.stands("one")
    assert project.sh("find /run/nsprov -printf '%M %u %P\\n' | sort -k3").splitlines() == [
        "drwx------ root ",
        "drwx------ root credentials",
        "drwx------ root credentials/app.service",
        "-rw------- root credentials/app.service/pin",
        "-rw------- root credentials/app.service/token",
    ]
    assert project.sh("stat --file-system --format=%T /run/nsprov/credentials").strip() == "tmpfs"
    nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups"
    assert project.sh(f"{nobody} cat /run/nsprov/credentials/app.service/pin") == ""


def test_a_secret_that_changes_is_shown_as_that_and_a_failing_apply_puts_the_old_one_back(project: Project) -> None:
    project.stands("one")
    failing = "\n- unit: {name: fails, Type: oneshot, ExecStart: /bin/false, After: app.service}\n"
    project.configure("two", failing)
    text = project.nsprov("plan", INVENTORY)
    assert "credentials.token  (secret) -> (secret, changed)" in text
    assert "content  (secret) -> (secret, changed)" in text
    project.nsprov("plan", INVENTORY, "--format", "json")
    with watched(project.box) as seen:
        said = project.nsprov("apply", INVENTORY, "--yes", code=1)
    assert "the host was put back to what it was before" in said
    assert project.sh("cat /etc/s/inline") == secrets("one")["inline"]
    assert project.sh("cat /run/nsprov/credentials/app.service/pin") == secrets("one")["pin"]
    nothing_in({**project.said, **project.kept(), "command lines": "\n".join(seen.lines)})
    project.configure("one")
    project.nsprov("plan", INVENTORY, "--detailed-exitcode")


def test_a_saved_plan_is_stale_once_a_secret_in_it_is_another(project: Project) -> None:
    project.stands("one")
    project.configure("two")
    project.nsprov("plan", INVENTORY, "--out", "/root/plan.json")
    project.configure("one")
    said = project.nsprov("apply", INVENTORY, "--plan", "/root/plan.json", code=73)
    assert "file//etc/s/inline" in said
    project.configure("two")
    project.sh("printf 'another password' > /root/other")
    project.nsprov("apply", INVENTORY, "--plan", "/root/plan.json", "--vault-id", "x@/root/other", code=73)
    project.nsprov("apply", INVENTORY, "--plan", "/root/plan.json")
    assert project.sh("cat /etc/s/inline") == secrets("two")["inline"]
    nothing_in({**project.said, **project.kept()})


def test_killed_in_the_middle_nothing_is_left_behind_and_the_next_apply_goes_on(project: Project) -> None:
    project.stands("one")
    project.configure("two", "\n- unit: {name: slow, Type: oneshot, ExecStart: /bin/sleep 30, After: app.service}\n")
    project.sh("sh /root/run apply /root/secrets/inventory.yml --yes >/root/killed 2>&1 & echo $! >/root/pid")
    project.sh("for i in $(seq 100); do systemctl is-active slow | grep -q activating && break; sleep 0.1; done")
    project.sh("kill -9 $(cat /root/pid); sleep 0.2; systemctl stop slow")
    nothing_in({"what the killed one said": project.sh("cat /root/killed"), **project.kept()})
    project.configure("two")
    project.nsprov("apply", INVENTORY, "--yes")
    project.nsprov("plan", INVENTORY, "--detailed-exitcode")
    assert project.sh("cat /etc/s/inline") == secrets("two")["inline"]
    nothing_in({**project.said, **project.kept()})


def test_the_report_of_a_defect_has_none(project: Project) -> None:
    project.configure("one")
    defect = """
        import provisioner.engine.apply as apply
        def defect(target, observed, **kw):
            texts = [one.resource.declared() for one in observed.desired.resources.values()]
            raise RuntimeError(f"{texts}")
        apply.apply_plan = defect
        from provisioner.cli import main
        main()
    """
    project.box.write("/root/defect.py", textwrap.dedent(defect))
    project.sh("sed 's#-m provisioner#/root/defect.py#' /root/run >/root/run-defect")
    done = project.box.run(["sh", "/root/run-defect", "apply", INVENTORY, "--yes"], check=False)
    assert done.returncode == 70, done.stdout + done.stderr
    report = project.sh("cat /tmp/nsprov-crash-*.txt")
    assert "RuntimeError" in report
    assert "(secret)" in report
    nothing_in({"what was said": done.stdout + done.stderr, "the report": report})
    project.sh("rm /tmp/nsprov-crash-*.txt")


@pytest.mark.parametrize(
    "task",
    [
        'netns: {name: "{{ inline }}"}',
        'file: {path: "/etc/{{ inline }}", content: x}',
        'veth: {name: v0, mtu: "{{ inline }}", peer: {netns: a, name: eth0}}',
        'veth: {name: v0, peer: {netns: a, name: eth0, addresses: ["{{ quotes }}"]}}',
        'file: {path: /etc/x, content: x, mode: "{{ pin }}9"}',
        'file: {path: /etc/x, content: x, owner: "{{ lines }}"}',
        'file: {path: /etc/x, content: "{{ inline | from_json }}"}',
        'file: {path: /etc/x, content: "{{ inline.nothing }}"}',
        'file: {path: /etc/x, content: "{{ lookup(inline) }}"}',
        'file: {path: /etc/x, src: "{{ inline }}"}',
        'file: {path: /etc/x, content: "{{ inline }}", nonsense: "{{ key }}"}',
        'nftables: {table: inet x, ruleset: "{{ inline }} {{ quotes }}"}',
        'sysctl: {name: net.ipv4.ip_forward, value: {a: "{{ inline }}"}}',
        'slice: {name: x.slice, MemoryMax: "{{ inline }}"}',
        'unit: {name: x, ExecStart: "/bin/x --password {{ inline }}"}',
        'unit: {name: x, ExecStart: /bin/x, Environment: ["TOKEN={{ key }}"]}',
        'unit: {name: x, ExecStart: /bin/x, SetCredential: ["token:{{ quotes }}"]}',
        'unit: {name: x, ExecStart: /bin/x, Description: "{{ pin }}"}',
        'unit: {name: x, ExecStart: /bin/x, socket: {ListenStream: "{{ inline }}"}}',
        'expect: {from: "{{ inline }}", to: "{{ quotes }}"}',
        'assert: {that: inline == "x", fail_msg: "it is {{ inline }}"}',
        'include_tasks: "{{ inline }}"',
        'include_role: {name: "{{ inline }}"}',
        'file: {path: /etc/x, content: x}\n  loop: "{{ inline }}"',
        "file: {path: /etc/x, content: x}\n  when: inline",
    ],
)
def test_an_error_that_would_quote_one_does_not(project: Project, task: str) -> None:
    project.configure("two", f"\n- {task}\n")
    done = project.box.run(["sh", "/root/run", "plan", INVENTORY], check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 65, said
    assert "roles/web/tasks/main.yml:" in said
    nothing_in({"the error": said})


def test_the_words_of_a_workload_that_tells_its_own_secret_are_not_repeated(project: Project) -> None:
    project.configure(
        "two",
        """
- unit:
    name: tells
    Type: oneshot
    ExecStart: /bin/sh -c 'cat $CREDENTIALS_DIRECTORY/token >&2; exit 3'
    credentials: {token: "{{ credential }}"}
""",
    )
    said = project.nsprov("apply", INVENTORY, "--yes", code=1)
    assert "exit status 3" in said
    assert "(secret)" in said
    nothing_in({"what was said": said})
    project.sh("journalctl --rotate; journalctl --vacuum-time=1us")


def test_an_encrypted_credential_is_passed_as_it_is(project: Project) -> None:
    made = project.sh(
        "printf sealed-inside | systemd-creds encrypt --name=token --with-key=host - - 2>/dev/null"
    ).split()
    project.configure(
        "two",
        f"""
- unit:
    name: encrypted
    Type: oneshot
    ExecStart: /bin/sh -c 'cat $CREDENTIALS_DIRECTORY/token > /run/encrypted-saw'
    SetCredentialEncrypted: "token:{"".join(made)}"
""",
    )
    project.nsprov("apply", INVENTORY, "--yes")
    assert project.sh("cat /run/encrypted-saw") == "sealed-inside"
    project.nsprov("plan", INVENTORY, "--detailed-exitcode")


def test_credentials_of_a_unit_that_never_started_go_when_it_leaves_the_configuration(project: Project) -> None:
    """Cut off between writing its credentials and starting it, and then given up."""
    more = "\n- unit: {name: late, ExecStart: /bin/sleep infinity, credentials: {token: '{{ credential }}'}}\n"
    project.configure("two", more)
    project.nsprov("apply", INVENTORY, "--yes")
    project.sh("systemctl stop late")
    assert project.sh("ls /run/nsprov/credentials/late.service").split() == ["token"]
    project.configure("two")
    assert "- unit/late.service" in project.nsprov("plan", INVENTORY)
    project.nsprov("apply", INVENTORY, "--yes")
    assert project.sh("ls /run/nsprov/credentials").split() == ["app.service"]
    project.nsprov("plan", INVENTORY, "--detailed-exitcode")


def test_a_destroy_leaves_no_credential(project: Project) -> None:
    project.stands("two")
    project.nsprov("destroy", INVENTORY, "--yes")
    assert project.sh("find /run/nsprov /var/lib/nsprov 2>/dev/null") == ""
    nothing_in({**project.said, **project.kept()})
