"""Which of several values a variable has, wherever it is read: as ansible-playbook has it for the same roles."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from provisioner.config.build import build_desired
from provisioner.config.inventory import load_inventory
from provisioner.errors import ConfigError

ROLES = {
    "web/defaults": "{d: web, q: web, both: web, tv: web, shared: web}",
    "web/vars": "{rv: web, tv: web-vars, both: web-vars}",
    "web/meta": "dependencies: [{role: base, vars: {q: '{{ p }}-q', bv: given}}]",
    "base/defaults": "{bd: base, shared: base, d: base}",
    "base/vars": "{bv: base, bw: base}",
    "base/tasks": """
        - SAY: "base {{ q }} {{ p }} {{ d }} {{ shared }} {{ rv }} {{ bv }}"
        - SAY: "base task {{ q }} {{ p }} {{ bv }}"
          vars: {q: task, p: task, bv: task}
    """,
    "wall/defaults": "{wd: wall, d: wall, shared: wall}",
    "wall/vars": "{wv: wall, x: wall, y: wall}",
    "wall/tasks": """
        - SAY: "wall {{ wd }} {{ d }} {{ shared }} {{ p }} {{ x }} {{ y }} {{ item | default('-') }} {{ role_name }}"
        - SAY: "wall task {{ x }} {{ y }} {{ p }} {{ wd }}"
          vars: {x: task, y: task, p: task, wd: task}
    """,
    "web/tasks": """
        - SAY: "web {{ d }} {{ q }} {{ both }} {{ tv }} {{ shared }} {{ bd }} {{ bw }} {{ rv }} {{ g }} {{ h }}"
        - SAY: "task {{ tv }} {{ both }}"
          vars: {tv: task, both: task}
        - block:
            - SAY: "block {{ tv }} {{ b }}"
              vars: {b: task}
            - SAY: "block loop {{ tv }} {{ b }} {{ item }}"
              loop: [1, 2]
            - include_role: {name: wall}
              vars: {x: include}
            - import_role: {name: wall}
              vars: {p: import}
            - include_tasks: more.yml
            - import_tasks: more.yml
          vars: {tv: block, b: "block-{{ item | default('-') }}", x: block, y: block, p: block}
        - include_role: {name: wall}
          vars: {x: "x-{{ item }}", p: inner}
          loop: [a, b]
        - import_role: {name: wall}
          vars: {x: import}
        - include_tasks: more.yml
          vars: {both: include, tv: include, p: include, x: include, rv: include}
        - SAY: "after {{ both }} {{ tv }} {{ p }}"
        - import_tasks: more.yml
          vars: {both: import, tv: import, p: import, x: import, rv: import}
        - include_tasks: more.yml
          loop: [{x: one}, {x: two}]
          loop_control: {loop_var: row, index_var: at}
          vars: {x: "{{ row.x }}{{ at }}"}
    """,
    "web/more": """
        - SAY: "more {{ both }} {{ tv }} {{ p }} {{ x }} {{ rv }} {{ extra }}"
        - SAY: "more task {{ both }} {{ tv }} {{ p }} {{ x }} {{ rv }} {{ extra }} {{ late }}"
          vars: {late: "{{ tv }}2", tv: task, p: task, x: task, rv: task, extra: task}
        - block:
            - SAY: "more block {{ both }} {{ tv }} {{ p }} {{ x }} {{ rv }}"
          vars: {both: block2, tv: block2, p: block2, x: block2, rv: block2}
    """,
}
ENTRY = "[{role: web, vars: {p: entry, both: entry, g: entry}}]"
INVENTORY = "all: {hosts: {localhost: {h: host, d: inventory}}, vars: {g: all, h: all, nsprov_roles: ENTRY}}"


def written(folder: Path, say: str) -> Path:
    """The roles, with what each task says in the words of one of the two."""
    for name, text in ROLES.items():
        role, part = name.split("/")
        path = folder / "roles" / role / ("tasks/more.yml" if part == "more" else f"{part}/main.yml")
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = text.splitlines()
        indent = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
        path.write_text("\n".join(re.sub(r"SAY: (.*)", say, line[indent:]) for line in lines))
    (folder / "inventory.yml").write_text(INVENTORY.replace("ENTRY", ENTRY))
    (folder / "play.yml").write_text(f"- {{hosts: localhost, connection: local, gather_facts: false, roles: {ENTRY}}}")
    return folder


@pytest.fixture(scope="module")
def in_ansible(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = written(tmp_path_factory.mktemp("ansible"), r"debug: {msg: \1}")
    command = [
        str(Path(sys.executable).parent / "ansible-playbook"),
        "-i",
        "inventory.yml",
        "play.yml",
        "-e",
        "extra=e",
    ]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return re.findall(r'"msg": "(.*)"', ran.stdout)


def test_every_variable_has_the_value_that_it_has_in_ansible(tmp_path: Path, in_ansible: list[str]) -> None:
    folder = written(tmp_path, r"fail: {msg: \1}")
    inventory = load_inventory([str(folder / "inventory.yml")])
    with pytest.raises(ConfigError) as caught:
        build_desired(inventory, "localhost", {}, role_path=[folder / "roles"], extra_vars={"extra": "e"})
    # What is said twice at the same place is one problem.
    assert [problem.message for problem in caught.value.problems] == list(dict.fromkeys(in_ansible))
    assert len(in_ansible) > 30
