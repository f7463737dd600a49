"""The node's rich containers as their bundles tell of them: who they are, their plan, what the shim noted."""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from runtime import bundle as bundles
from runtime import index, paths
from runtime.bundle import Bundle
from runtime.errors import InvalidArgument, NotFound
from runtime.rich.plan import Plan
from runtime.spec.cri import CONTAINER_NAME, IMAGE_NAME, SANDBOX_NAME, SANDBOX_NAMESPACE

_LARGEST = 16 << 20


@dataclass(frozen=True, slots=True)
class Container:
    """One rich container. `namespace` and `id` are containerd's; `pod` is (namespace, name), None outside a pod.

    `state`, `agents` and `hooks` are what the shim left in the bundle in files of these names, empty where it did not;
    `init_pid` 0 where there is none.
    """

    namespace: str
    id: str
    bundle: str
    plan: Plan
    oci: Mapping[str, Any]
    init_pid: int = 0
    pod: tuple[str, str] | None = None
    name: str = ""
    image: str = ""
    state: Mapping[str, Any] = field(default_factory=dict)
    agents: tuple[Mapping[str, Any], ...] = ()
    hooks: tuple[Mapping[str, Any], ...] = ()

    @property
    def init(self) -> str:
        """What PID 1 is: the kind of init."""
        return self.plan.boot.init if self.plan.boot is not None else self.plan.mode or ""

    @property
    def label(self) -> str:
        """The container as people name it: NAMESPACE/POD/CONTAINER, outside a pod NAMESPACE/ID."""
        return f"{self.pod[0]}/{self.pod[1]}/{self.name}" if self.pod is not None else f"{self.namespace}/{self.id}"


def _json(path: str) -> Any:
    """What is in a file that another process may be about to write, or None."""
    with suppress(FileNotFoundError, ValueError, RecursionError), open(path, "rb") as file:
        return json.loads(file.read(_LARGEST))
    return None


def _noted(bundle: str, name: str) -> list[Any]:
    """The list in `NAME.json`: bare, or by that name in an object."""
    found = _json(f"{bundle}/{name}.json")
    if isinstance(found, dict):
        found = found.get(name)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def load(namespace: str, container_id: str, bundle: str) -> Container:
    """Read one. Raises InvalidArgument for a record that is none of ours, NotFound without one, OSError."""
    record = Bundle(bundle).load_record()
    if record is None:
        raise NotFound(f"{bundle}: no container: {bundles.RECORD} is not there")
    try:
        plan, oci = Plan.from_json(json.dumps(record["plan"])), dict(record["oci"])
    except (KeyError, TypeError, ValueError) as err:
        raise InvalidArgument(f"{bundle}/{bundles.RECORD}: found no {err}, allowed a record of this version") from err
    about = (_json(Bundle(bundle).spec_file) or {}).get("annotations") or {}
    state = _json(f"{bundle}/state.json")
    state = state if isinstance(state, dict) else {}
    init = state.get("init") or 0
    if not init:
        with suppress(OSError, ValueError):
            init = bundles.read_pid(Bundle(bundle).init_pid_file)
    return Container(
        namespace,
        container_id,
        bundle,
        plan,
        oci,
        init,
        (about.get(SANDBOX_NAMESPACE, ""), about[SANDBOX_NAME]) if SANDBOX_NAME in about else None,
        about.get(CONTAINER_NAME, container_id),
        about.get(IMAGE_NAME, ""),
        state,
        tuple(_noted(bundle, "agents")),
        tuple(_noted(bundle, "hooks")),
    )


def every(*, root: str = paths.BUNDLES) -> Iterator[Container]:
    """All of the node's, in the order of their names. Raises OSError, PermissionError to who is not root."""
    for namespace, container_id, bundle in index.entries(root=root):
        with suppress(NotFound, FileNotFoundError):
            yield load(namespace, container_id, bundle)


def one(wanted: str, *, root: str = paths.BUNDLES) -> Container:
    """The container that `wanted` means: ID, a beginning of it that no other has, or NAMESPACE/ID.

    Raises NotFound, InvalidArgument where several are meant.
    """
    namespace, _, named = wanted.rpartition("/")
    there = [entry for entry in index.entries(root=root) if namespace in ("", entry[0])]
    exact = [entry for entry in there if entry[1] == named]
    found = exact or [entry for entry in there if named and entry[1].startswith(named)]
    if not found:
        raise NotFound(f"ID: found {wanted!r}, allowed a rich container of this node (pouchrich ps)")
    if len(found) > 1:
        names = ", ".join(f"{entry[0]}/{entry[1]}" for entry in found[:5])
        raise InvalidArgument(f"ID: found {wanted!r}, which means {len(found)} containers, allowed one of {names}")
    return load(*found[0])
