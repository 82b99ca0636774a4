package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/pflag"

	"github.com/ossdl/ossdl"
)

// archiveGroup has the flags for objects that cannot be read as they are.
func (c *command) archiveGroup() group {
	g := newGroup("Archived and encrypted objects")
	define(g, "restore", "DAYS", fmt.Sprintf("restore archived objects, which costs money, wait until they can be read, and download them. They can be read for so many days: 1 to 7 for class Archive, else 1 to %d. Without it an archived object is exit code 3", ossdl.MaxRestoreDays), parseDays, func(days int) error {
		c.restore.Days = days
		return nil
	})
	define(g, "restore-tier", "TIER", "how fast objects of ColdArchive and DeepColdArchive are restored, and for how much: Expedited, Standard or Bulk (default: Standard)", parseTier, func(tier string) error {
		c.restore.Tier = tier
		return nil
	})
	g.flags.BoolVar(&c.restore.StartOnly, "restore-only", false, "with --recursive or --files-from: ask for the restores and download nothing; exit code 4 while objects thaw")
	option(g, &c.call, "decrypt-key", "FILE", "private key in PEM: objects that an encryption client of an SDK has encrypted with it come decrypted. Otherwise they come as they are stored", readKeys,
		func(keys []ossdl.Unwrapper) ossdl.Option { return ossdl.WithDecryption(keys...) })
	return g
}

// checkRestore adds the option for the flags that were given.
func (c *command) checkRestore(flags *pflag.FlagSet) error {
	if !flags.Changed("restore") {
		for _, name := range []string{"restore-tier", "restore-only"} {
			if flags.Changed(name) {
				return fmt.Errorf("--%s requires --restore DAYS", name)
			}
		}
		return nil
	}
	if c.restore.StartOnly && !c.recursive && c.filesFrom == "" {
		return errors.New("--restore-only requires --recursive and oss://bucket/prefix/, or --files-from")
	}
	c.call = append(c.call, ossdl.WithRestore(c.restore))
	return nil
}

func parseDays(s string) (int, error) {
	days, err := parseCount(s)
	if err != nil || days < 1 || days > ossdl.MaxRestoreDays {
		return 0, fmt.Errorf("it must be a number of days: 1 to 7 for class Archive, 1 to %d for others", ossdl.MaxRestoreDays)
	}
	return days, nil
}

func parseTier(s string) (string, error) {
	if s == "" || ossdl.WithRestore(ossdl.RestorePolicy{Tier: s}).Check() != nil {
		return "", errors.New("it must be Expedited, Standard or Bulk")
	}
	return s, nil
}

// maxKeyFile is how long a file with keys may be.
const maxKeyFile = 1 << 20

// readKeys reads the keys in a file. Its errors never contain what is in it.
func readKeys(path string) ([]ossdl.Unwrapper, error) {
	text, err := readKeyFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w; expected a file with an RSA private key in PEM", err)
	}
	return ossdl.ReadRSAKeys(text) // whose errors say what is allowed
}

func readKeyFile(path string) ([]byte, error) {
	if path == "" {
		return nil, errors.New("it is empty")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err == nil && len(text) > maxKeyFile {
		err = fmt.Errorf("it has more than %d bytes", maxKeyFile)
	}
	return text, err
}
