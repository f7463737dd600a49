"""Builds the command lines of an OCI runtime from values. Pure.

crun and runc take the same arguments (containerd/go-runc, runc.go). Differences are noted where they matter.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class OCIBinary:
    """An OCI runtime and its state directory. `path` is absolute; `root` already includes the containerd namespace."""

    path: str
    root: str
    systemd_cgroup: bool = False


class CreateOptions(NamedTuple):
    """How a container is made. Paths are absolute; `console_socket` is "" without a terminal."""

    bundle: str
    pid_file: str
    console_socket: str = ""
    no_pivot: bool = False
    no_new_keyring: bool = False


class ExecOptions(NamedTuple):
    """How a further process is started. `process` is the file with its OCI process object."""

    process: str
    pid_file: str
    console_socket: str = ""


class CheckpointOptions(NamedTuple):
    """What CRIU is told. The fields are those of `containerd.runc.v1.CheckpointOptions`."""

    image_path: str
    work_path: str
    parent_path: str = ""
    leave_running: bool = True
    tcp_established: bool = False
    ext_unix_sk: bool = False
    shell_job: bool = False
    file_locks: bool = False
    empty_namespaces: Sequence[str] = ()


class RestoreOptions(NamedTuple):
    """The checkpoint to restore, and the container to make of it."""

    image_path: str
    work_path: str
    create: CreateOptions
    parent_path: str = ""


def command(binary: OCIBinary, log: str, words: Sequence[str]) -> list[str]:
    """The whole argument list of a call that writes its log to the file `log`."""
    cgroup = ["--systemd-cgroup"] if binary.systemd_cgroup else []
    return [binary.path, "--root", binary.root, "--log", log, "--log-format", "json", *cgroup, *words]


def create(container_id: str, options: CreateOptions) -> list[str]:
    """`create`: make the container; its init then waits for `start`."""
    return [
        "create",
        "--bundle",
        options.bundle,
        "--pid-file",
        options.pid_file,
        *_create_flags(options),
        container_id,
    ]


def start(container_id: str) -> list[str]:
    """`start`: let the init execute its command."""
    return ["start", container_id]


def exec(container_id: str, options: ExecOptions) -> list[str]:
    """`exec`: start a process in the container, detached from the OCI runtime."""
    console = ["--console-socket", options.console_socket] if options.console_socket else []
    return [
        "exec",
        "--process",
        options.process,
        *console,
        "--detach",
        "--pid-file",
        options.pid_file,
        container_id,
    ]


def kill(container_id: str, signal: int, *, everyone: bool) -> list[str]:
    """`kill`: send a signal to the init, or with `everyone` to each process of the container."""
    return ["kill", *(["--all"] if everyone else []), container_id, str(signal)]


def delete(container_id: str, *, force: bool) -> list[str]:
    """`delete`: remove the container's state; with `force` a running container is killed first."""
    return ["delete", *(["--force"] if force else []), container_id]


def pause(container_id: str) -> list[str]:
    """`pause`: freeze the container's processes."""
    return ["pause", container_id]


def resume(container_id: str) -> list[str]:
    """`resume`: thaw the container's processes."""
    return ["resume", container_id]


def update(container_id: str, resources: str) -> list[str]:
    """`update`: change limits to the LinuxResources object in the file `resources`."""
    return ["update", f"--resources={resources}", container_id]


def entering(launcher: str, fd: int, command: Sequence[str]) -> list[str]:
    """`command`, run in the cgroup whose cgroup.procs is open as descriptor `fd`; `launcher` is our static program."""
    return [launcher, "enter", str(fd), *command]


def features() -> list[str]:
    """`features`: print what the OCI runtime supports, as JSON on its standard output."""
    return ["features"]


def checkpoint(container_id: str, options: CheckpointOptions) -> list[str]:
    """`checkpoint`: have CRIU write the container's state to files."""
    flags = {
        "--tcp-established": options.tcp_established,
        "--ext-unix-sk": options.ext_unix_sk,
        "--shell-job": options.shell_job,
        "--file-locks": options.file_locks,
        "--leave-running": options.leave_running,
    }
    words = ["checkpoint", "--image-path", options.image_path, "--work-path", options.work_path]
    if options.parent_path:
        words += ["--parent-path", options.parent_path]
    words += [flag for flag, on in flags.items() if on]
    for namespace in options.empty_namespaces:
        words += ["--empty-ns", namespace]
    return [*words, container_id]


def restore(container_id: str, options: RestoreOptions) -> list[str]:
    """`restore`: make a running container from a checkpoint."""
    words = ["restore", "--image-path", options.image_path, "--work-path", options.work_path]
    if options.parent_path:
        words += ["--parent-path", options.parent_path]
    words += ["--detach", "--pid-file", options.create.pid_file, *_placing(options.create)]
    return [*words, "--bundle", options.create.bundle, container_id]


def _create_flags(options: CreateOptions) -> list[str]:
    return [*_placing(options), *(["--no-new-keyring"] if options.no_new_keyring else [])]


def _placing(options: CreateOptions) -> list[str]:
    """The flags of create that restore has too."""
    console = ["--console-socket", options.console_socket] if options.console_socket else []
    return [*console, *(["--no-pivot"] if options.no_pivot else [])]
