"""runtime.init.detect: kinds of init and versions of systemd."""

import pytest

from runtime.init import detect


@pytest.mark.parametrize(
    ("path", "content", "kind"),
    [
        ("/usr/lib/systemd/systemd", b"", "systemd"),
        ("/bin/busybox", b"", "busybox"),
        ("/sbin/init", b"..libsystemd-shared-252.so", "systemd"),
        ("/sbin/init", b"..BusyBox v1.35.0 (Debian)", "busybox"),
        ("/sbin/init", b"no more processes left in this runlevel", "sysvinit"),
        ("/sbin/init", b"upstart initctl; no more processes left in this runlevel", "upstart"),
        ("/usr/bin/runit-init", b"", "runit"),
        ("/sbin/openrc-init", b"", "openrc-init"),
        ("/sbin/init", b"#!/bin/sh", ""),
        ("", b"", ""),
    ],
)
def test_a_program_is_known_by_its_name_or_its_words(path, content, kind):
    assert detect.kind_of(path, content) == kind


@pytest.mark.parametrize(
    ("content", "version"),
    [
        (b"\0libsystemd-shared-252.so\0", 252),
        (b"libsystemd-shared-257.9-1.so", 257),
        (b"systemd 219\0", 219),
        (b"systemd 1234", None),
        (b"", None),
    ],
)
def test_systemds_version(content, version):
    assert detect.version_of(content) == version


def test_openrc_is_sysvinit_with_openrc_beside_it():
    assert detect.refined("sysvinit", ("/etc/init.d/rc", "/sbin/openrc")) == "openrc"
    assert detect.refined("sysvinit", ("/etc/init.d/rc",)) == "sysvinit"
    assert detect.refined("busybox", ("/sbin/openrc",)) == "busybox"
