"""An image whose sysvinit is set up as the RPM distributions did it (Red Hat Enterprise Linux 3 to 5, SLES' older kin).

The program is Debian's sysvinit; inittab, rc.sysinit, rc and the links to its scripts are of that style: everything is
below /etc/rc.d, the usual runlevel is 3, and runlevel 0 ends in a script that kills what is left and execs halt.
"""

from tests.integration import rich_images
from tests.integration.images import Entry
from tests.integration.node import Node
from tests.integration.rich_images import System

INITTAB = b"""\
# Default runlevel.
id:3:initdefault:

# System initialization.
si::sysinit:/etc/rc.d/rc.sysinit

l0:0:wait:/etc/rc.d/rc 0
l1:1:wait:/etc/rc.d/rc 1
l2:2:wait:/etc/rc.d/rc 2
l3:3:wait:/etc/rc.d/rc 3
l4:4:wait:/etc/rc.d/rc 4
l5:5:wait:/etc/rc.d/rc 5
l6:6:wait:/etc/rc.d/rc 6

# Trap CTRL-ALT-DELETE
ca::ctrlaltdel:/sbin/shutdown -t3 -r now
pf::powerfail:/sbin/shutdown -f -h +2 "Power Failure; System Shutting Down"
pr:12345:powerokwait:/sbin/shutdown -c "Power Restored; Shutdown Cancelled"

# Run gettys in standard runlevels
1:2345:respawn:/sbin/mingetty tty1
2:2345:respawn:/sbin/mingetty tty2

# Run xdm in runlevel 5
x:5:respawn:/etc/X11/prefdm -nodaemon
"""

SYSINIT = b"#!/bin/bash\nmkdir -p /var/lock/subsys\nexport RUNLEVEL=S\necho sysinit >>/shared/order\n"

RC = b"""\
#!/bin/bash
runlevel=$1
previous=$(/sbin/runlevel | cut -d' ' -f1)
export runlevel previous
echo "rc $runlevel" >>/shared/order
for script in /etc/rc$runlevel.d/K*; do
    name=${script#/etc/rc$runlevel.d/K??}
    [ -e /var/lock/subsys/$name ] || continue
    $script stop
done
for script in /etc/rc$runlevel.d/S*; do
    name=${script#/etc/rc$runlevel.d/S??}
    case $runlevel in
        0|6) exec $script start ;;
        *) $script start ;;
    esac
done
"""

SERVICE = b"""\
#!/bin/bash
# chkconfig: 2345 90 60
# description: a daemon of this style
case $1 in
    start) sleep 1000 & echo $! >/var/run/legacyd.pid; touch /var/lock/subsys/legacyd ;;
    stop) kill $(cat /var/run/legacyd.pid); rm /var/lock/subsys/legacyd ;;
esac
echo "legacyd $1" >>/shared/order
"""

HALT = b"""\
#!/bin/bash
/sbin/killall5 -15
sleep 0.5
/sbin/killall5 -9
echo "halt $1" >>/shared/order
exec /sbin/halt -d -f -p
"""

EXTRA = b'#!/bin/bash\n# chkconfig: - 99 1\n[ "$1" != start ] || touch /var/extra-is-up\n'

LINKS = ((0, "K60legacyd"), (0, "S01halt"), (3, "S90legacyd"), (6, "K60legacyd"))


def image(node: Node) -> str:
    """Have the node hold the image, whose scripts write to /shared/order, and return its name."""
    files = {
        "inittab": INITTAB,
        "rc.d/rc.sysinit": SYSINIT,
        "rc.d/rc": RC,
        "rc.d/init.d/legacyd": SERVICE,
        "rc.d/init.d/extra": EXTRA,
        "rc.d/init.d/halt": HALT,
    }
    links = {
        "init.d": "rc.d/init.d",
        **{f"rc{level}.d": f"rc.d/rc{level}.d" for level in range(7)},
        **{f"rc.d/rc{level}.d/{name}": f"../init.d/{name[3:]}" for level, name in LINKS},
    }
    directories = [Entry(f"etc/rc.d/rc{level}.d") for level in range(7)]
    entries = [Entry(f"etc/{name}", data) for name, data in files.items()]
    entries += [*directories, *(Entry(f"etc/{name}", link=target) for name, target in links.items())]
    return rich_images.import_variant(node, System("sysvinit"), "rpm-sysvinit", entries)
