#!/usr/bin/env bash
# Copies that are interrupted, with the CLI against `berm serve`: the server killed in the middle, the CLI killed in the middle, the
# source or what is there changed in between. Needs root. Ends with `N passed, N failed`.
set -uo pipefail
cd "$(dirname "$0")/../.."
. test/lib/server.sh
trap finish EXIT
[ "$(id -u)" = 0 ] || { echo "copy.sh needs root"; exit 1; }

passed=0 failed=0
check() { # NAME WANT GOT
  if [ "$2" = "$3" ]; then passed=$((passed + 1)); echo "ok      $1"
  else failed=$((failed + 1)); echo "FAILED  $1"; diff <(echo "$2") <(echo "$3") | head -n 20 | sed 's/^/        /'; fi
}

SIZE=$((200 << 20)) ENOUGH=$((8 << 20))
big=$WORK/big back=$WORK/back
head -c $SIZE /dev/urandom >"$big"; chmod 640 "$big"; touch -d '2020-01-02 03:04:05.678' "$big"
sum=$(sha256sum <"$big")
serve || exit 1
id=$("$BERM" run -d -- sleep infinity)

inside() { "$BERM" exec "$id" -- sh -c "$1"; }
there() { inside 'stat -c %s /workspace/.berm-part-* 2>/dev/null'; } # how much has come, inside
here() { stat -c %s "$WORK"/.berm-part-* 2>/dev/null; }
# middle PID HOW: waits until a copy is in its middle, by HOW. 1 says that it was over before.
middle() {
  while kill -0 "$1" 2>/dev/null; do
    [ "$($2 || echo 0)" -ge $ENOUGH ] 2>/dev/null && return 0
    sleep 0.01
  done
  echo "the copy was over before its middle was seen"; return 1
}
crash_server() { kill -9 "$SERVER_PID"; wait "$SERVER_PID" 2>/dev/null; serve || exit 1; }
looks() { inside "sha256sum </workspace/$1; stat -c '%a %.3Y' /workspace/$1; ls -A /workspace | grep berm-"; }
want=$(printf '%s\n640 1577934245.678' "$sum")

# In, and the server is killed.
"$BERM" cp "$big" "$id:/workspace/" 2>"$WORK/errs" & copy=$!
middle $copy there && crash_server
wait $copy; check "in: the copy goes on by itself when the server is killed" 0 $?
check "in: all is there, with mode and time, and nothing else" "$want" "$(looks big)"
check "in: it went on, and did not begin anew" "yes" "$(grep -q 'going on in' "$WORK/errs" && grep -q 'of it from before' "$WORK/errs" && echo yes || cat "$WORK/errs")"

# Out, and the server is killed.
"$BERM" cp "$id:/workspace/big" "$back" 2>"$WORK/errs" & copy=$!
middle $copy here && crash_server
wait $copy; check "out: the copy goes on by itself when the server is killed" 0 $?
check "out: all is here" "$sum" "$(sha256sum <"$back")"
check "out: with mode and time" "640 1577934245.678" "$(stat -c '%a %.3Y' "$back")"
check "out: it went on, and did not begin anew" "yes" "$(grep -q 'going on in' "$WORK/errs" && grep -q 'of it from before' "$WORK/errs" && echo yes || cat "$WORK/errs")"
check "out: nothing is left" "" "$(ls -A "$WORK" | grep berm-)"

# The CLI is killed, and another goes on.
"$BERM" cp -q "$big" "$id:/workspace/again" & copy=$!
middle $copy there && kill -9 $copy; wait $copy 2>/dev/null
check "in: half of a file has no name of a whole one" "no" "$(inside '[ -e /workspace/again ] && echo yes || echo no')"
"$BERM" cp --resume "$big" "$id:/workspace/again" 2>"$WORK/errs"; check "in: --resume" 0 $?
check "in: it went on with what was there" "yes" "$(grep -q 'of it from before' "$WORK/errs" && echo yes || cat "$WORK/errs")"
check "in: all is there after --resume" "$want" "$(looks again)"
rm "$back"
"$BERM" cp -q "$id:/workspace/big" "$back" & copy=$!
middle $copy here && kill -9 $copy; wait $copy 2>/dev/null
check "out: half of a file has no name of a whole one" "no" "$([ -e "$back" ] && echo yes || echo no)"
"$BERM" cp --resume "$id:/workspace/big" "$back" 2>"$WORK/errs"; check "out: --resume" 0 $?
check "out: it went on with what was there" "yes" "$(grep -q 'of it from before' "$WORK/errs" && echo yes || cat "$WORK/errs")"
check "out: all is here after --resume" "$sum" "$(sha256sum <"$back")"

# The sandbox changes what is there; the source changes.
rm "$back"
"$BERM" cp -q "$big" "$id:/workspace/changed" & copy=$!
middle $copy there && kill -9 $copy; wait $copy 2>/dev/null
inside 'printf x | dd of=$(echo /workspace/.berm-part-*) bs=1 seek=1000 conv=notrunc' 2>/dev/null
"$BERM" cp --resume "$big" "$id:/workspace/changed" 2>"$WORK/errs"; check "in: --resume of what the sandbox changed" 0 $?
check "in: it is told, and copied from its beginning" "yes" "$(grep -q 'is not the beginning of' "$WORK/errs" && ! grep -q 'from before' "$WORK/errs" && echo yes || cat "$WORK/errs")"
check "in: all is there" "$want" "$(looks changed)"
"$BERM" cp -q "$id:/workspace/big" "$back" & copy=$!
middle $copy here && kill -9 $copy; wait $copy 2>/dev/null
inside 'printf x | dd of=/workspace/big bs=1 seek=1000 conv=notrunc' 2>/dev/null
"$BERM" cp --resume "$id:/workspace/big" "$back" 2>"$WORK/errs"; check "out: --resume of a source that changed" 0 $?
check "out: it is told, and copied from its beginning" "yes" "$(grep -q 'has changed since' "$WORK/errs" && ! grep -q 'from before' "$WORK/errs" && echo yes || cat "$WORK/errs")"
check "out: it is what the source is now" "$(inside 'sha256sum </workspace/big')" "$(sha256sum <"$back")"

# Directories: what was whole is not copied again.
tree=$WORK/tree; mkdir -p "$tree/sub"
for ((i = 0; i < 60; i++)); do head -c 3000000 /dev/urandom >"$tree/sub/$i"; done; echo small >"$tree/small"; ln -s small "$tree/link"; chmod 555 "$tree/sub"
sums() { (cd "$1" && find . -type f -exec sha256sum {} + | sort); }
entered() { inside 'ls /workspace/tree/sub 2>/dev/null | wc -l'; }
left() { ls "$WORK/out/tree/sub" 2>/dev/null | wc -l; }
ENOUGH=5
resumed() { grep -q 'of it from before' "$WORK/errs" && echo yes || cat "$WORK/errs"; }
"$BERM" cp "$tree" "$id:/workspace/" 2>"$WORK/errs" & copy=$!
middle $copy entered && crash_server
wait $copy; check "a directory in: goes on by itself when the server is killed" "0 yes" "$? $(resumed)"
check "a directory in: all is there" "$(sums "$tree")" "$(inside 'cd /workspace/tree && find . -type f -exec sha256sum {} + | sort')"
mkdir "$WORK/out"
"$BERM" cp "$id:/workspace/tree" "$WORK/out" 2>"$WORK/errs" & copy=$!
middle $copy left && crash_server
wait $copy; check "a directory out: goes on by itself when the server is killed" "0 yes" "$? $(resumed)"
check "a directory out: all is here" "$(sums "$tree")" "$(sums "$WORK/out/tree")"
check "a directory out: with its mode and links" "555 small" "$(stat -c %a "$WORK/out/tree/sub") $(readlink "$WORK/out/tree/link")"
inside 'rm -rf /workspace/tree'; chmod 755 "$WORK/out/tree/sub"; rm -r "$WORK/out/tree"
"$BERM" cp -q "$tree" "$id:/workspace/tree" & copy=$!
middle $copy entered && kill -9 $copy; wait $copy 2>/dev/null
"$BERM" cp --resume "$tree" "$id:/workspace/tree" 2>"$WORK/errs"; check "a directory in: --resume does not guess where it goes" "6" $?
"$BERM" cp --resume "$tree/." "$id:/workspace/tree" 2>"$WORK/errs"; check "a directory in: --resume" "0 yes" "$? $(resumed)"
check "a directory in: all is there after --resume" "$(sums "$tree")" "$(inside 'cd /workspace/tree && find . -type f -exec sha256sum {} + | sort')"
"$BERM" cp -q "$id:/workspace/tree" "$WORK/out" & copy=$!
middle $copy left && kill -9 $copy; wait $copy 2>/dev/null
inside 'chmod u+w /workspace/tree/sub; echo changed >/workspace/tree/sub/0'
"$BERM" cp --resume "$id:/workspace/tree" "$WORK/out" 2>"$WORK/errs"; check "a directory out: --resume" "0 yes" "$? $(resumed)"
check "a directory out: what changed was copied again" "changed" "$(cat "$WORK/out/tree/sub/0")"
check "a directory out: all is here after --resume" "$(sums "$tree" | grep -v ' ./sub/0$')" "$(sums "$WORK/out/tree" | grep -v ' ./sub/0$')"
chmod -R u+w "$tree" "$WORK/out"

# A large file in a directory goes on at the byte where it was, between files that are whole, in a directory that will be read-only.
deep=$WORK/deep; mkdir -p "$deep/a/b"
echo first >"$deep/a/1"; mv "$big" "$deep/a/b/large"; echo last >"$deep/z"; chmod 555 "$deep/a/b"
ENOUGH=$((40 << 20))
inparts() { inside 'stat -c %s /workspace/deep/a/b/.berm-part-* 2>/dev/null'; }
outparts() { stat -c %s "$WORK"/out/deep/a/b/.berm-part-* 2>/dev/null; }
# saved: what had been seen to be there was not copied again.
saved() {
  local mb; mb=$(sed -n 's/.*, \([0-9.]*\) MB of it from before.*/\1/p' "$WORK/errs" | tail -n 1)
  [ "${mb%.*}" -ge $((ENOUGH / 1000000)) ] 2>/dev/null && echo yes || cat "$WORK/errs"
}
same_in() { [ "$(sums "$deep")" = "$(inside 'cd /workspace/deep && find . -type f -exec sha256sum {} + | sort')" ] && inside 'stat -c %a /workspace/deep/a/b'; }
same_out() { [ "$(sums "$deep")" = "$(sums "$WORK/out/deep")" ] && stat -c %a "$WORK/out/deep/a/b"; }
clear_in() { inside 'chmod -R u+w /workspace/deep; rm -rf /workspace/deep'; }
clear_out() { chmod -R u+w "$WORK/out/deep"; rm -rf "$WORK/out/deep"; }

"$BERM" cp "$deep" "$id:/workspace/" 2>"$WORK/errs" & copy=$!
middle $copy inparts && crash_server
wait $copy; check "a large file of a directory, in: goes on by itself when the server is killed" "0 yes" "$? $(saved)"
check "a large file of a directory, in: all is there" 555 "$(same_in)"
"$BERM" cp "$id:/workspace/deep" "$WORK/out" 2>"$WORK/errs" & copy=$!
middle $copy outparts && crash_server
wait $copy; check "a large file of a directory, out: goes on by itself when the server is killed" "0 yes" "$? $(saved)"
check "a large file of a directory, out: all is here" 555 "$(same_out)"
clear_in; clear_out

"$BERM" cp -q "$deep" "$id:/workspace/" & copy=$!
middle $copy inparts && kill -9 $copy; wait $copy 2>/dev/null
"$BERM" cp --resume "$deep" "$id:/workspace/" 2>"$WORK/errs"; check "a large file of a directory, in: --resume" "0 yes" "$? $(saved)"
check "a large file of a directory, in: all is there after --resume" 555 "$(same_in)"
"$BERM" cp -q "$id:/workspace/deep" "$WORK/out" & copy=$!
middle $copy outparts && kill -9 $copy; wait $copy 2>/dev/null
"$BERM" cp --resume "$id:/workspace/deep" "$WORK/out" 2>"$WORK/errs"; check "a large file of a directory, out: --resume" "0 yes" "$? $(saved)"
check "a large file of a directory, out: all is here after --resume" 555 "$(same_out)"
check "a large file of a directory: nothing else is left" "" "$(inside 'find /workspace/deep -name ".berm-*"'; find "$WORK/out" -name ".berm-*")"

# What the sandbox changed in between, on either side, is told and copied from its beginning.
clear_in
"$BERM" cp -q "$deep" "$id:/workspace/" & copy=$!
middle $copy inparts && kill -9 $copy; wait $copy 2>/dev/null
inside 'printf x | dd of=$(echo /workspace/deep/a/b/.berm-part-*) bs=1 seek=1000 conv=notrunc' 2>/dev/null
"$BERM" cp --resume "$deep" "$id:/workspace/" 2>"$WORK/errs"; check "a large file of a directory, in: --resume of what the sandbox changed" 0 $?
check "a large file of a directory, in: it is told" "yes" "$(grep -q 'has changed.*from its beginning' "$WORK/errs" && echo yes || cat "$WORK/errs")"
check "a large file of a directory, in: all is there" 555 "$(same_in)"
clear_out
"$BERM" cp -q "$id:/workspace/deep" "$WORK/out" & copy=$!
middle $copy outparts && kill -9 $copy; wait $copy 2>/dev/null
inside 'chmod u+w /workspace/deep/a/b/large; printf x | dd of=/workspace/deep/a/b/large bs=1 seek=1000 conv=notrunc' 2>/dev/null
"$BERM" cp --resume "$id:/workspace/deep" "$WORK/out" 2>"$WORK/errs"; check "a large file of a directory, out: --resume of a source that changed" 0 $?
check "a large file of a directory, out: it is told" "yes" "$(grep -q 'has changed since.*from its beginning' "$WORK/errs" && echo yes || cat "$WORK/errs")"
check "a large file of a directory, out: it is what the source is now" "$(inside 'sha256sum </workspace/deep/a/b/large')" "$(sha256sum <"$WORK/out/deep/a/b/large")"
chmod -R u+w "$deep" "$WORK/out"

echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
