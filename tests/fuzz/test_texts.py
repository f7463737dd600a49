"""Whatever a pod, an image or an administrator writes: an answer, or an error of ours that says what is wrong.

In the default run a few hundred examples of each; `full` makes a million in all, more of those that cost less.
"""

import json
import string
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime import config
from runtime.bundle import Bundle
from runtime.config.annotations import PREFIX
from runtime.config.values import POD_KEYS
from runtime.errors import InvalidArgument, PouchrichError
from runtime.image import image_init, passwd
from runtime.image.image import PLACES, Command, ImageFacts
from runtime.init import detect, inittab
from runtime.init.detect import RC_PATHS, InitFacts
from runtime.rich import plan, policy
from runtime.spec.identity import Identity
from shim.contract import bootstrap
from tests.plans import recorded

PART = 4_000


def examples(*, parts: int) -> pytest.MarkDecorator:
    """A few hundred examples by default, and in `full` so many parts of PART, each with a seed of its own.

    In parts, as hypothesis keeps what it has drawn: 20,000 specs are more than a GiB, and take twice the time.
    """
    full = [pytest.mark.full, pytest.mark.timeout(3600)]
    more = [pytest.param(PART, marks=full, id=f"part {number} of {parts}") for number in range(1, parts + 1)]
    return pytest.mark.parametrize("examples", [300, *more])


def check(examples: int, strategy: st.SearchStrategy[Any], test: Callable[[Any], None]) -> None:
    """Call `test` with so many examples. Nothing is kept between runs, and a slow machine is no failure."""

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(strategy)
    def run(value: Any) -> None:
        test(value)

    run()


NASTY = st.sampled_from(
    ["", " ", "\0", "\n", "\ud800", "é", "\x1b[2J", "..", "/", "/../..", "-x", "%s", "${HOME}", "a" * 5000, "0", "-1"]
)
text = st.one_of(NASTY, st.text(max_size=40), st.text(string.printable, max_size=40))
numbers = st.one_of(st.integers(), st.sampled_from([0, -1, 1 << 31, 1 << 32, 1 << 64]), st.floats())
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, text),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(text, inner, max_size=4)),
    max_leaves=12,
)

# Annotations

hook_keys = st.sampled_from(["name", "command", "timeout", "on-failure", "env", "where", "user", "mandatory", "when"])
hooks = st.lists(st.dictionaries(hook_keys, json_values, max_size=5), max_size=18).map(json.dumps)
annotation_keys = st.one_of(
    st.sampled_from([f"{PREFIX}{key}" for key in POD_KEYS]),
    st.builds(lambda key, name: f"{PREFIX}{key}.{name}", st.sampled_from(sorted(POD_KEYS)), text),
    st.sampled_from(["run.oci.x", "org.criu.config", "io.kubernetes.cri.container-name", f"{PREFIX}x", PREFIX]),
    text,
)
annotation_values = st.one_of(
    st.sampled_from(
        ["true", "false", "systemd", "sbin-init", "dumb-init", "auto", "ssh", "cron,sshd", "SIGTERM", "15"]
    ),
    hooks,
    text,
)
annotations = st.dictionaries(annotation_keys, annotation_values, max_size=6)

FACTS = ImageFacts(
    Command("app", path="/bin/app", target="/bin/app"), {"/proc": "/proc", **{path: path for path in PLACES}}
)
NODE = config.parse("version = 1\n", source="/etc/c.toml")


def decide(spec: Any) -> None:
    """What Create does with a spec, as far as it looks at nothing else."""
    identity = Identity.from_spec(spec, namespace="k8s.io", container_id="id")
    if policy.is_sandbox(spec):
        return
    choice = policy.choose(spec, NODE, identity)
    made = plan.make(spec, choice, config=NODE, facts=FACTS, terminal=False, run_dir="/run/x")
    assert plan.Plan.from_dict(recorded(made)) == made
    made.apply(spec)


def refused_in_few_words(error: PouchrichError) -> None:
    message = str(error)
    assert 0 < len(message) < 2000, message
    message.encode(errors="strict")


@examples(parts=15)
def test_annotations_are_taken_or_refused(examples: int) -> None:
    def test(found: dict[str, str]) -> None:
        spec = {
            "process": {"args": ["app"], "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}},
            "annotations": found,
            "linux": {"namespaces": [{"type": "pid"}]},
            "mounts": [{"destination": "/proc", "type": "proc"}],
        }
        try:
            decide(spec)
        except PouchrichError as error:
            refused_in_few_words(error)

    check(examples, annotations, test)


# Specs

spec_keys = st.sampled_from(
    ["process", "annotations", "linux", "mounts", "root", "hostname", "args", "env", "user", "uid", "gid", "namespaces",
     "type", "path", "destination", "source", "options", "cgroupsPath", "resources", "capabilities", "bounding",
     "hooks", "terminal", "cwd", "readonly", "rlimits", "noNewPrivileges", "maskedPaths", "additionalGids"]
)  # fmt: skip
spec_values = st.recursive(
    st.one_of(
        json_values, st.sampled_from(["pid", "proc", "tmpfs", "bind", "/proc", "/run", "/sys/fs/cgroup", "rbind"])
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(spec_keys, inner, max_size=5)),
    max_leaves=25,
)
processes = st.fixed_dictionaries(
    {"args": st.one_of(st.lists(text, max_size=3), spec_values)},
    optional={"env": st.one_of(st.lists(text, max_size=4), spec_values), "user": spec_values, "cwd": spec_values},
)
specs = st.fixed_dictionaries(
    {},
    optional={
        "process": st.one_of(processes, spec_values),
        "annotations": st.one_of(annotations, spec_values),
        "linux": spec_values,
        "mounts": st.one_of(st.lists(st.dictionaries(spec_keys, spec_values, max_size=4), max_size=4), spec_values),
        "root": spec_values,
    },
)


@examples(parts=15)
def test_specs_are_taken_or_refused(examples: int, tmp_path: Path) -> None:
    bundle = Bundle(str(tmp_path))

    def test(spec: dict[str, Any]) -> None:
        Path(bundle.spec_file).write_text(json.dumps(spec))
        try:
            decide(bundle.load_spec())
        except PouchrichError as error:
            refused_in_few_words(error)

    check(examples, specs, test)


# Configuration

toml_keys = st.sampled_from(
    ["version", "binary", "root", "enabled", "mode", "strict", "pod-override", "root-init", "init-capabilities", "name",
     "start-timeout", "stop-timeout", "env-file", "lxcfs", "restart", "mask", "command", "timeout", "where",
     "on-failure", "user", "env", "mandatory", "when", "mounts", "source", "target", "memory", "to", "via"]
)  # fmt: skip
tables = st.sampled_from(
    [
        "runtime",
        "rich",
        "hooks",
        "services",
        "spawner",
        "[hooks.prestart]",
        "[hooks.poststop]",
        "[agents]",
        "[routes]",
        "x",
    ]
)
toml_values = st.one_of(
    text.map(json.dumps),
    st.lists(text, max_size=3).map(json.dumps),
    st.sampled_from(
        ["true", "1", "-1", "1.5", "nan", "1979-05-27", '"30s"', '"systemd"', "[[]]", "{}", "{a = 1}", "'", "["]
    ),
)
lines = st.one_of(
    st.builds(lambda key, value: f"{key} = {value}", toml_keys, toml_values),
    tables.map(lambda name: f"[{name}]"),
    text,
)
documents = st.lists(lines, max_size=12).map(lambda found: "\n".join(["version = 1", *found]))


@examples(parts=60)
def test_configurations_are_taken_or_refused(examples: int) -> None:
    def test(document: str) -> None:
        try:
            config.parse(document, source="/etc/pouchrich/config.toml")
        except InvalidArgument as error:
            refused_in_few_words(error)

    check(examples, documents, test)


# Files of images

words = st.one_of(
    st.binary(max_size=20), st.sampled_from([b"0", b"1000", b"-1", b"4294967295", b"99999999999", b"root", b""])
)
entries = st.lists(words, min_size=1, max_size=9).map(b":".join)
databases = st.lists(entries, max_size=12).map(b"\n".join)
wanted = st.one_of(st.sampled_from(["root", "0", "app:app", "1000:", ":", "4294967295", "-1", "0:0:0"]), text)


@examples(parts=40)
def test_passwd_and_group_are_read_or_refused(examples: int, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()

    def test(found: tuple[bytes, bytes, str]) -> None:
        users, groups, who = found
        (tmp_path / "etc" / "passwd").write_bytes(users)
        (tmp_path / "etc" / "group").write_bytes(groups)
        try:
            user = passwd.resolve_below(str(tmp_path), who)
        except InvalidArgument as error:
            refused_in_few_words(error)
        else:
            assert 0 <= user.uid <= passwd.MAX_ID
            assert 0 <= user.gid <= passwd.MAX_ID
        home = image_init.home_of(users, 1000)
        assert home is None or home.startswith("/")

    check(examples, st.tuples(databases, databases, wanted), test)


fields = st.one_of(
    text, st.sampled_from(["si", "id", "", "2", "sysinit", "respawn", "initdefault", "/sbin/getty tty1"])
)
inittabs = st.lists(st.lists(fields, max_size=6).map(":".join), max_size=15).map("\n".join)
facts = st.builds(
    InitFacts,
    kind=st.sampled_from(detect.SUPPORTED),
    inittab=st.one_of(st.none(), inittabs),
    present=st.lists(st.sampled_from(RC_PATHS), max_size=4).map(tuple),
)


@examples(parts=60)
def test_inittabs_are_rewritten_within_their_grammar(examples: int) -> None:
    def test(found: InitFacts) -> None:
        for made in (inittab.sysvinit(found, services=True, can_halt=True), inittab.busybox(found)):
            if made is None:
                continue
            assert made.isascii()
            assert len(made.splitlines()) <= inittab.MAX_LINES + 10
            for line in made.splitlines():
                assert len(line.split(":")) >= 4, line
                assert all(" " <= one <= "~" for one in line), line

    check(examples, facts, test)


# What `start` reads

heads = st.one_of(st.binary(max_size=200), st.sampled_from([b"", b"{}", b"\n", b"{", b"\x0a\xff\xff\xff\xff\x0f"]))


@examples(parts=60)
def test_what_start_reads_is_taken_or_refused(examples: int) -> None:
    def test(data: bytes) -> None:
        with suppress(ValueError):
            bootstrap.parse(data, id="x", namespace="y")

    check(examples, heads, test)


@pytest.mark.parametrize("content", [b"", b"libsystemd-shared-257", b"systemd 219\0", b"libsystemd-shared-x"])
def test_versions_are_told_or_not(content: bytes) -> None:
    assert detect.version_of(content) in (None, 219, 257)
