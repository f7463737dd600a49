"""A small SELinux policy with the part of a node's real policy that matters to containers. A container may access its
own files and processes, and of the host what OCI runtimes need, and nothing else (as in container-selinux).

Classes and permissions that no rule names are allowed, the host may do everything, and a container's categories keep it
from another container's files. The policy is in CIL, which secilc(8) compiles.
"""

from collections.abc import Iterator

CLASSES = {
    "process": "transition dyntransition signal sigkill sigstop signull sigchld ptrace getattr setexec setsockcreate",
    "fd": "use",
    "unix_stream_socket": "create bind connect connectto listen accept read write getattr setopt getopt shutdown",
    **dict.fromkeys(
        ("file", "dir", "lnk_file", "chr_file", "blk_file", "sock_file", "fifo_file"),
        "read write append open getattr setattr create link unlink rename execute execute_no_trans entrypoint map lock"
        " ioctl mounton relabelfrom relabelto search add_name remove_name reparent rmdir watch",
    ),
}
FILES = tuple(name for name, words in CLASSES.items() if "relabelto" in words)
# The kernel's initial SIDs, in its order (security/selinux/include/initial_sid_to_string.h).
INITIAL = (
    *("kernel", "security", "unlabeled", "fs", "file", "file_labels", "init", "any_socket", "port", "netif", "netmsg"),
    *("node", "igmp_packet", "icmp_socket", "tcp_socket", "sysctl_modprobe", "sysctl", "sysctl_fs", "sysctl_kernel"),
    *("sysctl_net", "sysctl_net_unix", "sysctl_vm", "sysctl_dev", "kmod", "policy", "scmp_packet", "devnull"),
)
HOST, CONTAINER = "host_t", "container_t"
FILE_TYPES = (
    *("host_file_t", "host_device_t", "kernel_file_t", "cgroup_t"),
    *("helper_t", "container_file_t", "container_ro_file_t"),
)
TYPES = (HOST, CONTAINER, *FILE_TYPES)
CATEGORIES = 1024
LOW, ALL = "((s0) (s0))", f"((s0) (s0 (range c0 c{CATEGORIES - 1})))"


def text() -> str:
    return "\n".join(_statements()) + "\n"


def _statements() -> Iterator[str]:
    yield "(handleunknown allow)(mls true)(policycap nnp_nosuid_transition)(policycap cgroup_seclabel)"
    for name, words in CLASSES.items():
        yield f"(class {name} ({' '.join(dict.fromkeys(words.split()))}))"
    yield f"(classorder (unordered {' '.join(CLASSES)}))"
    categories = [f"c{number}" for number in range(CATEGORIES)]
    yield "".join(f"(category {name})" for name in categories) + f"(categoryorder ({' '.join(categories)}))"
    yield f"(sensitivity s0)(sensitivityorder (s0))(sensitivitycategory s0 (range c0 c{CATEGORIES - 1}))"
    yield "(role system_r)(role object_r)(user system_u)(userrole system_u system_r)(userrole system_u object_r)"
    yield f"(userlevel system_u (s0))(userrange system_u {ALL})"
    for name in TYPES:
        yield f"(type {name})(roletype object_r {name})(roletype system_r {name})"
    for name in INITIAL:
        context = {"kernel": _process(HOST), "devnull": _file("host_device_t")}.get(name, _file("host_file_t"))
        yield f"(sid {name})(sidcontext {name} {context})"
    yield f"(sidorder ({' '.join(INITIAL)}))"
    yield from _file_systems()
    yield from _rules()


def _process(name: str) -> str:
    return f"(system_u system_r {name} {LOW})"


def _file(name: str) -> str:
    return f"(system_u object_r {name} {LOW})"


def _file_systems() -> Iterator[str]:
    for name in ("ext4", "overlay"):
        yield f"(fsuse xattr {name} {_file('host_file_t')})"
    for name in ("tmpfs", "devpts", "mqueue", "hugetlbfs", "shm"):
        yield f"(fsuse trans {name} {_file('host_file_t')})"
    yield f"(fsuse trans devtmpfs {_file('host_device_t')})"
    for name in ("pipefs", "sockfs"):
        yield f"(fsuse task {name} {_file('host_file_t')})"
    for name in ("proc", "sysfs", "nsfs", "bpf", "securityfs", "selinuxfs", "anon_inodefs", "rootfs"):
        yield f"(genfscon {name} / {_file('kernel_file_t')})"
    yield f"(genfscon cgroup2 / {_file('cgroup_t')})"


def _rules() -> Iterator[str]:
    for name in TYPES:
        for kind in CLASSES:
            yield f"(allow {HOST} {name} ({kind} (all)))"
    for kind in CLASSES:
        yield f"(allow {CONTAINER} {CONTAINER} ({kind} (all)))"
    for kind in FILES:
        for name in ("container_file_t", "kernel_file_t", "cgroup_t"):
            yield f"(allow {CONTAINER} {name} ({kind} (all)))"
    # New files on a file system without its own labels, such as the kernel's for memfd_create(2).
    yield f"(typetransition {CONTAINER} host_file_t file container_file_t)"
    # From the host: inherited descriptors and pipes, devices such as /dev/null, programs labelled for containers.
    yield f"(allow {CONTAINER} {HOST} (fd (use)))(allow {CONTAINER} {HOST} (process (sigchld)))"
    yield f"(allow {CONTAINER} {HOST} (fifo_file (read write append getattr ioctl)))"
    yield f"(allow {CONTAINER} {HOST} (unix_stream_socket (read write getattr getopt setopt shutdown)))"
    yield f"(allow {CONTAINER} host_device_t (chr_file (read write append open getattr ioctl)))"
    for name in ("helper_t", "container_ro_file_t"):
        yield f"(allow {CONTAINER} {name} (file (read open getattr map execute execute_no_trans entrypoint)))"
    for kind in ("file", "sock_file"):
        yield f"(mlsconstrain ({kind} (read write open)) (or (dom h1 h2) (eq t1 {HOST})))"
