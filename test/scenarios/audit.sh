#!/usr/bin/env bash
# The audit, by curl and the CLI alone: who did what, who was refused what, what an export proves, and what somebody changed in the
# database file while the server was down. Ends with `N passed, N failed`.
set -uo pipefail
cd "$(dirname "$0")/../.."
. test/lib/server.sh
trap finish EXIT

passed=0 failed=0
check() { # NAME WANT GOT
  if [ "$2" = "$3" ]; then passed=$((passed + 1)); echo "ok      $1"
  else failed=$((failed + 1)); echo "FAILED  $1"; diff <(echo "$2") <(echo "$3") | head -n 20 | sed 's/^/        /'; fi
}
rows() { "$BERM" audit list -o json "$@" | jq -r '.[] | [.actor, .method, .kind, .outcome, .errorReason, .reason] | map(select(. != null and . != "")) | join(" ")'; }
# sql FILE STATEMENT: what somebody does who has the file.
sql() { python3 -c 'import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute(sys.argv[2]); c.commit()' "$@"; }

serve --no-runner || exit 1
printf 'display_name: agent\nspec:\n  container_image: host\n' >"$WORK/agent.yaml"
"$BERM" profile create -f "$WORK/agent.yaml" >/dev/null
"$BERM" profile edit agent --set resource_defaults.memory_limit=2Gi --reason 'ticket 7' >/dev/null || exit 1
CALLER=$("$BERM" token create --role user --name ci)
BERM_TOKEN=$CALLER "$BERM" profile delete agent >/dev/null 2>&1
check "what was done, by whom, and why" $'token:admin UpdateProfile profile done ticket 7\ntoken:admin CreateProfile profile done' "$(rows --actor token:admin | grep Profile)"
check "what was refused" "token:ci DeleteProfile profile refused ROLE_MISSING" "$(rows --outcome refused)"
BERM_TOKEN=berm_nonsense "$BERM" ls >/dev/null 2>&1
check "a caller without a token" "call refused TOKEN_INVALID" "$(rows --installation --outcome refused)"
BERM_TOKEN=$CALLER "$BERM" audit list >/dev/null 2>&1
check "a user sees none of it" 4 $?

"$BERM" audit verify >"$WORK/verified"; check "nobody has changed anything" 0 $?
HEAD=$(sed -n 's/^head //p' "$WORK/verified")
"$BERM" audit export >"$WORK/audit.jsonl"
BERM_URL='' BERM_TOKEN='' "$BERM" audit verify --file "$WORK/audit.jsonl" --head "$HEAD" >/dev/null; check "an export is verified without a server" 0 $?
sed 's/"token:ci"/"token:xx"/' "$WORK/audit.jsonl" | "$BERM" audit verify --file - >/dev/null 2>"$WORK/err"; check "one that was changed is not" 10 $?
# The same by sha256sum: what the documentation says is enough.
CHAIN=$(head -n 1 "$WORK/audit.jsonl" | jq -r .chain)
FIRST=$(sed -n 's/^{"hash":"[0-9a-f]*","record":\(.*\)}$/\1/p' "$WORK/audit.jsonl" | head -n 1)
check "sha256sum says the same" "$(sed -n 2p "$WORK/audit.jsonl" | jq -r .hash)" "$(printf 'berm audit 1\n%s\n\n%s\n' "$CHAIN" "$FIRST" | sha256sum | cut -d' ' -f1)"

stop_server
DB=$DATA/berm.db
cp "$DB" "$WORK/whole.db"
bad() { # NAME STATEMENT CODE FIRST-LINE-OF-STDERR [flags of verify]
  local name=$1 statement=$2 code=$3 want=$4; shift 4
  cp "$WORK/whole.db" "$DB"; rm -f "$DB-wal" "$DB-shm"
  sql "$DB" "$statement"
  serve --no-runner || exit 1
  "$BERM" audit verify "$@" >/dev/null 2>"$WORK/err"
  check "$name" "$code $want" "$? $(head -n 1 "$WORK/err" | cut -c1-"${#want}")"
  stop_server
}
REFUSED="WHERE chain = '$CHAIN' AND outcome = 'refused'"
SEQ=$(python3 -c 'import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute("SELECT seq FROM audit_rows " + sys.argv[2]).fetchone()[0])' "$DB" "$REFUSED")
bad "a row that was changed is named" "UPDATE audit_rows SET record = replace(record, 'token:ci', 'token:xx') $REFUSED" 10 "row $SEQ is not as it was written: hash mismatch"
bad "a row that was removed is named" "DELETE FROM audit_rows $REFUSED" 10 "row $SEQ is not as it was written"
bad "a chain that is gone shows with a head" "DELETE FROM audit_rows WHERE chain = '$CHAIN'" 10 "row 1 is not as it was written" --head "$HEAD"

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
