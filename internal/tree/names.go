package tree

import (
	"errors"
	"fmt"
	"hash/maphash"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/ossdl/ossdl/internal/fsys"
)

// Rules are what a file system allows in names.
type Rules struct {
	Windows   bool // some characters and names are refused
	FoldsCase bool // names are case-insensitive
}

// Names gives keys the names of their files. [NewNames] makes one for the keys below a prefix, which must be given in the order
// of their bytes, and [NewUnordered] one for any names. Names are relative to a folder and slash-separated; the name of a folder
// ends in a slash. A key that can have no name, or none of its own, gets an error.
type Names struct {
	prefix  string
	base    string // the part of prefix that is not in names
	rules   Rules
	ordered bool

	// above holds the keys so far that the last key continues, the shortest first. All continuations of a key come right
	// after it in the order of bytes, so this is enough to know whether a key lies below another.
	above []string
	// seen holds the names so far, of files and of the folders above them, if they are not in order or the file system is
	// case-insensitive, for which they are folded; the value is true for folders. Names that collide can be any distance apart, so it grows. A name takes 20 to 40 bytes, since
	// the table is half to nearly full. A folder is one more name, so that a key in a folder of its own can take 60 or more.
	// Hashes of two different names are equal once in 10^7 prefixes of a million keys; then one key fails.
	seen map[uint64]bool
	seed maphash.Seed
}

// NewNames returns the Names for the keys that begin with prefix. A name is the key without the prefix up to its last slash.
func NewNames(prefix string, r Rules) *Names {
	n := &Names{prefix: prefix, base: prefix[:strings.LastIndexByte(prefix, '/')+1], rules: r, ordered: true}
	if r.FoldsCase {
		n.seen, n.seed = map[uint64]bool{}, maphash.MakeSeed()
	}
	return n
}

// NewUnordered returns the Names for names that come in any order. Each may be given once, unless it is that of a folder.
func NewUnordered(r Rules) *Names {
	return &Names{rules: r, seen: map[uint64]bool{}, seed: maphash.MakeSeed()}
}

// Relative returns the key without the part of the prefix that is not in names. The result need not be a valid name.
func (n *Names) Relative(key string) string { return strings.TrimPrefix(key, n.base) }

// Name returns the name of the next key. It is "" if the key stands for the folder itself. An error is an [fsys.ErrUnusable].
func (n *Names) Name(key string) (string, error) {
	name, err := n.next(key)
	return name, fsys.Unusable(err)
}

func (n *Names) next(key string) (string, error) {
	if !strings.HasPrefix(key, n.prefix) {
		return "", fmt.Errorf("it does not begin with the prefix %q that was listed", n.prefix)
	}
	name := n.Relative(key)
	if name == "" {
		return "", nil
	}
	if err := checkName(name, n.rules); err != nil {
		return "", err
	}
	if n.ordered {
		if above := n.below(name); above != "" {
			return "", fmt.Errorf("it would lie below %q, which is an object and so a file here", above)
		}
	}
	if n.seen != nil {
		if err := n.add(name); err != nil {
			return "", err
		}
	}
	return name, nil
}

// add remembers a name, unless it collides with an earlier one.
func (n *Names) add(name string) error {
	plain, isFolder := strings.CutSuffix(name, "/")
	folded := plain
	if n.rules.FoldsCase {
		folded = fold(plain)
	}
	hashes := make([]uint64, 0, 8) // of the folders above, then of the name itself
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
			return n.collision("it would lie below another key, whose name differs only by case", "it would lie below the file of an earlier object")
		case folder:
			return n.collision("a folder of other keys differs from it only by case", "its name is that of a folder that earlier objects need")
		default:
			return n.collision("another key differs from it only by case", "an earlier object has the same name")
		}
	}
	for i, h := range hashes {
		n.seen[h] = i < above || isFolder
	}
	return nil
}

// collision returns the error of a name that collides with an earlier one: byCase if the case of letters is all that differs.
func (n *Names) collision(byCase, plain string) error {
	switch {
	case n.ordered:
		return errors.New(byCase + ": the file system is case-insensitive")
	case n.rules.FoldsCase:
		return errors.New(plain + ", or one that differs only by case: the file system is case-insensitive")
	}
	return errors.New(plain)
}

// below remembers a name. It returns the name of the file that would have to be a folder for it, or "".
func (n *Names) below(name string) string {
	for len(n.above) > 0 && !strings.HasPrefix(name, n.above[len(n.above)-1]) {
		n.above = n.above[:len(n.above)-1]
	}
	for _, a := range n.above {
		if len(name) > len(a) && name[len(a)] == '/' {
			return a
		}
	}
	if !strings.HasSuffix(name, "/") { // others may lie below a folder
		n.above = append(n.above, name)
	}
	return ""
}

// checkName returns an error if a file below a folder cannot have this name. A name that is too long is left to the file
// system, which alone knows its limits.
func checkName(name string, r Rules) error {
	switch {
	case !utf8.ValidString(name):
		return errors.New("it is not valid UTF-8")
	case strings.ContainsRune(name, 0):
		return errors.New("it contains a NUL")
	}
	for e := range strings.SplitSeq(strings.TrimSuffix(name, "/"), "/") {
		switch {
		case e == "":
			return errors.New("an element of its local name is empty")
		case e == "." || e == "..":
			return fmt.Errorf("an element of its local name is %q", e)
		case r.Windows:
			if why := windowsRefuses(e); why != "" {
				return fmt.Errorf("element %q: %s", e, why)
			}
		}
	}
	if first, _, _ := strings.Cut(name, "/"); isWorkDir(first) {
		return fmt.Errorf("%s is reserved for the files of running downloads", WorkDir)
	}
	return nil
}

// windowsRefuses returns why Windows refuses an element of a path, or "". The rules are those of "Naming Files, Paths, and
// Namespaces" in Microsoft's documentation.
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
		return "Windows has a device of this name"
	}
	if len(stem) > 3 && (stem[:3] == "COM" || stem[:3] == "LPT") && isPort(stem[3:]) {
		return "Windows has a device of this name"
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

// fold returns the same string for all names that differ only by case.
func fold(s string) string { return strings.Map(foldRune, s) }

func foldRune(r rune) rune {
	if r < utf8.RuneSelf {
		return unicode.ToUpper(r) // the least of its orbit
	}
	least := r
	for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
		least = min(least, f)
	}
	return least
}

// otherCase returns s with the case of its letters swapped: of those of ASCII, which every case-insensitive file system folds,
// if there are any.
func otherCase(s string) string {
	ascii := strings.ContainsFunc(s, isASCIILetter)
	return strings.Map(func(r rune) rune {
		if ascii && !isASCIILetter(r) {
			return r
		}
		if upper := unicode.ToUpper(r); upper != r {
			return upper
		}
		return unicode.ToLower(r)
	}, s)
}

// Match reports whether a name matches one of the patterns to include, or there are none, and none of those to exclude. The
// patterns must be valid.
func Match(name string, include, exclude []string) bool {
	name = strings.TrimSuffix(name, "/")
	return (len(include) == 0 || matches(name, include)) && !matches(name, exclude)
}

// matches compares a pattern that has a slash with the whole name, and any other with its last element.
func matches(name string, patterns []string) bool {
	last := name[strings.LastIndexByte(name, '/')+1:]
	for _, p := range patterns {
		against := last
		if strings.Contains(p, "/") {
			against = name
		}
		if ok, err := path.Match(p, against); ok && err == nil {
			return true
		}
	}
	return false
}

// CheckPatterns returns an error if one of the patterns for [Match] is malformed.
func CheckPatterns(patterns []string) error {
	for _, p := range patterns {
		if _, err := path.Match(p, ""); err != nil || p == "" {
			return fmt.Errorf("pattern %q is malformed; allowed are *, ?, [class] and \\ as in path.Match", p)
		}
	}
	return nil
}

// Shard is one of count equal shares of all keys. The zero value is all of them.
type Shard struct{ Index, Count int }

// Has reports whether a key belongs to the shard: its FNV-1a 64 hash, modulo Count, is Index. Callers rely on it that a key
// is always in the same shard.
func (s Shard) Has(key string) bool {
	if s.Count <= 1 {
		return true
	}
	h := uint64(0xcbf29ce484222325)
	for i := range len(key) { // hash/fnv would copy the key
		h = (h ^ uint64(key[i])) * 0x100000001b3
	}
	return h%uint64(s.Count) == uint64(s.Index)
}
