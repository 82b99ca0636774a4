// Package recipes runs and checks what docs/ci.md tells people to copy.
package recipes

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rhysd/actionlint"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/ossdl/ossdl/osstest"
)

const (
	accessKeyID, accessKeySecret = "recipes", "secret of the recipes"
	jobToken                     = "token-of-this-job"
)

// block returns the block of docs/ci.md that begins with a comment with a file's name.
func block(t *testing.T, name string) string {
	t.Helper()
	page, err := os.ReadFile("../../docs/ci.md")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("(?ms)^```\\w+\n(?:#|//) "+regexp.QuoteMeta(name)+"\n(.*?)^```$").FindAllStringSubmatch(string(page), -1)
	if len(found) == 0 {
		t.Fatalf("docs/ci.md has no %s", name)
	}
	all := ""
	for _, f := range found {
		all += f[1]
	}
	return all
}

// decode reads YAML, and fails the test if into has no place for something in it.
func decode(t *testing.T, text string, into any) {
	t.Helper()
	if err := yaml.UnmarshalStrict([]byte(text), into); err != nil {
		t.Fatal(err)
	}
}

// script is the shell of a recipe, as its system runs it.
type script struct {
	shell string
	env   map[string]string
	files string // the folder of the files, below that of the job
}

// gitlabJob is what the recipe uses of a job of GitLab.
type gitlabJob struct {
	Image     any               `json:"image"`
	Variables map[string]string `json:"variables"`
	Cache     struct {
		Key   string   `json:"key"`
		Paths []string `json:"paths"`
		When  string   `json:"when"`
	} `json:"cache"`
	Script []string `json:"script"`
	Retry  struct {
		Max       int   `json:"max"`
		ExitCodes []int `json:"exit_codes"`
	} `json:"retry"`
	Artifacts struct {
		Paths   []string `json:"paths"`
		Exclude []string `json:"exclude"`
	} `json:"artifacts"`
}

func gitlab(t *testing.T, name string) script {
	jobs := map[string]gitlabJob{}
	decode(t, block(t, ".gitlab-ci.yml"), &jobs)
	return script{shell: strings.Join(jobs[name].Script, "\n"), env: jobs[name].Variables, files: "deps"}
}

func github(t *testing.T) script {
	text := block(t, ".github/workflows/fetch.yml")
	linter, err := actionlint.NewLinter(io.Discard, &actionlint.LinterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	wrong, err := linter.Lint("fetch.yml", []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range wrong {
		t.Error(w)
	}
	w, _ := actionlint.Parse([]byte(text))
	for _, step := range w.Jobs["fetch"].Steps {
		if run, ok := step.Exec.(*actionlint.ExecRun); ok && step.Name != nil && step.Name.Value == "Fetch" {
			return script{shell: run.Run.Value, files: "deps"}
		}
	}
	t.Fatal("there is no step Fetch")
	return script{}
}

func jenkins(t *testing.T) script {
	steps := regexp.MustCompile(`(?s)sh '''(.*?)'''`).FindAllStringSubmatch(block(t, "Jenkinsfile"), -1)
	s := script{files: "deps"}
	for _, step := range steps {
		s.shell += step[1] + "\n"
	}
	return s
}

// tektonTask is what the recipe uses of a Task. Its steps are containers with a script.
type tektonTask struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name string `json:"name"`
	} `json:"metadata"`
	Spec struct {
		Params []struct {
			Name    string `json:"name"`
			Default string `json:"default"`
		} `json:"params"`
		Workspaces []struct {
			Name string `json:"name"`
		} `json:"workspaces"`
		Steps []struct {
			corev1.Container `json:",inline"`
			Script           string `json:"script"`
		} `json:"steps"`
	} `json:"spec"`
}

func tekton(t *testing.T) script {
	var task tektonTask
	decode(t, block(t, "fetch-task.yaml"), &task)
	step := task.Spec.Steps[0]
	s := script{shell: step.Script, env: map[string]string{}, files: "."}
	for _, e := range step.Env {
		s.env[e.Name] = e.Value
		for _, p := range task.Spec.Params {
			s.env[e.Name] = strings.ReplaceAll(s.env[e.Name], "$(params."+p.Name+")", p.Default)
		}
	}
	return s
}

func kubernetes(t *testing.T) script {
	var pod corev1.Pod
	decode(t, block(t, "model.yaml"), &pod)
	quoted := []string{"ossget"} // the entry point of the image
	for _, arg := range pod.Spec.InitContainers[0].Args {
		quoted = append(quoted, "'"+strings.Replace(arg, "/data", "data", 1)+"'")
	}
	return script{shell: "mkdir -p data\n" + strings.Join(quoted, " "), files: "data/model"}
}

func systemd(t *testing.T) script {
	m := regexp.MustCompile(`(?m)^ExecStart=/usr/local/bin/(.*)$`).FindStringSubmatch(block(t, "/etc/systemd/system/mirror.service"))
	if m == nil {
		t.Fatal("no ExecStart")
	}
	return script{shell: "mkdir -p state\nSTATE_DIRECTORY=state\n" + m[1], files: "state/app/1.4.2"}
}

// server has the objects of the recipes.
func server(t *testing.T) (*osstest.Server, map[string][]byte) {
	t.Helper()
	s := osstest.NewServer(t)
	s.AddUser(accessKeyID, accessKeySecret)
	s.CreateBucket("artifacts")
	want := map[string][]byte{}
	for i := range 40 {
		name := fmt.Sprintf("part %d/file", i)
		want[name] = bytes.Repeat([]byte(fmt.Sprintf("%d of 1.4.2\n", i)), 30_000)
		s.Put("artifacts", "app/1.4.2/"+name, osstest.Bytes(want[name]))
	}
	return s, want
}

// ossget builds the command, and returns its folder.
func ossget(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "ossget"), "./cmd/ossget")
	build.Dir = "../.."
	build.Env = append(os.Environ(), "GOWORK=")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

// command is a run of a recipe in the folder of its job. Whatever its environment says, OSS is the server.
func (s script) command(t *testing.T, bin, job string, env ...string) (*exec.Cmd, *bytes.Buffer) {
	cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", s.shell)
	cmd.Dir = job
	cmd.Env = []string{"PATH=" + bin + ":" + os.Getenv("PATH")}
	for name, value := range s.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	cmd.Env = append(cmd.Env, env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	return cmd, &out
}

// TestRecipes runs each recipe three times in one folder: it is killed when some of the objects were asked for, it ends, and it
// finds everything there.
func TestRecipes(t *testing.T) {
	bin := ossget(t)
	for name, read := range map[string]func(*testing.T) script{
		"GitLab CI": func(t *testing.T) script { return gitlab(t, "fetch") }, "GitHub Actions": github, "Jenkins": jenkins,
		"Tekton": tekton, "Kubernetes": kubernetes, "systemd": systemd,
	} {
		t.Run(name, func(t *testing.T) {
			recipe := read(t)
			s, want := server(t)
			job := t.TempDir()
			env := []string{"OSS_ENDPOINT=" + s.Endpoint(), "OSS_ACCESS_KEY_ID=" + accessKeyID, "OSS_ACCESS_KEY_SECRET=" + accessKeySecret}

			cmd, out := recipe.command(t, bin, job, env...)
			asked, goOn := make(chan struct{}), make(chan struct{})
			s.Nth(20, osstest.Inject().Before(func() { close(asked) }).Gate(0, goOn))
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			select {
			case <-asked:
			case err := <-ended:
				t.Fatalf("it ended by itself: %v\n%s", err, out)
			}
			if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			close(goOn)
			<-ended

			for _, what := range []string{"resumed", "with everything there"} {
				s.ResetLog()
				cmd, out := recipe.command(t, bin, job, env...)
				if err := cmd.Run(); err != nil {
					t.Fatalf("%s: %v\n%s", what, err, out)
				}
				for name, content := range want {
					if got, err := os.ReadFile(filepath.Join(job, recipe.files, name)); err != nil || !bytes.Equal(got, content) {
						t.Fatalf("%s: %s has %d bytes, %v\n%s", what, name, len(got), err, out)
					}
				}
				if what == "resumed" {
					continue
				}
				for _, r := range s.Requests() {
					if r.Key != "" {
						t.Errorf("%s: asked for %s again", what, r.Key)
					}
				}
			}
		})
	}
}

// TestSharedCache runs the recipe for a cache in two jobs at once, one of which is killed, and in a third one that has nothing to do.
func TestSharedCache(t *testing.T) {
	bin := ossget(t)
	s, _ := server(t)
	content := bytes.Repeat([]byte("an SDK in a cache\n"), 1<<20)
	s.Put("artifacts", "sdk.tar.gz", osstest.Bytes(content))
	sum := sha256.Sum256(content)
	recipe := script{shell: block(t, "fetch.sh")}
	job := t.TempDir()
	env := []string{"OSS_ENDPOINT=" + s.Endpoint(), "OSS_ACCESS_KEY_ID=" + accessKeyID, "OSS_ACCESS_KEY_SECRET=" + accessKeySecret, "SHA256=" + hex.EncodeToString(sum[:])}
	asked, goOn := make(chan struct{}), make(chan struct{})
	s.Nth(0, osstest.Inject().Before(func() { close(asked) }).Gate(1<<20, goOn))
	first, _ := recipe.command(t, bin, job, env...)
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	<-asked
	second, out := recipe.command(t, bin, job, env...)
	if err := second.Start(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(-first.Process.Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	close(goOn)
	if err := first.Wait(); err == nil {
		t.Error("the first job was not killed")
	}
	if err := second.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	s.ResetLog()
	third, out := recipe.command(t, bin, job, env...)
	if err := third.Run(); err != nil || len(s.Requests()) > 0 {
		t.Errorf("%v, %d requests\n%s", err, len(s.Requests()), out)
	}
	if got, err := os.ReadFile(filepath.Join(job, "cache", "sdk.tar.gz")); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// TestGitLabArtifact runs the recipe that downloads an artifact of another job. The server is one of HTTP that wants its token.
func TestGitLabArtifact(t *testing.T) {
	recipe := gitlab(t, "report")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	const report = "<p>all tests have passed</p>"
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("JOB-TOKEN") != jobToken || r.URL.Path != "/api/v4/projects/7/jobs/artifacts/main/raw/report.html" || r.URL.Query().Get("job") != "test" {
			http.Error(w, "not for you", http.StatusUnauthorized)
			return
		}
		http.ServeContent(w, r, "report.html", time.Unix(1_700_000_000, 0), strings.NewReader(report))
	})}
	go func() { _ = srv.Serve(l) }() // until Close
	t.Cleanup(func() { _ = srv.Close() })
	job := t.TempDir()
	cmd, out := recipe.command(t, ossget(t), job, "CI_JOB_TOKEN="+jobToken, "UPSTREAM_PROJECT=7", "CI_API_V4_URL=http://"+l.Addr().String()+"/api/v4")
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got, err := os.ReadFile(filepath.Join(job, "out", "report.html")); err != nil || string(got) != report {
		t.Errorf("%q, %v", got, err)
	}
	if strings.Contains(out.String(), jobToken) {
		t.Errorf("the token is shown: %s", out)
	}
}

// TestUnits lets systemd check its units, if it is there.
func TestUnits(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("no systemd-analyze: ", err)
	}
	dir := t.TempDir()
	var units []string
	for _, name := range []string{"mirror.service", "mirror.timer"} {
		text := strings.ReplaceAll(block(t, "/etc/systemd/system/"+name), "/usr/local/bin/ossget", "/bin/true")
		units = append(units, filepath.Join(dir, name))
		if err := os.WriteFile(units[len(units)-1], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command(analyze, append([]string{"verify", "--man=no"}, units...)...).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestJob decodes the Job of examples/restore-job.
func TestJob(t *testing.T) {
	text, err := os.ReadFile("../../examples/restore-job/job.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var job batchv1.Job
	decode(t, strings.SplitN(string(text), "\n---", 2)[0], &job)
	if job.Kind != "Job" || *job.Spec.Completions < 2 || len(job.Spec.Template.Spec.Containers) != 1 {
		t.Errorf("%+v", job)
	}
}
