package main

import (
	"context"
	stdcrc64 "hash/crc64"
	"math/rand/v2"
	"time"

	"github.com/ossdl/ossdl/internal/crc64"
)

// The lines of the scenario crc.
const (
	crcOurs = "internal/crc64"
	crcStd  = "hash/crc64"
)

// runCRC measures both ways to compute a CRC-64 over the same block, and whether they agree.
func runCRC(ctx context.Context, s *scenario, n int) ([]result, error) {
	block := make([]byte, s.size)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range block {
		block[i] = byte(r.Uint32())
	}
	table := stdcrc64.MakeTable(stdcrc64.ECMA)
	standard := func(crc uint64, p []byte) uint64 { return stdcrc64.Update(crc, table, p) }
	agree := standard(0, block) == crc64.Update(0, block)
	var all []result
	for round := range n {
		for _, c := range []struct {
			name   string
			update func(uint64, []byte) uint64
		}{{crcOurs, crc64.Update}, {crcStd, standard}} {
			if err := ctx.Err(); err != nil {
				return all, err
			}
			res := timeCRC(block, c.update)
			res.Scenario, res.Client, res.Round = s.name, c.name, round
			if !agree {
				res.Wrong = "it is not that of hash/crc64"
			}
			all = append(all, res)
		}
	}
	return all, nil
}

// timeCRC runs update over the block for a fifth of a second. The rate is by processor time if the system reports it, so
// that other work on the machine does not count.
func timeCRC(block []byte, update func(uint64, []byte) uint64) (r result) {
	cpu, start := cpuSeconds(), time.Now()
	var crc uint64
	for time.Since(start) < 200*time.Millisecond {
		for range 8 {
			crc = update(crc, block)
			r.Size += int64(len(block))
		}
	}
	r.Seconds, r.CPU = time.Since(start).Seconds(), cpuSeconds()-cpu
	r.Rate = float64(r.Size) / r.Seconds
	if r.CPU > 0 {
		r.Rate = float64(r.Size) / r.CPU
	}
	return r
}
