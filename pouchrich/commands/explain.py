"""`pouchrich explain`: show what the shim decides about a container, why, and what that changes.

Give BUNDLE, or a container's ID or name as in `pouchrich ps`; or --rootfs, with --spec or else for a usual container;
or only annotations, variables or names. For an existing container explain shows the plan that was stored at Create.
Otherwise, or with --replan, it decides anew with the shim's own code, which needs root only for files that only root
can read. Without an image it applies only the policy. The exit status is 1 if Create would be refused, and 2 if options
do not go together.

`--json` prints

    {"version": 1, "refused": the error, or null, "stored": true if the plan was read from the bundle,
     "policy_only": true if no image was examined, "config": its source, `kept in the bundle` if stored,
     "rich": true | false, null if refused, "mode": string, null if plain or refused,
     "init": the kind of PID 1, null if not known or not rich, "decisions": [{"key", "value", "source"}],
     "warnings": [...], "notes": [...], "steps": [{"name", "detail"}],
     "files": [{"name", "mode": octal digits, "text"}] of the container's run directory,
     "difference": [{"path", "before": null if added, "after": null if removed}] of config.json, null if not known,
     "hooks": {"prestart": [...], "poststop": [...]} in order, each {"name", "where": container | host,
     "owner": node | pod, "command": [...], "timeout_s": number, "on_failure": abort | continue, "user": or null,
     "mandatory": true | false}, "agents": [{"name", "command": [...], "restart": always | on-failure | no,
     "memory_bytes": number or null, "user": or null}], "routes": [{"to", "via"}]}

`difference` shows "..." for the former value of a variable. A stored plan's hooks, agents and routes are [].
"""

import argparse
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from pouchrich import containers, engines, usual_spec
from pouchrich.config_file import ANY_OWNER, given
from pouchrich.output import Block, Span, clean, heading, line, show, show_json
from pouchrich.planning import Explanation, Subject, explain, overlaid, spec_of, stored
from runtime import paths
from runtime.bundle import Bundle
from runtime.config.annotations import PREFIX
from runtime.config.model import Hook
from runtime.errors import InvalidArgument, PouchrichError
from runtime.rich.plan import Plan
from shim.task.rich.decide import root_of


class Usage(Exception):
    """Words of the command line that do not go together."""


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"found {text!r}, allowed KEY=VALUE")
    return name, value


def _annotation(text: str) -> tuple[str, str]:
    name, value = _pair(text)
    # A bare key would be taken for an annotation of somebody else's, in silence.
    if "/" not in name and "." not in name:
        raise argparse.ArgumentTypeError(f"found key {name!r}, allowed a whole one such as {PREFIX}{name}")
    return name, value


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument(
        "bundle", nargs="?", metavar="BUNDLE", help="a container's bundle, or its ID or name as in `pouchrich ps`"
    )
    parser.add_argument("--rootfs", metavar="DIR", help="root filesystem of an image")
    parser.add_argument("--spec", metavar="FILE", help="config.json, or the output of `ctr containers info ID`")
    for option, read, value, of in (
        ("--annotation", _annotation, "KEY=VALUE", "annotation of the pod"),
        ("--env", _pair, "NAME=VALUE", "variable of the container"),
    ):
        help_text = f"{of}; may be repeated"
        parser.add_argument(option, type=read, action="append", default=[], metavar=value, help=help_text)
    parser.add_argument("--container", metavar="NAME", help="the container's name in its pod")
    parser.add_argument("--image", metavar="NAME", help="the image's name, compared with `when`")
    parser.add_argument("--namespace", metavar="NAME", help="the pod's namespace, compared with `when`")
    parser.add_argument("--config", metavar="FILE", help="configuration to use instead of the node's")
    parser.add_argument("--any-owner", action="store_true", help=ANY_OWNER)
    parser.add_argument("--replan", action="store_true", help="decide again instead of showing the stored plan")
    parser.add_argument("--json", action="store_true", help="print JSON for programs; the format is stable")

    def checked(arguments: argparse.Namespace) -> int:
        try:
            return run(arguments)
        except Usage as err:
            parser.error(str(err))

    parser.set_defaults(run=checked)


def run(arguments: argparse.Namespace, *, root: str = paths.BUNDLES) -> int:
    """Explain, and print. Raises Usage, PouchrichError, OSError."""
    found, is_stored = _explanation(arguments, root)
    if arguments.json:
        show_json(to_json(found, is_stored=is_stored))
    else:
        show(document(found))
    return 1 if found.refused is not None else 0


def _explanation(arguments: argparse.Namespace, root: str) -> tuple[Explanation, bool]:
    cri = {key: value for key in ("container", "image", "namespace") if (value := getattr(arguments, key)) is not None}
    overlays = bool(arguments.annotation or arguments.env or cri)
    if arguments.bundle is not None:
        if not os.path.isdir(arguments.bundle):
            if arguments.bundle.startswith(("/", ".")):
                raise InvalidArgument(f"BUNDLE: found {arguments.bundle}, allowed a directory")
            arguments.bundle = containers.one(arguments.bundle, root=root, plain=True).bundle
        made = _stored(arguments.bundle)
        if made is not None and not arguments.replan:
            if overlays or arguments.spec or arguments.rootfs or arguments.config:
                raise Usage("the container exists, and its stored plan is shown: other options need --replan")
            return _with_engines(stored(made), arguments.bundle), True
        if made is not None and made.steps and arguments.spec is None:
            raise Usage(
                "--replan: the bundle's config.json is what the plan made of it; add --spec FILE with containerd's own:"
                f" ctr -n NAMESPACE containers info {os.path.basename(os.path.abspath(arguments.bundle))} > FILE"
            )
    elif not (arguments.rootfs or overlays) or (arguments.spec and not arguments.rootfs):
        raise Usage("allowed: BUNDLE, or --rootfs DIR, also with --spec FILE, or --annotation KEY=VALUE")
    config = given(arguments.config, any_owner=arguments.any_owner)
    subject = _subject(arguments)
    spec = overlaid(subject.spec, annotations=dict(arguments.annotation), env=dict(arguments.env), cri=cri)
    found = explain(Subject(spec, subject.root, subject.namespace, subject.id), config)
    more = []
    if arguments.bundle is None and arguments.spec is None and subject.root is not None:
        more += [f"without --spec, decided for {usual_spec.COMMAND} in a container as the kubelet usually asks for it"]
    if subject.root is not None and os.geteuid() != 0:
        more += ["not root: files of the image that only root can read were not examined"]
    return replace(found, notes=(*found.notes, *more)), False


def _with_engines(found: Explanation, bundle: str) -> Explanation:
    """Add what container engines in the image lack: config.json in the bundle is the spec that the OCI runtime got."""
    try:
        spec = Bundle(bundle).load_spec()
        more = engines.notes(spec, root_of(spec, bundle))
    except (OSError, PouchrichError):
        return found
    return replace(found, notes=(*found.notes, *more))


def _stored(bundle: str) -> Plan | None:
    record = Bundle(bundle).load_record()
    return None if record is None else Plan.from_dict(record.get("plan") or {})


def _subject(arguments: argparse.Namespace) -> Subject:
    if arguments.bundle is None and arguments.rootfs is None:
        return Subject({}, None)
    bundle = os.path.abspath(arguments.bundle or ".")
    if arguments.bundle is None and arguments.spec is None:
        spec = usual_spec.make()
    elif arguments.spec is None:
        spec = Bundle(bundle).load_spec()
    else:
        with open(arguments.spec, "rb") as file:
            spec = spec_of(file.read(), arguments.spec)
    root = arguments.rootfs or root_of(spec, bundle)
    os.listdir(root)  # an unreadable directory must not look like an empty image
    if arguments.bundle is None:
        return Subject(spec, root)
    # containerd's layout: .../NAMESPACE/ID
    return Subject(spec, root, os.path.basename(os.path.dirname(bundle)) or "default", os.path.basename(bundle))


def _hook_json(hook: Hook) -> dict[str, Any]:
    return {
        "name": hook.name,
        "where": hook.where,
        "owner": hook.owner,
        "command": hook.command,
        "timeout_s": hook.timeout_s,
        "on_failure": hook.on_failure,
        "user": hook.user,
        "mandatory": hook.mandatory,
    }


def to_json(found: Explanation, *, is_stored: bool) -> dict[str, Any]:
    """The JSON object that the module's docstring describes."""
    made = found.plan
    boot = made.boot if made is not None else None
    return {
        "version": 1,
        "refused": found.refused,
        "stored": is_stored,
        "policy_only": found.policy_only,
        "config": found.config_source,
        "rich": None if made is None else made.rich,
        "mode": found.mode,
        "init": _init(found),
        "decisions": [
            {"key": one.key, "value": one.value, "source": one.source} for one in (made.decisions if made else ())
        ],
        "warnings": list(made.warnings if made else ()),
        "notes": list(found.notes),
        "steps": [{"name": one.name, "detail": one.detail} for one in (made.steps if made else ())],
        "files": [
            {"name": one.name, "mode": f"{one.mode:04o}", "text": one.text} for one in (boot.files if boot else ())
        ],
        "difference": None
        if found.changes is None
        else [{"path": one.path, "before": one.before, "after": one.after} for one in found.changes],
        "hooks": {
            "prestart": [_hook_json(one) for one in found.hooks.prestart],
            "poststop": [_hook_json(one) for one in found.hooks.poststop],
        },
        "agents": [
            {
                "name": one.name,
                "command": one.command,
                "restart": one.restart,
                "memory_bytes": one.memory_bytes,
                "user": one.user,
            }
            for one in found.agents
        ],
        "routes": [{"to": one.to, "via": one.via} for one in found.routes],
    }


def _init(found: Explanation) -> str | None:
    made = found.plan
    if made is None or not made.rich or found.policy_only:
        return None
    return made.boot.init if made.boot is not None else made.mode


def document(found: Explanation) -> list[Block]:
    """The explanation for people."""
    made = found.plan
    if made is None:
        notes = [line(Span(f"note: {one}", "dim")) for one in found.notes]
        return [
            line(Span("refused: ", "bad"), found.refused or ""),
            line(f"configuration: {found.config_source}"),
            *notes,
        ]
    blocks: list[Block] = [heading(_title(found))]
    if made.decisions:
        blocks += [heading("Decisions")]
        blocks += [
            line(f"{one.key} = {one.value}", Span(f"  ({one.source})", "dim"), indent=2) for one in made.decisions
        ]
    blocks += [line(Span("warning: ", "warn"), one) for one in made.warnings]
    blocks += [line(Span(f"note: {one}", "dim")) for one in found.notes]
    blocks += [*plan_steps(made), *_files(made)]
    if found.changes:
        blocks += [heading("Changes of the spec")]
        for one in found.changes:
            blocks += [line(one.path, indent=2), *_values(one.before, "-", "bad"), *_values(one.after, "+", "good")]
    for stage, hooks in (("Prestart hooks", found.hooks.prestart), ("Poststop hooks", found.hooks.poststop)):
        blocks += _list(stage, (_hook_line(one) for one in hooks))
    blocks += _list("Agents", (f"{one.name}: {_words(one.command)} (restart {one.restart})" for one in found.agents))
    return blocks + _list("Routes", (f"{one.to} via {one.via}" for one in found.routes))


def plan_steps(made: Plan) -> list[Block]:
    """The steps of a plan."""
    return _list("Steps", (f"{one.name}: {one.detail}" for one in made.steps))


def _files(made: Plan) -> Iterable[Block]:
    for one in made.boot.files if made.boot is not None else ():
        yield heading(f"File {one.name}")
        yield from (line(text, indent=2) for text in one.text.splitlines())


def _title(found: Explanation) -> str:
    made = found.plan
    if made is None or not made.rich:
        return "plain container"
    init = f", init {made.boot.init}" if made.boot is not None else ""
    return f"rich container, mode {found.mode}{init}"


def _values(value: Any, sign: str, style: str) -> Iterable[Block]:
    if value is not None:
        yield line(Span(f"{sign} {json.dumps(value, ensure_ascii=False)}", style), indent=4)


def _list(title: str, texts: Iterable[str]) -> list[Block]:
    lines: list[Block] = [line(one, indent=2) for one in texts]
    return [heading(title), *lines] if lines else []


def _words(command: Sequence[str]) -> str:
    return " ".join(clean(one) if one and " " not in one else json.dumps(one) for one in command)


def _hook_line(hook: Hook) -> str:
    user = f", user {hook.user}" if hook.user else ""
    return f"{hook.name}: {_words(hook.command)} ({hook.where}, {hook.timeout_s:g}s, {hook.on_failure}{user})"
