"""runtime.linux.open_files: more descriptors for this process, and no other limits for what it executes."""

import asyncio
import fcntl
import os
import resource
import sys

import pytest

from runtime import host
from runtime.linux import open_files
from shim.task.reaper import Reaper


@pytest.fixture
def limited(monkeypatch):
    """This process began with a soft limit of 1000, above all descriptors that it has."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    monkeypatch.setattr(open_files, "_inherited", [])
    resource.setrlimit(resource.RLIMIT_NOFILE, (1000, before[1]))
    yield (1000, before[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_soft_limit_becomes_the_hard_one(limited):
    assert open_files.inherited() == limited
    for _ in range(2):
        open_files.take_hard_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (limited[1], limited[1])
        assert open_files.inherited() == limited


def test_a_program_has_the_limits_that_we_began_with(limited):
    open_files.take_hard_limit()
    reader, writer = os.pipe()

    async def run():
        reaper = Reaper(asyncio.get_running_loop())
        reaper.install()
        script = "import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE))"
        return await reaper.spawn([sys.executable, "-c", script], {1: writer}, {}).ended

    assert asyncio.run(run()).status == 0
    assert os.read(reader, 100).decode().strip() == str(limited)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (limited[1], limited[1])
    for fd in (reader, writer):
        os.close(fd)


def test_a_program_is_given_a_descriptor_above_the_soft_limit_that_we_began_with(limited):
    """A pod server with a hundred execs at once has more descriptors than that."""
    open_files.take_hard_limit()
    reader, writer = os.pipe()
    high = fcntl.fcntl(writer, fcntl.F_DUPFD_CLOEXEC, 1500)

    async def run():
        reaper = Reaper(asyncio.get_running_loop())
        reaper.install()
        return await reaper.spawn(["/bin/sh", "-c", "ulimit -Sn"], {1: high}, {}).ended

    assert asyncio.run(run()).status == 0
    assert os.read(reader, 100) == b"1501\n"
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (limited[1], limited[1])
    for fd in (reader, writer, high):
        os.close(fd)


def test_so_has_an_application_that_is_given_its_limits_one_by_one(limited):
    open_files.take_hard_limit()
    assert (resource.RLIMIT_NOFILE, *limited) in host.read().rlimits
