"""The used part of prometheus_client: families of metrics, their two formats, and serving them.

prometheus_client imports modules for TLS, compression and WSGI, which this command does not use and a release's own
interpreter lacks. Empty stand-ins for missing modules let the import succeed. http.server does the serving.
"""

import socket
import sys
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from types import ModuleType
from typing import Any

from runtime.errors import PouchrichError, text_of

_UNUSED = {
    "ssl": ("SSLContext", "TLSVersion", "PROTOCOL_TLS_SERVER", "PROTOCOL_TLS_CLIENT"),
    "gzip": (),
    "wsgiref": (),
    "wsgiref.simple_server": ("make_server", "WSGIRequestHandler", "WSGIServer"),
}


def _stand_in(name: str, members: tuple[str, ...]) -> None:
    try:
        import_module(name)
    except ImportError:
        module = ModuleType(name)
        for member in members:
            setattr(module, member, object)
        sys.modules[name] = module


for _name, _members in _UNUSED.items():
    _stand_in(_name, _members)
if not hasattr(urllib.request, "HTTPSHandler"):  # without TLS
    urllib.request.HTTPSHandler = urllib.request.HTTPHandler  # type: ignore[misc, assignment]

from prometheus_client import exposition  # noqa: E402
from prometheus_client.core import (  # noqa: E402
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.openmetrics import exposition as openmetrics_exposition  # noqa: E402
from prometheus_client.registry import Collector, CollectorRegistry  # noqa: E402

__all__ = [
    "Collector",
    "CollectorRegistry",
    "CounterMetricFamily",
    "GaugeMetricFamily",
    "HistogramMetricFamily",
    "Metric",
    "openmetrics",
    "server",
    "text_format",
]


def text_format(registry: CollectorRegistry) -> bytes:
    """Prometheus's text format, 0.0.4."""
    return exposition.generate_latest(registry)


def openmetrics(registry: CollectorRegistry) -> bytes:
    """The OpenMetrics text format."""
    data: bytes = openmetrics_exposition.generate_latest(registry)  # type: ignore[no-untyped-call]
    return data


def server(registry: CollectorRegistry, address: str, port: int) -> ThreadingHTTPServer:
    """A server of /metrics in the requested format, not serving yet. Raises OSError."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            if self.path.partition("?")[0] not in ("/", "/metrics"):
                self.send_error(404)
                return
            encode, content_type = exposition.choose_encoder(self.headers.get("Accept", ""))
            try:
                data = encode(registry)
            except (OSError, PouchrichError) as err:
                self.send_error(503, explain=text_of(err))
                return
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        daemon_threads = True

    return Server((address, port), Handler)
