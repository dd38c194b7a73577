package scale

import (
	"net/http"
	"strings"

	authv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/runtime/serializer/streaming"
	"k8s.io/apimachinery/pkg/watch"
)

var scheme = func() *runtime.Scheme {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, nodev1.AddToScheme, authv1.AddToScheme} {
		if err := add(s); err != nil {
			panic(err)
		}
	}
	metav1.AddToGroupVersion(s, corev1.SchemeGroupVersion)
	return s
}()

var codecs = serializer.NewCodecFactory(scheme)

// spoken returns how a request wants to be answered: in protobuf, or JSON.
func spoken(r *http.Request) runtime.SerializerInfo {
	media := runtime.ContentTypeJSON
	if strings.HasPrefix(r.Header.Get("Accept"), runtime.ContentTypeProtobuf) {
		media = runtime.ContentTypeProtobuf
	}
	info, _ := runtime.SerializerInfoForMediaType(codecs.SupportedMediaTypes(), media)
	return info
}

func encoder(s runtime.Serializer, object runtime.Object) runtime.Encoder {
	kinds, _, err := scheme.ObjectKinds(object)
	if err != nil {
		panic(err)
	}
	return codecs.EncoderForVersion(s, kinds[0].GroupVersion())
}

func reply(w http.ResponseWriter, r *http.Request, code int, object runtime.Object) {
	info := spoken(r)
	w.Header().Set("Content-Type", info.MediaType)
	w.WriteHeader(code)
	_ = encoder(info.Serializer, object).Encode(object, w)
}

func refuse(w http.ResponseWriter, r *http.Request, code int, reason metav1.StatusReason, message string) {
	reply(w, r, code, &metav1.Status{Status: metav1.StatusFailure, Code: int32(code), Reason: reason, Message: message}) //nolint:gosec // a status
}

// events is the answer to a watch.
type events struct {
	w      http.ResponseWriter
	one    runtime.Serializer
	stream streaming.Encoder
}

func newEvents(w http.ResponseWriter, r *http.Request) *events {
	info := spoken(r)
	w.Header().Set("Content-Type", info.MediaType+";stream=watch")
	if info.MediaType == runtime.ContentTypeJSON {
		w.Header().Set("Content-Type", info.MediaType)
	}
	s := info.StreamSerializer
	frames := s.Framer.NewFrameWriter(w)
	return &events{w: w, one: info.Serializer, stream: streaming.NewEncoder(frames, codecs.EncoderForVersion(s.Serializer, schema.GroupVersion{Version: "v1"}))}
}

func (e *events) send(kind watch.EventType, object runtime.Object) {
	raw, err := runtime.Encode(encoder(e.one, object), object)
	if err != nil {
		panic(err)
	}
	_ = e.stream.Encode(&metav1.WatchEvent{Type: string(kind), Object: runtime.RawExtension{Raw: raw}}) // Who has gone is known by the context.
}

func (e *events) flush() {
	if f, ok := e.w.(http.Flusher); ok {
		f.Flush()
	}
}

// follow serves a list that never changes, or a watch of it.
func follow(w http.ResponseWriter, r *http.Request, list runtime.Object) {
	if r.URL.Query().Get("watch") == "" {
		reply(w, r, http.StatusOK, list)
		return
	}
	events := newEvents(w, r)
	if r.URL.Query().Get("sendInitialEvents") == "true" {
		switch l := list.(type) {
		case *corev1.NodeList:
			for i := range l.Items {
				events.send(watch.Added, &l.Items[i])
			}
			events.send(watch.Bookmark, bookmark(&corev1.Node{}, "1"))
		case *nodev1.RuntimeClassList:
			events.send(watch.Bookmark, bookmark(&nodev1.RuntimeClass{}, "1"))
		}
	}
	events.flush()
	<-r.Context().Done()
}
