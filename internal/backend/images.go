package backend

import (
	"context"
	"io"
	"time"
)

// Images is what a backend that keeps images of its own lets its owner do with them. A backend that leaves images to something else, as
// pods do, does not implement it. Errors are faults.
type Images interface {
	// PullImage asks the registry for an image and makes it present. report, which may be nil, is told the progress.
	PullImage(ctx context.Context, in ImagePull, report func(ImageProgress)) (*Image, error)
	// ListImages lists what is here, by name.
	ListImages(ctx context.Context) ([]Image, error)
	// RemoveImage removes a name, and with its last one the image; named by digest it goes with all names. What is pinned or in use is
	// refused without force; what is in use keeps its content until that ends.
	RemoveImage(ctx context.Context, ref string, force bool) (*ImageRemoval, error)
	// ImportImage reads an archive of images: an OCI layout or what `docker save` writes, either compressed. name, when not empty, is what
	// its only image is called.
	ImportImage(ctx context.Context, name string, pin bool, archive io.Reader) ([]Image, error)
}

// ImagePull says what to pull.
type ImagePull struct {
	Ref string
	// Pin keeps it until it is removed by hand.
	Pin bool
}

// ImageProgress is how far a pull is.
type ImageProgress struct {
	Source       string
	Layers, Done int
	Bytes, Total int64
}

// Image is an image that is present.
type Image struct {
	// Digest is that of its manifest, Index of what its name stands for in the registry where that is an index, else "".
	Digest, Index string
	// Names are its tags; it may have none.
	Names []string
	// From says where it came from, PulledAt when, UsedAt when it was last used.
	From             string
	PulledAt, UsedAt time.Time
	Layers           int
	// Bytes is the content of its layers, Own what no other image shares.
	Bytes, Own int64
	// InUse counts the sandboxes that use it.
	InUse  int
	Pinned bool
	// Downloaded is set in the answer to a pull; 0 when it was here.
	Downloaded int64
}

// ImageRemoval says what was removed.
type ImageRemoval struct {
	// Names were removed; Digest is not empty when the image went with them.
	Names  []string
	Digest string
	// Freed is how many bytes of layers went; those in use go later.
	Freed int64
}
