"""Turns a request's options, of whatever type, into one frozen value.

Three forms reach a shim: no options; `containerd.runc.v1.Options`, from clients and from handlers of type
`io.containerd.runc.v2`; and `runtimeoptions.v1.Options`, from handlers of any other type, which name a configuration
file or carry the handler's options table as TOML (containerd, api/runtimeoptions/v1).
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any as JSON
from typing import TypeVar

from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError, Message

from protos.gen import runc_options_pb2, runtimeoptions_pb2
from runtime import config, host
from runtime.config import Config
from runtime.errors import InvalidArgument, PouchrichError
from runtime.oci.argv import OCIBinary
from runtime.oci.choose import choose
from shim.task.stdio.stdio import Owner
from shim.task.thread import NODE_PATIENCE_S, answered

RUNC_OPTIONS = runc_options_pb2.Options.DESCRIPTOR.full_name
RUNTIME_OPTIONS = runtimeoptions_pb2.Options.DESCRIPTOR.full_name

M = TypeVar("M", bound=Message)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """How to make a container: the node's or handler's configuration, and what only runc's options can set."""

    config: Config
    binary_name: str = ""
    root: str = ""
    systemd_cgroup: bool = False
    """Whether runc's options set SystemdCgroup. False means nothing: for a pod with a user namespace containerd makes
    options that hold only the owner of its streams (client/task.go, getRuncOptions)."""
    no_pivot: bool = False
    no_new_keyring: bool = False
    owner: Owner = field(default_factory=Owner)
    criu_work_path: str = ""

    def oci_binary(self, spec: Mapping[str, JSON], namespace: str) -> OCIBinary:
        """The OCI runtime for a container with `spec`. Raises InvalidArgument where it is not installed."""
        wanted, source = self.binary_name, "options.binary_name"
        if not wanted:
            wanted, source = self.config.runtime.binary or "", f"{self.config.source}: runtime.binary"
        path, reason = choose(wanted, source=source)
        _log.debug("OCI runtime %s: %s", path, reason)
        return OCIBinary(
            path=path,
            root=f"{self.root or self.config.runtime.root}/{namespace}",
            systemd_cgroup=self._systemd_cgroup(spec),
        )

    def _systemd_cgroup(self, spec: Mapping[str, JSON]) -> bool:
        """Whether the OCI runtime uses systemd for cgroups. Only the systemd driver understands SLICE:PREFIX:NAME; on a
        host without systemd that is a directory name, as for containerd's own shim, which looks at its options only.
        """
        configured = self.config.runtime.systemd_cgroup
        if self.systemd_cgroup or configured is not None:
            return self.systemd_cgroup or bool(configured)
        path = (spec.get("linux") or {}).get("cgroupsPath")
        return isinstance(path, str) and path.count(":") == 2 and not path.startswith("/") and host.has_systemd()


def is_handlers_table(options: Any) -> bool:
    """Whether `options` are the options table of a handler whose runtime type is not containerd's own."""
    return options.type_url.rpartition("/")[2] == RUNTIME_OPTIONS


def read(options: Any, *, sandbox: bool = False) -> TaskOptions:
    """Read the options of a Create request. Raises InvalidArgument naming the bad type, or the file and key.

    For a `sandbox` a broken configuration is logged and the built-in one is used: the policy concerns the containers in
    the sandbox, and each of those is refused with the reason.
    """
    kind = options.type_url.rpartition("/")[2]
    if not kind:
        return TaskOptions(_load(config.load_node, sandbox=sandbox))
    if kind == RUNC_OPTIONS:
        runc = _unpack(options, runc_options_pb2.Options())
        return TaskOptions(
            _load(config.load_node, sandbox=sandbox),
            binary_name=runc.binary_name,
            root=runc.root,
            systemd_cgroup=runc.systemd_cgroup,
            no_pivot=runc.no_pivot_root,
            no_new_keyring=runc.no_new_keyring,
            owner=Owner(runc.io_uid, runc.io_gid),
            criu_work_path=runc.criu_work_path,
        )
    if kind == RUNTIME_OPTIONS:
        handler = _unpack(options, runtimeoptions_pb2.Options())
        load = partial(config.for_handler, config_path=handler.config_path, config_body=handler.config_body)
        return TaskOptions(_load(load, sandbox=sandbox))
    raise InvalidArgument(f"options: found type {kind}, allowed: {RUNC_OPTIONS}, {RUNTIME_OPTIONS}")


async def read_and_check(options: Any, *, sandbox: bool = False) -> TaskOptions:
    """`read`, and check the programs of the node's host hooks, except for a `sandbox`, which has no hooks.

    Raises as `read`; also InvalidArgument where others than root can write a program, FailedPrecondition where its file
    system does not answer.
    """
    found = read(options, sandbox=sandbox)
    if not sandbox and (programs := config.host_commands(found.config)):
        what = f"{found.config.source}: hooks: {', '.join(sorted(set(programs)))}"
        await answered(lambda: config.check_host_commands(found.config), what=what, patience_s=NODE_PATIENCE_S)
    return found


def _load(load: Callable[..., Config], *, sandbox: bool) -> Config:
    try:
        return load(programs=False)
    except PouchrichError as err:
        if not sandbox:
            # Not NotFound for a missing file: that would tell containerd that the task is gone.
            raise InvalidArgument(str(err)) from err
        _log.warning("the sandbox is created with the built-in configuration: %s", err)
        return config.DEFAULT


def _unpack(packed: Any, message: M) -> M:
    try:
        message.ParseFromString(packed.value)
    except DecodeError as err:
        raise InvalidArgument(f"options: the value is no {message.DESCRIPTOR.full_name}") from err
    return message
