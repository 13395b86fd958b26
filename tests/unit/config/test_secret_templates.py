"""The mark of a secret survives what templates do with it, and stays away from what is no secret."""

from __future__ import annotations

from typing import Any

import pytest

from provisioner import secrets
from provisioner.config.build import build_desired
from provisioner.config.inventory import load_inventory
from provisioner.secrets import MASK, hidden
from tests.unit.config.projects import Project

VARIABLES = """
plain: blue
raw: {host: db1, password: hunter2-long, port: 5432}
password: "{{ raw.password | secret }}"
derived: "{{ password }}"
further: "user:{{ derived }}"
short: "{{ '47' | secret }}"
number: "{{ 4711 | secret }}"
db: "{{ raw | combine({'password': password}) }}"
users:
  - {name: ann, password: "{{ password }}"}
  - {name: bob, password: nothing}
"""


def shown(project: Project, template: str) -> Any:
    """The content of a file as a plan shows it."""
    project.file("roles/web/templates/t.j2", template)
    project.tasks("template: {path: /etc/x, src: t.j2}".join(["- ", ""]), VARIABLES)
    (one,) = project.build().resources.values()
    return hidden(one.resource.declared(), one.secrets)["content"]


SECRET = [
    "{{ password }}",
    "{{ derived }}",
    "{{ further }}",
    "{{ short }}",
    "{{ number }}",
    "a {{ password }} b",
    "{{ 'a' ~ password }}",
    "{{ 'a' + password }}",
    "{{ password + 'a' }}",
    "{{ '%s' % password }}",
    "{{ password * 2 }}",
    "{{ number + 1 }}",
    "{{ number - 1 }}",
    "{{ number // 2 }}",
    "{{ '{}'.format(password) }}",
    "{{ 'x{0}'.format(password) }}",
    "{{ '%s' | format(password) }}",
    "{{ password.upper() }}",
    "{{ password.split('-')[0] }}",
    "{{ ','.join([password, 'x']) }}",
    "{{ password[0] }}",
    "{{ password[1:4] }}",
    "{{ password | first }}",
    "{{ password | reverse }}",
    "{{ password | b64encode }}",
    "{{ password | hash('sha256') }}",
    "{{ password | urlencode }}",
    "{{ password | quote }}",
    "{{ password | regex_replace('hunter', 'x') }}",
    "{{ password | regex_search('h.n') }}",
    "{{ password | upper | lower | trim }}",
    "{{ password | e }}",
    "{{ password | string }}",
    "{{ password | list | join }}",
    "{{ short | int }}",
    "{{ short | int + 1 }}",
    "{{ db.password }}",
    "{{ db['password'] }}",
    "{{ db.get('password') }}",
    "{{ db | to_json }}",
    "{{ db | to_nice_yaml }}",
    "{{ db.values() | join(' ') }}",
    "{{ db | dict2items | map(attribute='value') | join(' ') }}",
    "{{ (db | to_json | from_json).password }}",
    "{{ users | map(attribute='password') | first }}",
    "{{ users | selectattr('name', 'equalto', 'ann') | map(attribute='password') | join }}",
    "{{ users | items2dict(key_name='name', value_name='password') | to_json }}",
    "{{ [password] | map('b64encode') | list | first }}",
    "{{ [[password]] | flatten | first }}",
    "{{ ['x'] | zip([password]) | list | to_json }}",
    "{{ missing | default(password) }}",
    "{{ true | ternary(password, 'x') }}",
    "{{ lookup('vars', 'password') }}",
    "{{ hostvars['h1']['password'] }}",
    "{% set x = password %}{{ x }}",
    "{% set x %}{{ password }}{% endset %}{{ x }}",
    "{% for user in users %}{{ user.password }}{% endfor %}",
    "{% for letter in password %}{{ letter }}{% endfor %}",
    "{% macro m(x) %}<{{ x }}>{% endmacro %}{{ m(password) }}",
    "{% macro m() %}<{{ caller() }}>{% endmacro %}{% call m() %}{{ password }}{% endcall %}",
    "{% filter upper %}{{ password }}{% endfilter %}",
    "{% if true %}{{ password }}{% endif %}",
    "{% with x = password %}{{ x }}{% endwith %}",
    "{{ [password, 'x'] | join(',') }}",
    "{{ {'a': {'b': [password]}} | to_json }}",
    "{{ [users] | to_json }}",
]
PLAIN = {
    "{{ plain }}": "blue",
    "{{ raw.host }}": "db1",
    "{{ db.host }}": "db1",
    "{{ db.port }}": "5432",
    "{{ users[0].name }}": "ann",
    "{{ users | map(attribute='name') | join(',') }}": "ann,bob",
    "{% for user in users %}{{ user.name }}{% endfor %}": "annbob",
    "{{ users | length }}": "2",
    "{{ db | dict2items | map(attribute='key') | list | sort | join(' ') }}": "host password port",
    "{{ plain | default(password) }}": "blue",
    "{{ false | ternary(password, 'x') }}": "x",
    "{{ 'yes' if password else 'no' }}": "yes",
    "{{ password is defined }}": "True",
    "{{ users | selectattr('name', 'equalto', 'bob') | map(attribute='password') | first }}": "nothing",
    "{% macro m(x) %}<{{ x }}>{% endmacro %}{{ m('x') }}": "<x>",
    "{{ (db | combine({'z': 1})).host }}": "db1",
}


@pytest.mark.parametrize("template", SECRET)
def test_what_is_made_of_a_secret_is_one(template: str, project: Project) -> None:
    assert shown(project, template) == MASK


@pytest.mark.parametrize(("template", "text"), PLAIN.items())
def test_what_stands_beside_a_secret_is_none(template: str, text: str, project: Project) -> None:
    assert shown(project, template) == text


def test_an_included_template_and_a_looked_up_one_carry_it_out(project: Project) -> None:
    project.file("roles/web/templates/inner.j2", "in {{ password }}")
    for template in ("{% include 'inner.j2' %}", "{{ lookup('template', 'inner.j2') }}"):
        assert shown(project, template) == MASK


def test_the_value_itself_is_what_it_would_be_without_the_mark(project: Project) -> None:
    variables = VARIABLES.replace(" | secret", "")
    for template in SECRET:
        made = []
        for given in (VARIABLES, variables):
            project.file("roles/web/templates/t.j2", template)
            project.tasks("- template: {path: /etc/x, src: t.j2}", given)
            (one,) = project.build().resources.values()
            made.append(one.resource.content)  # type: ignore[attr-defined]
        assert made[0] == made[1], template


def test_it_goes_through_roles_loops_arguments_and_task_variables(project: Project) -> None:
    project.tasks(
        """
        - file: {path: "/etc/{{ item.name }}", content: "{{ item.password }}"}
          loop: "{{ users }}"
        - file: {path: /etc/v, content: "{{ mine }}"}
          vars: {mine: "{{ password }}"}
        - include_tasks: more.yml
          vars: {given: "{{ password }}"}
        - include_role: {name: other}
          vars: {argument: "{{ password }}"}
        """,
        VARIABLES,
    )
    project.file("roles/web/tasks/more.yml", "- file: {path: /etc/more, content: '{{ given }}'}\n")
    project.file("roles/other/tasks/main.yml", "- file: {path: /etc/other, content: '{{ argument }}'}\n")
    found = {address.name: ("content",) in one.secrets for address, one in project.build().resources.items()}
    assert found == {"/etc/ann": True, "/etc/bob": False, "/etc/v": True, "/etc/more": True, "/etc/other": True}


def test_no_log_hides_the_fields_of_a_task_and_of_all_in_a_block(project: Project) -> None:
    project.tasks(
        """
        - file: {path: /etc/a, content: x, mode: "0600"}
          no_log: true
        - no_log: true
          block:
            - file: {path: /etc/b, content: x}
            - include_tasks: more.yml
        - file: {path: /etc/d, content: x}
        """
    )
    project.file("roles/web/tasks/more.yml", "- file: {path: /etc/c, content: x}\n")
    found = {address.name: ("content",) in one.secrets for address, one in project.build().resources.items()}
    assert found == {"/etc/a": True, "/etc/b": True, "/etc/c": True, "/etc/d": False}


@pytest.mark.parametrize("field", ["ExecStart: /bin/x", "Environment: 'PW=x'"])
def test_no_log_refuses_nothing(field: str, project: Project) -> None:
    project.tasks(
        f"- unit: {{name: x, ExecStart: /bin/true, {field}}}\n  no_log: true".replace(
            "ExecStart: /bin/true, ExecStart", "ExecStart"
        )
    )
    assert len(project.build().resources) == 1


def test_secrets_in_names_and_in_directives_are_refused_with_what_to_write(project: Project) -> None:
    project.tasks(
        """
        - netns: {name: "{{ password }}"}
        - unit: {name: x, ExecStart: "/bin/x {{ password }}", Environment: ["DB_PASSWORD={{ password }}"]}
        - slice: {name: x.slice, Description: "{{ password }}"}
        """,
        VARIABLES,
    )
    names, environment, command, description = project.errors()
    assert names.startswith("roles/web/tasks/main.yml:2:17: netns.name: a name cannot be a secret")
    assert "unit.Environment: a secret in the environment does not stay one" in environment
    assert 'credentials: {db_password: "{{ … }}"}' in environment
    assert "$CREDENTIALS_DIRECTORY/db_password" in environment
    assert "unit.ExecStart: a secret on a command line does not stay one" in command
    assert "slice.Description: a secret here does not stay one" in description


def test_an_option_of_a_role_that_has_the_wrong_type_is_not_quoted(project: Project) -> None:
    project.tasks("- netns: {name: a}", VARIABLES + "size: '{{ password }}'\n")
    project.file("roles/web/meta/argument_specs.yml", "argument_specs: {main: {options: {size: {type: int}}}}")
    (found,) = project.errors()
    assert "'size' must be a whole number, not what it is" in found


def test_a_credential_is_a_secret_though_it_was_written_as_it_is(project: Project) -> None:
    project.tasks("- unit: {name: x, ExecStart: /bin/x, credentials: {pw: literal-password, 'b.c': 12345678}}")
    (one,) = project.build().resources.values()
    assert one.resource.shown(one.secrets)["credentials"] == {"b.c": MASK, "pw": MASK}
    assert secrets.redact("it says literal-password and 12345678") == "it says (secret) and (secret)"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("{'a/b': x}", "'a/b' cannot be the name of a credential"),
        ("{'.a': x}", "'.a' cannot be the name of a credential"),
        ("{a: [x]}", "the credential 'a' must be a text"),
        ("[a]", "credentials are names and texts"),
        ("{a: '{{ \"x\" * 600000 }}', b: '{{ \"y\" * 600000 }}'}", "more than the 1048576 bytes that systemd takes"),
    ],
)
def test_what_cannot_be_a_credential_is_told(given: str, says: str, project: Project) -> None:
    project.tasks(f"- unit: {{name: x, ExecStart: /bin/x, credentials: {given}}}")
    (found,) = project.errors()
    assert "unit.credentials: " in found
    assert says in found


def test_values_of_an_encrypted_ini_inventory_are_secrets(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    from provisioner.config import vault
    from tests.unit.config.test_vault import ansible_encrypts

    vault.use(vault.Keyring(vault.passwords(environ={"NSPROV_VAULT_PASSWORD": "open sesame"})))
    project.tasks("- file: {path: /etc/x, content: '{{ token }}'}")
    project.file("hosts", ansible_encrypts("[web]\nh1 token=abcdef-ini\n[web:vars]\nnsprov_roles=['web']\n"))
    inventory = load_inventory([str(project.folder / "hosts")])
    (one,) = build_desired(inventory, "h1", {}, role_path=[project.folder / "roles"]).resources.values()
    assert one.resource.shown(one.secrets)["content"] == MASK
    vault.use(vault.Keyring())


def test_what_is_declared_twice_is_a_secret_if_either_says_so(project: Project) -> None:
    text = "- file: {path: /etc/x, content: hunter2-long}\n- file: {path: /etc/x, content: '{{ password }}'}\n"
    for tasks in (text, "\n".join(reversed(text.splitlines()))):
        project.tasks(tasks, VARIABLES)
        (one,) = project.build().resources.values()
        assert ("content",) in one.secrets
