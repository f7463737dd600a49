"""What hack/ fetches of Debian's archive, which is not always there: that is told apart from a build that fails."""

import os
import subprocess

from tests.sources import ROOT

UNREACHABLE = 75
"""EX_TEMPFAIL of sysexits.h."""

FETCHING = f"""set -eu
fail() {{ echo "$*" >&2; exit 1; }}
work=$1
. {ROOT}/hack/own-apt.sh
fetch source -q hello
echo "not reached"
"""


def test_an_archive_that_cannot_be_asked_is_no_failed_build(tmp_path):
    (tmp_path / "packages").mkdir()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/apt-get").write_text("#!/bin/sh\necho no route\nexit 100\n")
    (tmp_path / "bin/apt-get").chmod(0o755)
    done = subprocess.run(
        ["sh", "-c", FETCHING, "sh", str(tmp_path)],
        env={"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    said = (done.returncode, done.stdout, done.stderr)
    assert said == (UNREACHABLE, "", "no route\napt-get source -q hello: failed\n")
