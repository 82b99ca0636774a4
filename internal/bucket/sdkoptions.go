package bucket

import (
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
)

// Extra is what a caller adds to each request.
type Extra struct {
	Headers map[string]string
	Params  map[string]any
}

// WithAgent returns e with a User-Agent for each request, unless the caller has set one.
func (e Extra) WithAgent(agent string) Extra {
	for name := range e.Headers {
		if http.CanonicalHeaderKey(name) == "User-Agent" {
			return e
		}
	}
	e.Headers = maps.Clone(e.Headers)
	if e.Headers == nil {
		e.Headers = map[string]string{}
	}
	e.Headers["User-Agent"] = strings.TrimSpace(agent)
	return e
}

// SDKOption is the value of one option of the SDK, as the SDK keeps it.
type SDKOption struct {
	kind  string // as the SDK names it: sdkHeader, sdkParam, or that of an argument of a function
	Value any
}

const (
	sdkHeader = "HTTPHeader"
	sdkParam  = "HTTPParameter"
)

// ReadOptions returns the SDK's options by name. The SDK can look up an option by name but does not list what was set. So
// the options are applied to a map of the type that they take.
func ReadOptions(opts []oss.Option) (map[string]SDKOption, error) {
	raw := reflect.MakeMap(reflect.TypeFor[oss.Option]().In(0))
	for i, o := range opts {
		if o == nil {
			return nil, fmt.Errorf("option %d is nil", i)
		}
		if err, _ := reflect.ValueOf(o).Call([]reflect.Value{raw})[0].Interface().(error); err != nil {
			return nil, fmt.Errorf("option %d: %w", i, err)
		}
	}
	all := map[string]SDKOption{}
	for it := raw.MapRange(); it.Next(); {
		v := it.Value()
		all[it.Key().String()] = SDKOption{v.FieldByName("Type").String(), v.FieldByName("Value").Interface()}
	}
	return all, nil
}

// ReadExtra returns the headers and parameters that the SDK's options set.
func ReadExtra(opts []oss.Option) (Extra, error) {
	all, err := ReadOptions(opts)
	if err != nil {
		return Extra{}, err
	}
	return NewExtra(all)
}

// NewExtra sorts the SDK's options into headers and parameters. An option that is neither, or that conflicts with what the
// library sets itself, is an error.
func NewExtra(all map[string]SDKOption) (Extra, error) {
	e := Extra{Headers: map[string]string{}, Params: map[string]any{}}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		o := all[name]
		if why, refused := refusedRequestOptions[strings.ToLower(name)]; refused {
			return e, fmt.Errorf("%s is refused: %s", sdkFunction(name, o), why)
		}
		text, ok := o.Value.(string)
		switch {
		case o.kind != sdkHeader && o.kind != sdkParam:
			return e, fmt.Errorf("%s is refused: it is neither a header nor a parameter", sdkFunction(name, o))
		case !ok:
			return e, fmt.Errorf("%s is refused: its value is a %T, only a string can be sent", name, o.Value)
		case o.kind == sdkHeader:
			e.Headers[name] = text
		default:
			e.Params[name] = text
		}
	}
	return e, nil
}

// sdkFunction returns the name that a caller knows an option by: the header or parameter that it sets, or the function of
// the SDK that makes it. The SDK's internal name says nothing to a caller.
func sdkFunction(name string, o SDKOption) string {
	if o.kind == sdkHeader || o.kind == sdkParam {
		return name
	}
	if function, ok := sdkFunctions[name]; ok {
		return function
	}
	return name
}

var sdkFunctions = map[string]string{
	"delete-objects-quiet": "oss.DeleteObjectsQuiet",
	"init-crc64":           "oss.InitCRC",
	"object-hash-func":     "oss.ObjectHashFunc",
	"redundancy-type":      "oss.RedundancyType",
	"storage-class":        "oss.StorageClass",
	"x-context-arg":        "oss.WithContext",
	"x-cp-config":          "oss.Checkpoint or oss.CheckpointDir",
	"x-progress-listener":  "oss.Progress",
	"x-response-body":      "oss.CallbackResult",
	"x-response-header":    "oss.GetResponseHeader",
	"x-routine-num":        "oss.Routines",
}

// refusedRequestOptions are the options, in lower case, that a caller may not set, each with the reason or what to use
// instead.
var refusedRequestOptions = map[string]string{
	"range":                      "use WithRange",
	"x-oss-range-behavior":       "the library sets it",
	"if-match":                   "use WithIfMatch",
	"if-none-match":              "conditions are set by the library",
	"if-modified-since":          "conditions are set by the library",
	"if-unmodified-since":        "conditions are set by the library",
	"if-range":                   "conditions are set by the library",
	"accept-encoding":            "objects are always requested as stored",
	"versionid":                  "use WithVersionID",
	"x-oss-process":              "processed output has no size, no ranges and no checksum",
	"x-context-arg":              "pass the context to the call",
	"x-progress-listener":        "use WithProgress",
	"x-response-header":          "see Result",
	"x-response-body":            "see Result",
	"x-routine-num":              "use WithConcurrency",
	"x-cp-config":                "use WithCheckpoint",
	"init-crc64":                 "the library computes it",
	"authorization":              "the SDK sets it when it signs",
	"date":                       "the SDK sets it when it signs",
	"x-oss-date":                 "the SDK sets it when it signs",
	"x-oss-security-token":       "return it from the credentials provider",
	"x-oss-content-sha256":       "the SDK sets it when it signs",
	"host":                       "set the endpoint of the client",
	"content-length":             "a download sends no body",
	"x-oss-multi-range-behavior": "one range per request",
}
