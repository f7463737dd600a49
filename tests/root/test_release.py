"""A released artefact on a node that has nothing: installed, used by a containerd, upgraded, taken away.

hack/release.sh makes what is tested here; only the test marked `full` runs it.
"""

import fcntl
import os
import re
import resource
import shutil
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from runtime.linux import syscalls
from shim import __version__
from tests.integration import binaries
from tests.root import bare_root, rootfs_images
from tests.root.bare_root import ROOT, BareRoot

RUN = ("--rootfs", "--env", "PATH=/bin", "--runtime", "io.containerd.pouchrich.v2", "/host/image")
OF_ROOT = {"opt/pouchrich/.lock", f"opt/pouchrich/{__version__}/in-use"}
"""Readable by nobody else."""

INSTALLS = "/usr/lib/pouchrich/release/install --bin /usr/bin"
LIMIT = 25_000_000
INSTALL_S = 10.0
"""What an installation may take of processor time, without a network."""

pytestmark = [pytest.mark.integration, pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")]


@pytest.fixture
def release():
    found = bare_root.artefact()
    if found is None:
        pytest.skip("no release in dist/: hack/release.sh makes one")
    return found


@pytest.fixture
def on_bare_root(isolated, release, tmp_path):
    """Run a function with a bare root, and where in it the release is unpacked, in an isolated child."""

    def run(action, lower=None):
        def inside():
            syscalls.set_child_subreaper()
            bare = BareRoot(tmp_path / "bare", lower)
            try:
                action(bare, bare.unpack(release))
            finally:
                bare.close()

        isolated(inside)

    return run


def install(bare, unpacked, *words):
    status, said = bare.run(f"{unpacked}/install", *words)
    assert status == 0, said
    return said


def pouchrich(bare, *words):
    return bare.run("/usr/local/bin/pouchrich", *words)


@contextmanager
def owed_hooks(bare):
    """A record of poststop hooks of a container c1, which a process runs meanwhile: it has the record's lock."""
    record = bare.path / "var/lib/pouchrich/poststop/k8s.io/c1.jsonl"
    record.parent.mkdir(parents=True)
    with open(record, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
        record.unlink()


def test_it_works_where_there_is_nothing_and_leaves_nothing(on_bare_root):
    def check(bare, unpacked):
        before = bare.files()
        version = unpacked.rpartition("-")[2]
        subprocess.run(["chmod", "-R", "go=", bare.path / unpacked[1:]], check=True)
        status, said = bare.run("/bin/sh", "-c", f"umask 077; {unpacked}/install")
        assert (status, "pod_annotations" in said, "options]" in said) == (0, True, False), said
        status, said = bare.run("/usr/local/bin/containerd-shim-pouchrich-v2", "-v")
        assert (status, re.search(r"Version: +(\S+)\n +Python: +3\.13\.", said)[1]) == (0, version)
        assert pouchrich(bare, "version") == (0, f"{version}\n")
        status, said = pouchrich(bare, "doctor")
        assert f"ok   launch: /opt/pouchrich/{version}/site/runtime/libexec/launch" in said
        assert "ok   node configuration: /etc/pouchrich/config.toml" in said
        assert os.readlink(bare.path / "opt/pouchrich/current") == version
        assert not [name for name, about in bare.files().items() if about[0] & 0o004 == 0 and name not in OF_ROOT]

        installed = bare.files()
        install(bare, unpacked)
        assert bare.files() == installed
        config = bare.path / "etc/pouchrich/config.toml"
        config.write_text(config.read_text() + "# mine\n")
        assert "kept /etc/pouchrich/config.toml: it was changed" in install(bare, unpacked)
        config.write_text(config.read_text().removesuffix("# mine\n"))
        assert pouchrich(bare, "node", "uninstall") == (0, "uninstalled from /opt/pouchrich\n")
        assert bare.files() == before

    on_bare_root(check)


def test_below_a_prefix_it_touches_nothing_else(on_bare_root):
    def check(bare, unpacked):
        before = bare.files()
        install(bare, unpacked, "--prefix", "/srv/x")
        assert {Path(name).parts[0] for name in bare.files().keys() - before.keys()} == {"srv"}
        assert bare.run("/srv/x/bin/pouchrich", "version")[0] == 0
        status, said = bare.run(f"{unpacked}/install", "--uninstall", "--prefix", "/srv/x")
        assert (status, bare.files()) == (0, before), said

    on_bare_root(check)


@pytest.mark.parametrize(
    "damage", [Path.unlink, lambda path: path.write_text("x"), lambda path: (path.parent / "another.py").touch()]
)
def test_a_damaged_one_is_not_installed(on_bare_root, damage):
    def check(bare, unpacked):
        before = bare.files()
        damage(bare.path / unpacked[1:] / "site/shim/pod/server.py")
        status, said = bare.run(f"{unpacked}/install")
        assert (status, "unpack" in said, bare.files()) == (1, True, before), said

    on_bare_root(check)


def test_nobody_elses_program_is_replaced(on_bare_root):
    def check(bare, unpacked):
        (bare.path / "usr/local/bin").mkdir(parents=True)
        (bare.path / "usr/local/bin/pouchrich").write_text("another's")
        before = bare.files()
        status, said = bare.run(f"{unpacked}/install")
        assert (status, bare.files()) == (1, before)
        assert "/usr/local/bin/pouchrich: found a file of another program: remove it first" in said

    on_bare_root(check)


def test_where_there_is_no_room_nothing_is_left_and_it_says_so(on_bare_root):
    def check(bare, unpacked):
        (bare.path / "opt").mkdir()
        syscalls.mount("tmpfs", str(bare.path / "opt"), "tmpfs", 0, "mode=0755,size=5m")
        before = bare.files()
        status, said = bare.run(f"{unpacked}/install")
        assert (status, "No space left on device" in said, bare.files()) == (1, True, before), said
        assert len(said) < 300

    on_bare_root(check)


def until(condition):
    end = time.monotonic() + bare_root.PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


def test_a_containerd_runs_rich_containers_with_it_through_an_upgrade(on_bare_root):
    def check(bare, unpacked):
        before = bare.files()
        install(bare, unpacked)
        old = os.readlink(bare.path / "opt/pouchrich/current")
        bare.start_containerd()
        assert (
            b"io.containerd.pouchrich.v2"
            in bare.run("/usr/local/bin/containerd-shim-pouchrich-v2", "-info")[1].encode()
        )
        script = "tr '\\0' ' ' </proc/1/cmdline; exit 7"
        status, said = bare.ctr("run", "--rm", *RUN, "one", "sh", "-c", script)
        assert (status, "dumb-init" in said) == (7, True), said

        # One that goes on, with its version, while another is installed, and is not uninstalled from under it.
        assert bare.ctr("run", "-d", *RUN, "two", "sh", "-c", "read x; exit 5")[0] == 0
        status, said = pouchrich(bare, "node", "uninstall")
        assert (status, "-id two" in said) == (1, True), said
        install(bare, bare.another_version(unpacked, "99.1"))
        assert pouchrich(bare, "version") == (0, "99.1\n")
        assert "two" in pouchrich(bare, "ps")[1]
        assert bare.ctr("task", "exec", "--exec-id", "e", "two", "echo", "still here") == (0, "still here\n")
        status, said = bare.ctr("run", "--rm", *RUN, "three", "sh", "-c", script)
        assert (status, (bare.path / "opt/pouchrich" / old).is_dir()) == (7, True), said
        bare.ctr("task", "kill", "-s", "KILL", "two")
        until(lambda: bare.ctr("task", "rm", "two")[0] in (0, 137))
        bare.ctr("container", "rm", "two")
        bare.close()

        # Back to the older one, and all away, when the spawners have ended with containerd.
        until(lambda: pouchrich(bare, "node", "uninstall")[0] == 0)
        assert bare.files() == before

    on_bare_root(check)


@pytest.mark.full
@pytest.mark.timeout(600)
@pytest.mark.parametrize("suite", ["bullseye", "bookworm", "trixie"])
def test_a_debian_without_python_runs_each_mode_and_is_as_before(on_bare_root, suite):
    lower, image = rootfs_images.debian("base", suite), rootfs_images.debian("systemd", suite)

    def check(bare, unpacked):
        before = bare.files()
        assert not [name for name in before if re.search("/bin/(python|pip|gcc|cc)", name)]
        before_it = resource.getrusage(resource.RUSAGE_CHILDREN)
        install(bare, unpacked)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert used.ru_utime + used.ru_stime - before_it.ru_utime - before_it.ru_stime < INSTALL_S
        bare.start_containerd()
        (bare.path / "host/systemd").mkdir()
        bare.overlay(image, bare.path / "host/systemd")
        (bare.path / "host/image/sbin").mkdir()
        (bare.path / "host/image/sbin/init").symlink_to("../bin/busybox")
        for mode, init in (("dumb-init", "dumb-init"), ("sbin-init", "init"), ("systemd", "systemd")):
            root = "/host/systemd" if mode == "systemd" else "/host/image"
            words = [*RUN[:-1], "--env", "rich_mode=true", "--env", f"rich_mode_launch_manner={mode}", root]
            status, said = bare.ctr("run", "--rm", *words, mode, "sh", "-c", "cat /proc/1/comm; exit 7")
            assert (status, said.split()[-1:]) == (7, [init]), said
        bare.close()
        subprocess.run(["umount", bare.path / "host/systemd"], check=True)
        until(lambda: pouchrich(bare, "node", "uninstall")[0] == 0)
        assert bare.files() == before

    on_bare_root(check, lower)


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_two_builds_of_the_interpreter_are_the_same(tmp_path):
    kept, another = binaries.cache() / "release-python", tmp_path / "a" / "longer" / "path"
    for directory in (kept, another):
        subprocess.run([ROOT / "hack/build-python.sh", directory], check=True)
    words = ["diff", "-r", "--exclude", ".made-by", kept, another]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_two_releases_are_the_same_and_are_signed(tmp_path):
    env = {**os.environ, "SOURCE_DATE_EPOCH": "1767225600"}
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    copy = tmp_path / "another" / "checkout"
    for name in ("shim", "runtime", "protos", "pouchrich", "hack", "dumb-init", "launcher", "native", "heap", "share"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "libexec"))
    shutil.copy(ROOT / "LICENSE", copy)
    first = [ROOT / "hack/release.sh", "--key", tmp_path / "key", tmp_path / "one"]
    subprocess.run(first, env=env, check=True)
    subprocess.run(
        [copy / "hack/release.sh", tmp_path / "two"], env={**env, "POUCHRICH_CACHE": str(binaries.cache())}, check=True
    )
    assert (tmp_path / "one/SHA256SUMS").read_text() == (tmp_path / "two/SHA256SUMS").read_text()
    assert all(path.stat().st_size <= LIMIT for path in (tmp_path / "one").glob("*.zst"))

    public = (tmp_path / "key.pub").read_text()
    (tmp_path / "signers").write_text(f'release namespaces="pouchrich-release" {public}')
    verify = ["ssh-keygen", "-Y", "verify", "-f", tmp_path / "signers", "-I", "release", "-n", "pouchrich-release"]
    with (tmp_path / "one/SHA256SUMS").open() as sums:
        subprocess.run([*verify, "-s", tmp_path / "one/SHA256SUMS.sig"], stdin=sums, check=True)
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=tmp_path / "one", check=True)


@pytest.mark.full
@pytest.mark.timeout(600)
def test_the_package_of_a_release_installs_it_keeps_what_is_needed_and_purges_all(on_bare_root, release, tmp_path):
    subprocess.run([ROOT / "hack/build-deb.sh", release, tmp_path / "debs"], check=True)
    (package,) = (tmp_path / "debs").glob("*.deb")

    def check(bare, unpacked):
        for name in ("info", "updates"):
            (bare.path / "var/lib/dpkg" / name).mkdir(parents=True)
        (bare.path / "var/lib/dpkg/status").touch()
        (bare.path / "etc").mkdir()

        def files():
            return {name: what for name, what in bare.files().items() if not name.startswith("var/lib/dpkg/")}

        def dpkg(*words):
            command = ["dpkg", f"--root={bare.path}", "--log=/dev/null", *words]
            done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
            return done.returncode, done.stdout + done.stderr

        before = files()
        hold = bare.path / "etc/pouchrich/hold"
        hold.parent.mkdir()
        hold.touch()
        status, said = dpkg("-i", package)
        assert (status, f"so what runs stays as it was; when that has gone: {INSTALLS}" in said) == (0, True), said
        assert not (bare.path / "opt/pouchrich").exists()
        shutil.rmtree(hold.parent)
        status, said = dpkg("-i", package)
        assert status == 0, said
        assert bare.run("/usr/bin/pouchrich", "version")[0] == 0
        installed = files()
        status, said = dpkg("-i", package)
        assert (status, files()) == (0, installed), said

        with owed_hooks(bare):
            status, said = dpkg("-r", "pouchrich")
        assert (status, "c1.jsonl" in said) == (1, True), said
        assert bare.run("/usr/bin/pouchrich", "version")[0] == 0

        config = bare.path / "etc/pouchrich/config.toml"
        config.write_text(config.read_text() + "# mine\n")
        status, said = dpkg("-r", "pouchrich")
        assert (status, config.exists(), (bare.path / "opt/pouchrich").exists()) == (0, True, False), said
        status, said = dpkg("-P", "pouchrich")
        assert (status, files()) == (0, before), said

    on_bare_root(check)


@pytest.mark.full
@pytest.mark.timeout(600)
def test_the_rpm_of_a_release_installs_it_keeps_what_is_needed_and_erases_all(on_bare_root, release, tmp_path):
    subprocess.run([ROOT / "hack/build-rpm.sh", release, tmp_path / "rpms"], check=True)
    (package,) = (tmp_path / "rpms").glob("*.rpm")

    def check(bare, unpacked):
        # What each distribution has, in a package of its own that is called so or like it: filesystem.
        for name in ("etc", "usr/bin", "usr/lib", "var/tmp", *(f"usr/share/man/man{number}" for number in (1, 5, 8))):
            (bare.path / name).mkdir(parents=True)

        def files():
            return {name: what for name, what in bare.files().items() if not name.startswith("var/lib/rpm")}

        def rpm(*words):
            # No package of the root is a shell's: busybox is just there. Debian's rpm advises against itself.
            command = ["rpm", f"--root={bare.path}", "--dbpath=/var/lib/rpm", "--force-debian", *words]
            done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
            return done.returncode, done.stdout + done.stderr

        (bare.path / "var/lib/rpm").mkdir(parents=True)
        before = files()
        hold = bare.path / "etc/pouchrich/hold"
        hold.parent.mkdir()
        hold.touch()
        status, said = rpm("-i", "--nodeps", package)
        assert (status, f"so what runs stays as it was; when that has gone: {INSTALLS}" in said) == (0, True), said
        shutil.rmtree(hold.parent)
        assert bare.run(*INSTALLS.split())[0] == 0
        assert bare.run("/usr/bin/pouchrich", "version")[0] == 0
        assert (bare.path / "usr/share/man/man8/containerd-shim-pouchrich-v2.8.gz").exists()
        assert rpm("-V", "--nodeps", "pouchrich") == (0, "")
        installed = files()
        assert rpm("-U", "--nodeps", "--force", package) == (
            0,
            "",
        )  # the scripts of an upgrade: the old package's run, too
        assert files() == installed

        with owed_hooks(bare):
            status, said = rpm("-e", "pouchrich")
        assert (status, "c1.jsonl" in said) == (1, True), said
        assert bare.run("/usr/bin/pouchrich", "version")[0] == 0
        shutil.rmtree(bare.path / "var/lib/pouchrich")

        assert rpm("-e", "pouchrich") == (0, "")
        assert files() == before
        assert rpm("-i", "--nodeps", package)[0] == 0
        config = bare.path / "etc/pouchrich/config.toml"
        config.write_text(config.read_text() + "# mine\n")
        status, said = rpm("-e", "pouchrich")
        assert (status, "config.toml.rpmsave" in said) == (0, True), said
        assert "# mine\n" in config.with_suffix(".toml.rpmsave").read_text()
        shutil.rmtree(config.parent)
        assert files() == before

    on_bare_root(check)


@pytest.mark.full
@pytest.mark.timeout(600)
def test_lintian_has_nothing_to_say_of_the_package(release, tmp_path):
    env = {**os.environ, "DEBEMAIL": "The Releaser <releaser@debian.org>"}
    subprocess.run([ROOT / "hack/build-deb.sh", release, tmp_path], check=True, env=env)
    (package,) = tmp_path.glob("*.deb")
    done = subprocess.run(["lintian", "--allow-root", package], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
