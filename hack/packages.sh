# Sourced by the scripts here that need Debian packages, as root:
#
#   install_packages NAME...        installs the missing ones with apt
#
# No services of these packages are started: the scripts here run their own containerd.
install_packages() {
    missing=
    for package in "$@"; do
        dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    echo "installing$missing"
    apt-get update -q >/dev/null
    DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -q -y --no-install-recommends $missing >/dev/null
}
