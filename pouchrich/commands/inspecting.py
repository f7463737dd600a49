"""`pouchrich inspect ID`: show everything known about one rich container: plan, processes, hooks, paths and cgroup.

ID is a container's ID or NAMESPACE/POD/CONTAINER as in `pouchrich ps`, or a unique beginning of either; or NAMESPACE/ID
with containerd's namespace. The command measures CPU use for half a second. The exit status is 1 if ID names no
container or several, or if this version cannot read the container's record.

`--json` prints the object that `pouchrich ps --json` has for the container (see `pouchrich help ps`), and in it also

    "version": 1, "decisions", "warnings", "steps": as in `pouchrich explain --json`,
    "runtime": {"path", "root"} of the OCI runtime, "exit_status_by": how the shim learns the application's exit status:
        pidfd | process connector | launcher stays as parent, "" for dumb-init or before the start,
    "paths": {"bundle", "spec", "record", "run"},
    "cgroup": {"unified": directory or "", "controllers": {name: directory}}, null if not known,
    "hooks": [{"stage": prestart | poststop, "name", "where": container | host, "owner": node | pod,
        "result": such as `exit status 0`, "seconds": number, "output": the end of its output}] of hooks that have run,
    "owed": [{"name", "owner": node | pod, "state": owed | started | done | skipped,
        "result": "" until done or skipped}] of poststop hooks,
    "agents": [{"name", "state": waiting | running | ended, "pid": 0 if none, "restarts": number, "since": seconds since
        1970, "status": the last exit status, null before the first}] of agents that the pod server runs

Of a container that has ended and whose log is kept (`pouchrich help logs`), the command shows why it is kept and the
hooks that have run. `--json` then prints

    {"version": 1, "namespace", "id", "pod", "name", "image", "mode", "init", "hooks", "owed": as above,
     "state": "ended", "ended_at": seconds since 1970, a number, "reason": why it is kept}
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pouchrich import containers, ended_containers, owed
from pouchrich.commands.explain import plan_steps
from pouchrich.commands.ps import SAMPLE_S, container_json, tree
from pouchrich.output import Block, Span, Table, heading, line, show, show_json, width_of
from pouchrich.seen import Seen
from pouchrich.survey import Survey
from runtime import paths, rundir
from runtime.bundle import RECORD, Bundle
from runtime.ended import Ended
from runtime.errors import NotFound


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument(
        "id", metavar="ID", help="a container's ID or name as in `pouchrich ps`, or a unique beginning of either"
    )
    parser.add_argument("--json", action="store_true", help="print JSON for programs; the format is stable")
    parser.set_defaults(run=run)


def run(
    arguments: argparse.Namespace,
    *,
    root: str = paths.BUNDLES,
    records: str = paths.RECORDS,
    survey: Survey | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Print the container. Raises PouchrichError, OSError."""
    try:
        container = containers.one(arguments.id, root=root)
    except NotFound:
        if (kept := ended_containers.find(arguments.id)) is None:
            raise
        return _show_ended(kept, _owed(kept, records), as_json=arguments.json)
    survey = survey or Survey()
    survey.look([container])
    sleep(SAMPLE_S)
    (seen,) = survey.look([container])
    found = to_json(seen, _owed(container, records))
    if arguments.json:
        show_json(found)
    else:
        show(_document(seen, found))
    return 0


def _owed(container: containers.Container | Ended, records: str) -> list[dict[str, str]]:
    return [
        hook._asdict()
        for record in owed.read(records)
        if (record.namespace, record.id) == (container.namespace, container.id)
        for hook in record.hooks
    ]


def _show_ended(kept: Ended, owed_hooks: list[dict[str, str]], *, as_json: bool) -> int:
    """Show a container that has ended."""
    head, pod = kept.head, kept.head.get("pod")
    hooks = [one for one in head["hooks"] if isinstance(one, dict)]
    found = {
        "version": 1,
        "namespace": kept.namespace,
        "id": kept.id,
        "pod": {"namespace": pod[0], "name": pod[1]} if pod else None,
        **{key: head.get(key, "") for key in ("name", "image", "mode", "init")},
        "state": "ended",
        "ended_at": head["at"],
        "reason": head.get("reason", ""),
        "hooks": hooks,
        "owed": owed_hooks,
    }
    if as_json:
        show_json(found)
        return 0
    facts = {**{key: str(found[key]) for key in ("id", "namespace", "image", "mode", "init")}}
    facts |= {"ended": ended_containers.ended_at(kept), "reason": str(found["reason"])}
    blocks: list[Block] = [heading(f"{ended_containers.label(kept)}, which has ended")]
    blocks += [line(f"{name}: ", value, indent=2) for name, value in facts.items() if value]
    show([*blocks, *_hook_tables(hooks, owed_hooks)])
    return 0


def to_json(seen: Seen, hooks_owed: list[dict[str, str]]) -> dict[str, Any]:
    """The JSON object that the module's docstring describes."""
    about = seen.container
    made = about.plan
    return {
        "version": 1,
        **container_json(seen),
        "decisions": [{"key": one.key, "value": one.value, "source": one.source} for one in made.decisions],
        "warnings": list(made.warnings),
        "steps": [{"name": one.name, "detail": one.detail} for one in made.steps],
        "runtime": {"path": about.oci.get("path", ""), "root": about.oci.get("root", "")},
        "exit_status_by": str(about.state.get("manner", "")),
        "paths": {
            "bundle": about.bundle,
            "spec": Bundle(about.bundle).spec_file,
            "record": os.path.join(about.bundle, RECORD),
            "run": rundir.path_of(about.namespace, about.id),
        },
        "cgroup": None if seen.cgroup is None else seen.cgroup.to_dict(),
        "hooks": [dict(one) for one in about.hooks],
        "owed": hooks_owed,
        "agents": [dict(one) for one in about.agents],
    }


def _document(seen: Seen, found: dict[str, Any]) -> list[Block]:
    about = seen.container
    blocks: list[Block] = [*tree([seen], width=width_of(sys.stdout))]
    blocks += [line(Span(f"! {one}", "warn")) for one in seen.problems]
    blocks.append(heading("Identity"))
    facts = {
        "id": about.id,
        "namespace": about.namespace,
        "image": about.image,
        "init": about.init,
        "OCI runtime": f"{found['runtime']['path']} --root {found['runtime']['root']}",
        "restarts in place": str(about.restarts or ""),
        "exit status by": found["exit_status_by"],
        **found["paths"],
    }
    cgroups = found["cgroup"] or {}
    if cgroups.get("unified"):
        facts["cgroup"] = cgroups["unified"]
    for name, directory in cgroups.get("controllers", {}).items():
        facts[f"cgroup {name}"] = directory
    blocks += [line(f"{name}: ", value, indent=2) for name, value in facts.items() if value]
    blocks.append(heading("Decisions"))
    blocks += [
        line(f"{one.key} = {one.value}", Span(f"  ({one.source})", "dim"), indent=2) for one in about.plan.decisions
    ]
    blocks += [line(Span("warning: ", "warn"), one) for one in about.plan.warnings]
    blocks += plan_steps(about.plan)
    return [*blocks, *_hook_tables(about.hooks, found["owed"])]


def _hook_tables(ran: Sequence[Any], owed_hooks: Sequence[Mapping[str, str]]) -> list[Block]:
    blocks: list[Block] = []
    if ran:
        head = ("STAGE", "NAME", "WHERE", "OWNER", "RESULT", "TIME")
        blocks += [heading("Hooks that ran"), Table(head, tuple(map(_ran, ran)), indent=2)]
    if owed_hooks:
        owing = tuple((one["name"], one["owner"], one["state"], one["result"]) for one in owed_hooks)
        blocks += [heading("Poststop hooks"), Table(("NAME", "OWNER", "STATE", "RESULT"), owing, indent=2)]
    return blocks


def _ran(hook: Any) -> tuple[str | Span, ...]:
    facts = (str(hook.get(key, "")) for key in ("stage", "name", "where", "owner"))
    return (*facts, _result(hook), f"{hook.get('seconds')}s")


def _result(hook: Any) -> Span:
    result = str(hook.get("result"))
    return Span(result, "good" if result == "exit status 0" else "bad")
