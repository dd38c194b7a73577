// Package image turns an image reference into a root file system: aliases from references to OCI layouts, the choice of a
// manifest by architecture, a store of unpacked layers by digest, and the overlay mount of a sandbox.
//
// Nothing in a layout is trusted. Every blob is checked against its digest, and the unpacker creates files only below the
// directory of the layer, through directory handles that never follow a link. An archive that tries anything else is refused
// as a whole; nothing of it stays.
package image

import (
	"github.com/bermhq/berm/internal/core/fault"
)

// Host is the name of the built-in image: the machine's /usr.
const Host = "host"

// Limits of an image. Each is checked where the thing is read, before memory or disk is spent on it.
const (
	// MaxAliases is the most aliases of a runner.
	MaxAliases = 256
	// MaxManifestBytes is the largest index, manifest or configuration, in bytes.
	MaxManifestBytes = 4 << 20
	// MaxIndexDepth is how deep indexes may be nested.
	MaxIndexDepth = 3
	// MaxIndexEntries is the most entries that are looked at in one index.
	MaxIndexEntries = 1024
	// MaxLayers is the most layers of an image; overlayfs takes 500, Docker makes at most 127.
	MaxLayers = 128
	// MaxBlobBytes is the largest compressed layer, in bytes.
	MaxBlobBytes = 16 << 30
	// MaxImageBytes is the most file content of an image, over all layers, in bytes.
	MaxImageBytes = 32 << 30
	// MaxEntries is the most entries of one layer, directories that none of them describes included.
	MaxEntries = 2 << 20
	// MaxRatio is how many bytes a compressed byte may become, once RatioFrom bytes came out. Deflate reaches 1032.
	MaxRatio = 200
	// RatioFrom is how much may come out before the ratio counts: small layers of zeros are not bombs.
	RatioFrom = 256 << 20
	// MaxName is the longest path of an entry, in bytes.
	MaxName = 4095
	// MaxComponent is the longest element of such a path, in bytes.
	MaxComponent = 255
	// MaxDirectoryNames is how long the paths of all directories of a layer may be together, in bytes: they are kept in memory.
	MaxDirectoryNames = 64 << 20
	// MaxDepth is how many elements it may have.
	MaxDepth = 256
	// MaxID is the largest owner; a sandbox maps 65536 ids.
	MaxID = 1<<16 - 1
)

// invalid returns the fault for content that cannot be what it claims or that is not safe.
func invalid(format string, args ...any) *fault.Error {
	return fault.New(fault.Invalid, fault.ReasonImageInvalid, format, args...)
}

// Failpoints lists the failpoints of this package.
func Failpoints() []string {
	return []string{failLayerUnpacked, failLayerRenamed, failMounted, failLayerHidden, failLayerDiscarded}
}

const (
	failLayerUnpacked = "image.layer-unpacked"
	failLayerRenamed  = "image.layer-renamed"
	failMounted       = "image.mounted"

	failLayerHidden    = "image.layer-hidden"
	failLayerDiscarded = "image.layer-discarded"
)
