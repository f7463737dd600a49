"""The units of agents as a real systemd reads them: its own dump of what it parsed, in test mode, nothing started."""

import os
import re
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.agents import unit
from runtime.image.passwd import User
from tests.unit.agents.making import selected

SYSTEMD = "/lib/systemd/systemd"
NOBODY = 65534

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0 or not os.path.exists(SYSTEMD), reason="needs root and an installed systemd"),
]

_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"|([^ ]+)', re.DOTALL)
_ESCAPE = re.compile(r"\\([0-7]{3}|.)", re.DOTALL)
_LETTERS = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v", "s": " "}


def unescaped(match):
    code = match[1]
    return chr(int(code, 8)) if code.isdigit() else _LETTERS.get(code, code)


def words(line):
    """The words of a "Command Line:", which systemd prints quoted for a shell."""
    found = [_ESCAPE.sub(unescaped, one[1] if one[1] is not None else one[2]) for one in _WORD.finditer(line)]
    # `$$` becomes `$` only when the command is run (systemd.service(5)), and never in the program's path.
    return tuple(found[:1] + [word.replace("$$", "$") for word in found[1:]])


def dumped(agents):
    """What systemd says of the units of `agents`, by agent name."""
    # Not in pytest's own directory: each pytest that is started on the machine closes that to other users again.
    with tempfile.TemporaryDirectory(prefix="pouchrich-units-") as name:
        return _dumped(Path(name), agents)


def _dumped(directory, agents):
    made = unit.units(tuple(agents), source="node.toml")
    texts = {file.name: file.text for file in made.files}
    for bind in made.binds:
        target = directory / Path(bind.target).relative_to(unit.DIRECTORY)
        target.parent.mkdir(exist_ok=True)
        target.write_text(texts[bind.name])
    for target in ("multi-user.target", "basic.target", "shutdown.target"):
        (directory / target).write_text("[Unit]\n")
    directory.chmod(0o755)
    own = directory / "run"  # systemd makes files there
    own.mkdir()
    os.chown(own, NOBODY, NOBODY)
    done = subprocess.run(
        [SYSTEMD, "--user", "--test", "--unit=multi-user.target", "--no-pager"],
        env={"XDG_RUNTIME_DIR": str(own), "SYSTEMD_UNIT_PATH": str(directory), "SYSTEMD_LOG_TARGET": "console"},
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    complaints = [line for line in done.stderr.decode().splitlines() if "/pouchrich-agent-" in line]
    assert not [line for line in complaints if "RestartSteps" not in line and "RestartMaxDelaySec" not in line]
    parts = done.stdout.decode().split("\t-> Unit ")
    return {part.split(":\n")[0]: part for part in parts}


def command_of(part):
    (line,) = re.findall(r"Command Line: (.*)\n", part)
    return words(line)


ARGUMENT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"], max_codepoint=0x7FF), max_size=12)
HOSTILE = (
    "",
    " ",
    ";",
    "\\",
    '"',
    "'",
    "%",
    "%n",
    "$",
    "$HOME",
    "${HOME}",
    "#x",
    "!x",
    "-",
    "@",
    "a\nb",
    "\x01\x7f",
    "\\n",
)
PROGRAMS = ("/bin/x", "/opt/a b/$x%n", "/opt/é;", "/-x")


@settings(max_examples=10, deadline=None)
@given(rest=st.lists(st.lists(ARGUMENT, max_size=6), min_size=10, max_size=20))
def test_systemd_reads_any_command_word_for_word(rest):
    given = [(PROGRAMS[n % len(PROGRAMS)], *(HOSTILE if n == 0 else ()), *one) for n, one in enumerate(rest)]
    parts = dumped([selected(name=f"a{n}", command=one) for n, one in enumerate(given)])
    assert [command_of(parts[unit.unit_name(f"a{n}")]) for n in range(len(given))] == given


def test_systemd_knows_every_setting_and_reads_it_as_meant():
    variables = (("A", "x 'y' \"z\" $H %n \\ é\n2"), ("B", ";"))
    one = selected(User(1000, 1001, (4,), "app", "/"), name="a@b:c", user="app", env=variables)
    parts = dumped([one, selected(name="plain", restart="no")])
    found = parts[unit.unit_name("a@b:c")]
    assert f"Environment: A={variables[0][1]}\n" in found
    assert "Environment: B=;\n" in found
    for line in ("User: 1000", "Group: 1001", "SupplementaryGroups: 4", "Restart: always", "IgnoreSIGPIPE: no"):
        assert f"\t{line}\n" in found
    assert "WantedBy: multi-user.target" in found
    assert "RequiredBy" not in found
    assert "\tRestart: no\n" in parts[unit.unit_name("plain")]
