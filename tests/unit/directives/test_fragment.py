"""What systemd writes for a transient unit reads as what was asked of it."""

from __future__ import annotations

from provisioner.directives.fragment import as_read, settings

_FRAGMENT = r"""# This is a transient unit file, created programmatically via the systemd API. Do not edit.
[Unit]
Description=half of 100%%

[Service]
MemoryMax=536870912
ExecStartPreEx=
ExecStartPreEx=+"/bin/true"
ExecStart=
ExecStart="/bin/echo" "\$HOME" "100%%" "\;"
RestrictNamespaces=
LimitNOFILE=200
LimitNOFILE=100:200
IPAddressAllow=
IPAddressAllow=10.0.0.0/8
Environment="A=1" "B=x y%%"
StandardOutput=append:/tmp/out.log
X-Unknown=1
"""


def test_a_fragment_of_252_is_read() -> None:
    assert settings("service", [_FRAGMENT], transient=True) == {
        "Description": "half of 100%",
        "MemoryMax": "512M",
        "ExecStartPre": ("+/bin/true",),
        "ExecStart": ('/bin/echo $HOME 100% ";"',),
        "RestrictNamespaces": "yes",
        "LimitNOFILE": "100:200",
        "IPAddressAllow": ("10.0.0.0/8",),
        "Environment": ("A=1", '"B=x y%"'),
        "StandardOutput": "append:/tmp/out.log",
    }


def test_a_dollar_that_later_versions_double_is_one_dollar() -> None:
    found = settings("service", ['ExecStart="/bin/echo" "$$HOME"'], transient=True)
    assert found["ExecStart"] == ("/bin/echo $HOME",)


def test_a_file_that_people_write_is_read_with_its_continued_lines_and_without_specifiers() -> None:
    text = "[Service]\n; a comment\nExecStart=/bin/web \\\n  --port 80\nEnvironment=NAME=%n\nEnvironment=A=1\nNice=5\n"
    assert settings("service", [text], transient=False) == {"ExecStart": ("/bin/web --port 80",), "Nice": "5"}


def test_a_drop_in_comes_after_the_file() -> None:
    assert settings("service", ["MemoryMax=1G", "[Service]\nMemoryMax=2G"], transient=True) == {"MemoryMax": "2G"}


def test_a_command_line_is_written_as_systemd_reads_it() -> None:
    """252 writes a dollar as it does not read it, 257 doubles it, and a prefix has a name of its own on 252."""
    by_252 = '[Service]\nExecStartEx=\nExecStartEx=!"/bin/sh" "-c" "a \\$\\$1\\; b \\`c\\` \\\\ \\\\\\$ \\"d\\""\n'
    assert as_read(by_252) == (
        '[Service]\nExecStart=\nExecStart=!"/bin/sh" "-c" "a \\x24\\x241\\x3b b \\x60c\\x60 \\\\ \\\\\\x24 \\"d\\""\n'
    )
    assert as_read('ExecStop="/bin/sh" "$$$$1"\n') == 'ExecStop="/bin/sh" "\\x24\\x241"\n'
    assert as_read('ExecStop=:"/bin/sh" "$$1"\n') == 'ExecStop=:"/bin/sh" "\\x24\\x241"\n'


def test_what_is_written_anew_reads_as_before_and_is_not_written_again() -> None:
    text = '[Service]\nExecStart="/bin/sh" "-c" "echo \\$\\$1\\; \\\\n"\nEnvironment=A=$$b\n'
    made = as_read(text)
    assert "Environment=A=$$b" in made
    assert as_read(made) == made
    assert settings("service", [made], transient=True) == settings("service", [text], transient=True)
