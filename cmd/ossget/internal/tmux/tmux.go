// Package tmux runs a shell on a real terminal emulator for tests, and reads what people would see there.
package tmux

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// Terminal is a terminal with a shell, on a tmux server of its own. Its prompt is "$ ".
type Terminal struct {
	folder  string // the socket, the configuration, and all bytes that were written
	started bool
}

// Find returns an error that says what is missing, unless there is a tmux that Start can use.
func Find() error {
	out, err := exec.Command("tmux", "-V").Output()
	if err != nil {
		return fmt.Errorf("no tmux: %w", err)
	}
	// Older ones cannot change the size of a window that nobody looks at.
	version := strings.TrimPrefix(strings.TrimSpace(string(out)), "tmux ")
	if n, err := strconv.ParseFloat(strings.TrimRight(version, "abcdefgh"), 64); err == nil && n < 2.9 {
		return fmt.Errorf("tmux %s is too old: 2.9 is needed", version)
	}
	return nil
}

// Start starts a shell on a terminal of that size. The shell has the environment env, in which TERM is term, and runs in the
// folder dir.
func Start(dir string, columns, rows int, term string, env []string) (*Terminal, error) {
	folder, err := os.MkdirTemp("", "tmux") // the path of a socket may have a hundred bytes only
	if err != nil {
		return nil, err
	}
	t := &Terminal{folder: folder}
	settings := "set -g status off\nset -g default-terminal " + term + "\n"
	err = os.WriteFile(t.file("conf"), []byte(settings), 0o600)
	if err == nil {
		err = t.start(dir, columns, rows, env)
	}
	if err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

func (t *Terminal) start(dir string, columns, rows int, env []string) error {
	cmd := t.command("-f", t.file("conf"), "new-session", "-d", "-c", dir, "-x", strconv.Itoa(columns), "-y", strconv.Itoa(rows), "sh", "-i")
	cmd.Dir = dir
	// The server starts with this command, and gives its environment to the shell.
	for _, e := range env {
		if name, _, _ := strings.Cut(e, "="); name != "ENV" && name != "PS1" && name != "TMUX" && name != "TERM" {
			cmd.Env = append(cmd.Env, e)
		}
	}
	cmd.Env = append(cmd.Env, "PS1=$ ", "TERM="+term(os.Getenv("TERM")))
	if _, err := output(cmd); err != nil {
		return err
	}
	t.started = true
	_, err := output(t.command("pipe-pane", "-o", "exec cat >'"+t.file("written")+"'"))
	return err
}

// term is the terminal of tmux itself, which must have a name although nobody looks.
func term(own string) string {
	if own == "" {
		return "xterm"
	}
	return own
}

func (t *Terminal) file(name string) string { return filepath.Join(t.folder, name) }

// command returns a command of tmux. With -u it takes the world to speak UTF-8, whatever the locale.
func (t *Terminal) command(args ...string) *exec.Cmd {
	return exec.Command("tmux", append([]string{"-u", "-S", t.file("socket")}, args...)...)
}

func output(cmd *exec.Cmd) (string, error) {
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%q: %w: %s", cmd.Args, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return string(out), nil
}

// Type types a line, and Enter.
func (t *Terminal) Type(line string) error {
	if _, err := output(t.command("send-keys", "-l", line)); err != nil {
		return err
	}
	_, err := output(t.command("send-keys", "Enter"))
	return err
}

// Resize changes the size, as a window is made larger or smaller with the mouse.
func (t *Terminal) Resize(columns, rows int) error {
	_, err := output(t.command("resize-window", "-x", strconv.Itoa(columns), "-y", strconv.Itoa(rows)))
	return err
}

// Visible returns the rows on the screen, without trailing spaces and empty rows at the end. A line that was wrapped is several
// rows.
func (t *Terminal) Visible() ([]string, error) { return t.capture() }

// All is like Visible, with the rows that have scrolled away.
func (t *Terminal) All() ([]string, error) { return t.capture("-S", "-") }

// Joined is like All, but a line that was wrapped is one.
func (t *Terminal) Joined() ([]string, error) { return t.capture("-S", "-", "-J") }

func (t *Terminal) capture(flags ...string) ([]string, error) {
	out, err := output(t.command(append([]string{"capture-pane", "-p"}, flags...)...))
	if err != nil {
		return nil, err
	}
	lines := strings.Split(out, "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	for len(lines) > 0 && lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return lines, nil
}

// Written returns all bytes that were written to the terminal, escape sequences included.
func (t *Terminal) Written() (string, error) {
	b, err := os.ReadFile(t.file("written"))
	if errors.Is(err, os.ErrNotExist) {
		return "", nil // the shell has not written anything yet
	}
	return string(b), err
}

// Close ends the shell, and what runs in it, and the server of tmux.
func (t *Terminal) Close() error {
	var err error
	if t.started {
		_, err = output(t.command("kill-server"))
	}
	return errors.Join(err, os.RemoveAll(t.folder))
}
