"""pouchrich metrics, served, and as an interpreter with few libraries has it."""

import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

ROOT = Path(__file__).parents[3]


def samples(families):
    return {(one.name, *sorted(one.labels.items())): one.value for family in families for one in family.samples}


def test_it_is_served_until_ended():
    words = [sys.executable, "-m", "pouchrich", "metrics", "--listen", "0"]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as serving:
        try:
            assert serving.stdout is not None
            url = serving.stdout.readline().removeprefix("serving ").strip()
            assert re.fullmatch(r"http://127\.0\.0\.1:\d+/metrics", url)
            request = urllib.request.Request(url, headers={"Accept": "application/openmetrics-text; version=1.0.0"})
            with urllib.request.urlopen(request, timeout=10) as answer:
                assert "openmetrics-text" in answer.headers["Content-Type"]
                assert ("pouchrich_pod_servers",) in samples(parse_openmetrics(answer.read().decode()))
            serving.terminate()
            assert serving.wait(10) == 0
        finally:
            serving.kill()


@pytest.mark.parametrize("verb", ["metrics", "support"])
def test_an_interpreter_without_tls_compression_and_wsgi_has_them_too(verb, tmp_path):
    """As a release's own is."""
    script = (
        "import sys\n"
        "for name in ('ssl', '_ssl', 'zlib', 'gzip', 'wsgiref', 'bz2', 'lzma'): sys.modules[name] = None\n"
        "from pouchrich.__main__ import main\n"
        f"sys.exit(main([{verb!r}, *sys.argv[1:]]))"
    )
    words = ["-o", str(tmp_path / "b.tar"), "--address", "/none"] if verb == "support" else []
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    ran = subprocess.run(
        [sys.executable, "-c", script, *words], capture_output=True, text=True, timeout=60, env=environment
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.endswith("# EOF\n") if verb == "metrics" else (tmp_path / "b.tar").stat().st_size
