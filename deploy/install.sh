#!/bin/sh
# Installs Lifeboat from an unpacked tarball: `./install.sh`. Shows all that it will do, and asks before it changes anything.
#
#   --yes        do not ask
#   --dry-run    show it, and do nothing
#   --root DIR   install into another root than /
#   --help       this
#
# Run again with a newer tarball it upgrades: configuration, keys, state and repositories stay as they are. It starts and enables nothing; a service
# that runs is started again with the new program, after it was said.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
tree=$here/tree
root='' yes=no dry=no

stop() {
    echo "install.sh: $1" >&2
    exit "${2:-1}"
}

while [ $# -gt 0 ]; do
    case $1 in
    --yes) yes=yes ;;
    --dry-run) dry=yes ;;
    --root)
        [ $# -ge 2 ] || stop "--root needs a directory" 2
        root=${2%/}
        # A root that is empty would be this system.
        if [ -z "$root" ] || [ ! -d "$root" ]; then
            stop "--root $2 is no directory, or is this system: leave --root out for that" 2
        fi
        shift
        ;;
    --help)
        sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
    *) stop "unknown argument $1; --help lists them" 2 ;;
    esac
    shift
done

[ -x "$tree/usr/local/bin/lifeboat" ] || stop "there is no $tree/usr/local/bin/lifeboat: run it from the unpacked tarball" 2
(cd "$here" && sha256sum --quiet --check SHA256SUMS) || stop "the files are not those of the tarball (above): unpack it anew"
if [ -x "$root/usr/bin/lifeboat" ]; then
    stop "lifeboat is installed as a package already (/usr/bin/lifeboat): upgrade that, or remove it first" 2
fi

has_user() { grep -q '^lifeboat:' "$root/etc/passwd" 2>/dev/null; }
# Number of the user (passwd) or the group (group) in that root.
number() { awk -F: '$1 == "lifeboat" { print $3 }' "$root/etc/$1"; }
runs() { [ -z "$root" ] && [ -d /run/systemd/system ] && systemctl --quiet is-active lifeboat.service; }

echo "This will be done:"
(cd "$tree" && find . -type f | sort) | while read -r file; do
    file=${file#.}
    if [ ! -e "$root$file" ]; then
        echo "  write    $root$file"
    elif cmp -s "$tree$file" "$root$file"; then
        echo "  keep     $root$file (is the same)"
    else
        echo "  replace  $root$file"
    fi
done
has_user || echo "  make     the system user and group lifeboat, without home and login"
for directory in /etc/lifeboat /var/lib/lifeboat /var/cache/lifeboat; do
    [ -d "$root$directory" ] || echo "  make     the directory $root$directory"
done
if runs; then echo "  restart  lifeboat.service, which runs"; fi

[ "$dry" = no ] || exit 0
[ "$(id -u)" -eq 0 ] || stop "only root can do that: sudo $0"
if [ "$yes" = no ]; then
    [ -t 0 ] || stop "nobody is here to ask: say --yes" 2
    printf 'Go on? [y/N] '
    read -r answer
    case $answer in
    y | Y | yes) ;;
    *) stop "nothing was changed" ;;
    esac
fi

(cd "$tree" && find . -type f | sort) | while read -r file; do
    file=${file#.}
    mode=0644
    [ "$file" != /usr/local/bin/lifeboat ] || mode=0755
    # Beside it first, then renamed: a program that runs cannot be written to, and a crash leaves the old one or the new one.
    install -D -m "$mode" "$tree$file" "$root$file.new"
    mv -f "$root$file.new" "$root$file"
done
if ! has_user; then
    if command -v systemd-sysusers >/dev/null; then
        systemd-sysusers ${root:+--root="$root"} "$root/usr/local/lib/sysusers.d/lifeboat.conf"
    else
        useradd ${root:+--root "$root"} --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin lifeboat
    fi
fi
user=$(number passwd) group=$(number group)
install -d -m 0750 -o 0 -g "$group" "$root/etc/lifeboat"
install -d -m 0700 -o "$user" -g "$group" "$root/var/lib/lifeboat" "$root/var/cache/lifeboat"
if [ -z "$root" ] && [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    if runs; then systemctl restart lifeboat.service; fi
fi
echo "Done. To begin, as root: lifeboat config init && systemctl enable --now lifeboat"
echo "The first steps are in /usr/local/share/doc/lifeboat/operations/first-hour.md."
