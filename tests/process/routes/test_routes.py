import json
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import routes
from runtime.config.model import Route, When
from runtime.errors import RuntimeFailed
from runtime.routes.__main__ import answer

WHEN = When()


def test_the_question_is_the_routes_alone():
    asked = routes.question([Route("default", "10.0.0.1", WHEN)])
    assert json.loads(asked) == {"routes": [{"to": "default", "via": "10.0.0.1"}]}


def test_an_answer_is_read_back():
    assert routes.read_answer(0, b'{"applied": 2}') == routes.Answer(2)
    assert routes.read_answer(0, b'{"skipped": "host"}') == routes.Answer(0, "host")


def test_the_programs_reason_is_the_error():
    with pytest.raises(RuntimeFailed, match=r"routes: to default via 10.0.0.1: network is unreachable"):
        routes.read_answer(1, b'{"error": "to default via 10.0.0.1: network is unreachable"}')


@given(st.binary(max_size=30))
def test_no_answer_is_an_error_and_nothing_else(output):
    try:
        routes.read_answer(137, output)
    except RuntimeFailed:
        return
    assert isinstance(json.loads(output), dict)


def test_the_namespace_of_this_process_is_never_touched():
    fd = os.open("/proc/self/ns/net", os.O_RDONLY)
    try:
        told = answer(routes.question([Route("default", "10.0.0.1", WHEN)]), fd)
    finally:
        os.close(fd)
    assert told == {"skipped": "the network namespace is the host's"}


def test_a_descriptor_that_is_no_namespace_is_an_error(tmp_path):
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        assert "error" in answer(routes.question([]), fd)
    finally:
        os.close(fd)


def test_asking_loads_no_netlink_library():
    code = (
        "import sys, shim.task.rich.routes, runtime.routes; print([m for m in sys.modules if m.startswith('pyroute2')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=os.getcwd())
    assert done.stdout == "[]\n"


def test_an_interpreter_without_openssl_and_sqlite_has_all_that_routes_need():
    code = """
import sys
for name in ("_ssl", "_sqlite3", "zlib", "_hashlib", "_decimal", "_bz2", "_lzma", "pyexpat", "_uuid"):
    sys.modules[name] = None
from runtime.routes.__main__ import _apply
print(_apply([]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("0\n", 0), done.stderr
