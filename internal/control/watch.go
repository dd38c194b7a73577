package control

import (
	"context"
	"iter"
	"slices"
	"time"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

const (
	// MaxWatches is how many streams may watch an organization at one server.
	MaxWatches = 1000
	// markEvery is how often a stream on which nothing happens says where it is.
	markEvery = 15 * time.Second
	// catchUpBatch is how many changes are looked at together by a stream that goes on where another ended.
	catchUpBatch = 200
)

// WatchQuery says what to watch.
type WatchQuery struct {
	// Kinds are store.ChangeSandbox or kinds of objects; none is sandboxes.
	Kinds []string
	// Token continues behind the event that it came with; "" is from now on.
	Token string
	// Existing asks for what is there first: sandboxes that have not ended, and objects. Not together with Token.
	Existing bool
	// Of sandboxes: values of a field are alternatives, tags are all required.
	SandboxIDs, Tags, RunnerIDs, Profiles []string
}

// WatchEvent is what something is now. Exactly one of Sandbox, Object and Mark is set.
type WatchEvent struct {
	// Token continues behind this event, through any server of the same database.
	Token string
	// At is when it became so; for what was there already, zero.
	At      time.Time
	Sandbox *core.Sandbox
	Object  *store.Object
	// Mark says that everything until here has been told; the first one after what was there already.
	Mark bool
}

// Watch returns what changes, as it is by then: of changes in quick succession it may yield the last state once for each. Nothing that was
// written is left out; states that are never written, such as CREATING, are told when they are seen. It ends with ctx, without an error.
func (s *Service) Watch(ctx context.Context, p core.Principal, q WatchQuery) (iter.Seq2[WatchEvent, error], error) {
	if err := s.allow(ctx, p, "Watch"); err != nil {
		return nil, err
	}
	if err := q.complete(); err != nil {
		return nil, err
	}
	return func(yield func(WatchEvent, error) bool) {
		w := &watch{Service: s, orgID: p.OrgID, query: q, yield: yield}
		if err := w.run(ctx); err != nil && ctx.Err() == nil {
			yield(WatchEvent{}, err)
		}
	}, nil
}

// watch is one stream.
type watch struct {
	*Service
	orgID string
	query WatchQuery
	yield func(WatchEvent, error) bool
	// seq is the last change that is behind it.
	seq  int64
	over bool
}

func (w *watch) run(ctx context.Context) error {
	leave, err := w.joinFeed(ctx, w.orgID)
	if err != nil {
		return err
	}
	defer leave()
	at, seq := w.feed.end()
	w.seq = seq
	if w.query.Token != "" {
		var last int64
		if w.seq, last, err = w.position(ctx, w.query.Token); err != nil {
			return err
		}
		if err := w.catchUp(ctx, last); err != nil {
			return err
		}
	}
	if w.query.Existing {
		if err := w.existing(ctx); err != nil {
			return err
		}
	}
	w.send(WatchEvent{Mark: true})
	return w.follow(ctx, at)
}

// follow yields what comes from a place in the feed on.
func (w *watch) follow(ctx context.Context, at place) error {
	mark := time.NewTicker(markEvery)
	defer mark.Stop()
	for !w.over {
		entries, woken, ok, err := w.feed.from(at)
		if err != nil {
			return err
		}
		if !ok {
			if at, err = w.overtaken(ctx); err != nil {
				return err
			}
			continue
		}
		for _, e := range entries {
			if at.index++; w.over {
				return nil
			}
			if err := w.tell(ctx, e); err != nil {
				return err
			}
		}
		if len(entries) > 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-woken:
		case <-mark.C:
			w.send(WatchEvent{Mark: true})
		}
	}
	return nil
}

// overtaken goes on from the log, which has everything that was written, and tells again of what lives, because of that memory may know
// more than was written.
func (w *watch) overtaken(ctx context.Context) (place, error) {
	at, seq := w.feed.end()
	if err := w.catchUp(ctx, seq); err != nil {
		return at, err
	}
	if slices.Contains(w.query.Kinds, store.ChangeSandbox) {
		return at, w.existingSandboxes(ctx, "", w.now())
	}
	return at, nil
}

// catchUp yields the changes behind w.seq up to one that the log has: of what changed several times close together, the last.
func (w *watch) catchUp(ctx context.Context, upTo int64) error {
	if w.seq >= upTo {
		return nil
	}
	select {
	case w.feed.catching <- struct{}{}:
		defer func() { <-w.feed.catching }()
	case <-ctx.Done():
		return ctx.Err()
	}
	var batch []store.Change
	for c, err := range w.store.Changes(ctx, w.seq) {
		if err != nil {
			return err
		}
		batch = slices.DeleteFunc(batch, func(b store.Change) bool { return b.Kind == c.Kind && b.ID == c.ID })
		if batch = append(batch, c); len(batch) < catchUpBatch && c.Seq < upTo {
			continue
		}
		for _, b := range batch {
			if err := w.tell(ctx, newEntry(b, false)); err != nil || w.over {
				return err
			}
		}
		if batch = batch[:0]; c.Seq >= upTo {
			return nil
		}
	}
	return nil
}

// tell yields an entry of the feed, if it is asked for.
func (w *watch) tell(ctx context.Context, e *feedEntry) error {
	if !e.live {
		if e.Seq <= w.seq {
			return nil
		}
		w.seq = e.Seq
	}
	if e.OrgID != w.orgID {
		return nil
	}
	if e.Kind == changeContact && slices.Contains(w.query.Kinds, store.ChangeSandbox) {
		return w.existingSandboxes(ctx, e.ID, e.At)
	}
	if !slices.Contains(w.query.Kinds, e.Kind) || len(w.query.SandboxIDs) > 0 && e.Kind == store.ChangeSandbox && !slices.Contains(w.query.SandboxIDs, e.ID) {
		return nil
	}
	if err := w.load(ctx, e); err != nil {
		return err
	}
	switch {
	case e.sandbox != nil && w.selects(e.sandbox):
		w.send(WatchEvent{At: e.At, Sandbox: w.overlay(e.sandbox)})
	case e.object != nil:
		w.send(WatchEvent{At: e.At, Object: e.object})
	}
	return nil
}

func (w *watch) send(e WatchEvent) {
	if !w.over {
		e.Token = w.token()
		w.over = !w.yield(e, nil)
	}
}

// selects reports whether a sandbox is asked for.
func (w *watch) selects(sb *core.Sandbox) bool {
	q := w.query
	named := func(p string) bool { return p == sb.ProfileName || p == sb.ProfileID }
	tagged := func(tag string) bool { return !slices.Contains(sb.Tags, tag) }
	return (len(q.SandboxIDs) == 0 || slices.Contains(q.SandboxIDs, sb.ID)) && (len(q.RunnerIDs) == 0 || slices.Contains(q.RunnerIDs, sb.RunnerID)) &&
		(len(q.Profiles) == 0 || slices.ContainsFunc(q.Profiles, named)) && !slices.ContainsFunc(q.Tags, tagged)
}

// complete refuses a query that cannot be meant, and fills in what it leaves out.
func (q *WatchQuery) complete() error {
	if len(q.Kinds) == 0 {
		q.Kinds = []string{store.ChangeSandbox}
	}
	slices.Sort(q.Kinds)
	q.Kinds = slices.Compact(q.Kinds)
	e := fault.Invalidf(fault.ReasonInvalidRequest, "invalid request to watch")
	if q.Existing && q.Token != "" {
		e.WithField("include_existing", "excludes resume_token: who goes on has seen it")
	}
	for _, f := range []struct {
		path   string
		values []string
	}{{"sandbox_ids", q.SandboxIDs}, {"tags", q.Tags}, {"runner_ids", q.RunnerIDs}, {"profile_names", q.Profiles}} {
		if len(f.values) > MaxFilterValues {
			e.WithField(f.path, "%d values, the limit is %d", len(f.values), MaxFilterValues)
		}
		if len(f.values) > 0 && !slices.Contains(q.Kinds, store.ChangeSandbox) {
			e.WithField(f.path, "selects sandboxes, which are not watched")
		}
	}
	return orNil(e)
}
