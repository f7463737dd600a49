"""Root tests act in a forked child with its own mount namespace, so that nothing they mount can leak."""

import os
import traceback

import pytest

from runtime.linux import syscalls
from tests.root import starters


def _run_isolated(action):
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    action()


@pytest.fixture
def isolated():
    """Run a function in such a child; its exception, if any, fails the test with the child's traceback."""

    def run(action):
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                _run_isolated(action)
                os._exit(0)
            except BaseException:
                os.write(writer, traceback.format_exc().encode()[-4000:])
                os._exit(1)
        os.close(writer)
        with open(reader, encoding="utf-8", errors="replace") as report:
            said = report.read()
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if status != 0:
            pytest.fail(f"child ended with {status}\n{said}", pytrace=False)

    return run


@pytest.fixture
def on_node(isolated, tmp_path):
    """Run a function with a Node, in an isolated child with an empty /run and a copy of the code as a version."""
    site = starters.make_version(tmp_path / "lib" / "1.0")

    def run(action):
        def inside():
            syscalls.mount("tmpfs", "/run", "tmpfs", 0, "mode=0755")
            for name in ("up", "work"):
                os.mkdir(f"/run/{name}")
            syscalls.mount("overlay", "/etc", "overlay", 0, "lowerdir=/etc,upperdir=/run/up,workdir=/run/work")
            syscalls.set_child_subreaper()
            node = starters.Node(site)
            try:
                action(node)
            finally:
                node.close()

        isolated(inside)

    return run
