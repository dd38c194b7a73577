package cli

import "testing"

func TestSize(t *testing.T) {
	for bytes, want := range map[int64]string{0: "0", 1023: "1023", 1024: "1.0Ki", 1536: "1.5Ki", 1 << 20: "1.0Mi", 10 << 30: "10.0Gi", 5 << 50: "5120.0Ti"} {
		if got := size(bytes); got != want {
			t.Errorf("%d is %s, want %s", bytes, got, want)
		}
	}
}
