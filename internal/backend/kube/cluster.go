package kube

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	authv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	nodev1 "k8s.io/api/node/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/bermhq/berm/internal/backend/kube/gatewayapi"
	"github.com/bermhq/berm/internal/core/fault"
)

// fieldManager owns the fields that Berm applies.
const fieldManager = "berm"

// callTimeout bounds one call of the API server that is not a stream.
const callTimeout = 30 * time.Second

// cluster is the API server, as far as Berm needs it. It is made of the REST client alone: the clientset of all of Kubernetes would
// be a third of the program.
type cluster struct {
	config *rest.Config
	core   *rest.RESTClient
	// journals is core with a rate of its own: who makes a sandbox does not wait behind those whose init does not answer.
	journals *rest.RESTClient
	node     *rest.RESTClient
	auth     *rest.RESTClient
	// network is the API of network policies.
	network *rest.RESTClient
	// gateway is the Gateway API, which a cluster need not have.
	gateway *rest.RESTClient
	codec   runtime.ParameterCodec

	// trusted is what tunnels use, as it was at trustedAt.
	trusting  sync.Mutex
	trusted   *tls.Config
	trustedAt time.Time
}

func newCluster(cfg *rest.Config) (*cluster, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, nodev1.AddToScheme, networkingv1.AddToScheme, authv1.AddToScheme, gatewayapi.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	metav1.AddToGroupVersion(scheme, corev1.SchemeGroupVersion)
	client := func(path string, gv *rest.Config) (*rest.RESTClient, error) {
		gv.APIPath = path
		gv.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
		return rest.RESTClientFor(gv)
	}
	c := &cluster{config: cfg, codec: runtime.NewParameterCodec(scheme)}
	var err error
	own := rest.CopyConfig(cfg)
	own.GroupVersion = &corev1.SchemeGroupVersion
	own.ContentType, own.AcceptContentTypes = runtime.ContentTypeProtobuf, runtime.ContentTypeProtobuf+","+runtime.ContentTypeJSON
	if c.core, err = client("/api", own); err != nil {
		return nil, err
	}
	if c.journals, err = client("/api", own); err != nil {
		return nil, err
	}
	own = rest.CopyConfig(cfg)
	own.GroupVersion = &nodev1.SchemeGroupVersion
	if c.node, err = client("/apis", own); err != nil {
		return nil, err
	}
	own = rest.CopyConfig(cfg)
	own.GroupVersion = &networkingv1.SchemeGroupVersion
	if c.network, err = client("/apis", own); err != nil {
		return nil, err
	}
	own = rest.CopyConfig(cfg)
	own.GroupVersion = &gatewayapi.GroupVersion
	if c.gateway, err = client("/apis", own); err != nil {
		return nil, err
	}
	own = rest.CopyConfig(cfg)
	own.GroupVersion = &authv1.SchemeGroupVersion
	c.auth, err = client("/apis", own)
	return c, err
}

// policies is the name of the resource of network policies.
const policies = "networkpolicies"

// of returns the client of a resource.
func (c *cluster) of(resource string) *rest.RESTClient {
	switch resource {
	case policies, ingresses:
		return c.network
	case gatewayapi.HTTPRoutes, gatewayapi.Gateways:
		return c.gateway
	}
	return c.core
}

// apply submits an object: it is made, or becomes what it says. The same twice is once.
func (c *cluster) apply(ctx context.Context, namespace, resource, name string, object any) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	body, err := json.Marshal(object)
	if err != nil {
		return nil, err
	}
	req := c.of(resource).Patch(types.ApplyYAMLPatchType).Resource(resource).Name(name).Param("fieldManager", fieldManager).
		Param("fieldValidation", "Strict").Param("force", "true").SetHeader("Accept", runtime.ContentTypeJSON).Body(body)
	if namespace != "" {
		req = req.Namespace(namespace)
	}
	return raw(req.Do(ctx))
}

// create makes an object, unless one has its name. namespace is "" for what is of none.
func (c *cluster) create(ctx context.Context, namespace, resource string, object any) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	body, err := json.Marshal(object)
	if err != nil {
		return err
	}
	return c.of(resource).Post().NamespaceIfScoped(namespace, namespace != "").Resource(resource).Param("fieldManager", fieldManager).Param("fieldValidation", "Strict").
		SetHeader("Content-Type", runtime.ContentTypeJSON).Body(body).Do(ctx).Error()
}

// get reads an object.
func (c *cluster) get(ctx context.Context, namespace, resource, name string, into runtime.Object) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return c.of(resource).Get().NamespaceIfScoped(namespace, namespace != "").Resource(resource).Name(name).Do(ctx).Into(into)
}

// read reads an object as it is written, with who wrote what; nil where there is none.
func (c *cluster) read(ctx context.Context, namespace, resource, name string) (map[string]any, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	answer, err := raw(c.of(resource).Get().NamespaceIfScoped(namespace, namespace != "").Resource(resource).Name(name).SetHeader("Accept", runtime.ContentTypeJSON).Do(ctx))
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out map[string]any
	return out, json.Unmarshal(answer, &out)
}

// raw returns the body of an answer, or the error that it says. (Result.Raw itself does not read what the server said of an error.)
func raw(r rest.Result) ([]byte, error) {
	if err := r.Error(); err != nil {
		return nil, err
	}
	return r.Raw()
}

// delete removes an object. One that is not there is fine.
func (c *cluster) delete(ctx context.Context, namespace, resource, name string, o metav1.DeleteOptions) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := c.of(resource).Delete().Namespace(namespace).Resource(resource).Name(name).Body(&o).Do(ctx).Error()
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) { // Conflict: another object has the name now.
		return nil
	}
	return err
}

// log reads what the main container of a pod printed, at most limit bytes.
func (c *cluster) log(ctx context.Context, namespace, pod string, limit int64) (io.ReadCloser, error) {
	return c.journals.Get().Namespace(namespace).Resource("pods").Name(pod).SubResource("log").
		VersionedParams(&corev1.PodLogOptions{Container: MainContainer, LimitBytes: &limit}, c.codec).Stream(ctx)
}

// translate says in the port's words why the API server refused, or could not be asked. Unavailable leaves open whether it did what it
// was asked to; all else means that it did not. object is what fields that it names are of.
func translate(runner string, err error, what, object string) error {
	var f *fault.Error
	if err == nil || errors.As(err, &f) {
		return err
	}
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return fault.New(fault.Unavailable, fault.ReasonRunnerUnavailable, "the cluster of runner %s cannot be reached to %s", runner, what).
			WithCause(err).WithRetry(retryAfter)
	}
	s := status.Status()
	switch {
	case isQuota(&s):
		return fault.New(fault.Exhausted, fault.ReasonLimitExceeded, "the cluster of runner %s refuses to %s: %s", runner, what, s.Message).
			WithHint("a quota of the namespace is used up: end sandboxes in it, or have it raised").WithRetry(retryAfter)
	case s.Code == http.StatusTooManyRequests, s.Code >= http.StatusInternalServerError, s.Reason == metav1.StatusReasonTimeout:
		return fault.New(fault.Unavailable, fault.ReasonRunnerUnavailable, "the cluster of runner %s could not %s: %s", runner, what, s.Message).WithRetry(retryAfter)
	case isTerminating(&s):
		return fault.Preconditionf(fault.ReasonBackendUnsupported, "the cluster of runner %s refuses to %s: %s", runner, what, s.Message).
			WithHint("the namespace is being deleted; something in it holds that up (kubectl describe namespace shows what)")
	case s.Code == http.StatusUnauthorized:
		return fault.New(fault.Unavailable, fault.ReasonRunnerUnavailable, "the cluster of runner %s does not know its credentials any more", runner).WithRetry(retryAfter)
	}
	e := fault.Preconditionf(fault.ReasonBackendUnsupported, "the cluster of runner %s refuses to %s: %s", runner, what, s.Message)
	if s.Details != nil {
		for _, cause := range s.Details.Causes {
			if cause.Field != "" {
				e.WithField(strings.ToLower(object)+"."+cause.Field, "%s", cause.Message)
			}
		}
	}
	switch {
	case isPodSecurity(&s):
		e.WithHint("change pod.spec of the profile to what the level asks for, or the level: " + levelPath + " of the profile, else the label of the namespace")
	case isUnauthorized(&s):
		e.WithHint("give the account of the runner the verbs that docs/kubernetes.md lists under permissions")
	}
	return e
}

func (b *Backend) translate(err error, what string) error {
	return translate(b.cfg.RunnerName, err, what, "pod")
}

// retryAfter is what callers are told to wait.
const retryAfter = 5 * time.Second
