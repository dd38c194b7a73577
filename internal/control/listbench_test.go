package control_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/backend/fake"
	"github.com/bermhq/berm/internal/control"
)

// benchProfiles is how many profiles there are.
const benchProfiles = 10_000

// BenchmarkListProfiles is a page of 100 of 10,000 profiles, wherever it lies, on each database.
func BenchmarkListProfiles(b *testing.B) {
	for name, dsn := range map[string]func(*testing.B) string{"sqlite": func(*testing.B) string { return "" }, "postgresql": func(b *testing.B) string { return postgres.Database(b) }} {
		b.Run(name, func(b *testing.B) {
			w := newWorldOn(b, dsn(b), control.Config{}, fake.Config{})
			for i := range benchProfiles {
				_, err := w.svc.CreateProfile(w.ctx(), w.admin, control.ProfileInput{
					DisplayName: fmt.Sprintf("agent-%05d", i), Description: "one of many", Spec: w.layer(strings.Replace(limited, "host", fmt.Sprintf("agents/image-%d", i), 1)), Labels: map[string]string{"team": fmt.Sprintf("team-%d", i%100)},
				})
				w.must(err)
			}
			for kind, labels := range map[string]string{"page": "", "by label": "team=team-7"} {
				b.Run(kind, func(b *testing.B) {
					var all []time.Duration
					page := control.Page{Size: 100}
					for b.Loop() {
						start := time.Now()
						list, next, err := w.svc.ListProfiles(w.ctx(), w.user, control.ProfileSelection{Labels: labels}, page)
						all = append(all, time.Since(start))
						w.must(err)
						if len(list) != 100 && next != "" {
							b.Fatal("an empty list")
						}
						page.Token = next
					}
					report(b, all)
				})
			}
		})
	}
}
