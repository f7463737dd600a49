"""The URLs of outputs that do not go to FIFOs: `file://`, `binary://`, `binary-v2://`."""

from urllib.parse import unquote, urlsplit


def path_of(url: str) -> str:
    """The URL's path, unescaped: characters that a URL may not have are percent-encoded in it (RFC 3986)."""
    return unquote(urlsplit(url).path, errors="surrogateescape")
