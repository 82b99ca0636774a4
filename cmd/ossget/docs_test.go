package main

import (
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/ossdl/ossdl"
)

// page returns docs/ossget.md. It is not part of this module.
func page(t *testing.T) string {
	t.Helper()
	if _, err := os.Stat(filepath.Join("..", "..", "go.work")); err != nil {
		t.Skip("not in a clone: ", err)
	}
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "ossget.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// helpText returns what -h prints.
func helpText(t *testing.T) string {
	t.Helper()
	c, err := parse(t.Context(), []string{"-h"}, env{}.get)
	if err != nil {
		t.Fatal(err)
	}
	return c.text
}

// section returns the text below a heading of a page.
func section(t *testing.T, page, heading string) string {
	t.Helper()
	_, text, ok := strings.Cut(page, "\n## "+heading+"\n")
	if !ok {
		t.Fatalf("no section %q", heading)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	return text
}

// sameSet fails the test unless both lists have the same elements, in any order.
func sameSet(t *testing.T, what string, documented, inCode []string) {
	t.Helper()
	slices.Sort(documented)
	slices.Sort(inCode)
	if !slices.Equal(documented, inCode) {
		t.Errorf("%s: docs/ossget.md has\n\t%q\nand the command\n\t%q", what, documented, inCode)
	}
}

// firstCells returns the parts in backquotes of the first cell of each row of a table.
func firstCells(text string) (names []string) {
	for _, row := range regexp.MustCompile("(?m)^\\| (`.*?) \\|").FindAllStringSubmatch(text, -1) {
		for _, name := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(row[1], -1) {
			names = append(names, name[1])
		}
	}
	return names
}

// TestFlagsInDocs checks that docs/ossget.md has the flags that the command has, the kinds of credentials and the defaults.
func TestFlagsInDocs(t *testing.T) {
	text := section(t, page(t), "Flags")
	documented := firstCells(text)
	for i, name := range documented {
		documented[i], _, _ = strings.Cut(name, " ")
	}
	var inCode []string
	new(command).root().Flags().VisitAll(func(f *pflag.Flag) {
		inCode = append(inCode, "--"+f.Name)
		if f.Shorthand != "" {
			inCode = append(inCode, "-"+f.Shorthand)
		}
	})
	sameSet(t, "flags", documented, inCode)

	for name, want := range map[string]string{
		"retries": strconv.Itoa(ossdl.DefaultAttempts - 1), "stall-timeout": ossdl.DefaultStallTimeout.String(), "credentials": "`" + identities[0] + "`",
	} {
		if !regexp.MustCompile("(?m)^\\| `--" + name + " .* \\| " + want + " \\|$").MatchString(text) {
			t.Errorf("docs/ossget.md does not have %s as the default of --%s", want, name)
		}
	}
	credentials := firstCells(section(t, page(t), "Credentials"))[1:] // the first is the heading
	sameSet(t, "credentials", credentials, slices.Clone(identities))
}

// TestVariablesInDocs checks that docs/ossget.md has the environment variables that the help text has.
func TestVariablesInDocs(t *testing.T) {
	variable := regexp.MustCompile(`\b(?:OSS|OSSGET|ALIBABA_CLOUD)_[A-Z_]*[A-Z]\b|\b[A-Z]+_PROXY\b`)
	documented := firstCells(section(t, page(t), "Environment"))
	for _, name := range variable.FindAllString(helpText(t), -1) {
		if !slices.Contains(documented, name) {
			t.Errorf("docs/ossget.md does not have %s", name)
		}
	}
}

// TestExitCodesInDocs checks that docs/ossget.md and the help text have the exit codes of the command.
func TestExitCodesInDocs(t *testing.T) {
	_, help, _ := strings.Cut(helpText(t), "\nExit codes:\n")
	find := func(text, pattern string) (codes []string) {
		for _, row := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
			codes = append(codes, row[1])
		}
		return codes
	}
	var inCode []string
	for _, code := range []int{exitDone, exitFailed, exitUsage, exitHopeless, exitRestoring, exitHangup, exitInterrupted, exitTerminated, exitBrokenPipe} {
		inCode = append(inCode, strconv.Itoa(code))
	}
	sameSet(t, "exit codes", find(section(t, page(t), "Exit codes"), `(?m)^\| (\d+) \|`), slices.Clone(inCode))
	sameSet(t, "exit codes of the help text", find(help, `(?m)^ +(\d+)  `), inCode)
}

// TestJSONInDocs checks that docs/ossget.md and the help text have the names of the JSON line.
func TestJSONInDocs(t *testing.T) {
	text := section(t, page(t), "The JSON line")
	var one []string
	for _, line := range []any{report{}, Failure{}} {
		one = append(one, jsonNames(line)...)
	}
	sameSet(t, "names of the JSON line", firstCells(text), one)
	_, help, _ := strings.Cut(helpText(t), "\nOutput:\n")
	help, _, _ = strings.Cut(help, "\nSIZE is ")
	words := strings.FieldsFunc(help, func(r rune) bool { return strings.ContainsRune(" \n:;,.", r) })
	for _, line := range []any{report{}, Failure{}, prefixReport{}, keyFailure{}} {
		for _, name := range jsonNames(line) {
			if !strings.Contains(text, "`"+name+"`") {
				t.Errorf("docs/ossget.md does not have `%s`", name)
			}
			if !slices.Contains(words, name) {
				t.Errorf("the help text does not have %s", name)
			}
		}
	}
}

// TestCodesInDocs checks that docs/ossget.md has the codes of codes.go, and that the code of an error comes from nowhere else.
func TestCodesInDocs(t *testing.T) {
	text := section(t, page(t), "The JSON line")
	_, text, _ = strings.Cut(text, "\n| code | cause |\n")
	var documented []string
	for _, row := range regexp.MustCompile(`(?m)^\| ([A-Z]\w+(?:, [A-Z]\w+)*) \|`).FindAllStringSubmatch(text, -1) {
		documented = append(documented, strings.Split(row[1], ", ")...)
	}
	var inCode []string
	for name, value := range constants(t, "codes.go") {
		if strings.HasPrefix(name, "code") {
			inCode = append(inCode, value)
		}
	}
	sameSet(t, "codes", documented, inCode)

	for _, file := range []string{"result.go", "verify.go"} {
		tree, err := parser.ParseFile(gotoken.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range tree.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || !slices.Contains([]string{"kind", "kindOf", "verifyKind"}, f.Name.Name) {
				continue
			}
			ast.Inspect(f, func(n ast.Node) bool {
				if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == gotoken.STRING && lit.Value != `""` && lit.Value != `"HTTP"` {
					t.Errorf("%s: %s has the code %s of its own", file, f.Name.Name, lit.Value)
				}
				return true
			})
		}
	}
}

// TestEventsInDocs checks that docs/ossget.md and the help text have the events, and their names.
func TestEventsInDocs(t *testing.T) {
	text := section(t, page(t), "Events")
	var inCode []string
	for name, value := range constants(t, "events.go") {
		if strings.HasPrefix(name, "event") {
			inCode = append(inCode, value)
		}
	}
	sameSet(t, "events", firstCells(text), slices.Clone(inCode))
	_, help, _ := strings.Cut(helpText(t), "Events are")
	words := strings.FieldsFunc(help, func(r rune) bool { return strings.ContainsRune(" \n.", r) })
	for _, event := range inCode {
		if !slices.Contains(words, event) {
			t.Errorf("the help text does not have %s", event)
		}
	}
	for _, body := range []any{eventHead{}, started{}, progressed{}, noticed{}, ossdl.Difference{}} {
		for _, name := range jsonNames(body) {
			if !strings.Contains(text, "`"+name+"`") {
				t.Errorf("docs/ossget.md does not have `%s`", name)
			}
		}
	}
	if !strings.Contains(text, "`schemaVersion` ("+strconv.Itoa(schemaVersion)+")") {
		t.Errorf("docs/ossget.md does not have schema version %d", schemaVersion)
	}
}

// TestLookingInDocs checks that docs/ossget.md has the names of the lines of ls and stat, their flags, and what a download would do.
func TestLookingInDocs(t *testing.T) {
	text := section(t, page(t), "Looking at objects")
	names := slices.Concat(jsonNames(ossdl.ObjectInfo{}), jsonNames(ossdl.LocalInfo{}), jsonNames(described{}), jsonNames(listing{}),
		[]string{wouldSkip, wouldResume, wouldDownload, wouldWait, wouldRestore})
	root := new(command).root()
	for _, cmd := range root.Commands() {
		if cmd.Name() != "ls" && cmd.Name() != "stat" {
			continue
		}
		service := new(command).serviceGroup()
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if service.flags.Lookup(f.Name) == nil && f.Name != "help" {
				names = append(names, "--"+f.Name)
			}
		})
	}
	for _, name := range names {
		if name != "-" && name != "hasCrc64" && !strings.Contains(text, "`"+name+"`") {
			t.Errorf("docs/ossget.md does not have `%s`", name)
		}
	}
}

// TestPlanInDocs checks that docs/ossget.md has the names of the lines of plan, and its flags.
func TestPlanInDocs(t *testing.T) {
	text := section(t, page(t), "Many machines")
	names := slices.Concat(jsonNames(keyRange{}), jsonNames(planned{}))
	c := new(command)
	service := c.serviceGroup()
	c.planCommand().cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if service.flags.Lookup(f.Name) == nil && f.Name != "help" {
			names = append(names, "--"+f.Name)
		}
	})
	for _, name := range names {
		if !strings.Contains(text, "`"+name+"`") {
			t.Errorf("docs/ossget.md does not have `%s`", name)
		}
	}
}

// TestMetricsInDocs checks that docs/ossget.md has the metrics and the statuses.
func TestMetricsInDocs(t *testing.T) {
	text := section(t, page(t), "Metrics")
	var inCode []string
	for _, f := range (command{}).metricsOf(outcome{}) {
		inCode = append(inCode, f.GetName())
	}
	sameSet(t, "metrics", firstCells(text), inCode)
	for _, status := range statuses {
		if !strings.Contains(text, status) {
			t.Errorf("docs/ossget.md does not have the status %s", status)
		}
	}
}

// constants returns the constants of a file that are strings.
func constants(t *testing.T, file string) map[string]string {
	t.Helper()
	tree, err := parser.ParseFile(gotoken.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	ast.Inspect(tree, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		for i, value := range spec.Values {
			if lit, ok := value.(*ast.BasicLit); ok && lit.Kind == gotoken.STRING {
				if found[spec.Names[i].Name], err = strconv.Unquote(lit.Value); err != nil {
					t.Fatal(err)
				}
			}
		}
		return true
	})
	return found
}

// jsonNames returns the names that a struct has in JSON, without those of embedded structs.
func jsonNames(line any) (names []string) {
	for field := range reflect.TypeOf(line).Fields() {
		if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); name != "" {
			names = append(names, name)
		}
	}
	return names
}
