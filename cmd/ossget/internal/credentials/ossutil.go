package credentials

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// Config is the content of a configuration file of ossutil for one bucket. Settings that it omits are "".
type Config struct {
	Endpoint, Region                    string
	CNAME                               bool // Endpoint is a domain bound to the bucket
	AccessKeyID, AccessKeySecret, Token string

	EndpointAt, RegionAt, ModeAt string // FILE:LINE, for messages
	Mode                         string // ossutil 2: AK, StsToken, EcsRamRole, …
}

// maxConfig is far more than such a file needs. A longer one is something else.
const maxConfig = 1 << 20

// form is part of every error.
const form = "expected [Credentials], and below it endpoint = HOST, accessKeyID = ID, accessKeySecret = SECRET, " +
	"for temporary keys stsToken = TOKEN, one a line; lines that begin with # or ; say nothing"

// ReadConfig reads the file for the bucket. It reads the section [Credentials] of ossutil 1 or, if there is none, [default]
// of ossutil 2, and the sections [Bucket-Endpoint] and [Bucket-Cname]. Other sections and names are ignored. Errors name the
// file and the line but never quote it.
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
	sections, err := parseINI(path, string(bytes.TrimPrefix(content, []byte("\ufeff"))))
	if err != nil {
		return nil, err
	}
	return configOf(sections, bucket)
}

// entry is a value and its position.
type entry struct{ value, at string }

// section maps names in lower case to their entries.
type section map[string]entry

// parseINI returns the sections by their name in lower case.
func parseINI(path, content string) (map[string]section, error) {
	sections := map[string]section{}
	var now section
	n := 0
	for line := range strings.Lines(content) {
		n++
		at := fmt.Sprintf("%s:%d", path, n)
		bad := func(what string) error { return fmt.Errorf("%s: %s; %s", at, what, form) }
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		if line[0] == '[' {
			name, ok := strings.CutSuffix(line[1:], "]")
			if name = strings.ToLower(strings.TrimSpace(name)); !ok || name == "" {
				return nil, bad("a section is [NAME]")
			}
			if sections[name] == nil {
				sections[name] = section{}
			}
			now = sections[name]
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		name, value = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)
		switch {
		case !ok || name == "":
			return nil, bad("neither a section nor NAME = VALUE")
		case now == nil:
			return nil, bad("stands before the first section")
		case now[name].at != "":
			return nil, bad("the same name as in " + now[name].at)
		}
		now[name] = entry{value, at}
	}
	return sections, nil
}

// configOf returns the settings for the bucket.
func configOf(sections map[string]section, bucket string) (*Config, error) {
	main, ok := sections["credentials"]
	if !ok {
		main = sections["default"]
	}
	for _, name := range []string{"endpoint", "region", "accesskeyid", "accesskeysecret", "ststoken", "mode"} {
		e := main[name]
		if strings.ContainsFunc(e.value, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return nil, fmt.Errorf("%s: the value is not one word of ASCII; %s", e.at, form)
		}
	}
	id, secret, token := main["accesskeyid"], main["accesskeysecret"], main["ststoken"]
	switch {
	case id.value != "" && secret.value == "":
		return nil, fmt.Errorf("%s: accessKeyID without accessKeySecret; %s", id.at, form)
	case id.value == "" && secret.value != "":
		return nil, fmt.Errorf("%s: accessKeySecret without accessKeyID; %s", secret.at, form)
	case id.value == "" && token.value != "":
		return nil, fmt.Errorf("%s: stsToken without accessKeyID and accessKeySecret; %s", token.at, form)
	}
	c := &Config{
		Region: main["region"].value, RegionAt: main["region"].at, Mode: main["mode"].value, ModeAt: main["mode"].at,
		AccessKeyID: id.value, AccessKeySecret: secret.value, Token: token.value,
	}
	endpoint := main["endpoint"]
	if e := sections["bucket-endpoint"][bucket]; e.value != "" {
		endpoint = e
	}
	if e := sections["bucket-cname"][bucket]; e.value != "" {
		endpoint, c.CNAME = e, true
	}
	c.Endpoint, c.EndpointAt = endpoint.value, endpoint.at
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
