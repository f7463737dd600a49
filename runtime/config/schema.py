"""The one table of configuration keys: name, kind (type and allowed values), default, meaning.

The parser, the commented default file and the tables of docs/configuration.md are all made from `KEYS` and the tables
it refers to. Every default is written as in a file and read through its kind, so an invalid default cannot exist.
"""

from collections.abc import Callable, Mapping
from typing import Any

from runtime import paths
from runtime.config import kinds, model
from runtime.config.kinds import BOOLEAN, PATH, SWITCH, Kind
from runtime.config.tables import REQUIRED, Key, named_tables
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
    Key("version", kinds.integer(1, 1), REQUIRED, "version of this configuration format"),
    Key(
        "runtime.binary",
        BINARY,
        None,
        "OCI runtime, by name or path",
        unset="crun if it works on this host, else runc",
    ),
    Key("runtime.root", PATH, paths.OCI_STATE, "directory in which the OCI runtime keeps its state"),
    Key(
        "runtime.systemd-cgroup",
        SWITCH,
        "auto",
        "whether the OCI runtime has systemd create the cgroups; auto: if systemd is PID 1 and cgroupsPath has the form"
        " SLICE:PREFIX:NAME. SystemdCgroup = true in a handler's runc options overrides this key",
    ),
    Key("rich.enabled", BOOLEAN, True, "whether a container is rich if its pod does not say"),
    Key("rich.mode", kinds.choice(*MODES), "dumb-init", "mode of a rich container if its pod chooses none"),
    Key(
        "rich.strict",
        BOOLEAN,
        False,
        "whether Create fails if the mode that the pod, the handler or the node chose is not possible; false:"
        " the container gets dumb-init, unless the mode was chosen for this very container",
    ),
    Key(
        "rich.ephemeral",
        globs("container names"),
        ["debugger-*"],
        "names of debug containers, such as those of kubectl debug; they get dumb-init, unless a mode is chosen for"
        " that very container",
    ),
    Key(
        "rich.pod-override",
        kinds.list_of(kinds.choice(*POD_KEYS), at_most=len(POD_KEYS), distinct=True),
        list(POD_KEYS),
        "keys that pods may set, by annotation or by PouchContainer's variables",
    ),
    Key(
        "rich.root-init",
        kinds.choice("auto", "allow", "refuse"),
        "auto",
        "whether PID 1 may be root (modes systemd and sbin-init) in a container that runs as another user; auto: only"
        " if the node or the handler chose the mode",
    ),
    Key(
        "rich.init-capabilities",
        Kind(
            "list of strings",
            "a list of capabilities, such as CAP_SETUID",
            kinds.list_of(kinds.choice(*CAPABILITIES), at_most=41, distinct=True).read,
            plain=list,
        ),
        None,
        "capability bounding set of PID 1 in modes systemd and sbin-init",
        unset="the container's own",
    ),
    Key(
        "rich.apparmor-profile",
        PROFILE,
        None,
        "AppArmor profile of rich containers, in place of containerd's default; pouchrich node install loads one called"
        " pouchrich",
        unset="containerd's default profile",
    ),
    Key(
        "rich.runtime-annotations",
        kinds.list_of(STEERING, at_most=64),
        [],
        "annotations for the OCI runtime that rich containers may have",
    ),
    Key(
        "rich.start-timeout",
        kinds.duration("1s", "1h"),
        "60s",
        "time after which a boot fails if it makes no progress: no line on the console, and less than 1% of a CPU",
    ),
    Key(
        "rich.start-timeout-max",
        kinds.duration("1s", "24h"),
        "5m",
        "time after which any boot fails; start-timeout applies instead if it is longer. Neither counts the wait for a"
        " turn to boot, but the kubelet's own limit (2m) does",
    ),
    Key(
        "rich.boot-parallel",
        kinds.integer(1, 1000),
        None,
        "number of inits that boot at once on the node; others wait, and Kubernetes namespaces take turns",
        unset="two for each CPU",
    ),
    Key(
        "rich.inotify",
        kinds.choice("warn", "refuse"),
        "warn",
        "what happens to a container whose systemd would leave root too few inotify instances for the node's daemons",
    ),
    Key(
        "rich.stop-timeout",
        kinds.duration("0s", "1h"),
        "10s",
        "time that the init has to shut down after the application has ended",
    ),
    Key(
        "rich.env-file",
        ENV_PLACES,
        True,
        "what gets the pod's environment besides the application. profile (or true): login shells; pam: everything that"
        " PAM opens a session for; cron: cron jobs; units: the init's services",
    ),
    Key("rich.env-exclude", globs("names of variables"), [], "variables that env-file leaves out, such as secrets"),
    Key(
        "rich.lxcfs",
        SWITCH,
        "auto",
        "whether files of lxcfs replace those of /proc and /sys, if lxcfs is mounted and responds; auto: the same,"
        " without a warning if it is not mounted",
    ),
    Key(
        "rich.restart",
        kinds.choice("no", "on-failure"),
        "no",
        "on-failure: systemd restarts a failed application in place; other inits cannot",
    ),
    Key(
        "rich.mask",
        kinds.list_of(UNIT, at_most=256, distinct=True),
        list(DEFAULT_MASK),
        "units that are masked in mode systemd",
    ),
    Key(
        "rich.cgroup",
        kinds.choice("pod", "delegate"),
        "pod",
        "delegate: containers of modes sbin-init and dumb-init may also create cgroups below their own, as those of"
        " mode systemd always may; only on hosts with nothing but cgroup v2",
    ),
    Key(
        "rich.cgroup-descendants",
        kinds.integer(1, 1_000_000),
        1024,
        "number of cgroups that a container may create",
    ),
    Key("rich.cgroup-depth", kinds.integer(1, 64), 8, "how deep a container may nest the cgroups that it creates"),
    Key(
        "rich.cgroup-v1",
        kinds.choice("allow", "refuse"),
        "refuse",
        "whether a systemd before 232 gets its own directory in cgroup v1's name=systemd hierarchy, where the kernel"
        " limits nothing",
    ),
    Key("hooks.prestart", hooks("prestart", "abort"), [], "hooks that run before the init starts, in this order"),
    Key(
        "hooks.poststop",
        hooks("poststop", "continue"),
        [],
        "hooks that run after the container has ended, in reverse order",
    ),
    Key(
        "hooks.poststop-budget",
        kinds.duration("1s", "1h"),
        "30s",
        "total time for the node's poststop hooks on the host, for one container; its hooks in the container have"
        " the same time again",
    ),
    Key(
        "hooks.pod-timeout-max",
        kinds.duration("1s", "1h"),
        "60s",
        "longest timeout of a pod's own hook; the pod's poststop hooks have this time together, or poststop-budget if"
        " that is less",
    ),
    Key("agents", named_tables(AGENT, "agent"), [], "programs of the node that run beside the application"),
    Key(
        "routes",
        kinds.list_of(ROUTE, at_most=256),
        [],
        "routes that are set in the pod's network namespace",
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
        "further such services, which need systemd: without one of them Create or Start fails, also if the pod chose a"
        " mode without services; no effect if rich.mode is dumb-init and the container gets that mode",
    ),
    Key(
        "spawner.enabled",
        BOOLEAN,
        True,
        "whether pod servers are forked from one preloaded process of the node, the spawner",
    ),
    Key(
        "spawner.idle-timeout",
        kinds.duration("1s", "24h"),
        "10m",
        "time after which an idle spawner without pod servers ends",
    ),
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
