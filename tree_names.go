package ossdl

import (
	"errors"
	"fmt"
	"hash/fnv"
	"hash/maphash"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"
)

// workDir is the folder, in that of a DownloadPrefix, of the files that do not have their name yet.
const workDir = ".ossdl"

// localBase is the part of a prefix that the keys lose: all up to its last slash.
func localBase(prefix string) string { return prefix[:strings.LastIndexByte(prefix, '/')+1] }

// namer gives the keys of a prefix, in the order in which they are listed, their names below the folder: slash-separated,
// and with a slash at the end for what is a folder itself. A key that has none, or not one of its own, gets an error.
type namer struct {
	prefix  string
	windows bool
	folds   bool // the file system does not tell names apart that differ only by case

	// above are keys listed so far of which the last one is a continuation, the shortest first. Keys come in the order of
	// their bytes, so all continuations of a key come before anything else, and this is all that has to be remembered to
	// know of each key whether it lies below another.
	above []string
	// seen are the names so far, folded, of files and of the folders above them, where the file system folds names: twins
	// can be any distance apart, so this grows, by some 20 bytes a name. True are folders. Hashes of different names are
	// equal once in 10^7 prefixes of a million keys; it costs a failure.
	seen map[uint64]bool
	seed maphash.Seed
}

func newNamer(prefix string, windows, folds bool) *namer {
	n := &namer{prefix: prefix, windows: windows, folds: folds}
	if folds {
		n.seen, n.seed = map[uint64]bool{}, maphash.MakeSeed()
	}
	return n
}

// raw is the key without what all keys of the prefix have in common, whatever it looks like.
func (n *namer) raw(key string) string { return strings.TrimPrefix(key, localBase(n.prefix)) }

// name is the local name of the next key.
func (n *namer) name(key string) (string, error) {
	if !strings.HasPrefix(key, n.prefix) {
		return "", fmt.Errorf("the listing of prefix %q holds it", n.prefix)
	}
	name := n.raw(key)
	if name == "" {
		return "", nil // the marker of the folder itself
	}
	if err := checkName(name, n.windows); err != nil {
		return "", err
	}
	if above := n.below(name); above != "" {
		return "", fmt.Errorf("it would lie below %q, which is an object itself and a file here", above)
	}
	if n.folds {
		if err := n.twin(name); err != nil {
			return "", err
		}
	}
	return name, nil
}

// twin remembers a name, unless it clashes with one so far that differs from it only by case. Which of two clashes is a
// matter of their order alone.
func (n *namer) twin(name string) error {
	plain, isFolder := strings.CutSuffix(name, "/")
	folded := fold(plain)
	hashes := make([]uint64, 0, 8) // of the folders above, and of the name itself
	for i := range len(folded) {
		if folded[i] == '/' {
			hashes = append(hashes, maphash.String(n.seed, folded[:i]))
		}
	}
	above := len(hashes)
	hashes = append(hashes, maphash.String(n.seed, folded))
	for i, h := range hashes {
		folder, seen := n.seen[h]
		switch {
		case !seen, folder && (i < above || isFolder):
		case i < above:
			return errors.New("it would lie below another key, but for case, which the file system does not tell apart")
		case folder:
			return errors.New("a folder of other keys differs from it only by case, which the file system does not tell apart")
		default:
			return errors.New("another key differs from it only by case, which the file system does not tell apart")
		}
	}
	for i, h := range hashes {
		n.seen[h] = i < above || isFolder
	}
	return nil
}

// below remembers a name and returns the name of a file that would have to be a folder for it.
func (n *namer) below(name string) string {
	for len(n.above) > 0 && !strings.HasPrefix(name, n.above[len(n.above)-1]) {
		n.above = n.above[:len(n.above)-1]
	}
	for _, a := range n.above {
		if len(name) > len(a) && name[len(a)] == '/' {
			return a
		}
	}
	if !strings.HasSuffix(name, "/") { // a folder is in nobody's way
		n.above = append(n.above, name)
	}
	return ""
}

// checkName says why a name cannot be one below a folder. Names that are too long are left to the file system to refuse:
// it alone knows its limits.
func checkName(name string, windows bool) error {
	switch {
	case !utf8.ValidString(name):
		return errors.New("not UTF-8")
	case strings.ContainsRune(name, 0):
		return errors.New("a NUL is in it")
	}
	elements := strings.Split(strings.TrimSuffix(name, "/"), "/")
	for _, e := range elements {
		switch {
		case e == "":
			return errors.New("an element of its local name is empty")
		case e == "." || e == "..":
			return fmt.Errorf("an element of its local name is %q", e)
		case windows:
			if why := windowsRefuses(e); why != "" {
				return fmt.Errorf("element %q: %s", e, why)
			}
		}
	}
	if isWorkDir(elements[0]) {
		return fmt.Errorf("%s is kept for the files of running downloads", workDir)
	}
	return nil
}

// isWorkDir holds the first element of a name against that of our own folder, as any file system may see it: whatever the
// case, and on Windows by the short name that it may have.
func isWorkDir(element string) bool {
	return strings.EqualFold(element, workDir) || len(element) > 6 && strings.EqualFold(element[:6], "ossdl~")
}

// windowsRefuses: see "Naming Files, Paths, and Namespaces" in Microsoft's documentation of Windows.
func windowsRefuses(element string) string {
	for _, r := range element {
		if r < 0x20 || strings.ContainsRune(`<>:"|?*\`, r) {
			return fmt.Sprintf("Windows allows no %q in a name", r)
		}
	}
	if strings.HasSuffix(element, ".") || strings.HasSuffix(element, " ") {
		return "Windows drops a dot or space at the end of a name"
	}
	stem, _, _ := strings.Cut(strings.ToUpper(element), ".")
	stem = strings.TrimRight(stem, " ")
	switch stem {
	case "CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$":
		return "a device of Windows has this name"
	}
	if len(stem) > 3 && (stem[:3] == "COM" || stem[:3] == "LPT") && isPort(stem[3:]) {
		return "a device of Windows has this name"
	}
	return ""
}

func isPort(s string) bool {
	switch s {
	case "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "¹", "²", "³":
		return true
	}
	return false
}

// fold maps names that differ only by case to one.
func fold(s string) string { return strings.Map(foldRune, s) }

func foldRune(r rune) rune {
	if r < utf8.RuneSelf {
		return unicode.ToUpper(r) // the least of its kind
	}
	least := r
	for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
		least = min(least, f)
	}
	return least
}

// chosen decides by the local name whether a key is asked for. Exclusion wins.
func chosen(name string, include, exclude []string) bool {
	name = strings.TrimSuffix(name, "/")
	return (len(include) == 0 || matches(name, include)) && !matches(name, exclude)
}

// matches compares a pattern that has a slash with the whole name, and another with its last element.
func matches(name string, patterns []string) bool {
	last := name[strings.LastIndexByte(name, '/')+1:]
	for _, p := range patterns {
		against := last
		if strings.Contains(p, "/") {
			against = name
		}
		if ok, err := path.Match(p, against); ok && err == nil { // the patterns were checked when they were given
			return true
		}
	}
	return false
}

// has reports whether a key belongs to the shard. That a key is in the same shard for ever is part of the interface.
func (s shard) has(key string) bool {
	if s.count <= 1 {
		return true
	}
	h := fnv.New64a()
	h.Write([]byte(key))
	return h.Sum64()%uint64(s.count) == uint64(s.index)
}
