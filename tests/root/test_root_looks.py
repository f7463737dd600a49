"""Looking below a root that does not answer, as a hostile file system need not: the pod's event loop goes on."""

import asyncio
import os
import threading

import pytest

from runtime import config
from runtime.agents import mounts
from runtime.errors import FailedPrecondition, RuntimeFailed
from runtime.rich import policy
from runtime.spec.identity import Identity
from shim.task.create.mounting import Mounting
from shim.task.hooks.hook_run import user_below
from shim.task.reaper import Reaper
from shim.task.rich import decide as decide_module
from shim.task.rich.decide import decide, inspect_image
from tests.root.held_opens import held

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]


@pytest.fixture
def passwd(tmp_path):
    """The passwd of a root file system at `tmp_path`, whose open waits."""
    (tmp_path / "etc").mkdir()
    path = tmp_path / "etc/passwd"
    path.write_text("daemon:x:1:1::/srv:/bin/sh\n")
    with held(path) as file:
        # Where the loop itself waits in the open, somebody has to end that, for the test to fail.
        rescue = threading.Timer(10, lambda: file.waiting() and file.let_go())
        rescue.start()
        yield file
        rescue.cancel()


async def never(argv, fds):
    raise AssertionError("no helper is needed")


async def waits(file):
    while not file.waiting():  # noqa: ASYNC110 (a file of the kernel's tells)
        await asyncio.sleep(0.005)


def test_a_passwd_that_does_not_answer_costs_a_hook_its_time_and_nobody_else(tmp_path, passwd):
    async def play():
        looking = asyncio.ensure_future(user_below(str(tmp_path), "daemon", timeout_s=0.2))
        await asyncio.wait_for(waits(passwd), 5)
        assert not looking.done()
        with pytest.raises(RuntimeFailed, match=r"user daemon: the container's files do not answer within 0\.2s"):
            await looking
        passwd.let_go()

    asyncio.run(play())


def test_a_passwd_that_answers_late_is_waited_for(tmp_path, passwd):
    async def play():
        looking = asyncio.ensure_future(user_below(str(tmp_path), "daemon", timeout_s=5))
        await asyncio.wait_for(waits(passwd), 5)
        passwd.let_go()
        assert (await looking).home == "/srv"
        assert await user_below("/nowhere", None, timeout_s=1) is None

    asyncio.run(play())


def test_an_image_that_does_not_answer_does_not_hold_up_its_pods_other_containers(tmp_path, passwd):
    spec = {"process": {"args": ["/bin/true"], "env": ["PATH=/bin"]}}
    settings = config.DEFAULT

    async def play():
        reaper = Reaper(asyncio.get_running_loop())
        choice = policy.choose(spec, settings, Identity.from_spec(spec, namespace="default", container_id="c"))
        mounting = Mounting((), "", run=never)
        mounting.inspect_when_mounted(lambda: inspect_image(str(tmp_path), spec, choice, settings))
        await asyncio.wait_for(waits(passwd), 5)
        assert not mounting.inspection.done()
        passwd.let_go()
        about = {"looked": await mounting.inspection, "terminal": False, "run_dir": "/run/x", "reaper": reaper}
        with pytest.raises(Exception, match="/bin/true"):  # which the image does not have
            await decide(spec, choice, settings, **about)

    asyncio.run(play())


AGENT = """
version = 1
rich.enabled = true
rich.mode = "dumb-init"
[[agents]]
name = "probe"
command = ["/opt/probe/run"]
mounts = [{source = "/hung/probe", target = "/opt/probe"}]
"""


def test_an_agents_files_that_do_not_answer_are_an_error_and_hold_up_nothing(tmp_path, monkeypatch):
    """On NFS or FUSE lstat(2) may take for ever: it may not run in the event loop."""
    for name in ("bin", "opt/probe"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "bin/true").write_text("#!/bin/sh\n")
    (tmp_path / "bin/true").chmod(0o755)
    namespaces = [{"type": one} for one in ("pid", "mount", "ipc")]
    spec = {"process": {"args": ["/bin/true"], "env": ["PATH=/bin"]}, "linux": {"namespaces": namespaces}}
    settings = config.parse(AGENT, source="node.toml")
    answers = threading.Event()
    monkeypatch.setattr(mounts, "check_sources", lambda *given, **about: answers.wait())
    monkeypatch.setattr(decide_module, "NODE_PATIENCE_S", 0.05)

    async def play():
        choice = policy.choose(spec, settings, Identity.from_spec(spec, namespace="default", container_id="c"))
        about = {"terminal": False, "run_dir": "/run/x", "reaper": Reaper(asyncio.get_running_loop())}
        rescue = threading.Timer(10, answers.set)  # for the test to fail where the loop waits
        rescue.start()
        try:
            with pytest.raises(FailedPrecondition, match=r"node\.toml: agents: /hung/probe did not answer for"):
                await decide(
                    spec, choice, settings, looked=inspect_image(str(tmp_path), spec, choice, settings), **about
                )
        finally:
            rescue.cancel()
            answers.set()

    asyncio.run(play())
