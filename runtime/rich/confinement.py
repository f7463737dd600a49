"""The AppArmor profile of a rich container: the node's profile replaces containerd's default profile.

A profile that the pod names is kept, and so is an unconfined container: who may ask for that is decided before
containerd is asked (Kubernetes' Pod Security Standards). Pure.
"""

from collections.abc import Mapping
from typing import Any

from runtime.config.kinds import short_json
from runtime.config.model import Config
from runtime.rich.policy import Decision
from runtime.spec import edit
from runtime.spec.edit import Edit, Spec, Step

DEFAULT = "cri-containerd.apparmor.d"
"""The profile that containerd gives a container that asks for no profile or for RuntimeDefault (internal/cri/server,
defaultAppArmorProfile)."""

KEY = "rich.apparmor-profile"
_WHAT = "apparmor-profile"


def decide(spec: Spec, config: Config) -> tuple[str, tuple[Decision, ...]]:
    """The profile that replaces containerd's default ("" for none), and why.

    There is no decision where the node names no profile.
    """
    name = config.rich.apparmor_profile
    if name is None:
        return "", ()
    found = edit.table(spec, "process").get("apparmorProfile")
    if found == DEFAULT:
        return name, (Decision(_WHAT, name, config.source_of(KEY)),)
    if found:
        return "", (
            Decision(_WHAT, short_json(found), f"the pod's own; {config.source_of(KEY)} replaces {DEFAULT} alone"),
        )
    return "", (Decision(_WHAT, "none", "the pod is unconfined, or AppArmor is not in force"),)


def steps(name: str) -> tuple[Step, ...]:
    """The step that gives PID 1, and so the whole container, the profile `name`; none for ""."""
    if not name:
        return ()
    return (Step(_WHAT, f"{name}, in place of {DEFAULT}", Edit("with_process", {"apparmorProfile": name})),)


def process_with_profile(process: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A copy of an OCI process object, such as a client's for an exec, with the container's current profile.

    Clients make these objects from the spec as containerd wrote it. With "" for `name` the copy is unchanged.
    """
    replaced = name and process.get("apparmorProfile") == DEFAULT
    return {**process, "apparmorProfile": name} if replaced else dict(process)


def spec_with_profile(spec: Spec, name: str) -> dict[str, Any]:
    """The same for a whole spec, from which hooks and agents are made."""
    return {**spec, "process": process_with_profile(edit.table(spec, "process"), name)} if name else dict(spec)
