package main

import (
	"context"
	"maps"
	"math"
	"time"
)

// Sizes, in bytes. Rates are in units of a million: 20 MB/s is 20,000,000 bytes a second.
const (
	kib = 1 << 10
	mib = 1 << 20
	gib = 1 << 30
	mb  = 1_000_000
)

// scenario is one row of the tables.
type scenario struct {
	name  string
	title string

	size    int64 // bytes of each object
	objects int
	server  serverConfig
	clients []string // in the order of the table
	always  []string // those that have all rounds, as ossdl has, since a goal compares with them
	rounds  int      // at most so many; 0: as many as were asked for
	slow    bool     // takes minutes: only if it was asked for
	asked   bool     // only if -run is given

	there     bool             // the objects are listed only, and their files are there
	include   string           // the objects are listed only, and all but those with such a name are left out
	atOnce    int              // requests at once with which the ideal is reckoned; 0: one after another
	conns     int              // given to all clients; 0: each chooses
	parts     map[string]int64 // given to a client: bytes of a request; none: it chooses
	shares    map[string]int64 // a client far too slow for the whole downloads one part in so many of it
	warm      bool             // ossdl and bare have a second turn each, writing into a warm file
	kills     int              // kill -9 so often, then let it end
	killMin   time.Duration    // from the start of the process's job
	killMax   time.Duration
	limit     time.Duration // of one run; 0: a minute
	timesBare float64       // the same, as a multiple of what the bare loop took; 0: no such limit

	metric  metric
	columns []column // besides those of every table
	goals   []goal
	special func(ctx context.Context, s *scenario, n int) ([]result, error) // instead of runs of clients
	shrink  int64                                                           // by how much -quick divides the size
	first   bool                                                            // the moment of the first byte in the file is looked for
	busy    int                                                             // processes that keep the processors busy meanwhile
	counted bool                                                            // its allocations are counted, and no garbage is collected
}

// sizeFor is what a client downloads of each object.
func (s *scenario) sizeFor(client string) int64 { return s.size / max(1, s.shares[client]) }

// ideal is the seconds in which bytes can come over the line; 0 if the line has no rate.
func (s *scenario) ideal(bytes int64) float64 {
	switch rate := max(s.server.TotalRate, int64(s.conns)*s.server.ConnRate); {
	case s.objects > 1:
		return float64(s.objects) / float64(max(1, s.atOnce)) * s.server.Latency.Seconds()
	case rate > 0:
		return float64(bytes)/float64(rate) + s.server.Latency.Seconds()
	}
	return 0
}

// toFetch is how many objects are to be downloaded.
func (s *scenario) toFetch() int {
	switch {
	case s.there:
		return 0
	case s.include != "":
		return (s.objects + rareEvery - 1) / rareEvery
	}
	return s.objects
}

// quick makes a small form of the scenario that shows whether it works, and no more.
func (s *scenario) quick() {
	s.size, s.limit, s.timesBare, s.rounds = s.size/s.shrink, 0, 0, 1
	if s.objects > 1 {
		s.size, s.objects = s.size*s.shrink, 5
	}
	const divide = 16
	s.parts = maps.Clone(s.parts)
	for client, part := range s.parts {
		if part > mib {
			s.parts[client] = part / divide
		}
	}
	s.server.ResetMin /= divide
	s.server.ResetMax /= divide
	s.busy = 0
	s.kills, s.killMin, s.killMax = min(s.kills, 1), s.killMin/10, s.killMax/10
}

// inMemory gives the goals their limits for files in memory.
func (s *scenario) inMemory() {
	for i, g := range s.goals {
		if g.memory > 0 {
			s.goals[i].limit = g.memory
		}
	}
}

// Clients of the rows.
func everyone() []string {
	return []string{bareClient, ossdlClient, sdkClient, sdkV2Client, aria2Client}
}

// scenarios are the rows, in the order of README.md.
func scenarios() []*scenario {
	line := serverConfig{Latency: 30 * time.Millisecond, ConnRate: 20 * mb}
	slow := line
	slow.SlowEvery, slow.SlowRate = 8, 1*mb
	wide := serverConfig{Latency: 30 * time.Millisecond, ConnRate: 10 * mb, TotalRate: 200 * mb}
	eight := map[string]int64{bareClient: 8 * mib, sdkClient: 8 * mib, sdkV2Client: 8 * mib}
	tiny := func() map[string]int64 {
		return map[string]int64{bareClient: kib, ossdlClient: kib, sdkClient: kib, sdkV2Client: kib}
	}
	sequential := []string{bareClient, ossdlClient, sdkClient, sdkV2Client}
	rows := []*scenario{
		{
			name: "cpu-http", title: "processor time over HTTP, 4 connections, CRC-64 and checkpoint on",
			size: gib, objects: 1, conns: 4, warm: true, shrink: 64,
			clients: append(everyone(), drainClient), always: []string{bareClient},
			metric: cpuPerGiB(), goals: []goal{cpuGoal(1.15)},
		},
		{
			name: "cpu-tls", title: "processor time over TLS, 4 connections, CRC-64 and checkpoint on",
			size: gib, objects: 1, conns: 4, warm: true, shrink: 64, server: serverConfig{TLS: true},
			clients: append(everyone(), drainClient), always: []string{bareClient},
			metric: cpuPerGiB(), goals: []goal{cpuGoal(1.10)},
		},
		{
			name: "disk", title: "processor time of a file that is on the disk at the end, 8 connections; -dir says on which",
			size: 2 * gib, objects: 1, conns: 8, asked: true, shrink: 128, limit: 5 * time.Minute,
			clients: []string{bareClient, bareSynced, ossdlClient}, always: []string{bareClient, bareSynced},
			metric: cpuPerGiB(), goals: []goal{{
				what: "CPU per GiB × the bare loop that syncs at its end", limit: 1.25,
				value: func(t *table) float64 { return t.ratio(ossdlClient, bareSynced) },
			}},
		},
		{
			name: "crc", title: "CRC-64 of 1 MiB blocks", size: mib, shrink: 1, special: runCRC,
			metric: rate(), goals: []goal{{
				what: "GB/s", limit: 25, atLeast: true, value: metricOf(crcOurs),
			}},
		},
		{
			name: "line", title: "8 connections of 20 MB/s, 30 ms away, own choice of request size",
			size: 512 * mib, objects: 1, conns: 8, parts: eight, server: line, shrink: 64,
			clients: append(everyone(), streamClient), always: []string{streamClient},
			metric: timesIdeal(), goals: []goal{
				{what: "wall × ideal", limit: 1.04, value: metricOf(ossdlClient)},
				{what: "wall × ideal in order", limit: 1.04, value: metricOf(streamClient)},
			},
		},
		{
			name: "line-slow", title: "the same, one connection in eight at 5 % of the speed",
			size: 512 * mib, objects: 1, conns: 8, parts: eight, server: slow, shrink: 64,
			clients: everyone(),
			metric:  timesIdeal(), goals: []goal{{what: "wall × ideal of the line without it", limit: 1.20, value: metricOf(ossdlClient)}},
		},
		{
			name: "small", title: "objects of 16 KiB one after another, 30 ms away",
			size: 16 * kib, objects: 200, server: serverConfig{Latency: 30 * time.Millisecond}, shrink: 1,
			parts:   map[string]int64{bareClient: 16 * kib},
			clients: sequential,
			metric:  timesIdeal(), goals: []goal{
				{what: "wall × round trips", limit: 1.06, value: metricOf(ossdlClient)},
				{what: "requests an object", limit: 1, value: requestsPerObject},
			},
		},
		{
			name: "first-byte", title: "the first byte of an object in its file, on the line of line",
			size: 64 * mib, objects: 1, conns: 8, parts: eight, server: line, shrink: 4, first: true,
			clients: []string{bareClient, ossdlClient, sdkClient, sdkV2Client}, always: []string{bareClient},
			metric: firstByte(), goals: []goal{{
				what: "from the call to the first byte × the bare loop", limit: 1.05,
				value: func(t *table) float64 { return t.ratio(ossdlClient, bareClient) },
			}},
		},
		{
			name: "auto", title: "no flags at all, 10 MB/s a connection, 200 MB/s in all, 30 ms away",
			size: gib, objects: 1, server: wide, shrink: 64,
			shares:  map[string]int64{sdkClient: 8, sdkV2Client: 4, aria2Client: 8},
			clients: append(everyone(), streamClient), always: []string{streamClient},
			metric: timesIdeal(), goals: []goal{
				{what: "wall × ideal", limit: 1.20, value: metricOf(ossdlClient)},
				{what: "wall × ideal in order", limit: 1.20, value: metricOf(streamClient)},
			},
		},
		{
			name: "kill", title: "kill -9 at random moments, 8 connections, 200 MB/s",
			size: 768 * mib, objects: 1, conns: 8, server: serverConfig{TotalRate: 200 * mb}, shrink: 24,
			parts:   map[string]int64{sdkClient: 6 * mib, sdkV2Client: 6 * mib},
			clients: []string{ossdlClient, sdkClient, sdkV2Client, aria2Client},
			kills:   4, killMin: 300 * time.Millisecond, killMax: time.Second,
			metric: perKill(), goals: []goal{{what: "MiB fetched again per kill", limit: 8, memory: 4, value: metricOf(ossdlClient)}},
		},
		{
			name: "parts", title: "100,000 parts of 1 KiB, 8 connections, checkpoint on",
			size: 100_000 * kib, objects: 1, conns: 8, parts: tiny(), shrink: 100,
			clients: sequential, always: []string{bareClient}, timesBare: 12, limit: 2 * time.Minute,
			metric: wall(), columns: checkpointColumns(), goals: partsGoals(),
		},
		{
			name: "parts-million", title: "a million parts of 1 KiB, 8 connections, checkpoint on",
			size: 1_000_000 * kib, objects: 1, conns: 8, parts: tiny(), shrink: 1000, rounds: 1, slow: true,
			clients: []string{bareClient, ossdlClient}, timesBare: 12, limit: 10 * time.Minute,
			metric: wall(), columns: checkpointColumns(), goals: partsGoals(),
		},
		{
			name: "reset", title: "RST after a random 1 to 6 MiB of each answer, 8 MiB parts, 8 connections",
			size: 256 * mib, objects: 1, conns: 8, shrink: 16,
			parts:   map[string]int64{ossdlClient: 8 * mib, sdkClient: 8 * mib, sdkV2Client: 8 * mib},
			server:  serverConfig{ResetMin: 1 * mib, ResetMax: 6 * mib},
			clients: []string{ossdlClient, sdkClient, sdkV2Client, aria2Client},
			metric:  wall(), goals: []goal{
				{what: "body bytes sent / size", limit: 1.005, value: sentOverSize},
				{what: "wall s", limit: 0.6, value: metricOf(ossdlClient)},
			},
		},
		{
			name: "memory", title: "peak memory with no flags, on the line of auto",
			size: 512 * mib, objects: 1, server: wide, shrink: 32,
			clients: []string{bareClient, ossdlClient}, always: []string{bareClient},
			metric: peak(), goals: []goal{{what: "MiB over the bare loop", limit: 32, value: overBare}},
		},
		{
			name: "memory-fast", title: "peak memory with no flags, on a line without bounds",
			size: gib, objects: 1, shrink: 64,
			clients: []string{bareClient, ossdlClient}, always: []string{bareClient},
			metric: peak(), goals: []goal{{what: "MiB over the bare loop", limit: 32, value: overBare}},
		},
		{
			name: "start", title: "5,000 objects of 16 KiB of one prefix, 30 ms away, no flags",
			size: 16 * kib, objects: 5000, server: serverConfig{Latency: 30 * time.Millisecond}, shrink: 1, atOnce: manyConns,
			clients: []string{bareManyClient, prefixClient},
			metric:  timesIdeal(), goals: []goal{{what: "wall × round trips of 64 requests at once", limit: 1.2, value: metricOf(prefixClient)}},
		},
		{
			name: "there", title: "100,000 objects of one prefix whose files are there",
			size: 16 * kib, objects: 100_000, server: serverConfig{Listed: true}, shrink: 1, there: true, limit: 5 * time.Minute,
			clients: []string{prefixClient},
			metric:  cpuPerKey(), goals: []goal{{what: "CPU µs a key", limit: 7, value: metricOf(prefixClient)}},
		},
		{
			name: "filter", title: "1,000,000 objects of one prefix, all but ten of them left out by a pattern",
			size: kib, objects: 1_000_000, server: serverConfig{Listed: true}, shrink: 1, include: rarePattern, limit: 5 * time.Minute,
			clients: []string{prefixClient},
			metric:  cpuPerKey(), goals: []goal{{what: "CPU µs a key", limit: 4, value: metricOf(prefixClient)}},
		},
		{
			name: "many", title: "10,000 objects of 16 KiB of one prefix, 64 connections",
			size: 16 * kib, objects: 10_000, conns: manyConns, shrink: 1,
			clients: manyClients(), always: manyClients(), limit: 5 * time.Minute,
			metric: wallPerObject(), columns: []column{cpuColumn()}, goals: manyGoals(1.1, 0.9, 1.6, 48),
		},
		{
			name: "many-256k", title: "2,000 objects of 256 KiB of one prefix, 64 connections",
			size: 256 * kib, objects: 2000, conns: manyConns, shrink: 1,
			clients: manyClients(), always: manyClients(), limit: 5 * time.Minute,
			metric: wallPerObject(), columns: []column{cpuColumn()}, goals: manyGoals(0.7, 0.9, 0, 48),
		},
	}
	return append(rows, busyRows()...)
}

func manyClients() []string {
	return []string{bareManyClient, prefixClient, sdkV2SyncClient, sdkV2LoopClient}
}

// manyGoals compare DownloadPrefix with loops: wall and processor time with that of oss-go-sdk-v2 with one sync at its end, wall
// time with the bare one, which syncs nothing (0: no goal), and peak memory with the same.
func manyGoals(wall, cpu, bare, memory float64) []goal {
	perCPU := func(r *result) float64 { return r.CPU }
	goals := []goal{
		{what: "wall × " + sdkV2SyncClient, limit: wall, value: func(t *table) float64 { return t.ratio(prefixClient, sdkV2SyncClient) }},
		{what: "CPU × " + sdkV2SyncClient, limit: cpu, value: func(t *table) float64 {
			return t.line(prefixClient).median(perCPU) / t.line(sdkV2SyncClient).median(perCPU)
		}},
		{what: "MiB over the bare loop", limit: memory, value: func(t *table) float64 {
			peak := func(r *result) float64 { return float64(r.Peak) / mib }
			return t.line(prefixClient).median(peak) - t.line(bareManyClient).median(peak)
		}},
	}
	if bare > 0 {
		goals = append(goals, goal{what: "wall × the bare loop", limit: bare, value: func(t *table) float64 {
			return t.ratio(prefixClient, bareManyClient)
		}})
	}
	return goals
}

// partsGoals has none for the time: most of it is that of the SDK, which builds and signs each request.
func partsGoals() []goal {
	return []goal{
		{what: "KiB of checkpoint at most", limit: 64, value: func(t *table) float64 {
			return t.line(ossdlClient).median(func(r *result) float64 { return float64(r.Checkpoint) / kib })
		}},
	}
}

// cpuGoal compares ossdl with the bare loop, both writing into fresh files or both into a warm one.
func cpuGoal(limit float64) goal {
	return goal{what: "CPU per GiB × the bare loop", limit: limit, value: func(t *table) float64 {
		warm := t.write == "warm"
		return t.ratio(entry{ossdlClient, warm}.String(), entry{bareClient, warm}.String())
	}}
}

func metricOf(client string) func(*table) float64 {
	return func(t *table) float64 { return t.value(client) }
}

func requestsPerObject(t *table) float64 {
	return t.line(ossdlClient).median(func(r *result) float64 { return float64(r.Requests) / float64(t.s.objects) })
}

func sentOverSize(t *table) float64 {
	return t.line(ossdlClient).median(func(r *result) float64 { return float64(r.Sent) / float64(r.Size) })
}

func overBare(t *table) float64 { return t.value(ossdlClient) - t.value(bareClient) }

// metric is the number that a row is about.
type metric struct {
	name string
	of   func(s *scenario, r *result) float64 // NaN: the run has none
}

func cpuPerGiB() metric {
	return metric{"CPU s/GiB", func(_ *scenario, r *result) float64 { return r.CPU / float64(r.Size) * gib }}
}

func wall() metric {
	return metric{"wall s", func(_ *scenario, r *result) float64 { return r.Seconds }}
}

func firstByte() metric {
	return metric{"first byte ms", func(_ *scenario, r *result) float64 {
		if r.First == 0 {
			return math.NaN()
		}
		return r.First * 1000
	}}
}

func cpuPerKey() metric {
	return metric{"CPU µs a key", func(s *scenario, r *result) float64 { return r.CPU / float64(s.objects) * 1e6 }}
}

func wallPerObject() metric {
	return metric{"wall µs an object", func(s *scenario, r *result) float64 { return r.Seconds / float64(s.objects) * 1e6 }}
}

// cpuColumn is the processor time of each object.
func cpuColumn() column {
	return column{"CPU µs an object", func(t *table, l *line) string {
		return number(l.median(func(r *result) float64 { return r.CPU / float64(t.s.objects) * 1e6 }))
	}}
}

func timesIdeal() metric {
	return metric{"× ideal", func(s *scenario, r *result) float64 { return r.Seconds / s.ideal(r.Size) }}
}

func perKill() metric {
	return metric{"MiB per kill", func(_ *scenario, r *result) float64 {
		if r.Kills == 0 {
			return math.NaN()
		}
		return float64(r.Sent-r.Size) / mib / float64(r.Kills)
	}}
}

func peak() metric {
	return metric{"peak MiB", func(_ *scenario, r *result) float64 { return float64(r.Peak) / mib }}
}

func rate() metric {
	return metric{"GB/s", func(_ *scenario, r *result) float64 { return r.Rate / 1e9 }}
}
