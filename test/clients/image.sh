#!/usr/bin/env bash
# image.sh OUT: the default image of the published clients, python:3.11, as an archive of an image made of Debian's packages. Where the
# machine's Debian has another Python, it has that one.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/image.sh"
out=$1
work=$(mktemp -d "${TMPDIR:-/tmp}/berm-python.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir "$work/packages" "$work/root"

roots=(python3 bash dash coreutils findutils grep sed tar gzip procps)
[ -n "$(apt-cache policy python3 2>/dev/null | grep -E 'Candidate: [0-9]')" ] || apt-get update -qq
closure=$(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances "${roots[@]}" | grep '^[a-z0-9]' | grep -v ':' | sort -u)
# Not those that are names alone.
real=$(apt-cache policy $closure | awk '/^[a-z0-9]/ {name = substr($1, 1, length($1) - 1)} /Candidate: [0-9]/ {print name}')
# What is downloaded is read by root alone: APT's own user needs no way in.
(cd "$work/packages" && apt-get -o APT::Sandbox::User=root -qq download $real)
for deb in "$work"/packages/*.deb; do dpkg-deb --fsys-tarfile "$deb" | tar -C "$work/root" --keep-directory-symlink -x; done

cd "$work/root"
rm -rf usr/share/doc usr/share/man usr/share/locale usr/share/info var/lib/dpkg
# What scripts of packages would have made.
for bin in bin usr/bin; do [ ! -e $bin/dash ] || [ -e $bin/sh ] || ln -s dash $bin/sh; done
mkdir -p usr/local/bin tmp workspace && ln -s ../../bin/python3 usr/local/bin/python && chmod 1777 tmp workspace
grep -q '^root:' etc/passwd 2>/dev/null || echo 'root:x:0:0:root:/root:/bin/bash' >>etc/passwd
grep -q '^root:' etc/group 2>/dev/null || echo 'root:x:0:' >>etc/group
chroot . /usr/local/bin/python -c 'import ssl, json, pickle' # It works.
docker_archive python:3.11 . "$work/image.tar" python3
mv "$work/image.tar" "$out"
