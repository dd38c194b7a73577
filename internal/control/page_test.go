package control

import (
	"encoding/base64"
	"slices"
	"strings"
	"testing"

	"github.com/bermhq/berm/internal/core/fault"
)

func TestPageTokensAreBoundToTheirList(t *testing.T) {
	c := scope{orgID: "org-1", kind: "profile", filter: "a"}
	token := c.token("agent")
	sp, err := c.page(Page{Token: token}, 10)
	if err != nil || sp.After != "agent" || sp.Size != 10 {
		t.Fatalf("%+v, %v", sp, err)
	}
	flipped := []byte(token)
	flipped[len(flipped)-1] ^= 1
	made := base64.RawURLEncoding.EncodeToString(append(make([]byte, 12), "agent"...))
	for name, forged := range map[string]struct {
		c     scope
		token string
	}{
		"another organization": {scope{orgID: "org-2", kind: "profile", filter: "a"}, token},
		"another list":         {scope{orgID: "org-1", kind: "zone", filter: "a"}, token},
		"another filter":       {scope{orgID: "org-1", kind: "profile", filter: "b"}, token},
		"changed":              {c, string(flipped)},
		"made up":              {c, made},
		"cut":                  {c, token[:10]},
		"no base64":            {c, "%%%"},
		"plain":                {c, "agent"},
		"huge":                 {c, strings.Repeat("A", maxPageToken+4)},
	} {
		if _, err := forged.c.page(Page{Token: forged.token}, 10); !fault.HasReason(err, fault.ReasonPageTokenInvalid) || !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPageSizes(t *testing.T) {
	for size, want := range map[int]int{0: 7, 1: 1, MaxPage: MaxPage, MaxPage + 1: MaxPage} {
		sp, err := scope{}.page(Page{Size: size}, 7)
		if err != nil || sp.Size != want {
			t.Errorf("%d: %d, %v", size, sp.Size, err)
		}
	}
	if _, err := (scope{}).page(Page{Size: -1}, 7); !fault.Is(err, fault.Invalid) {
		t.Errorf("a negative size: %v", err)
	}
}

func TestPagedLosesAndRepeatsNothing(t *testing.T) {
	all := []string{"a", "b", "c", "d", "e"}
	for size := 1; size <= 6; size++ {
		var got []string
		token := ""
		for range len(all) + 1 {
			part, next, err := paged(scope{kind: "x"}, Page{Size: size, Token: token}, all, func(s string) string { return s })
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, part...)
			if token = next; token == "" {
				break
			}
		}
		if !slices.Equal(got, all) {
			t.Errorf("pages of %d: %v", size, got)
		}
	}
}
