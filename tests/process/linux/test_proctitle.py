"""The title is read back by another process, from /proc, as `ps` does."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
from runtime.linux import proctitle
print(proctitle.set_title(sys.argv[2].split(",")), flush=True)
sys.stdin.read()
"""


def titled(title: str) -> tuple[str, bytes, bytes]:
    """What set_title returned in a fresh process, then that process's cmdline and comm."""
    argv = [sys.executable, "-I", "-S", "-c", SCRIPT, str(ROOT), title]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        fits = child.stdout.readline().strip()
        proc = Path("/proc") / str(child.pid)
        result = fits, (proc / "cmdline").read_bytes(), (proc / "comm").read_bytes()
        child.communicate("")
    return result


def test_words_replace_the_command_line_and_the_rest_is_nul():
    fits, cmdline, comm = titled("/opt/bin/containerd-shim-pouchrich-v2,-namespace,k8s.io,-id,abc")
    assert fits == "True"
    assert cmdline.rstrip(b"\0") == b"\0".join(
        (b"/opt/bin/containerd-shim-pouchrich-v2", b"-namespace", b"k8s.io", b"-id", b"abc")
    )
    assert comm == b"containerd-shim\n"


def test_a_title_longer_than_the_area_is_cut_and_never_reaches_the_environment(tmp_path):
    script = tmp_path / "t.py"
    script.write_text(
        f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        "from runtime.linux import proctitle\n"
        "print(proctitle.set_title(['z' * 5000]))\n"
        "print(open('/proc/self/cmdline').read().count('z'))\n"
    )
    argv = [sys.executable, "-I", "-S", os.fspath(script)]
    output = subprocess.run(argv, capture_output=True, text=True, check=True, env={"A": "environment"}).stdout
    area = sum(len(word) + 1 for word in argv)
    assert output.split() == ["False", str(area - 1)]


def test_where_proc_does_not_say_where_the_words_are_only_the_name_changes():
    """An emulated process (qemu's user mode) has a /proc/self/stat of 44 fields."""
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import os; from runtime.linux import proctitle\n"
        "read = os.read; os.read = lambda fd, size: b' '.join(read(fd, size).split()[:44])\n"
        "print(proctitle.set_title(['/bin/words'])); os.read = read\n"
        "print(open('/proc/self/comm').read().strip(), open('/proc/self/cmdline').read().startswith(sys.executable))\n"
    )
    argv = [sys.executable, "-I", "-S", "-c", script, str(ROOT)]
    output = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    assert output.split() == ["False", "words", "True"]
