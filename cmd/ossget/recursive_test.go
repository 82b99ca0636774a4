package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ossdl/ossdl/internal/osstest"
)

// tree is the expected content of a folder: contents by name, with slashes.
type tree map[string]osstest.Content

// putAll stores a tree below a prefix.
func putAll(s *osstest.Server, prefix string, files tree) {
	for name, c := range files {
		s.Put("bucket", prefix+name, c, osstest.LastModified(time.Unix(1_600_000_000, 0)))
	}
}

func (files tree) isIn(t *testing.T, dir string) {
	t.Helper()
	got := 0
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			got++
		}
		return err
	})
	if err != nil || got != len(files) {
		t.Errorf("%s: %d files, %v; want %d", dir, got, err, len(files))
	}
	for name, c := range files {
		sameAs(t, filepath.Join(dir, filepath.FromSlash(name)), c)
	}
}

// prefixLine reads the line of -json.
func prefixLine(t *testing.T, r ran) (line prefixReport) {
	t.Helper()
	if err := json.Unmarshal([]byte(r.stdout), &line); err != nil || strings.Count(r.stdout, "\n") != 1 {
		t.Fatalf("%q (standard error %q): %v", r.stdout, r.stderr, err)
	}
	return line
}

var someFiles = tree{
	"a.gz": osstest.Random(1, 3*mib), "b.txt": osstest.Bytes(nil), "sub/c.gz": osstest.Random(2, 1000), "sub/deep/数据 &.txt": osstest.Random(3, 70_000),
}

func TestRecursive(t *testing.T) {
	s := newServer(t)
	putAll(s, "folder/", someFiles)
	s.Put("bucket", "folder2/x", osstest.Random(9, 10))
	dir := filepath.Join(t.TempDir(), "new")
	const size = 3*mib + 1000 + 70_000

	r := runHere(t.Context(), envOf(s), "-json", "-recursive", "oss://bucket/folder/", dir)
	if got := prefixLine(t, r); r.exit != 0 || got.Path != dir || got.Done != 4 || got.Skipped+got.Failed != 0 || got.Bytes != size ||
		got.Seconds <= 0 || got.Failures == nil || got.Failure != nil {
		t.Errorf("%+v", r)
	}
	if want := "ossget: " + dir + ": 4 done, 0 skipped, 0 failed; 3.1 MiB in "; !strings.Contains(r.stderr, want) || strings.ContainsAny(r.stderr, "\r\x1b") {
		t.Errorf("standard error: %q, want %q", r.stderr, want)
	}
	someFiles.isIn(t, dir)

	s.ResetLog()
	s.Put("bucket", "folder/b.txt", osstest.Bytes([]byte("new")))
	r = runHere(t.Context(), envOf(s), "-json", "-recursive", "oss://bucket/folder/", dir)
	if got := prefixLine(t, r); r.exit != 0 || got.Done != 1 || got.Skipped != 3 || got.Bytes != 3 {
		t.Errorf("again: %+v", r)
	}
	if all := s.Requests(); len(all) < 2 || slices.ContainsFunc(all[1:], func(r osstest.Request) bool { return r.Key != "folder/b.txt" }) {
		t.Errorf("again: %+v", all)
	}
}

// TestRecursiveAccounts checks that summary and JSON say how many objects came without any checksum, and what it took.
func TestRecursiveAccounts(t *testing.T) {
	s := newServer(t)
	s.Put("bucket", "p/a", osstest.Random(1, 1000))
	s.Put("bucket", "p/b", osstest.Random(2, 1000), osstest.NoCRC())
	s.Once(func(r *osstest.Request) bool { return r.Key == "p/a" }, osstest.Error(503, "ServiceUnavailable"))
	r := runHere(t.Context(), envOf(s), "-json", "-recursive", "oss://bucket/p/", t.TempDir())
	got := prefixLine(t, r) // a busy machine may ask twice for an object
	if r.exit != 0 || got.Unverified != 1 || got.Requests < 4 || got.Retries != 1 || got.DownloadedBytes < 2000 || got.ResumedBytes != 0 {
		t.Errorf("%+v", r)
	}
	want := fmt.Sprintf("requests: %d, retries: 1; 1 not verified: there is no checksum to compare with\n", got.Requests)
	if !strings.Contains(r.stderr, want) {
		t.Errorf("standard error %q, want %q", r.stderr, want)
	}
	for name := range strings.FieldsSeq("unverified resumedBytes downloadedBytes requests retries") {
		if !strings.Contains(r.stdout, `"`+name+`":`) {
			t.Errorf("no %s in %s", name, r.stdout)
		}
	}
}

func TestRecursiveIntoTheCurrentFolder(t *testing.T) {
	s := newServer(t)
	all := maps.Clone(someFiles)
	all["ab/x"], all["ab2"] = someFiles["sub/c.gz"], someFiles["sub/c.gz"]
	putAll(s, "", all)
	for source, want := range map[string]tree{
		"oss://bucket/":    all,
		"oss://bucket":     all,
		"oss://bucket/sub": {"sub/c.gz": someFiles["sub/c.gz"], "sub/deep/数据 &.txt": someFiles["sub/deep/数据 &.txt"]},
		"oss://bucket/no/": {},
		// Without a slash at its end the prefix also matches its siblings.
		"oss://bucket/a":   {"a.gz": someFiles["a.gz"], "ab/x": someFiles["sub/c.gz"], "ab2": someFiles["sub/c.gz"]},
		"oss://bucket/ab":  {"ab/x": someFiles["sub/c.gz"], "ab2": someFiles["sub/c.gz"]},
		"oss://bucket/ab/": {"x": someFiles["sub/c.gz"]},
	} {
		t.Chdir(t.TempDir())
		if r := runHere(t.Context(), envOf(s), "-quiet", "-recursive", source); r != (ran{}) {
			t.Errorf("%s: %+v", source, r)
		}
		want.isIn(t, ".")
	}
}

func TestIncludeExcludeAndShards(t *testing.T) {
	s := newServer(t)
	putAll(s, "folder/", someFiles)
	for flags, want := range map[string][]string{
		"-include *.gz":                           {"a.gz", "sub/c.gz"},
		"-include *.gz -include b.*":              {"a.gz", "b.txt", "sub/c.gz"},
		"-include=*.gz -exclude=sub/*":            {"a.gz"},
		"-exclude *.gz -exclude ?.txt":            {"sub/deep/数据 &.txt"},
		"-include sub/*/[^a]*":                    {"sub/deep/数据 &.txt"},
		"-shard 0/1 -exclude *.gz -no-checkpoint": {"b.txt", "sub/deep/数据 &.txt"},
	} {
		s.ResetLog()
		dir := t.TempDir()
		r := runHere(t.Context(), envOf(s), append(strings.Fields(flags), "-recursive", "oss://bucket/folder/", dir)...)
		if r.exit != 0 {
			t.Errorf("%s: %+v", flags, r)
		}
		files := tree{}
		for _, name := range want {
			files[name] = someFiles[name]
		}
		files.isIn(t, dir)
		for _, r := range s.Requests() { // a busy machine may ask twice for a wanted one
			if name, ok := strings.CutPrefix(r.Key, "folder/"); r.Key != "" && (!ok || !slices.Contains(want, name)) {
				t.Errorf("%s: a request for %q", flags, r.Key)
			}
		}
	}

	together := t.TempDir()
	done := 0
	for i := range 3 {
		r := runHere(t.Context(), envOf(s), "-json", "-recursive", "-shard", fmt.Sprintf("%d/3", i), "oss://bucket/folder/", together)
		got := prefixLine(t, r)
		if r.exit != 0 || got.Skipped > 0 {
			t.Errorf("shard %d: %+v", i, r)
		}
		done += got.Done
	}
	if done != len(someFiles) {
		t.Errorf("%d done by all shards", done)
	}
	someFiles.isIn(t, together)
}

// TestKeyRangeFlags checks that parts of the keys cover all of them once.
func TestKeyRangeFlags(t *testing.T) {
	s := newServer(t)
	putAll(s, "folder/", someFiles)
	dir := t.TempDir()
	for flags, done := range map[string]int{
		"-until folder/b.txt": 2, "-start-after folder/b.txt -until=folder/sub/c.gz": 1, "-start-after=folder/sub/c.gz": 1, "-until a": 0,
	} {
		r := runHere(t.Context(), envOf(s), append(strings.Fields(flags), "-json", "-recursive", "oss://bucket/folder/", dir)...)
		if got := prefixLine(t, r); r.exit != 0 || got.Done != done || got.Skipped != 0 {
			t.Errorf("%s: %+v", flags, r)
		}
	}
	someFiles.isIn(t, dir)
	for _, flags := range []string{"-start-after b -until a", "-until b", "-start-after= "} {
		args := append(strings.Split(flags, " "), "oss://bucket/folder/", dir)
		if flags != "-until b" {
			args = append(args, "-recursive")
		}
		if r := runHere(t.Context(), envOf(s), args...); r.exit != 2 {
			t.Errorf("%s: %+v", flags, r)
		}
	}
}

func TestSomeKeysFail(t *testing.T) {
	s := newServer(t)
	putAll(s, "folder/", someFiles)
	s.Put("bucket", "folder/frozen", osstest.Random(5, 1000), osstest.Archived(""))
	s.Put("bucket", "folder/../up", osstest.Random(6, 1000))
	dir := t.TempDir()
	args := []string{"-recursive", "oss://bucket/folder/", dir}

	r := runHere(t.Context(), envOf(s), append(args, "-json")...)
	got := prefixLine(t, r)
	if r.exit != 3 || got.Done != 4 || got.Failed != 2 || got.Failure == nil || got.Code != "SomeFailed" || got.Retryable || len(got.Failures) != 2 {
		t.Fatalf("%+v", r)
	}
	slices.SortFunc(got.Failures, func(a, b keyFailure) int { return strings.Compare(a.Key, b.Key) })
	if up, frozen := got.Failures[0], got.Failures[1]; up.Key != "folder/../up" || up.Error == "" || up.Code != "Local" || up.ExitCode != 3 || frozen.Key != "folder/frozen" ||
		frozen.Code != "Archived" || frozen.RequestID == "" {
		t.Errorf("got %+v", got.Failures)
	}
	for _, want := range []string{"ossget: \"folder/frozen\": ", "ossget: \"folder/../up\": ", "4 done, 0 skipped, 2 failed; "} {
		if strings.Count(r.stderr, want) != 1 {
			t.Errorf("standard error: %q, want %q", r.stderr, want)
		}
	}
	someFiles.isIn(t, dir)

	s.Restore("bucket", "folder/frozen", time.Now().Add(time.Hour))
	if r := runHere(t.Context(), envOf(s), append(args, "-quiet")...); r.exit != 3 || strings.Contains(r.stderr, "frozen") ||
		!strings.Contains(r.stderr, "1 done, 4 skipped, 1 failed") || !strings.Contains(r.stderr, "would fail again") {
		t.Errorf("again: %+v", r)
	}

	// One that may succeed later makes it worth to try again.
	s.Put("bucket", "folder/later", osstest.Random(7, 1000))
	s.OnRequest(func(r *osstest.Request) *osstest.Fault {
		if r.Key == "folder/later" {
			return osstest.Error(503, "ServiceUnavailable")
		}
		return nil
	})
	if r := runHere(t.Context(), envOf(s), append(args, "-retries", "0")...); r.exit != 1 || !strings.Contains(r.stderr, "0 done, 5 skipped, 2 failed") ||
		!strings.Contains(r.stderr, "tries again") {
		t.Errorf("both kinds: %+v", r)
	}
}

// TestFailuresOfPlacesAreFinal checks that an object of many that can have no file, or not at its path, fails with the exit code and
// the word that say that the same command would fail again.
func TestFailuresOfPlacesAreFinal(t *testing.T) {
	for name, c := range map[string]struct {
		key   string // of the object, and so the path of its file
		there func(path string) error
		one   bool // nor can it be the path of a single file
		unix  bool
	}{
		"refused name":        {key: "../up"},
		"empty element":       {key: "a//b"},
		"reserved":            {key: ".ossdl/a"},
		"too long":            {key: strings.Repeat("x", 256), one: true, unix: true},
		"too long folder":     {key: strings.Repeat("x", 256) + "/a", one: true, unix: true},
		"folder":              {key: "a", there: func(path string) error { return os.Mkdir(path, 0o777) }, one: true},
		"folder with content": {key: "a/"},
		"link":                {key: "a", there: func(path string) error { return os.Symlink("elsewhere", path) }, unix: true},
		"link to itself":      {key: "a", there: func(path string) error { return os.Symlink("a", path) }, one: true, unix: true},
		"file as a folder":    {key: "a/b", there: func(path string) error { return os.WriteFile(filepath.Dir(path), nil, 0o666) }, one: true},
	} {
		if c.unix && runtime.GOOS == "windows" {
			continue
		}
		s := newServer(t)
		s.Put("bucket", c.key, osstest.Random(1, 1000))
		s.Put("bucket", "good", osstest.Random(2, 1000))
		runs := map[string][]string{"-recursive": {"-recursive", "oss://bucket"}}
		if c.one {
			list := filepath.Join(t.TempDir(), "list")
			if err := os.WriteFile(list, []byte("oss://bucket/"+c.key+" "+c.key+"\noss://bucket/good good\n"), 0o666); err != nil {
				t.Fatal(err)
			}
			runs["-i"] = []string{"-i", list}
		}
		for how, args := range runs {
			dir := t.TempDir()
			path := filepath.Join(dir, filepath.FromSlash(c.key))
			if c.there != nil {
				if err := c.there(path); err != nil {
					t.Fatal(err)
				}
			}
			r := runHere(t.Context(), envOf(s), append(args, "-json", dir)...)
			got := prefixLine(t, r)
			if r.exit != 3 || got.Done != 1 || got.Failed != 1 || got.Failure == nil || got.Retryable || len(got.Failures) != 1 ||
				got.Failures[0].Code != "Local" || got.Failures[0].ExitCode != 3 || got.Failures[0].Retryable || !strings.Contains(r.stderr, "would fail again") {
				t.Errorf("%s, %s: %+v", name, how, r)
			}
		}
	}
}

// TestListingThatBreaksOffAmongFailures checks that a listing that breaks off is reported even if objects failed, too.
func TestListingThatBreaksOffAmongFailures(t *testing.T) {
	s := newServer(t)
	s.SetVirtual("bucket", 1500, func(i int) (string, osstest.Content) { return fmt.Sprintf("k%04d", i), osstest.Bytes(nil) })
	pages := 0
	s.OnList(func(*osstest.Request) *osstest.Fault {
		if pages++; pages > 1 {
			return osstest.Error(403, "AccessDenied", "not any more")
		}
		return nil
	})
	s.OnRequest(func(r *osstest.Request) *osstest.Fault {
		if r.Key == "k0007" {
			return osstest.Error(404, "NoSuchKey")
		}
		return nil
	})
	r := runHere(t.Context(), envOf(s), "-json", "-recursive", "-include", "k000*", "oss://bucket", t.TempDir())
	got := prefixLine(t, r)
	if r.exit != 3 || got.Done != 9 || got.Failed != 1 || got.Failure == nil || got.Code != "SomeFailed" || !strings.Contains(got.Error, "not any more") {
		t.Errorf("%+v", r)
	}
	lines := strings.Split(r.stderr, "\n")
	if last := lines[len(lines)-2]; !strings.HasPrefix(last, "ossget: listing: ") || !strings.Contains(last, "not any more") ||
		!strings.Contains(last, "9 done, 0 skipped, 1 failed") {
		t.Errorf("the last line is %q", last)
	}
}

func TestPrefixThatCannotBeListed(t *testing.T) {
	s := newServer(t)
	s.CreateBucket("foreign", osstest.NotYours())
	down := newServer(t)
	down.Down()
	for _, c := range []struct {
		bucket string
		env    env
		exit   int
		code   string
	}{
		{"absent", envOf(s), 3, "NotFound"},
		{"foreign", envOf(s), 3, "AccessDenied"},
		{"bucket", envOf(down), 1, "Failed"},
	} {
		r := runHere(t.Context(), c.env, "-json", "-retries", "0", "-recursive", "oss://"+c.bucket+"/folder/", t.TempDir())
		if got := prefixLine(t, r); r.exit != c.exit || got.Failure == nil || got.Code != c.code || strings.Count(r.stderr, "ossget: ") != 1 {
			t.Errorf("%s: %+v", c.bucket, r)
		}
	}
}

func TestWrongUseOfPrefixes(t *testing.T) {
	s := newServer(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	const prefix = "oss://bucket/folder/"
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{prefix}, []string{prefix, "-recursive", "oss://bucket/key"}},
		{[]string{prefix, file}, []string{prefix, "-recursive"}},
		{[]string{prefix, "-"}, []string{prefix, "-recursive"}},
		{[]string{"-recursive", prefix, file}, []string{"DEST", file, "no folder", "-recursive"}},
		{[]string{"-recursive", "bucket/folder/"}, []string{"SOURCE", prefix[:13] + "prefix/"}},
		{[]string{"-recursive", "oss://Bucket/"}, []string{"SOURCE", "3 to 63"}},
		{[]string{"-recursive", "oss://bucket/" + strings.Repeat("x", 1024)}, []string{"SOURCE", "1023 bytes"}},
		{[]string{"-recursive", "oss://bucket/\xff"}, []string{"SOURCE", "UTF-8"}},
		{[]string{"-recursive", "-shard", "4/4", prefix}, []string{"-shard", `"4/4"`, "0 to N-1"}},
		{[]string{"-recursive", "-shard", "x/y", prefix}, []string{"-shard", `"x/y"`, "I/N"}},
		{[]string{"-recursive", "-shard", "0/0", prefix}, []string{"-shard", `"0/0"`, "I/N"}},
		{[]string{"-recursive", "-shard", "-1/4", prefix}, []string{"-shard", `"-1/4"`, "I/N"}},
		{[]string{"-recursive", "-shard", "1", prefix}, []string{"-shard", `"1"`, "I/N"}},
		{[]string{"-recursive", "-metadata", "mtime,group", prefix}, []string{"-metadata", `"mtime,group"`, "mtime,mode"}},
		{[]string{"-recursive", "-object-time", prefix}, []string{"-object-time", "a prefix"}},
		{[]string{"-recursive", "-include", "[a", prefix}, []string{"-include", `"[a"`, "[class]"}},
		{[]string{"-recursive", "-exclude", "", prefix}, []string{"-exclude", `""`, "*.gz"}},
		{[]string{"-include", "*", "oss://bucket/key"}, []string{"-include", "-recursive"}},
		{[]string{"-exclude", "*", "oss://bucket/key"}, []string{"-exclude", "-recursive"}},
		{[]string{"-shard", "0/2", "oss://bucket/key"}, []string{"-shard", "-recursive"}},
		{[]string{"-recursive", "-range", "0:1", prefix}, []string{"-range", "a prefix"}},
		{[]string{"-recursive", "-version-id", "x", prefix}, []string{"-version-id", "a prefix"}},
		{[]string{"-recursive", "-if-match", "x", prefix}, []string{"-if-match", "a prefix"}},
		{[]string{"-recursive", "-sha256", strings.Repeat("00", 32), prefix}, []string{"-sha256", "a prefix"}},
		{[]string{"-recursive", "-checkpoint", "x", prefix}, []string{"-checkpoint", "a prefix"}},
		{[]string{"-recursive", "-checkpoint-dir", "x", prefix}, []string{"-checkpoint-dir", "a prefix"}},
	} {
		r := runHere(t.Context(), envOf(s), c.args...)
		if r.exit != 2 || r.stdout != "" || strings.Count(r.stderr, "\n") != 1 {
			t.Errorf("%q: %+v", c.args, r)
		}
		for _, want := range c.want {
			if !strings.Contains(r.stderr, want) {
				t.Errorf("%q: got %q, want it to name %q", c.args, r.stderr, want)
			}
		}
	}
	if n := len(s.Requests()); n > 0 {
		t.Errorf("%d requests", n)
	}
}

func TestTerminatedPrefixContinues(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a process cannot be sent a signal there")
	}
	s := newServer(t)
	putAll(s, "folder/", someFiles)
	open := make(chan struct{})
	s.OnRequest(func(r *osstest.Request) *osstest.Fault {
		if r.Key == "folder/a.gz" {
			return osstest.Inject().Gate(max(0, mib-max(0, r.Start)), open).Maybe() // a request that takes over the rest sends nothing
		}
		return nil
	})
	dir := t.TempDir()
	args := []string{"-json", "-recursive", "oss://bucket/folder/", dir}
	cmd := process(t, envOf(s), args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "all but one", func() bool {
		_, c := os.Stat(filepath.Join(dir, "sub", "c.gz"))
		_, d := os.Stat(filepath.Join(dir, "sub", "deep", "数据 &.txt"))
		_, b := os.Stat(filepath.Join(dir, "b.txt"))
		return b == nil && c == nil && d == nil && s.Stats().Sent > mib
	})
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // the exit code is checked below
	got := prefixLine(t, ran{stdout: stdout.String()})
	if code := cmd.ProcessState.ExitCode(); code != 143 || got.Failure == nil || got.Code != "Interrupted" ||
		got.Done != 3 || got.Failed != 0 || !strings.Contains(stderr.String(), "ossget: interrupted; ") {
		t.Fatalf("exit code %d: %s%s", code, stdout.String(), stderr.String())
	}
	close(open)
	s.ClearFaults()
	r := runHere(t.Context(), envOf(s), args...)
	if got := prefixLine(t, r); r.exit != 0 || got.Done != 1 || got.Skipped != 3 {
		t.Errorf("again: %+v", r)
	}
	someFiles.isIn(t, dir)
}

// TestObjectTimeAndMetadata checks which time and mode a file gets from its object.
func TestObjectTimeAndMetadata(t *testing.T) {
	s := newServer(t)
	modified, stored := time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC), time.Unix(1648047444, 0)
	s.Put("bucket", "p/k", osstest.Random(1, 10), osstest.LastModified(modified), osstest.Meta("mtime", "1648047444.5"), osstest.Meta("mode", "33216"))
	for flags, want := range map[string]struct {
		time time.Time
		mode os.FileMode // 0: any
	}{
		"-object-time oss://bucket/p/k":                            {modified, 0},
		"-metadata mtime oss://bucket/p/k":                         {stored, 0},
		"-metadata mode -object-time oss://bucket/p/k":             {modified, 0o700},
		"-recursive -metadata mtime,mode oss://bucket/p/":          {stored, 0o700},
		"-recursive -metadata mode -quiet oss://bucket/p/":         {modified, 0o700},
		"-metadata mode,mtime -object-time -json oss://bucket/p/k": {stored, 0o700},
	} {
		dir := t.TempDir()
		if r := runHere(t.Context(), envOf(s), append(strings.Fields(flags), dir+"/")...); r.exit != 0 {
			t.Errorf("%s: %+v", flags, r)
			continue
		}
		fi, err := os.Stat(filepath.Join(dir, "k"))
		if err != nil {
			t.Fatal(err)
		}
		if fi.ModTime().Unix() != want.time.Unix() || want.mode != 0 && fi.Mode().Perm() != want.mode && runtime.GOOS != "windows" {
			t.Errorf("%s: %v and %v, want %v and %v", flags, fi.ModTime(), fi.Mode(), want.time, want.mode)
		}
	}
}
