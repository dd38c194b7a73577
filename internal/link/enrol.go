package link

import "time"

// EnrolRequest is the body that an enrolment token is exchanged with.
type EnrolRequest struct {
	// Identity says which cluster or machine it is.
	Identity string `json:"identity"`
	// Versions are those of the link that the runner speaks.
	Versions string `json:"versions"`
	// Software is the version of the program.
	Software string `json:"software,omitempty"`
}

// EnrolResponse is what it is exchanged for.
type EnrolResponse struct {
	RunnerID   string    `json:"runner_id"`
	RunnerUUID string    `json:"runner_uuid"`
	Secret     string    `json:"secret"`
	ExpiresAt  time.Time `json:"expires_at"`
}
