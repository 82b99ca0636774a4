package tree

import (
	"io/fs"
	"slices"
	"strings"
	"testing"
)

// FuzzLocalName checks that the names of any keys are within the folder but not among the working files, that no two are the
// same, and that none is a folder of another.
func FuzzLocalName(f *testing.F) {
	for _, keys := range []string{
		"a\na/b\na/b/", "../a\n./a\na/../b\n/a\na//b", ".ossdl/a\n.OSSDL\na/.ossdl\n.ossdl.", "A\na\n\u017f\ns\n\u212a\nk", "con\nCOM1.txt\na:b\na.\na \n\\",
		"\x00\n\xff\n" + strings.Repeat("x", 300), "p/a\np/\np", "",
		"A\na/", "A\na/b", "A/b\na", "A/\na", "A/b/c\na/B\na/c", "\u212a/x\nk\nK",
	} {
		f.Add(keys, "", true, true)
		f.Add(keys, "p/", false, false)
	}
	f.Fuzz(func(t *testing.T, keys, prefix string, windows, folds bool) {
		all := strings.Split(keys, "\n")
		checkNames(t, NewUnordered(Rules{windows, folds}), all, windows, folds)
		slices.Sort(all)
		checkNames(t, NewNames(prefix, Rules{windows, folds}), slices.Compact(all), windows, folds)
	})
}

// checkNames fails the test unless the names of the keys are as FuzzLocalName says.
func checkNames(t *testing.T, names *Names, keys []string, windows, folds bool) {
	t.Helper()
	files, folders := map[string]string{}, map[string]string{} // keys by name, folded where the file system folds names
	for _, key := range keys {
		name, err := names.Name(key)
		if err != nil || name == "" {
			continue
		}
		plain, isFolder := strings.CutSuffix(name, "/")
		if !fs.ValidPath(plain) || plain == "." || strings.ContainsAny(plain, "\x00") || windows && strings.ContainsAny(plain, `\:`) {
			t.Errorf("%q is named %q", key, name)
		}
		if folds {
			plain = fold(plain)
		}
		if first, _, _ := strings.Cut(plain, "/"); strings.EqualFold(first, WorkDir) {
			t.Errorf("%q is named %q, among the working files", key, name)
		}
		if other, taken := files[plain]; taken {
			t.Errorf("%q is named %q, and so is %q", key, name, other)
		}
		if other, taken := folders[plain]; taken && !isFolder {
			t.Errorf("%q is named %q, and %q needs a folder there", key, name, other)
		}
		if isFolder {
			folders[plain] = key
		} else {
			files[plain] = key
		}
		for i := range len(plain) {
			if plain[i] != '/' {
				continue
			}
			if other, taken := files[plain[:i]]; taken {
				t.Errorf("%q is named %q, and %q is a file above", key, name, other)
			}
			folders[plain[:i]] = key
		}
	}
}
