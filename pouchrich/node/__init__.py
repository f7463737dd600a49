"""An installation on this node: versions side by side, a link that names the current one, and what goes with them.

layout       where everything is
lock         one run at a time
unpacked     copies an unpacked artefact to a version's directory
place        writes the files that contain the path of a version's directory
interpreter  the loader that an executable names
current      switches to a version: links and the default configuration
kept         asks a version whether it accepts the configuration that was changed
serving      finds the pod servers that run from the installation
apparmor     loads and removes the profile of rich containers
install      installs an artefact by all of these, and advises what to do then
uninstall    removes everything, and finds what still needs it

hack/install.sh runs this from its checkout with any Python, so it imports only the standard library and
`shim.installed`.
"""


class InstallError(Exception):
    """Nothing was changed, or the changes have been undone; the message says what to do."""
