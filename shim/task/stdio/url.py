"""The URLs of output that goes elsewhere than to FIFOs: `file://`, `binary://`, `binary-v2://`."""

from urllib.parse import unquote, urlsplit


def path_of(url: str) -> str:
    """Its path: what is no character of a URL is escaped there (RFC 3986), and a path may have any bytes."""
    return unquote(urlsplit(url).path, errors="surrogateescape")
