package cli

import (
	"slices"
	"testing"
)

// TestExposeFlag: what --expose says is declared and exposed; what it cannot mean is refused.
func TestExposeFlag(t *testing.T) {
	req, err := (&launchFlags{ingress: "web", expose: []string{"53", "53/udp", "80/TCP"}}).request(&session{})
	if err != nil {
		t.Fatal(err)
	}
	var ports []string
	for _, p := range req.GetPorts() {
		ports = append(ports, p.String())
	}
	if n := req.GetNetwork(); n.GetIngressMode() != "web" || !slices.Equal(n.GetExposedPorts(), []int32{53, 80}) || len(ports) != 3 || req.GetPorts()[1].GetProtocol() != "UDP" {
		t.Errorf("%v, %v", n, ports)
	}
	for _, text := range []string{"", "0", "65536", "http", "80/", "-1"} {
		if _, err := (&launchFlags{expose: []string{text}}).request(&session{}); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}
