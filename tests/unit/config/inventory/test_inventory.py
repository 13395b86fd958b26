"""What the rest of nsprov asks an inventory."""

from __future__ import annotations

from pathlib import Path

import pytest

from provisioner.config.inventory import Inventory, default_sources, load_inventory
from provisioner.config.source import Map, source_of
from provisioner.errors import Source, UsageError


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_yml", ".yml").replace("_ini", ".ini")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def inventory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Inventory:
    write(
        tmp_path,
        hosts_yml="""\
all:
  vars: {nsprov_roles: [base], color: none}
  children:
    edge:
      hosts:
        edge1.example.com: {nsprov_roles: [own]}
        edge2:
      vars:
        nsprov_roles: [tenant]
        color: blue
    zoo: {hosts: {edge2: }, vars: {nsprov_roles: [zoo]}}
""",
        group_vars__edge_yml="nsprov_roles: [from_file]\nsize: 3\n",
        group_vars__all_yml="# about all\nnsprov_roles: [for_all]\n",
        host_vars__edge2_yml="nsprov_roles: [host_file]\n",
    )
    monkeypatch.chdir(tmp_path)
    return load_inventory(["hosts.yml"])


def test_every_variable_knows_where_it_was_written(inventory: Inventory) -> None:
    variables = inventory.variables("edge2")
    assert isinstance(variables, Map)
    assert variables["color"] == "blue"
    assert variables.at("color") == Source("hosts.yml", 10, 16)
    assert variables.key_at("color") == Source("hosts.yml", 10, 9)
    assert variables.at("size") == Source("group_vars/edge.yml", 2, 7)
    assert source_of(variables["nsprov_roles"][0]) == Source("host_vars/edge2.yml", 1, 16)


def test_ini_variables_know_where_they_were_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, hosts_ini="[web]\n  w1:22 a=1 b='x y' c=\"[1,'z']\"\n[web:vars]\nlong name  =  value\n")
    monkeypatch.chdir(tmp_path)
    variables = load_inventory(["hosts.ini"]).variables("w1")
    assert dict(variables) == {"ansible_port": 22, "a": 1, "b": "x y", "c": [1, "z"], "long name": "value"}
    assert variables.at("a") == Source("hosts.ini", 2, 11)
    assert variables.key_at("b") == Source("hosts.ini", 2, 13)
    assert source_of(variables["c"][1]) == Source("hosts.ini", 2, 23)
    assert source_of(variables["long name"]) == Source("hosts.ini", 4, 15)


def test_layers_go_from_all_down_to_the_host(inventory: Inventory) -> None:
    layers = inventory.layers("edge2", "nsprov_roles")
    assert [value[0] for value, _ in layers] == ["base", "for_all", "tenant", "from_file", "zoo", "host_file"]
    assert layers[1][1] == Source("group_vars/all.yml", 2, 15)
    assert [value[0] for value, _ in inventory.layers("edge1.example.com", "nsprov_roles")][-1] == "own"
    assert inventory.layers("edge2", "never_set") == []


def test_magic_variables_say_what_the_inventory_is(inventory: Inventory, tmp_path: Path) -> None:
    assert inventory.magic("edge1.example.com") == {
        "inventory_hostname": "edge1.example.com",
        "inventory_hostname_short": "edge1",
        "group_names": ["edge"],
        "groups": {
            "all": ["edge1.example.com", "edge2"],
            "ungrouped": [],
            "edge": ["edge1.example.com", "edge2"],
            "zoo": ["edge2"],
        },
        "inventory_dir": str(tmp_path),
        "inventory_file": str(tmp_path / "hosts.yml"),
    }


@pytest.mark.parametrize(("name", "short"), [("192.0.2.1", "192.0.2.1"), ("2001:db8::1", "2001:db8::1"), ("a.b", "a")])
def test_an_address_has_no_short_name(name: str, short: str) -> None:
    assert load_inventory([f"{name},"]).magic(name)["inventory_hostname_short"] == short


def test_variables_are_a_copy_of_the_hosts_own(inventory: Inventory) -> None:
    inventory.variables("edge2").put("color", "red", None)
    assert inventory.variables("edge2")["color"] == "blue"
    assert inventory.variables("edge1.example.com")["color"] == "blue"


def test_the_folders_of_the_sources_are_known(inventory: Inventory, tmp_path: Path) -> None:
    assert inventory.base_dirs == [tmp_path]
    (tmp_path / "more").mkdir()
    write(tmp_path / "more", a_ini="h1\n")
    assert load_inventory([tmp_path / "more", tmp_path / "hosts.yml", "x,y"]).base_dirs == [tmp_path / "more", tmp_path]


def test_an_unknown_host_is_an_error(inventory: Inventory) -> None:
    for ask in (inventory.variables, inventory.magic, inventory.host):
        with pytest.raises(UsageError, match="did you mean 'edge2'"):
            ask("edge3")


def test_hosts_are_in_the_order_of_the_files(inventory: Inventory) -> None:
    assert list(inventory.hosts) == ["edge1.example.com", "edge2"]
    assert inventory.hosts["edge2"].groups == ("edge", "zoo")
    assert inventory.groups["edge"].source == Source("hosts.yml", 4, 5)


def test_the_default_is_what_the_environment_or_the_folder_has(tmp_path: Path) -> None:
    assert default_sources({"NSPROV_INVENTORY": "lab.yml"}, tmp_path) == ["lab.yml"]
    with pytest.raises(UsageError, match="no inventory is given"):
        default_sources({}, tmp_path)
    write(tmp_path, inventory_yml="all:\n")
    assert default_sources({}, tmp_path) == [str(tmp_path / "inventory.yml")]


def test_a_thousand_hosts_in_a_thousand_groups(tmp_path: Path) -> None:
    lines = [f"    g{n}: {{hosts: {{h{n}: {{i: {n}}}}}, vars: {{v: {n}}}}}" for n in range(1000)]
    path = tmp_path / "hosts.yml"
    path.write_text("all:\n  vars: {v: all}\n  children:\n" + "\n".join(lines))
    inventory = load_inventory([path])
    assert [dict(inventory.variables(host)) for host in inventory.hosts] == [{"v": n, "i": n} for n in range(1000)]


def test_json_may_have_tabs_and_characters_in_two_halves(tmp_path: Path) -> None:
    path = tmp_path / "hosts.json"
    path.write_text('{\n\t"all": {\n\t\t"hosts": {"h": {"a": "\\ud83d\\ude00"}}}}')
    variables = load_inventory([path]).variables("h")
    assert variables["a"] == "😀"
    assert variables.at("a") == Source(str(path), 3, 24)
