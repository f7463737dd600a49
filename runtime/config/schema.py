"""The one table of configuration keys: name, kind (type and allowed values), default, meaning.

The parser, the commented default file and the tables of docs/configuration.md are all made from `KEYS` and the tables
it refers to. Every default is written as in a file and read through its kind, so an invalid default cannot exist.
"""

from collections.abc import Callable, Mapping
from typing import Any

from runtime import paths
from runtime.config import kinds, model
from runtime.config.kinds import BOOLEAN, PATH, SWITCH, Kind
from runtime.config.tables import REQUIRED, Key, named
from runtime.config.values import (
    AGENT,
    AGENT_KEYS,
    BINARY,
    CAPABILITIES,
    DEFAULT_MASK,
    ENV_PLACES,
    MODES,
    MOUNT_KEYS,
    NAME,
    POD_KEYS,
    PROFILE,
    ROUTE,
    ROUTE_KEYS,
    STEERING,
    UNIT,
    WHEN_KEYS,
    globs,
    hook_keys,
    hooks,
)

KEYS: tuple[Key, ...] = (
    Key("version", kinds.integer(1, 1), REQUIRED, "version of this format"),
    Key(
        "runtime.binary",
        BINARY,
        None,
        "OCI runtime, by name or path",
        unset="crun where it works on this host, else runc",
    ),
    Key("runtime.root", PATH, paths.OCI_STATE, "directory of the OCI runtime's state"),
    Key(
        "runtime.systemd-cgroup",
        SWITCH,
        "auto",
        "whether the OCI runtime asks systemd for cgroups; auto: where runc's options say so, or systemd is PID 1 and"
        " cgroupsPath has its form",
    ),
    Key("rich.enabled", BOOLEAN, True, "whether containers are rich where nothing else decides"),
    Key("rich.mode", kinds.choice(*MODES), "dumb-init", "init of a rich container where nothing else decides"),
    Key(
        "rich.strict",
        BOOLEAN,
        False,
        "refuse a container whose image cannot serve the mode, instead of dumb-init",
    ),
    Key(
        "rich.ephemeral",
        globs("container names"),
        ["debugger-*"],
        "containers, by name, that get dumb-init unless a mode is asked for each itself: kubectl debug's",
    ),
    Key(
        "rich.pod-override",
        kinds.list_of(kinds.choice(*POD_KEYS), at_most=len(POD_KEYS), distinct=True),
        list(POD_KEYS),
        "what pods may set by annotation or variable",
    ),
    Key(
        "rich.root-init",
        kinds.choice("auto", "allow", "refuse"),
        "auto",
        "a root init in a pod of another user; auto: where node or handler chose the mode",
    ),
    Key(
        "rich.init-capabilities",
        Kind(
            "list of strings",
            "a list of capabilities such as CAP_SETUID",
            kinds.list_of(kinds.choice(*CAPABILITIES), at_most=41, distinct=True).read,
            plain=list,
        ),
        None,
        "PID 1's bounding set in modes systemd and sbin-init",
        unset="the pod's",
    ),
    Key(
        "rich.apparmor-profile",
        PROFILE,
        None,
        "AppArmor profile of rich containers whose pods name none; pouchrich node install loads one called pouchrich",
        unset="containerd's default",
    ),
    Key(
        "rich.runtime-annotations",
        kinds.list_of(STEERING, at_most=64),
        [],
        "annotations that steer the OCI runtime and are allowed in rich containers",
    ),
    Key(
        "rich.start-timeout",
        kinds.duration("1s", "1h"),
        "60s",
        "a boot without progress: no line on the console, no processor time",
    ),
    Key(
        "rich.start-timeout-max",
        kinds.duration("1s", "24h"),
        "5m",
        "any boot; the longer of the two holds. Neither counts waiting for its turn (kubelet's own limit does: 2m)",
    ),
    Key(
        "rich.boot-parallel",
        kinds.integer(1, 1000),
        None,
        "inits that boot at once on the node; others wait, first come, first served",
        unset="two for each processor",
    ),
    Key(
        "rich.inotify",
        kinds.choice("warn", "refuse"),
        "warn",
        "a systemd that would leave root without inotify instances for the node's daemons",
    ),
    Key("rich.stop-timeout", kinds.duration("0s", "1h"), "10s", "init's shutdown once the application ended"),
    Key(
        "rich.env-file",
        ENV_PLACES,
        True,
        "who has the pod's environment: profile (or true) login shells, pam what PAM opens sessions for, cron its jobs,"
        " units the init's services",
    ),
    Key("rich.env-exclude", globs("names of variables"), [], "variables that none of them has, such as secrets"),
    Key("rich.lxcfs", SWITCH, "auto", "lxcfs's files over /proc; auto: where lxcfs is alive"),
    Key(
        "rich.restart",
        kinds.choice("no", "on-failure"),
        "no",
        "on-failure: init restarts the application in place",
    ),
    Key(
        "rich.mask",
        kinds.list_of(UNIT, at_most=256, distinct=True),
        list(DEFAULT_MASK),
        "units masked in mode systemd",
    ),
    Key(
        "rich.cgroup",
        kinds.choice("pod", "delegate"),
        "pod",
        "delegate: in modes sbin-init and dumb-init too a container may make cgroups below its own, on cgroup v2 alone",
    ),
    Key(
        "rich.cgroup-descendants",
        kinds.integer(1, 1_000_000),
        1024,
        "cgroups that a container may create",
    ),
    Key("rich.cgroup-depth", kinds.integer(1, 64), 8, "depth of cgroups that a container may create"),
    Key(
        "rich.cgroup-v1",
        kinds.choice("allow", "refuse"),
        "refuse",
        "name=systemd of cgroup v1, where the kernel bounds nothing, for an image's systemd before 232",
    ),
    Key("hooks.prestart", hooks("prestart", "abort"), [], "run in order before init"),
    Key(
        "hooks.poststop",
        hooks("poststop", "continue"),
        [],
        "run in reverse order after the container's end",
    ),
    Key(
        "hooks.poststop-budget",
        kinds.duration("1s", "1h"),
        "30s",
        "the node's poststop hooks of a container, those on the host and those in it each for themselves",
    ),
    Key(
        "hooks.pod-timeout-max",
        kinds.duration("1s", "1h"),
        "60s",
        "longest timeout of a pod's own hook; its poststop hooks together: this, or poststop-budget if that is less",
    ),
    Key("agents", named(AGENT, "agent"), [], "programs run beside the application"),
    Key(
        "routes",
        kinds.list_of(ROUTE, at_most=256),
        [],
        "routes of the pod's network namespace",
    ),
    Key(
        "services.enable",
        kinds.list_of(NAME, at_most=64, distinct=True),
        [],
        "services of the image that must be up before the application starts",
    ),
    Key(
        "services.mandatory",
        kinds.list_of(NAME, at_most=64, distinct=True),
        [],
        "more of them, for systemd: without one Create or Start fails, and so does a pod that chooses a mode without",
    ),
    Key("spawner.enabled", BOOLEAN, True, "fork pod servers from one preloaded process of the node"),
    Key("spawner.idle-timeout", kinds.duration("1s", "24h"), "10m", "after which an idle spawner ends"),
)

SECTIONS: Mapping[str, Callable[..., Any]] = {
    "runtime": model.Runtime,
    "rich": model.Rich,
    "hooks": model.Hooks,
    "services": model.Services,
    "spawner": model.Spawner,
}

TABLES: Mapping[str, tuple[Key, ...]] = {
    "hooks.prestart[]": hook_keys("abort"),
    "hooks.poststop[]": hook_keys("continue"),
    "agents[]": AGENT_KEYS,
    "agents[].mounts[]": MOUNT_KEYS,
    "routes[]": ROUTE_KEYS,
    "when": WHEN_KEYS,
}
"""The keys of the inner tables, by where these stand; `when` is the same everywhere."""
