package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ossdl/ossdl/cmd/ossget/internal/tmux"
	"github.com/ossdl/ossdl/internal/osstest"
)

// scene is a download that people watch on terminals of several kinds. The server answers requests for what comes first in an
// object, and holds the answers for the rest before their first byte. So there is a moment at which everybody sees the same.
type scene struct {
	name    string
	put     func(*osstest.Server)
	command string
	first   int64  // bytes of each object that come before the others
	sent    int64  // bytes of all answers until the others are released
	many    string // the first word of the bar if there are lines below it
}

var scenes = []scene{
	{
		name:    "file",
		put:     func(s *osstest.Server) { s.Put("bucket", "disk.img", osstest.Random(1, 64*mib)) },
		command: "ossget --concurrency 4 --part-size 16MiB oss://bucket/disk.img",
		first:   16 * mib,
		sent:    16 * mib,
	},
	{
		name:    "prefix",
		put:     putSite,
		command: "ossget --concurrency 16 --part-size 2MiB --recursive oss://bucket/site/ www",
		first:   siteFirst,
		sent:    siteSent,
		many:    "site",
	},
	{
		name:    "list",
		put:     putSite,
		command: "ossget --concurrency 16 --part-size 2MiB --files-from keys oss://bucket/ www",
		first:   siteFirst,
		sent:    siteSent,
		many:    "bucket",
	},
}

// site are the objects of a prefix: three pages, and what has one part that comes first and another one. There are not more of
// these than the command shows.
var site = []string{
	"0.html", "1.html", "2.html",
	"a.iso", "b/数据备份.tar", "c/a-very-long-name-of-a-file-in-a-folder-2026-11-28.tar.gz", "d/é.bin",
	"e.bin", "f.bin", "g.bin", "h.bin",
}

const (
	sitePages = 3
	sitePage  = 10_000
	siteFirst = 2 * mib
	siteSent  = sitePages*sitePage + 8*siteFirst
)

func putSite(s *osstest.Server) {
	for i, name := range site {
		size := int64(sitePage)
		if i >= sitePages {
			size = siteFirst + int64(1+i%4)*mib/2
		}
		s.Put("bucket", "site/"+name, osstest.Random(uint64(i), size))
	}
}

// look is a kind of terminal.
type look struct {
	name          string
	columns, rows int
	sizes         [][2]int // that it gets while answers are held, one after the other
	term          string
	env           []string
	behind        string // what is typed behind the command
}

func (l look) piped() bool { return l.behind != "" }

var looks = []look{
	{name: "80x24", columns: 80, rows: 24},
	{name: "40x10", columns: 40, rows: 10},
	{name: "200x50", columns: 200, rows: 50},
	{name: "resized from 80x24", columns: 80, rows: 24, sizes: [][2]int{{40, 10}, {200, 50}}},
	{name: "in a pipe", columns: 80, rows: 24, behind: " 2>&1 | cat"},
	{name: "TERM=dumb", columns: 80, rows: 24, term: "dumb"},
	{name: "NO_COLOR", columns: 80, rows: 24, env: []string{"NO_COLOR=1"}},
}

// TestScreens checks what people see of a download on real terminals: while the server holds its answers, and at the end. It
// compares with testdata/screens, where figures that depend on time are masked. With OSSGET_SCREENS=record it writes those
// files instead: .ci/screens does that, and shows what has changed.
func TestScreens(t *testing.T) {
	if err := tmux.Find(); err != nil {
		t.Skip(err)
	}
	looks := looks
	if testing.Short() {
		looks = slices.DeleteFunc(slices.Clone(looks), func(l look) bool { return len(l.sizes) == 0 })
	}
	record := os.Getenv("OSSGET_SCREENS") == "record"
	for _, s := range scenes {
		t.Run(s.name, func(t *testing.T) {
			path := filepath.Join("testdata", "screens", s.name+".txt")
			all := &album{record: record}
			if !record {
				all.load(t, path)
			}
			for _, l := range looks {
				t.Run(l.name, func(t *testing.T) { watch(t, s, l, all) })
			}
			if record && !t.Failed() {
				all.save(t, path)
			}
		})
	}
}

// watch downloads a scene on a terminal, and looks at it.
func watch(t *testing.T, s scene, l look, all *album) {
	server := newServer(t, osstest.WithTotalRate(100*mib)) // a speed of four digits would make the bar shorter
	s.put(server)
	open := make(chan struct{})
	release := sync.OnceFunc(func() { close(open) })
	server.OnRequest(func(r *osstest.Request) *osstest.Fault {
		if r.Start < s.first {
			return nil
		}
		return osstest.Inject().Gate(0, open).Maybe() // a request that is taken over may end before
	})
	e := newEye(t, server, s, l, all)
	t.Cleanup(release) // before the terminal and the server end

	e.waitFor("the prompt", func(picture string) bool { return picture == "$" })
	if err := e.terminal.Type(s.command + l.behind); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "what comes first", func() bool { return server.Stats().Sent >= s.sent })
	e.see("held")
	for _, size := range l.sizes {
		if err := e.terminal.Resize(size[0], size[1]); err != nil {
			t.Fatal(err)
		}
		e.see(fmt.Sprintf("now %dx%d", size[0], size[1]))
	}
	release()
	e.waitFor("the prompt", func(picture string) bool { return strings.HasSuffix(picture, "\n$") })
	e.finished = true
	e.see("done")

	written, err := e.terminal.Written()
	if err != nil {
		t.Fatal(err)
	}
	if regexp.MustCompile("\x1b\\[[0-9;:]*m").MatchString(written) {
		t.Errorf("it has colours: %q", written)
	}
	if l.term == "dumb" || l.piped() {
		if _, own, _ := strings.Cut(written, "\n"); strings.Contains(own, "\x1b") {
			t.Errorf("it has escape sequences: %q", own)
		}
	}
}

// eye looks at a terminal.
type eye struct {
	t        *testing.T
	home     string // the current folder
	terminal *tmux.Terminal
	scene    scene
	look     look
	album    *album
	finished bool
}

func newEye(t *testing.T, server *osstest.Server, s scene, l look, all *album) *eye {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin, home := t.TempDir(), t.TempDir()
	if err := os.Symlink(self, filepath.Join(bin, "ossget")); err != nil {
		t.Fatal(err)
	}
	keys := "site/" + strings.Join(site, "\nsite/") + "\n"
	if err := os.WriteFile(filepath.Join(home, "keys"), []byte(keys), 0o600); err != nil {
		t.Fatal(err)
	}
	env := append(os.Environ(), "OSSGET_TEST_MAIN=1", "HOME="+home, "PATH="+bin+":"+os.Getenv("PATH"))
	for name, value := range envOf(server) {
		env = append(env, name+"="+value)
	}
	term := l.term
	if term == "" {
		term = "screen"
	}
	terminal, err := tmux.Start(home, l.columns, l.rows, term, append(env, l.env...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := terminal.Close(); err != nil {
			t.Error(err)
		}
	})
	return &eye{t: t, home: home, terminal: terminal, scene: s, look: l, album: all}
}

// picture is what the terminal shows, without what depends on time.
func (e *eye) picture() string {
	e.t.Helper()
	capture := e.terminal.All
	switch {
	case len(e.look.sizes) > 0:
		capture = e.terminal.Visible
	case e.finished:
		capture = e.terminal.Joined // the lines of the end have figures that depend on time, and do not always wrap alike
	}
	lines, err := capture()
	if err != nil {
		e.t.Fatal(err)
	}
	if len(e.look.sizes) > 0 {
		lines = e.below(lines)
	}
	return mask(strings.ReplaceAll(strings.Join(lines, "\n"), e.home, "/home/ci"))
}

// below returns the rows of a terminal whose size has changed from the bar on. Above it there may be the command line, or the
// rest of it. Wrapped lines of several objects may have been pushed off the screen, where nothing can clear them, and come back
// when it grows.
func (e *eye) below(lines []string) []string {
	above := ""
	for i, line := range lines {
		if above += line; strings.HasSuffix("$ "+e.scene.command, above) {
			lines = lines[i+1:]
			break
		}
	}
	if e.scene.many == "" {
		return lines
	}
	for i, line := range slices.Backward(lines) {
		if strings.HasPrefix(line, e.scene.many+" ") {
			return lines[i:]
		}
	}
	return lines
}

// waitFor waits until the picture is as it must be.
func (e *eye) waitFor(what string, is func(picture string) bool) {
	e.t.Helper()
	last := ""
	defer func() {
		if e.t.Failed() {
			e.t.Logf("%s: the terminal shows\n%s", what, last)
		}
	}()
	waitUntil(e.t, what, func() bool {
		last = e.picture()
		return is(last)
	})
}

// frames counts how often the command has drawn.
func (e *eye) frames() int {
	e.t.Helper()
	written, err := e.terminal.Written()
	if err != nil {
		e.t.Fatal(err)
	}
	return strings.Count(written, "\r")
}

// see compares the picture with that of the album, or adds it. Nothing arrives meanwhile, so it stays as it is.
func (e *eye) see(when string) {
	e.t.Helper()
	title := e.look.name + ", " + when
	if e.album.record {
		e.album.add(title, e.settled(title))
		return
	}
	want, ok := e.album.pictures[title]
	if !ok {
		e.t.Fatalf("there is no picture %q: .ci/screens records it", title)
	}
	e.waitFor(title+": want\n"+want+"\n", func(picture string) bool { return picture == want })
}

// settled returns the picture once the command has drawn it several times.
func (e *eye) settled(title string) (picture string) {
	e.t.Helper()
	if e.finished {
		return e.picture()
	}
	if e.look.piped() {
		e.waitFor(title, func(p string) bool {
			picture = p
			return strings.Contains(p, "SIZE")
		})
		return picture
	}
	const enough = 10
	same, frames := 0, 0
	e.waitFor(title, func(p string) bool {
		n := e.frames()
		if n == frames {
			return false
		}
		frames = n
		if same++; p != picture {
			picture, same = p, 0
		}
		return same == enough
	})
	return picture
}

// What depends on time, or on which of several requests was faster.
var (
	speedInBar = regexp.MustCompile(` +[0-9.]+ [KMG]?i?B/s`)
	timeInBar  = regexp.MustCompile(` +([0-9]+[dhms])+ left$`)
	atTheEnd   = regexp.MustCompile(` in [0-9.a-zµ]+ \([0-9.]+ [KMG]?i?B/s\)`)
	requests   = regexp.MustCompile(`, requests: [0-9]+(, retries: [0-9]+)?$`)
	plainLine  = regexp.MustCompile(`^(\S+: )[0-9.]+ [KMG]?i?B of [0-9.]+ [KMG]?i?B \([0-9]?[0-9]%\).*$`)
	plainEnd   = regexp.MustCompile(`(\(100%\)), [0-9.]+ [KMG]?i?B/s$`)
)

// mask replaces what is not the same each time. In the bar it keeps the width. The lines of the objects in flight are sorted, and
// plain lines that are alike are one.
func mask(picture string) string {
	lines := strings.Split(picture, "\n")
	for i, line := range lines {
		line = atTheEnd.ReplaceAllString(line, " in TIME (SPEED)")
		line = requests.ReplaceAllString(line, ", requests: N")
		line = plainLine.ReplaceAllString(line, "${1}SIZE of SIZE (N%), …")
		line = plainEnd.ReplaceAllString(line, "$1, SPEED")
		line = timeInBar.ReplaceAllString(line, "")
		line = speedInBar.ReplaceAllStringFunc(line, func(s string) string {
			return strings.Repeat(" ", len(s)-len("SPEED")) + "SPEED"
		})
		lines[i] = strings.TrimRight(line, " ")
	}
	lines = slices.Compact(lines)
	for i := range lines {
		end := i
		for end < len(lines) && strings.HasPrefix(lines[end], "  ") {
			end++
		}
		slices.Sort(lines[i:end])
	}
	return strings.Join(lines, "\n")
}

// album are the pictures of a scene, in a file that people can read.
type album struct {
	record   bool
	titles   []string
	pictures map[string]string
}

const albumTitle = "=== "

func (a *album) add(title, picture string) {
	if a.pictures == nil {
		a.pictures = map[string]string{}
	}
	a.titles = append(a.titles, title)
	a.pictures[title] = picture
}

func (a *album) load(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, section := range strings.Split("\n"+string(b), "\n"+albumTitle)[1:] {
		title, picture, _ := strings.Cut(section, "\n")
		a.add(title, strings.TrimSuffix(picture, "\n"))
	}
}

func (a *album) save(t *testing.T, path string) {
	t.Helper()
	var b strings.Builder
	for _, title := range a.titles {
		fmt.Fprintf(&b, "%s%s\n%s\n", albumTitle, title, a.pictures[title])
	}
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}
