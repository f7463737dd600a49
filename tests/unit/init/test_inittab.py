"""runtime.init.inittab: what is kept of an image's inittab, and what is added."""

import json

import pytest

from runtime.init import inittab
from runtime.init.detect import InitFacts

DEBIAN = """\
# /etc/inittab: init(8) configuration.
id:2:initdefault:
si::sysinit:/etc/init.d/rcS
~~:S:wait:/sbin/sulogin --force
l0:0:wait:/etc/init.d/rc 0
l2:2:wait:/etc/init.d/rc 2
l6:6:wait:/etc/init.d/rc 6
z6:6:respawn:/sbin/sulogin --force
ca:12345:ctrlaltdel:/sbin/shutdown -t1 -a -r now
pf::powerwait:/etc/init.d/powerfail start
1:2345:respawn:/sbin/getty --noclear 38400 tty1
sv:123456:respawn:/usr/bin/svscanboot
"""

OURS = """\
pa:2:once:/run/pouchrich/launch app
pz:06:wait:/run/pouchrich/launch halt
pp::powerwait:/sbin/init 0
pq::powerfailnow:/sbin/init 0
"""


def sysvinit(text=None, present=(), kind="sysvinit", **more):
    return inittab.sysvinit(InitFacts(kind=kind, inittab=text, present=present), **more)


def test_debians_lines_are_kept_without_its_terminals_and_power_lines():
    assert sysvinit(DEBIAN) == (
        "id:2:initdefault:\n"
        "si::sysinit:/etc/init.d/rcS\n"
        "l0:0:wait:/run/pouchrich/launch stop /etc/init.d/rc 0\n"
        "l2:2:wait:/etc/init.d/rc 2\n"
        "l6:6:wait:/run/pouchrich/launch stop /etc/init.d/rc 6\n"
        "sv:123456:respawn:/usr/bin/svscanboot\n" + OURS
    )


@pytest.mark.parametrize("kind", ["sysvinit", "openrc"])
def test_debians_boot_scripts_are_told_to_leave_tmp_alone(kind):
    found = sysvinit(DEBIAN, ("/etc/init.d/rc", "/etc/init.d/rcS"), kind).splitlines()
    assert found.index("pt::sysinit:/bin/touch /tmp/.tmpfs") < found.index("si::sysinit:/etc/init.d/rcS")


def test_red_hats_lines_are_kept_with_their_runlevel():
    text = "id:3:initdefault:\nsi::sysinit:/etc/rc.d/rc.sysinit\nl0:0:wait:/etc/rc.d/rc 0\nl3:3:wait:/etc/rc.d/rc 3\n"
    found = sysvinit(text)
    assert found.startswith(text.replace("/etc/rc.d/rc 0", "/run/pouchrich/launch stop /etc/rc.d/rc 0"))
    assert "pa:3:once:/run/pouchrich/launch app\n" in found


@pytest.mark.parametrize(
    ("present", "kind", "lines"),
    [
        (
            ("/etc/init.d/rc", "/etc/init.d/rcS"),
            "sysvinit",
            [
                "id:2:initdefault:",
                "pt::sysinit:/bin/touch /tmp/.tmpfs",
                "si::sysinit:/etc/init.d/rcS",
                "l0:0:wait:/run/pouchrich/launch stop /etc/init.d/rc 0",
                "l2:2:wait:/etc/init.d/rc 2",
            ],
        ),
        (
            ("/etc/rc.d/rc",),
            "sysvinit",
            ["id:3:initdefault:", "l0:0:wait:/run/pouchrich/launch stop /etc/rc.d/rc 0", "l3:3:wait:/etc/rc.d/rc 3"],
        ),
        (
            ("/sbin/openrc",),
            "openrc",
            ["id:3:initdefault:", "si::sysinit:/sbin/openrc sysinit", "rb::bootwait:/sbin/openrc boot"],
        ),
    ],
)
def test_without_an_inittab_the_scripts_tell_the_style(present, kind, lines):
    assert sysvinit(None, present, kind).splitlines()[: len(lines)] == lines


def test_a_line_that_stops_and_starts_or_is_too_long_is_as_in_the_image():
    found = sysvinit(f"{DEBIAN}x1:26:wait:/bin/a\nx2:0:wait:/{'b' * 120}\nx3:06:wait:/bin/c\n").splitlines()
    assert [line for line in found if line[0] == "x"] == [
        "x1:26:wait:/bin/a",
        f"x2:0:wait:/{'b' * 120}",
        "x3:06:wait:/run/pouchrich/launch stop /bin/c",
    ]


def test_without_scripts_there_is_no_inittab():
    assert sysvinit(None) is None
    assert sysvinit("id:2:initdefault:\n1:2345:respawn:/sbin/getty tty1\n") is None


@pytest.mark.parametrize(
    "line",
    [
        "x:2:wait:/bin/sh -c 'rm -rf /'",
        "x:2:wait:/bin/a;/bin/b",
        "x:2:wait:/bin/a $(b)",
        "x:2:wait:relative",
        "x:2:once:/bin/a",
        "x:2:unknown:/bin/a",
        "toolong:2:wait:/bin/a",
        "x:789:wait:/bin/a",
        "x:2:wait:/bin/a\x00b",
        "pa:2:wait:/bin/a",
        "x:2:wait:" + "/a" * 200,
        "x:2:wait:/bin/a\u00e4",
    ],
)
def test_a_line_that_does_not_fit_is_left_out(line):
    assert sysvinit(f"{DEBIAN}{line}\n") == sysvinit(DEBIAN)


def test_no_more_lines_are_read_than_an_inittab_has():
    found = sysvinit(DEBIAN + "xx:2:wait:/bin/a\n" * 5000)
    assert found.count("xx:") < inittab.MAX_LINES


def test_openrc_that_can_halt_is_told_to():
    found = sysvinit(None, ("/sbin/openrc",), "openrc", can_halt=True).splitlines()
    assert found.index("ph:0:wait:/sbin/halt -d -f -p") + 1 == found.index("pz:06:wait:/run/pouchrich/launch halt")
    assert "ph:" not in sysvinit(None, ("/sbin/openrc",), "openrc")


def test_services_are_started_before_the_application():
    found = sysvinit(DEBIAN, services=True).splitlines()
    line = "ps:2:wait:/bin/sh /run/pouchrich/services"
    assert found.index(line) + 1 == found.index("pa:2:once:/run/pouchrich/launch app")


def test_busybox_keeps_what_has_no_terminal():
    text = (
        "::sysinit:/sbin/openrc sysinit\n::wait:/sbin/openrc default\ntty1::respawn:/sbin/getty 38400 tty1\n"
        "::shutdown:/sbin/openrc shutdown\n::ctrlaltdel:/sbin/reboot\n::askfirst:/bin/sh\n"
    )
    assert inittab.busybox(InitFacts(kind="busybox", inittab=text)) == (
        "::sysinit:/sbin/openrc sysinit\n"
        "::wait:/sbin/openrc default\n"
        "::shutdown:/run/pouchrich/launch stop /sbin/openrc shutdown\n"
        "::once:/run/pouchrich/launch app\n"
    )


def test_busybox_without_an_inittab_runs_what_it_would_have():
    with_script = InitFacts(kind="busybox", present=("/etc/init.d/rcS",))
    assert inittab.busybox(with_script) == "::sysinit:/etc/init.d/rcS\n::once:/run/pouchrich/launch app\n"
    assert inittab.busybox(InitFacts(kind="busybox")) == "::once:/run/pouchrich/launch app\n"


def test_what_the_image_starts_is_started_by_the_script_with_the_environment_where_there_is_room():
    long = "/sbin/" + "x" * 100
    found = sysvinit(f"si::sysinit:/etc/init.d/rcS\nsv:2:respawn:{long}\n", environment=True, services=True)
    start = "/bin/sh /run/pouchrich/environment.sh "
    assert f"si::sysinit:{start}/etc/init.d/rcS\n" in found
    assert f"sv:2:respawn:{long}\n" in found
    assert f"ps:2:wait:{start}/bin/sh /run/pouchrich/services\n" in found
    assert found.endswith(OURS)
    facts = InitFacts(kind="busybox", present=("/etc/init.d/rcS",))
    assert inittab.busybox(facts, environment=True).startswith(f"::sysinit:{start}/etc/init.d/rcS\n::once:/run")


def test_what_is_started_no_more_is_named():
    """A machine that was migrated has more lines than those of its distribution."""
    erp = 'nb:345:respawn:/bin/su - erp -c "/opt/erp/bin/queue --fg"'
    gone = [erp, "lg:345:once:/opt/erp/bin/licence-d", "h1:35:respawn:/etc/init.d/init.evmd run >/dev/null 2>&1"]
    kept = "co:345:respawn:/opt/erp/bin/console-server"
    text = DEBIAN + "\n".join([*gone, kept, "# a:2:once:/bin/b", "bad line", ""])
    found = inittab.left_out(InitFacts(kind="sysvinit", inittab=text))
    assert [json.dumps(line) in warning for line, warning in zip(gone, found, strict=True)] == [True] * 3
    assert kept in str(sysvinit(text))
    assert inittab.left_out(InitFacts(kind="sysvinit", inittab=DEBIAN)) == ()


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("busybox", "null::respawn:/usr/sbin/daemon"),
        ("sysvinit", "ps:3:respawn:/opt/print/server"),
        ("sysvinit", "q:3:respawn:/opt/erp/q >/dev/console 2>&1"),
        ("sysvinit", "q:3:respawn:/opt/erp/q </dev/tty1"),
    ],
)
def test_a_line_is_named_also_for_its_id_or_a_terminal_that_it_writes_to(kind, line):
    (found,) = inittab.left_out(
        InitFacts(kind=kind, inittab=f"si::sysinit:/etc/init.d/rcS\n{line}\n" if kind != "busybox" else line)
    )
    assert json.dumps(line) in found


def test_what_the_scripts_take_the_place_of_is_named():
    init = InitFacts(kind="sysvinit", inittab="my:3:respawn:/opt/erp/queue\n", present=("/etc/init.d/rc",))
    assert "/opt/erp/queue" not in str(inittab.sysvinit(init))
    (found,) = inittab.left_out(init)
    assert "/opt/erp/queue" in found


def test_what_no_runlevel_of_a_boot_has_is_not_named():
    """As Gentoo's `x:a:once:/etc/X11/startDM.sh`."""
    assert inittab.left_out(InitFacts(kind="sysvinit", inittab="x:a:once:/etc/X11/startDM.sh\n")) == ()


def test_no_more_is_named_than_can_be_read():
    lines = "".join(f"x{n}:2:once:/bin/{n}\n" for n in range(10))
    *named, last = inittab.left_out(InitFacts(kind="sysvinit", inittab=lines))
    assert (len(named), last) == (5, "/etc/inittab: and 5 more lines")
    assert len(inittab.left_out(InitFacts(kind="sysvinit", inittab="x:2:once:/" + "\x1b" * 5000))[0]) < 200
    assert inittab.left_out(InitFacts(kind="busybox", inittab="::once:/bin/a\ntty1::respawn:/bin/sh\n")) == ()
