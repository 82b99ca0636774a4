// Command pack writes modules into a folder that the go command can use as a proxy, with GOPROXY=file://FOLDER. So a
// version can be tried before its tags are pushed.
//
//	pack FOLDER VERSION DIR...
//
// Each DIR is the root of a module and must hold nothing else than what its repository holds.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"
)

func main() {
	if len(os.Args) < 4 {
		fmt.Fprintln(os.Stderr, "usage: pack FOLDER VERSION DIR...")
		os.Exit(2)
	}
	for _, dir := range os.Args[3:] {
		if err := pack(os.Args[1], os.Args[2], dir); err != nil {
			fmt.Fprintf(os.Stderr, "pack %s: %v\n", dir, err)
			os.Exit(1)
		}
	}
}

// pack writes the four files that the go command asks a proxy for: https://go.dev/ref/mod#goproxy-protocol.
func pack(proxy, version, dir string) error {
	mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		return err
	}
	m := module.Version{Path: modfile.ModulePath(mod), Version: version}
	escaped, err := module.EscapePath(m.Path)
	if err != nil {
		return err
	}
	at := filepath.Join(proxy, filepath.FromSlash(escaped), "@v")
	if err := os.MkdirAll(at, 0o777); err != nil {
		return err
	}
	for name, content := range map[string][]byte{
		"list":            []byte(version + "\n"),
		version + ".info": fmt.Appendf(nil, "{\"Version\":%q}\n", version),
		version + ".mod":  mod,
	} {
		if err := os.WriteFile(filepath.Join(at, name), content, 0o666); err != nil {
			return err
		}
	}
	f, err := os.Create(filepath.Join(at, version+".zip"))
	if err != nil {
		return err
	}
	return errors.Join(zip.CreateFromDir(f, m, dir), f.Close())
}
