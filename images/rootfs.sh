#!/bin/sh
# Copies files and folders of this Debian into an empty root, with the libraries that they load.
# What nobody named is not in the image: no shell, no package manager, no setuid file.
#
# Usage: rootfs.sh ROOT PATH...
set -eu

root=$1
shift

# Debian's merged /usr: the loader is named by its old place.
mkdir -p "$root"
for link in /bin /lib /lib64 /sbin; do
    if [ -L "$link" ]; then
        mkdir -p "$root$(readlink -f "$link")"
        cp -P "$link" "$root/"
    fi
done

for path in "$@"; do
    mkdir -p "$root$(dirname "$path")"
    cp -a "$path" "$root$(dirname "$path")/"
done

# Each library under the name by which the loader asks for it.
find "$root" -type f \( -perm -u+x -o -name '*.so*' \) -exec ldd {} \; 2>/dev/null |
    grep -o '/[^ ]*' | grep -v ':$' | sort -u |
    while read -r library; do
        [ -e "$root$library" ] && continue
        mkdir -p "$root$(dirname "$library")"
        cp -L "$library" "$root$library"
    done

mkdir -p "$root/etc" "$root/tmp"
ldconfig -r "$root"
chmod 1777 "$root/tmp"
printf 'root:x:0:0:root:/:/\nnobody:x:65534:65534:nobody:/:/\n' >"$root/etc/passwd"
printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"
