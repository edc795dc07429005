#!/bin/sh
# Puts a backup back: into the databases and folders that the variables of tiled.env name.
#   restore.sh FOLDER/TIME     Tiled must be stopped, and what is there must be empty.
set -eu
: "${1:?expected the folder of one backup}"
: "${XPCS_TILED_CATALOG:?}" "${XPCS_TILED_USERS:?}" "${XPCS_TILED_TABLES:?}" "${XPCS_TILED_ARRAYS:?}"
keys=${XPCS_KEYS:-/etc/xpcs/keys}
from=$(cd "$1" && pwd)
(cd "$from" && sha256sum --quiet --check SHA256SUMS)
mkdir -p "$XPCS_TILED_ARRAYS"
if [ -n "$(ls -A "$XPCS_TILED_ARRAYS")" ]; then
    echo "$XPCS_TILED_ARRAYS: not empty; expected an empty folder, so that nothing is mixed." >&2
    exit 1
fi
for name in CATALOG USERS TABLES; do
    eval "address=\$XPCS_TILED_$name"
    address=$(printf %s "$address" | sed 's/^postgresql+[a-z]*:/postgresql:/')
    # Stops at the first error: a database that is not empty stays as it is.
    pg_restore --exit-on-error --single-transaction --no-owner --dbname="$address" "$from/$name.dump"
done
tar -C "$XPCS_TILED_ARRAYS" -xf "$from/arrays.tar"
if [ -f "$from/keys.tar" ]; then
    mkdir -p "$keys"
    chmod 700 "$keys"
    tar -C "$keys" -xf "$from/keys.tar"
fi
echo "Restored $from. Start Tiled again."
