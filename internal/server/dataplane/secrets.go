package dataplane

import (
	"context"

	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2rpc"
	"github.com/bermhq/berm/internal/control"
	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/server/edge"
	"github.com/bermhq/berm/internal/server/wire"
)

// secrets is the service of secret stores. What is in them, berm.v1.SecretService writes.
type secrets struct {
	v1beta2rpc.UnsafeSecretStoreServiceServer
	*Front
}

var _ v1beta2rpc.SecretStoreServiceServer = (*secrets)(nil)

func (s *secrets) CreateSecretStore(ctx context.Context, r *v1beta2pb.CreateSecretStoreRequest) (*v1beta2pb.CreateSecretStoreResponse, error) {
	if err := checkProvider(r); err != nil {
		return nil, err
	}
	made, err := s.control.CreateSecretStore(ctx, edge.Principal(ctx), r.GetName())
	if err != nil {
		return nil, err
	}
	return &v1beta2pb.CreateSecretStoreResponse{SecretStore: storeMessage(made)}, nil
}

// checkProvider refuses the stores of others: the server can keep secrets, and reach nobody who does.
func checkProvider(r *v1beta2pb.CreateSecretStoreRequest) error {
	const ours = v1beta2pb.SecretStoreProviderType_SECRET_STORE_PROVIDER_TYPE_BERM
	switch t := r.GetProviderType(); {
	case t == v1beta2pb.SecretStoreProviderType_SECRET_STORE_PROVIDER_TYPE_WANDB:
		if err := control.CheckStoreName("name", r.GetName()); err != nil {
			return err
		}
		return notServed("secret stores of Weights & Biases").WithField("provider_type", "this server cannot reach %s", t).
			WithHint("make a store of %s with the same name and write the secrets into it: launches that name it need no change", ours)
	case t != ours:
		return fault.Invalidf(fault.ReasonFieldInvalid, "invalid secret store").WithField("provider_type", "%s is no provider; %s keeps secrets in this server", t, ours)
	case r.GetWandb() != nil:
		return fault.Invalidf(fault.ReasonFieldInvalid, "invalid secret store").WithField("wandb", "goes with another provider_type; leave it out")
	}
	return nil
}

func (s *secrets) GetSecretStore(ctx context.Context, r *v1beta2pb.GetSecretStoreRequest) (*v1beta2pb.GetSecretStoreResponse, error) {
	got, err := s.control.GetSecretStore(ctx, edge.Principal(ctx), r.GetName())
	if err != nil {
		return nil, err
	}
	return &v1beta2pb.GetSecretStoreResponse{SecretStore: storeMessage(got)}, nil
}

func (s *secrets) ListSecretStores(ctx context.Context, r *v1beta2pb.ListSecretStoresRequest) (*v1beta2pb.ListSecretStoresResponse, error) {
	list, next, err := s.control.ListSecretStores(ctx, edge.Principal(ctx), control.Page{Size: int(r.GetPageSize()), Token: r.GetPageToken()})
	if err != nil {
		return nil, err
	}
	out := &v1beta2pb.ListSecretStoresResponse{NextPageToken: next}
	for _, one := range list {
		out.SecretStores = append(out.SecretStores, storeMessage(one))
	}
	return out, nil
}

func (s *secrets) DeleteSecretStore(ctx context.Context, r *v1beta2pb.DeleteSecretStoreRequest) (*v1beta2pb.DeleteSecretStoreResponse, error) {
	if err := s.control.DeleteSecretStore(ctx, edge.Principal(ctx), r.GetName()); err != nil {
		return nil, err
	}
	return &v1beta2pb.DeleteSecretStoreResponse{}, nil
}

func storeMessage(s *control.SecretStore) *v1beta2pb.SecretStore {
	return &v1beta2pb.SecretStore{
		Id: s.ID, OrganizationId: s.OrgID, Name: s.Name, ProviderType: v1beta2pb.SecretStoreProviderType_SECRET_STORE_PROVIDER_TYPE_BERM,
		CreatedAt: wire.Time(s.CreatedAt), UpdatedAt: wire.Time(s.UpdatedAt),
	}
}
