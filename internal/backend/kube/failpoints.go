package kube

// Failpoints of this package: after each write to the cluster, and around what is decided by it.
const (
	failNamespaceMade = "kube.create-namespace-made"
	failSecretMade    = "kube.create-secret-made"
	failPodMade       = "kube.create-pod-made"
	failStopNoted     = "kube.stop-noted"
	failStopAsked     = "kube.stop-asked"
	failEndSeen       = "kube.end-seen"
	failSecretDeleted = "kube.delete-secret-deleted"
	failPodDeleted    = "kube.delete-pod-deleted"
	failRecovered     = "kube.recovered"
)

// Failpoints lists the failpoints of this backend.
func Failpoints() []string {
	return []string{
		failNamespaceMade, failSecretMade, failPodMade, failStopNoted, failStopAsked, failEndSeen, failSecretDeleted, failPodDeleted, failRecovered,
	}
}
