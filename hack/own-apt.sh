# Sourced by the scripts here that fetch Debian packages without installing them; the caller defines `fail` and $work:
#
#   own_apt ARCHITECTURE SUITE...    makes an apt below $work with these suites as sources, each as `deb` and `deb-src`
#   fetch WORD...                    runs its apt-get in $work/packages; exits with status 75 (EX_TEMPFAIL) if that
#                                    fails, because archives may be unreachable for a while
#   quietly COMMAND...               runs a command; if it fails, shows its output and exits
#
# The mirrors are this machine's; its apt state is only read.
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

quietly() { "$@" >"$work/log" 2>&1 || { tail -n 40 "$work/log" >&2; fail "$*: failed"; }; }
fetch() {
    (cd "$work/packages" && APT_CONFIG="$work/apt/apt.conf" apt-get "$@") >"$work/log" 2>&1 ||
        { tail -n 40 "$work/log" >&2; echo "apt-get $*: failed" >&2; exit 75; }
}

_mirror() { # debian or debian-security
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m 1 "/$1/*\$"
}

own_apt() {
    mkdir -p "$work/apt/lists/partial" "$work/apt/cache/archives/partial" "$work/packages"
    : >"$work/apt/status"
    cat >"$work/apt/apt.conf" <<CONF
APT::Architecture "$1";
APT::Architectures "$1";
Dir::Etc::SourceList "$work/apt/sources.list";
Dir::Etc::SourceParts "-";
Dir::Etc::PreferencesParts "-";
Dir::State::Lists "$work/apt/lists";
Dir::State::status "$work/apt/status";
Dir::Cache "$work/apt/cache";
Acquire::Languages "none";
APT::Sandbox::User "root";
CONF
    shift
    for suite in "$@"; do
        case $suite in *-security) archive=debian-security ;; *) archive=debian ;; esac
        mirror=$(_mirror $archive) || fail "no source whose path ends in /$archive in apt's sources"
        for kind in deb deb-src; do echo "$kind [signed-by=$KEYRING] $mirror $suite main"; done
    done >"$work/apt/sources.list"
    fetch update -q
}
