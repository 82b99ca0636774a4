package main

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/ossdl/ossdl/internal/osstest"
)

const bucketName = "bench"

// serverConfig is what the server's process reads from its standard input.
type serverConfig struct {
	TLS     bool
	Objects int    // how many there are
	Size    int64  // of each
	Seed    uint64 // of the content
	Listed  bool   // the objects are made up while they are listed, and named by generatedKey

	Latency   time.Duration // before the first byte of each answer
	ConnRate  int64         // bytes a second of one connection; 0: no bound
	TotalRate int64         // of all together; 0: no bound
	SlowEvery int           // one connection in so many is slow; 0: none
	SlowRate  int64         // bytes a second of a slow one
	ResetMin  int64         // RST after a random number of body bytes of each answer, from ResetMin
	ResetMax  int64         // to ResetMax; 0: never
	ResetSeed uint64
}

// content is the i-th object.
func (c *serverConfig) content(i int) osstest.Content {
	return osstest.Random(c.Seed+uint64(i), c.Size)
}

// serverInfo is what it answers once it listens.
type serverInfo struct {
	Endpoint    string
	Certificate string // PEM; "": plain HTTP
	Keys        []string
	CRC64s      []uint64
	First       []byte    // what the first object begins with
	Modified    time.Time // of the objects that are made up
}

// serverStats is what it answers to each further line.
type serverStats struct {
	Requests int
	Sent     int64 // body bytes given to the kernel
	Conns    int
	CPU      float64 // seconds
}

// serveChild is the server process: it answers each line on in with its counters, until in ends.
func serveChild(in io.Reader, out io.Writer) (err error) {
	lines := bufio.NewReader(in)
	line, err := lines.ReadBytes('\n')
	if err != nil {
		return err
	}
	var cfg serverConfig
	if err := json.Unmarshal(line, &cfg); err != nil {
		return err
	}
	s, info, err := startServer(&cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	answer := json.NewEncoder(out)
	if err := answer.Encode(info); err != nil {
		return err
	}
	cpu := cpuSeconds()
	for {
		if _, err := lines.ReadBytes('\n'); err != nil {
			return nil // the parent is done, or gone
		}
		st := s.Stats()
		if err := answer.Encode(serverStats{st.Requests, st.Sent, s.Conns(), cpuSeconds() - cpu}); err != nil {
			return err
		}
	}
}

func startServer(cfg *serverConfig) (*osstest.Server, *serverInfo, error) {
	opts := []osstest.Option{osstest.WithoutLog()}
	if cfg.TLS {
		opts = append(opts, osstest.WithTLS())
	}
	if cfg.Latency > 0 {
		opts = append(opts, osstest.WithLatency(cfg.Latency))
	}
	if cfg.ConnRate > 0 {
		opts = append(opts, osstest.WithConnRate(cfg.ConnRate))
	}
	if cfg.TotalRate > 0 {
		opts = append(opts, osstest.WithTotalRate(cfg.TotalRate))
	}
	if cfg.SlowEvery > 0 {
		opts = append(opts, osstest.WithConnShape(func(conn int) osstest.Shape {
			if conn%cfg.SlowEvery == cfg.SlowEvery/2 {
				return osstest.Shape{Rate: cfg.SlowRate}
			}
			return osstest.Shape{}
		}))
	}
	if cfg.ResetMax > 0 {
		opts = append(opts, osstest.ResetEvery(cfg.ResetMin, cfg.ResetMax, cfg.ResetSeed))
	}
	s, err := osstest.New(opts...)
	if err != nil {
		return nil, nil, err
	}
	s.CreateBucket(bucketName, osstest.PublicRead()) // for those that do not sign
	info := &serverInfo{Endpoint: s.Endpoint()}
	if cfg.Listed {
		content := osstest.Zeros(cfg.Size)
		s.SetVirtual(bucketName, cfg.Objects, func(i int) (string, osstest.Content) { return generatedKey(i), content })
		info.Modified = s.Stat(bucketName, generatedKey(0)).LastModified
		cfg.Objects = 0
	}
	for i := range cfg.Objects {
		key := fmt.Sprintf("object-%03d", i)
		o := s.Put(bucketName, key, cfg.content(i))
		info.Keys = append(info.Keys, key)
		info.CRC64s = append(info.CRC64s, o.CRC64())
	}
	if cfg.Objects > 0 && cfg.Size >= firstBytes {
		info.First = make([]byte, firstBytes)
		if _, err := cfg.content(0).ReadAt(info.First, 0); err != nil {
			return nil, nil, errors.Join(err, s.Close())
		}
	}
	if cfg.TLS {
		if info.Certificate, err = certificate(s.Addr()); err != nil {
			return nil, nil, errors.Join(err, s.Close())
		}
	}
	return s, info, nil
}

// certificate is the one that the server at addr shows, as PEM.
func certificate(addr string) (string, error) {
	// Nothing is trusted yet: this connection is how the others learn what to trust.
	c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true}) // #nosec G402
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Close() }()
	raw := c.ConnectionState().PeerCertificates[0].Raw
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})), nil
}

// server is a server process as its parent sees it.
type server struct {
	process *process
	info    serverInfo
}

func newServer(cfg *serverConfig) (*server, error) {
	p, err := startChild("server")
	if err != nil {
		return nil, err
	}
	s := &server{process: p}
	if err := errors.Join(p.send(cfg), p.receive(&s.info)); err != nil {
		p.kill()
		return nil, p.explain(err)
	}
	return s, nil
}

// stats are the counters now.
func (s *server) stats() (st serverStats, err error) {
	err = errors.Join(s.process.send("stats"), s.process.receive(&st))
	return st, err
}

func (s *server) close() { s.process.kill() }
