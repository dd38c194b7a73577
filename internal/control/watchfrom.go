package control

import (
	"context"
	"strconv"
	"time"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/store"
)

// Where a stream begins: at what is there, or behind an event.

// existing yields what is there.
func (w *watch) existing(ctx context.Context) error {
	for _, kind := range w.query.Kinds {
		if kind == store.ChangeSandbox {
			if err := w.existingSandboxes(ctx, "", time.Time{}); err != nil {
				return err
			}
			continue
		}
		for page := (store.Page{Size: store.MaxPage}); !w.over; {
			var objects []*store.Object
			err := w.store.View(ctx, func(r store.Reader) (err error) {
				objects, page.After, err = r.Objects(ctx, store.Kind(kind), w.orgID, page)
				return err
			})
			if err != nil {
				return err
			}
			for _, o := range objects {
				w.send(WatchEvent{Object: o})
			}
			if page.After == "" {
				break
			}
		}
	}
	return nil
}

// existingSandboxes yields those that have not ended, on one runner or on all, as they are since at.
func (w *watch) existingSandboxes(ctx context.Context, runnerUUID string, at time.Time) error {
	f := store.SandboxFilter{OrgID: w.orgID, Tags: w.query.Tags, RunnerIDs: w.query.RunnerIDs, RunnerUUID: runnerUUID}
	for page := (store.Page{Size: store.MaxPage}); !w.over; {
		var rows []*core.Sandbox
		err := w.store.View(ctx, func(r store.Reader) (err error) {
			rows, page.After, err = r.Sandboxes(ctx, f, page)
			return err
		})
		if err != nil {
			return err
		}
		for _, row := range rows {
			if w.selects(row) {
				w.send(WatchEvent{At: at, Sandbox: w.overlay(row)})
			}
		}
		if page.After == "" {
			return nil
		}
	}
	return nil
}

// scope binds tokens to the organization, as those of pages are.
func (w *watch) scope() scope { return scope{orgID: w.orgID, kind: "watch"} }

func (w *watch) token() string {
	return w.scope().token(strconv.FormatInt(w.seq, 10))
}

// position reads a token, and returns the last change that there is, too. A position that the log has not reached comes from another
// database.
func (w *watch) position(ctx context.Context, token string) (seq, last int64, err error) {
	text, ok := w.scope().open(token)
	seq, err = strconv.ParseInt(text, 10, 64)
	if !ok || err != nil {
		return 0, 0, fault.Invalidf(fault.ReasonPageTokenInvalid, "the resume token is not one of a watch of this organization").
			WithField("resume_token", "must be what an event came with").WithHint("watch without resume_token, with include_existing")
	}
	last, err = w.logEnd(ctx)
	if err == nil && seq > last {
		err = fault.New(fault.OutOfRange, fault.ReasonChangesUnknown, "the change log has not reached this position; it comes from another database, or from a later state of this one").
			WithField("resume_token", "is ahead of the change log").WithHint("watch without resume_token, with include_existing")
	}
	return seq, last, err
}
