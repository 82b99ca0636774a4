package ossv2

import (
	"fmt"
	"log"
	"log/slog"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"

	"github.com/aliyun/alibabacloud-oss-go-sdk-v2/oss"
	"github.com/aliyun/alibabacloud-oss-go-sdk-v2/oss/retry"
	ossv1 "github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
)

// stallOf returns the option for ReadWriteTimeout, which ends a connection that brings nothing for so long.
func stallOf(cfg *oss.Config) ([]ossdl.Option, error) {
	if cfg.ReadWriteTimeout == nil {
		return nil, nil
	}
	if d := *cfg.ReadWriteTimeout; d < ossdl.MinStallTimeout {
		return nil, fmt.Errorf("Config.ReadWriteTimeout %v is below %v", d, ossdl.MinStallTimeout)
	}
	return []ossdl.Option{ossdl.WithStallTimeout(*cfg.ReadWriteTimeout)}, nil
}

// connectionsOf returns the option for MaxConnections. Requests beyond it would wait for a connection as if the server were slow.
func connectionsOf(cfg *oss.Config) ([]ossdl.Option, error) {
	n := oss.ToInt(cfg.MaxConnections)
	if n < 1 || n >= ossdl.AdaptiveConcurrency {
		return nil, nil
	}
	return []ossdl.Option{ossdl.WithConcurrency(n)}, nil
}

// kilobyte is the unit of DownloadBandwidthlimit, in bytes.
const kilobyte = 1024

// rateOf returns the option for DownloadBandwidthlimit.
func rateOf(cfg *oss.Config) ([]ossdl.Option, error) {
	if cfg.DownloadBandwidthlimit == nil {
		return nil, nil
	}
	n := *cfg.DownloadBandwidthlimit
	if n < 1 || n > math.MaxInt64/kilobyte {
		return nil, fmt.Errorf("Config.DownloadBandwidthlimit %d: 1 kB/s or more is allowed", n)
	}
	return []ossdl.Option{ossdl.WithRateLimit(n * kilobyte)}, nil
}

// retriesOf returns the option for RetryMaxAttempts and Retryer.
func retriesOf(cfg *oss.Config) ([]ossdl.Option, error) {
	var policy ossdl.RetryPolicy
	never := false
	switch r := cfg.Retryer.(type) {
	case nil:
	case retry.NopRetryer, *retry.NopRetryer:
		never = true
	case *retry.Standard:
		if r == nil || !isPlain(r) {
			return nil, fmt.Errorf("Config.Retryer has its own delays or errors, which cannot be honored; use ossdl.WithRetry")
		}
		policy = ossdl.RetryPolicy{Attempts: r.MaxAttempts(), MinDelay: retry.DefaultBaseDelay, MaxDelay: retry.DefaultMaxBackoff}
	default:
		return nil, fmt.Errorf("Config.Retryer is %T, whose decisions cannot be honored; use ossdl.WithRetry", r)
	}
	if n := cfg.RetryMaxAttempts; n != nil {
		if *n < 1 {
			return nil, fmt.Errorf("Config.RetryMaxAttempts %d is below 1", *n)
		}
		policy.Attempts = *n
	}
	if never {
		policy.Attempts = 1
	}
	if policy == (ossdl.RetryPolicy{}) {
		return nil, nil
	}
	return []ossdl.Option{ossdl.WithRetry(policy)}, nil
}

// isPlain reports whether a retryer is a standard one of which nothing but the number of attempts was changed.
func isPlain(r *retry.Standard) bool {
	return reflect.DeepEqual(r, retry.NewStandard(func(o *retry.RetryOptions) { o.MaxAttempts = r.MaxAttempts() }))
}

// defaultHeaders returns DefaultRequestHeaders as options. As in oss.NewClient, an empty name or value is ignored, and so is a
// User-Agent, which the SDK sets itself.
func defaultHeaders(cfg *oss.Config) (opts []ossv1.Option) {
	for _, name := range slices.Sorted(maps.Keys(cfg.DefaultRequestHeaders)) {
		value := cfg.DefaultRequestHeaders[name]
		if name != "" && value != "" && !strings.EqualFold(name, "User-Agent") {
			opts = append(opts, ossv1.SetHeader(name, value))
		}
	}
	return opts
}

// loggerOf returns the option for LogLevel and LogPrinter.
func loggerOf(cfg *oss.Config) ([]ossdl.Option, error) {
	var level slog.Level
	switch n := oss.ToInt(cfg.LogLevel); {
	case n <= oss.LogOff:
		return nil, nil
	case n == oss.LogError:
		level = slog.LevelError
	case n == oss.LogWarn:
		level = slog.LevelWarn
	case n == oss.LogInfo:
		level = slog.LevelInfo
	default:
		level = slog.LevelDebug
	}
	printer := cfg.LogPrinter
	if printer == nil {
		printer = oss.LogPrinterFunc(log.Print)
	}
	return []ossdl.Option{ossdl.WithLogger(slog.New(slog.NewTextHandler(lines{printer}, &slog.HandlerOptions{
		Level: level, ReplaceAttr: withoutTime,
	})))}, nil
}

// withoutTime drops the time of a record: the printer adds its own, as package log does.
func withoutTime(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}

// lines is a printer as a writer, which gets one line at a time.
type lines struct{ printer oss.LogPrinter }

func (l lines) Write(b []byte) (int, error) {
	l.printer.Print(strings.TrimSuffix(string(b), "\n"))
	return len(b), nil
}
