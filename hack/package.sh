# Sourced by build-deb.sh and build-rpm.sh, which define `name`: prepares the common content, the unpacked release.
#
#   unpack_release ARTEFACT [DIR]    sets `version` and `architecture`, from the artefact's name; `dist` (DIR, which is
#                                    made); `work`, which is removed at the end; and `root`, the package's files: the
#                                    release in usr/lib/pouchrich/release, links in usr/bin, manual pages, completions
#   deliver FILE NAME                moves a file into DIR
#
# File times are the release's. Needs zstd.
set -eu
umask 022
export LC_ALL=C TZ=UTC
checkout=$(cd "$(dirname "$0")/.." && pwd)

fail() { echo "$name: $*" >&2; exit 1; }

unpack_release() {
    usage="usage: hack/$name.sh ARTEFACT [DIR]"
    case ${1:-} in ""|-*) fail "$usage" ;; esac
    [ $# -le 2 ] || fail "$usage"
    [ -r "$1" ] || fail "$1: cannot be read"
    named=$(basename "$1" | sed -nE 's/^pouchrich-(.*)-linux-(amd64|arm64)\.tar\.zst$/\1 \2/p')
    [ -n "$named" ] || fail "$1: not the name of a release"
    version=${named% *} architecture=${named#* }
    dist=${2:-$(dirname "$1")}
    mkdir -p "$dist"
    dist=$(cd "$dist" && pwd)
    work=$(mktemp -d "$dist/.$name.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    trap 'exit 1' HUP INT TERM
    root=$work/tree release=$work/tree/usr/lib/pouchrich/release
    mkdir -p "$root/usr/lib/pouchrich" "$root/usr/bin" "$root/usr/share"
    tar -C "$root/usr/lib/pouchrich" --zstd -xf "$1" --no-same-owner
    mv "$root/usr/lib/pouchrich/pouchrich-$version" "$release"
    export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(stat -c %Y "$release/install")}"
    for program in containerd-shim-pouchrich-v2 pouchrich; do
        ln -s "/opt/pouchrich/current/bin/$program" "$root/usr/bin/$program"
    done
    cp -R "$release/share/." "$root/usr/share"
    find "$root/usr/share/man" -type f -exec gzip -9n {} +
}

deliver() {
    mv "$1" "$dist/$2"
    echo "$dist/$2: $(stat -c %s "$dist/$2") bytes"
}
