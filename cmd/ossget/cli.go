package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/cmd/ossget/internal/lists"
)

// command is what the arguments and the environment request.
type command struct {
	task   task
	source source
	url    string // SOURCE if it is a URL; only the library gets it with its query
	dest   string
	text   string // all that is to be printed, such as the help text; "": there is something to do

	endpoint, region        string
	endpoints               []string // those that endpoint names, complete
	endpointBy, regionBy    string   // the flag or the variable that set them
	cname                   bool
	keyID, keySecret, token string
	who                     identity

	shared, call              []ossdl.Option // for the Downloader, and for the call
	json, quiet, noCheckpoint bool
	events                    bool   // --json=events
	metrics                   string // the file for them; "": none
	recursive, mkdir          bool
	filesFrom                 string        // the list of keys; stdoutName: standard input
	nul                       bool          // keys in it end in a NUL
	dryRun                    bool          // print what would be done
	after, until              string        // the range of keys; "": no bound
	shards                    int           // how many workers plan is for
	objectTime                bool          // give the file the object's time
	update                    bool          // download nothing if the file is there
	wait                      time.Duration // for another command that writes the file; 0: not at all
	manifest                  string        // the file to write, or to compare with; "": none
	manifestSHA256            bool          // with a SHA-256 of each file
	verify                    bool          // compare and fetch nothing
	snapshot                  bool          // accept what is appended to an object meanwhile
	timeout                   time.Duration // of the whole command; 0: none
	began                     time.Time
	retry                     ossdl.RetryPolicy
	restore                   ossdl.RestorePolicy
	roots                     *x509.CertPool // what --ca adds to the system's; nil: nothing
	urlFile                   string         // the file with SOURCE; "": it is an operand
	headerText                string         // of OSSGET_HEADER
	headerFile                string
	headers                   []ossdl.Option // of --header
	inputFile                 string         // the list of sources; "": there is none
	sources                   sources        // if there are several
	checksumFile              string
	checksums                 *lists.Checksums // in it; nil: there is none
}

// parse reads the command line. It makes no request. On the disk it only checks whether DEST is a folder and reads the
// configuration file. If it returns an error, the command is only good for reporting that error.
// What it reads from standard input may be waited for until ctx ends.
func parse(ctx context.Context, args []string, getenv func(string) string) (command, error) {
	c := command{
		endpoint:  getenv("OSS_ENDPOINT"),
		region:    getenv("OSS_REGION"),
		keyID:     getenv("OSS_ACCESS_KEY_ID"),
		keySecret: getenv("OSS_ACCESS_KEY_SECRET"),
		token:     getenv("OSS_SESSION_TOKEN"),
		who:       identity{home: homeOf(getenv)},

		headerText: getenv("OSSGET_HEADER"),
		began:      time.Now(),

		endpointBy: "OSS_ENDPOINT",
		regionBy:   "OSS_REGION",
	}
	root := c.root()
	var text strings.Builder
	root.SetOut(&text)
	root.SetErr(io.Discard) // run reports the error, once
	args = twoDashes(root, args)
	root.SetArgs(args)
	if completing(args) {
		shorten(root)
	}
	if err := root.ExecuteContext(ctx); err != nil {
		err = redact(err, slices.Concat(args, strings.Split(c.endpoint, ","), []string{c.endpoint, c.url}))
		// The flag may come after the argument that stopped the parser.
		events := slices.Contains(args, "--json="+jsonEvents)
		return command{json: events || slices.Contains(args, "--json"), events: events}, err
	}
	c.text = text.String()
	return c, nil
}

// root returns the command with its subcommands.
func (c *command) root() *cobra.Command {
	root := &cobra.Command{
		Use:                   "ossget [flags] SOURCE... [DEST]",
		Short:                 "download objects of Alibaba Cloud OSS, and URLs",
		Version:               version(),
		Args:                  cobra.ArbitraryArgs, // operands of the command itself
		RunE:                  func(cmd *cobra.Command, operands []string) error { return c.check(cmd, operands) },
		ValidArgsFunction:     completeOperand,
		SilenceErrors:         true,
		SilenceUsage:          true,
		DisableFlagsInUseLine: true,

		SuggestionsMinimumDistance: 1, // the names are short
	}
	root.SetVersionTemplate("{{.Version}}")
	root.SetFlagErrorFunc(flagError)
	groups := c.groups()
	for _, g := range groups {
		root.Flags().AddFlagSet(g.flags)
	}
	completeFlags(root)
	top, ls, stat, plan := manual{root, helpPage{rootIntro, groups, rootOutro}}, c.lsCommand(), c.statCommand(), c.planCommand()
	help(top.cmd, top.page)
	root.AddCommand(ls.cmd, stat.cmd, plan.cmd, manCommand(top, ls, stat, plan))
	return root
}

// check checks what was requested as a whole, and completes it.
func (c *command) check(cmd *cobra.Command, operands []string) error {
	flags := cmd.Flags()
	ctx, cancel := c.within(cmd.Context())
	defer cancel()
	err := c.combinations(flags)
	if err == nil && c.urlFile != "" {
		operands, err = c.fromFile(ctx, operands)
	}
	if err == nil {
		err = c.readChecksums(ctx)
	}
	switch {
	case err != nil:
	case c.hasSeveral(operands):
		err = c.readSources(ctx, operands)
	default:
		err = meant(cmd, operands, c.operands(operands))
	}
	if err == nil {
		err = c.checkSingle()
	}
	if err == nil {
		err = c.addHeaders(ctx)
	}
	if err == nil {
		err = c.applicable(flags)
	}
	if err == nil && c.usesBuckets() {
		err = c.access()
	}
	return err
}

// meant returns an error that names the command which was meant by the first operand, if there is one, instead of err.
func meant(cmd *cobra.Command, operands []string, err error) error {
	if err == nil || len(operands) == 0 || strings.Contains(operands[0], "://") {
		return err
	}
	if near := cmd.SuggestionsFor(operands[0]); len(near) > 0 {
		return fmt.Errorf("there is no command %q; did you mean ossget %s? (ossget -h lists all)", operands[0], near[0])
	}
	return err
}

// twoDashes adds the second dash to flags of more than one letter. ossget has always taken --part-size and the like, which pflag
// takes for -p -a -r -t and so on. Operands and the values of flags stay as they are, also those that begin with a dash.
func twoDashes(root *cobra.Command, args []string) []string {
	args = append([]string{}, args...) // not nil, which cobra takes for those of the process
	rest := args
	if completing(args) {
		rest = args[1:max(1, len(args)-1)] // the last one is still being written
	}
	for i := 0; i < len(rest) && rest[i] != "--"; i++ {
		name, isFlag := strings.CutPrefix(rest[i], "-")
		if !isFlag || name == "" { // an operand; - is one, too
			continue
		}
		name = strings.TrimPrefix(name, "-")
		word, _, hasValue := strings.Cut(name, "=")
		if word == "" || word[0] == '-' { // malformed, as pflag will say
			continue
		}
		if len(word) == 1 {
			rest[i] = "-" + name
		} else {
			rest[i] = "--" + name
		}
		if f := lookup(root, word); f != nil && f.NoOptDefVal == "" && !hasValue {
			i++ // its value
		}
	}
	return args
}

// lookup returns the flag with a name, or with a letter, of a command or one of its subcommands. It has the same form in all of
// them.
func lookup(cmd *cobra.Command, name string) *pflag.Flag {
	if f := cmd.Flags().Lookup(name); f != nil {
		return f
	}
	if len(name) == 1 {
		if f := cmd.Flags().ShorthandLookup(name); f != nil {
			return f
		}
	}
	for _, sub := range cmd.Commands() {
		if f := lookup(sub, name); f != nil {
			return f
		}
	}
	return nil
}

// flagName matches what may be shown of an unknown flag. Anything longer may be a URL or a secret.
var flagName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,30}$`)

// flagError explains what pflag found wrong with a flag.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	var missing *pflag.ValueRequiredError
	var invalid *pflag.InvalidValueError
	more := fmt.Sprintf("(%s -h lists all)", cmd.CommandPath())
	switch {
	case errors.As(err, &invalid) && errors.Is(invalid.Unwrap(), strconv.ErrSyntax): // of pflag's own flags, which are all bool
		return fmt.Errorf("invalid value %q for --%s: expected true, false, or no value", invalid.GetValue(), invalid.GetFlag().Name)
	case errors.As(err, &invalid) && invalid.GetFlag().Name == "header": // its value is secret
		return fmt.Errorf("--header: %w", invalid.Unwrap())
	case errors.As(err, &invalid):
		return fmt.Errorf("invalid value %q for --%s: %w", invalid.GetValue(), invalid.GetFlag().Name, invalid.Unwrap())
	case errors.As(err, &missing):
		f := missing.GetFlag()
		return fmt.Errorf("--%s needs a value: --%s %s", f.Name, f.Name, f.Value.Type())
	case errors.As(err, &unknown) && flagName.MatchString(unknown.GetSpecifiedName()):
		name := unknown.GetSpecifiedName()
		dashes := "--"[:min(len(name), 2)]
		if near := nearest(cmd, name); near != "" {
			return fmt.Errorf("there is no flag %s%s; did you mean --%s? %s", dashes, name, near, more)
		}
		return fmt.Errorf("there is no flag %s%s %s", dashes, name, more)
	}
	return errors.New("an argument that begins with a dash is no flag; flags are --NAME, --NAME VALUE or --NAME=VALUE " + more)
}

// nearest returns the flag of a command that was most likely meant by a name, or "". cobra finds the subcommand that was meant,
// so it is asked about a command whose subcommands are the flags.
func nearest(cmd *cobra.Command, name string) string {
	flags := &cobra.Command{}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		flags.AddCommand(&cobra.Command{Use: f.Name, Run: func(*cobra.Command, []string) {}})
	})
	for flags.SuggestionsMinimumDistance = 1; flags.SuggestionsMinimumDistance <= len(name)/3; flags.SuggestionsMinimumDistance++ {
		if near := flags.SuggestionsFor(name); len(near) > 0 {
			return near[0]
		}
	}
	return ""
}

// completing reports whether a shell asks how the command line can go on.
func completing(args []string) bool {
	return len(args) > 0 && (args[0] == cobra.ShellCompRequestCmd || args[0] == cobra.ShellCompNoDescRequestCmd)
}

// shorten leaves what shells show beside a flag: the first part of its description.
func shorten(cmd *cobra.Command) {
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if end := firstPart.FindStringIndex(f.Usage); end != nil {
			f.Usage = f.Usage[:end[0]]
		}
	})
	for _, sub := range cmd.Commands() {
		shorten(sub)
	}
}

var firstPart = regexp.MustCompile(`[;.] | \(`)

// completeFlags says what a shell offers for the values of flags. It offers files for those that are not named here.
func completeFlags(cmd *cobra.Command) {
	values := map[string][]string{"credentials": identities, "restore-tier": {"Expedited", "Standard", "Bulk"}, "metadata": {"mtime", "mode", "mtime,mode", "mtime,mode,owner"}}
	none := []string{"endpoint", "region", "range", "version-id", "as-of", "if-match", "sha256", "checksum", "header", "include", "exclude", "shard", "shards", "start-after", "until", "restore",
		"delete", "part-size", "concurrency", "rate-limit", "retries", "retry-for", "stall-timeout", "timeout", "wait"}
	for _, name := range none {
		values[name] = nil
	}
	for name, offered := range values {
		if cmd.Flags().Lookup(name) == nil {
			continue
		}
		if err := cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(offered, cobra.ShellCompDirectiveNoFileComp)); err != nil {
			panic(err) // cannot happen: it exists, and is named once
		}
	}
	if cmd.Flags().Lookup("checkpoint-dir") != nil {
		if err := cmd.MarkFlagDirname("checkpoint-dir"); err != nil {
			panic(err) // cannot happen: it exists
		}
	}
}

// completeOperand says what a shell offers for SOURCE; for DEST it offers files.
func completeOperand(_ *cobra.Command, operands []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(operands) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return []string{"oss://", "https://"}, cobra.ShellCompDirectiveNoSpace
}
