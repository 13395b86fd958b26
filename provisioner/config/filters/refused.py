"""What Ansible's templates have and a plan cannot have, and what to do instead."""

from __future__ import annotations

__all__ = ["NOT_REPEATABLE", "UNAVAILABLE"]

NOT_REPEATABLE = "the same configuration must always give the same plan"

#: What Ansible has and a plan cannot have, and what to do instead.
UNAVAILABLE: dict[str, str] = {
    "password_hash": "a hash with a new salt each time would change in every plan: put the hash into a variable",
    "fileglob": "list the files in a variable",
    "expanduser": "write the whole path",
    "expandvars": "write the whole path, or use lookup('env', NAME)",
    "realpath": "paths of the host are not looked at while a plan is made: write the whole path",
    "json_query": "use selectattr, map and dict2items",
    "vault": "secrets are not encrypted by templates",
    "unvault": "secrets are not decrypted by templates",
    "now": f"there is no clock: {NOT_REPEATABLE}",
    "lipsum": f"there are no random texts: {NOT_REPEATABLE}",
    "file": "files of the host are not looked at while a plan is made",
    "exists": "files of the host are not looked at while a plan is made",
    "directory": "files of the host are not looked at while a plan is made",
    "link": "files of the host are not looked at while a plan is made",
    "is_file": "files of the host are not looked at while a plan is made",
    "is_dir": "files of the host are not looked at while a plan is made",
    "link_exists": "files of the host are not looked at while a plan is made",
    "changed": "there are no results of tasks: everything is known before anything is touched",
    "failed": "there are no results of tasks: everything is known before anything is touched",
    "succeeded": "there are no results of tasks: everything is known before anything is touched",
    "skipped": "there are no results of tasks: everything is known before anything is touched",
    "resolvable": "names are not resolved while a plan is made",
    "vars": "write the variable's name, or lookup('vars', NAME)",
    "hostvars": "hostvars needs the name of a host: hostvars['edge1'].x",
}
