package ossv2

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/aliyun/alibabacloud-oss-go-sdk-v2/oss"
	ossv1 "github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
)

// Downloader is for programs that use the Downloader of oss-go-sdk-v2; [NewDownloader] makes one. It is safe for concurrent use.
type Downloader struct {
	*ossdl.Downloader
	headers []ossv1.Option // of each request
	options []func(*oss.DownloaderOptions)
}

// NewDownloader makes a Downloader from the configuration of a client of oss-go-sdk-v2; see [New]. optFns are the defaults of
// [Downloader.DownloadFile]. They are called for each download, with a zero PartSize and ParallelNum.
func NewDownloader(cfg *oss.Config, optFns ...func(*oss.DownloaderOptions)) (*Downloader, error) {
	t, err := translate(cfg)
	if err != nil {
		return nil, err
	}
	if _, err := readOptions(optFns); err != nil {
		return nil, fmt.Errorf("ossv2: %w", err)
	}
	d, err := ossdl.New(t.client, t.options...)
	if err != nil {
		return nil, err
	}
	return &Downloader{d, t.headers, slices.Clone(optFns)}, nil
}

// DownloadFile downloads an object to a file. It has the signature of the method of oss.Downloader, and does what
// [ossdl.Downloader.Download] does. Written is the size of the file.
//
// # Options
//
// These fields mean what they mean to the SDK, except for the differences given here:
//
//   - PartSize: the most that one request asks for. If it is not above 0, part sizes adapt to the network.
//   - ParallelNum: the most requests in flight, up to [ossdl.MaxConcurrency]. If it is not above 0, the number adapts to the network.
//   - EnableCheckpoint: without it nothing is kept after an error. CheckpointDir is the folder for checkpoints, and is created if it is
//     missing; the SDK uses its parent unless it ends in a slash. If it is empty, the checkpoint is in the folder
//     filePath + ".cp", where the SDK uses the folder for temporary files. Checkpoints of the SDK are not used.
//   - VerifyData: what is resumed is always verified.
//
// UseTempFile false, WriteBufferSize and ClientOptions are refused: the file always appears at once, and the others have no
// counterpart.
//
// # Request
//
//   - Bucket, Key, VersionId, IfMatch
//   - Range: bytes=a-b or bytes=a-. A range that is not within the object is [ossdl.ErrRange]; the SDK downloads the part that is.
//     bytes=-n is refused: the SDK takes it for the first n+1 bytes.
//   - RangeBehavior: only standard, which is always asked for.
//   - ProgressFn: is never called concurrently, and at most ten times a second. total is the number of bytes asked for.
//   - TrafficLimit, RequestPayer, the fields that begin with Response, Headers, Parameters: are sent with each request. A header or
//     parameter that the library sets itself is refused.
//
// IfNoneMatch, IfModifiedSince, IfUnmodifiedSince, Process and Payload are refused.
//
// # Errors
//
// The errors are those of [ossdl.Downloader.Download]. If the service answered, [errors.As] finds an *oss.ServiceError of
// oss-go-sdk-v2 as well.
func (d *Downloader) DownloadFile(ctx context.Context, request *oss.GetObjectRequest, filePath string, optFns ...func(*oss.DownloaderOptions)) (*oss.DownloadResult, error) {
	opts, err := readOptions(slices.Concat(d.options, optFns))
	if err == nil {
		var more []ossdl.Option
		more, err = d.readRequest(request)
		opts = append(opts, more...)
	}
	if err != nil {
		return nil, fmt.Errorf("ossv2: DownloadFile: %w", err)
	}
	res, err := d.Download(ctx, *request.Bucket, *request.Key, filePath, opts...)
	if err != nil {
		return nil, withServiceError(err)
	}
	return &oss.DownloadResult{Written: res.Size}, nil
}

// readOptions turns the options of the SDK into those of ossdl.
func readOptions(optFns []func(*oss.DownloaderOptions)) (opts []ossdl.Option, err error) {
	o := oss.DownloaderOptions{UseTempFile: true} // the SDK replaces a zero PartSize or ParallelNum by its default
	for _, fn := range optFns {
		fn(&o)
	}
	switch {
	case !o.UseTempFile:
		return nil, errors.New("DownloaderOptions.UseTempFile false is refused: the file always appears at once, when it is complete")
	case o.WriteBufferSize > 0:
		return nil, errors.New("DownloaderOptions.WriteBufferSize is refused: bytes are written as they arrive; omit it")
	case len(o.ClientOptions) > 0:
		return nil, errors.New("DownloaderOptions.ClientOptions are refused: set them in the configuration, or use ossdl.WithRequestOptions")
	case o.PartSize > ossdl.MaxPartSize:
		return nil, fmt.Errorf("DownloaderOptions.PartSize %d is above %d bytes", o.PartSize, int64(ossdl.MaxPartSize))
	case o.ParallelNum > ossdl.MaxConcurrency:
		return nil, fmt.Errorf("DownloaderOptions.ParallelNum %d is above %d", o.ParallelNum, ossdl.MaxConcurrency)
	}
	if o.PartSize > 0 {
		opts = append(opts, ossdl.WithPartSize(o.PartSize))
	}
	if o.ParallelNum > 0 {
		opts = append(opts, ossdl.WithConcurrency(o.ParallelNum))
	}
	switch {
	case !o.EnableCheckpoint:
		opts = append(opts, ossdl.WithoutCheckpoint())
	case o.CheckpointDir != "":
		opts = append(opts, ossdl.WithCheckpointDir(o.CheckpointDir))
	}
	return opts, nil
}

// readRequest turns a request of the SDK into options of ossdl, apart from bucket and key.
func (d *Downloader) readRequest(r *oss.GetObjectRequest) (opts []ossdl.Option, err error) {
	switch {
	case r == nil:
		return nil, errors.New("nil request")
	case r.Bucket == nil:
		return nil, errors.New("GetObjectRequest.Bucket is nil")
	case r.Key == nil:
		return nil, errors.New("GetObjectRequest.Key is nil")
	case r.RangeBehavior != nil && *r.RangeBehavior != "standard":
		return nil, fmt.Errorf("GetObjectRequest.RangeBehavior %q: only standard is allowed", *r.RangeBehavior)
	case r.Payload != nil:
		return nil, errors.New("GetObjectRequest.Payload is refused: a download sends no body")
	}
	for _, field := range []struct {
		name  string
		value *string
	}{
		{"IfNoneMatch", r.IfNoneMatch},
		{"IfModifiedSince", r.IfModifiedSince},
		{"IfUnmodifiedSince", r.IfUnmodifiedSince},
		{"Process", r.Process},
	} {
		if field.value != nil {
			return nil, fmt.Errorf("GetObjectRequest.%s is refused: every request is for the same object, as it is stored", field.name)
		}
	}
	if r.Range != nil {
		offset, length, err := parseRange(*r.Range)
		if err != nil {
			return nil, err
		}
		opts = append(opts, ossdl.WithRange(offset, length))
	}
	if r.IfMatch != nil {
		opts = append(opts, ossdl.WithIfMatch(*r.IfMatch))
	}
	if r.VersionId != nil {
		opts = append(opts, ossdl.WithVersionID(*r.VersionId))
	}
	if r.ProgressFn != nil {
		opts = append(opts, ossdl.WithProgress(increments(r.ProgressFn)))
	}
	if sent := d.sentWith(r); len(sent) > 0 {
		opts = append(opts, ossdl.WithRequestOptions(sent...))
	}
	return opts, nil
}

// parseRange reads the Range of a request. A length of -1 means all to the end.
func parseRange(s string) (offset, length int64, err error) {
	bad := fmt.Errorf("GetObjectRequest.Range %q: bytes=a-b with a up to b, and bytes=a-, are allowed", s)
	set, ok := strings.CutPrefix(s, "bytes=")
	first, last, dash := strings.Cut(set, "-")
	if !ok || !dash || strings.Trim(first+last, "0123456789") != "" {
		return 0, 0, bad
	}
	if offset, err = strconv.ParseInt(first, 10, 64); err != nil {
		return 0, 0, bad
	}
	if last == "" {
		return offset, -1, nil
	}
	end, err := strconv.ParseInt(last, 10, 64)
	if err != nil || end < offset || end-offset+1 < 0 {
		return 0, 0, bad
	}
	return offset, end - offset + 1, nil
}

// increments returns a function for [ossdl.WithProgress] that tells fn how many bytes have come since its last call.
func increments(fn oss.ProgressFunc) func(ossdl.Progress) {
	var done int64
	return func(p ossdl.Progress) {
		if n := p.Done - done; n > 0 {
			done = p.Done
			fn(n, p.Done, p.Total)
		}
	}
}

// sentWith returns what a request of the SDK adds to each request, after the default headers.
func (d *Downloader) sentWith(r *oss.GetObjectRequest) (opts []ossv1.Option) {
	header := func(name, value string) {
		opts = append(opts, ossv1.SetHeader(name, value))
	}
	for _, name := range slices.Sorted(maps.Keys(r.Headers)) {
		header(name, r.Headers[name])
	}
	if r.TrafficLimit != 0 {
		header(ossv1.HTTPHeaderOssTrafficLimit, strconv.FormatInt(r.TrafficLimit, 10))
	}
	if r.RequestPayer != nil {
		header(ossv1.HTTPHeaderOssRequester, *r.RequestPayer)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Parameters)) {
		opts = append(opts, ossv1.AddParam(name, r.Parameters[name]))
	}
	for _, field := range []struct {
		name  string
		value *string
	}{
		{"response-cache-control", r.ResponseCacheControl},
		{"response-content-disposition", r.ResponseContentDisposition},
		{"response-content-encoding", r.ResponseContentEncoding},
		{"response-content-language", r.ResponseContentLanguage},
		{"response-content-type", r.ResponseContentType},
		{"response-expires", r.ResponseExpires},
	} {
		if field.value != nil {
			opts = append(opts, ossv1.AddParam(field.name, *field.value))
		}
	}
	if len(opts) == 0 {
		return nil
	}
	return append(slices.Clone(d.headers), opts...)
}

// serviceError is an error that the service had a part in.
type serviceError struct {
	error
	said *oss.ServiceError
}

func (e *serviceError) Unwrap() []error { return []error{e.error, e.said} }

// withServiceError makes the service's answer in an error known to programs that use oss-go-sdk-v2.
func withServiceError(err error) error {
	var said ossv1.ServiceError
	if !errors.As(err, &said) {
		return err
	}
	return &serviceError{err, &oss.ServiceError{
		StatusCode: said.StatusCode, Code: said.Code, Message: said.Message, RequestID: said.RequestID, EC: said.Ec,
	}}
}
