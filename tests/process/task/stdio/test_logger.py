"""Logging drivers: shell scripts in the place of real ones."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from runtime.errors import InvalidArgument, RuntimeFailed
from shim.task.reaper import Reaper
from shim.task.stdio import logger
from tests.fakes.loop import in_loop, open_fds, until


def driver(directory: Path, script: str) -> str:
    path = directory / "driver"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def reaper() -> Reaper:
    made = Reaper(asyncio.get_running_loop())
    made.install()
    return made


async def start(url: str) -> logger.Logger:
    return await logger.start(url, container_id="c", namespace="ns", reaper=reaper())


@in_loop
async def test_a_driver_gets_its_words_environment_and_streams(tmp_path: Path):
    path = driver(
        tmp_path,
        f'echo "$@" >{tmp_path}/words; env | grep CONTAINER | sort >{tmp_path}/env; exec 5>&-; '
        f"cat <&3 >{tmp_path}/out; cat <&4 >{tmp_path}/err; trap '' TERM; touch {tmp_path}/done",
    )
    running = await start(f"binary://{path}?a=1&a=2&b")
    streams = logger.LoggerIO(running).child_fds()
    os.write(streams[1], b"to out")
    os.write(streams[2], b"to err")
    copy = running.duplicate_stdout()
    os.close(copy)
    await until((tmp_path / "out").exists)
    await running.close()
    await running.close()
    assert (tmp_path / "words").read_text() == "a 1 b \n"
    assert (tmp_path / "env").read_text() == "CONTAINER_ID=c\nCONTAINER_NAMESPACE=ns\n"
    # Whether it had read everything when SIGTERM came is the driver's affair; what it read is whole.
    assert b"to out".startswith((tmp_path / "out").read_bytes())


@in_loop
async def test_a_ready_driver_may_say_so_with_a_byte(tmp_path: Path):
    running = await start(f"binary-v2://{driver(tmp_path, 'printf . >&5; exec sleep 1000')}")
    await running.close()


@in_loop
async def test_binary_v2_without_the_byte_fails_and_leaves_nothing(tmp_path: Path):
    asyncio.get_running_loop().add_signal_handler(17, lambda: None)  # its wake-up pair belongs to the loop
    before = open_fds()
    with pytest.raises(RuntimeFailed, match="logging binary did not call ready"):
        await start(f"binary-v2://{driver(tmp_path, 'exit 1')}")
    assert open_fds() == before


@in_loop
async def test_a_driver_that_says_nothing_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(logger, "READY_TIMEOUT_S", 0.1)
    with pytest.raises(RuntimeFailed, match="logging binary was not ready within"):
        await start(f"binary://{driver(tmp_path, 'exec sleep 1000')}")


@in_loop
async def test_closing_asks_by_sigterm(tmp_path: Path):
    path = driver(tmp_path, f"trap 'touch {tmp_path}/asked; exit 0' TERM; printf . >&5; while :; do sleep 0.01; done")
    running = await start(f"binary-v2://{path}")
    await running.close()
    assert (tmp_path / "asked").exists()


@in_loop
async def test_a_driver_that_will_not_go_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(logger, "STOP_TIMEOUT_S", 0.1)
    path = driver(tmp_path, "trap '' TERM; printf . >&5; while :; do sleep 0.01; done")
    running = await start(f"binary-v2://{path}")
    began = time.monotonic()
    await running.close()
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("url", ["binary:///nowhere/driver", "binary://", "binary:///etc/passwd"])
@in_loop
async def test_a_driver_that_is_no_program_is_refused(url: str):
    with pytest.raises(InvalidArgument, match="no executable file"):
        await start(url)
