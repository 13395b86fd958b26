"""What a task may say of a packet filter's table, and what is refused before any host is asked."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from provisioner.model import Change, Desired
from provisioner.resources.nftables import Nftables

CONTENT = "chain input {\n  type filter hook input priority 0; policy drop;\n  tcp dport { 80, 443 } accept\n}\n"


def refused(**fields: Any) -> tuple[str, str, str]:
    """The field, the message and the hint of the one thing that is wrong."""
    with pytest.raises(ValidationError) as caught:
        Nftables(**fields)
    (error,) = caught.value.errors()
    return str(error["loc"][0]), error["msg"], error.get("ctx", {}).get("hint", "")


def test_a_table_is_named_by_its_family_and_name_in_its_namespace() -> None:
    assert str(Nftables(table="inet filter", netns="blue", ruleset=CONTENT).address) == "nftables/blue:inet filter"


def test_a_table_without_a_family_is_of_family_ip_as_nft_has_it() -> None:
    assert Nftables(table="nat", ruleset=CONTENT).name == "ip nat"


def test_an_unknown_family_is_refused_with_the_one_that_was_meant() -> None:
    assert refused(table="inte filter", ruleset=CONTENT) == (
        "table", "'inte' is not a family of tables", "did you mean 'inet'?",
    )  # fmt: skip


def test_the_content_of_a_table_is_wrapped_into_its_block() -> None:
    text, lines_before = Nftables(table="inet filter", ruleset=CONTENT).block()
    assert (text, lines_before) == (f"table inet filter {{\n{CONTENT}}}\n", 1)


def test_a_whole_block_is_taken_as_it_stands_with_its_defines_and_comments() -> None:
    table = "table inet filter {\n  chain input { tcp dport $web accept\n  }\n}\n"
    whole = "#!/usr/sbin/nft -f\ndefine web = { 80, 443 }\n" + table
    assert Nftables(table="inet filter", ruleset=whole).block() == (whole, 0)


def test_a_block_without_a_family_is_the_table_of_family_ip() -> None:
    assert Nftables(table="ip nat", ruleset="table nat {\n}\n").block()[1] == 0


@pytest.mark.parametrize(
    ("ruleset", "message"),
    [
        ("chain a {\n", "line 1 of the ruleset: this '{' is never closed"),
        ("chain a {\n}\n}\n", "line 3 of the ruleset: this '}' closes nothing"),
        ('chain a {\n  log prefix "open\n}\n', "line 2 of the ruleset: a string that is not closed"),
        ("table inet filter {\n}\ntable ip nat {\n}\n", "line 3 of the ruleset: a second table"),
        (
            "table inet other {\n}\n",
            "line 1 of the ruleset: this is 'table inet other', but the resource is table inet filter",
        ),
        ("tcp dport 80 accept\n", "line 1 of the ruleset: 'tcp dport 80 accept' cannot stand directly in a table"),
        (
            'chain a {\n}\ninclude "/etc/nftables.d/x"\n',
            "line 3 of the ruleset: include is not taken: a plan shows all that it loads",
        ),
        (
            "table inet filter\ndelete table inet filter\ntable inet filter {\n}\n",
            "line 1 of the ruleset: 'table inet filter' is not taken: only one table's block",
        ),
    ],
)
def test_what_is_plainly_wrong_is_refused_with_its_line(ruleset: str, message: str) -> None:
    field, said, _ = refused(table="inet filter", ruleset=ruleset)
    assert field == "ruleset"
    assert said.startswith(message)


def test_flush_ruleset_is_refused_since_it_would_empty_the_tables_of_others() -> None:
    _, message, hint = refused(table="inet filter", ruleset="flush ruleset\ntable inet filter {\n}\n")
    assert "tables that are not this one" in message
    assert "replaced whole" in hint


def test_braces_and_hashes_in_strings_and_comments_are_text() -> None:
    ruleset = 'chain a {\n  log prefix "a { b # c" # and } here\n}\n'
    assert Nftables(table="inet filter", ruleset=ruleset).summary() == [("ruleset", "3 lines; chain a")]


def test_a_table_that_would_go_with_its_owner_is_refused() -> None:
    table = Nftables(table="inet filter", ruleset="flags owner\nchain a {\n}\n")
    (issue,) = table.audit(Desired())
    assert issue.message == "line 1 of the ruleset: a table flagged 'owner' goes when nsprov ends"


def test_a_plan_says_what_a_new_table_has() -> None:
    ruleset = "set web { type inet_service; }\nchain input {\n}\nchain output {\n}\n"
    assert Nftables(table="inet filter", ruleset=ruleset).summary() == [
        ("ruleset", "5 lines; set web; chains input, output")
    ]


def test_the_diff_compares_what_nft_makes_of_both() -> None:
    desired = Nftables(table="inet filter", ruleset="chain a { accept; }\n")
    listed = Nftables(
        table="inet filter", ruleset="table inet filter {\n}\n", declared_as="table inet filter {\n\tX\n}\n"
    )
    assert desired.changes_from(listed, None) == [
        Change("ruleset", "table inet filter {\n}\n", "table inet filter {\n\tX\n}\n")
    ]
    assert desired.changes_from(desired, None) == []
    assert desired.merged_over(listed) == desired


def test_a_spec_survives_the_manifest() -> None:
    table = Nftables(table="inet filter", netns="blue", ruleset=CONTENT)
    assert Nftables.model_validate(table.declared()) == table


def test_every_chain_of_a_table_is_checked_by_nft_itself() -> None:
    titles = [check.title for check in Nftables(table="inet filter", netns="blue", ruleset=CONTENT).checks()]
    assert titles == ["nftables/blue:inet filter is loaded", "nftables/blue:inet filter has chain input"]
