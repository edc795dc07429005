#!/bin/sh
# Copies a running production server: its three databases, its arrays and its keys.
#   backup.sh FOLDER        with the variables of tiled.env, and XPCS_KEYS (default /etc/xpcs/keys)
# FOLDER/NOW holds it when the program ends with status 0, and is not there before. The databases come
# first: arrays of runs that begin meanwhile are then superfluous, and none is missing.
set -eu
umask 077
: "${1:?expected the folder for backups}"
: "${XPCS_TILED_CATALOG:?}" "${XPCS_TILED_USERS:?}" "${XPCS_TILED_TABLES:?}" "${XPCS_TILED_ARRAYS:?}"
keys=${XPCS_KEYS:-/etc/xpcs/keys}
now=$(date -u +%Y%m%dT%H%M%SZ)
part=$1/.$now.part
mkdir -p "$part"
trap 'rm -rf "$part"' EXIT
for name in CATALOG USERS TABLES; do
    eval "address=\$XPCS_TILED_$name"
    address=$(printf %s "$address" | sed 's/^postgresql+[a-z]*:/postgresql:/')
    pg_dump --format=custom --file="$part/$name.dump" "$address"
done
tar -C "$XPCS_TILED_ARRAYS" -cf "$part/arrays.tar" --warning=no-file-changed . || [ $? -eq 1 ]
[ ! -d "$keys" ] || tar -C "$keys" -cf "$part/keys.tar" .
(cd "$part" && sha256sum ./* > SHA256SUMS)
mv "$part" "$1/$now"
trap - EXIT
echo "$1/$now"
