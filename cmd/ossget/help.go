package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// helpColumns is the width of the help text.
const helpColumns = 90

// helpPage is what the help text of a command consists of, besides its flags.
type helpPage struct {
	intro  string
	groups []group
	outro  string
}

// String returns the help text.
func (p helpPage) String() string {
	var b strings.Builder
	b.WriteString(p.intro)
	for _, g := range p.groups {
		fmt.Fprintf(&b, "\n%s:\n%s%s%s", g.title, g.intro, g.flags.FlagUsagesWrapped(helpColumns), g.outro)
	}
	b.WriteString(p.outro)
	return b.String()
}

// help makes -h of a command print a page. Its subcommands keep what cobra prints, unless they have pages of their own.
func help(cmd *cobra.Command, p helpPage) {
	before := cmd.HelpFunc()
	cmd.SetHelpFunc(func(asked *cobra.Command, args []string) {
		if asked != cmd {
			before(asked, args)
			return
		}
		fmt.Fprint(cmd.OutOrStdout(), p)
	})
}

const rootIntro = `ossget downloads an object of Alibaba Cloud OSS to a file. The file appears once it is
complete and verified. If ossget is interrupted or fails, run the same command again to
resume.

  ossget [flags] SOURCE [DEST]
  ossget [flags] SOURCE... DIR
  ossget [flags] -i LIST [DIR]
  ossget ls oss://bucket/prefix/
  ossget stat SOURCE [DEST]     size, class, version; would it resume, or be skipped?
  ossget plan --shards N oss://bucket/prefix/
                                a range of keys for each of N workers
  ossget completion SHELL       for bash, zsh, fish or powershell: what its shell
                                completes flags with
  ossget man                    the manual page: ossget man | man -l -

  SOURCE  oss://bucket/key, an http(s) URL (signed or public), oss://bucket/prefix/ with
          --recursive, or oss://bucket/ with --files-from
  DEST    file or folder; default: the key's last element in the current folder. With
          --recursive and --files-from: a folder, which need not exist; default: the
          current folder. - writes to standard output, in order. For a file named -
          give ./-
  With --verify --manifest the folder is the only operand.

Flags may stand before, between and after the operands; -- ends them. One dash is enough:
-recursive is --recursive.

A URL needs no credentials; --version-id and the flags of "Service and credentials" do
not apply to it. Put it in quotes, since & has a meaning in a shell. Its query is never
shown.
`

const sourcesHelp = `  Each file is DIR/DEST, or DIR and the last element of its source. Nothing is requested
  unless everything is well-formed: the sources, LIST, --checksum-file, and the names, of
  which none may leave DIR and no two may be one file. A source that fails does not stop
  the others. With --update a file with the digest that it must have costs no request.
`

const credentialsHelp = `  WHICH is one of
      auto     OSS_ACCESS_KEY_ID, OSS_ACCESS_KEY_SECRET and, for temporary keys,
               OSS_SESSION_TOKEN; otherwise the configuration file; otherwise requests
               are not signed. No service is asked for keys
      env      the same variables; otherwise ALIBABA_CLOUD_ACCESS_KEY_ID,
               ALIBABA_CLOUD_ACCESS_KEY_SECRET and ALIBABA_CLOUD_SECURITY_TOKEN
      config   the configuration file, even if the variables are set
      profile  ALIBABA_CLOUD_CREDENTIALS_FILE, ~/.alibabacloud/credentials or, of the
               Alibaba Cloud CLI, ~/.aliyun/config.json. ALIBABA_CLOUD_PROFILE chooses
               the profile
      ecs      the role of the ECS instance, from http://100.100.100.200
      oidc     the role of the pod, from STS, for ALIBABA_CLOUD_OIDC_TOKEN_FILE
      chain    the first of these that has keys: environment (ALIBABA_CLOUD_...), oidc,
               profiles, ecs
      none     requests are not signed
  Temporary keys of profile, ecs, oidc and chain are renewed during the download. Those
  of the variables and of the configuration file (OSS_SESSION_TOKEN, stsToken) are not:
  when they expire the command fails. Run it again with new keys to resume.
  Proxies come from HTTP_PROXY, HTTPS_PROXY and NO_PROXY, also for oidc. The address of
  ecs is never reached through a proxy.
`

const verifyHelp = `  A line for each difference on standard output says missing, differing or extra, and the
  name; nothing is fetched or written. --include and --exclude apply; without --manifest
  --shard, --start-after and --until, too.
`

const checkpointHelp = `  It is removed once the file is complete. Its place is in DEST.cp; with --recursive and
  --files-from always in DEST/.ossdl; there is none for standard output.
`

const outputHelp = `  The JSON line has path bucket key versionId etag size crc64 verified durable encrypted
  skipped resumedBytes downloadedBytes requests retries seconds lastModified; on failure
  also error code requestId exitCode retryable. With --recursive and --files-from: path
  done skipped failed bytes notDurable encrypted unverified resumedBytes downloadedBytes
  requests retries restored restoring deleted dryRun seconds failures; failures lists key
  and what a failure has of at most 1000 objects. With several sources the same. With
  --verify: a line with kind key name path reason for each difference, then path same
  unverified missing differing extra failed bytes requests retries seconds failures.
  Events are start progress retry restoring thawing warning file folder skipped failed
  deleted wouldDownload wouldDelete difference done.
`

const rootOutro = `
SIZE is a whole number of bytes, or of KiB, MiB or GiB: 1048576, 8MiB. TIME is a number
with a unit: 500ms, 30s, 2m. OFFSET and LENGTH are SIZEs.

Exit codes:
    0  done
    1  failed. The same command resumes (network, destination in use, disk full, expired;
       with --recursive, --files-from and several sources: some object failed), or starts
       over (object changed; with --if-match it fails until the object has that ETag
       again). It fails again while there are more files without a key than --delete N
       allows
    2  wrong usage; a malformed line of LIST or of --checksum-file
    3  the same command will fail again: no such object, access denied, archived, range
       outside the object, wrong digest, file too large for its file system; with
       --recursive, --files-from and several sources: every object that failed would fail
       again, or a line of --files-from is no key; before any request: DEST or the
       checkpoint cannot be written or replaced; --verify found a difference. If --verify
       could not find out whether there is one, the code is 1
    4  --restore-only: objects still thaw
  129  interrupted by SIGHUP: the terminal is gone; the same command resumes
  130  interrupted by Ctrl-C; the same command resumes
  143  interrupted by SIGTERM; the same command resumes
  141  the reader of standard output is gone; no message is printed
With --no-checkpoint, and to standard output, the same command always starts over. What
was written to standard output is verified only if the command ends with exit code 0.
`
