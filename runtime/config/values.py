"""The kinds of value that are specific to this project: modes, hooks, agents, routes, selections."""

from runtime.config import kinds, model
from runtime.config.kinds import BOOLEAN, ENV, PATH, PROGRAM, Kind, refuse
from runtime.config.tables import REQUIRED, Key, named_tables, table

MODES = ("systemd", "sbin-init", "dumb-init", "auto")
"""The modes that a pod, a handler or a node may ask for."""

POD_KEYS = ("rich", "mode", "init-script", "prestart", "poststop", "services", "stop-signal")
"""Every key that a pod's annotation may have (`pouchrich.io/KEY`), if `rich.pod-override` lists it."""

STEERING_PREFIXES = ("run.oci.", "org.criu.", "org.systemd.property.")
"""Annotations that crun and runc obey: handlers, checkpoint options, properties of the systemd scope."""

DEFAULT_MASK = (
    "console-getty.service",
    "getty@.service",
    "systemd-networkd.service",
    "systemd-networkd-wait-online.service",
    "NetworkManager.service",
    "systemd-resolved.service",
    "systemd-udevd.service",
    "systemd-udev-trigger.service",
    "systemd-modules-load.service",
    "systemd-binfmt.service",
    "systemd-firstboot.service",
    "systemd-timesyncd.service",
    "chrony.service",
    "chronyd.service",
    "ntp.service",
    "ntpd.service",
    "firewalld.service",
    "kdump.service",
    "auditd.service",
    "systemd-remount-fs.service",
    "systemd-sysctl.service",
    "systemd-tmpfiles-setup-dev-early.service",
    "systemd-tmpfiles-setup-dev.service",
    "systemd-hwdb-update.service",
    "systemd-journal-catalog-update.service",
    "ldconfig.service",
    "systemd-ask-password-console.path",
    "systemd-ask-password-wall.path",
    "fstrim.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
)
"""Distributions' units that in a container take a console or the network, wait for hardware, or have nothing to do.

In a privileged container they would act on the node: its devices' events, modules and sysctls.

What the OCI runtime has mounted and set up need not be set up again, caches belong to the image, and nobody types
passwords at boot: the two path units alone hold two inotify instances. Measured for Debian 12: 0.22 s of CPU time per
boot instead of 0.25, and 4 inotify instances instead of 6.
"""

_CAPABILITY_NAMES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE "
    "NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT "
    "SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE "
    "AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ "
    "PERFMON BPF CHECKPOINT_RESTORE"
)
CAPABILITIES = tuple(f"CAP_{name}" for name in _CAPABILITY_NAMES.split())
"""The capabilities of linux/capability.h, in the order of their numbers (0 to 40)."""

GLOB = kinds.text(r"[^\s]+", "a glob without whitespace")
NAME = kinds.text(kinds.NAME_PATTERN, f"a name matching {kinds.NAME_PATTERN}", f"names matching {kinds.NAME_PATTERN}")
USER = kinds.text(
    r"[A-Za-z0-9_][A-Za-z0-9_.-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?", "USER or UID, optionally followed by :GROUP or :GID"
)
_COMMAND_LIST = kinds.list_of(kinds.ARGUMENT, at_least=1, at_most=256)


def _read_command(value: object, key: str) -> tuple[str, ...]:
    words: tuple[str, ...] = _COMMAND_LIST.read(value, key)
    if not words[0]:
        refuse(f"{key}[0]", words[0], "a program's name or path")
    return words


COMMAND = Kind("list of strings", "a list of 1 to 256 strings, the program first", _read_command, plain=list)


def globs(what: str) -> Kind:
    """A list of globs for `what`, in fnmatch's syntax."""
    return Kind(
        "list of strings",
        f"a list of globs for {what}",
        kinds.list_of(GLOB, at_most=64).read,
        plain=list,
    )


_PLACES = ("profile", "pam", "units", "cron")
_PLACE_LIST = kinds.list_of(kinds.choice(*_PLACES), at_most=len(_PLACES), distinct=True)


def _read_places(value: object, key: str) -> tuple[str, ...]:
    if isinstance(value, bool):
        return _PLACES[:1] if value else ()
    if not isinstance(value, list):
        kinds.refuse(key, value, ENV_PLACES.allowed)
    found: tuple[str, ...] = _PLACE_LIST.read(value, key)
    return found


def _plain_places(value: tuple[str, ...]) -> object:
    return list(value) if value not in ((), _PLACES[:1]) else bool(value)


ENV_PLACES = Kind(
    "boolean or list of strings", f"true, false, {_PLACE_LIST.allowed}", _read_places, plain=_plain_places
)
"""The places that get the pod's environment; `true` is read as the first place."""

WHEN_KEYS = (
    Key("mode", kinds.list_of(kinds.choice(*MODES[:3]), at_most=3), [], "modes of containers"),
    Key("namespace", globs("namespaces"), [], "Kubernetes namespaces; outside a pod, containerd namespaces"),
    Key("image", globs("image names"), [], "names of images, as the CRI gives them"),
    Key("container", globs("container names"), [], "names of containers in their pods; outside a pod, container IDs"),
)
WHEN = table(WHEN_KEYS, model.When)

_TIMEOUT = kinds.duration("1s", "1h")


def hook_keys(on_failure: str) -> tuple[Key, ...]:
    """The keys of a hook; `on_failure` is the stage's default."""
    return (
        Key(
            "name",
            NAME,
            None,
            "name of the hook in errors and records",
            unset="the stage and a number, such as prestart-1",
        ),
        Key("where", kinds.choice("container", "host"), "container", "where the hook runs"),
        Key("command", COMMAND, REQUIRED, "program and its arguments; on the host the program is an absolute path"),
        Key("timeout", _TIMEOUT, "30s", "time after which the hook is killed, with everything that it started"),
        Key(
            "on-failure",
            kinds.choice("abort", "continue"),
            on_failure,
            "abort: if it fails, a prestart hook fails Start, and a poststop hook skips the later hooks of the same"
            " owner (node or pod)",
        ),
        Key("user", USER, None, "user that the hook runs as", unset="the container's user; root on the host"),
        Key("env", ENV, {}, "variables that are added to the hook's environment"),
        Key(
            "mandatory",
            BOOLEAN,
            False,
            "whether Create fails if the pod sets rich = false or the container has to stay plain",
        ),
        Key("when", WHEN, {}, "which containers the hook is for"),
    )


def _host_hooks_are_absolute(stage: str, hooks: Kind) -> Kind:
    def read(value: object, key: str) -> tuple[model.Hook, ...]:
        found: tuple[model.Hook, ...] = hooks.read(value, key)
        for index, hook in enumerate(found):
            if hook.where == "host":
                PROGRAM.read(hook.command[0], f"{key}[{index}].command[0]")
        return found

    return Kind(hooks.type, f"a list of {stage} hooks", read, plain=hooks.plain)


def hooks(stage: str, on_failure: str) -> Kind:
    return _host_hooks_are_absolute(stage, named_tables(table(hook_keys(on_failure), model.Hook), stage))


MOUNT_KEYS = (
    Key("source", PATH, REQUIRED, "path on the host"),
    Key("target", PATH, REQUIRED, "path in the container"),
    Key("read-only", BOOLEAN, True, "whether the mount is read-only"),
)

AGENT_NAME = kinds.text("[A-Za-z0-9@_.:-]{1,64}", f"a name of at most 64 characters matching {kinds.NAME_PATTERN}")


def _read_agents_command(value: object, key: str) -> tuple[str, ...]:
    words = _read_command(value, key)
    PROGRAM.read(words[0], f"{key}[0]")
    return words


AGENT_COMMAND = Kind(
    COMMAND.type, "a list of 1 to 256 strings, the first an absolute path", _read_agents_command, plain=list
)

AGENT_KEYS = (
    Key(
        "name",
        AGENT_NAME,
        None,
        "name of the agent, also of its unit under systemd",
        unset="agent and a number, such as agent-1",
    ),
    Key("command", AGENT_COMMAND, REQUIRED, "absolute path of the program in the container, and its arguments"),
    Key(
        "mounts",
        kinds.list_of(table(MOUNT_KEYS, model.AgentMount), at_most=64),
        [],
        "files and directories of the host that the agent needs",
    ),
    Key(
        "restart",
        kinds.choice("always", "on-failure", "no"),
        "always",
        "whether the agent is started again when it has ended",
    ),
    Key(
        "memory",
        kinds.size(1 << 20),
        None,
        "memory limit of the agent alone; needs cgroup v2",
        unset="only the pod's limit",
    ),
    Key("user", USER, None, "user that the agent runs as", unset="root of the container"),
    Key("env", ENV, {}, "the agent's environment, besides PATH and HOME"),
    Key(
        "mandatory",
        BOOLEAN,
        False,
        "whether Create fails if the pod sets rich = false or the container has to stay plain, and Start fails if the"
        " agent does not run",
    ),
    Key("when", WHEN, {}, "which containers the agent runs in"),
)


def _read_network(value: object, key: str) -> str:
    import ipaddress  # 8 ms, spent only on a node with routes

    if value == "default":
        return "default"
    if not isinstance(value, str) or "/" not in value:
        refuse(key, value, NETWORK.allowed)
    try:
        return str(ipaddress.ip_network(value))
    except ValueError:
        refuse(key, value, NETWORK.allowed)


NETWORK = Kind("string", 'a network without host bits, such as 10.1.0.0/16, or "default"', _read_network)


def _read_address(value: object, key: str) -> str:
    import ipaddress

    if not isinstance(value, str) or "%" in value:
        refuse(key, value, ADDRESS.allowed)
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        refuse(key, value, ADDRESS.allowed)


ADDRESS = Kind("string", "an IP address", _read_address)

ROUTE_KEYS = (
    Key("to", NETWORK, REQUIRED, "destination network"),
    Key("via", ADDRESS, REQUIRED, "gateway: an address of the same family as the destination"),
    Key("when", WHEN, {}, "which containers' pods get the route in their network namespace"),
)
_ROUTE = table(ROUTE_KEYS, model.Route)


def _read_route(value: object, key: str) -> model.Route:
    route: model.Route = _ROUTE.read(value, key)
    if route.to != "default" and (":" in route.to) != (":" in route.via):
        refuse(f"{key}.via", route.via, f"an address of the same family as {route.to}")
    return route


STEERING = kinds.text(
    "(" + "|".join(prefix.replace(".", r"\.") for prefix in STEERING_PREFIXES) + r")\S+",
    f"a glob that begins with {', '.join(STEERING_PREFIXES)}",
    f"globs that begin with {', '.join(STEERING_PREFIXES)}",
)
UNIT = kinds.text(r"[A-Za-z0-9@_.:\\-]+", "a unit's name", "unit names")
PROFILE = kinds.text(
    r"(?!unconfined$)[A-Za-z0-9_./@+-]{1,255}", "the name of an AppArmor profile, other than unconfined"
)
BINARY = kinds.text(r"[A-Za-z0-9_.+-]+|/\S+", "a program's name or an absolute path")


ROUTE = Kind("table", _ROUTE.allowed, _read_route, plain=_ROUTE.plain, plural=_ROUTE.plural)
AGENT = table(AGENT_KEYS, model.Agent)
