package network

// Failpoints of this package: after each change of the machine.
const (
	failBlock       = "network.block-written"
	failAnchor      = "network.anchor-made"
	failTable       = "network.table-written"
	failNoted       = "network.forwarding-noted"
	failForwarding  = "network.forwarding-on"
	failNamespace   = "network.namespace-made"
	failLink        = "network.link-made"
	failAssigned    = "network.slot-assigned"
	failInstalled   = "network.rules-installed"
	failUninstalled = "network.rules-removed"
	failFlowsClosed = "network.flows-closed"
	failAdopted     = "network.rules-adopted"
	failPinned      = "network.name-pinned"
)

// Failpoints lists the failpoints of this package.
func Failpoints() []string {
	return []string{
		failBlock, failAnchor, failTable, failNoted, failForwarding, failNamespace, failLink, failAssigned, failInstalled, failUninstalled,
		failFlowsClosed, failAdopted, failPinned,
	}
}
