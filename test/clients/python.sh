#!/usr/bin/env bash
# The published Python client, as it is, against a server of its own: every public method that needs no cloud of the vendor. Arguments
# are pytest's. The client is the last that knows profiles; it and the image of its sandboxes are kept outside the clone, by version.
# The last line is pytest's.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd) root=$(cd "$(dirname "$0")/../.." && pwd)
client=0.26.2 pytest=9.2.0 validator=0.9.0
cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/berm/clients
mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9

venv=$cache/cwsandbox-cli-$client-pytest-$pytest-openapi-$validator-$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
if [ ! -e "$venv/whole" ]; then
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install -q --disable-pip-version-check "cwsandbox[cli]==$client" "pytest==$pytest" "openapi-spec-validator==$validator"
  touch "$venv/whole"
fi
image=$cache/python-$(sha256sum "$here/image.sh" "$root/test/lib/image.sh" | sha256sum | cut -c1-12).tar
[ -e "$image" ] || { "$here/image.sh" "$image.new"; mv "$image.new" "$image"; }
flock -u 9

[ $# -gt 0 ] || set -- "$here/python"
export BERM=$root/bin/berm BERM_PYTHON_IMAGE=$image PYTHONDONTWRITEBYTECODE=1
exec "$venv/bin/python" -m pytest -q -p no:cacheprovider --tb=short "$@"
