"""runtime.config.render: texts made from the table read back as what they were made from."""

import re

from hypothesis import given
from hypothesis import strategies as st

from runtime import config
from runtime.config import render
from runtime.config.schema import KEYS, TABLES
from runtime.config.tables import REQUIRED

NAMES = st.from_regex(r"[A-Za-z0-9@_.:-]{1,20}", fullmatch=True)
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


@st.composite
def configurations(draw):
    hook = {
        "name": "h",
        "command": ["/bin/x", *draw(st.lists(TEXTS, max_size=2))],
        "env": draw(st.dictionaries(TEXTS.filter(lambda t: t and "=" not in t), TEXTS, max_size=2)),
        "timeout": draw(st.integers(1, 3600)),
        "when": {"namespace": draw(st.lists(NAMES, max_size=2))},
    }
    agent = {"name": draw(NAMES), "command": ["/a"], "mounts": [{"source": "/s", "target": "/t"}]}
    parts = {
        "version": 1,
        "rich": {"mode": draw(st.sampled_from(["auto", "systemd"])), "lxcfs": draw(st.booleans())},
        "hooks": {"prestart": [hook]},
        "agents": [agent],
    }
    return "\n".join(f"{name} = {render.toml(value)}" for name, value in parts.items())


@given(configurations())
def test_an_effective_configuration_parses_to_the_same(text):
    first = config.parse(text, source="a")
    assert config.parse(render.effective(first), source="b") == first


def test_the_default_file_says_the_defaults_commented_or_not():
    text = render.default_file()
    assert config.parse(text, source="F") == config.DEFAULT
    assert config.parse(text, source="F").explicit == {"version"}
    uncommented = re.sub(r"^#(\S+ = [^ ].*)$", r"\1", text, flags=re.MULTILINE)
    everything = config.parse(uncommented, source="F")
    assert everything == config.DEFAULT
    assert everything.explicit == {key.name for key in KEYS if key.default is not None}


def test_the_tables_have_a_row_for_every_key():
    tables = render.markdown_tables()
    for key in KEYS:
        assert f"| `{key.name}` |" in tables
    for where, keys in TABLES.items():
        assert f"Keys of `{where}`" in tables
        assert all(f"| `{key.name}` |" in tables for key in keys)
    for line in tables.splitlines():
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) == 6, line


def test_every_key_says_what_it_means():
    for key in (*KEYS, *(key for keys in TABLES.values() for key in keys)):
        assert key.meaning, key.name
        assert key.default is not None or key.unset, key.name
        assert key.default is REQUIRED or key.default is None or key.value({}, key.name) is not REQUIRED


def test_what_has_to_be_set_has_no_default():
    (row,) = (line for line in render.markdown_tables().splitlines() if line.startswith("| `version` |"))
    assert [cell.strip() for cell in row.split("|")[2:4]] == ["integer", "required"]
