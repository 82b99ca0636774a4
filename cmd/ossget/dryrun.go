package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/cmd/ossget/internal/bar"
)

// plan prints what a dry run finds out, a line for each object and each file.
type plan struct {
	out  *sink
	buf  *bufio.Writer
	json bool
	stop context.CancelCauseFunc // ends the dry run if nobody reads it
}

func newPlan(stdout io.Writer, json bool, stop context.CancelCauseFunc) *plan {
	p := &plan{out: &sink{w: stdout}, json: json, stop: stop}
	p.buf = bufio.NewWriter(p.out)
	return p
}

// add prints the line of one object. Those that fail are also printed at the end, so they have a line only in JSON.
func (p *plan) add(r ossdl.ObjectResult) {
	line := planLine(r)
	if p.json {
		line = oneJSON(r)
	}
	if _, err := p.buf.WriteString(line); err != nil {
		p.stop(p.out.explain(nil))
	}
}

// end prints what is left. It returns the error to report for a dry run that ended with err: that of standard output, if there
// is one.
func (p *plan) end(err error) error {
	p.buf.Flush() // its error is in the sink
	return p.out.explain(err)
}

// planLine describes what would become of one object.
func planLine(r ossdl.ObjectResult) string {
	path := bar.Printable(r.Path)
	switch {
	case r.Status == ossdl.ObjectWouldDownload && strings.HasSuffix(r.Name, "/"):
		return fmt.Sprintf("would make folder %s\n", path)
	case r.Status == ossdl.ObjectWouldDownload:
		return fmt.Sprintf("would download %s (%s)\n", path, bar.Bytes(r.Size))
	case r.Status == ossdl.ObjectWouldDelete:
		return fmt.Sprintf("would delete %s\n", path)
	case r.Status == ossdl.ObjectSkipped:
		return fmt.Sprintf("would skip %s\n", path)
	}
	return ""
}
