package main

import (
	"fmt"
	"strings"

	"github.com/cpuguy83/go-md2man/v2/md2man"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ossdl/ossdl"
)

// manual is the help text of a command, for the manual page.
type manual struct {
	cmd  *cobra.Command
	page helpPage
}

// manCommand returns the command that prints the manual page.
func manCommand(pages ...manual) *cobra.Command {
	return &cobra.Command{
		Use:   "man",
		Short: "print the manual page",
		Long:  "ossget man prints the manual page, for ossget man | man -l - or for a package to install as ossget.1.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := cmd.OutOrStdout().Write(md2man.Render([]byte(markdown(pages))))
			return err
		},
	}
}

// markdown returns the manual page before it is rendered. The first page is that of ossget itself.
func markdown(pages []manual) string {
	var b strings.Builder
	root := pages[0]
	fmt.Fprintf(&b, "%% \"OSSGET\" \"1\" \"\" \"ossget %s\" \"User Commands\"\n# NAME\nossget \\- %s\n\n# SYNOPSIS\n", ossdl.Version, root.cmd.Short)
	for _, m := range pages {
		fmt.Fprintf(&b, "**%s**\n\n", m.cmd.UseLine())
	}
	for i, m := range pages {
		if i == 0 {
			b.WriteString("# DESCRIPTION\n")
		} else {
			fmt.Fprintf(&b, "# OSSGET %s\n", strings.ToUpper(m.cmd.Name()))
		}
		preformatted(&b, m.page.intro)
		for _, g := range m.page.groups {
			if i > 0 && root.page.has(g) {
				fmt.Fprintf(&b, "## %s\nSee above.\n\n", g.title)
				continue
			}
			fmt.Fprintf(&b, "## %s\n", g.title)
			preformatted(&b, g.intro+g.outro) // behind the list it would belong to the last flag
			g.flags.VisitAll(func(f *pflag.Flag) { manFlag(&b, f) })
		}
	}
	b.WriteString("# SIZES, TIMES AND EXIT STATUS\n")
	preformatted(&b, root.page.outro)
	b.WriteString("# FILES\n**~/.ossutilconfig**\n: the configuration file of ossutil\n\n")
	return b.String()
}

// has reports whether a page has a group with the same title.
func (p helpPage) has(g group) bool {
	for _, other := range p.groups {
		if other.title == g.title && other.outro == g.outro && g.outro != "" {
			return true
		}
	}
	return false
}

// preformatted writes text as it is in a terminal.
func preformatted(b *strings.Builder, text string) {
	if text = strings.Trim(text, "\n"); text != "" {
		fmt.Fprintf(b, "```\n%s\n```\n\n", text)
	}
}

// manFlag writes an entry of a list of flags.
func manFlag(b *strings.Builder, f *pflag.Flag) {
	if f.Shorthand != "" {
		fmt.Fprintf(b, "**-%s**, ", f.Shorthand)
	}
	fmt.Fprintf(b, "**--%s**", f.Name)
	if kind, _ := pflag.UnquoteUsage(f); kind != "" {
		fmt.Fprintf(b, " %s", markup.Replace(kind))
	}
	fmt.Fprintf(b, "\n: %s\n\n", markup.Replace(f.Usage))
}

// markup escapes what Markdown would act on.
var markup = strings.NewReplacer("*", `\*`, "_", `\_`, "[", `\[`, "]", `\]`, "<", `\<`, "`", "\\`")
