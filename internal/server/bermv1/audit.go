package bermv1

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/gen/berm/v1rpc"
	"github.com/bermhq/berm/internal/audit"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/server/edge"
	"github.com/bermhq/berm/internal/server/wire"
	"github.com/bermhq/berm/internal/store"
)

// auditPiece is how many rows one message of an export has: some hundred kilobytes at most.
const auditPiece = 64

type auditService struct {
	bermv1rpc.UnsafeAuditServiceServer
	*Front
}

var _ bermv1rpc.AuditServiceServer = (*auditService)(nil)

// chainNamed is what every request of the audit says.
type chainNamed interface {
	GetOrg() string
	GetInstallation() bool
}

func auditChain(r chainNamed) control.AuditChain {
	return control.AuditChain{Org: r.GetOrg(), Installation: r.GetInstallation()}
}

func (s *auditService) ListAudit(ctx context.Context, r *bermv1.ListAuditRequest) (*bermv1.ListAuditResponse, error) {
	f := store.AuditFilter{Actor: r.GetActor(), Method: r.GetMethod(), ObjectID: r.GetObjectId(), Outcome: r.GetOutcome()}
	bad := fault.Invalidf(fault.ReasonFieldInvalid, "invalid request for the audit")
	for path, t := range map[string]*timestamppb.Timestamp{"since": r.GetSince(), "until": r.GetUntil()} {
		switch {
		case t == nil:
		case t.CheckValid() != nil:
			bad.WithField(path, "is no time")
		case path == "since":
			f.Since = t.AsTime()
		default:
			f.Until = t.AsTime()
		}
	}
	if len(bad.Fields) > 0 {
		return nil, bad
	}
	rows, next, err := s.control.ListAudit(ctx, edge.Principal(ctx), auditChain(r), f, pageOf(r))
	if err != nil {
		return nil, err
	}
	out := &bermv1.ListAuditResponse{NextPageToken: next}
	for _, row := range rows {
		out.Rows = append(out.Rows, &bermv1.AuditRow{
			Seq: row.Seq, At: wire.Time(row.At), Actor: row.Actor, TokenId: row.TokenID, Role: row.Role, ActorOrg: row.ActorOrg, Method: row.Method,
			Kind: row.Kind, ObjectId: row.ID, ObjectName: row.Name, Revision: row.Revision, Outcome: row.Outcome, Code: row.Code, ErrorReason: row.ErrorReason,
			Before: row.Before, After: row.After, Reason: row.Reason, RequestId: row.RequestID, Address: row.Address, UserAgent: row.UserAgent, Count: row.Count,
			Hash: row.Hash, Record: row.Record,
		})
	}
	return out, nil
}

func (s *auditService) VerifyAudit(ctx context.Context, r *bermv1.VerifyAuditRequest) (*bermv1.VerifyAuditResponse, error) {
	var head *audit.Head
	if r.GetHead() != "" {
		h, err := audit.ParseHead(r.GetHead())
		if err != nil {
			return nil, err
		}
		head = &h
	}
	got, err := s.control.VerifyAudit(ctx, edge.Principal(ctx), auditChain(r), head)
	if err != nil {
		return nil, err
	}
	return &bermv1.VerifyAuditResponse{Rows: got.Rows, Head: headText(got.Head), BadSeq: got.BadSeq, Bad: got.Bad}, nil
}

func headText(h audit.Head) string {
	if h.Seq == 0 {
		return ""
	}
	return h.String()
}

func (s *auditService) ExportAudit(r *bermv1.ExportAuditRequest, stream grpc.ServerStreamingServer[bermv1.ExportAuditResponse]) error {
	ctx, done := s.untilDrain(stream.Context())
	defer done()
	piece := &bermv1.ExportAuditResponse{}
	flush := func() error {
		if piece.GetChain() == nil && len(piece.GetRecords()) == 0 {
			return nil
		}
		full := piece
		piece = &bermv1.ExportAuditResponse{}
		return stream.Send(full)
	}
	err := s.control.ExportAudit(ctx, edge.Principal(ctx), auditChain(r), func(c audit.Chain) error {
		piece.Chain = &bermv1.ExportAuditResponse_AuditChain{Name: c.Name, Anchor: headText(c.Anchor), Head: headText(c.Head)}
		return flush()
	}, func(row audit.Sealed) error {
		piece.Records = append(piece.Records, &bermv1.ExportAuditResponse_AuditRecord{Seq: row.Seq, Hash: row.Hash, Record: row.Record})
		if len(piece.GetRecords()) < auditPiece {
			return nil
		}
		return flush()
	})
	if err != nil {
		return drained(ctx, err)
	}
	return flush()
}
