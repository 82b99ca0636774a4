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

// identity is who asks, as far as OSS_ACCESS_KEY_ID and the like do not say it.
type identity struct {
	from   string // -credentials; one of identities, "": auto
	config string // -config; "": the default, where it is there
	home   string

	file     *credentials.Config   // nil: none was read
	provider *credentials.Provider // nil: the keys that the command has, if any
}

// identities are the values of -credentials. Those of providers ask nobody before the download.
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

// homeOf is where ~/.ossutilconfig is.
func homeOf(getenv func(string) string) string {
	if runtime.GOOS == "windows" {
		return getenv("USERPROFILE")
	}
	return getenv("HOME")
}

// identify finds who asks: what the environment does not say, the configuration file does; and the endpoint, where
// neither a flag nor the environment names one.
func (c *command) identify() error {
	if err := c.readConfig(); err != nil {
		return err
	}
	if f := c.who.file; f != nil && c.endpoint == "" {
		switch {
		case f.Endpoint != "":
			c.endpoint, c.endpointBy, c.cname = f.Endpoint, f.EndpointAt+": endpoint", c.cname || f.CNAME
		case f.Region != "": // as ossutil 2 has it
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

// readConfig reads the configuration file where it is asked for, or can say what is not known yet.
func (c *command) readConfig() error {
	auto := c.who.from == "" || c.who.from == "auto"
	wanted := c.who.config != "" || c.who.from == "config"
	useful := c.endpoint == "" || auto && c.keyID == "" && c.keySecret == ""
	path := c.configPath()
	switch {
	case !wanted && (!useful || path == ""):
		return nil
	case path == "":
		return errors.New("-credentials config: there is no home folder with .ossutilconfig; give -config FILE")
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

// pair refuses half a pair of keys.
func (c *command) pair() error {
	if (c.keyID == "") != (c.keySecret == "") {
		return errors.New("one of OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET is set without the other")
	}
	return nil
}

// provide takes the keys of a provider, and no others. One that knows at once is asked at once.
func (c *command) provide(from func() (*credentials.Provider, error), ask bool) (err error) {
	c.keyID, c.keySecret, c.token = "", "", ""
	if c.who.provider, err = from(); err == nil && ask {
		_, err = c.who.provider.GetCredentialsE()
	}
	if err != nil {
		return fmt.Errorf("-credentials %s: %w", c.who.from, err)
	}
	return nil
}

// answers reports why the provider has no credentials: the library would ask it for some minutes. A provider may ask a
// service that does not answer, so it is left behind when ctx ends.
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
		return ctx.Err()
	}
}
