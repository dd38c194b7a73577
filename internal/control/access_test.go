package control

import (
	"context"
	"reflect"
	"testing"

	"github.com/bermhq/berm/internal/core"
	"github.com/bermhq/berm/internal/core/fault"
)

// withoutCaller are the methods that a process calls for itself.
var withoutCaller = map[string]bool{
	"Attach": true, "AuditCall": true, "Authenticate": true, "Bootstrap": true, "Close": true, "Detach": true, "Ready": true, "Recover": true, "StopWaiting": true,
	"Self": true, "Servers": true, "HoldLine": true, "DropLine": true,
	"Visitor": true, "EnterPort": true, "PortPass": true, "EnrolRunner": true, "AuthenticateRunner": true, "RenewRunner": true, "RetireRunnerCredentials": true,
}

// TestEveryUseCaseChecksItsRole calls every exported method with callers that may not, and expects a refusal before
// anything else: the Service has no store, so a method that looks at anything first panics.
func TestEveryUseCaseChecksItsRole(t *testing.T) {
	s := New(t.Context(), Config{})
	defer s.Close()
	v := reflect.ValueOf(s)
	walked := 0
	for i := range v.NumMethod() {
		name := v.Type().Method(i).Name
		m := v.Method(i)
		if withoutCaller[name] {
			continue
		}
		if m.Type().NumIn() < 2 || m.Type().In(1) != reflect.TypeFor[core.Principal]() {
			t.Errorf("%s does not take the caller as its first argument after the context; is it a use case?", name)
			continue
		}
		walked++
		need, ok := roleOf(name)
		if !ok {
			t.Errorf("%s has no role in access.go", name)
			continue
		}
		if err := call(t, m, core.Principal{}); !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("%s without a caller: %v", name, err)
		}
		for _, role := range []core.Role{"", "owner", core.RoleUser, core.RoleAdmin} {
			p := core.Principal{OrgID: "org", Actor: "token:t", Role: role}
			if role != "" && p.Allows(need) {
				continue
			}
			err := call(t, m, p)
			if role != "" && (!fault.Is(err, fault.Denied) || !fault.HasReason(err, fault.ReasonRoleMissing)) {
				t.Errorf("%s as %q: %v", name, role, err)
			}
			if role == "" && !fault.Is(err, fault.Unauthenticated) {
				t.Errorf("%s without a role: %v", name, err)
			}
		}
	}
	if walked < 30 {
		t.Errorf("only %d use cases were found", walked)
	}
}

// call calls a use case with zero values and returns its error.
func call(t *testing.T, m reflect.Value, p core.Principal) error {
	t.Helper()
	args := []reflect.Value{reflect.ValueOf(context.Background()), reflect.ValueOf(p)}
	for i := 2; i < m.Type().NumIn(); i++ {
		args = append(args, reflect.Zero(m.Type().In(i)))
	}
	out := m.Call(args)
	err, _ := out[len(out)-1].Interface().(error)
	return err
}

func TestNoRoleForUnknownMethods(t *testing.T) {
	s := New(t.Context(), Config{})
	defer s.Close()
	p := core.Principal{OrgID: "org", Role: core.RoleOperator}
	if err := s.allow(t.Context(), p, "DropEverything"); !fault.Is(err, fault.Internal) {
		t.Errorf("a method that is not declared: %v", err)
	}
}
