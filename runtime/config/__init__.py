"""The node configuration: `parse` a text, `load` a file, `DEFAULT` where there is neither.

`schema` is the one table of keys. Every key is validated when the text is read, and the result is a frozen `Config`
that needs no further check.
"""

from runtime.config.document import DEFAULT, parse
from runtime.config.file import check_host_commands, for_handler, host_commands, load, load_node
from runtime.config.location import NODE_FILE
from runtime.config.model import Config

__all__ = [
    "DEFAULT",
    "NODE_FILE",
    "Config",
    "check_host_commands",
    "for_handler",
    "host_commands",
    "load",
    "load_node",
    "parse",
]
