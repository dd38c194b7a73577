package registry

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

// TestManyHosts: whoever names registries without end takes no memory without end, and budgets of registries that are listed stay.
func TestManyHosts(t *testing.T) {
	c, err := New(Config{Hosts: map[string]Host{"listed.example": {MaxDownloads: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	listed, first := c.budget("listed.example"), c.budget("h0.example")
	if c.budget("h0.example") != first {
		t.Error("a registry has two budgets")
	}
	for i := range MaxOtherHosts + 10 {
		host := fmt.Sprintf("h%d.example", i)
		c.budget(host)
		if _, err := c.reach(host); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.reach("listed.example"); err != nil {
		t.Fatal(err)
	}
	if len(c.transports) != 2 || len(c.budgets) != 1 || c.others.Len() != MaxOtherHosts {
		t.Errorf("%d transports, %d and %d budgets", len(c.transports), len(c.budgets), c.others.Len())
	}
	if c.budget("listed.example") != listed {
		t.Error("the budget of a listed registry was forgotten")
	}
}

// TestLongRest: a registry that asks to be left alone for years is asked again within the hour.
func TestLongRest(t *testing.T) {
	b := newBudget(Host{})
	b.cool(10*365*24*time.Hour, errors.New("later"))
	if left := time.Until(b.rest); left > MaxRest {
		t.Errorf("%s", left)
	}
}
