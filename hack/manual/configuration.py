"""pouchrich.toml(5): each key and each table, from runtime/config/schema.py."""

from hack.manual import roff
from runtime.config.render import default_of
from runtime.config.schema import KEYS, TABLES
from runtime.config.tables import REQUIRED, Key

DESCRIPTION = """
The node's configuration of containerd-shim-pouchrich-v2(8), in TOML. A containerd handler may name another file in its
options (ConfigPath), or contain the same keys in its options; either replaces this file entirely.

The shim reads the whole file when a container is created, and keeps the values for that container. A change applies to
containers that are created afterwards; nothing has to be reloaded. While the file has an error, the Create of every
container fails; the message has the file, the key, what was found and what is allowed. Root must own the file and the
directories above it, and nobody else may have write permission.

pouchrich config check FILE checks a file, pouchrich config show prints the configuration in force, pouchrich config
set-default changes a key, and pouchrich config default prints a file with every key as a comment.
"""
EXAMPLE = """
    version = 1

    [rich]
    mode = "auto"
    start-timeout = "90s"

    [[hooks.poststop]]
    name = "deregister"
    where = "host"
    command = ["/usr/local/sbin/deregister"]
    when = { namespace = ["legacy-*"] }
"""


def page() -> str:
    """The page's text."""
    lines = roff.title("pouchrich.toml", 5, "configuration of rich containers on a node")
    lines += [roff.heading("SYNOPSIS"), "/etc/pouchrich/config.toml"]
    lines += [roff.heading("DESCRIPTION"), *roff.text_of(DESCRIPTION), roff.heading("KEYS")]
    for key in KEYS:
        lines += _key(key)
    lines.append(roff.heading("TABLES"))
    for where, keys in TABLES.items():
        lines.append(roff.subheading(f"Keys of {where}"))
        for key in keys:
            lines += _key(key)
    lines += [roff.heading("EXAMPLE"), *roff.text_of(EXAMPLE)]
    lines += [roff.heading("SEE ALSO"), "pouchrich(1), containerd\\-shim\\-pouchrich\\-v2(8)"]
    return roff.page(lines)


def _key(key: Key) -> list[str]:
    default = "Required" if key.default is REQUIRED else f"Default: {default_of(key)}"
    return [
        *roff.item(key.name, f"{key.meaning}."),
        ".br",
        roff.escaped(f"{key.kind.type}: {key.kind.allowed}. {default}."),
    ]
