package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/ossdl/ossdl"
)

// TestTwoDashes checks that flags are taken with one dash and with two, and that values and operands stay as they are.
func TestTwoDashes(t *testing.T) {
	const cut = " | "
	for args, want := range map[string]string{
		"":                                          "",
		"-recursive | oss://b/ | dir":               "--recursive | oss://b/ | dir",
		"--recursive | oss://b/":                    "--recursive | oss://b/",
		"oss://b/k | - | -json":                     "oss://b/k | - | --json",
		"-part-size | 8MiB | oss://b/k":             "--part-size | 8MiB | oss://b/k",
		"-part-size=8MiB":                           "--part-size=8MiB",
		"-range | -5:1":                             "--range | -5:1",
		"-range=-5:1":                               "--range=-5:1",
		"-retries | -1":                             "--retries | -1",
		"-exclude | -recursive | -json":             "--exclude | -recursive | --json",
		"--exclude | -recursive":                    "--exclude | -recursive",
		"-exclude | -- | -json":                     "--exclude | -- | --json",
		"-files-from | - | -0 | oss://b/":           "--files-from | - | -0 | oss://b/",
		"--0 | -h | --h":                            "-0 | -h | -h",
		"-json | -- | -quiet | --quiet | -x":        "--json | -- | -quiet | --quiet | -x",
		"-colour | -x | -é | --":                    "--colour | -x | --é | --",
		"-quiet | -json=true | -0=false":            "--quiet | --json=true | -0=false",
		"-checkpoint | -- | -- | -json":             "--checkpoint | -- | -- | -json",
		"__complete | -recursive | -exclude | -rec": "__complete | --recursive | --exclude | -rec",
		"__complete | -rec":                         "__complete | -rec",
		"__complete":                                "__complete",
		"-part-size":                                "--part-size",
		"--- | -= | ---x":                           "--- | -= | ---x",
	} {
		in := strings.Split(args, cut)
		if args == "" {
			in = nil
		}
		before := slices.Clone(in)
		got := twoDashes(new(command).root(), in)
		if got == nil || strings.Join(got, cut) != want {
			t.Errorf("%s: got %q, want %q", args, got, want)
		}
		if !slices.Equal(in, before) {
			t.Errorf("%s: the arguments became %q", args, in)
		}
	}
}

// TestUnknownFlags checks that the message names the flag that was meant, and the help.
func TestUnknownFlags(t *testing.T) {
	for arg, want := range map[string]string{
		"-recursiv":       "there is no flag --recursiv; did you mean --recursive? (ossget -h lists all)",
		"--restries=3":    "there is no flag --restries; did you mean --retries? (ossget -h lists all)",
		"-sha":            "there is no flag --sha; did you mean --sha256? (ossget -h lists all)",
		"-part-sise=8MiB": "there is no flag --part-sise; did you mean --part-size? (ossget -h lists all)",
		"-colour":         "there is no flag --colour (ossget -h lists all)",
		"-x":              "there is no flag -x (ossget -h lists all)",
	} {
		if _, err := parse(t.Context(), []string{arg, "oss://bucket/key"}, testEnv.get); err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", arg, err, want)
		}
	}
}

// TestCommandsAndOperands checks that the name of a command is one only as the first operand, and what is said about one that does
// not exist.
func TestCommandsAndOperands(t *testing.T) {
	for _, c := range []struct {
		args []string
		task task
		dest string
	}{
		{[]string{"ls", "oss://bucket/p/"}, taskLs, ""},
		{[]string{"-json", "-retries", "1", "ls", "oss://bucket/p/"}, taskLs, ""},
		{[]string{"stat", "oss://bucket/k", "ls"}, taskStat, "ls"},
		{[]string{"oss://bucket/k", "ls"}, taskFile, "ls"},
		{[]string{"-recursive", "oss://bucket/p/", "stat"}, taskPrefix, "stat"},
		{[]string{"-exclude", "ls", "-recursive", "oss://bucket/p/", "ls"}, taskPrefix, "ls"},
		{[]string{"-verify", "-manifest", "m", "./ls"}, taskVerifyManifest, "./ls"},
		{[]string{"-verify", "-manifest", "m", "--", "ls"}, taskVerifyManifest, "ls"},
	} {
		got, err := parse(t.Context(), c.args, testEnv.get)
		if err != nil || got.task != c.task || got.dest != c.dest {
			t.Errorf("%q: got %v, %q, %v", c.args, got.task, got.dest, err)
		}
	}
	for arg, want := range map[string]string{"lss": "did you mean ossget ls?", "stats": "did you mean ossget stat?", "fetch": "SOURCE comes first"} {
		if _, err := parse(t.Context(), []string{arg, "oss://bucket/key"}, testEnv.get); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", arg, err, want)
		}
	}
}

// TestArgumentsThatAreSecret checks that no message shows a URL's query or a password, wherever a mistake has put them.
func TestArgumentsThatAreSecret(t *testing.T) {
	for _, secret := range []string{"https://h.example/k?Signature=verySecret", "https://user:verySecret@h.example/k", "https://verySecret@h.example/k?a=b"} {
		for _, args := range [][]string{
			{"-" + secret}, {"--" + secret}, {"---" + secret}, {"-x" + secret}, {"-part-size", secret, "oss://bucket/key"},
			{"-part-size=" + secret, "oss://bucket/key"}, {"-part-size", "-" + secret, "oss://bucket/key"}, {"-json=" + secret}, {"-0=" + secret},
			{"oss://bucket/key", "file", secret}, {"-credentials", secret, "oss://bucket/key"}, {"-retries"}, {"s3:" + secret},
			{"ls", secret}, {"stat", "oss://bucket/key", secret}, {"-endpoint", secret, "oss://bucket/key"}, {"-endpoint", "-" + secret, "oss://bucket/key"}, {"oss://bucket/key", secret},
		} {
			if _, err := parse(t.Context(), args, testEnv.get); err == nil || strings.Contains(err.Error(), "very") {
				t.Errorf("%q: got %v", args, err)
			}
		}
	}
}

// TestCompletion checks what a shell is offered, and that there is a script for each shell.
func TestCompletion(t *testing.T) {
	for args, want := range map[string]string{
		"l":                  "ls\tlist the objects whose keys begin with a prefix\noss://\nhttps://\n:2\n",
		"stat --ver":         "--version-id\tthis version\n:4\n",
		"--checkpoint-d":     "--checkpoint-dir\tkeep it in this folder, under a name of its own\n:4\n",
		"-recursive --recu":  ":4\n",
		"-recursive --stall": "--stall-timeout\treplace a connection that is slower than 1 KiB/s for this long\n:4\n",
		"-credentials ":      strings.Join(identities, "\n") + "\n:4\n",
		"-metadata ":         "mtime\nmode\nmtime,mode\nmtime,mode,owner\n:4\n",
		"":                   "completion\tGenerate the autocompletion script for the specified shell\nhelp\tHelp about any command\nls\tlist the objects whose keys begin with a prefix\nman\tprint the manual page\nplan\tfind ranges of keys, one for each of many workers\nstat\tdescribe an object, and what a download of it would find\noss://\nhttps://\n:2\n",
		"oss://bucket/key ":  ":0\n",
		"-checkpoint-dir ":   ":16\n",
		"-config ":           ":0\n",
		"-part-size ":        ":4\n",
		"completion f":       "fish\tGenerate the autocompletion script for fish\n:4\n",
	} {
		c, err := parse(t.Context(), append([]string{"__complete"}, strings.Split(args, " ")...), env{}.get)
		if err != nil || c.text != want {
			t.Errorf("%q: got %q, %v, want %q", args, c.text, err, want)
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		r := runHere(t.Context(), env{}, "completion", shell)
		if r.exit != exitDone || r.stderr != "" || !strings.Contains(r.stdout, "ossget") || strings.Count(r.stdout, "\n") < 100 {
			t.Errorf("%s: %+v", shell, r)
		}
	}
	if r := runHere(t.Context(), env{}, "completion", "tcsh"); r.exit != exitDone || !strings.Contains(r.stdout, "powershell") {
		t.Errorf("tcsh: %+v", r)
	}
}

// TestManualPage checks that the manual page has every flag of every command, and what the help text says besides.
func TestManualPage(t *testing.T) {
	r := runHere(t.Context(), env{}, "man")
	if r.exit != exitDone || r.stderr != "" || !strings.Contains(r.stdout, `.TH "OSSGET" "1" "" "ossget `+ossdl.Version+`" "User Commands"`) {
		t.Fatalf("%+v", r)
	}
	page := strings.ReplaceAll(r.stdout, `\-`, "-")
	root := new(command).root()
	for _, cmd := range append(root.Commands(), root) {
		if cmd.Name() == "man" {
			continue
		}
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if !strings.Contains(page, `\fB--`+f.Name+`\fP`) {
				t.Errorf("%s: there is no --%s", cmd.Name(), f.Name)
			}
		})
	}
	for _, heading := range []string{"NAME", "SYNOPSIS", "DESCRIPTION", "OSSGET LS", "OSSGET STAT", "SIZES, TIMES AND EXIT STATUS", "FILES", "Service and credentials"} {
		if !strings.Contains(page, "\n.SH "+heading+"\n") {
			t.Errorf("there is no section %s", heading)
		}
	}
	for _, want := range []string{"ossget stat [flags] SOURCE [DEST]", "exit code 1", "129  interrupted by SIGHUP", "ALIBABA_CLOUD_OIDC_TOKEN_FILE"} {
		if !strings.Contains(page, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if r := runHere(t.Context(), env{}, "man", "ls"); r.exit != exitUsage {
		t.Errorf("with an operand: %+v", r)
	}
}
