package cli

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestListsAreWhole: a list is read to its end, through pages that are empty, and one that does not end is no list.
func TestListsAreWhole(t *testing.T) {
	const last = 300
	page := func(int) string { return "" }
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := 0
		_, _ = fmt.Sscanf(r.URL.Query().Get("pageToken"), "p%d", &n)
		items := []string{}
		if n%2 == 1 {
			items = append(items, fmt.Sprintf(`{"name":"z%d"}`, n))
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"zones":[%s],"nextPageToken":%q}`, strings.Join(items, ","), page(n))
	}))
	defer server.Close()
	list := func() result {
		return run(t, map[string]string{"BERM_URL": server.URL, "BERM_TOKEN": "t"}, "", "zone", "list", "-o", "json")
	}
	page = func(n int) string {
		if n == last {
			return ""
		}
		return fmt.Sprintf("p%d", n+1)
	}
	got := list()
	var zones []map[string]string
	if err := json.Unmarshal([]byte(got.out), &zones); err != nil || len(zones) != last/2 {
		t.Errorf("%d zones, %v; code %d, %s", len(zones), err, got.code, got.err)
	}
	page = func(int) string { return "p2" }
	if got := list(); got.code == 0 || got.out != "" || !strings.Contains(got.err, "same page") {
		t.Errorf("a list without an end: %+v", got)
	}
}
