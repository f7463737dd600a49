"""A root file system that has nothing but busybox, or a Debian's base system; no network, and a release in it."""

import hashlib
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

from runtime.linux import syscalls
from tests.integration import binaries

ROOT = Path(__file__).parents[2]
CONTAINERD = "2.1"
PATIENCE_S = 60.0
OUTSIDE = ("dev", "host", "proc", "run", "sys")
"""What is mounted there, or is another's."""

CHROOT = shutil.which("chroot", path="/usr/sbin:/usr/bin:/sbin:/bin")
_ENV = {"PATH": "/usr/local/bin:/bin:/host/bin"}
_CONTAINERD = """version = 3
root = "/run/c/root"
state = "/run/c/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime",
    "io.containerd.podsandbox.controller.v1.podsandbox", "io.containerd.nri.v1.nri", "io.containerd.internal.v1.opt"]

[grpc]
  address = "/run/c/c.sock"
"""


def artefact():
    """The newest release for this machine in dist/, or what POUCHRICH_RELEASE names; None where there is none."""
    if named := os.environ.get("POUCHRICH_RELEASE"):
        return Path(named)
    return newest_artefact({"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, ""))


def newest_artefact(architecture):
    """In dist/; None where there is none."""
    found = sorted(ROOT.glob(f"dist/pouchrich-*-linux-{architecture}.tar.zst"), key=lambda path: path.stat().st_mtime)
    return found[-1] if found else None


class BareRoot:
    """To be made by the only thread of a process that has its own mount namespace.

    `lower` is a directory that what is written goes on top of; without one there is busybox alone.
    """

    def __init__(self, directory, lower=None):
        self.path = directory
        self._containerd = None
        directory.mkdir()
        syscalls.unshare(syscalls.CLONE_NEWNET)
        if lower is None:
            syscalls.mount("tmpfs", str(directory), "tmpfs", 0, "mode=0755")
            (directory / "bin").mkdir()
            self._install_busybox(directory)
        else:
            self.overlay(lower, directory)
        for name in ("tmp", "run", "proc", "sys", "dev", "host/bin", "host/lib", "host/image/bin"):
            (directory / name).mkdir(parents=True, exist_ok=True)
        self._install_busybox(directory / "host/image")
        for name in ("proc", "sys"):
            syscalls.mount(f"/{name}", str(directory / name), None, syscalls.MS_BIND | syscalls.MS_REC, None)
        syscalls.mount("/dev", str(directory / "dev"), None, syscalls.MS_BIND | syscalls.MS_REC, None)
        syscalls.mount("tmpfs", str(directory / "run"), "tmpfs", 0, "mode=0755")

        self._share()

    def _install_busybox(self, root):
        shutil.copy("/bin/busybox", root / "bin/busybox")
        self.run("/bin/busybox", "--install", "-s", "/bin", root=root)

    def overlay(self, lower, target):
        """Mount `lower` at the directory `target`, with what is written to it in memory, beside it."""
        memory = target.with_name(f"{target.name}-memory")
        memory.mkdir()
        syscalls.mount("tmpfs", str(memory), "tmpfs", 0, "mode=0755")
        for name in ("up", "work"):
            (memory / name).mkdir()
        options = f"lowerdir={lower},upperdir={memory}/up,workdir={memory}/work"
        syscalls.mount("overlay", str(target), "overlay", 0, options)

    def _share(self):
        """Have libraries for containerd and an OCI runtime of the machine's, where nothing else in here finds them."""
        libraries = Path(os.path.realpath("/lib/x86_64-linux-gnu"))
        syscalls.mount(str(libraries), str(self.path / "host/lib"), None, syscalls.MS_BIND, None)
        crun = binaries.oci(CONTAINERD, "crun")
        fetched = crun.parents[1]
        there = self.path / str(fetched)[1:]
        there.mkdir(parents=True)
        syscalls.mount(str(fetched), str(there), None, syscalls.MS_BIND, None)
        (self.path / "host/bin/crun").symlink_to(crun)

    def unpack(self, release):
        """Unpack a release, by the machine's tar; the directory that it is in, as it is called in here."""
        subprocess.run(["tar", "-C", self.path / "tmp", "--zstd", "-xf", release], check=True)
        (found,) = (self.path / "tmp").glob("pouchrich-*")
        return f"/tmp/{found.name}"

    def another_version(self, unpacked, version):
        """Copy an unpacked release as one of another version; where that is."""
        source, copy = self.path / unpacked[1:], self.path / "tmp" / f"pouchrich-{version}"
        shutil.copytree(source, copy, symlinks=True)
        about = copy / "site/shim/__init__.py"
        about.write_text(re.sub('__version__ = ".*"', f'__version__ = "{version}"', about.read_text()))
        (compiled,) = (about.parent / "__pycache__").glob("__init__.*")
        compiled.unlink()
        sums = copy / "SHA256SUMS"
        lines = [line for line in sums.read_text().splitlines() if str(compiled.relative_to(copy)) not in line]
        digest = hashlib.sha256(about.read_bytes()).hexdigest()
        lines = [f"{digest}  {line[66:]}" if line.endswith("  site/shim/__init__.py") else line for line in lines]
        sums.write_text("".join(f"{line}\n" for line in lines))
        return f"/tmp/{copy.name}"

    def run(self, *words, root=None, stdin=None):
        """Run a program in here; its exit status, and what it printed."""
        with open(os.devnull) as null:
            done = subprocess.run(
                [CHROOT, str(root or self.path), *words],
                env=_ENV,
                stdin=stdin or null,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=PATIENCE_S,
                check=False,
            )
        return done.returncode, done.stdout

    def files(self):
        """All that is there, with kind, mode, owner and contents of files, but for OUTSIDE and what was unpacked."""
        found = {}
        for top in sorted(set(self.path.iterdir()) - {self.path / name for name in (*OUTSIDE, "tmp")}):
            for path in (top, *sorted(top.rglob("*"))):
                about = path.lstat()
                data = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else ""
                found[str(path.relative_to(self.path))] = (about.st_mode, about.st_uid, about.st_gid, data)
        return found

    def start_containerd(self):
        """Run a containerd in here, and wait until it answers."""
        for name in ("containerd", "ctr"):
            shutil.copy(binaries.containerd(CONTAINERD, name), self.path / "host" / name)
        if os.path.ismount(self.path / "sys/fs/cgroup/unified"):
            subprocess.run(["umount", self.path / "sys/fs/cgroup/unified"], check=True)  # crun refuses both
        (self.path / "run/c").mkdir()
        (self.path / "run/c/config.toml").write_text(_CONTAINERD)
        words = [*self._by_loader("containerd"), "--config", "/run/c/config.toml"]
        with open(self.path / "run/c/log", "wb") as log:
            self._containerd = subprocess.Popen([CHROOT, self.path, *words], env=_ENV, stdout=log, stderr=log)
        end = time.monotonic() + PATIENCE_S
        while self.ctr("version")[0]:
            assert time.monotonic() < end, (self.path / "run/c/log").read_text()
            assert self._containerd.poll() is None, (self.path / "run/c/log").read_text()
            time.sleep(0.05)

    def _by_loader(self, name):
        return ["/host/lib/ld-linux-x86-64.so.2", "--library-path", "/host/lib", f"/host/{name}"]

    def ctr(self, *words):
        """Run ctr; its exit status, and what it printed."""
        return self.run(*self._by_loader("ctr"), "--address", "/run/c/c.sock", *words)

    def close(self):
        """End containerd, with which its spawner ends."""
        if self._containerd is not None:
            self._containerd.terminate()
            self._containerd.wait(PATIENCE_S)
