#!/usr/bin/env bash
# The walk-through of docs/apply.md, command by command and answer by answer, against `berm serve` with two runners.
set -uo pipefail
cd "$(dirname "$0")/../.."
. test/lib/server.sh
trap finish EXIT

serve --runner east=us-east --runner west=us-west || exit 1
here=$PWD
mkdir "$WORK/tour" && cd "$WORK/tour" || exit 1
PATH=$(dirname "$BERM"):$PATH python3 "$here/test/scenarios/tutorial.py" "$here/docs/apply.md"
