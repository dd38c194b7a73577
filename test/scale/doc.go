// Package scale holds a test of many sandboxes on one cluster: the real programs, `berm serve` and `berm runner --backend kube`, and a
// cluster that is made up (cluster_test.go, node_test.go). Its API server speaks the real protocol to the runner's real client: lists and watches in
// protobuf, server-side apply, the WebSocket of a command; its one node says of every pod that it runs, and answers for every init.
// Nothing is scheduled, checked, or written to disk, so that one machine holds tens of thousands of pods beside the runner.
package scale
