package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ossdl/ossdl/internal/osstest"
)

// result is one run of one client.
type result struct {
	Scenario   string   `json:"scenario"`
	Client     string   `json:"client"` // as the table names it
	Round      int      `json:"round"`
	Size       int64    `json:"size"`          // bytes, of all objects together
	Seconds    float64  `json:"seconds"`       // of the job, without the start of the process
	CPU        float64  `json:"cpuSeconds"`    // likewise, user and system
	Peak       int64    `json:"peakBytes"`     // most resident memory of the client's process
	Requests   int      `json:"requests"`      // as the server counted
	Sent       int64    `json:"sentBytes"`     // body bytes, likewise
	Conns      int      `json:"connections"`   // likewise
	ServerCPU  float64  `json:"serverSeconds"` // of the server's processor time
	Checkpoint int64    `json:"checkpointBytes"`
	Written    int64    `json:"writtenBytes"` // given to write calls, the object and the requests included
	Kills      int      `json:"kills"`
	Samples    []sample `json:"samples,omitempty"`          // of what the server had sent
	First      float64  `json:"firstByteSeconds,omitempty"` // from the start of the job to the object's first byte in a file
	Mallocs    int64    `json:"allocations,omitempty"`      // in the client's process
	Allocated  int64    `json:"allocatedBytes,omitempty"`
	Ours       int64    `json:"allocationsOfOurs,omitempty"` // by the library: without the SDK and net/http
	TimedOut   bool     `json:"timedOut"`
	Rate       float64  `json:"bytesPerSecond,omitempty"` // of the scenario crc
	Err        string   `json:"error,omitempty"`
	Wrong      string   `json:"wrong,omitempty"` // it said it was done, and this is wrong with what it made
}

// bench runs scenarios in one folder.
type bench struct {
	dir     string // for what is downloaded
	n       int    // interleaved rounds
	budget  time.Duration
	peers   []string
	write   string // fresh or warm: the pair that the goals of the processor rows are about
	v4      bool   // ossdl signs with V4
	sampled bool   // results have samples
	profile string // where ossdl's CPU profiles go; "": none
	log     io.Writer
	seed    uint64 // of the next server's content
}

// entry is a client as one line of a table.
type entry struct {
	client string
	warm   bool
}

func (e entry) String() string {
	if e.warm {
		return e.client + warmSuffix
	}
	return e.client
}

const warmSuffix = " warm"

// entries are the lines of the scenario's table: those of its clients that were asked for and are there.
func (b *bench) entries(s *scenario) []entry {
	var es []entry
	for _, c := range s.clients {
		peer := c
		switch c {
		case ossdlClient, prefixClient, streamClient, drainClient:
			peer = ""
		case bareManyClient, bareSynced:
			peer = bareClient
		case sdkV2SyncClient, sdkV2LoopClient:
			peer = sdkV2Client
		}
		if peer != "" && !slices.Contains(b.peers, peer) {
			continue
		}
		es = append(es, entry{client: c})
		if s.warm && (c == ossdlClient || c == bareClient) {
			es = append(es, entry{client: c, warm: true})
		}
	}
	return es
}

// run does the scenario's rounds. In each, every client has its turn; who is first changes from round to round.
func (b *bench) run(ctx context.Context, s *scenario) ([]result, error) {
	if s.special != nil {
		return s.special(ctx, s, b.n)
	}
	es := b.entries(s)
	rounds := b.n
	if s.rounds > 0 {
		rounds = min(rounds, s.rounds)
	}
	if s.warm {
		if err := b.warmUp(s.size); err != nil {
			return nil, err
		}
		defer func() { _ = os.Remove(b.warmFile()) }()
	}
	stop, err := startBusy(s.busy)
	if err != nil {
		return nil, err
	}
	defer stop()
	var all []result
	out := map[entry]bool{}            // those that have no more turns
	spent := map[entry]time.Duration{} // by each
	longest := s.limit                 // that a run may take
	if longest == 0 {
		longest = time.Minute
	}
	for round := range rounds {
		for i := range es {
			e := es[(i+round)%len(es)]
			if out[e] {
				continue
			}
			limit := longest
			if s.timesBare > 0 && e.client != bareClient {
				bare := newTable(s, b.write, all).line(bareClient).median(func(r *result) float64 { return r.Seconds })
				if bare > 0 {
					limit = min(limit, time.Duration(s.timesBare*bare*float64(time.Second)))
				}
			}
			r, err := b.runOnce(ctx, s, e, round, limit)
			if err != nil {
				return all, fmt.Errorf("%s: %v: %w", s.name, e, err)
			}
			all = append(all, r)
			b.note(&r)
			spent[e] += time.Duration(r.Seconds * float64(time.Second))
			// What the goals compare has all its rounds. The others have as many as their share of the time allows.
			out[e] = r.TimedOut || (e.client != ossdlClient && e.client != prefixClient && !slices.Contains(s.always, e.client) && spent[e] >= b.budget)
		}
	}
	return all, nil
}

func (b *bench) note(r *result) {
	outcome := fmt.Sprintf("%.3f s, %.3f CPU s", r.Seconds, r.CPU)
	switch {
	case r.Wrong != "":
		outcome = "WRONG RESULT: " + r.Wrong
	case r.TimedOut:
		outcome = fmt.Sprintf("not done after %.0f s", r.Seconds)
	case r.Err != "":
		outcome = "fails: " + r.Err
	}
	fmt.Fprintf(b.log, "  %s round %d %-17s %s\n", r.Scenario, r.Round+1, r.Client, outcome)
}

func (b *bench) warmFile() string { return filepath.Join(b.dir, "warm") }

// warmUp makes the file that the warm clients write over, and touches as much memory again, so that the first fresh
// file does not pay for pages that the system has never used.
func (b *bench) warmUp(size int64) (err error) {
	for _, path := range []string{b.warmFile(), filepath.Join(b.dir, "touched")} {
		f, err := os.Create(path)
		if err != nil {
			return err
		}
		block := make([]byte, 1<<20)
		for n := int64(0); n < size && err == nil; n += int64(len(block)) {
			_, err = f.Write(block[:min(int64(len(block)), size-n)])
		}
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return os.Remove(filepath.Join(b.dir, "touched"))
}

// runOnce starts a server, lets the client do its job against it, and checks what came of it.
func (b *bench) runOnce(ctx context.Context, s *scenario, e entry, round int, limit time.Duration) (r result, err error) {
	r = result{Scenario: s.name, Client: e.String(), Round: round}
	cfg := s.server
	cfg.Objects, cfg.Size, cfg.ResetSeed = s.objects, s.sizeFor(e.client), uint64(round)
	// No two runs have the same content: what an earlier one left in the warm file is wrong for this one.
	b.seed += uint64(s.objects)
	cfg.Seed = b.seed
	r.Size = cfg.Size * int64(s.toFetch())

	dir, err := os.MkdirTemp(b.dir, "run-")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	srv, err := newServer(&cfg)
	if err != nil {
		return r, err
	}
	defer srv.close()
	j, err := b.job(s, e, round, dir, &srv.info)
	if err != nil {
		return r, err
	}

	ctx, cancel := context.WithTimeoutCause(ctx, limit, errLimit)
	defer cancel()
	moments := rand.New(rand.NewPCG(uint64(round), 7)) // the same for each client
	if s.there {
		if err := prepare(dir, s.objects, cfg.Size, srv.info.Modified); err != nil {
			return r, err
		}
	}
	samples := func() ([]sample, error) { return nil, nil }
	if b.sampled {
		samples = srv.sampler()
	}
	for ended := false; !ended; {
		var kill time.Duration
		if r.Kills < s.kills {
			kill = s.killMin + time.Duration(moments.Int64N(int64(s.killMax-s.killMin)))
		}
		if ended, err = r.child(ctx, j, kill); err != nil {
			break
		}
	}
	var serr error
	if r.Samples, serr = samples(); err != nil || serr != nil {
		return r, errors.Join(err, serr)
	}
	st, err := srv.stats()
	if err != nil {
		return r, err
	}
	r.Requests, r.Sent, r.Conns, r.ServerCPU = st.Requests, st.Sent, st.Conns, st.CPU
	if r.Err == "" && !r.TimedOut && e.client != drainClient {
		r.Wrong, err = wrong(j.Paths, cfg.Size, srv.info.CRC64s, cfg.content)
	}
	return r, err
}

// errLimit is why a run that takes too long ends.
var errLimit = errors.New("the time for this run is over")

func (b *bench) job(s *scenario, e entry, round int, dir string, info *serverInfo) (*job, error) {
	j := &job{
		Client: e.client, Endpoint: info.Endpoint, Bucket: bucketName, Keys: info.Keys, Size: s.sizeFor(e.client),
		Dir: dir, Include: s.include, Done: s.toFetch(), Skipped: s.objects - s.toFetch(), Counted: s.counted, Warm: e.warm, Conns: s.conns, V4: b.v4, PartSize: s.parts[e.client], Scratch: filepath.Join(dir, "scratch"),
		AccessKeyID: osstest.AccessKeyID, AccessKeySecret: osstest.AccessKeySecret,
	}
	if err := os.Mkdir(j.Scratch, 0o700); err != nil {
		return nil, err
	}
	for _, key := range info.Keys {
		path := filepath.Join(dir, key)
		if e.warm {
			path = b.warmFile()
		}
		j.Paths = append(j.Paths, path)
	}
	if info.Certificate != "" {
		j.CAFile = filepath.Join(dir, "ca.pem")
		if err := os.WriteFile(j.CAFile, []byte(info.Certificate), 0o600); err != nil {
			return nil, err
		}
	}
	if s.first {
		j.First = info.First
	}
	if s.include != "" {
		j.Skipped = 0 // what is left out is not counted
	}
	if b.profile != "" && (e.client == ossdlClient || e.client == prefixClient) {
		j.CPUProfile = fmt.Sprintf("%s.%s.%s.%d", b.profile, s.name, strings.ReplaceAll(e.String(), " ", "-"), round+1)
	}
	return j, nil
}

// child lets a process do the job, or what it can of it until it is killed; kill 0 lets it end. It reports whether the
// process came to its end, well or not, or its time was over.
func (r *result) child(ctx context.Context, j *job, kill time.Duration) (ended bool, err error) {
	p, err := startChild("client")
	if err != nil {
		return false, err
	}
	var ready string
	if err := errors.Join(p.send(j), p.receive(&ready)); err != nil {
		p.kill()
		return false, p.explain(err)
	}
	start := time.Now()
	var rep report
	reported := make(chan error, 1)
	go func() { reported <- p.receive(&rep) }()
	stop, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		r.watch(p.cmd.Process.Pid, filepath.Dir(j.Scratch), stop)
	}()
	var moment <-chan time.Time
	if kill > 0 {
		timer := time.NewTimer(kill)
		defer timer.Stop()
		moment = timer.C
	}
	over := false
	select {
	case err = <-reported:
	case <-moment:
		over = true
	case <-ctx.Done():
		over = true
	}
	close(stop)
	<-watched
	if over {
		killGroup(p.cmd)
		<-reported // it has failed, or came at the same moment
		p.kill()
		r.Seconds += time.Since(start).Seconds()
		if ctx.Err() == nil {
			r.Kills++
			return false, nil
		}
		if context.Cause(ctx) != errLimit {
			return false, ctx.Err()
		}
		r.TimedOut = true
		return true, nil
	}
	if err != nil {
		p.kill()
		return false, p.explain(err)
	}
	r.Seconds += rep.Seconds
	r.CPU, r.Peak, r.Err = rep.CPU, rep.Peak, rep.Err
	r.First = rep.First
	r.Mallocs, r.Allocated, r.Ours = rep.Mallocs, rep.Allocated, rep.Ours
	return true, p.wait()
}

// watch looks after the size of the checkpoint, and after what the process writes, until stop is closed.
func (r *result) watch(pid int, dir string, stop <-chan struct{}) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		r.Checkpoint = max(r.Checkpoint, checkpointSize(dir))
		r.Written = max(r.Written, written(pid))
		select {
		case <-stop:
			return
		case <-tick.C:
		}
	}
}

// checkpointSize is the size of what looks like a checkpoint below dir, by the names the clients give it.
func checkpointSize(dir string) (sum int64) {
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // it was there a moment ago
		}
		switch filepath.Ext(path) {
		case ".cp", ".dcp", ".aria2":
		default:
			if d.Name() != "checkpoint.json" {
				return nil
			}
		}
		if info, err := d.Info(); err == nil && !d.IsDir() {
			sum += info.Size()
		}
		return nil
	})
	return sum
}
