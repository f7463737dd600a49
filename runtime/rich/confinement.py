"""The AppArmor profile of a rich container: the node's, in place of the one that containerd gives to who asks for none.

A profile that the pod names stays, and so does being unconfined: who may ask for that is decided before containerd is
asked (Kubernetes' Pod Security Standards). Pure.
"""

from collections.abc import Mapping
from typing import Any

from runtime.config.kinds import shown
from runtime.config.model import Config
from runtime.rich.policy import Decision
from runtime.spec import edit
from runtime.spec.edit import Edit, Spec, Step

DEFAULT = "cri-containerd.apparmor.d"
"""containerd's profile for who asks for none or for RuntimeDefault (internal/cri/server, defaultAppArmorProfile)."""

KEY = "rich.apparmor-profile"
_WHAT = "apparmor-profile"


def decide(spec: Spec, config: Config) -> tuple[str, tuple[Decision, ...]]:
    """The profile that replaces containerd's default, "" for none, and why; no decision where the node names none."""
    name = config.rich.apparmor_profile
    if name is None:
        return "", ()
    found = edit.table(spec, "process").get("apparmorProfile")
    if found == DEFAULT:
        return name, (Decision(_WHAT, name, config.source_of(KEY)),)
    if found:
        return "", (Decision(_WHAT, shown(found), f"the pod's own; {config.source_of(KEY)} replaces {DEFAULT} alone"),)
    return "", (Decision(_WHAT, "none", "the pod is unconfined, or AppArmor is not in force"),)


def steps(name: str) -> tuple[Step, ...]:
    """What PID 1 gets, and the container with it; nothing for ""."""
    if not name:
        return ()
    return (Step(_WHAT, f"{name}, in place of {DEFAULT}", Edit("with_process", {"apparmorProfile": name})),)


def of_process(process: Mapping[str, Any], name: str) -> dict[str, Any]:
    """An OCI process object of the container's, such as a client's for an exec, under the profile that it has now.

    Clients make them from the spec as containerd wrote it. With "" for `name` it is left as it is.
    """
    replaced = name and process.get("apparmorProfile") == DEFAULT
    return {**process, "apparmorProfile": name} if replaced else dict(process)


def of_spec(spec: Spec, name: str) -> dict[str, Any]:
    """The same of a whole spec, which hooks and agents are made from."""
    return {**spec, "process": of_process(edit.table(spec, "process"), name)} if name else dict(spec)
