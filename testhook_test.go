package ossdl_test

import (
	"net/http"
	"os"
	"testing"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/testhook"
)

// TestHooksHaveTheirTypes checks the types that package testhook says its hooks have, and that package harness relies on.
func TestHooksHaveTheirTypes(t *testing.T) {
	if _, ok := testhook.FileSystem.(func(fsys.FS) ossdl.Option); !ok {
		t.Errorf("FileSystem is a %T", testhook.FileSystem)
	}
	if _, ok := testhook.FolderFileSystem.(func(func(*os.Root) fsys.FS) ossdl.Option); !ok {
		t.Errorf("FolderFileSystem is a %T", testhook.FolderFileSystem)
	}
	if _, ok := testhook.ObjectTimes.(func() ossdl.Option); !ok {
		t.Errorf("ObjectTimes is a %T", testhook.ObjectTimes)
	}
	if _, ok := testhook.Transport.(func(*http.Client) *http.Transport); !ok {
		t.Errorf("Transport is a %T", testhook.Transport)
	}
}
