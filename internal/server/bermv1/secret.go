package bermv1

import (
	"context"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	"github.com/bermhq/berm/gen/berm/v1rpc"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/server/edge"
	"github.com/bermhq/berm/internal/server/wire"
)

// secretService writes secrets. None of its answers has a value.
type secretService struct {
	bermv1rpc.UnsafeSecretServiceServer
	*Front
}

var _ bermv1rpc.SecretServiceServer = (*secretService)(nil)

func (s *secretService) PutSecret(ctx context.Context, r *bermv1.PutSecretRequest) (*bermv1.PutSecretResponse, error) {
	made, err := s.control.PutSecret(ctx, edge.Principal(ctx), r.GetStore(), r.GetPath(), r.GetFields())
	if err != nil {
		return nil, err
	}
	return &bermv1.PutSecretResponse{Secret: secretMessage(made)}, nil
}

func (s *secretService) ListSecrets(ctx context.Context, r *bermv1.ListSecretsRequest) (*bermv1.ListSecretsResponse, error) {
	list, next, err := s.control.ListSecrets(ctx, edge.Principal(ctx), r.GetStore(), pageOf(r))
	if err != nil {
		return nil, err
	}
	out := &bermv1.ListSecretsResponse{NextPageToken: next}
	for _, one := range list {
		out.Secrets = append(out.Secrets, secretMessage(one))
	}
	return out, nil
}

func (s *secretService) DeleteSecret(ctx context.Context, r *bermv1.DeleteSecretRequest) (*bermv1.DeleteSecretResponse, error) {
	if err := s.control.DeleteSecret(ctx, edge.Principal(ctx), r.GetStore(), r.GetPath()); err != nil {
		return nil, err
	}
	return &bermv1.DeleteSecretResponse{}, nil
}

func (s *secretService) RewrapSecretStores(ctx context.Context, _ *bermv1.RewrapSecretStoresRequest) (*bermv1.RewrapSecretStoresResponse, error) {
	done, err := s.control.RewrapSecretStores(ctx, edge.Principal(ctx))
	if err != nil {
		return nil, err
	}
	return &bermv1.RewrapSecretStoresResponse{KeyId: done.KeyID, Stores: done.Stores, Rewrapped: done.Rewrapped}, nil
}

func secretMessage(s *control.Secret) *bermv1.Secret {
	return &bermv1.Secret{
		Store: s.Store, Path: s.Path, Fields: s.Fields, Version: s.Version, CreatedAt: wire.Time(s.CreatedAt), UpdatedAt: wire.Time(s.UpdatedAt), UpdatedBy: s.UpdatedBy,
	}
}
