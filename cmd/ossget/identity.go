package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/ossdl/ossdl/cmd/ossget/internal/credentials"
)

// identity is where the credentials come from, unless OSS_ACCESS_KEY_ID and its companions are set.
type identity struct {
	from   string // --credentials; one of identities, "": auto
	config string // --config; "": the default, if it exists
	home   string

	file     *credentials.Config   // nil if none was read
	provider *credentials.Provider // nil: use the keys of the command, if any
}

// identities are the values of --credentials. Creating a provider makes no request.
var identities = []string{"auto", "env", "config", "profile", "ecs", "oidc", "chain", "none"}

var providers = map[string]func() (*credentials.Provider, error){
	"profile": credentials.FromProfile,
	"ecs":     credentials.FromECS,
	"oidc":    credentials.FromOIDC,
	"chain":   credentials.FromChain,
}

func parseIdentity(s string) (string, error) {
	if !slices.Contains(identities, s) {
		return "", errors.New("expected one of " + strings.Join(identities, ", "))
	}
	return s, nil
}

// homeOf returns the folder that contains ~/.ossutilconfig.
func homeOf(getenv func(string) string) string {
	if runtime.GOOS == "windows" {
		return getenv("USERPROFILE")
	}
	return getenv("HOME")
}

// identify determines the credentials and the endpoint. The environment and the flags come first. The configuration file
// supplies what they leave open.
func (c *command) identify() error {
	if err := c.readConfig(); err != nil {
		return err
	}
	if f := c.who.file; f != nil && c.endpoint == "" {
		switch {
		case f.Endpoint != "":
			c.endpoint, c.endpointBy, c.cname = f.Endpoint, f.EndpointAt+": endpoint", c.cname || f.CNAME
		case f.Region != "": // as ossutil 2 does
			c.endpoint, c.endpointBy = "oss-"+f.Region+".aliyuncs.com", f.RegionAt+": region; endpoint"
		}
	}
	switch from := c.who.from; from {
	case "", "auto":
		if c.keyID != "" || c.keySecret != "" || c.who.file == nil {
			return c.pair()
		}
		return c.configKeys()
	case "env":
		if c.keyID != "" || c.keySecret != "" {
			return c.pair()
		}
		return c.provide(credentials.FromEnvironment, true)
	case "config":
		if err := c.configKeys(); err != nil {
			return err
		}
		if c.keyID == "" {
			return fmt.Errorf("%s has no accessKeyID and accessKeySecret below [Credentials]", c.configPath())
		}
		return nil
	case "none":
		c.keyID, c.keySecret, c.token = "", "", ""
		return nil
	default:
		return c.provide(providers[from], false)
	}
}

// readConfig reads the configuration file if it was requested, or if it can supply something that is still missing.
func (c *command) readConfig() error {
	auto := c.who.from == "" || c.who.from == "auto"
	wanted := c.who.config != "" || c.who.from == "config"
	useful := c.endpoint == "" || auto && c.keyID == "" && c.keySecret == ""
	path := c.configPath()
	switch {
	case !wanted && (!useful || path == ""):
		return nil
	case path == "":
		return errors.New("--credentials config: there is no home folder with .ossutilconfig; give --config FILE")
	}
	file, err := credentials.ReadConfig(path, c.source.bucket)
	if !wanted && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("configuration file: %w", err)
	}
	c.who.file = file
	return nil
}

func (c *command) configPath() string {
	if c.who.config != "" || c.who.home == "" {
		return c.who.config
	}
	return filepath.Join(c.who.home, ".ossutilconfig")
}

func (c *command) configKeys() (err error) {
	c.keyID, c.keySecret, c.token, err = c.who.file.Keys()
	return err
}

// pair refuses an access key without its secret, and the reverse.
func (c *command) pair() error {
	if (c.keyID == "") != (c.keySecret == "") {
		return errors.New("one of OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET is set without the other")
	}
	return nil
}

// provide uses the keys of a provider and no others. If ask is set, it requests them now.
func (c *command) provide(from func() (*credentials.Provider, error), ask bool) (err error) {
	c.keyID, c.keySecret, c.token = "", "", ""
	if c.who.provider, err = from(); err == nil && ask {
		_, err = c.who.provider.GetCredentialsE()
	}
	if err != nil {
		return fmt.Errorf("--credentials %s: %w", c.who.from, err)
	}
	return nil
}

// answers returns the reason if the provider has no credentials. The library would retry the provider for some minutes.
// A provider may wait for a service that does not answer, so it is left behind when ctx ends.
func (i identity) answers(ctx context.Context) error {
	if i.provider == nil {
		return nil
	}
	answer := make(chan error, 1)
	go func() {
		_, err := i.provider.GetCredentialsE()
		answer <- err
	}()
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
