"""Which containers share one pod server: those that name the same group in their annotations.

containerd's own shim reads the same two annotations (cmd/containerd-shim-runc-v2/manager): one that a client of
containerd may set, and one that the CRI plugin sets for each container of a pod, to the sandbox's id.
"""

from runtime.spec.cri import SANDBOX_ID

GROUP_ANNOTATIONS = ("io.containerd.runc.v2.group", SANDBOX_ID)


def group_of(bundle: str) -> str:
    """The group whose pod server this container shares, or "".

    config.json is parsed only if it contains the name of one of the annotations.
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
