package runner

import "github.com/bermhq/berm/internal/backend"

// Images returns the images that the backend keeps, nil when it keeps none itself.
func (a *Agent) Images() backend.Images {
	images, _ := a.backend.(backend.Images)
	return images
}
