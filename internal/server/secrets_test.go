package server_test

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2rpc"
)

const ours = "SECRET_STORE_PROVIDER_TYPE_BERM"

// TestSecretStoreService: the published service, over both transports, with the store that this server can keep.
func TestSecretStoreService(t *testing.T) {
	w := newWorld(t)
	const path = "/v1beta2/secretstores"
	made := w.call(w.admin, http.MethodPost, path, object{"name": "team", "providerType": ours}).want(http.StatusOK)
	if s := made.at("secretStore").(object); s["name"] != "team" || s["providerType"] != ours || s["id"] == "" || s["organizationId"] == "" || s["createdAt"] == nil {
		t.Errorf("made %s", made.raw)
	}
	w.call(w.admin, http.MethodPost, path, object{"name": "team", "providerType": ours}).want(http.StatusConflict, "SECRET_STORE_EXISTS")
	w.call(w.user, http.MethodPost, path, object{"name": "mine", "providerType": ours}).want(http.StatusForbidden, "ROLE_MISSING")
	w.call(w.admin, http.MethodPost, path, object{"name": "X", "providerType": ours}).want(http.StatusBadRequest, "name")
	w.call(w.admin, http.MethodPost, path, object{"name": "team2"}).want(http.StatusBadRequest, "provider_type", ours)
	w.call(w.admin, http.MethodPost, path, object{"name": "team2", "providerType": ours, "wandb": object{"team": "x"}}).want(http.StatusBadRequest, "wandb")
	w.call(w.admin, http.MethodPost, path, object{"name": "wandb", "providerType": "SECRET_STORE_PROVIDER_TYPE_WANDB", "wandb": object{"team": "x"}}).
		want(http.StatusNotImplemented, "CWSANDBOX_NOT_IMPLEMENTED", ours)
	w.call(w.user, http.MethodGet, path+"/team", nil).want(http.StatusOK)
	w.call(w.user, http.MethodGet, path+"/none", nil).want(http.StatusNotFound, "CWSANDBOX_RESOURCE_NOT_FOUND")

	s, ctx := v1beta2rpc.NewSecretStoreServiceClient(w.dial(w.addr, w.user)), t.Context()
	list, err := s.ListSecretStores(ctx, &v1beta2pb.ListSecretStoresRequest{})
	if err != nil || len(list.GetSecretStores()) != 1 || list.GetNextPageToken() != "" {
		t.Errorf("list: %v, %v", list, err)
	}
	if _, err := s.ListSecretStores(ctx, &v1beta2pb.ListSecretStoresRequest{PageSize: -1}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("a negative page: %v", err)
	}
	if _, err := s.DeleteSecretStore(ctx, &v1beta2pb.DeleteSecretStoreRequest{Name: "team"}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("a user deletes: %v", err)
	}
	w.call(w.admin, http.MethodDelete, path+"/team", nil).want(http.StatusOK)
	w.call(w.admin, http.MethodDelete, path+"/team", nil).want(http.StatusNotFound, "CWSANDBOX_RESOURCE_NOT_FOUND")
}

// TestSecretService: secrets are written, listed and removed; no answer has a value, whatever is wrong with the call.
func TestSecretService(t *testing.T) {
	w := newWorld(t)
	w.call(w.admin, http.MethodPost, "/v1beta2/secretstores", object{"name": "team", "providerType": ours}).want(http.StatusOK)
	const canary, path = "hunter2-canary", "/berm/v1/secretstores/team/secrets"
	text := base64.StdEncoding.EncodeToString([]byte(canary))
	answers := []*answer{
		w.call(w.admin, http.MethodPut, path+"/prod/db", object{"fields": object{"password": text}}).want(http.StatusOK, `"version":"1"`),
		w.call(w.admin, http.MethodPut, path+"/prod/db", object{"fields": object{"password": text, "user": "YXBw"}}).want(http.StatusOK, `"version":"2"`),
		w.call(w.user, http.MethodGet, path, nil).want(http.StatusOK, "prod/db", "password", "user"),
		w.call(w.user, http.MethodPut, path+"/prod/db", object{"fields": object{"password": text}}).want(http.StatusForbidden, "ROLE_MISSING"),
		w.call(w.admin, http.MethodPut, path+"/a%20b", object{"fields": object{"password": text}}).want(http.StatusBadRequest, "path"),
		w.call(w.admin, http.MethodPut, path+"/x", object{"fields": object{"a b": text}}).want(http.StatusBadRequest, "fields"),
		w.call(w.admin, http.MethodPut, path+"/x", object{}).want(http.StatusBadRequest, "fields"),
		w.call(w.admin, http.MethodPut, path+"/x", object{"path": "y", "fields": object{"a": text}}).want(http.StatusBadRequest, "path"),
		w.call(w.admin, http.MethodPut, "/berm/v1/secretstores/none/secrets/x", object{"fields": object{"a": text}}).want(http.StatusNotFound, "CWSANDBOX_RESOURCE_NOT_FOUND"),
		w.call(w.admin, http.MethodDelete, path+"/prod/db", nil).want(http.StatusOK),
		w.call(w.admin, http.MethodDelete, path+"/prod/db", nil).want(http.StatusNotFound, "SECRET_NOT_FOUND"),
		w.call(w.admin, http.MethodPost, "/berm/v1/secretstores:rewrap", object{}).want(http.StatusOK, `"stores":"1"`),
	}
	for _, a := range answers {
		if strings.Contains(a.raw, canary) || strings.Contains(a.raw, text) {
			t.Errorf("an answer has the value: %s", a.raw)
		}
	}
}
