"""What templates evaluate to, and what they must not do."""

from __future__ import annotations

from typing import Any

import pytest

from provisioner.config.build import make_templates
from provisioner.config.source import Map, Seq, Str, Unsafe
from provisioner.config.variables import Frame
from provisioner.errors import ConfigError, Source

VARIABLES = {
    "none": None,
    "yes": True,
    "five": 5,
    "names": Seq(["blue", "green"]),
    "tenant": Map({"name": "blue", "ports": Seq([80, 443]), "items": 3, "source": "here"}),
    "text": "plain",
    "undefined_inside": "{{ nowhere }}",
    "broken": "{{ 1 / 0 }}",
    "digits": "007",
}


def evaluate(text: Any, **variables: Any) -> Any:
    return make_templates().render(text, Frame({**VARIABLES, **variables}))


def problem(text: str, **variables: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        evaluate(text, **variables)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{{ 5 }}", 5),
        ("{{ five }}", 5),
        ("{{ five + 1 }}", 6),
        ("0{{ five }}", "05"),
        ("{{ five }}{{ five }}", "55"),
        ("{{ digits }}", "007"),
        ("{{ '5' }}", "5"),
        ("{{ '[1, 2]' }}", "[1, 2]"),
        ("x-{{ digits }}", "x-007"),
        ("{{ yes }}", True),
        ("{{ yes }}!", "True!"),
        ("{{ none }}", None),
        ("x{{ none }}", "x"),
        ("{{ names }}", ["blue", "green"]),
        ("{{ names }}!", "['blue', 'green']!"),
        ("{{ tenant.name }}", "blue"),
        ("{{ tenant['items'] }}", 3),
        ("{{ tenant.source }}", "here"),
        ("{{ tenant.ports.0 }}", 80),
        ("{{ tenant.ports[1] }}", 443),
        ("{{ names | map('upper') }}", ["BLUE", "GREEN"]),
        ("{{ range(3) }}", [0, 1, 2]),
        ("{{ (1, 2) }}", [1, 2]),
        ("{{ tenant.keys() }}", ["name", "ports", "items", "source"]),
        ("{% if yes %}5{% endif %}", "5"),
        ("{% if not yes %}5{% endif %}", None),
        ("{% for n in names %}{{ n }},{% endfor %}", "blue,green,"),
        ("{% set n = 3 %}{{ n }}", 3),
        ("{{ five }}\n", 5),
        ("a {{ five }}\n", "a 5\n"),
        ("{{ text }}\n", "plain\n"),
        ("a\nb {{ five }}\n\n", "a\nb 5\n\n"),
        ("{{ 'a' ~ five }}", "a5"),
        ("{{ 'abc' | regex_replace('(b)', '[\\1]') }}", "a[b]c"),
        ("{# a comment #}{{ five }}", 5),
        ("{{ 'a' if yes }}", "a"),
        ("x{{ 'a' if not yes else '' }}", "x"),
        ("{{ [five, 'x'] }}", [5, "x"]),
        ("{% set l = [] %}{% for n in names %}{% do l.append(n) %}{% endfor %}{{ l }}", ["blue", "green"]),
        ("no template", "no template"),
    ],
)
def test_a_single_expression_keeps_its_type_and_a_mixed_text_is_text(text: str, value: Any) -> None:
    found = evaluate(text)
    assert found == value
    assert type(found) is type(value) or isinstance(found, type(value))


def test_a_bare_reference_gives_the_value_itself_with_its_position() -> None:
    where = Source("inventory.yml", 10, 22)
    assert evaluate("{{ a.b }}", a=Map({"b": Str("x", where)})).source == where


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{{ nowhere | default('d') }}", "d"),
        ("{{ tenant.no.where.at.all | default('d') }}", "d"),
        ("{{ undefined_inside | default('d') }}", "d"),
        ("{{ nowhere is defined }}", False),
        ("{{ undefined_inside is defined }}", False),
        ("{{ none | default('d') }}", None),
        ("{{ none | default('d', true) }}", "d"),
        ("{{ five if yes else nowhere }}", 5),
        ("{{ five if yes else broken }}", 5),
    ],
)
def test_what_is_undefined_can_be_asked_about_and_replaced(text: str, value: Any) -> None:
    assert evaluate(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "{{ nowhere }}",
        "x{{ nowhere }}",
        "{{ nowhere + 1 }}",
        "{{ [nowhere] }}",
        "{{ {'a': nowhere} }}",
        "{{ nowhere | upper }}",
        "{{ nowhere == 1 }}",
        "{{ 'a' in nowhere }}",
        "{% if nowhere %}{% endif %}",
        "{{ nowhere | combine({}) }}",
        "{{ nowhere | to_json }}",
        "{{ nowhere | bool }}",
        "{{ nowhere() }}",
        "{{ nowhere ~ 'x' }}",
        "{{ nowhere * 2 }}",
        "{% for x in nowhere %}{% endfor %}",
        "{{ nowhere | length }}",
        "{{ nowhere | ansible.utils.ipaddr }}",
        "{{ nowhere | join }}",
        "{{ [nowhere] | map('upper') }}",
    ],
)
def test_every_other_use_of_what_is_undefined_names_it(text: str) -> None:
    assert "'nowhere' is undefined" in problem(text)


def test_an_undefined_name_brings_the_nearest_one() -> None:
    assert "did you mean 'tenant'?" in problem("{{ tennant }}")
    assert "did you mean 'name'?" in problem("{{ tenant.nme }}")


def test_a_failing_variable_is_not_passed_over_by_default() -> None:
    assert "division by zero" in problem("{{ broken | default('d') }}")
    assert "division by zero" in problem("{{ broken is defined }}")


@pytest.mark.parametrize(
    "text",
    [
        "{{ ''.__class__ }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ names.__init__.__globals__ }}",
        "{{ range.__self__ }}",
        "{{ lookup.__globals__ }}",
        "{{ self.__init__ }}",
        "{{ (x for x in y) }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ 'a'['__class__'] }}",
        "{{ 'a' | attr('__class__') }}",
        "{{ '{0.__class__}'.format(5) }}",
        "{{ ['a'] | map(attribute='__class__') | list }}",
        "{{ names.append('x') }}",
        "{{ tenant.update({'a': 1}) }}",
        "{{ tenant.pop('name') }}",
        "{{ names.source }}",
        "{{ tenant.put }}",
        "{{ text.source }}",
        "{{ now() }}",
        "{{ lipsum() }}",
        "{{ dict.mro() }}",
        "{{ namespace.__init__ }}",
    ],
)
def test_no_template_leaves_the_sandbox_or_changes_a_value(text: str) -> None:
    before = repr(VARIABLES)
    problem(text)
    assert repr(VARIABLES) == before


@pytest.mark.parametrize(
    "text",
    [
        "{{ 'a' * 10**9 }}",
        "{{ 10**9 * 'a' }}",
        "{{ [0] * 10**9 }}",
        "{{ range(10**9) | list }}",
        "{{ 10 ** 100000 }}",
        "{{ 2 ** (2 ** 100) }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '%*d' % (1000000000, 1) }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{{ '{:{w}}'.format(1, w=1000000000) }}",
        "{{ 'a'.ljust(1000000000) }}",
        "{{ 'a'.zfill(1000000000) }}",
        "{{ 'a' | center(1000000000) }}",
        "{{ 'a\nb' | indent(1000000000) }}",
        "{{ ('a' * 1000000).replace('a', 'b' * 1000000) }}",
        "{{ ('a' * 1000000) | replace('a', 'b' * 1000000) }}",
        "{{ [1] | batch(1000000000, 0) | list }}",
        "{{ [1] | slice(1000000000) | list }}",
        "{{ range(100) | permutations | list }}",
        "{{ range(10000) | product(range(10000)) | list }}",
        "{{ range(1000) | combinations(500) | list }}",
        "{{ '10.0.0.0/8' | ansible.utils.usable_range }}",
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}",
        "{% set n = namespace(t='aaaaaaaaaa') %}{% for i in range(40) %}{% set n.t = n.t ~ n.t %}{% endfor %}",
        "{% set n = namespace(t='aaaaaaaaaa') %}{% for i in range(40) %}{% set n.t = n.t + n.t %}{% endfor %}",
        "{% set l = [1] %}{% for i in range(40) %}{% do l.extend(l) %}{% endfor %}",
        "{{ 'a'.join(range(1000000) | map('string') | list) * 100 }}",
        "{{ {'a': 1} | to_json(indent=1000000) }}",
    ],
)
def test_no_template_exhausts_the_machine(text: str) -> None:
    problem(text)


def test_a_template_in_a_variable_is_evaluated_and_a_text_that_looks_like_one_is_not() -> None:
    assert evaluate("{{ a }}", a="{{ b }}", b="x") == "x"
    assert evaluate("{{ a }}", a=Unsafe("{{ b }}")) == "{{ b }}"
    assert evaluate("{{ '{' ~ '{ b }' ~ '}' }}", b="x") == "{{ b }}"


def test_omit_leaves_a_key_or_an_item_out() -> None:
    from provisioner.config.variables import OMIT

    raw = Map({"a": "{{ omit }}", "b": Seq(["{{ omit }}", "x"]), "c": "{{ nowhere | default(omit) }}", "d": 1})
    assert evaluate(raw, omit=OMIT) == {"b": ["x"], "d": 1}
    assert "omit cannot be a part of a text" in problem("x{{ omit }}", omit=OMIT)


@pytest.mark.parametrize(
    ("expression", "holds"),
    [
        ("five == 5", True),
        ("not yes", False),
        ("yes", True),
        ("{{ yes }}", True),
        ("'a' in text", True),
        ("flag", True),
        ("nowhere is not defined", True),
        (True, True),
        ("false", False),
        ("zero", False),
        ("text is match('pl')", True),
        ("five is version('4', '>')", True),
    ],
)
def test_a_condition_is_a_bare_expression(expression: Any, holds: bool) -> None:
    frame = Frame({**VARIABLES, "flag": "yes", "zero": 0})
    assert make_templates().condition(expression).holds(frame) is holds


def test_the_same_template_is_worked_out_once_for_all_frames_in_which_it_is_the_same() -> None:
    templates = make_templates()
    seen = []
    templates.inline.filters["seen"] = lambda value: seen.append(value) or value
    outer = Frame({"shared": "x"})
    template = templates.template("{{ shared | seen }}")
    for index in range(3):
        assert template.render(Frame({"item": index}, outer)) == "x"
    assert seen == ["x"]
    assert template.render(Frame({"shared": "y"}, outer)) == "y"
