"""An installation on this node: versions side by side, of which a link names one, and what goes with them.

layout       where everything is
lock         one run at a time
unpacked     an unpacked artefact, copied to where a version belongs
place        what in a version's directory names that directory
interpreter  the loader that a program asks the kernel for
current      the switch to a version: links and the default configuration
apparmor     the profile of rich containers, loaded and taken away
uninstall    taking everything away, and what still needs it

hack/install.sh runs this from its checkout with any Python: nothing but the standard library and `shim.installed`.
"""


class InstallError(Exception):
    """Nothing was changed, or what was changed has been taken back; the message says what to do."""
