"""Which containers share one pod server: those that name the same group in their annotations.

containerd's own shim reads the same two (cmd/containerd-shim-runc-v2/manager): what its client may set, and what the
CRI sets for each container of a pod, the sandbox's id.
"""

from runtime.spec.cri import SANDBOX_ID

GROUP_ANNOTATIONS = ("io.containerd.runc.v2.group", SANDBOX_ID)


def group_of(bundle: str) -> str:
    """The id that this container shares its pod server with, or "".

    Only a file that holds an annotation's name at all is parsed; most of a configuration is of no interest here.
    """
    with open(f"{bundle}/config.json", "rb", buffering=0) as file:
        text = file.readall()
    if not any(name.encode() in text for name in GROUP_ANNOTATIONS):
        return ""
    import json

    try:
        annotations = json.loads(text).get("annotations") or {}
        return next((str(annotations[name]) for name in GROUP_ANNOTATIONS if annotations.get(name)), "")
    except (ValueError, AttributeError, RecursionError) as err:
        raise ValueError(f"{bundle}/config.json: {err}") from err
