"""What people are told where something is wrong: a table of docs/failures.md. Each names key, reason and way out."""

import errno
import logging
import os

import pytest

from runtime import config
from runtime.errors import InvalidArgument, NotFound, text_of
from runtime.hooks.tail import Tail
from runtime.rich import policy
from runtime.spec.identity import Identity
from shim.pod import log, status
from shim.task.hooks.hook_outcome import Outcome, failure, result_of

(HOOK,) = config.parse('version = 1\nhooks.prestart = [{ name = "h", command = ["/none"] }]', source="F").hooks.prestart
POD = {
    "io.kubernetes.cri.container-type": "container",
    "io.kubernetes.cri.container-name": "web",
}
GRACE = {"io.kubernetes.pod.terminationGracePeriod": "30"}


def warnings(annotations):
    spec = {"annotations": annotations}
    identity = Identity.from_spec(spec, namespace="k8s.io", container_id="c")
    return policy.choose(spec, config.DEFAULT, identity).warnings


def test_a_files_permissions_do_not_read_like_the_key_rich_mode(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text("version = 1\n")
    path.chmod(0o666)
    with pytest.raises(InvalidArgument) as caught:
        config.file._refuse_if_untrusted(str(path), os.stat_result((0o100666, 0, 0, 1, 0, 0, 0, 0, 0, 0)))
    assert str(caught.value) == f"{path}: permissions: found 0666, allowed writable by root only"


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("version = 1\nrich.mode = 'sytemd'", "systemd"),
        ("version = 1\nrich.restart = 'on-faliure'", "on-failure"),
        ("version = 1\nrich.pod-override = ['presstart']", "prestart"),
        ("version = 1\nrich.start_timeout = '5s'", "start-timeout"),
        ("version = 1\n[[agents]]\nname = 'a'\ncommand = ['/a']\nrestart = 'alway'", "always"),
    ],
)
def test_a_value_or_key_that_is_nearly_one_is_suggested(text, meant):
    with pytest.raises(InvalidArgument, match=rf"^F: .*: found .*, allowed .*\(did you mean {meant}\)$"):
        config.parse(text, source="F")


@pytest.mark.parametrize("value", ["x" * 200_000, "", "\x1b[2J"])
def test_a_pods_own_text_has_no_suggestion_that_costs_or_steers(value):
    with pytest.raises(InvalidArgument) as caught:
        warnings({**POD, "pouchrich.io/mode": value})
    assert len(str(caught.value)) < 400
    assert str(caught.value).isprintable()


def test_a_config_path_whose_file_is_missing_is_named_with_its_key(tmp_path):
    with pytest.raises(NotFound) as caught:
        config.for_handler(config_path=f"{tmp_path}/none.toml", config_body=b"")
    assert str(caught.value) == f"handler options: ConfigPath: {tmp_path}/none.toml: no such file or directory"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (IsADirectoryError(errno.EISDIR, "Is a directory", "/a"), "/a: Is a directory"),
        (OSError(errno.EXDEV, "Invalid cross-device link", "/a", None, "/b"), "/a to /b: Invalid cross-device link"),
        (OSError("no number"), "no number"),
        (TimeoutError(), "TimeoutError"),
        (ValueError("bad"), "bad"),
    ],
)
def test_pythons_own_form_of_an_error_is_nobodys_business(error, text):
    assert text_of(error) == text
    if isinstance(error, OSError):
        assert status.status_of(error) == (2, text)
    line = log.format_record(logging.makeLogRecord({"msg": "x: %s", "args": (error,), "levelname": "INFO"}))
    assert f'msg="x: {text}"' in line
    assert "Errno" not in line


def test_a_hook_that_is_not_in_the_image_is_told_once():
    reason = "executable file `/none` not found: No such file or directory"
    tail = Tail()
    tail.feed(f"2026-11-28T01:02:03.4Z: {reason}\n".encode())
    outcome = Outcome(False, f"OCI runtime exec: {reason}", tail)
    assert failure("prestart", HOOK, outcome) == f"prestart hook h: OCI runtime exec: {reason}"
    assert result_of("prestart", HOOK, outcome, 0.0).output == ""


@pytest.mark.parametrize("said", ["no config at /etc/x", "exit status 3", "a\nb"])
def test_what_a_hook_itself_said_is_never_left_out(said):
    tail = Tail()
    tail.feed(said.encode())
    assert failure("prestart", HOOK, Outcome(False, "exit status 3", tail)).startswith(
        "prestart hook h: exit status 3: "
    )


@pytest.mark.parametrize(
    ("named", "found"),
    [
        ("wbe", True),
        ("web-", True),
        ("web", False),
        ("web2", False),  # as likely another container of the pod
        ("database", False),
    ],
)
def test_an_annotation_for_a_container_of_nearly_this_name_is_warned_about(named, found):
    said = warnings({**POD, **GRACE, f"pouchrich.io/mode.{named}": "auto"})
    expected = f'annotation pouchrich.io/mode.{named}: is for a container "{named}", this one is web (did you mean web)'
    assert said == ((expected,) if found else ())


@pytest.mark.parametrize(
    ("more", "found"),
    [({}, True), (GRACE, False), ({"pouchrich.io/rich": "true"}, False)],
)
def test_a_handler_that_passes_no_annotation_is_warned_about(more, found):
    said = warnings({**POD, **more})
    assert bool(said) == found
    assert all("lists no pod_annotations" in one for one in said)


def test_outside_a_pod_no_handler_is_suspected():
    assert warnings({}) == ()
    assert warnings({"io.kubernetes.cri.container-type": "sandbox"}) == ()
