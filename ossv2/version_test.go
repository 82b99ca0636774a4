package ossv2

import (
	"os"
	"strings"
	"testing"

	"github.com/ossdl/ossdl"
)

// TestRequiresThisVersion checks that the module requires the version of the library that it is released with.
func TestRequiresThisVersion(t *testing.T) {
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if want := "\tgithub.com/ossdl/ossdl v" + ossdl.Version + "\n"; !strings.Contains(string(mod), want) {
		t.Errorf("go.mod does not require version %s", ossdl.Version)
	}
}
