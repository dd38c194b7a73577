#!/usr/bin/env bash
# `berm bench`: each measure is made, of calls that did what they should; nothing is left behind, by a run that is refused or interrupted
# neither; what is lost is said. How fast it was is not judged here: docs/benchmarks.md has the figures. Needs root.
# Ends with `N passed, N failed`.
set -uo pipefail
cd "$(dirname "$0")/../.."
. test/lib/server.sh
trap finish EXIT
[ "$(id -u)" = 0 ] || { echo "bench.sh needs root"; exit 1; }

passed=0 failed=0
check() { # NAME WANT GOT
  if [ "$2" = "$3" ]; then passed=$((passed + 1)); echo "ok      $1"
  else failed=$((failed + 1)); echo "FAILED  $1"; diff <(echo "$2") <(echo "$3") | head -n 20 | sed 's/^/        /'; fi
}
there() { "$BERM" ls -o json | jq length; }
few=(--count 3 --at-once 4 --streams 2 --size 4Mi --idle-streams 20)

serve || exit 1
"$BERM" bench "${few[@]}" -o json >"$WORK/figures" 2>"$WORK/errs"
check "a run of everything succeeds" "0" "$?"
check "each figure is of calls that went well" "[]" "$(jq -c 'map(select(.lost != 0 or .count == 0 or ((.p50Ms // 0) <= 0 and (.rate // 0) <= 0)))' "$WORK/figures")"
check "how much was measured" "exec of true 3, exec of true, at once 4, create to first output 3, create to first output, at once 4, output of 2 at once 2, file read 3, idle stream, until it is open 20, list of 100 3" \
  "$(jq -r '[.[] | select(.measure | test("^(exec|create|output of 2|file read|idle|list)")) | "\(.measure) \(.count)"] | join(", ")' "$WORK/figures")"
check "ratios are of figures of the same run" "[]" "$(jq -c '[.[].measure] as $names | map(select(.of and ((.of as $of | $names | index($of)) == null)))' "$WORK/figures")"
check "nothing is left" "0" "$(there)"
check "what is measured is said" "file: a file written into a sandbox and read back" "$("$BERM" bench file --size 1Mi 2>&1 >/dev/null)"

"$BERM" bench start "${few[@]}" --image no/such >"$WORK/figures" 2>"$WORK/errs"
check "launches that are refused are lost, and fail the run" "1 3 of 3 were lost" "$? $(grep -o '3 of 3 were lost' "$WORK/errs")"
check "and have no time" "3 3 null" "$("$BERM" bench start "${few[@]}" --image no/such -o json 2>/dev/null | jq -r '.[] | select(.measure == "create to first output") | "\(.count) \(.lost) \(.p50Ms)"')"
check "a profile that is not there" "no runner binds a profile called none" "$("$BERM" bench exec "${few[@]}" --profile none 2>&1 | grep -o 'no runner binds a profile called none')"
check "nothing is left of those" "0" "$(there)"

"$BERM" bench start --count 10000 >"$WORK/figures" 2>"$WORK/errs" & runner=$!
for ((i = 0; i < 400; i++)); do [ "$("$BERM" ls -o json --tag berm-bench | jq length)" != 0 ] && break; sleep 0.05; done
kill -INT $runner; wait $runner
check "an interrupted run says so" "130" "$?"
check "and leaves nothing" "0" "$(there)"

token=$("$BERM" token create --name plain --role user -o json | jq -r .token)
check "without an operator's token all but the server's memory is measured" "exec of true" "$(BERM_TOKEN=$token "$BERM" bench exec "${few[@]}" -o json 2>/dev/null | jq -r '.[2].measure')"
BERM_TOKEN=$token "$BERM" bench idle "${few[@]}" >/dev/null 2>"$WORK/errs"
check "which is refused" "operator" "$(grep '^error' "$WORK/errs" | grep -o operator | head -n 1)"
check "and leaves nothing either" "0" "$(there)"

echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
