package podguard_test

import (
	"os"
	"testing"

	"github.com/bermhq/berm/internal/backend/local/network/networktest"
)

func TestMain(m *testing.M) { os.Exit(networktest.Main(m)) }
