package storetest

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

func objects(t *testing.T, e *env) {
	t.Run("read back as written", e.objectRoundTrip)
	t.Run("revisions are append-only", e.objectRevisions)
	t.Run("names and unique values", e.objectUnique)
	t.Run("stale revision is a conflict", e.objectConflict)
	t.Run("identity never changes", e.objectIdentity)
	t.Run("another organization is like none", e.objectIsolation)
	t.Run("pages", e.objectPages)
	t.Run("assert current", e.objectAssert)
	t.Run("what cannot be stored", e.objectRefused)
	t.Run("owners", e.objectOwners)
}

func (e *env) objectRoundTrip(t *testing.T) {
	org := e.id("org")
	for _, kind := range []store.Kind{store.KindZone, store.KindProfile, store.KindRunner} {
		o := e.object(kind, org)
		o.Unique = "cluster/" + string(kind)
		e.inserted(t, o)
		if o.Revision != 1 {
			t.Fatalf("revision %d after Insert, want 1", o.Revision)
		}
		e.view(t, func(ctx context.Context, r store.Reader) {
			got, err := r.Object(ctx, kind, org, o.ID)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, "by id", got, o)
			if got, err = r.ObjectByName(ctx, kind, org, o.Name); err != nil {
				t.Fatal(err)
			}
			equal(t, "by name", got, o)
			other := map[store.Kind]store.Kind{store.KindZone: store.KindRunner, store.KindProfile: store.KindZone, store.KindRunner: store.KindProfile}[kind]
			_, err = r.Object(ctx, other, org, o.ID)
			wantCode(t, err, fault.NotFound)
		})
	}
}

func (e *env) objectRevisions(t *testing.T) {
	org := e.id("org")
	first := e.inserted(t, e.object(store.KindProfile, org))
	second := *first
	second.Body, second.UpdatedAt, second.UpdatedBy, second.Reason = json.RawMessage(`{"n":2}`), start.Add(time.Minute), "token:b", "edit"
	e.update(t, func(ctx context.Context, tx store.Tx) error { return tx.Update(ctx, &second) })
	third := second
	third.UpdatedAt, third.UpdatedBy, third.Reason = start.Add(time.Hour), "token:c", "gone"
	e.update(t, func(ctx context.Context, tx store.Tx) error { return tx.Delete(ctx, &third) })
	if second.Revision != 2 || third.Revision != 3 || !third.Deleted {
		t.Fatalf("revisions %d and %d, deleted %v; want 2, 3, true", second.Revision, third.Revision, third.Deleted)
	}
	want := []*store.Object{&third, &second, first}
	e.view(t, func(ctx context.Context, r store.Reader) {
		_, err := r.Object(ctx, store.KindProfile, org, first.ID)
		wantCode(t, err, fault.NotFound)
		all, next, err := r.Revisions(ctx, store.KindProfile, org, first.ID, store.Page{Size: 10})
		if err != nil || next != "" {
			t.Fatalf("next %q, %v", next, err)
		}
		equal(t, "revisions", all, want)
		for _, o := range want {
			got, err := r.ObjectRevision(ctx, store.KindProfile, org, o.ID, o.Revision)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, "one revision", got, o)
		}
		_, err = r.ObjectRevision(ctx, store.KindProfile, org, first.ID, 4)
		wantCode(t, err, fault.NotFound)
		var paged []*store.Object
		for p := (store.Page{Size: 1}); ; {
			page, next, err := r.Revisions(ctx, store.KindProfile, org, first.ID, p)
			if err != nil {
				t.Fatal(err)
			}
			paged = append(paged, page...)
			if p.After = next; next == "" {
				break
			}
		}
		equal(t, "revisions page by page", paged, want)
		for _, forged := range []string{"x", "0", "-1", "01", "1 ", "99999999999", "1/2"} {
			_, _, err := r.Revisions(ctx, store.KindProfile, org, first.ID, store.Page{Size: 1, After: forged})
			wantCode(t, err, fault.Invalid)
		}
		_, _, err = r.Revisions(ctx, store.KindProfile, org, "nothing", store.Page{Size: 1})
		wantCode(t, err, fault.NotFound)
	})
}

func (e *env) objectUnique(t *testing.T) {
	org := e.id("org")
	one := e.object(store.KindRunner, org)
	one.Unique = "cluster"
	e.inserted(t, one)
	insert := func(change func(*store.Object)) error {
		o := e.object(store.KindRunner, org)
		change(o)
		return e.try(t, func(ctx context.Context, tx store.Tx) error { return tx.Insert(ctx, o) })
	}
	wantCode(t, insert(func(o *store.Object) { o.Name = one.Name }), fault.Exists)
	wantCode(t, insert(func(o *store.Object) { o.Unique = one.Unique }), fault.Exists)
	wantCode(t, insert(func(o *store.Object) { o.ID = one.ID }), fault.Exists)
	for name, change := range map[string]func(*store.Object){
		"same name, other kind":         func(o *store.Object) { o.Name, o.Kind = one.Name, store.KindZone },
		"same name, other organization": func(o *store.Object) { o.Name, o.Unique, o.OrgID = one.Name, one.Unique, e.id("org") },
		"name in other case":            func(o *store.Object) { o.Name = strings.ToUpper(one.Name) },
		"no unique value":               func(o *store.Object) { o.Unique = "" },
		"no unique value again":         func(o *store.Object) { o.Unique = "" },
	} {
		if err := insert(change); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	e.update(t, func(ctx context.Context, tx store.Tx) error { return tx.Delete(ctx, one) })
	wantCode(t, insert(func(o *store.Object) { o.ID = one.ID }), fault.Exists)
	if err := insert(func(o *store.Object) { o.Name, o.Unique = one.Name, one.Unique }); err != nil {
		t.Errorf("name and unique value of a deleted object: %v", err)
	}
	// A refusal leaves the transaction usable.
	o := e.object(store.KindRunner, org)
	e.update(t, func(ctx context.Context, tx store.Tx) error {
		taken := e.object(store.KindRunner, org)
		taken.Name = one.Name
		if err := tx.Insert(ctx, taken); !fault.Is(err, fault.Exists) {
			return fmt.Errorf("got %w, want Exists", err)
		}
		if _, err := tx.ObjectByName(ctx, store.KindRunner, org, one.Name); err != nil {
			return err
		}
		return tx.Insert(ctx, o)
	})
}

func (e *env) objectConflict(t *testing.T) {
	org := e.id("org")
	o := e.inserted(t, e.object(store.KindZone, org))
	stale, ahead, missing := *o, *o, *e.object(store.KindZone, org)
	e.update(t, func(ctx context.Context, tx store.Tx) error { return tx.Update(ctx, o) })
	ahead.Revision = 7
	missing.Revision = 1
	for _, tt := range []struct {
		name string
		o    *store.Object
		code fault.Code
	}{{"stale", &stale, fault.Conflict}, {"from the future", &ahead, fault.Conflict}, {"missing", &missing, fault.NotFound}} {
		t.Run(tt.name, func(t *testing.T) {
			was := *tt.o
			err := e.try(t, func(ctx context.Context, tx store.Tx) error { return tx.Update(ctx, tt.o) })
			wantCode(t, err, tt.code)
			err = e.try(t, func(ctx context.Context, tx store.Tx) error { return tx.Delete(ctx, tt.o) })
			wantCode(t, err, tt.code)
			equal(t, "the value given", tt.o, &was)
		})
	}
	e.update(t, func(ctx context.Context, tx store.Tx) error { return tx.Delete(ctx, o) })
	err := e.try(t, func(ctx context.Context, tx store.Tx) error { return tx.Delete(ctx, o) })
	wantCode(t, err, fault.NotFound)
}

func (e *env) objectIdentity(t *testing.T) {
	org := e.id("org")
	o := e.object(store.KindRunner, org)
	o.Unique = e.id("cluster")
	e.inserted(t, o)
	for _, change := range []func(*store.Object){
		func(o *store.Object) { o.Name = "another" },
		func(o *store.Object) { o.Unique = "another" },
		func(o *store.Object) { o.Unique = "" },
	} {
		c := *o
		change(&c)
		err := e.try(t, func(ctx context.Context, tx store.Tx) error { return tx.Update(ctx, &c) })
		wantCode(t, err, fault.Invalid)
	}
	c := *o
	c.CreatedAt = start.Add(time.Hour)
	e.update(t, func(ctx context.Context, tx store.Tx) error { return tx.Update(ctx, &c) })
	e.view(t, func(ctx context.Context, r store.Reader) {
		got, err := r.Object(ctx, o.Kind, org, o.ID)
		if err != nil || !got.CreatedAt.Equal(start) {
			t.Fatalf("created at %v, %v; want %v", got.CreatedAt, err, start)
		}
	})
}

func (e *env) objectIsolation(t *testing.T) {
	mine, theirs := e.id("org"), e.id("org")
	o := e.inserted(t, e.object(store.KindProfile, theirs))
	e.view(t, func(ctx context.Context, r store.Reader) {
		_, errTheirs := r.Object(ctx, o.Kind, mine, o.ID)
		wantCode(t, errTheirs, fault.NotFound)
		_, errMissing := r.Object(ctx, o.Kind, mine, strings.Repeat("x", len(o.ID)))
		if strings.ReplaceAll(errTheirs.Error(), o.ID, "") != strings.ReplaceAll(errMissing.Error(), strings.Repeat("x", len(o.ID)), "") {
			t.Errorf("another organization's object is told apart from a missing one:\n%v\n%v", errTheirs, errMissing)
		}
		_, err := r.ObjectByName(ctx, o.Kind, mine, o.Name)
		wantCode(t, err, fault.NotFound)
		_, err = r.ObjectRevision(ctx, o.Kind, mine, o.ID, 1)
		wantCode(t, err, fault.NotFound)
		_, _, err = r.Revisions(ctx, o.Kind, mine, o.ID, store.Page{Size: 1})
		wantCode(t, err, fault.NotFound)
		all, next, err := r.Objects(ctx, o.Kind, mine, store.Page{Size: 10})
		if len(all) != 0 || next != "" || err != nil {
			t.Errorf("got %d objects, %q, %v", len(all), next, err)
		}
	})
	c := *o
	c.OrgID = mine
	for name, fn := range map[string]func(ctx context.Context, tx store.Tx) error{
		"update": func(ctx context.Context, tx store.Tx) error { return tx.Update(ctx, &c) },
		"delete": func(ctx context.Context, tx store.Tx) error { return tx.Delete(ctx, &c) },
	} {
		if err := e.try(t, fn); !fault.Is(err, fault.NotFound) {
			t.Errorf("%s: got %v, want NotFound", name, err)
		}
	}
	err := e.try(t, func(ctx context.Context, tx store.Tx) error {
		return tx.AssertCurrent(ctx, []store.Ref{{Kind: o.Kind, OrgID: mine, ID: o.ID, Revision: 1}})
	})
	wantCode(t, err, fault.Conflict)
}

func (e *env) objectPages(t *testing.T) {
	org := e.id("org")
	var want []string
	for _, name := range []string{"B", "a", "a b", "a-b", "aa", "z", "ä", "日本"} { // in the order of their bytes
		o := e.object(store.KindZone, org)
		o.Name = name
		e.inserted(t, o)
		want = append(want, name)
	}
	e.view(t, func(ctx context.Context, r store.Reader) {
		for size := 1; size <= len(want)+1; size++ {
			var got []string
			for p := (store.Page{Size: size}); ; {
				page, next, err := r.Objects(ctx, store.KindZone, org, p)
				if err != nil {
					t.Fatal(err)
				}
				if len(page) > size || next != "" && len(page) != size {
					t.Fatalf("a page of %d with size %d, next %q", len(page), size, next)
				}
				for _, o := range page {
					got = append(got, o.Name)
				}
				if p.After = next; next == "" {
					break
				}
			}
			equal(t, fmt.Sprintf("names with pages of %d", size), got, want)
		}
		for _, size := range []int{0, -1, store.MaxPage + 1} {
			_, _, err := r.Objects(ctx, store.KindZone, org, store.Page{Size: size})
			wantCode(t, err, fault.Invalid)
		}
		// A position that nothing has is a position all the same, and stays within the organization.
		page, _, err := r.Objects(ctx, store.KindZone, org, store.Page{Size: 1, After: "a'; DROP TABLE objects --"})
		if err != nil || len(page) != 1 || page[0].Name != "a-b" {
			t.Fatalf("got %v, %v", page, err)
		}
	})
}

func (e *env) objectAssert(t *testing.T) {
	org := e.id("org")
	zone, profile := e.inserted(t, e.object(store.KindZone, org)), e.inserted(t, e.object(store.KindProfile, org))
	ref := func(o *store.Object) store.Ref {
		return store.Ref{Kind: o.Kind, OrgID: o.OrgID, ID: o.ID, Revision: o.Revision}
	}
	assert := func(refs ...store.Ref) error {
		return e.try(t, func(ctx context.Context, tx store.Tx) error { return tx.AssertCurrent(ctx, refs) })
	}
	noZone := store.Ref{Kind: store.KindZone, OrgID: org, ID: "us-west"}
	if err := assert(ref(zone), ref(profile), noZone); err != nil {
		t.Fatal(err)
	}
	before := ref(profile)
	e.update(t, func(ctx context.Context, tx store.Tx) error { return tx.Update(ctx, profile) })
	wantCode(t, assert(ref(zone), before), fault.Conflict)
	if err := assert(ref(zone), ref(profile)); err != nil {
		t.Fatal(err)
	}
	wantCode(t, assert(store.Ref{Kind: store.KindZone, OrgID: org, ID: zone.Name}), fault.Conflict)
	e.update(t, func(ctx context.Context, tx store.Tx) error { return tx.Delete(ctx, zone) })
	wantCode(t, assert(ref(zone)), fault.Conflict)
	if err := assert(store.Ref{Kind: store.KindZone, OrgID: org, ID: zone.Name}); err != nil {
		t.Fatalf("the name of a deleted zone: %v", err)
	}
	// What was written in the same transaction counts.
	err := e.try(t, func(ctx context.Context, tx store.Tx) error {
		if err := tx.Update(ctx, profile); err != nil {
			return err
		}
		return tx.AssertCurrent(ctx, []store.Ref{ref(profile)})
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (e *env) objectRefused(t *testing.T) {
	org := e.id("org")
	long := strings.Repeat("x", store.MaxText+1)
	for name, change := range map[string]func(*store.Object){
		"no id":          func(o *store.Object) { o.ID = "" },
		"no name":        func(o *store.Object) { o.Name = "" },
		"no kind":        func(o *store.Object) { o.Kind = "" },
		"no org":         func(o *store.Object) { o.OrgID = "" },
		"long name":      func(o *store.Object) { o.Name = long },
		"long unique":    func(o *store.Object) { o.Unique = long },
		"long reason":    func(o *store.Object) { o.Reason = strings.Repeat("x", store.MaxNote+1) },
		"large body":     func(o *store.Object) { o.Body = json.RawMessage(`"` + strings.Repeat("x", store.MaxBody) + `"`) },
		"no body":        func(o *store.Object) { o.Body = nil },
		"body no JSON":   func(o *store.Object) { o.Body = json.RawMessage(`{`) },
		"NUL in name":    func(o *store.Object) { o.Name = "a\x00b" },
		"name no UTF-8":  func(o *store.Object) { o.Name = "a\xffb" },
		"time too late":  func(o *store.Object) { o.UpdatedAt = time.Date(3000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"time too early": func(o *store.Object) { o.CreatedAt = time.Date(1000, 1, 1, 0, 0, 0, 0, time.UTC) },
	} {
		o := e.object(store.KindProfile, org)
		change(o)
		err := e.try(t, func(ctx context.Context, tx store.Tx) error { return tx.Insert(ctx, o) })
		if !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: got %v, want Invalid", name, err)
		}
	}
	largest := e.object(store.KindProfile, org)
	largest.Name, largest.Unique = long[1:], long[1:]
	largest.Body = json.RawMessage(`"` + strings.Repeat("x", store.MaxBody-2) + `"`)
	e.inserted(t, largest)
	e.view(t, func(ctx context.Context, r store.Reader) {
		got, err := r.ObjectByName(ctx, largest.Kind, org, largest.Name)
		if err != nil || len(got.Body) != store.MaxBody {
			t.Fatalf("the largest object: %v", err)
		}
		_, err = r.Object(ctx, store.KindProfile, org, "a\x00b")
		wantCode(t, err, fault.Invalid)
	})
}
