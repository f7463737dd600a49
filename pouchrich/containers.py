"""The node's rich containers as their bundles describe them: identity, plan, and the shim's notes."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pouchrich.output import clean
from runtime import bundle as bundles
from runtime import index, members, paths
from runtime.bundle import Bundle
from runtime.errors import InvalidArgument, NotFound, PouchrichError
from runtime.host import NESTED
from runtime.spec.cri import CONTAINER_NAME, IMAGE_NAME, SANDBOX_NAME, SANDBOX_NAMESPACE

if TYPE_CHECKING:
    from runtime.rich.plan import Plan

SHORT = 12
"""How many characters of an id are shown to people, as by docker and crictl."""
_LARGEST = 16 << 20


@dataclass(frozen=True, slots=True)
class Container:
    """One rich container. `namespace` and `id` are containerd's; `pod` is (namespace, name), None outside a pod.

    `state`, `agents` and `hooks` are the contents of the shim's files of these names in the bundle, empty without the
    file; `init_pid` is 0 without an init.
    """

    namespace: str
    id: str
    bundle: str
    made: Mapping[str, Any]
    """The plan as in the record; `plan` decodes it, which costs more than listing a container."""
    oci: Mapping[str, Any]
    init_pid: int = 0
    pod: tuple[str, str] | None = None
    name: str = ""
    image: str = ""
    state: Mapping[str, Any] = field(default_factory=dict)
    agents: tuple[Mapping[str, Any], ...] = ()
    hooks: tuple[Mapping[str, Any], ...] = ()
    cgroup_name: str = ""
    """The last part of the spec's cgroupsPath. The cgroup's path contains it with every cgroup driver.

    NAME/pouchrich where the shim has added a level because the host lacks nsdelegate (`runtime.init.cgroup`).
    """

    @property
    def restarts(self) -> int:
        """How often init has restarted the application in place."""
        found = self.state.get("restarts")
        return found if isinstance(found, int) else 0

    @property
    def plan(self) -> "Plan":
        """The container's plan. Raises InvalidArgument for a record of another version."""
        from runtime.rich.plan import Plan

        return Plan.from_dict(self.made)

    @property
    def mode(self) -> str:
        """The mode that the container got."""
        return str(self.made["mode"] or "")

    @property
    def has_own_init(self) -> bool:
        """Whether PID 1 is a real init from the image."""
        return self.made["boot"] is not None

    @property
    def init(self) -> str:
        """The kind of init that PID 1 is."""
        return str(self.made["boot"]["init"]) if self.has_own_init else self.mode

    @property
    def label(self) -> str:
        """The container as people name it: NAMESPACE/POD/CONTAINER, outside a pod NAMESPACE/ID."""
        return f"{self.pod[0]}/{self.pod[1]}/{self.name}" if self.pod is not None else f"{self.namespace}/{self.id}"


def _json(path: str) -> Any:
    """The JSON in a file, or None, for example because another process is about to write it."""
    with suppress(FileNotFoundError, NotADirectoryError, ValueError, RecursionError), open(path, "rb") as file:
        return json.loads(file.read(_LARGEST))
    return None


def _noted(bundle: str, name: str) -> list[Any]:
    """The list in `NAME.json`, or in its object under the key `NAME`."""
    found = _json(f"{bundle}/{name}.json")
    if isinstance(found, dict):
        found = found.get(name)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def annotations(bundle: str) -> dict[str, str]:
    """The annotations of the spec in a bundle, none if there is no spec (any more)."""
    spec = _json(Bundle(bundle).spec_file)
    found = spec.get("annotations") if isinstance(spec, dict) else None
    return found if isinstance(found, dict) else {}


def load(namespace: str, container_id: str, bundle: str) -> Container:
    """Read one container. Raises InvalidArgument for a record that is not ours, NotFound without one, OSError."""
    record = Bundle(bundle).load_record()
    if record is None:
        raise NotFound(f"{bundle}: no container: {bundles.RECORD} is not there")
    try:
        plan, oci = dict(record["plan"]), dict(record["oci"])
        _ = plan["mode"], plan["boot"] and plan["boot"]["init"]
    except (KeyError, TypeError, ValueError) as err:
        raise InvalidArgument(
            f"{bundle}/{bundles.RECORD}: found a record of another version, allowed one of this version"
        ) from err
    spec = _json(Bundle(bundle).spec_file) or {}
    about = spec.get("annotations") or {}
    cgroups_path = str((spec.get("linux") or {}).get("cgroupsPath") or "")
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
        _cgroup_name(cgroups_path),
    )


def _cgroup_name(cgroups_path: str) -> str:
    upper, _, last = cgroups_path.rpartition("/")
    if last == NESTED and upper:
        return f"{upper.rpartition('/')[2].rpartition(':')[2]}/{NESTED}"
    return last.rpartition(":")[2]


def _shared(one: str, other: str) -> int:
    """The length of the common prefix."""
    return next(
        (at for at, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), min(len(one), len(other))
    )


def _tell(text: str) -> None:
    sys.stderr.write(f"pouchrich: {clean(text)}\n")


def every(*, root: str = paths.BUNDLES, left_out: Callable[[str], object] = _tell) -> list[Container]:
    """All rich containers of the node, sorted by pod. Raises OSError; PermissionError for users other than root.

    Containers whose record cannot be read, for example of another version, are left out; `left_out` is called with
    each of them and the reason.
    """
    return _loaded(index.entries(root=root), left_out)


def _loaded(entries: Iterable["_Entry"], left_out: Callable[[str], object]) -> list[Container]:
    found = []
    for namespace, container_id, bundle in entries:
        try:
            found.append(load(namespace, container_id, bundle))
        except (NotFound, FileNotFoundError):
            continue
        except PouchrichError as err:
            left_out(f"container {container_id[:SHORT]} is left out: {err}")
    return sorted(found, key=lambda one: (one.label, one.namespace, one.id))


def short_ids(ids: Iterable[str]) -> dict[str, str]:
    """Id -> its beginning: SHORT characters, or as many more as distinguish it from all others."""
    ordered = sorted(set(ids))
    found = {}
    for before, one, after in zip(["", *ordered], ordered, [*ordered[1:], ""], strict=False):
        shared = max(_shared(one, before), _shared(one, after))
        found[one] = one[: max(SHORT, shared + 1)]
    return found


def one(wanted: str, *, root: str = paths.BUNDLES, plain: bool = False) -> Container:
    """The container that `wanted` names: ID or NAMESPACE/POD/CONTAINER as `pouchrich ps` shows it, or NAMESPACE/ID;
    or a unique beginning of one of these. With `plain` also a container that is not rich, if the shim has its bundle.

    Raises NotFound, InvalidArgument where several are meant.
    """
    there = list(index.entries(root=root))
    allowed = "a rich container of this node (pouchrich ps)" + (" or a plain one of which there is a plan" * plain)
    if plain:
        known = {entry[:2] for entry in there}
        there += [entry for entry in members.bundles() if entry[:2] not in known]
    # Mostly it is an id, for which no bundle need be opened.
    ids = {entry: (entry[1], f"{entry[0]}/{entry[1]}") for entry in there}
    found = _meant(wanted, ids)
    if not found and wanted:
        loaded = {(one.namespace, one.id, one.bundle): one for one in _loaded(there, _tell)}
        names = {entry: (one.label, one.label.partition("/")[2]) for entry, one in loaded.items()}
        found = _meant(wanted, names)
        if not found:
            from runtime.config.kinds import suggestion

            listed = [name for several in (*names.values(), *ids.values()) for name in several]
            hint = suggestion(wanted, listed)
            raise NotFound(f"ID: found {wanted!r}, allowed {allowed}{hint}")
    if not found:
        raise NotFound(f"ID: found {wanted!r}, allowed {allowed}")
    if len(found) > 1:
        several = ", ".join(f"{entry[0]}/{entry[1]}" for entry in found[:5])
        raise InvalidArgument(f"ID: found {wanted!r}, which means {len(found)} containers, allowed one of {several}")
    return load(*found[0])


_Entry = tuple[str, str, str]


def _meant(wanted: str, names: Mapping[_Entry, tuple[str, ...]]) -> list[_Entry]:
    """The entries with the name `wanted`, or else those with a name that begins so."""
    exact = [entry for entry, several in names.items() if wanted in several]
    return exact or [
        entry for entry, several in names.items() if wanted and any(name.startswith(wanted) for name in several)
    ]
