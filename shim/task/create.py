"""From a Create request to a container: read, decide, act, each once, and all undone where a step fails.

config.json is read once and, for a rich container, written once; what is decided comes from `runtime.plan`, which
acts on nothing. An act registers its undo before it is done, so a request that is cancelled midway (its deadline, a
containerd that died) leaves no mount, no descriptor and no container.
"""

import asyncio
import json
import logging
import os
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict, dataclass
from typing import Any as JSON

from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message

from runtime import bundle as bundles
from runtime import image, libexec, plan, rootfs
from runtime.bundle import Bundle
from runtime.errors import PouchrichError
from runtime.oci import argv
from runtime.oci.cli import OCIRuntime, Run
from shim.task import checkpoint, settings
from shim.task.container import Container
from shim.task.life import PlainLife
from shim.task.process import Process
from shim.task.reaper import Reaper
from shim.task.settings import Settings
from shim.task.stdio import Stdio, StdioPaths
from shim.task.streams import open_stdio
from shim.task.thread import in_thread

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CreateRequest:
    """A Create request without its protobuf, but for the options, whose type is only known by looking inside."""

    id: str
    namespace: str
    bundle: Bundle
    mounts: tuple[rootfs.Mount, ...]
    paths: StdioPaths
    options: Any
    checkpoint: str = ""
    parent_checkpoint: str = ""


@dataclass(frozen=True, slots=True)
class Tools:
    """What a container is made and run with, the same for all containers of the pod server."""

    reaper: Reaper
    run: Run
    publish: Callable[[Message], None]


async def create(request: CreateRequest, tools: Tools) -> Container:
    """Make the container and return it, its init waiting to be started.

    Raises InvalidArgument for a spec, option or configuration at fault, RuntimeFailed, OSError; nothing is left then.
    """
    spec = request.bundle.load_spec()
    sandbox = plan.is_sandbox(spec)
    chosen = settings.read(request.options, sandbox=sandbox)
    choice = plan.choose(spec, chosen.config)
    oci = OCIRuntime(chosen.oci_binary(spec, request.namespace), tools.run)
    if request.checkpoint:
        checkpoint.require_criu()
    async with AsyncExitStack() as undo:
        await _mount(request, tools.run, undo)
        made = plan.make(
            spec,
            config=chosen.config,
            facts=image.read_facts(_root(request.bundle, spec), spec) if choice.rich else None,
            terminal=request.paths.terminal,
        )
        spec = _apply(made, request, spec)
        stdio = await _open_stdio(request, tools.reaper, chosen, undo)
        container = Container(
            request.id,
            request.namespace,
            request.bundle,
            Process("", request.paths, stdio),
            oci=oci,
            reaper=tools.reaper,
            publish=tools.publish,
            owner=chosen.owner,
            private_pids=_has_private_pids(spec),
            life=PlainLife(),
            restore=_restore_options(request, chosen, stdio) if request.checkpoint else None,
        )
        undo.callback(container.abandon)
        request.bundle.write_record({"version": 1, "oci": asdict(oci.binary), "plan": json.loads(made.to_json())})
        undo.callback(request.bundle.remove_record)
        if not request.checkpoint:
            with tools.reaper.expecting():
                _undo_later(undo, lambda: _forget(oci, request.id))
                await oci.create(request.id, _create_options(request, chosen, stdio), stdio.child_fds())
                container.adopt(bundles.read_pid(request.bundle.init_pid_file))
            await stdio.attach()
        undo.pop_all()
    return container


async def _mount(request: CreateRequest, run: Run, undo: AsyncExitStack) -> None:
    if not request.mounts:
        return
    target = request.bundle.rootfs
    loop = asyncio.get_running_loop()

    def run_helper(words: "list[str]") -> int:
        return asyncio.run_coroutine_threadsafe(_awaited(run(words, {})), loop).result()

    _undo_later(undo, lambda: in_thread(lambda: rootfs.unmount_all(target)))
    mounting = asyncio.ensure_future(in_thread(lambda: rootfs.mount_all(request.mounts, target, run=run_helper)))
    try:
        await asyncio.shield(mounting)
    except asyncio.CancelledError:
        with suppress(Exception):  # mount(2) cannot be called back; what it did is undone after it
            await mounting
        raise


async def _awaited(waiting: Awaitable[int]) -> int:
    return await waiting


def _root(bundle: Bundle, spec: dict[str, JSON]) -> str:
    """The host directory of the container's root file system; a relative path is below the bundle."""
    root = spec.get("root")
    return os.path.join(bundle.path, str(root["path"])) if isinstance(root, dict) and "path" in root else bundle.rootfs


def _apply(made: plan.Plan, request: CreateRequest, spec: dict[str, JSON]) -> dict[str, JSON]:
    """Return the spec that the runtime gets, having written it to the bundle if it is another than containerd's."""
    for warning in made.warnings:
        _log.warning("container %s: %s", request.id, warning)
    for helper in made.helpers:
        libexec.path(helper)
    if made.steps:
        spec = dict(made.apply(spec))
        request.bundle.write_spec(spec)
    return spec


async def _open_stdio(request: CreateRequest, reaper: Reaper, chosen: Settings, undo: AsyncExitStack) -> Stdio:
    stdio = await open_stdio(
        request.paths, chosen.owner, container_id=request.id, namespace=request.namespace, reaper=reaper
    )
    _undo_later(undo, stdio.close)
    return stdio


async def _forget(oci: OCIRuntime, container_id: str) -> None:
    try:
        await oci.delete(container_id, force=True)
    except PouchrichError as err:
        _log.warning("container %s: after a failed create: %s", container_id, err)


def _undo_later(undo: AsyncExitStack, call: Callable[[], Awaitable[None]]) -> None:
    """Register `call` so that a cancellation which arrives while it runs does not cut it short."""

    async def whole() -> None:
        await asyncio.shield(call())

    undo.push_async_callback(whole)


def _create_options(request: CreateRequest, chosen: Settings, stdio: Stdio) -> argv.CreateOptions:
    return argv.CreateOptions(
        bundle=request.bundle.path,
        pid_file=request.bundle.init_pid_file,
        console_socket=stdio.console_socket,
        no_pivot=chosen.no_pivot,
        no_new_keyring=chosen.no_new_keyring,
    )


def _restore_options(request: CreateRequest, chosen: Settings, stdio: Stdio) -> argv.RestoreOptions:
    return argv.RestoreOptions(
        image_path=request.checkpoint,
        work_path=chosen.criu_work_path or os.path.join(request.bundle.path, "work", "criu-work"),
        create=_create_options(request, chosen, stdio),
        parent_path=request.parent_checkpoint,
    )


def _has_private_pids(spec: dict[str, JSON]) -> bool:
    namespaces = (spec.get("linux") or {}).get("namespaces") or []
    return any(entry.get("type") == "pid" and not entry.get("path") for entry in namespaces)
