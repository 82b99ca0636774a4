package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/ossdl/ossdl"
)

// metric is a figure of a run.
type metric struct {
	name, help string
	values     []sample
}

// sample is the value of a metric, or of one status of it.
type sample struct {
	status string // "": the metric has none
	value  float64
}

// one is the only sample of a metric.
func one[N int | int64 | float64](n N) []sample { return []sample{{value: float64(n)}} }

func flag(yes bool) []sample {
	if yes {
		return one(1)
	}
	return one(0)
}

// metricsOf returns the figures of a run. What was downloaded and where to is in their labels, since the collector reads the files of
// several commands at once.
func (c command) metricsOf(o outcome) []*dto.MetricFamily {
	var bytes, downloaded, resumed int64
	var requests, retries, unverified int
	objects := map[string]int{}
	switch r, p, v := o.result, o.prefix, o.compared; {
	case p != nil:
		bytes, downloaded, resumed, requests, retries, unverified = p.Bytes, p.DownloadedBytes, p.ResumedBytes, p.Requests, p.Retries, p.Unverified
		objects = map[string]int{"done": p.Done, "skipped": p.Skipped, "failed": p.Failed, "deleted": p.Deleted}
	case v != nil:
		bytes, requests, retries, unverified = v.Bytes, v.Requests, v.Retries, v.Unverified
		objects = map[string]int{"same": v.Same, "missing": v.Missing, "differing": v.Differing, "extra": v.Extra, "failed": v.Failed}
	case r != nil:
		downloaded, resumed, requests, retries = r.DownloadedBytes, r.ResumedBytes, r.Requests, r.Retries
		if o.err == nil {
			bytes = r.Size
			objects[statusOf(r)] = 1
		}
		if o.err == nil && !r.Verified {
			unverified = 1
		}
	}
	if o.err != nil && !o.task.folder() {
		objects["failed"] = 1
	}
	return []*dto.MetricFamily{
		c.family(metric{"ossget_success", "Whether everything was done.", flag(o.err == nil)}),
		c.family(metric{"ossget_exit_code", "The exit code of the command.", one(o.exitCode())}),
		c.family(metric{"ossget_end_time_seconds", "When the command ended, in seconds since 1970.", one(float64(time.Now().UnixMilli()) / 1000)}),
		c.family(metric{"ossget_duration_seconds", "How long it took.", one(o.seconds)}),
		c.family(metric{"ossget_objects", "Objects, by what became of them.", byStatus(objects)}),
		c.family(metric{"ossget_unverified_objects", "Objects that came without a checksum to compare with.", one(unverified)}),
		c.family(metric{"ossget_bytes", "Bytes of the files.", one(bytes)}),
		c.family(metric{"ossget_downloaded_bytes", "Bytes that were read from the network.", one(downloaded)}),
		c.family(metric{"ossget_resumed_bytes", "Bytes that were kept from an earlier run.", one(resumed)}),
		c.family(metric{"ossget_requests", "Requests that were made.", one(requests)}),
		c.family(metric{"ossget_retries", "Requests that followed a failure.", one(retries)}),
	}
}

// statusOf returns what became of the only object, which did not fail.
func statusOf(r *ossdl.Result) string {
	if r.Skipped {
		return "skipped"
	}
	return "done"
}

// statuses are those of ossget_objects, in their order.
var statuses = []string{"done", "skipped", "failed", "deleted", "same", "missing", "differing", "extra"}

func byStatus(objects map[string]int) (values []sample) {
	for _, status := range statuses {
		if n, ok := objects[status]; ok {
			values = append(values, sample{status, float64(n)})
		}
	}
	return values
}

// family returns a metric in the form of Prometheus.
func (c command) family(m metric) *dto.MetricFamily {
	label := func(name, value string) *dto.LabelPair { return &dto.LabelPair{Name: &name, Value: &value} }
	f := &dto.MetricFamily{Name: &m.name, Help: &m.help, Type: dto.MetricType_GAUGE.Enum()}
	for _, s := range m.values {
		labels := []*dto.LabelPair{label("source", c.sourceName()), label("path", c.dest)}
		if s.status != "" {
			labels = append(labels, label("status", s.status))
		}
		f.Metric = append(f.Metric, &dto.Metric{Label: labels, Gauge: &dto.Gauge{Value: &s.value}})
	}
	return f
}

// sourceName returns SOURCE, without the query of a URL.
func (c command) sourceName() string {
	switch {
	case c.task == taskVerifyManifest:
		return c.manifest
	case c.task == taskSources:
		return c.sources.sourcesName()
	case c.url != "":
		return harmless(c.url)
	}
	return "oss://" + c.source.bucket + "/" + c.source.key
}

// metricsMode lets the collector read the file, which runs as another user.
const metricsMode = 0o644

// writeMetrics writes the file by a rename: the collector must not read half of it. It does not read the name of the temporary
// file, which does not end in .prom.
func writeMetrics(name string, families []*dto.MetricFamily) (err error) {
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			err = errors.Join(err, remove(f.Name()))
		}
	}()
	for _, family := range families {
		if len(family.Metric) == 0 {
			continue
		}
		if _, err := expfmt.MetricFamilyToText(f, family); err != nil {
			return err
		}
	}
	if err := f.Chmod(metricsMode); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

// remove removes a file that may be gone.
func remove(name string) error {
	if err := os.Remove(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
