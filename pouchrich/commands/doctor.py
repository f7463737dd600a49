"""`pouchrich doctor`: check whether this node can run rich containers, and say what to do if it cannot.

Each check is one line: `ok`, `warn` (works with restrictions) or `fail`, what was checked, and what was found. Below a
warning or failure is what to do about it. The last line counts the checks of each level. --quiet prints only warnings,
failures and, if there are any, the last line. The exit status is 1 if a check fails. Some checks need root.

With --config, doctor checks that file in place of the node's, and with --any-owner also a file that is not in
place yet: its owner does not matter then.

doctor finds running containerds by their sockets, also those of k3s, rke2, k0s and microk8s, and asks the program of
each one for its version and configuration. --address names another socket instead. With --containerd-config, doctor
checks that file instead, for the containerd on PATH.

`--json` prints all checks, also with --quiet:

    {"version": 1, "healthy": false if a check fails, else true, "summary": {"ok", "warn", "fail": numbers of checks},
     "checks": [{"area": kernel | cgroups | apparmor | inotify | runtime | installation | configuration | containerd |
                 spawner | containers | hooks | engines,
                 "level": ok | warn | fail, "what", "found", "advice": what to do, or ""}]}
"""

import argparse
import itertools
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from pouchrich import apparmor_node, checks, containerd_checks, engines_node, node_agents, node_files, older, running
from pouchrich.checks import FAIL, OK, WARN, Check
from pouchrich.config_file import ANY_OWNER, given
from pouchrich.output import Block, Line, Span, heading, line, show, show_json
from runtime import config, paths
from runtime.config import Config
from runtime.errors import PouchrichError

_STYLES = {OK: "good", WARN: "warn", FAIL: "bad"}
Found = Iterable[tuple[str, Check]]


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument(
        "--containerd-config",
        metavar="FILE",
        help="check this containerd configuration instead of the running containerds",
    )
    parser.add_argument("--address", metavar="SOCKET", help="containerd's socket, if it is not one of the usual ones")
    parser.add_argument("--config", metavar="FILE", help="node configuration to check instead of the node's own")
    parser.add_argument("--any-owner", action="store_true", help=ANY_OWNER)
    parser.add_argument("--quiet", "-q", action="store_true", help="print only warnings and failures")
    parser.add_argument("--json", action="store_true", help="print JSON for programs; the format is stable")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, *, records: str = paths.RECORDS) -> int:
    """Run the checks, and print them. Raises OSError."""
    judged = (arguments.config, arguments.containerd_config, arguments.address)
    found = list(collect(*judged, records, any_owner=arguments.any_owner))
    if arguments.json:
        show_json(to_json(found))
    else:
        shown = [(area, one) for area, one in found if one.level != OK] if arguments.quiet else found
        show([*document(shown), *([] if arguments.quiet and not shown else [summary(found)])])
    return 0 if is_healthy(found) else 1


def is_healthy(found: Found) -> bool:
    """Whether nothing fails."""
    return all(one.level != FAIL for _, one in found)


def to_json(found: Found) -> dict[str, Any]:
    """The JSON object that the module's docstring describes."""
    listed = [{"area": area, **asdict(one)} for area, one in found]
    return {"version": 1, "healthy": is_healthy(found), "summary": _counts(found), "checks": listed}


def _counts(found: Found) -> dict[str, int]:
    return {level: sum(one.level == level for _, one in found) for level in (OK, WARN, FAIL)}


def summary(found: Found) -> Line:
    """The last line: how many checks there are of each level, and the verdict."""
    counts = _counts(found)
    words = f"{counts[OK]} ok, {counts[WARN]} warnings, {counts[FAIL]} failed: "
    if counts[FAIL]:
        return line(Span(f"{words}the lines above say what to do", "bad"))
    if counts[WARN]:
        return line(Span(f"{words}rich containers work on this node, with restrictions", "warn"))
    return line(Span(f"{words}rich containers work on this node", "good"))


def document(found: Found) -> list[Block]:
    """The checks for people."""
    blocks: list[Block] = []
    area = ""
    for where, one in found:
        if where != area:
            blocks.append(heading(where))
            area = where
        blocks.append(line(Span(f"{one.level:<5}", _STYLES[one.level]), f"{one.what}: {one.found}", indent=2))
        if one.advice and one.level != OK:
            blocks.append(line(Span(f"-> {one.advice}", "dim"), indent=7))
    return blocks


def collect(
    config_file: str | None,
    containerd_file: str | None,
    address: str | None,
    records: str,
    root: str = paths.BUNDLES,
    *,
    any_owner: bool = False,
) -> Iterator[tuple[str, Check]]:
    """All checks, each with its area."""
    if os.geteuid() != 0:
        yield "kernel", Check(WARN, "user", f"uid {os.geteuid()}", "run as root: some checks need it")
    node, check = _node(config_file, any_owner=any_owner)
    here = [] if containerd_file is not None else containerd_checks.found(address)
    search = next((running.path_of(one.pid) for one in here if one.pid), None)
    areas: dict[str, Iterable[Check]] = {
        "kernel": checks.kernel(),
        "cgroups": checks.cgroups(),
        "apparmor": itertools.chain(apparmor_node.checks(), apparmor_node.named(node)),
        "inotify": checks.watching(),
        "runtime": checks.oci(node, search=search),
        "installation": checks.helpers(search=search, named=containerd_checks.named_shims(here)),
        "configuration": itertools.chain([check], _of_node(node, any_owner=any_owner)),
        "containerd": containerd_checks.of_node(containerd_file, here, address),
        "spawner": checks.spawner(node),
        "containers": checks.containers(root),
        "hooks": checks.hooks(records),
        "engines": engines_node.checks(),
    }
    for area, found in areas.items():
        try:
            for one in found:
                yield area, one
        except OSError as err:
            where = "" if err.filename is None else f"{err.filename}: "
            yield area, Check(FAIL, area, f"{where}{(err.strerror or str(err)).lower()}", "run as root")
        except PouchrichError as err:
            yield area, Check(FAIL, area, str(err), "")


def _of_node(node: Config, *, any_owner: bool) -> Iterator[Check]:
    if node is not config.DEFAULT:
        for refusal in older.refusals(node.source, any_owner=any_owner):
            yield Check(WARN, "node configuration", str(refusal), older.ADVICE)
    yield from node_agents.checks(node)
    yield from checks.leases(node)


def _node(file: str | None, *, any_owner: bool) -> tuple[Config, Check]:
    what = "node configuration"
    try:
        found = given(file, any_owner=any_owner)
        node_files.check_programs(found)
    except PouchrichError as err:
        return config.DEFAULT, Check(FAIL, what, str(err), "correct it; until then Create fails for every container")
    return found, Check(OK, what, "built in, there is no file" if found is config.DEFAULT else found.source)
