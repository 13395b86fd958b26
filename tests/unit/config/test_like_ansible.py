"""Filters, tests and templates give what ansible-core gives for the same expression."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

from provisioner.config.build import make_templates
from provisioner.config.source import Map, Seq
from provisioner.config.values import located
from provisioner.config.variables import Frame
from provisioner.errors import ConfigError

VARIABLES: dict[str, Any] = {
    "none": None,
    "five": 5,
    "text": "Hello, World",
    "lines": "one\ntwo\nthree",
    "names": ["blue", "green", "blue"],
    "numbers": [3, 1, 2, 3],
    "nested": [1, [2, [3, None, [4]]], "x"],
    "tenant": {"name": "blue", "ports": [80, 443], "limits": {"memory": "1G", "cpu": "50%"}},
    "other": {"name": "green", "ports": [8080], "limits": {"memory": "2G", "tasks": 5}},
    "rows": [
        {"name": "a", "size": 2, "tags": ["x", "y"], "on": True},
        {"name": "b", "size": 1, "tags": [], "on": False},
        {"name": "c", "size": 3, "tags": ["z"], "on": True},
    ],
    "keyed": {"a": {"id": 1, "groups": ["g1", "g2"]}, "b": {"id": 2, "groups": ["g3"]}},
    "documents": "a: 1\n---\nb: 2",
    "yaml": "a: 1\nb: [x, y]\n",
    "json": '{"a": [1, 2, null]}',
    "unicode": "Größe ☃",
}

EXPRESSIONS = r"""
text | b64encode
text | b64encode | b64decode
unicode | b64encode | b64decode
text | hash
text | hash('sha256')
text | md5
text | sha1
text | checksum
text | to_uuid
text | to_uuid(namespace='6ba7b810-9dad-11d1-80b4-00c04fd430c8')
tenant | to_json
tenant | to_json(indent=2, sort_keys=true)
tenant | to_nice_json
tenant | to_nice_json(indent=2)
tenant | to_yaml
tenant | to_nice_yaml
tenant | to_nice_yaml(indent=2)
rows | to_nice_yaml
numbers | to_yaml
names | to_nice_yaml(default_flow_style=true)
unicode | to_json
unicode | to_nice_yaml
text | to_yaml
five | to_yaml
[] | to_nice_yaml
{} | to_yaml
['x: y', '1', 'yes', ''] | to_nice_yaml
{'b': 1, 'a': {'c': [1, {'d': 2}]}} | to_nice_yaml
{'b': 1, 'a': 2} | to_yaml(sort_keys=false)
{'l': lines} | to_nice_yaml
none | to_json
yaml | from_yaml
documents | from_yaml_all | list
json | from_json
'/etc/app/app.conf' | basename
'/etc/app/app.conf' | dirname
'/etc/app/app.conf' | splitext
'/etc/../app//x' | normpath
['/etc', 'app', 'x'] | path_join
'/etc/app/x' | relpath('/etc')
['/etc/a', '/etc/b'] | commonpath
'C:\x\y.txt' | win_basename
'yes' | bool
'no' | bool
'1' | bool
'anything' | bool
1 | bool
0 | bool
none | bool
'True' | bool
"it's" | quote
'' | quote
text | regex_replace('[A-Z]', 'x')
text | regex_replace('(?P<a>l+)', '<\g<a>>')
text | regex_replace('l', 'L', count=1)
lines | regex_replace('^t', 'T', multiline=true)
text | regex_replace('hello', 'bye', ignorecase=true)
text | regex_search('W.*')
text | regex_search('nothing')
text | regex_search('(H)(e)', '\1', '\2')
text | regex_search('(?P<first>H)', '\g<first>')
text | regex_search('hello', ignorecase=true)
text | regex_findall('o')
text | regex_findall('([a-z])o')
lines | regex_findall('^t\w+', multiline=true)
'a.b*c' | regex_escape
'a.b*c[]' | regex_escape('posix_basic')
true | ternary('a', 'b')
false | ternary('a', 'b')
none | ternary('a', 'b', 'c')
none | ternary('a', 'b')
text | split(', ')
'a  b' | split
'a,b,c' | split(',', 1)
text | comment
lines | comment('c')
lines | comment('cblock')
lines | comment('xml')
lines | comment('erlang')
lines | comment('plain', prefix='#######', postfix='#')
lines | comment('plain', decoration='; ')
tenant | combine(other)
tenant | combine(other, recursive=true)
tenant | combine(other, recursive=true, list_merge='append')
tenant | combine(other, recursive=true, list_merge='prepend')
tenant | combine(other, recursive=true, list_merge='keep')
tenant | combine(other, recursive=true, list_merge='append_rp')
tenant | combine(other, recursive=true, list_merge='prepend_rp')
tenant | combine(other, list_merge='append')
{'l': [1, 2, 2]} | combine({'l': [2, 3]}, list_merge='append_rp')
{'l': [1, 2, 2]} | combine({'l': [2, 3]}, list_merge='prepend_rp')
[tenant, other] | combine
tenant | combine
[] | combine
tenant | dict2items
tenant | dict2items(key_name='k', value_name='v')
tenant | dict2items | items2dict
[{'k': 'a', 'v': 1}] | items2dict(key_name='k', value_name='v')
nested | flatten
nested | flatten(levels=1)
nested | flatten(skip_nulls=false)
rows | subelements('tags')
keyed | subelements('groups')
[{'a': {'b': [1]}}, {'c': 1}] | subelements('a.b', skip_missing=true)
'name' | extract(tenant)
0 | extract(names)
'limits' | extract(tenant, 'memory')
'limits' | extract(tenant, ['cpu'])
['a', 'b'] | map('extract', keyed, 'id') | list
names | unique
numbers | unique
['A', 'a'] | unique(case_sensitive=false)
['A', 'a'] | unique
rows | unique(attribute='on')
[[1], [1], [2]] | unique
names | union(['red', 'blue']) | sort
names | intersect(['blue', 'red']) | sort
names | difference(['blue']) | sort
numbers | difference([3]) | sort
names | symmetric_difference(['blue', 'red']) | sort
[[1], [2]] | intersect([[2]])
numbers | zip(names)
numbers | zip(names, ['x'])
numbers | zip_longest(names, fillvalue='-')
[1, 2] | product([3, 4])
[1, 2] | product([3], [4])
[1, 2, 3] | permutations
[1, 2, 3] | permutations(2)
[1, 2, 3] | combinations(2)
8 | log(2)
100 | log(10)
2 | pow(5)
16 | root
27 | root(3)
1536 | human_readable
1536 | human_readable(isbits=true)
1536 | human_readable(unit='K')
0 | human_readable
123456789 | human_readable
'1.5 GB' | human_to_bytes
'512M' | human_to_bytes
'10' | human_to_bytes
'10' | human_to_bytes('K')
'2 KB' | human_to_bytes
'https://u:p@example.org:8080/a/b?x=1#f' | urlsplit
'https://u:p@example.org:8080/a/b?x=1#f' | urlsplit('port')
'https://example.org/a' | urlsplit('hostname')
rows | rekey_on_member('name')
[{'n': 1, 'v': 1}, {'n': 1, 'v': 2}] | rekey_on_member('n', duplicates='overwrite')
keyed | rekey_on_member('id')
five | type_debug
text | type_debug
names | type_debug
tenant | type_debug
none | type_debug
names | random(seed='x')
names | shuffle(seed='x')
100 | random(seed='x')
100 | random(start=10, step=5, seed='x')
five | mandatory
undefined_name | default('d')
none | default('d')
'' | default('d', true)
undefined_name.a.b | d('x')
dict([['a', 1]])
rows | map(attribute='name') | list
rows | selectattr('on') | map(attribute='name') | join(',')
rows | rejectattr('on') | list
rows | selectattr('size', '>', 1) | list
rows | sort(attribute='size') | map(attribute='name') | list
rows | sum(attribute='size')
rows | groupby('on') | list
numbers | sort
numbers | min
numbers | max
names | join('-')
text | upper
text | replace('o', '0')
text | length
lines | indent(2)
lines | indent(2, first=true)
five | string
'5' | int
'x' | int(7)
'1.5' | float
'%s-%02d' | format('a', 5)
numbers | batch(2) | list
numbers | slice(2) | list
'x' | center(7)
names | first
names | last
text | trim
text | lower | capitalize
1.567 | round(1)
1.4 | round | int
names | ansible.builtin.unique
tenant | ansible.builtin.combine(other)
text is match('Hell')
text is match('World')
text is search('World')
text is regex('^H')
text is regex('world', ignorecase=true)
text is regex('Hello', match_type='fullmatch')
'1.2.3' is version('1.2', '>')
'1.2.10' is version('1.2.9', '>=')
'1.2' is version('1.2.0', 'eq')
'1.2.3' is version('1.2.3-rc.1', '>', version_type='semver')
'1.0.0-alpha.1' is version('1.0.0-alpha.beta', 'lt', version_type='semver')
'1.2a1' is version('1.2', '<', strict=true)
'1.2.dev1' is version('1.2', '<', version_type='pep440')
'252.22-1~deb12u1' is version('252', '>=')
[1, 2] is subset([1, 2, 3])
[1, 2, 3] is superset([1, 2])
[1, 4] is subset([1, 2, 3])
names is contains('blue')
'blue' in names
'blue' is in(names)
'yes' is truthy
'yes' is truthy(convert_bool=true)
'no' is truthy(convert_bool=true)
'' is falsy
'off' is falsy(convert_bool=true)
undefined_name is defined
undefined_name is undefined
five is defined
[true, false] is any
[true, false] is all
five is number
text is string
tenant is mapping
names is sequence
5 is ansible.builtin.odd
1 + 2 * 3
7 // 2
7 % 3
2 ** 8
'a' ~ 5
names + [1]
tenant.limits.memory
tenant['ports'][0]
names[-1]
names[:2]
'x' if five > 3 else 'y'
[1, 'a', {'b': none}]
five > 3 and 'yes'
range(3) | list
names | map('regex_replace', '^', 'x-') | list
lookup('dict', tenant) if false else 1
'2024-01-02 03:04:05' | to_datetime | string
'%Y-%m-%d' | strftime(0)
""".strip().splitlines()

TEXTS = [
    "x{{ none }}y",
    "{{ names }}",
    "{{ five }}{{ five }}",
    "{{ five }}\n",
    "a {{ text }}\n",
    " {{ five }}",
    "0{{ five }}",
]
TEXTS += [
    "{% for n in names %}{{ n }}\n{% endfor %}",
    "{% if five %}\n  yes\n{% endif %}\n",
    "{{ tenant }}",
    "{{ none }}",
]
TEXTS += [
    "{% set x = 5 %}{{ x }}",
    "{# c #}{{ five }}",
    "{{ 'a\\nb' }}",
    "{%- if five -%} x {%- endif %} ",
    "{{ five }}{# c #}x",
]


@pytest.fixture(scope="module")
def templar() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ansible.parsing.dataloader import DataLoader
        from ansible.plugins.loader import init_plugin_loader
        from ansible.template import Templar

        init_plugin_loader([])
        return Templar(loader=DataLoader(), variables=VARIABLES)


def plain(value: Any) -> Any:
    """A value of either side, as JSON has it, with the types told apart."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, str):
        return str(value)
    name = next(kind.__name__ for kind in (bool, int, float, type(None), object) if isinstance(value, kind))
    return (name, value)


@pytest.mark.parametrize("text", ["{{ " + one + " }}" for one in EXPRESSIONS] + TEXTS)
def test_a_template_gives_what_it_gives_in_ansible(text: str, templar: Any) -> None:
    from ansible.template import trust_as_template

    expected = plain(templar.template(trust_as_template(text)))
    frame = Frame({name: located(value) for name, value in VARIABLES.items()})
    assert plain(make_templates().render(text, frame)) == expected


@pytest.mark.parametrize(
    "expression",
    [
        "names | combine",
        "5 | dict2items",
        "text | items2dict",
        "'x' | from_json",
        "'[' | regex_search('[')",
        "'x' | human_to_bytes",
        "text | hash('nope')",
        "tenant | combine(5)",
        "'x' | log",
        "'x' is version('1', '~')",
        "text | to_uuid('nope')",
        "[1] | rekey_on_member('a')",
        "'q' | extract(tenant) | mandatory",
        "text | comment('nope')",
        "'1.2.x' is version('1', '>', version_type='semver')",
        "text | from_yaml | combine({})",
    ],
)
def test_what_fails_in_ansible_fails_here(expression: str, templar: Any) -> None:
    from ansible.template import trust_as_template

    text = "{{ " + expression + " }}"
    with pytest.raises(Exception):  # noqa: B017 - whatever Ansible raises
        templar.template(trust_as_template(text))
    frame = Frame({"tenant": Map(VARIABLES["tenant"]), "names": Seq(VARIABLES["names"]), "text": VARIABLES["text"]})
    with pytest.raises(ConfigError):
        make_templates().render(text, frame)
