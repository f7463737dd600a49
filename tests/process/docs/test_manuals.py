"""The manual pages and completions in share/ are current, read without a complaint, and leave nothing out."""

import argparse
import re
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest

from hack.manual import roff
from pouchrich.__main__ import VERBS, _parser
from runtime.config.schema import KEYS, TABLES
from shim.contract.flags import BOOLEANS, STRINGS
from tests.unit.docs.markdown import ROOT

SHARE = ROOT / "share"
PAGES = sorted((SHARE / "man").rglob("*.[0-9]"))
BASH = SHARE / "bash-completion/completions/pouchrich"
ESCAPES = {"-": "-", "e": "\\", "(aq": "'", "(ga": "`", "(ha": "^", "(ti": "~", "(dq": '"'}
OTHERS = {"zsh": SHARE / "zsh/site-functions/_pouchrich", "fish": SHARE / "fish/vendor_completions.d/pouchrich.fish"}


def plain(page: Path) -> str:
    """A page's words, without what steers their setting."""
    text = re.sub(r"\\f[BIR]|\\&", "", page.read_text())
    return re.sub(r"\\(-|e|\((?:aq|ga|ha|ti|dq))", lambda found: ESCAPES[found[1]], text)


def test_they_are_what_the_parsers_and_the_schema_make():
    program = runpy.run_path(str(ROOT / "hack/manuals.py"))
    assert program["main"](["--check"]) is None
    kept = {str(path.relative_to(SHARE)) for path in SHARE.rglob("*") if path.is_file()}
    assert program["files"]().keys() == kept


def test_there_is_a_page_for_each_program_and_for_the_configuration():
    assert [page.name for page in PAGES] == ["pouchrich.1", "pouchrich.toml.5", "containerd-shim-pouchrich-v2.8"]
    command, configuration, shim = map(plain, PAGES)
    assert [verb for verb in VERBS if f'.SS "pouchrich {verb}"\n' not in command] == []
    keys = [*KEYS, *(key for keys in TABLES.values() for key in keys)]
    assert [key.name for key in keys if f"\n{key.name}\n{key.meaning}.\n" not in configuration] == []
    assert [flag for flag in STRINGS | BOOLEANS if not re.search(rf"\n-{flag}( string)?\n", shim)] == []


def without_help(parser: argparse.ArgumentParser, called: str = "pouchrich") -> list[str]:
    """The options and arguments that nothing is said of, in all that a parser reads."""
    found = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, one in action.choices.items():
                found += without_help(one, f"{called} {name}")
        elif not action.help:
            found.append(f"{called} {action.metavar or action.dest}")
    return found


def test_nothing_on_a_command_line_goes_without_a_word():
    assert without_help(_parser()) == []


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff: not installed")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_is_set_without_a_complaint(page: Path):
    ran = subprocess.run(["groff", "-man", "-Tutf8", "-ww", "-b", page], capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff: not installed")
def test_what_is_read_on_a_page_can_be_typed():
    text = "'a' `b` c^d ~e \"f\" \\g --h\n'i\n.j\n"
    # Without man(7)'s macros: each release takes \- for ASCII's, but only some do so with the others.
    words = ["groff", "-Tutf8", "-P-cbou"]
    ran = subprocess.run(words, input=f".nf\n{roff.escaped(text)}", capture_output=True, text=True, check=True)
    assert ran.stdout.replace("\N{MINUS SIGN}", "-").rstrip("\n") == text.rstrip("\n")


def test_each_action_of_a_verb_is_described():
    (page,) = (plain(one) for one in PAGES if one.name == "pouchrich.1")
    assert "\nrollback\nmake the previous version the current one again\n" in page
    assert "`" not in page


def completed(*words: str) -> list[str]:
    """What bash offers for the last of these words."""
    script = (
        '. "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _shtab_pouchrich; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    ran = subprocess.run(["bash", "-c", script, "bash", BASH, *words], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("pouchrich", "in"), ["inspect"]),
        (("pouchrich", "config", "s"), ["show", "set-default", "sysctl"]),
        (("pouchrich", "logs", "--bo"), ["--boot"]),
        (("pouchrich", "top", "--sort", ""), ["cpu", "memory", "name"]),
        (("pouchrich", "config", "check", "LICEN"), ["LICENSE"]),
    ],
)
def test_bash_completes_a_verb_an_action_an_option_a_value_and_a_file(words: tuple[str, ...], offered: list[str]):
    assert completed(*words) == offered


@pytest.mark.parametrize("shell", OTHERS)
def test_another_shell_reads_its_own(shell: str):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell}: not installed")
    ran = subprocess.run([shell, "-n", OTHERS[shell]], capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert [verb for verb in VERBS if verb not in OTHERS[shell].read_text()] == []
