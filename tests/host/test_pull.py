"""A host pulls: signed commits of a real repository, real keys, a real timer, and what a bad server might try."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Iterator
from subprocess import CompletedProcess
from typing import Any

import pytest

GIT = "/root/fleet"
FOLDER = "/var/lib/nsprov/pull/fleet"
URL = f"file://{GIT}"
INVENTORY = """\
all:
  vars: {nsprov_project: pulled, nsprov_roles: [motto]}
  hosts:
    left: {ansible_connection: ssh, ansible_host: 192.0.2.77, motto: from the left}
    right: {ansible_host: 192.0.2.78, motto: from the right}
"""
TASKS = '- file: {path: /etc/motto, content: "{{ motto }} {{ number }}"}\n'


class Fleet:
    """A repository in the sandbox whose commits are signed by keys that the test makes."""

    def __init__(self, box: Any) -> None:
        self.box = box
        box.run(
            f"rm -rf {GIT} /root/keys && mkdir -p /root/keys && git init -q -b main {GIT} && cd {GIT} && "
            "git config user.name ops && git config user.email ops@example.com && git config gpg.format ssh && "
            "for who in ops other; do ssh-keygen -q -t ed25519 -N '' -C $who -f /root/keys/$who; done"
        )
        self.allow("ops")
        self.write("inventory.yml", INVENTORY)
        self.write("roles/motto/tasks/main.yml", TASKS)
        self.number(1)
        self.commit()

    def allow(self, who: str, options: str = "") -> None:
        """Make this key the only signer."""
        key = self.box.run(f"cut -d' ' -f1,2 /root/keys/{who}.pub").stdout
        self.box.write("/root/signers", f"{who}@example.com {options} {key}")

    def write(self, path: str, text: str) -> None:
        self.box.write(f"{GIT}/{path}", text)

    def number(self, number: int | str) -> None:
        self.write("roles/motto/defaults/main.yml", f"number: {number}\n")

    def commit(self, who: str | None = "ops", date: str | None = None) -> str:
        """All that was written, in a commit that ``who`` signs; its name."""
        signed = f"-c user.signingkey=/root/keys/{who} commit -S" if who else "commit --no-gpg-sign"
        when = f"GIT_COMMITTER_DATE={shlex.quote(date)} " if date else ""
        self.git(f"add -A && {when}git {signed} -q --allow-empty -m change")
        return self.git("rev-parse HEAD")

    def git(self, words: str) -> str:
        return str(self.box.run(f"cd {GIT} && git {words}").stdout.strip())

    def pull(self, *words: str, check: bool = True, host: str = "left") -> CompletedProcess[str]:
        trusted = ["--verify-commits", "--signers", "/root/signers"]
        given = () if "--allow-unsigned" in words else trusted
        done: CompletedProcess[str] = self.box.nsprov(
            "pull", "--repo", URL, "--host", host, *given, *words, check=False
        )
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        return done

    def refused(self, *told: str, words: tuple[str, ...] = ()) -> None:
        """A pull that must say this, leave the host as it is and write no file of the commit."""
        before = self.motto(), self.state().get("applied"), self.trees()
        done = self.pull(*words, check=False)
        assert done.returncode == 1, done.stdout + done.stderr
        for one in told:
            assert one in done.stderr
        assert "Traceback" not in done.stderr
        assert (self.motto(), self.state().get("applied"), self.trees()) == before

    def motto(self) -> str:
        return str(self.box.run("cat /etc/motto 2>/dev/null || true").stdout)

    def state(self) -> dict[str, Any]:
        text = self.box.run(f"cat {FOLDER}/state.json 2>/dev/null || echo '{{}}'").stdout
        state: dict[str, Any] = json.loads(text)
        return state

    def trees(self) -> list[str]:
        return sorted(self.box.run(f"ls {FOLDER} 2>/dev/null | grep ^tree || true").stdout.split())


@pytest.fixture
def fleet(box: Any) -> Iterator[Fleet]:
    yield Fleet(box)
    box.nsprov("pull", "--remove-timer", "--force", "--name", "fleet", check=False)
    box.run("rm -f /etc/motto; rm -rf /var/lib/nsprov /root/fleet /root/keys /root/signers /root/gpg /tmp/ran")


def test_a_signed_commit_is_applied_and_the_next_pull_changes_nothing(fleet: Fleet) -> None:
    first = fleet.pull()
    assert "signed by ops@example.com" in first.stdout
    assert fleet.motto() == "from the left 1"
    assert "left   no changes" in fleet.pull().stdout
    assert "is applied already" in fleet.pull("--only-if-changed").stdout


def test_each_host_applies_its_own_part_of_the_same_commit(fleet: Fleet, sandboxes: Callable[..., Any]) -> None:
    right = sandboxes("right")
    right.run("mkdir -p /root")
    packed = fleet.box.run("tar -C /root -c fleet signers | base64").stdout
    right.run("base64 -d | tar -C /root -x --no-same-owner", input=packed)
    fleet.pull()
    done = right.nsprov("pull", "--repo", URL, "--verify-commits", "--signers", "/root/signers")
    assert "right   commit" in done.stdout
    assert (fleet.motto(), right.run("cat /etc/motto").stdout) == ("from the left 1", "from the right 1")


def test_a_new_commit_is_taken_and_the_files_of_the_old_one_go(fleet: Fleet) -> None:
    fleet.pull()
    fleet.number(2)
    commit = fleet.commit()
    fleet.pull()
    assert fleet.motto() == "from the left 2"
    assert fleet.trees() == [f"tree-{commit}"]
    assert fleet.state()["applied"] == commit


def test_what_somebody_changed_on_the_host_is_put_right_by_the_next_pull(fleet: Fleet) -> None:
    fleet.pull()
    fleet.box.run("echo mine > /etc/motto")
    fleet.pull()
    assert fleet.motto() == "from the left 1"


def test_the_state_says_what_is_applied_and_only_root_reads_it(fleet: Fleet) -> None:
    fleet.pull()
    status = fleet.box.nsprov("pull", "--status").stdout
    assert f"left: commit {fleet.git('rev-parse HEAD')[:12]} applied 2" in status
    assert "signed by ops@example.com" in status
    (told,) = json.loads(fleet.box.nsprov("pull", "--status", "--format", "json").stdout).values()
    assert told["applied"] == fleet.git("rev-parse HEAD").strip()
    assert (told["host"], told["error"], told["next_pull"]) == ("left", None, None)
    assert fleet.box.run(f"stat -c %a:%U {FOLDER} {FOLDER}/state.json").stdout.split() == ["700:root", "600:root"]


def test_a_dry_run_shows_the_plan_and_changes_nothing(fleet: Fleet) -> None:
    done = fleet.pull("--check")
    assert "file/" in done.stdout
    assert "/etc/motto" in done.stdout
    assert fleet.motto() == ""
    assert "applied" not in fleet.state()


def test_the_result_is_proved_where_that_is_asked_for(fleet: Fleet) -> None:
    fleet.pull("--verify")
    assert fleet.state()["proved"] is True


def test_a_result_that_is_not_proved_fails_the_pull_until_it_is(fleet: Fleet) -> None:
    fleet.write("roles/motto/tests/test_motto.py", "def test_motto(host):\n    assert host.file('/etc/proof').exists\n")
    fleet.commit()
    assert fleet.pull("--verify", check=False).returncode == 1
    assert fleet.pull("--verify", "--only-if-changed", check=False).returncode == 1
    fleet.box.run("touch /etc/proof")
    fleet.pull("--verify", "--only-if-changed")
    fleet.box.run("rm /etc/proof")
    assert fleet.state()["proved"] is True


def test_a_host_that_is_not_in_the_inventory_is_told_which_names_were_tried(fleet: Fleet) -> None:
    done = fleet.box.nsprov("pull", "--repo", URL, "--verify-commits", "--signers", "/root/signers", check=False)
    assert done.returncode == 64
    assert "this host is not in the inventory (tried: test-" in done.stderr


# -- whose commits ------------------------------------------------------------------------------------


def test_an_unsigned_commit_is_refused_and_nothing_of_it_is_read(fleet: Fleet) -> None:
    fleet.pull()
    fleet.number(2)
    fleet.commit(None)
    fleet.refused("is not signed")
    assert fleet.box.nsprov("pull", "--status", check=False).returncode == 1


def test_without_a_word_on_signatures_nothing_is_fetched(fleet: Fleet) -> None:
    done = fleet.box.nsprov("pull", "--repo", URL, "--host", "left", check=False)
    assert done.returncode == 64
    assert "whose commits shall be root here?" in done.stderr
    assert fleet.pull("--allow-unsigned").returncode == 0


def test_a_signer_who_is_not_trusted_is_refused(fleet: Fleet) -> None:
    fleet.pull()
    fleet.number(2)
    fleet.commit("other")
    fleet.refused("is signed by a key that /root/signers does not allow: SHA256:")


def test_a_key_that_signs_for_another_purpose_is_refused(fleet: Fleet) -> None:
    fleet.allow("ops", 'namespaces="file"')
    fleet.refused("does not allow")


def test_an_expired_key_is_refused_whatever_time_the_commit_claims(fleet: Fleet) -> None:
    fleet.allow("ops", 'valid-before="20200101"')
    fleet.refused("does not allow")
    fleet.commit(date="2019-06-01T12:00:00Z")
    fleet.refused("a key of ops@example.com that is no longer valid")


def test_a_commit_that_was_changed_after_it_was_signed_is_refused(fleet: Fleet) -> None:
    fleet.box.run(
        f"cd {GIT} && git cat-file commit HEAD | sed 's/^change$/chance/' > /root/keys/forged && "
        "git update-ref refs/heads/main $(git hash-object -t commit -w /root/keys/forged)"
    )
    fleet.refused("does not allow")


def test_the_repositorys_own_signers_and_settings_have_no_say(fleet: Fleet) -> None:
    other = fleet.box.run("cut -d' ' -f1,2 /root/keys/other.pub").stdout
    fleet.write("allowed_signers", f"* {other}")
    fleet.write(".git-allowed", f"* {other}")
    fleet.box.run(
        f"cd {GIT} && git config gpg.ssh.allowedSignersFile {GIT}/allowed_signers; "
        f"git config --global gpg.ssh.allowedSignersFile {GIT}/allowed_signers"
    )
    fleet.commit("other")
    fleet.refused("does not allow")
    fleet.box.run("rm -f /root/.gitconfig")


def test_keys_are_rotated_by_a_file_with_both_and_then_the_new_one_alone(fleet: Fleet) -> None:
    fleet.pull()
    fleet.box.run("echo \"other@example.com $(cut -d' ' -f1,2 /root/keys/other.pub)\" >> /root/signers")
    fleet.pull()
    fleet.number(2)
    fleet.commit("other")
    assert "signed by other@example.com" in fleet.pull().stdout
    fleet.allow("other")
    fleet.pull()


def test_signers_that_others_can_write_are_not_believed(fleet: Fleet) -> None:
    fleet.box.run("chmod 666 /root/signers")
    done = fleet.pull(check=False)
    assert done.returncode == 64
    assert "can be changed by others than root" in done.stderr


def test_gpg_keys_sign_as_well_and_one_beside_the_keyring_is_refused(fleet: Fleet) -> None:
    fleet.box.run(
        "mkdir -m 700 /root/gpg /root/gpg/ops /root/gpg/trusted /root/gpg/none && "
        "gpg -q --homedir /root/gpg/ops --batch --passphrase '' --quick-generate-key ops@example.com ed25519 sign 2>&1 "
        "&& gpg --homedir /root/gpg/ops --export | gpg -q --homedir /root/gpg/trusted --import && "
        f"cd {GIT} && GNUPGHOME=/root/gpg/ops git -c gpg.format=openpgp -c user.signingkey=ops@example.com "
        "commit -q -S --allow-empty -m gpg && "
        "gpgconf --homedir /root/gpg/ops --kill all"
    )
    fleet.refused("is signed with gpg, and this host takes signatures of ssh alone")

    def by(folder: str) -> CompletedProcess[str]:
        words = ("--repo", URL, "--host", "left", "--verify-commits", "--keyring", f"/root/gpg/{folder}")
        done: CompletedProcess[str] = fleet.box.nsprov("pull", *words, check=False)
        return done

    assert "the keyring /root/gpg/none does not have" in by("none").stderr
    assert "signed by ops@example.com" in by("trusted").stdout
    assert fleet.motto() == "from the left 1"


# -- no way back --------------------------------------------------------------------------------------


def test_a_branch_that_was_moved_back_is_refused_unless_that_is_meant(fleet: Fleet) -> None:
    fleet.number(2)
    fleet.commit()
    fleet.pull()
    fleet.git("reset -q --hard HEAD~1")
    fleet.refused("does not build upon")
    assert fleet.motto() == "from the left 2"
    fleet.pull("--allow-rewind")
    assert fleet.motto() == "from the left 1"


def test_another_history_of_the_same_signer_is_refused(fleet: Fleet) -> None:
    fleet.pull()
    fleet.git("checkout -q --orphan elsewhere")
    fleet.number(3)
    fleet.commit()
    fleet.git("branch -f main && git checkout -q main")
    fleet.refused("does not build upon")


def test_a_host_that_forgot_what_it_applied_does_not_go_on(fleet: Fleet) -> None:
    fleet.pull()
    fleet.box.write(f"{FOLDER}/state.json", "{")
    done = fleet.pull(check=False)
    assert done.returncode == 1
    assert "state.json is damaged" in done.stderr


# -- when it fails ------------------------------------------------------------------------------------


def test_a_commit_that_cannot_be_applied_leaves_the_host_as_it_was_and_is_tried_again(fleet: Fleet) -> None:
    fleet.pull()
    fleet.number(2)
    fleet.write(
        "roles/motto/tasks/main.yml", TASKS + "- unit: {name: broken.service, Type: oneshot, ExecStart: /bin/false}\n"
    )
    fleet.commit()
    fleet.box.run("rm -f /tmp/allowed")
    failed = fleet.pull(check=False)
    assert failed.returncode == 1, failed.stdout + failed.stderr
    assert fleet.motto() == "from the left 1"
    status = fleet.box.nsprov("pull", "--status", check=False)
    assert status.returncode == 1
    assert "unit/broken.service" in status.stdout
    fleet.write("roles/motto/tasks/main.yml", TASKS)
    fleet.commit()
    fleet.pull()
    assert fleet.motto() == "from the left 2"
    assert fleet.state()["error"] is None


def test_a_configuration_that_is_wrong_is_told_by_line_and_remembered(fleet: Fleet) -> None:
    fleet.pull()
    fleet.write("roles/motto/tasks/main.yml", "- fil: {path: /etc/motto}\n")
    fleet.commit()
    done = fleet.pull(check=False)
    assert done.returncode == 65
    assert "roles/motto/tasks/main.yml:1" in done.stderr
    assert "roles/motto/tasks/main.yml:1" in fleet.state()["error"]
    assert fleet.motto() == "from the left 1"


def test_a_server_that_is_not_there_is_one_line(fleet: Fleet) -> None:
    fleet.pull()
    fleet.box.run(f"mv {GIT} {GIT}.away")
    fleet.refused(f"cannot fetch main of {URL}")
    fleet.box.run(f"mv {GIT}.away {GIT}")


def test_a_pull_after_one_that_was_killed_is_not_held_up_by_its_locks(fleet: Fleet) -> None:
    fleet.pull()
    fleet.box.run(
        f"touch {FOLDER}/repo.git/refs/nsprov/fetched.lock {FOLDER}/repo.git/packed-refs.lock && "
        f"mkdir {FOLDER}/tree-x.new"
    )
    fleet.number(2)
    fleet.commit()
    fleet.pull()
    assert fleet.motto() == "from the left 2"
    assert "tree-x.new" not in fleet.trees()


def test_two_pulls_at_a_time_are_refused(fleet: Fleet) -> None:
    fleet.pull()
    holding = fleet.box.run(f"flock {FOLDER}/lock sleep 20 >/dev/null 2>&1 & echo $!").stdout.strip()
    done = fleet.pull(check=False)
    fleet.box.run(f"kill {holding}; pkill -P {holding} sleep", check=False)
    assert done.returncode == 75
    assert "another pull holds" in done.stderr


def test_a_repository_over_http_is_taken_for_its_signatures(fleet: Fleet) -> None:
    fleet.git("update-server-info")
    serving = fleet.box.run(
        f"cd {GIT} && ip link set lo up && "
        "{ python3 -m http.server --bind 127.0.0.1 8418 >/dev/null 2>&1 & echo $!; } && sleep 1"
    ).stdout.strip()
    words = ("--verify-commits", "--signers", "/root/signers", "--host", "left", "--name", "fleet")
    done = fleet.box.nsprov("pull", "--repo", "http://127.0.0.1:8418/.git", *words, check=False)
    fleet.box.run(f"kill {serving}")
    assert done.returncode == 0, done.stderr
    assert fleet.motto() == "from the left 1"
    assert fleet.state()["repo"] == "http://127.0.0.1:8418/.git"


def test_a_repository_over_ssh_is_taken_from_a_server_that_is_known_alone(fleet: Fleet) -> None:
    fleet.box.run(
        "mkdir -p /run/sshd /root/.ssh && chmod 700 /root/.ssh && ip link set lo up && cd /root/keys && "
        "for key in server deploy; do ssh-keygen -q -t ed25519 -N '' -f $key; done && "
        "printf 'Host 127.0.0.1\\n IdentityFile /root/keys/deploy\\n UserKnownHostsFile /root/keys/known\\n' "
        "> /root/.ssh/config && chmod 600 /root/.ssh/config && "
        "/usr/sbin/sshd -f /dev/null -p 2218 -h /root/keys/server -o ListenAddress=127.0.0.1 -o UsePAM=no "
        "-o PidFile=/root/keys/pid -o PermitRootLogin=prohibit-password -o AuthorizedKeysFile=/root/keys/deploy.pub"
    )
    words = ("--verify-commits", "--signers", "/root/signers", "--host", "left", "--name", "fleet")
    url = f"ssh://root@127.0.0.1:2218{GIT}"
    stranger = fleet.box.nsprov("pull", "--repo", url, *words, check=False)
    fleet.box.run("echo \"[127.0.0.1]:2218 $(cut -d' ' -f1,2 /root/keys/server.pub)\" > /root/keys/known")
    known = fleet.box.nsprov("pull", "--repo", url, *words, check=False)
    fleet.box.run("kill $(cat /root/keys/pid); rm -f /root/.ssh/config")
    assert stranger.returncode == 1
    assert "Host key verification failed" in stranger.stderr
    assert known.returncode == 0, known.stderr
    assert fleet.motto() == "from the left 1"


# -- what a repository might try ----------------------------------------------------------------------


def test_filters_attributes_and_hooks_are_not_run(fleet: Fleet) -> None:
    fleet.write(".gitattributes", "* filter=evil ident export-subst export-ignore working-tree-encoding=UTF-16\n")
    fleet.write(".gitconfig", '[filter "evil"]\n smudge = touch /tmp/ran\n')
    fleet.box.run(
        f"cd {GIT} && for hook in post-checkout post-merge reference-transaction; do "
        "printf '#!/bin/sh\\ntouch /tmp/ran\\n' > .git/hooks/$hook && chmod +x .git/hooks/$hook; done; "
        "git config filter.evil.smudge 'touch /tmp/ran'; git config --global filter.evil.smudge 'touch /tmp/ran'; "
        "git config --global core.hooksPath /root/fleet/.git/hooks"
    )
    fleet.git("-c core.hooksPath=/dev/null -c attr.tree=HEAD rm -q --cached .gitattributes 2>/dev/null; true")
    blob = fleet.git("hash-object -w --no-filters .gitattributes")
    fleet.box.run(f"rm {GIT}/.gitattributes")
    fleet.git(
        f"-c core.hooksPath=/dev/null update-index --add --cacheinfo 100644,{blob},.gitattributes && "
        "git -c core.hooksPath=/dev/null -c user.signingkey=/root/keys/ops commit -q -S -m attributes"
    )
    fleet.box.run("rm -f /tmp/ran")
    fleet.pull()
    assert fleet.motto() == "from the left 1"
    assert fleet.box.run("test -e /tmp/ran", check=False).returncode == 1
    fleet.box.run("rm -f /root/.gitconfig")


@pytest.mark.parametrize("target", ["/etc/shadow", "../../../../etc", "roles/../../.."])
def test_a_link_that_leads_out_of_the_tree_is_refused(fleet: Fleet, target: str) -> None:
    fleet.pull()
    fleet.box.run(f"ln -s {target} {GIT}/link")
    fleet.commit()
    fleet.refused("a link that leads out of the tree")


def test_a_link_that_leads_out_by_way_of_another_is_refused(fleet: Fleet) -> None:
    fleet.box.run(f"cd {GIT} && ln -s roles/motto deep && ln -s deep/../../../x out")
    fleet.commit()
    fleet.refused("'out': a link that leads out of the tree")


def test_a_link_within_the_tree_is_taken(fleet: Fleet) -> None:
    fleet.box.run(f"cd {GIT} && mv inventory.yml real.yml && ln -s real.yml inventory.yml")
    fleet.commit()
    fleet.pull()
    assert fleet.motto() == "from the left 1"


def test_a_submodule_is_refused(fleet: Fleet) -> None:
    fleet.git("update-index --add --cacheinfo 160000,$(git rev-parse HEAD),module")
    fleet.git("-c user.signingkey=/root/keys/ops commit -q -S -m module")
    fleet.refused("'module': a submodule")


def test_a_commit_of_too_many_files_is_refused_before_one_is_written(fleet: Fleet) -> None:
    blob = fleet.git("hash-object -w inventory.yml")
    fleet.box.run(
        f"cd {GIT} && seq 50001 | sed 's,.*,100644 {blob}\\tmany/&,' | git update-index --add --index-info && "
        "git -c user.signingkey=/root/keys/ops commit -q -S -m many"
    )
    fleet.refused("at most 50000 files")


def test_a_name_that_would_be_gits_own_is_refused(fleet: Fleet) -> None:
    fleet.box.run(
        f"cd {GIT} && tree=$(printf '100644 blob %s\\tconfig\\n' $(git hash-object -w inventory.yml) | git mktree) && "
        "top=$(printf '040000 tree %s\\t.git\\n' $tree | git mktree) && "
        "git reset -q --soft $(git -c user.signingkey=/root/keys/ops commit-tree -S -p HEAD -m names $top)"
    )
    fleet.refused("cannot fetch main")


# -- the timer ----------------------------------------------------------------------------------------


def install(fleet: Fleet, *words: str, check: bool = True) -> CompletedProcess[str]:
    return fleet.pull("--install-timer", *words, check=check)


def wait_for(holds: Callable[[], bool], seconds: float = 60) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.5)
    return False


def test_the_timer_fires_and_applies_a_new_commit_by_itself(fleet: Fleet) -> None:
    done = install(fleet, "--every", "5s", "--splay", "1")
    assert "enabled nsprov-pull-fleet.timer" in done.stdout
    assert wait_for(lambda: fleet.motto() == "from the left 1"), fleet.box.run(
        "systemctl status --no-pager 'nsprov-pull-*'; journalctl -n 40 --no-pager", check=False
    ).stdout
    fleet.number(2)
    fleet.commit()
    assert wait_for(lambda: fleet.motto() == "from the left 2")
    assert "next pull " in fleet.box.nsprov("pull", "--status").stdout


def test_the_service_can_do_all_that_an_apply_does(fleet: Fleet) -> None:
    fleet.write(
        "roles/motto/tasks/main.yml",
        TASKS
        + "- netns: {name: pulled}\n"
        + "- veth: {name: v-pulled, addresses: [10.9.8.1/24], peer: {netns: pulled, name: eth0}}\n"
        + '- nftables: {netns: pulled, table: inet filter, ruleset: "chain i { type filter hook input priority 0; }"}\n'
        + "- slice: {name: pulled.slice, TasksMax: 50}\n"
        + "- unit: {name: pulled.service, netns: pulled, Slice: pulled.slice, ExecStart: /bin/sleep infinity}\n",
    )
    fleet.commit()
    install(fleet, "--every", "1h", "--verify")
    started = fleet.box.run("systemctl start nsprov-pull-fleet.service", check=False)
    told = fleet.box.run("journalctl -n 60 --no-pager -o cat -u nsprov-pull-fleet.service").stdout
    assert started.returncode == 0, told
    # The namespace is the host's, and not one that only the service saw.
    assert "eth0" in fleet.box.run("ip -n pulled link").stdout
    assert fleet.box.run("systemctl is-active pulled.service").stdout.strip() == "active"
    assert fleet.state()["proved"] is True
    fleet.write("roles/motto/tasks/main.yml", TASKS)
    fleet.commit()
    fleet.box.run("systemctl start nsprov-pull-fleet.service")
    assert "pulled" not in fleet.box.run("ip netns").stdout


def test_a_pull_that_fails_is_a_failed_unit(fleet: Fleet) -> None:
    fleet.commit(None)
    install(fleet, "--every", "1h")
    assert fleet.box.run("systemctl start nsprov-pull-fleet.service", check=False).returncode != 0
    status = fleet.box.run("systemctl status --no-pager nsprov-pull-fleet.service", check=False).stdout
    assert "status=1/FAILURE" in status
    assert "is not signed" in status


def test_installing_twice_does_nothing_the_second_time(fleet: Fleet) -> None:
    install(fleet, "--every", "1h")
    again = install(fleet, "--every", "1h")
    assert again.stdout.strip() == "nsprov-pull-fleet.timer is there already, as it shall be"
    changed = install(fleet, "--every", "2h")
    assert "changed /etc/systemd/system/nsprov-pull-fleet.timer" in changed.stdout
    assert "service" not in changed.stdout


def test_a_unit_that_was_edited_by_hand_is_kept_unless_forced(fleet: Fleet) -> None:
    install(fleet, "--every", "1h")
    unit = "/etc/systemd/system/nsprov-pull-fleet.service"
    fleet.box.run(f"sed -i s/^UMask=.*/UMask=0022/ {unit}")
    for words in (("--install-timer",), ("--remove-timer",)):
        done = fleet.pull(*words, check=False)
        assert done.returncode == 1
        assert f"not as nsprov wrote it: {unit}" in done.stderr
    assert "UMask=0022" in fleet.box.run(["cat", unit]).stdout
    install(fleet, "--force")
    assert "UMask=0077" in fleet.box.run(["cat", unit]).stdout


def test_removing_the_timer_leaves_no_unit(fleet: Fleet) -> None:
    fleet.commit(None)
    install(fleet, "--every", "1h")
    fleet.box.run("systemctl start nsprov-pull-fleet.service", check=False)
    done = fleet.pull("--remove-timer")
    assert "stopped and disabled nsprov-pull-fleet.timer" in done.stdout
    left = fleet.box.run("ls -R /etc/systemd/system; systemctl list-units --all --plain 'nsprov-pull*'").stdout
    assert "nsprov-pull" not in left
    assert "there is no timer" in fleet.pull("--remove-timer").stdout


def test_systemd_finds_nothing_wrong_with_the_units(fleet: Fleet) -> None:
    install(fleet, "--every", "*-*-* 04:00:00", "--splay", "3600")
    done = fleet.box.run("systemd-analyze verify nsprov-pull-fleet.timer nsprov-pull-fleet.service 2>&1", check=False)
    assert "nsprov-pull" not in done.stdout
    show = fleet.box.run(
        "systemctl show nsprov-pull-fleet.timer -p RandomizedDelayUSec -p FixedRandomDelay -p Persistent"
    )
    assert sorted(show.stdout.split()) == ["FixedRandomDelay=yes", "Persistent=yes", "RandomizedDelayUSec=1h"]
