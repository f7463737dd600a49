"""The tenants among which a node divides what is scarce: Kubernetes namespaces, as words fit for a file name."""

import re

_NAMESPACE = re.compile(r"[a-z0-9-]{1,63}", re.ASCII)  # a DNS label (RFC 1123), as the API server requires


def tenant_of(namespace: str) -> str:
    """`namespace` if it can be a Kubernetes namespace, else "": whatever has another name shares one tenant."""
    return namespace if _NAMESPACE.fullmatch(namespace) else ""
