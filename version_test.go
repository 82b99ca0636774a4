package ossdl_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/osstest"
)

// TestVersionInEveryRequest checks the User-Agent of each kind of request: of objects, of listings and of URLs, signed and
// not. The client itself stays as it was.
func TestVersionInEveryRequest(t *testing.T) {
	const ours = "ossdl/" + ossdl.Version
	server, err := osstest.New()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	server.CreateBucket("bkt", osstest.PublicRead())
	server.Put("bkt", "dir/key", osstest.Random(1, 3<<20))
	for _, c := range []struct {
		name, keyID, secret string
		options             []oss.ClientOption
		call                []ossdl.Option
		want                string // regular expression
	}{
		{"default", osstest.AccessKeyID, osstest.AccessKeySecret, nil, nil, `^aliyun-sdk-go/\S+ \(.*\) ` + ours + "$"},
		{"unsigned", "", "", nil, nil, `^aliyun-sdk-go/\S+ \(.*\) ` + ours + "$"},
		{"client's own", osstest.AccessKeyID, osstest.AccessKeySecret, []oss.ClientOption{oss.UserAgent("backup/7")}, nil, "^backup/7 " + ours + "$"},
		{"call's own", osstest.AccessKeyID, osstest.AccessKeySecret, nil, []ossdl.Option{ossdl.WithRequestOptions(oss.UserAgentHeader("me"))}, "^me$"},
		{"call's own, in lower case", osstest.AccessKeyID, osstest.AccessKeySecret, nil,
			[]ossdl.Option{ossdl.WithRequestOptions(oss.SetHeader("user-agent", "me"))}, "^me$"},
	} {
		t.Run(c.name, func(t *testing.T) {
			server.ResetLog()
			client, err := oss.New(server.Endpoint(), c.keyID, c.secret,
				append(c.options, oss.Region(osstest.Region), oss.AuthVersion(oss.AuthV4), oss.HTTPClient(ossdl.HTTPClient()))...)
			if err != nil {
				t.Fatal(err)
			}
			before := client.Config.UserAgent
			d, err := ossdl.New(client)
			if err != nil {
				t.Fatal(err)
			}
			defer d.CloseIdleConnections()
			if _, err := d.Download(t.Context(), "bkt", "dir/key", filepath.Join(t.TempDir(), "file"), c.call...); err != nil {
				t.Fatal(err)
			}
			if c.keyID != "" { // the bucket's keys are not for everyone to list
				if _, err := d.DownloadPrefix(t.Context(), "bkt", "dir/", t.TempDir(), c.call...); err != nil {
					t.Fatal(err)
				}
			}
			agents(t, server, c.want)
			if client.Config.UserAgent != before {
				t.Errorf("the client's User-Agent is %q now, was %q", client.Config.UserAgent, before)
			}
		})
	}
	t.Run("URL", func(t *testing.T) {
		server.ResetLog()
		d, err := ossdl.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		defer d.CloseIdleConnections()
		if _, err := d.DownloadURL(t.Context(), server.URL("bkt", "dir/key"), filepath.Join(t.TempDir(), "file")); err != nil {
			t.Fatal(err)
		}
		agents(t, server, "^"+ours+` \(\S+; go\S+\)$`)
	})
}

// agents compares the User-Agent of all requests since the last ResetLog.
func agents(t *testing.T, server *osstest.Server, want string) {
	t.Helper()
	all := server.Requests()
	if len(all) == 0 {
		t.Error("no requests")
	}
	for _, r := range all {
		if got := r.Header.Get("User-Agent"); !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("%s %q: User-Agent %q, want %s", r.Method, r.Key, got, want)
		}
	}
}

// TestCommandRequiresThisVersion checks that the command asks for the library of its own release.
func TestCommandRequiresThisVersion(t *testing.T) {
	mod, err := os.ReadFile(filepath.Join("cmd", "ossget", "go.mod"))
	if err != nil {
		t.Skip("the command is a module of its own, and not here: ", err)
	}
	if want := "\tgithub.com/ossdl/ossdl v" + ossdl.Version + "\n"; !strings.Contains(string(mod), want) {
		t.Errorf("cmd/ossget/go.mod does not require %s", strings.TrimSpace(want))
	}
}
