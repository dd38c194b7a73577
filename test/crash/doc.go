// Package crash kills the server at every failpoint with operations in flight, starts it again and checks that nothing was lost,
// doubled, invented or left behind. It needs root, bin/berm and a runtime; test/crash/run.sh runs it.
package crash
