"""The reader of manifests: what it reads is what YAML says, and what it does not know it refuses."""

import pytest

from tests.unit.docs import manifests


def test_a_manifest_is_read():
    text = """\
# a comment
kind: Pod
metadata:
  annotations:
    a.b/c: "false"
    d: 'it''s [{"x": 1}]'
    e: |
      [{"x": 1,

        # 2: it's}]
    f: g
spec:
  grace: 60
  on: true
  list:
    - name: one two
      args: ["a", "b c"]
      kinds: [a, b]
    - name: x
  plain:
  - a
  - b
---
kind: Other
"""
    assert manifests.load(text) == [
        {
            "kind": "Pod",
            "metadata": {
                "annotations": {
                    "a.b/c": "false",
                    "d": 'it\'s [{"x": 1}]',
                    "e": '[{"x": 1,\n\n  # 2: it\'s}]\n',
                    "f": "g",
                }
            },
            "spec": {
                "grace": 60,
                "on": True,
                "list": [{"name": "one two", "args": ["a", "b c"], "kinds": ["a", "b"]}, {"name": "x"}],
                "plain": ["a", "b"],
            },
        },
        {"kind": "Other"},
    ]


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\na: 2",
        "a:\n\tb: 1",
        "a: b: c",
        "a: [1,",
        "a: 'b",
        "a: 'b'c'",
        "a: &x b",
        "a: |\nb",
        "a: |-\n  b",
        "a: >\n  b",
        "a: yes",
        "a: b # c",
        "a: {b: c}",
        "a:\n    b: 1\n  c: 2",
        "a",
        "",
    ],
)
def test_what_is_not_known_is_refused(text: str):
    with pytest.raises(ValueError, match=r"."):
        manifests.load(text)
