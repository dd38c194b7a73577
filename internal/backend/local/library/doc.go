// Package library keeps the images of one runner: it finds what a reference stands for (an alias, an image that is here, a mirror, a
// registry), pulls what is missing, once however many ask, and removes what nobody needs.
//
// An image that is here is a record of its manifest, written when everything of it is on disk; names are records of their own that
// point to one. So a machine that goes down at any moment has an image as a whole or not at all, and what was downloaded of it is gone
// on with. Compressed layers are kept only until they are unpacked.
//
// Content is shared by digest; names are not: an image counts as that of a repository only once that repository named it, so that a
// digest alone opens nothing that the repository in front of it does not have.
package library

import "time"

// Limits of a library.
const (
	// tempImport begins the names of directories of imports under way.
	tempImport = "import-"

	// MaxMirrors is the most mirrors of one registry.
	MaxMirrors = 8
	// MaxPins is the most pins.
	MaxPins = 256
	// MaxConfigBytes is the largest configuration file, in bytes.
	MaxConfigBytes = 1 << 20
	// MaxPullTime bounds one pull, whatever the registry does.
	MaxPullTime = 2 * time.Hour
	// MaxImages is how many images are kept; the one that was used longest ago goes first.
	MaxImages = 4096
	// MaxNames is how many names are kept of one image.
	MaxNames = 64
	// DefaultKeep is how long an image is kept that nothing uses and nothing pins.
	DefaultKeep = 30 * 24 * time.Hour
	// MinKeep is the least that a configuration may ask for: what was just pulled must not go before it is used.
	MinKeep = time.Minute
	// MaxImportBytes is the largest archive that is imported, in bytes.
	MaxImportBytes = 32 << 30
	// MaxImportEntries is the most files of such an archive.
	MaxImportEntries = 64 << 10
	// importLooks is how many of them go by before it is looked whether the disk has room.
	importLooks = 256

	// parallelLayers is how many layers of one pull are downloaded at a time; the registry's budget may allow fewer.
	parallelLayers = 4
	// reportEvery is how often progress is told.
	reportEvery = 200 * time.Millisecond
	// collectEvery is how often a library looks for what nobody needs, besides after each pull.
	collectEvery = time.Hour
	// keepParts is how long half a download is kept for another attempt.
	keepParts = 24 * time.Hour
	// maxRecordBytes is the largest record, in bytes.
	maxRecordBytes = 1 << 20
)

// Failpoints lists the failpoints of this package.
func Failpoints() []string {
	return []string{failBlobKept, failLayerKept, failPulled, failImageRecorded, failNameRecorded, failImageDropped, failCollected}
}

const (
	failBlobKept      = "library.blob-kept"
	failLayerKept     = "library.layer-kept"
	failPulled        = "library.pulled"
	failImageRecorded = "library.image-recorded"
	failNameRecorded  = "library.name-recorded"
	failImageDropped  = "library.image-dropped"
	failCollected     = "library.collected"
)
