package credentials

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"gopkg.in/ini.v1"
)

// Config is the content of a configuration file of ossutil for one bucket. Settings that it omits are "".
type Config struct {
	Endpoint, Region                    string
	CNAME                               bool // Endpoint is a domain bound to the bucket
	AccessKeyID, AccessKeySecret, Token string

	EndpointAt, RegionAt, ModeAt string // the file and the section, for messages
	Mode                         string // ossutil 2: AK, StsToken, EcsRamRole, …
}

// maxConfig is far more than such a file needs. A longer one is something else.
const maxConfig = 1 << 20

// form is part of every error.
const form = "expected [Credentials], and below it endpoint = HOST, accessKeyID = ID, accessKeySecret = SECRET, " +
	"for temporary keys stsToken = TOKEN, one a line; lines that begin with # or ; say nothing"

// options read the file as ossutil does: a value is what stands behind the first =, as it is.
var options = ini.LoadOptions{
	InsensitiveKeys: true, KeyValueDelimiters: "=", IgnoreInlineComment: true, IgnoreContinuation: true, PreserveSurroundedQuote: true,
	AllowShadows: true, AllowDuplicateShadowValues: true, // otherwise the last of several values would count, silently
}

// ReadConfig reads the file for the bucket. It reads the section [Credentials] of ossutil 1 or, if there is none, [default]
// of ossutil 2, and the sections [Bucket-Endpoint] and [Bucket-Cname]. Other sections and names are ignored. Errors name the
// file and the section, or the line, but never quote it.
func ReadConfig(path, bucket string) (*Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return nil, err
	}
	if len(content) > maxConfig {
		return nil, fmt.Errorf("%s is longer than %d bytes; %s", path, maxConfig, form)
	}
	file, err := ini.LoadSources(options, content)
	if err != nil {
		return nil, malformed(path, string(content), err)
	}
	if len(file.Section(ini.DefaultSection).Keys()) > 0 {
		return nil, fmt.Errorf("%s: a line stands before the first section; %s", path, form)
	}
	return configOf(path, file, bucket)
}

// malformed explains an error of the parser, which has the line in its text.
func malformed(path, content string, err error) error {
	text, line, _ := strings.Cut(err.Error(), ": ")
	at := path
	if i := strings.Index(content, line); i >= 0 && line != "" {
		at = fmt.Sprintf("%s:%d", path, 1+strings.Count(content[:i], "\n"))
	}
	what := "neither a section nor NAME = VALUE"
	if text == "unclosed section" {
		what = "a section is [NAME]"
	}
	return fmt.Errorf("%s: %s; %s", at, what, form)
}

// section is a section of the file. at is the file and the section, for messages.
type section struct {
	at   string
	keys *ini.Section // nil: there is none
}

// find returns a section, whose name may have capitals. DefaultSection is the parser's name for what stands before the first.
func find(path string, file *ini.File, name string) section {
	for _, s := range file.Sections() {
		if s.Name() != ini.DefaultSection && strings.EqualFold(s.Name(), name) {
			return section{fmt.Sprintf("%s [%s]", path, name), s}
		}
	}
	return section{}
}

// get returns the value of a name, "" if the section does not have it.
func (s section) get(name string) (string, error) {
	if s.keys == nil || !s.keys.HasKey(name) {
		return "", nil
	}
	values := s.keys.Key(name).ValueWithShadows()
	switch {
	case len(values) == 0:
		return "", nil
	case len(values) > 1:
		return "", fmt.Errorf("%s: %s stands there twice; %s", s.at, name, form)
	case strings.ContainsFunc(values[0], func(r rune) bool { return r <= ' ' || r > '~' }):
		return "", fmt.Errorf("%s: the value of %s is not one word of ASCII; %s", s.at, name, form)
	}
	return values[0], nil
}

// configOf returns the settings for the bucket.
func configOf(path string, file *ini.File, bucket string) (*Config, error) {
	main := find(path, file, "Credentials")
	if main.keys == nil {
		main = find(path, file, "default")
	}
	c := &Config{EndpointAt: main.at, RegionAt: main.at, ModeAt: main.at}
	for name, value := range map[string]*string{
		"endpoint": &c.Endpoint, "region": &c.Region, "mode": &c.Mode,
		"accessKeyID": &c.AccessKeyID, "accessKeySecret": &c.AccessKeySecret, "stsToken": &c.Token,
	} {
		var err error
		if *value, err = main.get(name); err != nil {
			return nil, err
		}
	}
	switch {
	case c.AccessKeyID != "" && c.AccessKeySecret == "":
		return nil, fmt.Errorf("%s: accessKeyID without accessKeySecret; %s", main.at, form)
	case c.AccessKeyID == "" && c.AccessKeySecret != "":
		return nil, fmt.Errorf("%s: accessKeySecret without accessKeyID; %s", main.at, form)
	case c.AccessKeyID == "" && c.Token != "":
		return nil, fmt.Errorf("%s: stsToken without accessKeyID and accessKeySecret; %s", main.at, form)
	}
	for _, name := range []string{"Bucket-Endpoint", "Bucket-Cname"} {
		s := find(path, file, name)
		if endpoint, err := s.get(bucket); err != nil {
			return nil, err
		} else if endpoint != "" {
			c.Endpoint, c.EndpointAt, c.CNAME = endpoint, s.at, name == "Bucket-Cname"
		}
	}
	return c, nil
}

// Keys returns the keys of the file, or the reason why there are none. If the file has none, the error is nil and the access
// key ID is "".
func (c *Config) Keys() (id, secret, token string, err error) {
	switch strings.ToLower(c.Mode) {
	case "", "ak", "ststoken":
		return c.AccessKeyID, c.AccessKeySecret, c.Token, nil
	case "anonymous":
		return "", "", "", nil
	case "ecsramrole":
		return "", "", "", errors.New(c.ModeAt + ": mode EcsRamRole: give --credentials ecs")
	}
	return "", "", "", errors.New(c.ModeAt + ": of the modes AK, StsToken and Anonymous are read, and EcsRamRole is --credentials ecs; " +
		"for others make a profile and give --credentials profile")
}
