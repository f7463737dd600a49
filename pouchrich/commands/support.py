"""`pouchrich support`: write what is worth knowing about this node to one file, for attaching to an issue.

The file is a tar archive with mode 0600; an existing file is not overwritten. It has doctor's checks, versions, the
node's configuration, the configuration that containerd dumps, each rich container's plan, state and log, the logs that
are kept of containers that failed, and the records of owed hooks. If a part cannot be collected, an entry NAME.error
has the reason.

Names are replaced by placeholders, with --names they stay. Variables, annotations, the arguments of commands, IP
addresses, and what looks like a secret are removed in any case. Read the file before you attach it.

`--json` prints

    {"version": 1, "file": absolute path, "entries": [names in the archive], "redacted": whether names were replaced}
"""

import argparse
import io
import json
import os
import sys
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from importlib.util import find_spec
from typing import Any, Literal

import shim
from pouchrich import containers, owed, running
from pouchrich.commands import doctor, ps
from pouchrich.containers import annotations
from pouchrich.output import show_json
from pouchrich.private_keys import without_in_log
from pouchrich.redaction import Redaction
from pouchrich.seen import Part
from pouchrich.survey import Survey
from runtime import bundle_log, ended, index, paths
from runtime.config import load_node
from runtime.config.render import effective
from runtime.errors import PouchrichError
from runtime.spec.cri import CONTAINER_NAME, SANDBOX_NAME, SANDBOX_NAMESPACE

_NAMED_BY = {SANDBOX_NAME: "name", SANDBOX_NAMESPACE: "namespace", CONTAINER_NAME: "name"}
"""Annotations of containerd's CRI plugin that hold names -> the word that replaces the names."""

_MODE: Literal["w", "w:gz"] = "w:gz" if find_spec("zlib") else "w"
"""How to open the archive: uncompressed without zlib, which a release's own interpreter lacks."""


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument(
        "--output",
        "-o",
        metavar="FILE",
        help="file to write; default pouchrich-support-TIME.tar.gz, or .tar, in the working directory",
    )
    parser.add_argument("--names", action="store_true", help="keep the names of pods, containers and images")
    parser.add_argument("--address", metavar="SOCKET", help="containerd's socket, if it is not one of the usual ones")
    parser.add_argument("--json", action="store_true", help="print JSON for programs; the format is stable")
    parser.set_defaults(run=run)


def run(
    arguments: argparse.Namespace,
    *,
    root: str = paths.BUNDLES,
    records: str = paths.RECORDS,
    survey: Survey | None = None,
) -> int:
    """Write the archive. Raises OSError where the file cannot be written."""
    file = arguments.output or time.strftime(
        f"pouchrich-support-%Y%m%dT%H%M%SZ.tar{_MODE[1:].replace(':', '.')}", time.gmtime()
    )
    redaction = Redaction(names=arguments.names)
    _learn(redaction, root)
    entries = []
    fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with open(fd, "wb") as target, tarfile.open(fileobj=target, mode=_MODE) as archive:
        for name, found in _parts(redaction, arguments.address, root, records, survey or Survey()):
            data = _redacted(redaction, found).encode(errors="replace")
            about = tarfile.TarInfo(f"pouchrich-support/{name}")
            about.size, about.mode, about.mtime = len(data), 0o644, int(time.time())
            archive.addfile(about, io.BytesIO(data))
            entries.append(name)
    if arguments.json:
        show_json({"version": 1, "file": os.path.abspath(file), "entries": entries, "redacted": not arguments.names})
    else:
        kept = "without secrets, with names" if arguments.names else "without names and secrets"
        sys.stdout.write(f"{file}: {', '.join(entries)} ({kept}; look into it before you attach it)\n")
    return 0


def _learn(redaction: Redaction, root: str) -> None:
    """Have `redaction` replace the names of all containers beside the rich ones: doctor's texts have them."""
    with suppress(OSError):
        for directory in {os.path.dirname(bundle) for _, _, bundle in index.entries(root=root)}:
            for container_id in sorted(os.listdir(directory)):
                about = annotations(f"{directory}/{container_id}")
                for key, word in _NAMED_BY.items():
                    redaction.name(about.get(key, ""), word)


def _redacted(redaction: Redaction, found: Any) -> str:
    if isinstance(found, str):
        return redaction.text(found)
    return json.dumps(redaction.whole(found), indent=2, default=str) + "\n"


def _parts(
    redaction: Redaction, address: str | None, root: str, records: str, survey: Survey
) -> Iterator[tuple[str, Any]]:
    """Name and content, text or JSON, of each entry, still to be redacted except for the values of the configuration.

    Containers come first, so that their names are redacted later.
    """
    parts: dict[str, Callable[[], Any]] = {
        "containers.json": lambda: _containers(root, survey),
        "ended.json": _ended,
        "hooks.json": lambda: _owed(records),
        "versions.json": _versions,
        "doctor.json": lambda: doctor.to_json(list(doctor.collect(None, None, address, records, root))),
        "config.toml": lambda: effective(load_node(programs=False), shown=redaction.value),
        "containerd.txt": lambda: _containerd(address),
    }
    for name, part in parts.items():
        try:
            yield name, part()
        except (PouchrichError, OSError) as err:  # the error is a fact about the node too
            yield f"{name}.error", f"{err}\n"


def _plan(container: containers.Container) -> dict[str, Any]:
    try:
        plan = container.plan
    except PouchrichError as err:  # a record of another version
        return {"plan": str(err)}
    return {
        "decisions": [f"{each.key} = {each.value} ({each.source})" for each in plan.decisions],
        "warnings": list(plan.warnings),
        "steps": [each.name for each in plan.steps],
    }


def _part(part: Part) -> dict[str, Any]:
    """The JSON object of a part; only an agent's name is the node's, others are those of processes."""
    found = asdict(part)
    if part.role != "agent":
        found["comm"] = found.pop("name")
    return found


def _containers(root: str, survey: Survey) -> list[dict[str, Any]]:
    return [
        {
            **ps.container_json(one),
            "parts": [_part(part) for part in one.parts],
            **_plan(one.container),
            "hooks": [dict(each) for each in one.container.hooks],
            "agents": [dict(each) for each in one.container.agents],
            "log": _log(bundle_log.read(one.container.bundle)),
        }
        for one in survey.look(containers.every(root=root))
    ]


def _log(lines: Iterable[Mapping[str, Any]]) -> list[str]:
    listed = list(lines)
    texts = without_in_log((f"{each['source']} {each['name']}", each["text"]) for each in listed)
    return [f"{each['at']} {each['source']}: {text}" for each, text in zip(listed, texts, strict=True)]


def _ended() -> list[dict[str, Any]]:
    """What is kept of containers that have not ended as they should (`runtime.ended`)."""
    found = []
    for one in ended.every(root=paths.ENDED):
        pod = dict(zip(("namespace", "name"), one.head.get("pod") or (), strict=False)) or None
        with suppress(FileNotFoundError):  # others have taken its place meanwhile
            log = _log(ended.lines(one))
            found.append({"namespace": one.namespace, "id": one.id, **one.head, "pod": pod, "log": log})
    return found


def _owed(records: str) -> list[dict[str, Any]]:
    return [
        {
            "namespace": one.namespace,
            "id": one.id,
            "hooks": [hook._asdict() for hook in one.hooks],
            "is_held": bool(one.holder),
            "before_boot": one.before_boot,
        }
        for one in owed.read(records)
    ]


def _versions() -> dict[str, Any]:
    with open("/etc/os-release", encoding="utf-8") as file:
        system = [line.strip() for line in file if line.startswith(("ID=", "VERSION_ID=", "VARIANT_ID="))]
    about = os.uname()
    return {
        "pouchrich": shim.__version__,
        "python": sys.version,
        "kernel": f"{about.release} {about.version} {about.machine}",
        "system": system,
    }


def _containerd(address: str | None) -> str:
    sockets = running.SOCKETS if address is None else (("containerd", address),)
    return "\n".join(running.dump(one) for one in running.find(sockets)) or "none runs\n"
