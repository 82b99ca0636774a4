package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ossdl/ossdl/internal/osstest"
)

// metadata is the metadata service of an ECS instance. Its address, 100.100.100.200, is not configurable, so processes reach
// it as their proxy. Loopback addresses, such as that of OSS here, bypass the proxy.
type metadata struct {
	*httptest.Server

	mu      sync.Mutex
	keys    string   // the answer
	asked   int      // requests for keys
	given   int      // the value of asked when the current keys became the answer
	status  int      // of all answers but those for the metadata token
	refused int      // answers of another status than 200 for that
	wrong   []string // requests
}

func newMetadata(t *testing.T) *metadata {
	m := &metadata{status: http.StatusOK}
	m.Server = httptest.NewServer(m)
	t.Cleanup(m.Close)
	return m
}

func (m *metadata) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	const roles = "/latest/meta-data/ram/security-credentials/"
	switch {
	case r.URL.Host != "100.100.100.200" || !r.Close:
		m.wrong = append(m.wrong, fmt.Sprintf("%s %s, connection kept: %t", r.Method, r.URL, !r.Close))
		w.WriteHeader(http.StatusBadGateway)
	case r.Method == http.MethodPut && r.URL.Path == "/latest/api/token":
		fmt.Fprint(w, "metadata-token")
	case m.status != http.StatusOK:
		m.refused++
		w.WriteHeader(m.status)
		fmt.Fprint(w, m.keys)
	case r.Header.Get("X-Aliyun-Ecs-Metadata-Token") != "metadata-token":
		w.WriteHeader(http.StatusForbidden)
	case r.URL.Path == roles:
		fmt.Fprint(w, "reader")
	case r.URL.Path == roles+"reader":
		m.asked++
		fmt.Fprint(w, m.keys)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// give makes the n-th keys of the role the answer, with a lifetime, and makes OSS accept them.
func (m *metadata) give(s *osstest.Server, n int, d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.given = m.asked
	end := time.Now().Add(d)
	s.AddToken(fmt.Sprintf("STS.role%d", n), fmt.Sprintf("role-secret-%d", n), token(n), end)
	m.keys = fmt.Sprintf(`{"Code":"Success","AccessKeyId":"STS.role%d","AccessKeySecret":"role-secret-%d","SecurityToken":%q,"Expiration":%q}`,
		n, n, token(n), end.UTC().Format("2006-01-02T15:04:05Z"))
}

func token(n int) string { return fmt.Sprintf("role-token-%d", n) }

// count returns how often keys were requested.
func (m *metadata) count(t *testing.T) int {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.wrong) > 0 {
		t.Errorf("asked of the metadata service: %v", m.wrong)
	}
	return m.asked
}

// runThrough runs ossget as a process with the metadata service, and without keys in its environment.
func runThrough(t *testing.T, m *metadata, e env, args ...string) ran {
	t.Helper()
	whole := env{"HTTP_PROXY": m.URL, "http_proxy": m.URL, "NO_PROXY": "", "no_proxy": "", "HOME": t.TempDir(), "OSSGET_TEST_METADATA": "1"}
	whole["USERPROFILE"] = whole["HOME"]
	for name, value := range e {
		whole[name] = value
	}
	return runAsProcess(t, whole, args...)
}

func runAsProcess(t *testing.T, e env, args ...string) ran {
	t.Helper()
	cmd := process(t, e, args...)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return ran{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

func place(s *osstest.Server) env {
	return env{"OSS_ENDPOINT": s.Endpoint(), "OSS_REGION": osstest.Region}
}

// TestRoleIsRenewedInTheMiddle checks that a download completes although the keys of the role expire in the middle of it.
// The same process requests the next ones from the metadata service.
func TestRoleIsRenewedInTheMiddle(t *testing.T) {
	s, m := newServer(t), newMetadata(t)
	content := osstest.Random(1, 20*mib)
	s.Put("bucket", "key", content)
	m.give(s, 1, time.Minute) // credentials-go renews them in the last three minutes
	s.Nth(7, osstest.Inject().Before(func() {
		s.ExpireToken(token(1))
		m.give(s, 2, time.Hour)
	}))
	dir := t.TempDir()
	r := runThrough(t, m, place(s), "-credentials", "ecs", "-part-size", "1MiB", "-concurrency", "4", "-json", "oss://bucket/key", dir)
	if r.exit != 0 {
		t.Fatalf("%+v", r)
	}
	sameAs(t, filepath.Join(dir, "key"), content)
	onlyFile(t, dir, "key")
	answers := answersByToken(s)
	if answers["role-token-1: 206"] == 0 || answers["role-token-1: 403"] == 0 || answers["role-token-2: 206"] == 0 || len(answers) != 3 {
		t.Errorf("got answers %v", answers)
	}
	if asked := m.count(t); asked != m.given+1 {
		t.Errorf("the next keys were asked for %d times; they are good for an hour", asked-m.given)
	}
	noSecret(t, r)
}

// answersByToken counts the answers of each status that each token got.
func answersByToken(s *osstest.Server) map[string]int {
	answers := map[string]int{}
	for _, q := range s.Requests() {
		answers[fmt.Sprintf("%s: %d", q.Header.Get("X-Oss-Security-Token"), q.Status)]++
	}
	return answers
}

// TestRenewalThatFailsInTheMiddle checks that no request fails while the metadata service is down for a while. The keys are
// about to expire then, but are still good.
func TestRenewalThatFailsInTheMiddle(t *testing.T) {
	s, m := newServer(t), newMetadata(t)
	content := osstest.Random(1, 20*mib)
	s.Put("bucket", "key", content)
	m.give(s, 1, 2*time.Minute) // credentials-go renews them in the last three minutes
	gone := func(status int) func() {
		return func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.status = status
		}
	}
	s.Nth(7, osstest.Inject().Before(gone(http.StatusInternalServerError)))
	s.Nth(12, osstest.Inject().Before(gone(http.StatusOK)))
	dir := t.TempDir()
	r := runThrough(t, m, place(s), "-credentials", "ecs", "-part-size", "1MiB", "-concurrency", "1", "-retries", "0", "-json", "oss://bucket/key", dir)
	if r.exit != 0 {
		t.Fatalf("%+v", r)
	}
	sameAs(t, filepath.Join(dir, "key"), content)
	if answers := answersByToken(s); len(answers) != 1 || answers["role-token-1: 206"] < 20 {
		t.Errorf("got answers %v", answers)
	}
	m.count(t)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.refused == 0 {
		t.Error("no renewal failed: nothing was tested")
	}
	noSecret(t, r)
}

// noSecret looks for what must not be in an output. All secrets of these tests have one of these words.
func noSecret(t *testing.T, r ran) {
	t.Helper()
	for _, word := range []string{"secret-", "token-", osstest.AccessKeySecret} {
		if strings.Contains(r.stdout+r.stderr, word) {
			t.Errorf("%q is in the output: %+v", word, r)
		}
	}
}

func TestRoleThatCannotBeHad(t *testing.T) {
	s, m := newServer(t), newMetadata(t)
	s.Put("bucket", "key", osstest.Random(1, 1000))
	m.keys = `{"Code":"Forbidden","SecurityToken":"token-1"}`
	for _, c := range []struct {
		status int
		want   string
	}{
		{http.StatusOK, "metadata service of ECS"},
		{http.StatusNotFound, "100.100.100.200/latest/meta-data/ram/security-credentials/ 404"},
		{http.StatusInternalServerError, "security-credentials/ 500"},
	} {
		m.mu.Lock()
		m.status = c.status
		m.mu.Unlock()
		r := runThrough(t, m, place(s), "-credentials", "ecs", "-json", "oss://bucket/key", t.TempDir())
		if got := outcomeOf(t, r); r.exit != exitFailed || got.Failure == nil || got.Code != "NoCredentials" || !strings.Contains(got.Error, c.want) {
			t.Errorf("status %d: got %+v", c.status, r)
		}
		noSecret(t, r)
	}
	if n := len(s.Requests()); n > 0 {
		t.Errorf("%d requests without credentials", n)
	}
}

func TestNobodyIsAskedUnasked(t *testing.T) {
	s, m := newServer(t), newMetadata(t)
	s.CreateBucket("bucket", osstest.PublicRead())
	s.Put("bucket", "key", osstest.Random(1, 1000))
	m.give(s, 1, time.Hour)
	for _, args := range [][]string{nil, {"-credentials", "auto"}, {"-credentials", "none"}} {
		s.ResetLog()
		r := runThrough(t, m, place(s), append(args, "oss://bucket/key", t.TempDir())...)
		if r.exit != 0 {
			t.Fatalf("%q: %+v", args, r)
		}
		for _, q := range s.Requests() {
			if q.Header.Get("Authorization") != "" {
				t.Errorf("%q: signed", args)
			}
		}
	}
	if n := m.count(t); n > 0 {
		t.Errorf("the metadata service was asked %d times", n)
	}
}

// TestProvidersOfTheEnvironmentAndOfFiles checks each source of keys, and that the chain falls back on the role if no other
// source has keys.
func TestProvidersOfTheEnvironmentAndOfFiles(t *testing.T) {
	s, m := newServer(t), newMetadata(t)
	s.Put("bucket", "key", osstest.Random(1, 1000))
	s.AddUser("AK.other", "secret-other")
	m.give(s, 1, time.Hour)
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	profile := write("profile", "[default]\ntype = access_key\naccess_key_id = AK.other\naccess_key_secret = secret-other\n")
	cli := write("cli", `{"current":"a","profiles":[{"name":"a","mode":"AK","access_key_id":"AK.other","access_key_secret":"secret-other"}]}`)
	other := env{"ALIBABA_CLOUD_ACCESS_KEY_ID": "AK.other", "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "secret-other"}
	for _, c := range []struct {
		name, from string
		e          env
		exit       int
		want       string // the access key, or part of the message
	}{
		{"environment", "env", other, 0, "AK.other"},
		{"environment that has none", "env", nil, exitUsage, "ALIBABA_CLOUD_ACCESS_KEY_ID"},
		{"profile file", "profile", env{"ALIBABA_CLOUD_CREDENTIALS_FILE": profile}, 0, "AK.other"},
		{"profile of the CLI", "profile", env{"ALIBABA_CLOUD_CONFIG_FILE": cli}, 0, "AK.other"},
		{"no profile", "profile", nil, exitFailed, "config.json"},
		{"broken profile file", "profile", env{"ALIBABA_CLOUD_CREDENTIALS_FILE": write("b1", "[default]\naccess_key_secret secret-1\n")}, exitFailed, "b1"},
		{"broken profile of the CLI", "profile", env{"ALIBABA_CLOUD_CONFIG_FILE": write("b2", `{"access_key_secret":"secret-1",`)}, exitFailed, "profile"},
		{"chain, environment first", "chain", other, 0, "AK.other"},
		{"chain, role last", "chain", nil, 0, "STS.role1"},
		{"pod without a role", "oidc", nil, exitUsage, "ALIBABA_CLOUD_ROLE_ARN is not set"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.ResetLog()
			e := place(s)
			for name, value := range c.e {
				e[name] = value
			}
			r := runThrough(t, m, e, "-credentials", c.from, "oss://bucket/key", t.TempDir())
			if r.exit != c.exit {
				t.Fatalf("%+v", r)
			}
			noSecret(t, r)
			if c.exit != 0 {
				if !strings.Contains(r.stderr, c.want) || len(s.Requests()) > 0 {
					t.Errorf("%d requests and %q, want none and %q", len(s.Requests()), r.stderr, c.want)
				}
				return
			}
			for _, q := range s.Requests() {
				if !strings.Contains(q.Header.Get("Authorization"), "Credential="+c.want+"/") {
					t.Errorf("not signed by %s", c.want)
				}
			}
		})
	}
}

// configFile makes a configuration file in a folder of its own, which can serve as the home.
func configFile(t *testing.T, lines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), ".ossutilconfig")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestConfigFile checks that the file is sufficient, in the home or named by a flag, and that the environment and flags
// override it.
func TestConfigFile(t *testing.T) {
	s := newServer(t)
	s.Put("bucket", "key", osstest.Random(1, 1000))
	s.AddToken("STS.file", "secret-file", "token-file", time.Now().Add(time.Hour))
	path := configFile(t, "\ufeff# of ossutil", "[Credentials]\r", "language=EN", " EndPoint = "+s.Endpoint(), "region="+osstest.Region,
		"accessKeyID=STS.file", "accessKeySecret = secret-file", "; temporary", "stsToken=token-file", "[Other]", "accessKeyID=no")
	home := env{"HOME": filepath.Dir(path), "USERPROFILE": filepath.Dir(path)}
	for name, r := range map[string]ran{
		"named":   runHere(t.Context(), env{}, "-config", path, "oss://bucket/key", t.TempDir()),
		"at home": runHere(t.Context(), home, "oss://bucket/key", t.TempDir()),
	} {
		if r.exit != 0 {
			t.Errorf("%s: %+v", name, r)
		}
		noSecret(t, r)
	}
	for _, q := range s.Requests() {
		if !strings.HasPrefix(q.Header.Get("Authorization"), "OSS4-HMAC-SHA256 Credential=STS.file/") {
			t.Errorf("%s with %v", q.Key, q.Header)
		}
	}
}

func TestConfigPrecedence(t *testing.T) {
	const src = "oss://bucket/key"
	file := configFile(t, "[Credentials]", "endpoint=https://oss-cn-beijing.aliyuncs.com", "accessKeyID=file", "accessKeySecret=s")
	two := configFile(t, "[default]", "region=cn-shanghai", "accessKeyID=file", "accessKeySecret=s", "mode=AK")
	buckets := configFile(t, "[Credentials]", "endpoint=oss-cn-beijing.aliyuncs.com", "[Bucket-Endpoint]", "bucket=oss-cn-chengdu.aliyuncs.com",
		"other=oss-cn-hongkong.aliyuncs.com", "[Bucket-Cname]", "third=dl.example.com")
	home := func(path string) env { return env{"HOME": filepath.Dir(path), "USERPROFILE": filepath.Dir(path)} }
	with := func(e env, more env) env {
		for name, value := range more {
			e[name] = value
		}
		return e
	}
	for name, c := range map[string]struct {
		e    env
		args []string
		want string // endpoint, region, access key
	}{
		"file":              {home(file), nil, "https://oss-cn-beijing.aliyuncs.com cn-beijing file"},
		"environment":       {with(home(file), testEnv), nil, "https://oss-cn-hangzhou.aliyuncs.com cn-hangzhou id"},
		"keys of the file":  {with(home(file), env{"OSS_ENDPOINT": "oss-cn-qingdao.aliyuncs.com"}), nil, "https://oss-cn-qingdao.aliyuncs.com cn-qingdao file"},
		"flag":              {with(home(file), testEnv), []string{"-endpoint", "oss-cn-wuhan-lr.aliyuncs.com", "-config", file}, "https://oss-cn-wuhan-lr.aliyuncs.com cn-wuhan-lr id"},
		"keys asked for":    {with(home(file), testEnv), []string{"-credentials", "config"}, "https://oss-cn-hangzhou.aliyuncs.com cn-hangzhou file"},
		"none":              {home(file), []string{"-credentials", "none"}, "https://oss-cn-beijing.aliyuncs.com cn-beijing "},
		"none, environment": {testEnv, []string{"-credentials", "none"}, "https://oss-cn-hangzhou.aliyuncs.com cn-hangzhou "},
		"ossutil 2":         {home(two), nil, "https://oss-cn-shanghai.aliyuncs.com cn-shanghai file"},
		"no file":           {testEnv, nil, "https://oss-cn-hangzhou.aliyuncs.com cn-hangzhou id"},
		"of the bucket":     {home(buckets), nil, "https://oss-cn-chengdu.aliyuncs.com cn-chengdu "},
	} {
		got, err := parse(t.Context(), append(c.args, src), c.e.get)
		if s := got.endpoint + " " + got.region + " " + got.keyID; err != nil || s != c.want {
			t.Errorf("%s: got %q, %v; want %q", name, s, err, c.want)
		}
	}
	if got, err := parse(t.Context(), []string{"-config", buckets, "oss://third/key"}, env{}.get); err != nil || got.endpoint != "https://dl.example.com" || !got.cname {
		t.Errorf("domain of a bucket: got %q, %t, %v", got.endpoint, got.cname, err)
	}
}

// TestMalformedConfigFile checks that a mistake in the file is reported with its section or its line number, before any request, and
// without the line itself.
func TestMalformedConfigFile(t *testing.T) {
	s := newServer(t)
	s.Put("bucket", "key", osstest.Random(1, 1000))
	for _, c := range []struct {
		name, want string // after the path
		lines      []string
	}{
		{"no assignment", ":3: neither a section nor NAME = VALUE; expected [Credentials]", []string{"[Credentials]", "accessKeyID=x", "accessKeySecret secret-1"}},
		{"no section", ": a line stands before the first section; expected [Credentials]", []string{"accessKeySecret=secret-1"}},
		{"open section", ":1: a section is [NAME]", []string{"[Credentials", "accessKeySecret=secret-1"}},
		{"twice", " [Credentials]: accessKeySecret stands there twice; expected", []string{"[Credentials]", "accessKeySecret=secret-1", "AccessKeySecret=secret-2"}},
		{"half a pair", " [Credentials]: accessKeyID without accessKeySecret; expected", []string{"[Credentials]", "accessKeyID=secret-1"}},
		{"other half", " [Credentials]: accessKeySecret without accessKeyID; expected", []string{"[Credentials]", "accessKeySecret=secret-1"}},
		{"token alone", " [Credentials]: stsToken without", []string{"[Credentials]", "stsToken=token-1"}},
		{"two words", " [Credentials]: the value of accessKeySecret is not one word", []string{"[Credentials]", "accessKeyID=x", "accessKeySecret=secret-1 # mine"}},
		{"not text", ":1: neither", []string{"\x00\x01secret-1"}},
		{"endpoint", ` [Credentials]: endpoint "ftp://a.b": expected a host`, []string{"[Credentials]", "endpoint=ftp://a.b", "accessKeyID=x", "accessKeySecret=secret-1"}},
		{"region", ` [default]: region "Hang_zhou"`, []string{"[default]", "endpoint=a.b", "region=Hang_zhou"}},
		{"mode", " [default]: mode EcsRamRole: give --credentials ecs", []string{"[default]", "mode=EcsRamRole"}},
		{"other mode", " [default]: of the modes AK, StsToken and Anonymous are read", []string{"[default]", "mode=Process"}},
		{"no name", ":2: neither", []string{"[Credentials]", "=secret-1"}},
		{"open quotes", ": neither", []string{"[Credentials]", "accessKeySecret=`secret-1", "secret-2"}},
		{"too long", " is longer than", []string{strings.Repeat("# secret-1\n", 1<<17)}},
	} {
		path := configFile(t, c.lines...)
		e := place(s)
		if strings.HasPrefix(c.name, "endpoint") || c.name == "region" {
			e = env{}
		}
		r := runHere(t.Context(), e, "-config", path, "oss://bucket/key", t.TempDir())
		if r.exit != exitUsage || !strings.Contains(r.stderr, path+c.want) {
			t.Errorf("%s: got %+v, want %q", c.name, r, path+c.want)
		}
		noSecret(t, r)
	}
	for _, c := range [][]string{
		{"-config", filepath.Join(t.TempDir(), "missing"), "missing"},
		{"-config", t.TempDir(), "directory"},
		{"-credentials", "config", "--config FILE"},
		{"-credentials", "key", "auto, env, config, profile, ecs, oidc, chain, none"},
	} {
		r := runHere(t.Context(), place(s), c[0], c[1], "oss://bucket/key", t.TempDir())
		if r.exit != exitUsage || !strings.Contains(r.stderr, c[2]) {
			t.Errorf("%q: got %+v", c, r)
		}
	}
	if n := len(s.Requests()); n > 0 {
		t.Errorf("%d requests", n)
	}
}
