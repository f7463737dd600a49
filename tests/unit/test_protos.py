"""The wire numbers, against bytes written out by hand."""

import pytest
from google.protobuf.message import Message

from protos.gen import (
    bootstrap_pb2,
    cgroups_v1_pb2,
    cgroups_v2_pb2,
    events_pb2,
    events_service_pb2,
    runc_options_pb2,
    runtimeoptions_pb2,
    status_pb2,
    task_pb2,
    task_types_pb2,
    task_v3_pb2,
    ttrpc_pb2,
    types_pb2,
)

METHODS = {
    "State": ("StateRequest", "StateResponse"),
    "Create": ("CreateTaskRequest", "CreateTaskResponse"),
    "Start": ("StartRequest", "StartResponse"),
    "Delete": ("DeleteRequest", "DeleteResponse"),
    "Pids": ("PidsRequest", "PidsResponse"),
    "Pause": ("PauseRequest", "Empty"),
    "Resume": ("ResumeRequest", "Empty"),
    "Checkpoint": ("CheckpointTaskRequest", "Empty"),
    "Kill": ("KillRequest", "Empty"),
    "Exec": ("ExecProcessRequest", "Empty"),
    "ResizePty": ("ResizePtyRequest", "Empty"),
    "CloseIO": ("CloseIORequest", "Empty"),
    "Update": ("UpdateTaskRequest", "Empty"),
    "Wait": ("WaitRequest", "WaitResponse"),
    "Stats": ("StatsRequest", "StatsResponse"),
    "Connect": ("ConnectRequest", "ConnectResponse"),
    "Shutdown": ("ShutdownRequest", "Empty"),
}

# A tag is number << 3 | wire type: 0 varint, 1 eight bytes, 2 length and bytes.
ANY = b"\x0a\x01t\x12\x01v"
STAMP = b"\x08\x07\x10\x08"

WIRE: list[tuple[type[Message], bytes, str]] = [
    (
        ttrpc_pb2.Request,
        b"\x0a\x01s\x12\x01m\x1a\x01p\x20\x05\x2a\x06\x0a\x01k\x12\x01v",
        'service: "s" method: "m" payload: "p" timeout_nano: 5 metadata { key: "k" value: "v" }',
    ),
    (
        ttrpc_pb2.Response,
        b"\x0a\x0d\x08\x05\x12\x01x\x1a\x06" + ANY + b"\x12\x01p",
        'status { code: 5 message: "x" details { type_url: "t" value: "v" } } payload: "p"',
    ),
    (
        task_pb2.CreateTaskRequest,
        b"\x0a\x01i\x12\x01b\x1a\x0c\x0a\x01t\x12\x01s\x1a\x01g\x22\x01o"
        b"\x20\x01\x2a\x01I\x32\x01O\x3a\x01E\x42\x01c\x4a\x01p\x52\x06" + ANY,
        'id: "i" bundle: "b" rootfs { type: "t" source: "s" target: "g" options: "o" } terminal: true '
        'stdin: "I" stdout: "O" stderr: "E" checkpoint: "c" parent_checkpoint: "p" '
        'options { type_url: "t" value: "v" }',
    ),
    (
        task_pb2.StateResponse,
        b"\x0a\x01i\x12\x01b\x18\x09\x20\x03\x2a\x01I\x32\x01O\x3a\x01E\x40\x01\x48\x89\x01\x52\x04"
        + STAMP
        + b"\x5a\x01e",
        'id: "i" bundle: "b" pid: 9 status: STOPPED stdin: "I" stdout: "O" stderr: "E" terminal: true '
        'exit_status: 137 exited_at { seconds: 7 nanos: 8 } exec_id: "e"',
    ),
    (
        task_pb2.DeleteResponse,
        b"\x08\x09\x10\x89\x01\x1a\x04" + STAMP,
        "pid: 9 exit_status: 137 exited_at { seconds: 7 nanos: 8 }",
    ),
    (
        task_pb2.PidsResponse,
        b"\x0a\x0a\x08\x09\x12\x06" + ANY,
        'processes { pid: 9 info { type_url: "t" value: "v" } }',
    ),
    (
        task_pb2.KillRequest,
        b"\x0a\x01i\x12\x01e\x18\x0f\x20\x01",
        'id: "i" exec_id: "e" signal: 15 all: true',
    ),
    (
        task_pb2.ExecProcessRequest,
        b"\x0a\x01i\x12\x01e\x18\x01\x22\x01I\x2a\x01O\x32\x01E\x3a\x06" + ANY,
        'id: "i" exec_id: "e" terminal: true stdin: "I" stdout: "O" stderr: "E" spec { type_url: "t" value: "v" }',
    ),
    (
        task_pb2.ResizePtyRequest,
        b"\x0a\x01i\x12\x01e\x18\x50\x20\x18",
        'id: "i" exec_id: "e" width: 80 height: 24',
    ),
    (task_pb2.CloseIORequest, b"\x0a\x01i\x12\x01e\x18\x01", 'id: "i" exec_id: "e" stdin: true'),
    (
        task_pb2.UpdateTaskRequest,
        b"\x0a\x01i\x12\x06" + ANY + b"\x1a\x06\x0a\x01k\x12\x01v",
        'id: "i" resources { type_url: "t" value: "v" } annotations { key: "k" value: "v" }',
    ),
    (
        task_pb2.CheckpointTaskRequest,
        b"\x0a\x01i\x12\x01p\x1a\x06" + ANY,
        'id: "i" path: "p" options { type_url: "t" value: "v" }',
    ),
    (task_pb2.WaitResponse, b"\x08\x01\x12\x04" + STAMP, "exit_status: 1 exited_at { seconds: 7 nanos: 8 }"),
    (task_pb2.ConnectResponse, b"\x08\x01\x10\x02\x1a\x01v", 'shim_pid: 1 task_pid: 2 version: "v"'),
    (task_pb2.ShutdownRequest, b"\x0a\x01i\x10\x01", 'id: "i" now: true'),
    (
        events_pb2.TaskCreate,
        b"\x0a\x01i\x12\x01b\x1a\x03\x0a\x01t\x22\x0b\x0a\x01I\x12\x01O\x1a\x01E\x20\x01\x2a\x01c\x30\x09",
        'container_id: "i" bundle: "b" rootfs { type: "t" } '
        'io { stdin: "I" stdout: "O" stderr: "E" terminal: true } checkpoint: "c" pid: 9',
    ),
    (
        events_pb2.TaskExit,
        b"\x0a\x01i\x12\x01e\x18\x09\x20\x01\x2a\x04" + STAMP,
        'container_id: "i" id: "e" pid: 9 exit_status: 1 exited_at { seconds: 7 nanos: 8 }',
    ),
    (
        events_pb2.TaskDelete,
        b"\x0a\x01i\x10\x09\x18\x01\x22\x04" + STAMP + b"\x2a\x01e",
        'container_id: "i" pid: 9 exit_status: 1 exited_at { seconds: 7 nanos: 8 } id: "e"',
    ),
    (
        events_pb2.TaskExecStarted,
        b"\x0a\x01i\x12\x01e\x18\x09",
        'container_id: "i" exec_id: "e" pid: 9',
    ),
    (
        events_service_pb2.ForwardRequest,
        b"\x0a\x14\x0a\x04" + STAMP + b"\x12\x01n\x1a\x01/\x22\x06" + ANY,
        'envelope { timestamp { seconds: 7 nanos: 8 } namespace: "n" topic: "/" event { type_url: "t" value: "v" } }',
    ),
    (
        runc_options_pb2.Options,
        b"\x08\x01\x10\x01\x1a\x01c\x20\x05\x28\x06\x32\x01b\x3a\x01r\x42\x01p\x48\x01\x52\x01i\x5a\x01w"
        b"\x62\x01a\x68\x02",
        'no_pivot_root: true no_new_keyring: true shim_cgroup: "c" io_uid: 5 io_gid: 6 binary_name: "b" '
        'root: "r" criu_path: "p" systemd_cgroup: true criu_image_path: "i" criu_work_path: "w" '
        'task_api_address: "a" task_api_version: 2',
    ),
    (
        runc_options_pb2.CheckpointOptions,
        b"\x08\x01\x10\x01\x18\x01\x20\x01\x28\x01\x32\x01n\x3a\x01m\x42\x01i\x4a\x01w\x52\x01p",
        "exit: true open_tcp: true external_unix_sockets: true terminal: true file_locks: true "
        'empty_namespaces: "n" cgroups_mode: "m" image_path: "i" work_path: "w" parent_path: "p"',
    ),
    (
        runtimeoptions_pb2.Options,
        b"\x0a\x01t\x12\x01p\x1a\x01b",
        'type_url: "t" config_path: "p" config_body: "b"',
    ),
    (
        types_pb2.RuntimeInfo,
        b"\x0a\x01n\x12\x06\x0a\x01v\x12\x01r\x1a\x06" + ANY + b"\x22\x06" + ANY + b"\x2a\x06\x0a\x01k\x12\x01v",
        'name: "n" version { version: "v" revision: "r" } options { type_url: "t" value: "v" } '
        'features { type_url: "t" value: "v" } annotations { key: "k" value: "v" }',
    ),
    (
        bootstrap_pb2.BootstrapParams,
        b"\x0a\x01i\x12\x01n\x18\xf8\xff\xff\xff\xff\xff\xff\xff\xff\x01\x22\x01v\x2a\x01t\x32\x01g\x3a\x01b"
        b"\x42\x08\x0a\x06" + ANY + b"\x4a\x00",
        'instance_id: "i" namespace: "n" log_level: LOG_LEVEL_TRACE containerd_version: "v" '
        'containerd_ttrpc_address: "t" containerd_grpc_address: "g" containerd_binary: "b" '
        'extensions { value { type_url: "t" value: "v" } } socket_dir: ""',
    ),
    (
        bootstrap_pb2.BootstrapResult,
        b"\x08\x02\x12\x01a\x1a\x01p\x22\x01\x00\x2a\x06\x0a\x01k\x12\x01v",
        'version: 2 address: "a" protocol: "p" capabilities: CAPABILITY_UNSPECIFIED metadata { key: "k" value: "v" }',
    ),
    (
        cgroups_v1_pb2.Metrics,
        b"\x12\x02\x08\x03\x1a\x0b\x0a\x09\x08\x01\x10\x02\x18\x03\x22\x01\x04"
        b"\x22\x08\x80\x02\x05\x8a\x02\x02\x10\x06\x4a\x02\x18\x01",
        "pids { current: 3 } cpu { usage { total: 1 kernel: 2 user: 3 per_cpu: 4 } } "
        "memory { total_unevictable: 5 usage { usage: 6 } } memory_oom_control { oom_kill: 1 }",
    ),
    (
        cgroups_v2_pb2.Metrics,
        b"\x0a\x0d\x08\x03\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x12\x02\x08\x07"
        b"\x22\x09\x80\x02\x05\x88\x02\x06\xd0\x02\x07\x32\x06\x0a\x04\x08\x08\x18\x01\x42\x02\x28\x01",
        "pids { current: 3 limit: 18446744073709551615 } cpu { usage_usec: 7 } "
        "memory { usage: 5 usage_limit: 6 workingset_activate_file: 7 } "
        "io { usage { major: 8 rbytes: 1 } } memory_events { oom_kill: 1 }",
    ),
]


@pytest.mark.parametrize(("message", "wire", "text"), WIRE, ids=[m.DESCRIPTOR.full_name for m, _, _ in WIRE])
def test_hand_written_bytes_mean_these_fields(message: type[Message], wire: bytes, text: str) -> None:
    decoded = message.FromString(wire)
    assert " ".join(str(decoded).split()) == text
    assert decoded.SerializeToString(deterministic=True) == wire


@pytest.mark.parametrize(
    ("message", "full_name"),
    [
        (ttrpc_pb2.Request, "ttrpc.Request"),
        (status_pb2.Status, "google.rpc.Status"),
        (types_pb2.Mount, "containerd.types.Mount"),
        (types_pb2.RuntimeInfo, "containerd.types.RuntimeInfo"),
        (task_types_pb2.ProcessInfo, "containerd.v1.types.ProcessInfo"),
        (task_pb2.CreateTaskRequest, "containerd.task.v2.CreateTaskRequest"),
        (events_pb2.TaskOOM, "containerd.events.TaskOOM"),
        (events_service_pb2.Envelope, "containerd.services.events.ttrpc.v1.Envelope"),
        (runc_options_pb2.Options, "containerd.runc.v1.Options"),
        (runc_options_pb2.ProcessDetails, "containerd.runc.v1.ProcessDetails"),
        (runtimeoptions_pb2.Options, "runtimeoptions.v1.Options"),
        (bootstrap_pb2.BootstrapParams, "containerd.runtime.bootstrap.v1.BootstrapParams"),
        (cgroups_v1_pb2.Metrics, "io.containerd.cgroups.v1.Metrics"),
        (cgroups_v2_pb2.Metrics, "io.containerd.cgroups.v2.Metrics"),
    ],
)
def test_type_urls_are_the_bare_full_names(message: type[Message], full_name: str) -> None:
    assert message.DESCRIPTOR.full_name == full_name


@pytest.mark.parametrize("version", [2, 3])
def test_both_task_services_have_the_seventeen_methods_on_the_same_messages(version: int) -> None:
    module = task_pb2 if version == 2 else task_v3_pb2
    service = module.DESCRIPTOR.services_by_name["Task"]
    assert service.full_name == f"containerd.task.v{version}.Task"
    assert {m.name: (m.input_type.name, m.output_type.name) for m in service.methods} == METHODS
    assert {m.input_type.file.package for m in service.methods} == {"containerd.task.v2"}


def test_the_status_enum_has_containerds_numbers() -> None:
    assert dict(task_types_pb2.Status.items()) == {
        "UNKNOWN": 0,
        "CREATED": 1,
        "RUNNING": 2,
        "STOPPED": 3,
        "PAUSED": 4,
        "PAUSING": 5,
    }
