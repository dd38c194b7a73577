// Package cluster tests against a real Kubernetes API server, which the script `cluster` beside it builds and runs. The tests have
// the build tag `cluster`; dryrun.sh runs them.
package cluster
