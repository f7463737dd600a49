"""Checkpoints: the options of the request, and CRIU's work directory. The OCI runtime runs CRIU."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError

from protos.gen import runc_options_pb2
from runtime.errors import InvalidArgument, RuntimeFailed, Unsupported
from runtime.oci.argv import CheckpointOptions

TYPE = runc_options_pb2.CheckpointOptions.DESCRIPTOR.full_name
CRIU = "criu"
REAL_INIT = (
    "a container whose PID 1 is a real init: its console and its application are tied to the pod server, which CRIU"
    " cannot restore; allowed are plain containers and mode dumb-init"
)


RICH = (
    "restore of a rich container: its hooks, agents and routes are made when the OCI runtime creates it, which a"
    " restore does not; allowed are plain containers"
)


def has_criu() -> bool:
    """Whether CRIU is installed, which OCI runtimes use for checkpoint and restore."""
    return shutil.which(CRIU) is not None


def require_criu() -> None:
    """Raise Unsupported where CRIU is not installed."""
    if not has_criu():
        raise Unsupported("checkpoint and restore need CRIU, and no criu program was found in PATH")


@contextmanager
def checkpoint_options(packed: Any, image_path: str, bundle: str) -> Iterator[CheckpointOptions]:
    """The options of a Checkpoint request, with a work directory that exists while the context lasts.

    When the checkpoint fails, CRIU's log is kept in the bundle and the error says so. Raises InvalidArgument,
    Unsupported.
    """
    require_criu()
    kind = packed.type_url.rpartition("/")[2]
    if kind not in ("", TYPE):
        raise InvalidArgument(f"options: found type {kind}, allowed: {TYPE}")
    if not image_path.startswith("/"):
        raise InvalidArgument(f"path: found {image_path!r}, allowed an absolute directory")
    try:
        given = runc_options_pb2.CheckpointOptions.FromString(packed.value)
    except DecodeError as err:
        raise InvalidArgument(f"options: the value is no {TYPE}") from err
    work_path = given.work_path or os.path.join(bundle, "work", "criu-work")
    os.makedirs(work_path, mode=0o711, exist_ok=True)
    try:
        yield CheckpointOptions(
            image_path=image_path,
            work_path=work_path,
            parent_path=given.parent_path,
            leave_running=not given.exit,
            tcp_established=given.open_tcp,
            ext_unix_sk=given.external_unix_sockets,
            shell_job=given.terminal,
            file_locks=given.file_locks,
            empty_namespaces=tuple(given.empty_namespaces),
        )
    except RuntimeFailed as err:
        kept = f"{bundle}/criu-dump.log"
        with suppress(OSError):
            shutil.copyfile(f"{work_path}/dump.log", kept)
        raise RuntimeFailed(f"{str(err).splitlines()[0]} path= {kept}") from err
    finally:
        if not given.work_path:
            shutil.rmtree(work_path, ignore_errors=True)
