package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/ossdl/ossdl/internal/osstest"
)

// underWine is the command as it is built for Windows. OSSDL_WINE is the command line that runs it, OSSDL_WINE_ROOT the
// folder that wine has as its drive Z. `.ci/run windows` sets them.
type underWine struct {
	command []string
	root    string
}

func newUnderWine(t *testing.T) underWine {
	t.Helper()
	w := underWine{strings.Fields(os.Getenv("OSSDL_WINE")), os.Getenv("OSSDL_WINE_ROOT")}
	if len(w.command) == 0 {
		t.Skip("`.ci/run windows` runs it")
	}
	return w
}

// folder returns a new folder, as it is called here and there.
func (w underWine) folder(t *testing.T) (here, there string) {
	t.Helper()
	here, err := os.MkdirTemp(filepath.Join(w.root, "work"), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(here); err != nil {
			t.Error(err)
		}
	})
	return here, "Z:" + strings.ReplaceAll(strings.TrimPrefix(here, w.root), "/", `\`)
}

// process is ossget.exe, not yet started, in a process group of its own: wine's helpers die with it.
func (w underWine) process(t *testing.T, e env, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), w.command[0], append(w.command[1:len(w.command):len(w.command)], args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Env = os.Environ()
	for name, value := range e {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	return cmd
}

func (w underWine) run(t *testing.T, e env, args ...string) ran {
	t.Helper()
	cmd := w.process(t, e, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return ran{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// TestUnderWineKilledAndResumed ends ossget.exe in the middle of a download. The next run fetches the rest and puts the file
// in its place, and another finds that there is nothing to do.
func TestUnderWineKilledAndResumed(t *testing.T) {
	w := newUnderWine(t)
	s := newServer(t, osstest.WithTotalRate(20<<20))
	content := osstest.Random(3, 100*mib)
	s.Put("bucket", "disk.img", content)
	dir, there := w.folder(t)
	path := filepath.Join(dir, "disk.img")
	args := []string{"-json", "oss://bucket/disk.img", there + `\disk.img`}
	for kill := range 3 {
		cmd := w.process(t, envOf(s), args...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		_, before := readClaims(filepath.Join(path+".cp", "checkpoint.json"))
		waitUntil(t, "a checkpoint", func() bool {
			_, now := readClaims(filepath.Join(path+".cp", "checkpoint.json"))
			return now > before
		})
		if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err == nil {
			t.Fatalf("kill %d: it had ended by itself", kill)
		}
	}
	if _, err := os.Lstat(path); err == nil {
		t.Error("there is a file at the path after a kill")
	}
	s.ResetLog()
	if r := w.run(t, envOf(s), args...); r.exit != 0 {
		t.Fatalf("exit %d: %s%s", r.exit, r.stdout, r.stderr)
	}
	if sent := s.Stats().Sent; sent >= content.Size()*9/10 {
		t.Errorf("%d bytes were sent for the rest: nothing was resumed", sent)
	}
	sameAs(t, path, content)
	onlyFile(t, dir, "disk.img")
}

// TestUnderWinePrefix restores keys that are names on Windows, and names the others.
func TestUnderWinePrefix(t *testing.T) {
	w := newUnderWine(t)
	s := newServer(t)
	files := tree{}
	for i, name := range []string{
		"Plain", "with space", "ünïcödé/ключ/鍵", "deep/er/and/deeper", "~tilde", "semi;colon", "per%20cent", "plus+&=", "[brackets]{}", "quote'",
		"$dollar", "COM", "console", strings.Repeat("a", 200), strings.Repeat("long/", 60) + "file", ".hidden", "a.b.c",
	} {
		files[name] = osstest.Random(uint64(i), 1000)
	}
	refused := []string{
		"CON", "aux.txt", "dir/NUL", "com1", "LPT9.log", "trailing.", "trailing ", `back\slash`, "co:lon", "que?tion", "st*r", "p|pe", `quo"te`,
		"<less", "more>", "dot/../dot", "../above", "tab\t", "C:/windows/x", "NUL .txt",
		"plain", // as "Plain", which comes before it
	}
	putAll(s, "p/", files)
	for _, key := range refused {
		s.Put("bucket", "p/"+key, osstest.Random(1, 10))
	}
	dir, there := w.folder(t)
	for range 2 {
		r := w.run(t, envOf(s), "-recursive", "-json", "oss://bucket/p/", there)
		if r.exit == 0 {
			t.Errorf("exit %d although keys were refused", r.exit)
		}
		line := prefixLine(t, r)
		var failed []string
		for _, f := range line.Failures {
			failed = append(failed, strings.TrimPrefix(f.Key, "p/"))
		}
		slices.Sort(failed)
		slices.Sort(refused)
		if !slices.Equal(failed, refused) {
			t.Errorf("refused: %q, want %q", failed, refused)
		}
		if line.Done+line.Skipped != len(files) {
			t.Errorf("%d done, %d skipped, want %d together", line.Done, line.Skipped, len(files))
		}
	}
	files.isIn(t, dir)
}
