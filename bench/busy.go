package main

import (
	"encoding/json"
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

// busyChild is a process that keeps one processor busy until in ends.
func busyChild(in io.Reader, out io.Writer) error {
	var over atomic.Bool
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, in)
		over.Store(true)
		ended <- err
	}()
	if err := json.NewEncoder(out).Encode(started); err != nil {
		return err
	}
	for !over.Load() { //nolint:revive // it is to use processor time, and nothing else
	}
	return <-ended
}

// startBusy starts n processes that each keep a processor busy. stop ends them.
func startBusy(n int) (stop func(), err error) {
	var all []*process
	stop = func() {
		for _, p := range all {
			p.kill()
		}
	}
	for range n {
		p, err := startChild("busy")
		if err != nil {
			stop()
			return nil, err
		}
		all = append(all, p)
		var ready string
		if err := p.receive(&ready); err != nil {
			stop()
			return nil, p.explain(err)
		}
	}
	return stop, nil
}

// busyProcesses run beside the rows about a busy machine.
const busyProcesses = 2

// busyRows are downloads over many connections on a machine that has something else to do.
func busyRows() (rows []*scenario) {
	for _, tls := range []bool{false, true} {
		for _, conns := range []int{64, 128, 256} {
			name, over := "busy", "HTTP"
			if tls {
				name, over = "busy-tls", "TLS"
			}
			rows = append(rows, &scenario{
				name:  fmt.Sprintf("%s-%d", name, conns),
				title: fmt.Sprintf("%d connections over %s beside %d busy processes", conns, over, busyProcesses),
				size:  gib, objects: 1, conns: conns, server: serverConfig{TLS: tls}, busy: busyProcesses, asked: true, shrink: 64, limit: 5 * time.Minute,
				clients: []string{bareClient, ossdlClient}, always: []string{bareClient},
				metric: wall(), goals: []goal{
					{what: "wall × the bare loop", limit: 1.08, value: func(t *table) float64 { return t.ratio(ossdlClient, bareClient) }},
					{what: "requests for each that the bare loop makes", limit: 1.1, value: func(t *table) float64 {
						requests := func(r *result) float64 { return float64(r.Requests) }
						return t.line(ossdlClient).median(requests) / t.line(bareClient).median(requests)
					}},
					{what: "body bytes sent / size", limit: 1.005, value: sentOverSize},
				},
			})
		}
	}
	return rows
}
