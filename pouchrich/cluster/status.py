"""What is installed on the node, and whether its containerd uses it."""

from typing import Any

from pouchrich import running
from pouchrich.cluster import handling, hold, restart, trial
from pouchrich.node import InstallError, apparmor, uninstall
from pouchrich.node.layout import Layout
from shim.installed import replaced


def of(layout: Layout) -> dict[str, Any]:
    """The object that `pouchrich node status --json` prints. Raises InstallError, OSError."""
    current = layout.current()
    others = [path.rpartition("/")[2] for path in replaced.replaced(layout.home)] if current else []
    return {
        "version": 1,
        "home": layout.home,
        "installed": bool(current),
        "current": current,
        "previous": layout.previous(),
        "rejected": layout.rejected(),
        "others": others,
        "hold": hold.reason(),
        "containerd": _containerd(layout),
        "apparmor": apparmor.status(layout),
        "needed_by": list(uninstall.needing(layout)) if current else [],
    }


def _containerd(layout: Layout) -> dict[str, Any] | None:
    changed = handling.recorded(layout)
    if changed is None:
        return None
    one = restart.at(running.Running(changed.kind, changed.socket))
    found: dict[str, Any] = {
        "kind": changed.kind,
        "socket": changed.socket,
        "file": changed.path,
        "how": changed.how,
        "running": one is not None and bool(one.pid),
        "configured": False,
        "loaded": False,
        "problem": "" if one is not None else "no process listens there",
    }
    if one is not None and one.pid:
        try:
            found["configured"] = trial.has_handler(trial.dump(one))
            found["loaded"] = found["configured"] and not handling.owes_restart(layout, one)
        except InstallError as err:
            found["problem"] = str(err)
    elif one is not None:
        found["problem"] = one.problem
    return found


def is_ready(found: dict[str, Any]) -> bool:
    """Whether a version is installed and, if containerd was configured for it, containerd has read that."""
    containerd = found["containerd"]
    return found["installed"] and (containerd is None or containerd["loaded"])


def text(found: dict[str, Any]) -> str:
    """The same for people."""
    if not found["installed"]:
        lines = [f"no version is installed in {found['home']}"]
    else:
        lines = [f"installed   {found['current']} in {found['home']}"]
    for name, words in (
        ("previous", "the version that pouchrich node rollback restores"),
        ("rejected", "was rolled back"),
    ):
        if found[name]:
            lines.append(f"{name:<11} {found[name]}: {words}")
    if found["others"]:
        lines.append(f"others      {', '.join(found['others'])}: kept until nothing runs from them")
    if found["hold"]:
        lines.append(f"held        {found['hold']}")
    if (one := found["containerd"]) is None:
        lines.append("containerd  not configured by this program")
    else:
        state = (
            "has read the handler"
            if one["loaded"]
            else "has not read the handler: restart it"
            if one["configured"]
            else "does not have the handler"
        )
        lines.append(f"containerd  {one['kind']} at {one['socket']}: {one['problem'] or state}")
        lines.append(f"handler     {one['file']} ({one['how']})")
    lines.append(f"AppArmor    {apparmor.words(found['apparmor'])}")
    lines.append(f"needed by   {len(found['needed_by'])} pods and records of poststop hooks")
    return "".join(f"{line}\n" for line in lines)
