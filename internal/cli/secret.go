package cli

import (
	"context"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	bermv1 "github.com/bermhq/berm/gen/berm/v1"
	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/internal/client"
)

func (s *session) secretCmd() *cobra.Command {
	stores := noun("store", "Stores of secrets", s.secretStoreCreateCmd(), s.secretStoreListCmd(), s.secretStoreGetCmd(), s.secretStoreDeleteCmd())
	return noun("secret", "Secrets that launches put into environment variables", stores, s.secretPutCmd(), s.secretListCmd(), s.secretDeleteCmd(), s.secretRewrapCmd())
}

func (s *session) secretStoreCreateCmd() *cobra.Command {
	return s.outputFlag(&cobra.Command{
		Use: "create NAME", Short: "Make a store whose secrets the server keeps, encrypted", Args: args(1, 1, "a name"),
		RunE: s.with(func(ctx context.Context, c *client.Client, a []string) error {
			resp, err := c.SecretStores().CreateSecretStore(ctx, &v1beta2pb.CreateSecretStoreRequest{
				Name: a[0], ProviderType: v1beta2pb.SecretStoreProviderType_SECRET_STORE_PROVIDER_TYPE_BERM,
			})
			if err != nil {
				return err
			}
			return s.emitStores(resp.GetSecretStore(), resp.GetSecretStore())
		}),
	})
}

func (s *session) secretStoreListCmd() *cobra.Command {
	return s.outputFlag(&cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List stores", Args: args(0, 0, "no arguments"),
		RunE: s.with(func(ctx context.Context, c *client.Client, _ []string) error {
			var stores []*v1beta2pb.SecretStore
			for token := ""; ; {
				resp, err := c.SecretStores().ListSecretStores(ctx, &v1beta2pb.ListSecretStoresRequest{PageSize: 100, PageToken: token})
				if err != nil {
					return err
				}
				stores = append(stores, resp.GetSecretStores()...)
				if token = resp.GetNextPageToken(); token == "" {
					return s.emitStores(messages(stores), stores...)
				}
			}
		}),
	})
}

func (s *session) secretStoreGetCmd() *cobra.Command {
	return s.outputFlag(&cobra.Command{
		Use: "get NAME", Short: "Show a store", Args: args(1, 1, "the name of a store"),
		RunE: s.with(func(ctx context.Context, c *client.Client, a []string) error {
			resp, err := c.SecretStores().GetSecretStore(ctx, &v1beta2pb.GetSecretStoreRequest{Name: a[0]})
			if err != nil {
				return err
			}
			return s.emitStores(resp.GetSecretStore(), resp.GetSecretStore())
		}),
	})
}

func (s *session) secretStoreDeleteCmd() *cobra.Command {
	return s.outputFlag(&cobra.Command{
		Use: "delete NAME", Aliases: []string{"rm"}, Short: "Remove a store with its secrets; running sandboxes keep what they were given", Args: args(1, 1, "the name of a store"),
		RunE: s.with(func(ctx context.Context, c *client.Client, a []string) error {
			if _, err := c.SecretStores().DeleteSecretStore(ctx, &v1beta2pb.DeleteSecretStoreRequest{Name: a[0]}); err != nil {
				return err
			}
			return s.report(map[string]string{"name": a[0]}, "secret store %s deleted", a[0])
		}),
	})
}

func (s *session) emitStores(v any, stores ...*v1beta2pb.SecretStore) error {
	return s.emit(v, func() table {
		t := table{head: []string{"NAME", "PROVIDER", "CREATED", "UPDATED"}, wide: []string{"ID"}}
		for _, one := range stores {
			provider := strings.ToLower(strings.TrimPrefix(one.GetProviderType().String(), "SECRET_STORE_PROVIDER_TYPE_"))
			t.rows = append(t.rows, []string{one.GetName(), provider, clock(one.GetCreatedAt()), clock(one.GetUpdatedAt()), one.GetId()})
		}
		return t
	})
}

func (s *session) secretListCmd() *cobra.Command {
	return s.outputFlag(&cobra.Command{
		Use: "list STORE", Aliases: []string{"ls"}, Short: "List the secrets of a store, without values", Args: args(1, 1, "the name of a store"),
		RunE: s.with(func(ctx context.Context, c *client.Client, a []string) error {
			var secrets []*bermv1.Secret
			for token := ""; ; {
				resp, err := c.Secrets().ListSecrets(ctx, &bermv1.ListSecretsRequest{Store: a[0], PageToken: token})
				if err != nil {
					return err
				}
				secrets = append(secrets, resp.GetSecrets()...)
				if token = resp.GetNextPageToken(); token == "" {
					return s.emitSecrets(messages(secrets), secrets...)
				}
			}
		}),
	})
}

func (s *session) emitSecrets(v any, secrets ...*bermv1.Secret) error {
	return s.emit(v, func() table {
		t := table{head: []string{"PATH", "FIELDS", "VERSION", "UPDATED", "BY"}, wide: []string{"STORE", "CREATED"}}
		for _, one := range secrets {
			t.rows = append(t.rows, []string{
				one.GetPath(), strings.Join(one.GetFields(), ","), strconv.FormatInt(one.GetVersion(), 10), clock(one.GetUpdatedAt()), one.GetUpdatedBy(),
				one.GetStore(), clock(one.GetCreatedAt()),
			})
		}
		return t
	})
}

func (s *session) secretDeleteCmd() *cobra.Command {
	return s.outputFlag(&cobra.Command{
		Use: "delete STORE PATH", Aliases: []string{"rm"}, Short: "Remove a secret; running sandboxes keep what they were given", Args: args(2, 2, "a store and a path"),
		RunE: s.with(func(ctx context.Context, c *client.Client, a []string) error {
			if _, err := c.Secrets().DeleteSecret(ctx, &bermv1.DeleteSecretRequest{Store: a[0], Path: a[1]}); err != nil {
				return err
			}
			return s.report(map[string]string{"store": a[0], "path": a[1]}, "secret %s of %s deleted", a[1], a[0])
		}),
	})
}

func (s *session) secretRewrapCmd() *cobra.Command {
	return s.outputFlag(&cobra.Command{
		Use: "rewrap", Short: "Put all stores under the key that the server uses now (the server's operator only)", Args: args(0, 0, "no arguments"),
		Long: "Put the stores of all organizations under the key that the server wraps with now: the first of --secrets-key, or that of --secrets-kms.\nAfterwards older keys can be removed from the file.",
		RunE: s.with(func(ctx context.Context, c *client.Client, _ []string) error {
			resp, err := c.Secrets().RewrapSecretStores(ctx, &bermv1.RewrapSecretStoresRequest{})
			if err != nil {
				return err
			}
			return s.emit(resp, func() table {
				return table{head: []string{"KEY", "STORES", "REWRAPPED"}, rows: [][]string{
					{resp.GetKeyId(), strconv.FormatInt(resp.GetStores(), 10), strconv.FormatInt(resp.GetRewrapped(), 10)},
				}}
			})
		}),
	})
}
