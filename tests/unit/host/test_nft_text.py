"""nft's words: listings without what changes by itself, errors with the author's lines."""

from __future__ import annotations

import pytest

from provisioner.host.nft import _canonical, _explained, _interfaces, _refused
from provisioner.rulesets import Ruleset

#: nft indents with tabs: here they are spaces, four to a tab.
LISTING = """\
# Warning: table ip filter is managed by iptables-nft, do not touch!
table ip filter {
    set blocked {
        type ipv4_addr
        flags dynamic,timeout
        elements = { 192.0.2.1 timeout 1h,
                     192.0.2.2 timeout 1h }
    }

    set web {
        type inet_service
        elements = { 80, 443 }
    }

    chain input {
        iif != { "lo", "eth0" } accept
    }
}
""".replace("    ", "\t")


def test_elements_that_packets_add_are_not_compared_but_declared_ones_are() -> None:
    text = _canonical(LISTING)
    assert "192.0.2" not in text
    assert "elements = { 80, 443 }" in text
    assert "Warning" not in text


def test_sets_of_interfaces_have_one_order_in_every_namespace() -> None:
    assert 'iif != { "eth0", "lo" } accept' in _canonical(LISTING)


def test_an_error_names_the_line_that_the_author_wrote() -> None:
    words = "/proc/self/fd/7:4:3-6: Error: syntax error, unexpected string\n  tcp dprt 80\n      ^^^^\n"
    ruleset = Ruleset("inet", "filter", "", lines_before=1)
    assert _explained(words, ruleset) == "line 3: syntax error, unexpected string\n  tcp dprt 80\n      ^^^^"


def test_the_kernels_words_give_the_errno_back() -> None:
    error = _refused("table inet x is not taken", "line 3: Could not process rule: Device or resource busy\n ...")
    assert (error.code, str(error).split(":")[0]) == (16, "table inet x is not taken")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("iif eth0 accept", {"eth0"}),
        ('iif != "eth0" accept', {"eth0"}),
        ("oif { eth0, wan1 } accept", {"eth0", "wan1"}),
        ('type filter hook ingress device "eth0" priority 0;', {"eth0"}),
        ("devices = { eth0, eth1 };", {"eth0", "eth1"}),
        ("define wan = eth9\nchain a { iif $wan accept\n}", {"eth9"}),
        ("iif lo accept; iifname eth0 accept", set()),
    ],
)
def test_the_trial_has_the_interfaces_that_a_text_looks_up(text: str, names: set[str]) -> None:
    assert _interfaces(text) == names
