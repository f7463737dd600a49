"""What is kept of containers that have not ended as they should, when their bundles are gone: for `pouchrich logs` and
`inspect`.

A container has one file, GROUP:NAMESPACE:ID: a line with its head, an object of JSON, and then the end of its log
(`runtime.bundle_log`). It may hold text from the container. Its size is bounded, and so is the number of files: MOST on
the node, and MOST_OF_NAMESPACE of a Kubernetes namespace, GROUP, so that containers of one tenant that fail all the
time take the place of no others'. The files are below /run and gone after a reboot.
"""

import json
import os
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from runtime import bundle_log, directories, paths
from runtime.spec.cri import CONTAINER_NAME, IMAGE_NAME, SANDBOX_NAME, SANDBOX_NAMESPACE
from runtime.spec.tenant import tenant_of

MOST, MOST_OF_NAMESPACE = 64, 8
LOG_BYTES, HEAD_BYTES = 64 << 10, 96 << 10
_HOOKS_BYTES = 32 << 10
_MOST_TEXT = 512
"""The most characters of each other text in a head."""
_STALE_S = 60.0
_SCRATCH = ".new-"


class Ended(NamedTuple):
    """A container that has ended; `namespace` and `id` are containerd's.

    `head` has `pod` ([namespace, name] or null), `name`, `image`, `mode`, `init`, `reason`, why the container is kept,
    `at`, a time.time(), and `hooks`, as in hooks.json of a bundle.
    """

    namespace: str
    id: str
    path: str
    head: Mapping[str, Any]


def keep(
    namespace: str,
    container_id: str,
    bundle: str,
    *,
    annotations: Mapping[str, str],
    mode: str,
    init: str,
    reason: str,
    root: str = paths.ENDED,
) -> None:
    """Keep a container, whose `bundle` is still there, in place of an earlier one of its name. Raises OSError.

    `annotations` are its spec's, and `reason` says in words what was not as it should.
    """
    with suppress(FileExistsError):
        directories.make(root, mode=0o700)
    group = annotations.get(SANDBOX_NAMESPACE, "")
    whole = {
        "version": 1,
        "pod": [group, annotations[SANDBOX_NAME]] if SANDBOX_NAME in annotations else None,
        "name": annotations.get(CONTAINER_NAME, container_id),
        "image": annotations.get(IMAGE_NAME, ""),
        "mode": mode,
        "init": init,
        "reason": reason,
        "at": round(time.time(), 3),
        "hooks": _hooks(bundle),
    }
    data = json.dumps(_shortened(whole)).encode() + b"\n" + bundle_log.end(bundle, LOG_BYTES)
    scratch = f"{root}/{_SCRATCH}{os.getpid()}-{container_id}"
    try:
        fd = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with open(fd, "wb") as file:
            file.write(data)
        os.rename(scratch, f"{root}/{tenant_of(group)}:{namespace}:{container_id}")
    except BaseException:
        with suppress(OSError):
            os.unlink(scratch)
        raise
    _prune(root)


def _hooks(bundle: str) -> list[dict[str, Any]]:
    """The results of the hooks that have run; of too many or too long ones the last, without their output."""
    try:
        with open(f"{bundle}/hooks.json", "rb") as file:
            found = json.loads(file.read(16 << 20))["hooks"]
        hooks = [one for one in found if isinstance(one, dict)]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []
    if len(json.dumps(hooks)) > _HOOKS_BYTES:
        hooks = [{**one, "output": ""} for one in hooks]
    left = _HOOKS_BYTES
    for number, one in reversed(list(enumerate(hooks))):
        left -= len(json.dumps(one)) + 2
        if left < 0:
            return hooks[number + 1 :]
    return hooks


def _shortened(head: Mapping[str, Any]) -> dict[str, Any]:
    def short(value: Any) -> Any:
        return value[:_MOST_TEXT] if isinstance(value, str) else value

    return {
        key: [short(one) for one in value] if isinstance(value, list) else short(value) for key, value in head.items()
    }


def _prune(root: str) -> None:
    """Remove the oldest files beyond the limits, of the namespace that has the most of them first."""
    groups: dict[str, list[tuple[float, str]]] = defaultdict(list)
    now = time.time()
    with os.scandir(root) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                at = entry.stat(follow_symlinks=False).st_mtime
                if not entry.name.startswith(_SCRATCH):
                    groups[entry.name.partition(":")[0]].append((at, entry.path))
                elif now - at > _STALE_S:
                    os.unlink(entry.path)
    for group in groups.values():
        group.sort(reverse=True)
    count = sum(map(len, groups.values()))
    while groups:
        largest = max(groups.values(), key=lambda group: (len(group), -group[-1][0] if group else 0.0))
        if len(largest) <= MOST_OF_NAMESPACE and count <= MOST:
            return
        count -= 1
        with suppress(FileNotFoundError):
            os.unlink(largest.pop()[1])


def append(
    namespace: str, container_id: str, source: str, name: str, texts: Sequence[str], *, root: str = paths.ENDED
) -> None:
    """Add lines to the log of a container, if it is kept and has room for them. Never raises."""
    with suppress(OSError):
        for path in _paths(root):
            if path.endswith(f":{namespace}:{container_id}"):
                data = bundle_log.encoded(source, name, texts)
                fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
                try:
                    if os.fstat(fd).st_size + len(data) <= LOG_BYTES + HEAD_BYTES:
                        os.write(fd, data)
                finally:
                    os.close(fd)


def every(*, root: str = paths.ENDED) -> Iterator[Ended]:
    """The containers that are kept, the last one to end first. Raises OSError."""
    found = []
    for path in _paths(root):
        with suppress(FileNotFoundError), open(path, "rb") as file:
            try:
                head = json.loads(file.readline(HEAD_BYTES))
                if head["version"] == 1 and isinstance(head["at"], (int, float)) and isinstance(head["hooks"], list):
                    _, namespace, container_id = os.path.basename(path).split(":")
                    found.append(Ended(namespace, container_id, path, head))
            except (ValueError, KeyError, TypeError, RecursionError):
                continue
    yield from sorted(found, key=lambda one: -float(one.head["at"]))


def lines(one: Ended) -> Iterator[dict[str, Any]]:
    """The kept end of its log, as `bundle_log.read`. Raises OSError."""
    with open(one.path, "rb") as file:
        file.readline(HEAD_BYTES)
        yield from bundle_log.decoded(file)


def _paths(root: str) -> list[str]:
    try:
        names = sorted(os.listdir(root))
    except FileNotFoundError:
        return []
    return [f"{root}/{name}" for name in names if name.count(":") == 2 and not name.startswith(_SCRATCH)]
