"""Every command line in the documents names a program, a verb and options that exist, and what it prints is printed.

Ours are `pouchrich`, the programs in hack/ and the verbs of the Makefile. Commands of others are in a list, so that a
misspelt one of ours is not taken for one of those.
"""

import os
import re
import runpy
import shlex
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from pouchrich.__main__ import _parser, main
from shim import __version__
from tests.integration import binaries
from tests.unit.docs import markdown
from tests.unit.docs.markdown import ROOT

OTHERS = {
    ".",
    "buildah",
    "containerd",
    "crictl",
    "ctr",
    "docker",
    "git",
    "helm",
    "kubectl",
    "man",
    "nerdctl",
    "sha256sum",
    "ssh-keygen",
    "sysctl",
    "tar",
}
TIERS = ("all", "unit", "integration", "full", "prepare", "release")
OPTIONS_OF_TESTS = {"--containerd": binaries.CONTAINERDS, "--oci": binaries.OCIS, "--runtime": binaries.RUNTIMES}
INSTALLER = f"pouchrich-{__version__}/install"
"""Of an unpacked release."""

PLACEHOLDER = re.compile(r"[A-Z]+")
VERBS = ("unit", "test", "full", "tables", "install", "release", "demo")


@dataclass(frozen=True, slots=True)
class Line:
    """One command: `words` with the program first, the rest of its line behind #, and what it prints in a console."""

    where: str
    words: tuple[str, ...]
    variables: tuple[str, ...] = ()
    comment: str = ""
    output: str = ""

    def __str__(self) -> str:
        return f"{self.where} {' '.join(self.words)}"


def line(where: str, text: str, output: str = "") -> Line:
    command, _, comment = re.sub(r"(^|\s)#(?=\s)", r"\1\0", text).partition("\0")
    words = shlex.split(command)
    variables = [word.partition("=")[0] for word in words if re.match(r"[A-Z_]+=", word)]
    return Line(where, tuple(words[len(variables) :]), tuple(variables), comment, output)


def block_lines() -> list[Line]:
    found = []
    for block in markdown.blocks("sh"):
        found += [line(str(block), text) for text in block.text.splitlines() if text.strip()]
    for block in markdown.blocks("console"):
        for part in block.text.split("$ ")[1:]:
            command, _, output = part.partition("\n")
            found.append(line(str(block), command, output))
    return found


def span_lines() -> list[Line]:
    """Commands within the text, which may be named without what they are given."""
    found = {}
    for page in markdown.PAGES:
        for span in markdown.spans(page):
            if re.match(r"(pouchrich|make) [a-z]|(hack|\.ci)/[\w.-]+( |$)", span):
                found[span] = line(markdown.name(page), span)
    return list(found.values())


BLOCKS = block_lines()
SPANS = span_lines()


def test_there_are_commands_of_each_kind():
    programs = {one.words[0] for one in (*BLOCKS, *SPANS)}
    assert {"pouchrich", "make", "hack/test.sh", "hack/install.sh", "hack/bench.py"} <= programs
    assert {one.words[0] for one in BLOCKS if one.output} == {"pouchrich"}
    known = {"pouchrich", "make", INSTALLER, *OTHERS}
    assert programs <= known | {one for one in programs if one.startswith(("hack/", ".ci/"))}


@pytest.mark.parametrize("one", [*BLOCKS, *SPANS], ids=str)
def test_a_command_exists_as_it_is_written(one: Line, monkeypatch: pytest.MonkeyPatch):
    program, *arguments = one.words
    program = program.replace(INSTALLER, "hack/release/install")
    check(program, arguments, monkeypatch, bare=one in SPANS)
    if "/" in program or program == "pouchrich":
        known = options(program)
        assert set(re.findall(r"--[a-z][a-z-]*", one.comment)) <= known, one.comment
    for variable in one.variables:
        assert variable.startswith("POUCHRICH_") or variable == "ARCHITECTURE"
        assert subprocess.run(["grep", "-rqF", variable, "tests", "shim", "hack"], cwd=ROOT).returncode == 0


def check(program: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch, *, bare: bool) -> None:
    if program in OTHERS:
        return
    if program == "pouchrich":
        check_pouchrich(arguments, bare=bare)
    elif program == "make":
        assert arguments
        assert set(arguments) <= set(VERBS)
    else:
        path = ROOT / program
        assert os.access(path, os.X_OK)
        if path.name == "test.sh":
            check_tests(arguments)
        elif path.suffix == ".py":
            check_python(path, arguments, monkeypatch)
        else:
            check_script(path, arguments)


parser = cache(_parser)


def check_pouchrich(arguments: list[str], *, bare: bool) -> None:
    # Named in a sentence, a command may go without what it has to be given.
    tries = [arguments, [*arguments, "X"]] if bare else [arguments]
    for words in tries:
        try:
            parser().parse_args(words)
            return
        except SystemExit:
            continue
    pytest.fail("refused")


def check_tests(arguments: list[str]) -> None:
    """hack/test.sh: a tier, then what pytest takes."""
    rest = arguments[1:] if arguments and arguments[0] in TIERS else arguments
    assert len(rest) % 2 == 0, rest
    for option, value in zip(rest[::2], rest[1::2], strict=True):
        if option == "-k":
            assert any(value in path.read_text() for path in (ROOT / "tests").rglob("test_*.py") if path.parent != HERE)
        else:
            assert value in OPTIONS_OF_TESTS[option]


HERE = Path(__file__).parent


def check_python(path: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A program of ours parses its command line in `parse`, if it has more than a word or two."""
    monkeypatch.setattr(sys, "argv", [str(path), *arguments])
    monkeypatch.setattr(sys, "path", [*sys.path])
    loaded = runpy.run_path(str(path), run_name="documents")
    if "parse" in loaded and not (required(path) and not arguments):
        loaded["parse"]()
    elif "parse" not in loaded:
        assert set(arguments) <= set(re.findall(r"[\w-]+", loaded["__doc__"]))


def required(path: Path) -> bool:
    return "required=True" in path.read_text()


def check_script(path: Path, arguments: list[str]) -> None:
    """A shell script says what it takes in the comment at its head."""
    head = "\n".join(text for text in path.read_text().splitlines()[:40] if text.startswith("#"))
    for word in arguments:
        if not PLACEHOLDER.fullmatch(word):
            assert re.search(rf"(?<![\w.-]){re.escape(word)}(?![\w-])", head), word


def options(program: str) -> set[str]:
    """Every option that the source of `program` knows of."""
    sources = [*(ROOT / "pouchrich").rglob("*.py")] if program == "pouchrich" else [ROOT / program]
    return {option for path in sources for option in re.findall(r"--[a-z][a-z-]*", path.read_text())}


@pytest.mark.parametrize(
    "one",
    [one for one in BLOCKS if one.output and "excerpt" not in one.comment],
    ids=str,
)
def test_what_a_command_prints_is_what_stands_below_it(one: Line, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    defaults = tmp_path / "config.toml"  # in place of what this machine has in /etc
    defaults.write_text("version = 1\n")
    more = ["--config", str(defaults), "--any-owner"] if one.words[1] == "explain" else []
    main([*one.words[1:], *more])
    assert capsys.readouterr().out.replace(str(defaults), "built in") == one.output


@pytest.mark.parametrize(
    "one",
    [one for one in BLOCKS if one.words[:2] in {("pouchrich", "version"), ("pouchrich", "runtimeclass")}]
    + [one for one in BLOCKS if one.words[:2] == ("pouchrich", "config") and one.words[2] in ("default", "sysctl")],
    ids=str,
)
def test_a_command_that_only_prints_prints(one: Line, capsys: pytest.CaptureFixture[str]):
    needs_containerd = "here" in one.words
    status = main(list(one.words[1:]))
    printed = capsys.readouterr()
    assert (status, bool(printed.out)) == (0, True) or (needs_containerd and "not on PATH" in printed.err)


@pytest.mark.parametrize(
    ("page", "words"),
    [
        (page, one.words)
        for page in markdown.PAGES
        for one in BLOCKS
        if one.where.startswith(f"{markdown.name(page)}:")
        and one.words[:3] == ("pouchrich", "config", "check")
        and (page.parent / one.words[-1]).is_file()
    ],
    ids=str,
)
def test_a_file_of_an_example_is_valid_by_the_command_beside_it(
    page: Path, words: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """Also in a checkout of a user, which does not show in one of root."""
    monkeypatch.chdir(page.parent)
    assert main(list(words[1:])) == 0, capsys.readouterr().err
    assert "--any-owner" in words


@pytest.mark.parametrize(
    "one",
    [one for one in (*BLOCKS, *SPANS) if one.words[:2] == ("pouchrich", "explain") and "DIR" in one.words],
    ids=str,
)
def test_an_image_is_explained_as_it_is_written(one: Line, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    spec = tmp_path / "spec.json"
    spec.write_text("{}")
    main([{"DIR": str(tmp_path), "FILE": str(spec)}.get(word, word) for word in one.words[1:]])
    assert capsys.readouterr().out


def test_every_command_of_the_operator_is_described():
    verbs = {verb for action in _parser()._actions for verb in action.choices or ()}
    assert len(verbs) > 4
    told = {one.words[1] for one in (*BLOCKS, *SPANS) if one.words[0] == "pouchrich"}
    assert verbs == told


def test_the_verbs_of_make_call_what_there_is():
    text = (ROOT / "Makefile").read_text()
    assert re.findall(r"^([a-z]+):", text, re.MULTILINE) == list(VERBS)
    recipes = re.findall(r"^\t(.+)$", text, re.MULTILINE)
    assert len(recipes) == len(VERBS)
    for recipe in recipes:
        program, *arguments = recipe.removesuffix(" $(ARGS)").split()
        assert os.access(ROOT / program, os.X_OK)
        if program == "hack/test.sh":
            check_tests(arguments)
        else:
            assert set(arguments) <= options(program)
