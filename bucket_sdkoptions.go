package ossdl

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
)

// sdkOption is one option of the SDK as the SDK keeps it.
type sdkOption struct {
	kind  string // one of the SDK's: sdkHeader, sdkParam, or an argument of a function
	value any
}

const (
	sdkHeader = "HTTPHeader"
	sdkParam  = "HTTPParameter"
)

// readSDKOptions tells the SDK's options by name. The SDK gives no list of what an option sets, only a look-up by name, so
// the options are applied to a map of their own argument type.
func readSDKOptions(opts []oss.Option) (map[string]sdkOption, error) {
	raw := reflect.MakeMap(reflect.TypeFor[oss.Option]().In(0))
	for i, o := range opts {
		if o == nil {
			return nil, fmt.Errorf("option %d is nil", i)
		}
		if err, _ := reflect.ValueOf(o).Call([]reflect.Value{raw})[0].Interface().(error); err != nil {
			return nil, fmt.Errorf("option %d: %w", i, err)
		}
	}
	all := map[string]sdkOption{}
	for it := raw.MapRange(); it.Next(); {
		v := it.Value()
		all[it.Key().String()] = sdkOption{v.FieldByName("Type").String(), v.FieldByName("Value").Interface()}
	}
	return all, nil
}

func readRequestOptions(opts []oss.Option) (requestOptions, error) {
	all, err := readSDKOptions(opts)
	if err != nil {
		return requestOptions{}, err
	}
	return newRequestOptions(all)
}

// newRequestOptions sorts the SDK's options into headers and parameters.
func newRequestOptions(all map[string]sdkOption) (requestOptions, error) {
	r := requestOptions{headers: map[string]string{}, params: map[string]any{}}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		o := all[name]
		if why, refused := refusedRequestOptions[strings.ToLower(name)]; refused {
			return r, fmt.Errorf("%s is refused: %s", sdkFunction(name, o), why)
		}
		text, ok := o.value.(string)
		switch {
		case o.kind != sdkHeader && o.kind != sdkParam:
			return r, fmt.Errorf("%s is refused: it is neither a header nor a parameter", sdkFunction(name, o))
		case !ok:
			return r, fmt.Errorf("%s is refused: its value is a %T, only a string can be sent", name, o.value)
		case o.kind == sdkHeader:
			r.headers[name] = text
		default:
			r.params[name] = text
		}
	}
	return r, nil
}

// sdkFunction is what a caller knows an option by: the name of the header or parameter that it sets, or the function of the
// SDK that makes it, where the SDK's own name is of no use to anybody else.
func sdkFunction(name string, o sdkOption) string {
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

// refusedRequestOptions are the SDK's options that the engine decides itself, in lower case, with what to use instead.
var refusedRequestOptions = map[string]string{
	"range":                      "use WithRange",
	"x-oss-range-behavior":       "the engine sets it",
	"if-match":                   "use WithIfMatch",
	"if-none-match":              "conditions are the engine's",
	"if-modified-since":          "conditions are the engine's",
	"if-unmodified-since":        "conditions are the engine's",
	"if-range":                   "conditions are the engine's",
	"accept-encoding":            "stored bytes are asked for, always",
	"versionid":                  "use WithVersionID",
	"x-oss-process":              "processed output has no size, no ranges and no checksum",
	"x-context-arg":              "give the context to the call",
	"x-progress-listener":        "use WithProgress",
	"x-response-header":          "see Result",
	"x-response-body":            "see Result",
	"x-routine-num":              "use WithConcurrency",
	"x-cp-config":                "use WithCheckpoint",
	"init-crc64":                 "the engine keeps it",
	"authorization":              "the SDK signs",
	"date":                       "the SDK signs",
	"x-oss-date":                 "the SDK signs",
	"x-oss-security-token":       "give it to the credentials provider",
	"x-oss-content-sha256":       "the SDK signs",
	"host":                       "give it to the client as its endpoint",
	"content-length":             "a download sends no body",
	"x-oss-multi-range-behavior": "one range per request",
}
