package kube

import (
	"fmt"
	"iter"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/types/known/structpb"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/tree"
)

// fragmentPath is where the fragment stands in a profile spec.
const fragmentPath = "pod.spec"

// CheckFragment decodes a PodSpec fragment strictly and reports everything that is wrong in one Invalid fault: keys that
// Kubernetes does not know, each with a suggestion; values of the wrong type; and what a fragment may not say because
// another field of the spec, or the request, decides it. It is meant for the moment at which a profile, an override or
// zone defaults are written. A null at the top level is allowed: it clears the key of a lower layer.
//
// It decodes by Kubernetes' own types instead of a JSON decoder's: that would stop at the first error and know no path.
func CheckFragment(fragment *structpb.Struct) error {
	var p tree.Problems
	checkFragment(&p, fragment)
	err := p.Err("the pod fragment is not valid")
	if err == nil {
		return nil
	}
	return fault.From(err).WithHint("pod.spec is a part of a Kubernetes PodSpec, merged onto the pod that Berm makes")
}

func checkFragment(p *tree.Problems, fragment *structpb.Struct) {
	d := decoder{problems: p}
	for _, key := range slices.Sorted(maps.Keys(fragment.GetFields())) {
		value := fragment.GetFields()[key]
		t, known := d.field(reflect.TypeFor[corev1.PodSpec](), key, fragmentPath)
		if _, null := value.GetKind().(*structpb.Value_NullValue); !known || null {
			continue
		}
		d.value(value, t, fragmentPath+"."+key)
	}
	checkOwned(p, fragment)
}

// decoder walks values along Go types by their JSON names.
type decoder struct{ problems *tree.Problems }

func (d *decoder) value(v *structpb.Value, t reflect.Type, path string) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if _, null := v.GetKind().(*structpb.Value_NullValue); null || v.GetKind() == nil {
		d.problems.Add(nil, path, "is null, which means nothing inside the fragment; leave the key out")
		return
	}
	if special, why := scalarOf(v, t); special {
		if why != "" {
			d.problems.Add(nil, path, "%s", why)
		}
		return
	}
	switch t.Kind() {
	case reflect.Struct:
		d.object(v, t, path)
	case reflect.Map:
		if object := d.want(v, path); object != nil {
			for _, key := range slices.Sorted(maps.Keys(object)) {
				d.value(object[key], t.Elem(), path+"["+key+"]")
			}
		}
	case reflect.Slice:
		list, ok := v.GetKind().(*structpb.Value_ListValue)
		if !ok {
			d.problems.Add(nil, path, "must be a list, not %s", kindOf(v))
			return
		}
		for i, item := range list.ListValue.GetValues() {
			d.value(item, t.Elem(), path+"["+strconv.Itoa(i)+"]")
		}
	default:
		if why := checkScalar(v, t.Kind()); why != "" {
			d.problems.Add(nil, path, "%s", why)
		}
	}
}

func (d *decoder) object(v *structpb.Value, t reflect.Type, path string) {
	object := d.want(v, path)
	for _, key := range slices.Sorted(maps.Keys(object)) {
		if ft, known := d.field(t, key, path); known {
			d.value(object[key], ft, path+"."+key)
		}
	}
}

func (d *decoder) want(v *structpb.Value, path string) map[string]*structpb.Value {
	object, ok := v.GetKind().(*structpb.Value_StructValue)
	if !ok {
		d.problems.Add(nil, path, "must be an object, not %s", kindOf(v))
		return nil
	}
	return object.StructValue.GetFields()
}

// field returns the type of t's field with this JSON name, or reports the name.
func (d *decoder) field(t reflect.Type, name, path string) (reflect.Type, bool) {
	for n, ft := range jsonFields(t) {
		if n == name {
			return ft, true
		}
	}
	hint, names := "", []string{}
	if strings.HasPrefix(name, "$") {
		hint = "directives of a merge patch are not taken here"
	}
	for n := range jsonFields(t) {
		names = append(names, n)
	}
	slices.Sort(names)
	d.problems.Unknown(tree.Key{Name: name}, path+"."+name, names, hint)
	return nil, false
}

// jsonFields yields t's fields by JSON name with their types, those of inlined structs included.
func jsonFields(t reflect.Type) iter.Seq2[string, reflect.Type] {
	return func(yield func(string, reflect.Type) bool) {
		for i := range t.NumField() {
			f := t.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if name == "" && f.Anonymous && f.Type.Kind() == reflect.Struct {
				for n, ft := range jsonFields(f.Type) {
					if !yield(n, ft) {
						return
					}
				}
			} else if name != "" && name != "-" && !yield(name, f.Type) {
				return
			}
		}
	}
}

// scalarOf handles the types whose JSON form is not that of their Go kind. why is what is wrong, "" when nothing is.
func scalarOf(v *structpb.Value, t reflect.Type) (special bool, why string) {
	text, isText := v.GetKind().(*structpb.Value_StringValue)
	number, isNumber := v.GetKind().(*structpb.Value_NumberValue)
	switch t {
	case reflect.TypeFor[resource.Quantity]():
		switch {
		case isText:
			if _, err := resource.ParseQuantity(text.StringValue); err != nil {
				return true, fmt.Sprintf("%q is no quantity such as 500m, 2 or 64Mi", clip(text.StringValue))
			}
		case !isNumber:
			return true, "must be a quantity such as 500m, 2 or 64Mi, not " + kindOf(v)
		case number.NumberValue != math.Trunc(number.NumberValue):
			return true, "a fractional quantity must be a string"
		default:
			return true, checkScalar(v, reflect.Int64)
		}
		return true, ""
	case reflect.TypeFor[intstr.IntOrString]():
		if isText {
			return true, ""
		}
		if !isNumber {
			return true, "must be a number or a string, not " + kindOf(v)
		}
		return true, checkScalar(v, reflect.Int32)
	case reflect.TypeFor[metav1.Time](), reflect.TypeFor[metav1.MicroTime](), reflect.TypeFor[metav1.Duration]():
		return true, checkScalar(v, reflect.String)
	}
	return false, ""
}

// checkScalar says why v is not a value of the kind.
func checkScalar(v *structpb.Value, kind reflect.Kind) string {
	switch k := v.GetKind().(type) {
	case *structpb.Value_StringValue:
		if kind == reflect.String {
			return ""
		}
	case *structpb.Value_BoolValue:
		if kind == reflect.Bool {
			return ""
		}
	case *structpb.Value_NumberValue:
		if bound, ok := integerBounds(kind); ok {
			if n := k.NumberValue; n != math.Trunc(n) || n < -bound || n > bound {
				return strconv.FormatFloat(n, 'f', -1, 64) + " is no integer of this field's size"
			}
			return ""
		}
	}
	switch kind {
	case reflect.String:
		return "must be a string, not " + kindOf(v)
	case reflect.Bool:
		return "must be true or false, not " + kindOf(v)
	default:
		return "must be an integer, not " + kindOf(v)
	}
}

// integerBounds returns the largest magnitude of an integer field. JSON numbers are exact up to 2^53.
func integerBounds(kind reflect.Kind) (float64, bool) {
	switch kind {
	case reflect.Int32:
		return math.MaxInt32, true
	case reflect.Int64, reflect.Int:
		return 1 << 53, true
	default:
		return 0, false
	}
}

func kindOf(v *structpb.Value) string {
	switch k := v.GetKind().(type) {
	case *structpb.Value_StringValue:
		return "the string " + strconv.Quote(clip(k.StringValue))
	case *structpb.Value_NumberValue:
		return "the number " + strconv.FormatFloat(k.NumberValue, 'f', -1, 64)
	case *structpb.Value_BoolValue:
		return fmt.Sprintf("%t", k.BoolValue)
	case *structpb.Value_ListValue:
		return "a list"
	case *structpb.Value_StructValue:
		return "an object"
	}
	return "null"
}

// clip shortens text that is quoted back to its author.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
