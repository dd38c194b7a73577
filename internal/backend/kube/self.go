package kube

import "k8s.io/client-go/rest"

// Client returns a client of the cluster of a configuration, for what a runner does that is not about sandboxes.
func Client(cfg Config) (rest.Interface, error) {
	rc, err := cfg.restConfig()
	if err != nil {
		return nil, err
	}
	c, err := newCluster(rc)
	if err != nil {
		return nil, unusable(cfg.RunnerName, err)
	}
	return c.core, nil
}
