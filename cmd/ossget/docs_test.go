package main

import (
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
	for _, code := range []int{exitDone, exitFailed, exitUsage, exitHopeless, exitHangup, exitInterrupted, exitTerminated, exitBrokenPipe} {
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

// jsonNames returns the names that a struct has in JSON, without those of embedded structs.
func jsonNames(line any) (names []string) {
	for field := range reflect.TypeOf(line).Fields() {
		if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); name != "" {
			names = append(names, name)
		}
	}
	return names
}
