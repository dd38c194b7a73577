package local

import (
	"slices"

	"github.com/bermhq/berm/internal/backend/local/disk"
	"github.com/bermhq/berm/internal/backend/local/image"
	"github.com/bermhq/berm/internal/backend/local/image/registry"
	"github.com/bermhq/berm/internal/backend/local/library"
	"github.com/bermhq/berm/internal/backend/local/network"
)

// Failpoints of this package: after each write and around each call that changes the machine.
const (
	failRecordWritten = "local.record-written"
	failRecordRenamed = "local.record-renamed"
	failDirMade       = "local.create-dir-made"
	failAccepted      = "local.create-accepted"
	failImageHeld     = "local.start-image-held"
	failBoxMade       = "local.start-box-made"
	failDiskMade      = "local.start-disk-made"
	failDiskMounted   = "local.start-disk-mounted"
	failRooted        = "local.start-root-ready"
	failBundled       = "local.start-bundle-written"
	failShimStarted   = "local.start-shim-started"
	failStopRecorded  = "local.stop-recorded"
	failStopAsked     = "local.stop-asked"
	failPaused        = "local.pause-done"
	failResumed       = "local.resume-done"
	failSlotMade      = "local.slot-dir-made"
	failSlotReady     = "local.slot-ready"
	failSlotEnded     = "local.slot-ended"
	failSlotRemoved   = "local.slot-removed"
	failSlotTaken     = "local.slot-taken"
	failSlotClaimed   = "local.slot-claimed"
	failSlotBegun     = "local.slot-begun"
	failSuspended     = "local.suspend-done"
	failForkSaved     = "local.fork-saved"
	failEndSeen       = "local.end-seen"
	failEndRecorded   = "local.end-recorded"
	failReleased      = "local.end-released"
	failOutputMoved   = "local.delete-output-moved"
	failTrashed       = "local.delete-trashed"
	failDeleted       = "local.delete-done"
	failRecovered     = "local.recover-one"
)

// Failpoints lists the failpoints of this backend.
func Failpoints() []string {
	return slices.Concat([]string{
		failRecordWritten, failRecordRenamed, failDirMade, failAccepted, failImageHeld, failBoxMade, failDiskMade, failDiskMounted, failRooted, failBundled, failShimStarted,
		failStopRecorded, failStopAsked, failPaused, failResumed, failSlotMade, failSlotReady, failSlotEnded, failSlotRemoved,
		failSlotTaken, failSlotClaimed, failSlotBegun, failEndSeen, failEndRecorded, failReleased, failOutputMoved, failTrashed, failDeleted, failRecovered,
	}, disk.Failpoints(), image.Failpoints(), registry.Failpoints(), library.Failpoints(), network.Failpoints())
}

// CheckpointFailpoints lists those around the saving of sandboxes, which only a runtime that can passes.
func CheckpointFailpoints() []string { return []string{failSuspended, failForkSaved} }
