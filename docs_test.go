package ossdl

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// The tests of this file compare the documentation with the code.

// maxReadme is how many words a reader with ten minutes has for README, as `wc -w` counts them.
const maxReadme = 900

// readText returns a file of the repository.
func readText(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.FromSlash(name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// needClone skips the test where only the library is there, as in the module cache: its documentation speaks of the other
// modules, too.
func needClone(t *testing.T) {
	t.Helper()
	for _, module := range []string{"bench", "cmd/ossget", "ossv2"} {
		if _, err := os.Stat(filepath.FromSlash(module + "/go.mod")); err != nil {
			t.Skip("not in a clone: ", err)
		}
	}
}

// pages are the Markdown files of the repository, by their slash-separated names.
func pages(t *testing.T) (names []string) {
	t.Helper()
	err := fs.WalkDir(os.DirFS("."), ".", func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && e.Name() == ".git":
			return fs.SkipDir
		case strings.HasSuffix(name, ".md"):
			names = append(names, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(names) < 8 {
		t.Fatalf("only %v", names)
	}
	return names
}

// TestReadmeIsShort checks that README can be read in some minutes.
func TestReadmeIsShort(t *testing.T) {
	if n := len(strings.Fields(readText(t, "README.md"))); n >= maxReadme {
		t.Errorf("README.md has %d words, want fewer than %d", n, maxReadme)
	}
}

// TestVersionInDocs checks that the newest entry of the changelog and README are of this version.
func TestVersionInDocs(t *testing.T) {
	newest := regexp.MustCompile(`(?m)^## (\S+)`).FindStringSubmatch(readText(t, "CHANGELOG.md"))
	if newest == nil || newest[1] != Version {
		t.Errorf("the newest entry of CHANGELOG.md is %q, want %s", newest, Version)
	}
	if want := "Version " + Version + ":"; !strings.Contains(readText(t, "README.md"), want) {
		t.Errorf("README.md does not have %q", want)
	}
}

// TestReadmeCompiles checks that the program in README passes go vet.
func TestReadmeCompiles(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("the tests run where there is no go command: ", err)
	}
	_, program, _ := strings.Cut(readText(t, "README.md"), "```go\n")
	program, _, ok := strings.Cut(program, "\n```")
	if !ok {
		t.Fatal("README.md has no program in Go")
	}
	dir := t.TempDir()
	source := filepath.Join(dir, "main.go")
	if err := os.WriteFile(source, []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	// The overlay makes the program a package of this module, so it needs no go.mod of its own, and no network.
	root, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	replace := map[string]string{filepath.Join(root, "docs", "readme.go"): source}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	overlayFile := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(overlayFile, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "go", "vet", "-overlay", overlayFile, "./docs").CombinedOutput()
	if err != nil {
		t.Errorf("the program in README.md: %v\n%s", err, out)
	}
}

// documented are the pages whose tests must exist, each with the packages that its tests are in by default.
var documented = map[string]string{
	"README.md":               ".",
	"CONTRIBUTING.md":         "",
	"SECURITY.md":             "",
	"docs/guarantees.md":      "internal/torture",
	"docs/design.md":          "internal/torture",
	"docs/benchmarks.md":      "",
	"docs/options.md":         "",
	"internal/torture/doc.go": "",
}

// TestTestsNamedInDocs checks that the tests that the documentation names exist, in the package that it names. In
// guarantees.md and design.md that is internal/torture or below, unless the name of another package follows, as in "(package `ossdl`)".
func TestTestsNamedInDocs(t *testing.T) {
	needClone(t)
	folders := testFolders(t)
	name := regexp.MustCompile("\\b(?:Test|Fuzz|Benchmark)[A-Z]\\w+(?:`\\s\\(package\\s`(\\w+)`\\))?")
	found := 0
	for page, folder := range documented {
		for _, match := range name.FindAllStringSubmatch(readText(t, page), -1) {
			test, _, _ := strings.Cut(match[0], "`")
			want := folder
			switch match[1] {
			case "":
			case "ossdl":
				want = "."
			default:
				want = "internal/" + match[1]
			}
			switch in := folders[test]; {
			case len(in) == 0:
				if test != "TestX" { // stands for any
					t.Errorf("%s names %s, which does not exist", page, test)
				}
			case want != "" && !slices.ContainsFunc(in, func(folder string) bool { return folder == want || want != "." && strings.HasPrefix(folder, want+"/") }):
				t.Errorf("%s says that %s is in %s; it is in %v", page, test, want, in)
			}
			found++
		}
	}
	if found < 40 {
		t.Errorf("only %d names found", found)
	}
}

// testFolders returns the folders that each test, fuzz target and benchmark of the repository is in.
func testFolders(t *testing.T) map[string][]string {
	t.Helper()
	folders := map[string][]string{}
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w+)\(`)
	err := fs.WalkDir(os.DirFS("."), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(name, "_test.go") {
			return err
		}
		folder := filepath.ToSlash(filepath.Dir(name))
		for _, match := range function.FindAllStringSubmatch(readText(t, name), -1) {
			folders[match[1]] = append(folders[match[1]], folder)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return folders
}

// TestLinksInDocs checks that files exist that the documentation links, and headings that links lead to.
func TestLinksInDocs(t *testing.T) {
	needClone(t)
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	for _, page := range pages(t) {
		for _, match := range link.FindAllStringSubmatch(readText(t, page), -1) {
			if strings.Contains(match[1], "://") {
				continue
			}
			name, anchor, _ := strings.Cut(match[1], "#")
			target := filepath.Join(filepath.Dir(page), filepath.FromSlash(name))
			if name == "" {
				target = page
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links %s: %v", page, match[1], err)
			} else if anchor != "" && !slices.Contains(anchors(readText(t, target)), anchor) {
				t.Errorf("%s links %s: there is no such heading", page, match[1])
			}
		}
	}
}

// anchors returns what links to the headings of a page have behind the #, as GitHub makes them.
func anchors(page string) (all []string) {
	drop := regexp.MustCompile(`[^\p{L}\p{N} _-]`)
	for _, heading := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(page, -1) {
		all = append(all, strings.ReplaceAll(drop.ReplaceAllString(strings.ToLower(heading[1]), ""), " ", "-"))
	}
	return all
}

// TestFilesNamedInDocs checks that files and folders of the repository exist that the documentation names in backquotes.
func TestFilesNamedInDocs(t *testing.T) {
	needClone(t)
	file := regexp.MustCompile("`((?:internal|cmd|ossv2|docs|examples|bench|osstest|release|\\.ci)/[\\w./-]*)`")
	found := 0
	for _, page := range pages(t) {
		for _, match := range file.FindAllStringSubmatch(readText(t, page), -1) {
			found++
			if strings.Contains(match[1], "ROOM") { // stands for any
				continue
			}
			if _, err := os.Stat(filepath.FromSlash(match[1])); err != nil {
				t.Errorf("%s names %s: %v", page, match[1], err)
			}
		}
	}
	if found < 10 {
		t.Errorf("only %d names found", found)
	}
}

// TestRoomsInDesign checks that design.md has a row for each package that is not for tests of another one.
func TestRoomsInDesign(t *testing.T) {
	design := readText(t, "docs/design.md")
	rooms, err := os.ReadDir("internal")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range rooms {
		if !strings.Contains(design, "`internal/"+e.Name()+"`") {
			t.Errorf("docs/design.md does not have internal/%s", e.Name())
		}
	}
}

// documentedOption is what docs/options.md must say about an option.
type documentedOption struct {
	option   Option
	standard string   // the cell of the default, but for its backquotes
	limits   []string // in the cell of the meaning
}

// documentedOptions has every option. Defaults and limits are computed from what the code uses.
func documentedOptions(t *testing.T) []documentedOption {
	t.Helper()
	s := defaults()
	// What the zero value stands for is said in words here, so it must be the zero value.
	for name, zero := range map[string]bool{
		"WithPartSize": s.partSize == 0, "WithConcurrency": s.concurrency == 0, "WithRateLimit": s.rateLimit == 0,
		"WithRequestOptions": s.request.Headers == nil && s.request.Params == nil, "WithVersionID": s.object.versionID == "", "WithAsOf": s.object.asOf.IsZero(),
		"WithFallback": s.fallback == nil,
		"WithIfMatch":  s.object.ifMatch == "", "WithRange": s.object.asked == nil, "WithSnapshot": !s.snapshot, "WithDecryption": s.keys == nil, "WithRestore": s.restore == nil, "WithChecksum": s.object.newHash == nil,
		"WithCheckpoint": s.checkpoint == checkpointPlace{}, "WithMkdirAll": !s.mkdir, "WithIfChanged": !s.ifChanged, "WithWait": s.wait == 0, "WithoutPreallocation": !s.sparse, "WithURLRefresh": s.refresh == nil,
		"WithObjectTime": !s.objectTimes, "WithMetadata": s.metadata == 0,
		"WithHTTPClient": s.httpClient == nil, "WithInclude": s.include == nil, "WithExclude": s.exclude == nil,
		"WithShard": s.shard.Count == 0, "WithCompareCRC64": !s.compareCRC, "WithProgress": s.progress == nil,
		"WithObjectResult": s.objectResult == nil, "WithDryRun": !s.dryRun, "WithDelete": !s.mirror,
		"WithKeyRange": s.after == "" && s.until == "", "WithManifest": s.manifest == "", "WithManifestSHA256": !s.manifestSHA256,
		"WithDifference": s.difference == nil,
		"WithLogger":     !s.log.Enabled(t.Context(), slog.LevelError),
	} {
		if !zero {
			t.Errorf("the default of %s is none that docs/options.md knows", name)
		}
	}
	mib := func(n int64) string { return fmt.Sprintf("%d MiB", n>>20) }
	return []documentedOption{
		{WithPartSize(1), fmt.Sprintf("chosen, %d to %s", minPart>>20, mib(maxPart)),
			[]string{fmt.Sprintf("%d B to %d GiB", MinPartSize, MaxPartSize>>30)}},
		{WithConcurrency(1), fmt.Sprintf("adaptive, at most %d", AdaptiveConcurrency), []string{fmt.Sprintf("1 to %d", MaxConcurrency)}},
		{WithRateLimit(1), "no limit", []string{"at least 1"}},
		{WithRetry(RetryPolicy{}), fmt.Sprintf("%d attempts, %v to %v", s.retry.Attempts, s.retry.MinDelay, s.retry.MaxDelay), nil},
		{WithStallTimeout(time.Second), s.stall.String(), []string{"at least " + MinStallTimeout.String()}},
		{WithRequestOptions(), "none", nil},
		{WithFallback(), "only the client of New", nil},
		{WithVersionID("v"), "the current one", nil},
		{WithAsOf(time.Unix(1, 0)), "the current one", nil},
		{WithIfMatch("e"), "any", nil},
		{WithRange(0, -1), "the whole object", nil},
		{WithSnapshot(), "ErrObjectChanged", nil},
		{WithDecryption(), "objects come as they are stored", nil},
		{WithRestore(RestorePolicy{}), "ErrArchived", []string{fmt.Sprintf("1 to %d days", MaxRestoreDays),
			fmt.Sprintf("default %d day", defaultRestore.Days), fmt.Sprintf("pauses of %v to %v", defaultRestore.PollMin, defaultRestore.PollMax)}},
		{WithChecksum(sha256.New, make([]byte, sha256.Size)), "OSS's CRC-64 only", nil},
		{WithCheckpoint("cp"), "in PATH.cp", nil},
		{WithCheckpointDir("dir"), "in PATH.cp", nil},
		{WithoutCheckpoint(), "in PATH.cp", nil},
		{WithMkdirAll(), "that is an error", nil},
		{WithIfChanged(), "the file is replaced", nil},
		{WithWait(time.Minute), "ErrInUse", nil},
		{WithoutPreallocation(), "space is reserved", nil},
		{WithObjectTime(), "the time of the download", nil},
		{WithMetadata(MetadataTime), "not used", nil},
		{WithURLRefresh(func(context.Context) (string, error) { return "", nil }), "none", nil},
		{WithHTTPClient(http.DefaultClient), "made by HTTPClient", nil},
		{WithHeader("Referer", "v"), "none", nil},
		{WithReadAhead(MinReadAhead), mib(s.readAhead), []string{"at least " + mib(MinReadAhead)}},
		{WithInclude(), "all keys", nil},
		{WithExclude(), "none", nil},
		{WithShard(0, 1), "all keys", nil},
		{WithKeyRange("", ""), "all keys", nil},
		{WithCompareCRC64(), "by size and time", nil},
		{WithDelete(1), "nothing is deleted", nil},
		{WithDryRun(), "it is done", nil},
		{WithProgress(func(Progress) {}), "none", nil},
		{WithManifest("m"), "none", nil},
		{WithManifestSHA256(), "CRC-64 only", nil},
		{WithObjectResult(func(ObjectResult) {}), "none", nil},
		{WithDifference(func(Difference) {}), "none", nil},
		{WithLogger(slog.Default()), "nothing is logged", nil},
	}
}

// TestOptionsInDocs checks that the tables of docs/options.md have every option once, with its default, its limits and the
// entry points that it applies to, and that the package comment links it.
func TestOptionsInDocs(t *testing.T) {
	rows := map[string][]string{} // the cells behind the name, without backquotes
	for line := range strings.Lines(readText(t, "docs/options.md")) {
		cells := strings.Split(strings.Trim(line, "| \n"), " | ")
		name, _, ok := strings.Cut(strings.TrimPrefix(cells[0], "`"), "(")
		if !ok || !strings.HasPrefix(name, "With") {
			continue
		}
		if rows[name] != nil {
			t.Errorf("%s: two rows", name)
		}
		for i := range cells {
			cells[i] = strings.ReplaceAll(cells[i], "`", "")
		}
		rows[name] = cells[1:]
	}
	comments, names := packageDocs(t)
	var tried []string
	for _, o := range documentedOptions(t) {
		name := o.option.name
		tried = append(tried, name)
		row := rows[name]
		if len(row) != 3 {
			t.Errorf("docs/options.md: the row of %s is %q", name, row)
			continue
		}
		where := o.option.where.String()
		switch all := o.option.where &^ (inNew | inDownloads); {
		case o.option.where == inNew|inAll:
			where = "New, all calls"
		case o.option.where&inDownloads == inDownloads:
			where = strings.TrimSuffix("New, all downloads, "+all.String(), ", ")
		}
		if row[1] != o.standard {
			t.Errorf("docs/options.md: the default of %s is %q, want %q", name, row[1], o.standard)
		}
		if row[2] != where {
			t.Errorf("docs/options.md: %s applies to %q, want %q", name, row[2], where)
		}
		for _, limit := range o.limits {
			if !strings.Contains(row[0], limit) {
				t.Errorf("docs/options.md: the meaning of %s, %q, does not have %q", name, row[0], limit)
			}
		}
		if got := appliesTo(comments[name]); got != o.option.where {
			t.Errorf("the comment of %s says that it applies to %v; it applies to %v", name, got, o.option.where)
		}
		if !strings.Contains(comments[""], "["+name+"]") {
			t.Errorf("the package comment does not link %s", name)
		}
	}
	slices.Sort(tried)
	if !slices.Equal(tried, names) {
		t.Errorf("the options are\n\t%v\nand those that are tried\n\t%v", names, tried)
	}
	if got := slices.Sorted(maps.Keys(rows)); !slices.Equal(got, names) {
		t.Errorf("the options are\n\t%v\nand docs/options.md has\n\t%v", names, got)
	}
}

// packageDocs returns the doc comments of the functions that make an Option, by name, and their sorted names. The comment of
// the package has the name "".
func packageDocs(t *testing.T) (comments map[string]string, names []string) {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	comments = map[string]string{}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		comments[""] += file.Doc.Text()
		for _, decl := range file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || f.Recv != nil || !f.Name.IsExported() || f.Type.Results == nil || len(f.Type.Results.List) != 1 {
				continue
			}
			if id, ok := f.Type.Results.List[0].Type.(*ast.Ident); ok && id.Name == "Option" {
				comments[f.Name.Name] = f.Doc.Text()
				names = append(names, f.Name.Name)
			}
		}
	}
	slices.Sort(names)
	return comments, names
}

// appliesTo reads the sentence of a doc comment that begins "It applies to".
func appliesTo(text string) (where entryPoints) {
	_, said, ok := strings.Cut(strings.ReplaceAll(text, "\n", " "), "It applies to ")
	if !ok {
		return 0
	}
	said, _, _ = strings.Cut(said, ". ")
	said = strings.TrimSuffix(said, ".")
	switch {
	case said == "[New] and all calls":
		return inNew | inAll
	case strings.HasPrefix(said, "all downloads except "):
		said, _, _ = strings.Cut(said, ", and not to [New]")
		return inDownloads &^ linked(said)
	case strings.Contains(said, "all downloads"):
		return inDownloads | linked(said)
	}
	return linked(said)
}

// linked returns the entry points that a text links.
func linked(text string) (where entryPoints) {
	for i, name := range (inNew | inAll).names() {
		link := "[Downloader." + name + "]"
		if name == "New" {
			link = "[New]"
		}
		if strings.Contains(text, link) {
			where |= 1 << i
		}
	}
	return where
}
