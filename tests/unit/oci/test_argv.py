"""The command lines of an OCI runtime, as a table."""

import pytest

from runtime.oci import argv

CREATE = argv.CreateOptions(bundle="/b", pid_file="/b/init.pid")
FULL = argv.CreateOptions(bundle="/b", pid_file="/p", console_socket="/s", no_pivot=True, no_new_keyring=True)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (argv.create("c", CREATE), "create --bundle /b --pid-file /b/init.pid c"),
        (
            argv.create("c", FULL),
            "create --bundle /b --pid-file /p --console-socket /s --no-pivot --no-new-keyring c",
        ),
        (argv.start("c"), "start c"),
        (argv.exec("c", argv.ExecOptions("/f", "/p")), "exec --process /f --detach --pid-file /p c"),
        (
            argv.exec("c", argv.ExecOptions("/f", "/p", "/s")),
            "exec --process /f --console-socket /s --detach --pid-file /p c",
        ),
        (argv.kill("c", 15, everyone=False), "kill c 15"),
        (argv.kill("c", 9, everyone=True), "kill --all c 9"),
        (argv.delete("c", force=False), "delete c"),
        (argv.delete("c", force=True), "delete --force c"),
        (argv.pause("c"), "pause c"),
        (argv.resume("c"), "resume c"),
        (argv.update("c", "/r"), "update --resources=/r c"),
        (argv.features(), "features"),
        (
            argv.checkpoint("c", argv.CheckpointOptions("/i", "/w")),
            "checkpoint --image-path /i --work-path /w --leave-running c",
        ),
        (
            argv.checkpoint(
                "c", argv.CheckpointOptions("/i", "/w", "/par", False, True, True, True, True, ("network", "uts"))
            ),
            "checkpoint --image-path /i --work-path /w --parent-path /par --tcp-established --ext-unix-sk --shell-job "
            "--file-locks --empty-ns network --empty-ns uts c",
        ),
        (
            argv.restore("c", argv.RestoreOptions("/i", "/w", CREATE)),
            "restore --image-path /i --work-path /w --detach --pid-file /b/init.pid --bundle /b c",
        ),
        (
            argv.restore("c", argv.RestoreOptions("/i", "/w", FULL, "/par")),
            "restore --image-path /i --work-path /w --parent-path /par --detach --pid-file /p --console-socket /s "
            "--no-pivot --bundle /b c",  # runc's restore knows no --no-new-keyring
        ),
    ],
)
def test_each_command_has_its_words(words: list[str], expected: str):
    assert words == expected.split()


@pytest.mark.parametrize(("systemd", "flag"), [(False, []), (True, ["--systemd-cgroup"])])
def test_every_call_names_its_state_and_its_own_log(systemd: bool, flag: list[str]):
    binary = argv.OCIBinary("/bin/crun", "/run/r/ns", systemd)
    start = ["/bin/crun", "--root", "/run/r/ns", "--log", "/l", "--log-format", "json"]
    assert argv.command(binary, "/l", argv.start("c")) == [*start, *flag, "start", "c"]
