package torture_test

import (
	"os"
	"testing"

	"github.com/ossdl/ossdl/internal/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.RunScenarios(m)) }
