package ossdl

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl/internal/bucket"
	"github.com/ossdl/ossdl/internal/localfile"
	"github.com/ossdl/ossdl/internal/object"
)

// DownloadFile is [Downloader.Download] with the signature and the options of the SDK's Bucket.DownloadFile, for programs that
// move over: bucket.DownloadFile(key, …) becomes ossdl.DownloadFile(bucket, key, …). The bucket's client makes the requests.
// partSize limits what one request asks for: [MinPartSize] to [MaxPartSize] bytes.
//
// # Options
//
// These options mean what they mean to the SDK, except for the differences given here:
//
//   - oss.Routines: the most requests in flight; below 1 it is 1, above 100 it is 100. Without it the number adapts to the
//     network.
//   - oss.Checkpoint, oss.CheckpointDir: without them, or with false, there is no checkpoint, and a failed call leaves nothing.
//     An empty name, and path + ".cp", mean the folder path + ".cp"; the SDK keeps no checkpoint for an empty name. A folder
//     that does not exist is created. A checkpoint that the SDK wrote is neither used nor replaced: at path + ".cp" the
//     download starts over beside it, at another name it is an error.
//   - oss.Range, oss.NormalizedRange: one range, as a-b, a- or -n. A range outside the object is [ErrRange]; the SDK downloads
//     the whole object instead. If n is more than the object's size, the whole object is downloaded. For -n the object must
//     have a strong ETag, and one more request is made, to learn the size.
//   - oss.VersionId, oss.IfMatch, oss.WithContext.
//   - oss.Progress: the listener receives started, then data, then completed or failed, never concurrently. Completed comes
//     only once the file is in place. If the call fails before the size is known, there are no events. Started counts what an
//     earlier call left, as far as that is verified by then; RwBytes add up to the rest.
//   - oss.GetResponseHeader: the headers are those of [Result].Header. If no answer was accepted, they are unchanged.
//   - Headers and parameters, including those of oss.SetHeader and oss.AddParam: they are sent with each request.
//
// A nil option is ignored. Any other option is an error that names it, before any request: other conditions, processing, an
// Accept-Encoding other than identity, several ranges, and options that are not for downloads. A nil bucket is an error, too.
//
// # Differences
//
// The file is always verified, with oss.EnableCRC or without. The data is in the folder path + ".cp" until it is complete;
// path is not touched before. Failed requests are retried. Transport and time-outs are those of the bucket's client; see [HTTPClient].
// Options of the client that the SDK ignores if oss.HTTPClient is given, which [New] refuses, stay ignored.
//
// The errors are those of [Downloader.Download].
func DownloadFile(bucket *oss.Bucket, key, path string, partSize int64, options ...oss.Option) error {
	if bucket == nil {
		return errors.New("ossdl: DownloadFile: nil bucket")
	}
	ctx, c, err := readCompat(partSize, options)
	if err == nil {
		err = c.prepare(ctx, bucket, key)
	}
	if err != nil {
		return nameError("download", bucket.BucketName, key, err)
	}
	return c.download(ctx, path)
}

// compat is one call of DownloadFile.
type compat struct {
	opts   []Option
	suffix int64 // bytes asked for, counted from the end of the object; 0: the range is not given that way
	events *events
	header *http.Header // where the caller wants the headers; nil: not at all

	d   *Downloader
	src source
	cfg settings
}

// readCompat turns the SDK's options into those of this package. Those that are not for downloads are treated like those of
// [WithRequestOptions], which refuses by name what it cannot send.
func readCompat(partSize int64, options []oss.Option) (context.Context, *compat, error) {
	given := slices.DeleteFunc(slices.Clone(options), func(o oss.Option) bool { return o == nil })
	all, err := bucket.ReadOptions(given)
	if err != nil {
		return nil, nil, err
	}
	ctx := context.Background()
	if given, ok := all[sdkContext].Value.(context.Context); ok {
		ctx = given
		delete(all, sdkContext)
	}
	c := &compat{opts: []Option{WithPartSize(partSize), WithoutCheckpoint()}}
	for name, o := range all {
		known, err := c.take(name, o.Value)
		if err != nil {
			return nil, nil, err
		}
		if known {
			delete(all, name)
		}
	}
	request, err := bucket.NewExtra(all)
	if err != nil {
		return nil, nil, err
	}
	c.opts = append(c.opts, Option{"DownloadFile", inDownload, func(s *settings) error { s.request = request; return nil }})
	return ctx, c, nil
}

// sdkContext is the SDK's name for the option oss.WithContext.
const sdkContext = "x-context-arg"

// take handles an option that is more than a header or parameter to send.
func (c *compat) take(name string, value any) (known bool, err error) {
	text, isText := value.(string)
	switch strings.ToLower(name) {
	case "x-routine-num":
		n, ok := value.(int)
		c.opts = append(c.opts, WithConcurrency(min(max(n, 1), 100)))
		return ok, nil
	case "x-cp-config":
		o, ok := checkpointOption(value)
		c.opts = append(c.opts, o...)
		return ok, nil
	case "x-progress-listener":
		listener, ok := value.(oss.ProgressListener)
		c.events = &events{listener: listener}
		c.opts = append(c.opts, WithProgress(c.events.update))
		return ok, nil
	case "x-response-header":
		var ok bool
		c.header, ok = value.(*http.Header)
		return ok, nil
	case "range":
		return isText, c.takeRange(text)
	case "if-match":
		c.opts = append(c.opts, WithIfMatch(text))
		return isText, nil
	case "versionid":
		c.opts = append(c.opts, WithVersionID(text))
		return isText, nil
	case "accept-encoding":
		return strings.EqualFold(text, "identity"), nil
	case "x-oss-range-behavior":
		return text == "standard", nil // the engine sets the same
	}
	return false, nil
}

// checkpointOption reads the SDK's struct for Checkpoint and CheckpointDir, whose type is not exported.
func checkpointOption(value any) (opts []Option, ok bool) {
	v := reflect.Indirect(reflect.ValueOf(value))
	if v.Kind() != reflect.Struct {
		return nil, false
	}
	enabled, file, dir := v.FieldByName("IsEnable"), v.FieldByName("FilePath"), v.FieldByName("DirPath")
	switch {
	case enabled.Kind() != reflect.Bool || file.Kind() != reflect.String || dir.Kind() != reflect.String:
		return nil, false
	case !enabled.Bool():
		return nil, true
	case file.String() != "":
		return []Option{WithCheckpoint(file.String())}, true
	case dir.String() != "":
		return []Option{WithCheckpointDir(dir.String())}, true
	}
	return []Option{{"DownloadFile", inDownload, func(s *settings) error { s.checkpoint = checkpointPlace{kind: placeBeside}; return nil }}}, true
}

// takeRange reads a Range header.
func (c *compat) takeRange(v string) error {
	bad := fmt.Errorf("header Range %q: allowed are bytes=a-b with a up to b, bytes=a-, and bytes=-n with n of 1 or more", v)
	set, ok := strings.CutPrefix(v, "bytes=")
	first, last, dash := strings.Cut(set, "-")
	if !ok || !dash || strings.Trim(first+last, "0123456789") != "" {
		return bad
	}
	a, aErr := strconv.ParseInt(first, 10, 64)
	b, bErr := strconv.ParseInt(last, 10, 64)
	switch {
	case first == "" && bErr == nil && b > 0:
		c.suffix = b
	case aErr == nil && last == "":
		c.opts = append(c.opts, WithRange(a, -1))
	case aErr == nil && bErr == nil && a <= b && b-a+1 > 0:
		c.opts = append(c.opts, WithRange(a, b-a+1))
	default:
		return bad
	}
	return nil
}

// prepare makes the Downloader and the source. It returns the errors that do not depend on what the bucket contains.
func (c *compat) prepare(ctx context.Context, bucket *oss.Bucket, key string) error {
	var err error
	if c.d, err = newForClient(&bucket.Client, nil); err != nil {
		return err
	}
	if c.cfg, err = c.d.settings(inDownload, c.opts); err != nil {
		return err
	}
	c.src, err = c.d.bucketSource(ctx, bucket.BucketName, key, &c.cfg)
	return err
}

// download downloads the object to a file, and sends the events of that.
func (c *compat) download(ctx context.Context, path string) error {
	main := c.d.newCall(c.src, c.cfg)
	if c.suffix > 0 {
		f, err := c.findSuffix(ctx, path)
		if err != nil {
			return err
		}
		if f.Strong() {
			main.ifMatch = f.ETag // the range is of this object
		}
		if c.suffix < f.Size {
			main.asked = &rangeAsked{f.Size - c.suffix, c.suffix}
		}
	}
	res, err := main.downloadToFile(ctx, path)
	c.giveHeader(res)
	if c.events != nil {
		c.events.end(res, err)
	}
	return err
}

// findSuffix downloads the first byte of the object to learn its size and ETag.
func (c *compat) findSuffix(ctx context.Context, path string) (object.Facts, error) {
	cfg := c.cfg
	cfg.progress = nil
	probe := c.d.newCall(c.src, cfg)
	probe.asked = &rangeAsked{0, 1}
	if _, err := localfile.Check(probe.fileConfig(path)); err != nil {
		_, err = probe.result(ctx, path, err)
		return object.Facts{}, err
	}
	res, err := probe.downloadToWriter(ctx, &writerSink{w: discardAt{}, panics: probe.panics})
	c.giveHeader(res)
	if err != nil {
		return object.Facts{}, err
	}
	f, _ := probe.engine.Facts()
	if c.suffix < f.Size && !f.Strong() {
		_, err := probe.result(ctx, path, fmt.Errorf("header Range \"bytes=-%d\": without a strong ETag the end of an object may be another one's by the time it is fetched; give the range as a-b", c.suffix))
		return object.Facts{}, err
	}
	return f, nil
}

// discardAt takes the byte that was fetched for its headers.
type discardAt struct{}

func (discardAt) WriteAt(b []byte, _ int64) (int, error) { return len(b), nil }

// giveHeader sets the caller's headers to those of a result, if there are any.
func (c *compat) giveHeader(res *Result) {
	if c.header != nil && res != nil && res.Header != nil {
		*c.header = res.Header
	}
}

// events turns progress reports into events for a listener of the SDK.
type events struct {
	listener    oss.ProgressListener
	started     bool
	done, total int64
}

// update sends the events that a progress report stands for.
func (e *events) update(p Progress) {
	if p.Total == 0 {
		return
	}
	e.start(min(p.Resumed, p.Done), p.Total)
	e.data(p.Done)
}

// end sends the event of the outcome, after the last update.
func (e *events) end(res *Result, err error) {
	switch {
	case err == nil:
		e.start(res.ResumedBytes, res.Size)
		e.data(res.Size)
		e.send(oss.TransferCompletedEvent, 0)
	case e.started:
		e.send(oss.TransferFailedEvent, 0)
	}
}

// start sends that done of total bytes are there, unless it was sent before.
func (e *events) start(done, total int64) {
	if e.started {
		return
	}
	e.started, e.done, e.total = true, done, total
	e.send(oss.TransferStartedEvent, 0)
}

// data sends how many bytes came since the last event, if any.
func (e *events) data(done int64) {
	if n := done - e.done; n > 0 {
		e.done = done
		e.send(oss.TransferDataEvent, n)
	}
}

// send calls the listener.
func (e *events) send(kind oss.ProgressEventType, n int64) {
	e.listener.ProgressChanged(&oss.ProgressEvent{ConsumedBytes: e.done, TotalBytes: e.total, RwBytes: n, EventType: kind})
}
