"""What containerd accepts as a namespace or an id (its `identifiers` package). Pure, and without `re` for `start`."""

from runtime.errors import InvalidArgument

MAX_LENGTH = 76
_ALPHANUMERIC = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_SEPARATORS = str.maketrans("._-", "...")


def check(kind: str, name: str) -> str:
    """Return `name` if it is a valid identifier, words of letters and digits joined by one of `._-`.

    Ids become file names, so this also keeps `..` and `/` out of paths. Raises InvalidArgument naming `kind`.
    """
    words = name.translate(_SEPARATORS).split(".")
    if len(name) > MAX_LENGTH or not all(word and _ALPHANUMERIC.issuperset(word) for word in words):
        raise InvalidArgument(
            f"{kind}: found {name[:100]!r}, allowed letters and digits, inside also . _ - one at a time, "
            f"at most {MAX_LENGTH} characters"
        )
    return name
