import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import InvalidArgument
from runtime.init.boot import AppProcess
from runtime.init.launcher_settings import encode, from_spec

WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


def spec(**process):
    return {"process": {"args": ["app"], "cwd": "/", "user": {"uid": 0, "gid": 0}, **process}}


def test_every_setting_has_its_record():
    launch = AppProcess(
        args=("run", ""),
        env=("a.b=1\n2", "C=%h"),
        cwd="/work dir",
        uid=1000,
        gid=2000,
        groups=(3, 4),
        bounding=0x401,
        permitted=0x400,
        effective=0x1,
        inheritable=0x2,
        ambient=0x10000000000,
        no_new_privileges=True,
        rlimits=((7, 1024, 2**64 - 1),),
        umask=0o27,
        oom_score_adj=-5,
        terminal=True,
    )
    assert encode(launch).split(b"\0") == [
        b"pouchrich-launch 1",
        *(b"uid 1000", b"gid 2000", b"group 3", b"group 4"),
        *(b"bounding 401", b"permitted 400", b"effective 1", b"inheritable 2", b"ambient 10000000000"),
        *(b"no-new-privs", b"rlimit 7 1024 18446744073709551615", b"umask 27", b"oom-score-adj -5", b"terminal"),
        *(b"cwd /work dir", b"env a.b=1\n2", b"env C=%h", b"arg run", b"arg ", b""),
    ]


def test_what_is_inherited_has_no_record():
    records = encode(AppProcess(args=("x",))).split(b"\0")
    assert not [record for record in records if record.startswith((b"umask", b"oom", b"term", b"no-new", b"rlimit"))]


@pytest.mark.parametrize(
    ("launch", "key"),
    [
        (AppProcess(args=("x", "a\0b")), r"process\.args\[1\]: found a NUL"),
        (AppProcess(args=("x",), env=("A=1", "B=\0uid 0")), r"process\.env\[1\]: found a NUL"),
        (AppProcess(args=("x",), cwd="/a\0"), r"process\.cwd: found a NUL"),
        (AppProcess(args=("x", "\ud800")), r"process\.args\[1\]: found a lone surrogate"),
        (AppProcess(args=()), r"process\.args: found none"),
    ],
)
def test_what_cannot_be_held_is_named(launch, key):
    with pytest.raises(InvalidArgument, match=key):
        encode(launch)


def test_bytes_that_are_no_text_and_huge_values_pass():
    encoded = encode(AppProcess(args=("x", b"\xff".decode("utf-8", "surrogateescape")), env=("A=" + "x" * 5_000_000,)))
    assert encoded.endswith(b"\0arg \xff\0")
    assert len(encoded) > 5_000_000


@given(args=st.lists(WORDS, min_size=1), env=st.lists(WORDS))
def test_words_come_out_as_they_went_in(args, env):
    records = encode(AppProcess(args=tuple(args), env=tuple(env))).split(b"\0")[:-1]
    assert [record[4:].decode() for record in records if record.startswith(b"arg ")] == args
    assert [record[4:].decode() for record in records if record.startswith(b"env ")] == env


def test_the_pods_process_to_the_letter():
    launch = from_spec(
        spec(
            args=["sleep", "1"],
            env=["PATH=/bin", "A.b=1", "PATH=/usr/bin"],
            cwd="/srv",
            user={"uid": 1000, "gid": 1000, "additionalGids": [5, 6, 5], "umask": 63},
            capabilities={"bounding": ["CAP_CHOWN", "CAP_NET_BIND_SERVICE"], "effective": ["CAP_CHECKPOINT_RESTORE"]},
            noNewPrivileges=True,
            rlimits=[{"type": "RLIMIT_NOFILE", "soft": 10, "hard": 18446744073709551615}],
            oomScoreAdj=-997,
            terminal=True,
        )
    )
    assert launch == AppProcess(
        args=("sleep", "1"),
        env=("PATH=/usr/bin", "A.b=1"),
        cwd="/srv",
        uid=1000,
        gid=1000,
        groups=(5, 6),
        bounding=0x401,
        effective=1 << 40,
        no_new_privileges=True,
        rlimits=((7, 10, 2**64 - 1),),
        umask=0o77,
        oom_score_adj=-997,
        terminal=True,
    )


def test_what_a_runtime_fills_in_is_filled_in():
    launch = from_spec(spec(env=["A=1"]), home="/home/app")
    assert launch.umask == 0o022
    assert launch.env == ("A=1", "HOME=/home/app")
    assert from_spec(spec(env=["HOME=/x"]), home="/home/app").env == ("HOME=/x",)


def test_args_of_the_plan_and_each_group_once():
    launch = from_spec(spec(user={"additionalGids": [5, 7, 5]}), args=["other"])
    assert (launch.args, launch.groups) == (("other",), (5, 7))


@pytest.mark.parametrize(
    ("process", "said"),
    [
        ({"capabilities": {"ambient": ["CAP_NONE"]}}, r'process\.capabilities\.ambient\[0\]: found "?\'?CAP_NONE'),
        ({"rlimits": [{"type": "RLIMIT_X", "soft": 1, "hard": 1}]}, r"process\.rlimits\[0\]\.type"),
        ({"rlimits": [{"type": "RLIMIT_CPU", "soft": 2, "hard": 1}]}, r"rlimits\[0\]\.soft: .*hard limit 1"),
        ({"rlimits": [{"type": "RLIMIT_CPU", "soft": -1, "hard": 1}]}, r"rlimits\[0\]\.soft"),
        ({"rlimits": [{"type": "RLIMIT_CPU", "soft": 1, "hard": 1}] * 2}, r"rlimits\[1\]\.type"),
        ({"rlimits": [3]}, r"process\.rlimits\[0\]"),
        ({"user": {"uid": 4294967295}}, r"process\.user\.uid"),
        ({"user": {"uid": True}}, r"process\.user\.uid"),
        ({"user": {"additionalGids": ["1"]}}, r"process\.user\.additionalGids\.0"),
        ({"user": {"umask": 0o1000}}, r"process\.user\.umask"),
        ({"oomScoreAdj": 1001}, r"process\.oomScoreAdj"),
        ({"cwd": 1}, r"process\.cwd"),
        ({"terminal": "yes"}, r"process\.terminal"),
    ],
)
def test_a_wrong_process_is_refused_by_key(process, said):
    with pytest.raises(InvalidArgument, match=said):
        from_spec(spec(**process))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["user", "uid", "rlimits", "type", "soft", "capabilities", "bounding", "cwd", "env"]),
                inner,
            )
        ),
        max_leaves=12,
    )
)
def test_any_json_gives_a_launch_or_a_named_error(process):
    try:
        said = from_spec(json.loads(json.dumps({"process": process}))).args
    except InvalidArgument as err:
        said = str(err)
    assert said == () or "process" in said
