package harness

import (
	"os"
	"testing"

	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/harness/checkpoints"
)

// CheckpointOf is what the checkpoint of the download to path and its recent saves say together; nil where there is neither. See
// checkpoints.Later.
func CheckpointOf(t *testing.T, path string) (cp *checkpoints.Document, older []checkpoints.Part) {
	t.Helper()
	var data []byte
	if Exists(path + CheckpointSuffix) {
		checkpoints.Read(t, path+CheckpointSuffix) // holds the bytes against the format
		var err error
		if data, err = os.ReadFile(path + CheckpointSuffix); err != nil {
			t.Fatal(err)
		}
	}
	return checkpoints.LaterOn(t, fsys.OS(), data, path+RecentSuffix)
}
