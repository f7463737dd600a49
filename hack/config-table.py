#!/usr/bin/env python3
"""Print the configuration tables of docs/configuration.md, or bring a file's tables up to date.

hack/config-table.py                  print the tables
hack/config-table.py --write [FILE]   replace the text between FILE's markers (default docs/configuration.md)
hack/config-table.py --check [FILE]   exit status 1 if --write would change FILE
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from runtime.config.render import markdown_tables  # noqa: E402 (needs the path above)

BEGIN, END = "<!-- configuration: begin -->", "<!-- configuration: end -->"


def updated(text: str) -> str:
    """`text` with the tables between the markers made new. Raises ValueError without one pair of markers."""
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"found not exactly one {BEGIN} and one {END}")
    before, _, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"{END} stands before {BEGIN}")
    return f"{before}{BEGIN}\n{markdown_tables()}{END}{after}"


def main(arguments: list[str]) -> str | None:
    """None for success, else the message to fail with."""
    if not arguments:
        sys.stdout.write(markdown_tables())
        return None
    if arguments[0] not in ("--check", "--write") or len(arguments) > 2:
        return __doc__
    file = Path(arguments[1]) if len(arguments) == 2 else ROOT / "docs" / "configuration.md"
    try:
        old = file.read_text(encoding="utf-8")
        new = updated(old)
    except (OSError, ValueError) as err:
        return f"{file}: {err}"
    if arguments[0] == "--write":
        file.write_text(new, encoding="utf-8")
    elif new != old:
        return f"{file}: configuration tables are out of date, run hack/config-table.py --write"
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
