package main

import (
	"regexp"
	"runtime"
	"runtime/debug"
	"testing"

	"github.com/ossdl/ossdl"
)

func TestVersion(t *testing.T) {
	want := regexp.MustCompile(`^ossget ` + regexp.QuoteMeta(ossdl.Version) + ` \(commit (unknown|[0-9a-f]{40}(-changed)?), ` +
		regexp.QuoteMeta(runtime.Version()) + ` \w+/\w+\)\n$`)
	for _, args := range [][]string{{"-version"}, {"--version"}, {"-version", "oss://bucket/key"}, {"-json", "-version"}} {
		r := runHere(t.Context(), env{}, args...)
		if r.exit != exitDone || !want.MatchString(r.stdout) || r.stderr != "" {
			t.Errorf("%q: %+v, want %s", args, r, want)
		}
	}
	if r := runHere(t.Context(), env{}, "-version", "-no-such-flag"); r.exit != exitUsage || r.stdout != "" {
		t.Errorf("with a wrong flag: %+v", r)
	}
}

func TestCommit(t *testing.T) {
	built := func(settings ...debug.BuildSetting) *debug.BuildInfo { return &debug.BuildInfo{Settings: settings} }
	revision := debug.BuildSetting{Key: "vcs.revision", Value: "2f3e"}
	for _, c := range []struct {
		info *debug.BuildInfo
		ok   bool
		want string
	}{
		{nil, false, "unknown"},
		{built(), true, "unknown"},
		{built(revision, debug.BuildSetting{Key: "vcs.modified", Value: "false"}), true, "2f3e"},
		{built(revision, debug.BuildSetting{Key: "vcs.modified", Value: "true"}), true, "2f3e-changed"},
	} {
		if got := commitOf(c.info, c.ok); got != c.want {
			t.Errorf("%+v: got %q, want %q", c.info, got, c.want)
		}
	}
}
