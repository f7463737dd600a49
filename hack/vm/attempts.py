"""The mounts tried in the guest under a profile: those that systemd makes for its units, and those of an attacker."""

SANDBOX = (
    *("ProtectSystem=strict", "ProtectHome=yes", "PrivateTmp=yes", "PrivateDevices=yes", "ProtectProc=invisible"),
    *("ProtectKernelTunables=yes", "ProtectKernelModules=yes", "ProtectKernelLogs=yes", "ProtectControlGroups=yes"),
    *("ProtectHostname=yes", "NoNewPrivileges=yes", "TemporaryFileSystem=/srv", "BindReadOnlyPaths=/etc:/opt"),
    *("InaccessiblePaths=/var/log", "ReadWritePaths=/var/tmp"),
)
SANDBOXED = """touch /usr/x 2>/dev/null || echo read-only
touch /var/tmp/x && echo writable
ls -A /tmp /srv | grep -c '^[a-z]'
[ -e /opt/passwd ] && echo bound
touch /dev/x 2>/dev/null || echo private
ls -A /var/log 2>/dev/null | wc -l
grep -c ' /proc proc .*hidepid=invisible' /proc/self/mounts"""

VIEW = "/run/systemd/unit-root"
SEEN = f"mkdir -p {VIEW} && mount --rbind / {VIEW}"
FRESH = f"{SEEN} && umount -R {VIEW}/proc && mount -t proc -o nosuid proc {VIEW}/proc"
ALLOWED = {
    "tmpfs": "mount -t tmpfs none /mnt",
    "bind": "mount --bind /etc /mnt",
    "remount": "mount --bind /etc /mnt && mount -o remount,bind,ro /mnt",
    "read-only": "mount -o remount,bind,ro,nosuid,nodev,noexec /sys",
    "slave": "mount --make-rslave /",
    "view": SEEN,
    "view-proc": FRESH,
}
"""The mounts that sandboxed units need. Each is tried in a mount namespace of its own."""

DENIED = {
    "procfs": "mount -t proc proc /mnt",
    "procfs-nosuid": "mount -t proc -o nosuid,nodev,noexec proc /mnt",
    "sysfs": "mount -t sysfs sysfs /mnt",
    "cgroup2": "mount -t cgroup2 none /mnt",
    "bind-proc": "mount --bind /proc /mnt",
    "bind-sys": "mount --rbind /sys /mnt",
    "bind-sysctl": "mount --bind /proc/sys/kernel /mnt",
    "rbind-root": "mount --rbind / /mnt",
    "rbind-run": "mount --rbind /run /mnt",
    "move-proc": "mount --move /proc /mnt",
    "over-proc": "mount -t tmpfs none /proc",
    "over-attr": "mount --bind /etc /proc/1/attr",
    "over-sys": "mount --bind /etc /sys/kernel",
    "rw-sysctl": "mount -o remount,bind,rw /proc/sys",
    "rw-sys": "mount -o remount,bind,rw /sys",
    "pivot": "mount -t tmpfs none /mnt && mkdir /mnt/old && pivot_root /mnt /mnt/old",
    "sysctl": "umount -l /proc/sys && echo vm >/proc/sys/kernel/domainname",
    "sysrq": "umount -l /proc/sysrq-trigger; echo h >/proc/sysrq-trigger",
    "kernel": "umount -R /sys/fs/cgroup; mount -o remount,rw /sys; echo 0 >/sys/kernel/rcu_expedited",
    "detached": "cd /proc && umount -l /proc && echo h >sysrq-trigger",
    "view-sysctl": f"{SEEN} && umount {VIEW}/proc/sys && echo vm >{VIEW}/proc/sys/kernel/domainname",
    "view-fresh": f"{FRESH} && echo vm >{VIEW}/proc/sys/kernel/domainname",
    "view-sysrq": f"{FRESH} && echo h >{VIEW}/proc/sysrq-trigger",
    "view-renamed": (f"{FRESH} && mv /run/systemd /run/x && echo vm >/run/x/unit-root/proc/sys/kernel/domainname"),
    "view-moved": f"{FRESH} && mount --bind {VIEW}/proc /mnt",
}
ATTEMPTS = "".join(
    f"unshare -m sh -c '{script}' >/dev/null 2>&1 && echo could {name}\n"
    for name, script in {**ALLOWED, **DENIED}.items()
)

UNASKED = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
HERE, CREATE, CLONE, EMPTY_PATH, READ_ONLY = -100, 6, 1, 4, 1
libc.unshare(0x20000)
file_system = libc.syscall(430, b"proc", 0)
libc.syscall(431, file_system, CREATE, None, None, 0)
tree = libc.syscall(432, file_system, 0, 0)
could = ["fsmount"] if tree >= 0 else []
for name in ("sys/kernel/domainname", "sysrq-trigger"):
    try:
        os.close(os.open(name, os.O_WRONLY, dir_fd=tree))
        could.append(name)
    except OSError:
        pass
attributes = (ctypes.c_uint64 * 4)(READ_ONLY, 0, 0, 0)
for name, call in (
    ("move_mount", (429, tree, b"", HERE, b"/mnt", EMPTY_PATH)),
    ("open_tree", (428, HERE, b"/proc", CLONE)),
    ("mount_setattr", (442, HERE, b"/sys", 0, attributes, ctypes.sizeof(attributes))),
):
    if libc.syscall(*call) >= 0:
        could.append(name)
print(" ".join(could))
"""
